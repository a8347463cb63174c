"""Methods by config table through `generate`: what acts where, and what is written down."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.runs.methods.identity.toy import Album

from frisket.adapters import lora as adapter
from frisket.config.calls import Fuse
from frisket.config.tree import Config
from frisket.families.models.pocket.family import FAMILY
from frisket.recipes.generate import Generated, generate
from frisket.runs.sampling.gallery import write_gallery

PROMPT = "a red circle and a green ring on a blue wall"


def build_config(model: Path, *tables: dict[str, Any]) -> Config:
    return Config.model_validate(
        {"model": {"source": str(model), "device": "cpu"}, "identity": tables}
    )


def run(model: Path, out: Path, *tables: dict[str, Any], **options: Any) -> Generated:
    options = {"steps": 2, "height": 32, "width": 32, **options}
    return generate(build_config(model, *tables), [PROMPT], out, **options)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def write_lora(path: Path) -> Path:
    denoiser = FAMILY.tiny("image").denoiser
    assert denoiser is not None
    adapter.attach(denoiser, adapter.LoraSpec(rank=2, targets=("to_q", "to_k", "to_v")), seed=0)
    made = torch.Generator().manual_seed(5)
    for value in adapter.trainable(denoiser).values():
        value.data = 0.2 * torch.randn(value.shape, generator=made)
    adapter.save(denoiser, path, {}, prefix=FAMILY.lora_prefix)
    return path


def test_versions_side_by_side_and_the_record(model: Path, album: Album, tmp_path: Path) -> None:
    ada, bob = album.draw("ada", 1), album.draw("bob", 2)
    lora = write_lora(tmp_path / "trained.safetensors")
    tables = (album.table(ada), album.table(bob, scale=0.5, options={"tint": 2}))
    both = run(model, tmp_path / "both", *tables, lora=[(lora, 1.0)], without=True)
    names = [path.stem.split("-0-")[1] for path in both.pictures]
    assert names == ["base", "lora", "toy", "toy-2", "lora+toy+toy-2"]
    shown = [pixels(path) for path in both.pictures]
    assert all((a != b).any() for i, a in enumerate(shown) for b in shown[:i])
    alone = run(model, tmp_path / "alone", tables[0])
    assert (pixels(alone.pictures[0]) == shown[2]).all()
    assert (pixels(run(model, tmp_path / "base").pictures[0]) == shown[0]).all()
    record = json.loads(both.record.read_text())
    assert [entry["label"] for entry in record["methods"]] == ["toy", "toy-2"]
    second = record["methods"][1]
    assert (second["scale"], second["options"]) == (0.5, {"tint": 2.0, "where": "all"})
    assert second["faces"][0]["path"] == str(bob)
    assert second["faces"][0]["faces_in_picture"] == 1
    files = [*second["source"], *second["faces"], *second["detector_source"]]
    assert {len(file["sha256"]) for file in files} == {64}
    assert second["embedder"] == "tiny"
    assert [entry["methods"] for entry in record["pictures"]][-2:] == [["toy-2"], ["toy", "toy-2"]]
    assert [entry["lora"] for entry in record["pictures"]] == [False, True, False, False, True]
    measured = record["likeness"][0]  # the drawn detector knows no sample
    assert [set(picture) for picture in measured["pictures"]] == [{"ada", "bob"}] * 5
    assert measured["people"]["ada"]["detected"] == 0
    page = write_gallery(tmp_path)
    assert page is not None
    titles = ["trained x 1 + toy x 1 + toy-2 x 0.5", ">toy-2 x 0.5<", ">trained x 1<", ">base<"]
    places = [page.read_text().index(title) for title in titles]
    assert places == sorted(places)


def test_nothing_is_the_base_and_a_mask_is_laid(model: Path, album: Album, tmp_path: Path) -> None:
    ada = album.draw("ada", 1)
    base = pixels(run(model, tmp_path / "base").pictures[0])
    nothing = run(model, tmp_path / "nothing", album.table(ada, scale=0))
    assert (pixels(nothing.pictures[0]) == base).all()
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32] = 255
    Image.fromarray(mask).save(tmp_path / "left.png")
    table = album.table(ada, mask=tmp_path / "left.png")
    inside = pixels(run(model, tmp_path / "soft", table).pictures[0])
    everywhere = pixels(run(model, tmp_path / "all", album.table(ada)).pictures[0])
    assert (inside != base).any()
    assert (inside != everywhere).any()
    strict = run(model, tmp_path / "strict", {**table, "strict": True}, steps=1)
    plain = pixels(run(model, tmp_path / "plain", steps=1).pictures[0])
    moved = (pixels(strict.pictures[0]) != plain).any((0, 2))
    assert moved[:16].any()
    assert not moved[20:].any()  # the VAE's own reach stands between


def test_two_people_keep_to_their_places(model: Path, album: Album, tmp_path: Path) -> None:
    tables = []
    for person, (name, columns) in enumerate({"left": slice(0, 8), "right": slice(24, 32)}.items()):
        mask = np.zeros((32, 32), np.uint8)
        mask[:, columns] = 255
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
        keys = {"mask": tmp_path / f"{name}.png", "strict": True}
        tables.append(album.table(album.draw(name, person), **keys))
    made = run(model, tmp_path / "both", *tables, without=True, steps=1)
    base, left, right, both = (pixels(path) for path in made.pictures)
    reach = 4  # of the VAE, in pixels
    middle, sides = slice(8 + reach, 24 - reach), (slice(0, 8 - reach), slice(24 + reach, 32))
    assert (both[:, middle] == base[:, middle]).all()
    for side, alone in zip(sides, (left, right), strict=True):
        assert (both[:, side] == alone[:, side]).all()
        assert (both[:, side] != base[:, side]).any()


def test_methods_act_beside_fused_loras(model: Path, album: Album, tmp_path: Path) -> None:
    ada = album.draw("ada", 1)
    files = [(write_lora(tmp_path / f"{name}.safetensors"), 1.0) for name in ("one", "two")]
    fuse = Fuse(method="freefuse", triggers=("red circle", "green ring"), step=1, bias=True)
    options = {"lora": files, "fuse": fuse, "without": True, "steps": 3}
    made = run(model, tmp_path / "both", album.table(ada), **options)
    names = [path.stem.split("-0-")[1] for path in made.pictures]
    assert names == ["base", "lora", "toy", "lora+toy"]
    without = run(model, tmp_path / "without", **options)
    assert (pixels(made.pictures[1]) == pixels(without.pictures[1])).all()
    for name in ("one", "two"):  # looked for without the method
        masks = [
            pixels(path.with_name(f"{path.stem}-{name}.png"))
            for path in (made.pictures[1], made.pictures[3])
        ]
        assert (masks[0] == masks[1]).all()


@pytest.mark.parametrize("like", [None, 2])
def test_several_faces_are_told_apart(
    model: Path, album: Album, tmp_path: Path, like: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    both = album.draw("both", 1, 2)
    keys = {} if like is None else {"like": album.draw("bob", like, views=4)}
    record = json.loads(run(model, tmp_path / "out", album.table(both, **keys)).record.read_text())
    left = record["methods"][0]["faces"][0]["face"][0]
    assert (left > 90) == (like == 2)
    assert record["methods"][0]["faces"][0]["faces_in_picture"] == 2
    assert "shows 2 faces" in caplog.text
    assert caplog.text.count("the toy is for tests") == 1
