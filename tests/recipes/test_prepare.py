"""Tests of runs/prepare.py and runs/banner.py: a configuration's data, and the banner."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from frisket.config.load import ConfigError
from frisket.config.tree import Config
from frisket.data.loader import Loader
from frisket.families.base import FAMILIES
from frisket.media.files import MasksNotFound
from frisket.media.frames import write_image
from frisket.pocket.world import ZIGZAG, Background, draw, draw_background, random_creature
from frisket.runs import banner
from frisket.runs.prepare import prepare, source_of

WALLS = ("red", "green", "blue")


def grey(path: Path, plane: Any) -> None:
    levels = torch.from_numpy(np.clip(np.asarray(plane) * 255, 0, 255).round().astype(np.uint8))
    write_image(path, levels[..., None].expand(-1, -1, 3).contiguous())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four creatures with a mask a region, and captioned walls."""
    for name in ("clips", "body", "eye", "legs", "walls"):
        (tmp_path / name).mkdir()
    for number in range(4):
        picture, planes = draw(random_creature(np.random.RandomState(number), ZIGZAG))
        write_image(tmp_path / "clips" / f"{number}.png", torch.from_numpy(picture.copy()))
        (tmp_path / "clips" / f"{number}.txt").write_text("sks")
        for region, plane in planes.items():
            grey(tmp_path / region / f"{number}.png", plane)
    for colour in WALLS:
        ground = Background("wall", colour, colour)
        picture = torch.from_numpy(draw_background(ground).copy())
        write_image(tmp_path / "walls" / f"{colour}.png", picture)
        (tmp_path / "walls" / f"{colour}.txt").write_text(ground.words)
    return tmp_path


def config(folder: Path, regions: dict[str, float] | None = None, **more: Any) -> Config:
    table = regions or {"body": 1.0, "eye": 0.5, "legs": 2.0}
    masks = {name: folder / name for name in ("body", "eye", "legs")}
    tables = {
        "data": [{"clips": folder / "clips", "masks": masks, **more.pop("data", {})}],
        "regions": table,
        "model": {"device": "cpu"},
        "run": {"cache": folder / "cache"},
    }
    return Config.model_validate({**tables, **more})


def said(config: Config, **more: Any) -> str:
    console = Console(width=300, record=True, quiet=True, **more)
    console.quiet = False
    with console.capture() as capture:
        banner.show(config, prepare(config), console)
    return capture.get()


def test_a_pocket_set_is_prepared_and_loaded(folder: Path) -> None:
    settings = config(folder)
    prepared = prepare(settings)
    assert prepared.regions == ("body", "eye", "legs")
    batch = Loader(prepared, batch=4, seed=0).at(0)
    assert batch.latents.shape == (4, 12, 1, 16, 16)
    assert batch.coverage.shape == (4, 3, 1, 16, 16)
    whole = batch.coverage.sum(1)
    assert float(whole.max()) == pytest.approx(1, abs=0.01)
    family = FAMILIES.load("pocket")
    source = source_of(settings, family)
    back = family.decode(family.load_vae(source), batch.latents)
    assert back.shape == (4, 3, 1, 32, 32)


