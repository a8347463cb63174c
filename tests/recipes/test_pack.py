"""A set comes back from every way of storing it bit for bit, or is not written at all."""

import json
import signal
import subprocess
import sys
from contextlib import nullcontext
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from frisket.cli.exchange.pack import add
from frisket.data.format_base import BadSet, Columns
from frisket.media.files import ClipsNotFound
from frisket.media.manifest import BadManifest
from frisket.recipes.pack import PackOptions, pack

WAYS = ("folder", "jsonl", "webdataset", "parquet")


def noise(seed, size=3000):
    return np.random.default_rng(seed).bytes(size)


@pytest.fixture
def lay(tmp_path):
    """Write files (bytes, or text) below a folder."""

    def write(folder, files):
        for name, content in files.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / folder

    return write


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


REGIONS = {
    "clips/plain.png": noise(0),
    "clips/plain.txt": "two\r\nlines\n\nand a paragraph, “quoted” ü\n",
    "clips/sub.d/walk.v1.mp4": noise(1, 200_000),
    "clips/sub.d/walk.v1.txt": "a walk",
    "clips/Übergröße 100%.JPG": noise(2),
    "clips/日本/no mask.webp": b"",
    "masks/face/plain.png": noise(3),
    "masks/face/sub.d/walk.v1.mkv": noise(4),
    "masks/left.eye/plain.png": noise(5),
    "masks/mask/Übergröße 100%.tiff": noise(6),
    "references/plain_0.png": noise(7),
    "references/plain_1.webp": noise(8),
    "references/sub.d/walk.v1.png": noise(9),
    "control/plain.png": noise(14),
    "control/sub.d/walk.v1.mkv": noise(15),
}
LABELS = {
    "clips/a.jpg": noise(10),
    "clips/b/a.gif": noise(11),
    "masks/a.png": noise(12),
    "masks/b/a.png": noise(13),
    "masks/legend.json": json.dumps({"face": 1, "hair": 2}, indent=1),
}


def needs(*ways):
    if "parquet" in ways:
        pytest.importorskip("pyarrow")


@pytest.mark.parametrize("files", [REGIONS, LABELS], ids=["regions", "labels"])
@pytest.mark.parametrize("ways", list(product(WAYS, WAYS)), ids=" to ".join)
def test_every_pair_of_ways_gives_the_set_back(lay, tmp_path, ways, files):
    needs(*ways)
    at = lay("first", files)
    for number, way in enumerate((*ways, "folder")):
        pack(PackOptions(at, tmp_path / str(number), way, shard=1))
        at = tmp_path / str(number)
    assert tree(at) == tree(tmp_path / "first")
    if ways[0] == ways[1]:
        assert tree(tmp_path / "0") == tree(tmp_path / "1")


def test_a_manifest_alone_names_the_files_where_they_are(lay, tmp_path):
    folder = lay("set", REGIONS)
    before = tree(folder)
    pack(PackOptions(folder, tmp_path / "lists" / "all.jsonl", "jsonl"))
    assert tree(folder) == before
    line = json.loads((tmp_path / "lists/all.jsonl").read_text().splitlines()[0])
    assert line["path"] == "../set/clips/plain.png"
    pack(PackOptions(tmp_path / "lists/all.jsonl", tmp_path / "again", "folder"))
    assert tree(tmp_path / "again") == before
    pack(PackOptions(folder, tmp_path / "tars", "webdataset"))
    with pytest.raises(BadSet, match="lies inside of another file"):
        pack(PackOptions(tmp_path / "tars", tmp_path / "no.jsonl", "jsonl"))
    with pytest.raises(BadSet, match="goes with --to jsonl"):
        pack(PackOptions(folder, tmp_path / "no.jsonl", "folder"))
    assert not (tmp_path / "no.jsonl").exists()


