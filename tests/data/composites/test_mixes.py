"""Swaps in latent space and mixes in `prepare`: what is encoded, drawn again, refused."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from frisket.data.background_swap import COLOURS
from frisket.data.backgrounds import draw_backdrops, from_donors
from frisket.data.cached.store import Cache
from frisket.data.captions import join_captions
from frisket.data.loader import Loader
from frisket.data.prepare import prepare
from frisket.data.records import Clipset, CompositeSpace, Masking, MixPlan, Prepared, SwapPlan
from frisket.data.sample import Batch
from frisket.media.frames import decode

TABLE = {"cat": 1.0, "dog": 1.0, "background": 0.0}
FLAT = draw_backdrops("flat")
Make = Callable[..., Clipset]


def pixels(latents: Tensor) -> Tensor:
    """The picture behind latents of the lossless VAE, 3 H W in [0, 255]."""
    return (functional.pixel_shuffle(latents[:, 0], 2) + 1) * 127.5


@pytest.fixture
def pair(tmp_path: Path, draw_clip: Callable[..., None]) -> Path:
    """Two data sets: two cats and two dogs (creatures both, told apart by their regions)."""
    for number in range(4):
        which = "cat" if number < 2 else "dog"
        draw_clip(tmp_path / which, number, caption=f"a {which}")
    return tmp_path


def run(
    pair: Path, cache: Cache, encoders: object, *, swap: object = None, mix: object = None
) -> Prepared:
    sets = [
        Clipset(pair / name / "clips", masking(pair, name), resolution=32)
        for name in ("cat", "dog")
    ]
    return prepare(sets, cache, encoders, regions=TABLE, swap=swap, mix=mix)


def masking(pair: Path, name: str) -> Masking:
    return Masking(source="regions", folders={name: pair / name / "masks"})


def read(done: Prepared, **rates: float) -> list[Batch]:
    """Every clip as the loader draws it, one a batch, over 6 rows."""
    loader = Loader(replace(done, **rates), batch=1, seed=0, prefetch=0)
    return [loader.at(row) for row in range(6)]


def test_latent_swaps_encode_each_background_once(pair: Path, cache: Cache, encoders, fresh):
    done = run(pair, cache, encoders, swap=SwapPlan(FLAT, variants=3, space="latent"))
    grounds = {swap.latents for item in done.items for swap in item.swaps}
    assert encoders.encoded == 4 + len(grounds) <= 4 + len(COLOURS)
    assert all(len(item.swaps) == 3 for item in done.items)
    again = fresh()
    assert run(pair, cache, again, swap=SwapPlan(FLAT, variants=3, space="latent")) is not None
    assert again.encoded == 0


def test_a_latent_swap_shows_the_subject_before_the_new_background(
    pair: Path, cache: Cache, encoders
):
    done = run(pair, cache, encoders, swap=SwapPlan(FLAT, variants=2, space="latent"))
    colours = torch.tensor(list(COLOURS.values())).float()
    for batch in read(done, swap_rate=1.0):
        assert bool(batch.swapped)
        number = int(batch.names[0][1:])
        folder = pair / ("cat" if number < 2 else "dog")
        clip = decode(folder / "clips" / f"{batch.names[0]}.png")[0].permute(2, 0, 1).float()
        mask = decode(folder / "masks" / f"{batch.names[0]}.png")[0, ..., 0].float() / 255
        share = functional.avg_pool2d(mask[None, None], 2).repeat_interleave(2, 2)
        share = share.repeat_interleave(2, 3)[0, 0]
        shown = pixels(batch.latents[0])
        assert torch.allclose(shown[:, share == 1], clip[:, share == 1], atol=0.01)
        outside = shown[:, share == 0]
        distance = (outside[:, :1].T - colours).abs().sum(1).min()
        assert float(distance) < 0.1
        assert torch.allclose(outside, outside[:, :1].expand_as(outside), atol=0.01)


def test_growing_the_kept_cells_keeps_more_of_the_clip(pair: Path, cache: Cache, encoders):
    kept = []
    for grow in (0.0, 3.0):
        plan = SwapPlan(FLAT, variants=1, space="latent", grow=grow)
        swap = run(pair, cache, encoders, swap=plan).items[0].swaps[0]
        kept.append(cache.load("coverage", swap.keep).tensors["keep"])
    assert (kept[1] >= kept[0]).all()
    assert kept[1].sum() > 1.3 * kept[0].sum()


@pytest.mark.parametrize("space", ["pixel", "latent"])
@pytest.mark.parametrize("ground", ["flat", "clip"])
def test_a_mix_shows_both_subjects_each_under_its_own_region(
    pair: Path, cache: Cache, encoders, space: CompositeSpace, ground: str
):
    plan = MixPlan(FLAT if ground == "flat" else (), variants=2, overlap=0.2, space=space)
    done = run(pair, cache, encoders, mix=plan)
    assert sum(len(item.mixes) for item in done.items) >= 4
    own = {item.name: item for item in done.items}
    for batch in read(done, mix_rate=1.0):
        cat, dog = batch.coverage[0, :, 0]
        assert float((cat + dog).max()) <= 1 + 1e-5
        assert float(cat.sum()) > 8
        assert float(dog.sum()) > 8
        if ground == "clip":  # its own subject stays where it is, under what is laid over it
            item = own[batch.names[0]]
            region = 0 if item.coverage and int(item.name[1:]) < 2 else 1
            above = batch.coverage[0, 1 - region, 0]
            plain = cache.load("coverage", item.coverage).tensors["planes"][0, 0]
            free = above == 0
            assert torch.allclose(batch.coverage[0, region, 0][free], plain[free], atol=1e-5)


def test_captions_of_a_mix_name_both_and_the_ground(pair: Path, cache: Cache, encoders):
    captions: list[str] = []
    embed = encoders.embed
    encoders.embed = lambda caption, seen=(): (captions.append(caption), embed(caption, seen))[1]
    run(pair, cache, encoders, mix=MixPlan(FLAT[:1], variants=2))
    assert sorted(set(captions)) == [
        "a cat",
        "a cat and a dog on a plain black background",
        "a dog",
        "a dog and a cat on a plain black background",
    ]


def test_a_pasted_subject_of_full_size_is_its_own_pixels(pair: Path, cache: Cache, encoders):
    plan = MixPlan(FLAT[:1], variants=2, scale=(1.0, 1.0), overlap=0.5)
    done = run(pair, cache, encoders, mix=plan)
    seen = 0
    for item in done.items:
        for mix in item.mixes:
            notes = cache.load("coverage", mix.coverage).notes["places"]
            name, down, right = re.findall(r"(c\d+) x 1.0000 down (-?\d+) right (-?\d+)", notes)[-1]
            folder = pair / ("cat" if int(name[1:]) < 2 else "dog")
            clip = decode(folder / "clips" / f"{name}.png")[0].numpy()
            mask = decode(folder / "masks" / f"{name}.png")[0, ..., 0].numpy()
            rows, columns = np.nonzero(mask == 255)
            painted = pixels(cache.load("latents", mix.latents).tensors["latents"])
            moved = painted[:, rows + int(down), columns + int(right)].T.round()
            assert torch.equal(moved, torch.from_numpy(clip[rows, columns]).float())
            seen += 1
    assert seen >= 3


@pytest.mark.parametrize("space", ["pixel", "latent"])
def test_mixes_are_the_same_every_time_and_made_once(
    pair: Path, cache: Cache, tmp_path: Path, encoders, fresh, space: CompositeSpace
):
    plan = MixPlan(FLAT, variants=2, space=space)
    done = run(pair, cache, encoders, mix=plan)
    again = fresh()
    assert run(pair, cache, again, mix=plan).digest == done.digest
    assert again.encoded == again.embedded == 0
    other = run(pair, Cache(tmp_path / "other"), fresh(), mix=plan)
    assert other.digest == done.digest
    seeded = run(pair, cache, fresh(), mix=MixPlan(FLAT, variants=2, space=space, seed=1))
    assert seeded.digest != done.digest
    first, second = read(done, mix_rate=0.5), read(other, mix_rate=0.5)
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(a.coverage, b.coverage) for a, b in zip(first, second, strict=True))


def test_a_corrupt_mix_is_made_again(pair: Path, cache: Cache, encoders, fresh):
    plan = MixPlan(FLAT, variants=1)
    done = run(pair, cache, encoders, mix=plan)
    mix = done.items[0].mixes[0]
    before = cache.load("latents", mix.latents).tensors["latents"]
    cache.path("latents", mix.latents).write_bytes(b"cut off")
    cache.path("coverage", mix.coverage).unlink()
    whole = replace(done, mix_rate=1.0, rebuild=lambda: run(pair, cache, fresh(), mix=plan))
    loader = Loader(whole, batch=4, seed=0, prefetch=0)
    assert loader.at(0).latents.shape[0] == 4
    assert torch.equal(cache.load("latents", mix.latents).tensors["latents"], before)


def test_mixes_come_at_their_rate_and_swaps_of_the_rest(pair: Path, cache: Cache, encoders):
    done = run(
        pair, cache, encoders, swap=SwapPlan(FLAT, variants=2), mix=MixPlan(FLAT, variants=2)
    )
    mixed = replace(done, mix_rate=0.5, swap_rate=1.0)
    loader = Loader(mixed, batch=1, seed=3, prefetch=0)
    batches = [loader.at(row) for row in range(60)]
    both = [int((b.coverage[0].flatten(1).sum(1) > 0).sum()) == 2 for b in batches]
    assert 0.25 < np.mean(both) < 0.75
    assert all(bool(b.swapped) != two for b, two in zip(batches, both, strict=True))


def test_a_single_set_mixes_its_own_clips(folder: Path, clipset: Make, cache: Cache, encoders):
    done = prepare(
        [clipset(folder)],
        cache,
        encoders,
        regions={"subject": 1.0},
        mix=MixPlan(variants=2, overlap=0.3),
    )
    assert any(item.mixes for item in done.items)
    shown = list(done.draw_mixes())
    assert 0 < len(shown) <= 6
    assert shown[0].frames.shape == (1, 32, 32, 3)
    assert set(shown[0].planes) == {"subject"}
    assert shown[0].caption == "sks, here, now and sks, here, now"


def test_surroundings_of_other_clips_can_be_the_ground(
    folder: Path, clipset: Make, cache: Cache, encoders
):
    regions = ("subject",)
    done = prepare(
        [clipset(folder)],
        cache,
        encoders,
        regions={"subject": 1.0},
        mix=lambda windows: MixPlan(from_donors(windows, regions), variants=1, overlap=0.3),
        swap=lambda windows: SwapPlan(from_donors(windows, regions), variants=1, space="latent"),
    )
    assert any(item.mixes for item in done.items)
    assert all(len(item.swaps) == 1 for item in done.items)


def test_what_cannot_be_mixed_is_refused(
    tmp_path: Path, clipset: Make, cache: Cache, encoders, draw_clip
):
    def mix(plan: MixPlan, **how: object) -> Prepared:
        sets = [clipset(tmp_path / "set", **how)]
        return prepare(sets, cache, encoders, regions={"subject": 1.0}, mix=plan)

    draw_clip(tmp_path / "set", 0)
    with pytest.raises(ValueError, match=r"2 subjects need as many clips with masks, there is 1"):
        mix(MixPlan(FLAT))
    draw_clip(tmp_path / "set", 1, size=48)
    with pytest.raises(ValueError, match=r"in latent space subjects come from clips of one size"):
        mix(MixPlan(FLAT, space="latent"), enlarge=False, resolution=48)
    with pytest.raises(ValueError, match=r"no room for 2 subjects in any clip, at 3 to 4 of"):
        mix(MixPlan(FLAT, scale=(3.0, 4.0)))
    with pytest.raises(ValueError, match=r"mix: no clip has a mask"):
        mix(MixPlan(FLAT), masking={"source": "none", "folders": {}})
    assert encoders.encoded == 0


def test_captions_join_by_the_template_whatever_they_hold() -> None:
    assert join_captions(["x"], "{a} and {b}") == "x"
    assert join_captions(["{b}", "{a}"], "{a} and {b}") == "{b} and {a}"
    assert join_captions(["x", "y", "z"], "{a}, {b}") == "x, y, z"