@pytest.mark.parametrize(
    ("device", "cards", "reason"),
    [("cuda", 0, "torch sees no card"), ("cuda:3", 2, "there are cuda:0 to cuda:1")],
)
def test_a_card_that_is_not_here_is_refused_before_any_work(
    folder: Path, device: str, cards: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It went on without a word, on the CPU.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    asked = config(folder, model={"device": device})
    source_of(asked, FAMILIES.load(asked.model.family))  # what only looks at clips may name it
    with pytest.raises(ConfigError, match=reason):
        prepare(asked)


def test_no_model_is_loaded_when_nothing_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(config(folder))
    family = FAMILIES.load("pocket")

    def loaded(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(type(family), "load_vae", loaded)
    monkeypatch.setattr(type(family), "load_text", loaded)
    assert prepare(config(folder)).digest == first.digest
    again = prepare(config(folder, {"body": 0.1, "eye": 3.0, "legs": 0.0, "background": 0.2}))
    assert again.report.covered == 0


def test_a_broken_entry_is_rebuilt_while_training(folder: Path) -> None:
    prepared = prepare(config(folder))
    before = Loader(prepared, batch=4, seed=0).at(0)
    path = prepared.cache.path("latents", prepared.items[2].latents)
    path.write_bytes(path.read_bytes()[:-3])
    after = Loader(prepared, batch=4, seed=0).at(0)
    assert torch.equal(before.latents, after.latents)


def test_swap_from_a_folder_shows_in_the_banner(folder: Path) -> None:
    swap = {"rate": 0.5, "source": "folder", "path": folder / "walls", "variants": 2}
    settings = config(folder, swap=swap)
    prepared = prepare(settings)
    assert prepared.swap_rate == 0.5
    assert all(len(item.swaps) == 2 for item in prepared.items)
    text = said(settings)
    assert "50% of draws, from folder: 8 composites" in text
    assert "warning" not in text


def test_the_bank_is_asked_for_once_with_the_size_of_the_model(folder: Path) -> None:
    asked: list[tuple[int, int, int]] = []

    def bank(config: Config, family: object, source: object, size: tuple[int, int, int]) -> Path:
        asked.append(size)
        return folder / "walls"

    swap = {"rate": 0.5, "prompts": ["a red wall"]}
    prepared = prepare(config(folder, swap=swap), bank=bank)
    assert asked == [(1, 32, 32)]
    assert all(len(item.swaps) == len(WALLS) for item in prepared.items)


@pytest.mark.parametrize("source", ["flat", "gradient", "noise"])
def test_drawn_backgrounds_need_no_files(folder: Path, source: str) -> None:
    prepared = prepare(config(folder, swap={"rate": 1.0, "source": source, "variants": 3}))
    assert all(len(item.swaps) == 3 for item in prepared.items)
    assert bool(Loader(prepared, batch=4, seed=0).at(0).swapped.all())


def test_backgrounds_from_the_clips_are_said_to_be_unnamed(folder: Path) -> None:
    text = said(config(folder, swap={"rate": 0.5, "source": "clips", "variants": 1}))
    assert "4 composites have a background without words" in text


def test_the_banner_says_what_the_mask_does(folder: Path) -> None:
    settings = config(folder, {"body": 1.0, "eye": 0.5, "legs": 2.0, "background": 0.1})
    text = said(settings)
    for part in ("4 of 4", "weight 0.5, covers", "weight 0.1 after curve and floor", "sample"):
        assert part in text
    rows = dict(banner.rows(settings, prepare(settings)))
    assert rows["loss"] == "denoise 1; normalise = sample"
    assert rows["background swap"] == "off"


def test_a_mask_folder_that_matches_nothing_stops(folder: Path) -> None:
    for path in (folder / "eye").iterdir():
        path.rename(path.with_name(f"other{path.name}"))
    with pytest.raises(MasksNotFound, match="eye"):
        prepare(config(folder))


def test_a_set_that_weighs_nothing_stops_before_training(folder: Path) -> None:
    for region in ("body", "eye", "legs"):
        for path in (folder / region).iterdir():
            grey(path, np.zeros((32, 32)))
    settings = config(folder)
    with pytest.raises(banner.NothingTeaches, match="4 of 4 masks are empty"):
        banner.check(settings, prepare(settings))
    taught = config(folder, {"body": 1.0, "eye": 1.0, "legs": 1.0, "background": 0.5})
    banner.check(taught, prepare(taught))


def test_settings_that_seldom_mean_well_are_warned_of(folder: Path) -> None:
    draw_eye = np.zeros((32, 32))
    draw_eye[4, 4] = 1
    for path in (folder / "eye").iterdir():
        grey(path, draw_eye)
    (folder / "clips" / "0.txt").write_text("sks looking left")
    (folder / "body" / "3.png").unlink()
    (folder / "eye" / "3.png").unlink()
    (folder / "legs" / "3.png").unlink()
    text = said(
        config(
            folder,
            {"body": 1.0, "eye": 1.0, "legs": 1.0, "background": 0.2},
            curve={"floor": 0.05},
            swap={"rate": 0.5, "source": "flat", "variants": 1},
            data={"flip": True},
        )
    )
    for part in (
        "swapped and also taught",
        "floor = 0.05 teaches the background",
        "1 clip is left out, without a mask where others have one: 3",
        "1 clips are also trained mirrored",
        "thinner than a latent cell",
    ):
        assert part in text


def test_tiny_masks_are_warned_of_only_where_they_make_the_loss_spike(folder: Path) -> None:
    dot = np.zeros((32, 32))
    dot[4:6, 4:6] = 1
    for region in ("body", "eye", "legs"):
        for path in (folder / region).iterdir():
            grey(path, dot if region == "body" else np.zeros((32, 32)))
    assert "the regions cover 0.4% of a clip" in said(config(folder))
    assert "spikes" not in said(config(folder, losses={"normalise": "area"}))