def test_folders_of_frames_stay_folders_and_are_refused_elsewhere(lay, tmp_path):
    folder = lay(
        "set", {f"masks/walk/{n}.png": noise(n) for n in range(3)} | {"clips/walk.mp4": ""}
    )
    pack(PackOptions(folder, tmp_path / "listed", "jsonl"))
    pack(PackOptions(tmp_path / "listed", tmp_path / "again", "folder"))
    assert tree(tmp_path / "again") == tree(folder)
    for way in ("webdataset", "parquet"):
        with pytest.raises(
            BadSet, match=r"'walk', its mask or its control is a folder of frames, which "
        ):
            pack(PackOptions(folder, tmp_path / "no", way))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["again", "listed", "set"]


def test_one_mask_and_a_mask_a_region_do_not_mix_in_folders(lay, tmp_path):
    lines = [{"path": "a.png", "mask": "m.png"}, {"path": "b.png", "mask": {"face": "n.png"}}]
    files = {name: noise(place) for place, name in enumerate(("a.png", "b.png", "m.png", "n.png"))}
    folder = lay("set", files | {"set.jsonl": "\n".join(map(json.dumps, lines))})
    with pytest.raises(BadSet, match="which folder cannot tell apart; use --to jsonl"):
        pack(PackOptions(folder / "set.jsonl", tmp_path / "no", "folder"))
    pack(PackOptions(folder / "set.jsonl", tmp_path / "tars", "webdataset"))
    pack(PackOptions(tmp_path / "tars", tmp_path / "again", "jsonl"))
    again = [json.loads(line) for line in (tmp_path / "again/set.jsonl").read_text().splitlines()]
    assert [each["mask"] for each in again] == ["masks/a.png", {"face": "masks/face/b.png"}]
    assert (tmp_path / "again/masks/face/b.png").read_bytes() == files["n.png"]


def test_a_name_that_would_mean_something_else_is_caught(lay, tmp_path):
    folder = lay("set", {"x.png": "", "set.jsonl": '{"path": "x.png", "name": "x.mask"}\n'})
    with pytest.raises(ClipsNotFound):
        pack(PackOptions(folder / "set.jsonl", tmp_path / "no", "folder"))
    lay("set", {"y.png": "", "set.jsonl": (folder / "set.jsonl").read_text() + '{"path": "y.png"}'})
    with pytest.raises(BadSet, match=r"clip 'x\.mask' does not come back from folder"):
        pack(PackOptions(folder / "set.jsonl", tmp_path / "no", "folder"))
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("name", ["exists", "set/inside"])
def test_what_is_there_is_left_alone(lay, tmp_path, name):
    folder = lay("set", LABELS)
    lay("exists", {"mine.txt": "keep"})
    with pytest.raises(BadSet, match=r"exists and is not overwritten|would be read as part of it"):
        pack(PackOptions(folder, tmp_path / name, "jsonl"))
    assert tree(tmp_path / "exists") == {"mine.txt": b"keep"}
    assert tree(folder) == {name: raw(content) for name, content in LABELS.items()}


def raw(content):
    return content.encode() if isinstance(content, str) else content


@pytest.mark.parametrize("way", ["folder", "webdataset"])
def test_a_killed_run_leaves_nothing_under_the_final_name(lay, tmp_path, way):
    folder = lay("set", {f"clips/{n}.png": noise(n, 200_000) for n in range(20)})
    code = (
        "import os, signal, sys; from pathlib import Path; from frisket.recipes.pack import *\n"
        "def stop(stage, done, total):\n"
        "    if (stage, done) == ('pack', 7): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"source, out = Path({str(folder)!r}), Path({str(tmp_path / 'out')!r})\n"
        f"pack(PackOptions(source, out, {way!r}, shard=1), stop)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.part").is_dir()
    pack(PackOptions(folder, tmp_path / "out", way))
    assert not (tmp_path / ".out.part").exists()
    pack(PackOptions(tmp_path / "out", tmp_path / "again", "folder"))
    assert tree(tmp_path / "again") == tree(folder)


