"""Files of any name: every command works, or refuses in one sentence that names the file."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.fuzz.mutate import outcome

from frisket.config.tree import Config
from frisket.data.format_base import FORMATS, Columns
from frisket.media.files import find
from frisket.media.paths import BadName, collecting
from frisket.recipes.inspect import inspect
from frisket.recipes.pack import PackOptions, pack

PIECES = (
    *(b"a", b"B", b" ", b"\n", b"\t", b"'", b'"', b"$(x)", b"%s", b"{0}", b"\\", b"-", b"#0", b"."),
    *(
        b"<script>",
        b"&amp;",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xc3\xa9",
        b"e\xcc\x81",
        b"\xf0\x9f\x98\x80",
    ),
    *(
        b"x" * 120,
        b".mask",
        b"-masklabel",
        b"_0",
        b"\x01",
        b"\x7f",
        b"\xe2\x80\xae",
        b"9" * 30,
        b"/",
    ),
)


def lay(folder: Path, rng: random.Random) -> int:
    """A set of one plain clip, and of some whose names are drawn; how many are drawn."""
    rng_pixels = np.random.default_rng(rng.randrange(2**32))

    def save(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng_pixels.integers(0, 255, (16, 16, 3), np.uint8)
        with path.open("wb") as stream:
            Image.fromarray(pixels).save(stream, "PNG")

    save(folder / "clips/plain.png")
    save(folder / "masks/plain.png")
    drawn = 0
    for _ in range(rng.randint(1, 3)):
        name = b"".join(rng.choices(PIECES, k=rng.randint(1, 4))).strip(b"/")
        parts = name.split(b"/")
        if not all(parts) or any(part in (b".", b"..") or len(part) > 250 for part in parts):
            continue
        save(folder / "clips" / os.fsdecode(name + b".png"))
        (folder / "clips" / os.fsdecode(name + b".txt")).write_text("a caption")
        drawn += 1
    return drawn


def take_through(folder: Path, way: str) -> None:
    """Found, packed and read again."""
    with collecting() as refused:
        find(folder / "clips", masks="folder", folders={"": folder / "masks"})
    for name, error in refused:
        assert isinstance(error, BadName) or "two clips" in str(error)
        f"{name}{error}".encode()  # can be printed and written
    packed = folder / "packed"
    pack(PackOptions(folder / "clips", packed, way))
    FORMATS.load(way).read(packed, Columns())


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(16), id="quick"),
        *(
            pytest.param(range(start, start + 500), id=f"{start}", marks=pytest.mark.slow)
            for start in range(100, 2100, 500)
        ),
    ],
)
def test_drawn_names(seeds, tmp_path):
    counts = {"worked": 0, "refused": 0}
    for seed in seeds:
        rng, folder = random.Random(seed), tmp_path / f"{seed}"
        lay(folder, rng)
        way = rng.choice(("folder", "jsonl", "webdataset"))
        counts[outcome(seed, lambda folder=folder, way=way: take_through(folder, way))] += 1
    assert all(counts.values())


@pytest.mark.parametrize("name", [b"\xff.png", b"caf\xe9/a.png", b"a\nb.png", b"<b>&.png"])
def test_inspect_shows_or_refuses_any_name(tmp_path, name):
    lay(tmp_path, random.Random(0))
    path = tmp_path / "clips" / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        Image.new("RGB", (16, 16)).save(stream, "PNG")
    data = {"clips": tmp_path / "clips", "masks": {"source": "none"}, "caption": "x"}
    found = inspect(Config.model_validate({"data": [data]}), tmp_path / "out")
    told = [one for one in found if one.kind == "name"]
    text = name.decode("utf-8", "backslashreplace")
    assert bool(told) == (b"\xff" in name or b"\xe9" in name)
    assert all(one.severity == "error" and text.split("/")[0] in one.sentence for one in told)
    assert (tmp_path / "out" / "findings.json").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_a_set_in_a_folder_whose_name_is_no_text(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff set")
    lay(folder, random.Random(1))
    data = {"clips": folder / "clips", "masks": {"source": "none"}, "caption": "x"}
    inspect(Config.model_validate({"data": [data]}), folder / "out")
    assert r"\udcff" in (folder / "out" / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["inspect", "prepare", "train", "pack"])
def test_the_command_line_prints_what_is_no_text(tmp_path, command):
    folder = tmp_path / os.fsdecode(b"\xff set")
    lay(folder, random.Random(1))
    (folder / "frisket.toml").write_text(
        '[model]\nfamily = "pocket"\nvariant = "image"\n[[data]]\nclips = "clips"\ncaption = "x"\n'
        "resolution = 64\n[run]\nsteps = 1\n"
    )
    words = [command] if command != "pack" else ["pack", "clips", "-o", "out", "--to", "folder"]
    done = subprocess.run(
        [sys.executable, "-m", "frisket.cli.app", *words],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    assert done.returncode in (0, 1, 2)
    if command == "train":
        assert b"this path is not UTF-8, so `trained.toml` could not name it" in done.stderr
