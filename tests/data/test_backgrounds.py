"""Tests of background swap in `prepare`: composites, their captions, what is made again."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from frisket.data.backgrounds import choose, draw_backdrops, from_donors, from_folder
from frisket.data.cached.index import Index
from frisket.data.cached.store import Cache
from frisket.data.prepare import prepare
from frisket.data.records import Backdrop, Clipset, Item, Prepared, SwapPlan, Window, Windows
from frisket.media.frames import decode, write_image, write_video
from frisket.pocket.world import Background, draw_background

TABLE = {"subject": 1.0, "background": 0.0}
Make = Callable[..., Clipset]


def run(clipset: Clipset, cache: Cache, encoders: object, swap: object) -> Prepared:
    return prepare([clipset], cache, encoders, regions=TABLE, swap=swap)


def pixels(cache: Cache, key: str) -> torch.Tensor:
    """The picture behind latents of the lossless VAE, 3 H W in [0, 255]."""
    latents = cache.load("latents", key).tensors["latents"]
    return (functional.pixel_shuffle(latents[:, 0], 2) + 1) * 127.5


@pytest.fixture
def walls(tmp_path: Path, cache: Cache) -> list[Backdrop]:
    """Four captioned backgrounds in a folder."""
    place = tmp_path / "walls"
    place.mkdir()
    for colour in ("red", "green", "blue", "white"):
        ground = Background("wall", colour, colour)
        write_image(place / f"{colour}.png", torch.from_numpy(draw_background(ground).copy()))
        (place / f"{colour}.txt").write_text(ground.words)
    with Index(cache.folder) as index:
        return from_folder(place, index)


def test_a_composite_keeps_the_subject_and_shows_the_new_background(
    folder: Path, clipset: Make, cache: Cache, encoders, walls
) -> None:
    done = run(clipset(folder), cache, encoders, SwapPlan(walls[:1], variants=1))
    item = done.items[0]
    assert encoders.encoded == 12
    mask = decode(folder / "masks" / "c0000.png")[0, ..., 0].float() / 255
    clip, new = pixels(cache, item.latents), pixels(cache, item.swaps[0].latents)
    ground = decode(walls[0].path)[0].permute(2, 0, 1).float()
    assert torch.allclose(new[:, mask == 1], clip[:, mask == 1], atol=0.51)
    assert torch.allclose(new[:, mask == 0], ground[:, mask == 0], atol=0.51)


def test_the_caption_names_the_new_background(
    folder: Path, clipset: Make, cache: Cache, encoders, walls
) -> None:
    asked: list[str] = []
    embed = encoders.embed
    encoders.embed = lambda caption, seen=(): (asked.append(caption), embed(caption, seen))[1]
    run(clipset(folder, trigger="tok"), cache, encoders, SwapPlan(walls, variants=4))
    assert sorted(asked) == [
        "tok, sks, here, now",
        *(f"tok, sks, here, now on a {c} wall" for c in ("blue", "green", "red", "white")),
    ]


def test_editing_a_mask_makes_only_that_clips_composites_again(
    folder: Path, clipset: Make, cache: Cache, encoders, walls, draw_mask, fresh
) -> None:
    plan = SwapPlan(walls, variants=3)
    before = run(clipset(folder), cache, encoders, plan)
    assert encoders.encoded == 6 * 4
    draw_mask(folder / "masks" / "c0002.png", np.eye(32))
    again = fresh()
    after = run(clipset(folder), cache, again, plan)
    assert again.encoded == 3
    assert [a.name for a, b in zip(after.items, before.items, strict=True) if a != b] == ["c0002"]
    third = fresh()
    run(clipset(folder), cache, third, plan)
    assert third.encoded == 0


def test_weights_above_zero_do_not_matter_to_composites_but_zero_does(
    folder: Path, clipset: Make, cache: Cache, encoders, walls
) -> None:
    plan = SwapPlan(walls, variants=1)
    keys = [
        prepare([clipset(folder)], cache, encoders, regions={"subject": weight}, swap=plan)
        .items[0]
        .swaps[0]
        .latents
        for weight in (1.0, 0.3, 0.0)
    ]
    assert keys[0] == keys[1] != keys[2]


def test_each_clip_gets_different_backdrops_the_same_ones_every_time(
    folder: Path, clipset: Make, cache: Cache, encoders, walls
) -> None:
    one = run(clipset(folder), cache, encoders, SwapPlan(walls, variants=9))
    assert all(len({s.latents for s in item.swaps}) == len(walls) for item in one.items)
    two = [
        run(clipset(folder), cache, encoders, SwapPlan(walls, variants=2, seed=seed)).items
        for seed in (0, 0, 1)
    ]
    assert two[0] == two[1] != two[2]


def test_another_backdrop_changes_only_the_composites_it_is_in(
    folder: Path, clipset: Make, cache: Cache, encoders, walls
) -> None:
    def texts(items: tuple[Item, ...]) -> set[tuple[str, str]]:
        return {(item.name, swap.latents) for item in items for swap in item.swaps}

    fewer = run(clipset(folder), cache, encoders, SwapPlan(walls[:3], variants=2)).items
    before = encoders.encoded
    more = run(clipset(folder), cache, encoders, SwapPlan(walls, variants=2)).items
    assert encoders.encoded - before == len(texts(more) - texts(fewer)) < 12


@pytest.mark.parametrize("kind", ["flat", "gradient", "noise"])
def test_drawn_backgrounds_differ_and_have_words(kind: str) -> None:
    made = draw_backdrops(kind)
    assert len({one.content for one in made}) == len(made) >= 12
    assert all("background" in one.words for one in made)
    assert made == draw_backdrops(kind)


def test_donors_lend_their_surroundings_without_their_subject(
    folder: Path, clipset: Make, cache: Cache, encoders
) -> None:
    windows: list[Window] = []

    def plan(found: list[Window]) -> SwapPlan:
        windows[:] = found
        return SwapPlan(from_donors(found, ("subject",)), variants=2)

    done = run(clipset(folder), cache, encoders, plan)
    assert len(windows) == 6
    assert done.report.unnamed_swaps == 12
    for item, window in zip(done.items, windows, strict=True):
        assert [s.text for s in item.swaps] == [item.texts[0]] * 2
        donors = [b.donor for b in choose(plan(list(windows)), window)]
        assert window.clip not in {donor.clip for donor in donors}
        mask = decode(window.masks[""])[0, ..., 0]
        picture = pixels(cache, item.swaps[0].latents)
        # The creature is teal and pink with a black leg, the zig-zag orange and purple: outside the
        # clip's own mask nothing is teal (more blue than red and more green than red).
        teal = (picture[1] > picture[0] + 60) & (picture[2] > picture[0] + 60)
        assert not (teal & (mask == 0)).any()


def test_a_moving_background_moves_behind_a_video(
    tmp_path: Path, clipset: Make, cache: Cache, fresh
) -> None:
    clip = torch.full((5, 32, 32, 3), 9, dtype=torch.uint8)
    ground = torch.arange(3, dtype=torch.uint8)[:, None, None, None].mul(100).expand(3, 32, 32, 3)
    for place, frames in (("clips", clip), ("ground", ground.contiguous())):
        (tmp_path / place).mkdir()
        write_video(tmp_path / place / "v.mkv", frames, 16.0, lossless=True)
    (tmp_path / "masks").mkdir()
    write_image(tmp_path / "masks" / "v.png", torch.zeros(32, 32, 3, dtype=torch.uint8))
    with Index(cache.folder) as index:
        plan = SwapPlan(from_folder(tmp_path / "ground", index), variants=1)
    done = run(clipset(tmp_path, windows=Windows(frames=5)), cache, fresh(), plan)
    latents = cache.load("latents", done.items[0].swaps[0].latents).tensors["latents"]
    levels = ((latents.mean((0, 2, 3)) + 1) * 127.5).round().tolist()
    assert levels == [0, 100, 200, 100, 0]  # too short: forwards, then backwards


def test_a_folder_without_pictures_is_refused(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "none").mkdir()
    with Index(cache.folder) as index, pytest.raises(ValueError, match="none"):
        from_folder(tmp_path / "none", index)