def test_a_full_disk_is_told_before(lay, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(BadSet, match="MiB free, the set has"):
        pack(PackOptions(lay("set", LABELS), tmp_path / "out", "folder"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "link", ["clips/key.png", "clips/more", "masks/legend.json", "clips/a.txt"]
)
def test_links_that_lead_out_are_packed_on_request_only(lay, tmp_path, link):
    source = lay("set", {"clips/b.jpg": noise(1), "clips/a.jpg": noise(2), "masks/b.png": noise(3)})
    secret = lay("home", {"key.png": b"secret", "legend.json": "{}", "a.txt": "secret"})
    target = secret if link == "clips/more" else secret / link.rpartition("/")[2]
    (source / link).symlink_to(target)
    out = tmp_path / "out"
    with pytest.raises(BadSet, match=r"a link brings it from .*home.*; give --follow-links"):
        pack(PackOptions(source, out, "folder"))
    assert not out.exists()
    pack(PackOptions(source, out, "folder", follow_links=True))
    assert b"secret" in tree(out).values() or link == "masks/legend.json"


def test_what_is_asked_wrongly_is_told(lay, tmp_path):
    folder = lay("set", LABELS)
    out = tmp_path / "out"
    with pytest.raises(BadSet, match=r"--to 'webdatset' is no way .*did you mean 'webdataset'"):
        pack(PackOptions(folder, out, "webdatset"))
    with pytest.raises(BadSet, match="there is no such file or folder"):
        pack(PackOptions(tmp_path / "gone", out, "jsonl"))
    with pytest.raises(BadSet, match="is read as folder, which has no columns"):
        pack(PackOptions(folder, out, "jsonl", columns=Columns(image="x")))
    with pytest.raises(BadSet, match="is stored in no known way"):
        pack(PackOptions(lay("odd", {"notes.csv": ""}) / "notes.csv", out, "jsonl"))
    with pytest.raises(ClipsNotFound, match="holds no clip"):
        pack(PackOptions(lay("empty", {"notes.txt": ""}), out, "jsonl"))
    with pytest.raises(BadManifest, match="line 1: `path`"):
        pack(PackOptions(lay("bad", {"set.jsonl": '{"path": "gone.png"}'}), out, "folder"))
    with pytest.raises(BadSet, match=r"as jsonl or as webdataset; say which with --from"):
        pack(PackOptions(lay("two", {"set.jsonl": "", "a.tar": ""}), out, "folder"))
    assert not out.exists()


@pytest.fixture
def run():
    app = typer.Typer()
    add(app, lambda: nullcontext(lambda *_: None))
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_says_what_it_did(lay, tmp_path, run):
    folder = lay("set", LABELS | {"masks/gone.png": b""})
    done = run(folder, "-o", tmp_path / "out", "--to", "webdataset", "--shard", 1)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[:1] == [f"{folder}: read as folder, 2 clips"]
    assert "1 masks have no clip and stay behind" in done.stdout
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [
        "legend.json",
        "shard-000000.tar",
    ]


def test_the_command_takes_columns(tmp_path, run):
    pytest.importorskip("pyarrow")
    from pyarrow import parquet, table

    cells = {"photo": [b"GIF8"], "seg": [b"GIF8"], "alt": ["x"], "id": ["a"]}
    parquet.write_table(table(cells), tmp_path / "t.parquet")
    words = ["--image", "photo", "--caption", "alt", "--name", "id", "--mask", "face=seg"]
    done = run(tmp_path / "t.parquet", "-o", tmp_path / "out", "--to", "folder", *words)
    assert done.exit_code == 0, done.output
    assert list(tree(tmp_path / "out")) == ["clips/a.gif", "clips/a.txt", "masks/face/a.gif"]
    twice = run(tmp_path, "-o", tmp_path / "o", "--to", "folder", "--mask", "a", "--mask", "b")
    assert str(twice.exception) == "--mask a --mask b: the region '' is named twice"
