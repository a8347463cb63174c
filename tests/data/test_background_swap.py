"""A clip over another background: what stays bit for bit, and what the seam looks like."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from frisket.data.background_swap import COLOURS, composite, draw, flat, gradient, noise
from frisket.pocket import world


def clip(frames: int = 3, height: int = 12, width: int = 10, seed: int = 0) -> Tensor:
    """A clip of random pixels."""
    generator = torch.Generator().manual_seed(seed)
    shape = (frames, height, width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def subject(scene: world.Scene, size: int) -> tuple[Tensor, Tensor]:
    """A scene of the pocket world as a clip and the plane of its whole subject."""
    picture, regions = world.draw(scene, size)
    keep = np.clip(sum(regions.values()), 0, 1)
    return torch.from_numpy(picture)[None], torch.from_numpy(keep)[None]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), despill=st.floats(0, 1))
def test_whole_pixels_of_clip_and_background_are_kept_bit_for_bit(
    seed: int, despill: float
) -> None:
    frames, ground = clip(seed=seed), clip(seed=seed + 1)
    keep = clip(seed=seed + 2)[..., 0].float().div(255).mul(3).sub(1).clamp(0, 1)
    out = composite(frames, keep, ground, despill=despill)
    assert torch.equal(out[keep == 1], frames[keep == 1])
    assert torch.equal(out[keep == 0], ground[keep == 0])


def test_soft_pixels_mix_in_proportion() -> None:
    frames, ground = clip(), clip(seed=1)
    keep = torch.rand(3, 12, 10, generator=torch.Generator().manual_seed(2))
    mixed = keep[..., None] * frames + (1 - keep[..., None]) * ground
    assert (composite(frames, keep, ground).float() - mixed).abs().max() <= 0.51


@pytest.mark.parametrize(("value", "which"), [(1.0, 0), (0.0, 1)])
def test_full_and_empty_masks_give_one_of_the_two(value: float, which: int) -> None:
    pair = clip(), clip(seed=1)
    keep = torch.full((3, 12, 10), value)
    assert torch.equal(composite(pair[0], keep, pair[1], feather=2.0, despill=1.0), pair[which])


def test_a_still_background_serves_every_frame() -> None:
    frames, still = clip(), clip(1, seed=1)
    keep = (clip(seed=2)[..., 0] > 128).float()
    assert torch.equal(
        composite(frames, keep, still), composite(frames, keep, still.repeat(3, 1, 1, 1))
    )


def test_a_moving_background_moves() -> None:
    ground = clip(seed=1)
    assert torch.equal(composite(clip(), torch.zeros(3, 12, 10), ground), ground)


def test_feather_softens_a_hard_seam_and_no_more() -> None:
    frames = torch.full((1, 9, 40, 3), 200, dtype=torch.uint8)
    keep = torch.zeros(1, 9, 40)
    keep[..., 20:] = 1
    row = composite(frames, keep, torch.zeros_like(frames), feather=4.0)[0, 4, :, 0].int()
    assert (row[:16] == 0).all()
    assert (row[24:] == 200).all()
    assert (row[16:24].diff() > 0).all()


def test_a_flat_subject_is_despilled_exactly() -> None:
    alpha = torch.linspace(0, 1, 21).repeat(5, 1)[None]
    alpha = torch.cat([torch.zeros(1, 5, 8), alpha, torch.ones(1, 5, 8)], 2)
    red, green = torch.tensor([220.0, 40, 40]), torch.tensor([30.0, 200, 60])
    mixed = alpha[..., None] * red + (1 - alpha[..., None]) * green
    ground = torch.full((1, 5, 37, 3), 90, dtype=torch.uint8)
    wanted = alpha[..., None] * red + (1 - alpha[..., None]) * 90
    out = composite(mixed.round().to(torch.uint8), alpha, ground, despill=1.0)
    assert (out.float() - wanted).abs().max() <= 1.5
    plain = composite(mixed.round().to(torch.uint8), alpha, ground)
    assert (plain.float() - wanted).abs().max() > 30


@pytest.mark.parametrize("size", [32, 256])
def test_despill_halves_the_error_of_the_seam(size: int) -> None:
    """Against the same scene drawn on the new background; patterned old backgrounds included."""
    rng = np.random.RandomState(0)
    errors: dict[float, list[float]] = {0.0: [], 1.0: []}
    for index in range(12):
        scene = world.random_creature(rng) if index % 2 else world.random_scene(rng)
        ground = world.random_background(rng)
        frames, keep = subject(scene, size)
        truth, _ = subject(replace(scene, background=ground), size)
        behind = torch.from_numpy(world.draw_background(ground, size))[None]
        seam = (keep > 0) & (keep < 1)
        for despill, errors_so_far in errors.items():
            out = composite(frames, keep, behind, despill=despill)
            errors_so_far.append(float((out.float() - truth.float())[seam].square().mean()))
    assert np.mean(errors[1.0]) < 0.5**2 * np.mean(errors[0.0])


def test_feather_with_despill_shows_no_rim_of_the_old_background() -> None:
    scene = world.Scene(
        world.Background("wall", "white", "white"), "circle", "blue", 16.0, 16.0, 9.0
    )
    frames, keep = subject(scene, 64)
    black = flat("black", 64, 64)[0][None]
    with_rim = composite(frames, keep, black, feather=4.0)
    without = composite(frames, keep, black, feather=4.0, despill=1.0)
    red_of_subject = world.COLOURS["blue"][0]
    assert with_rim[..., 0].max() > 2 * red_of_subject
    assert without[..., 0].max() <= red_of_subject + 2


def test_despill_is_blended_by_its_strength() -> None:
    scene = world.Scene(
        world.Background("wall", "white", "white"), "circle", "blue", 16.0, 16.0, 9.0
    )
    frames, keep = subject(scene, 32)
    ground = flat("red", 32, 32)[0][None]
    none, half, whole = (
        composite(frames, keep, ground, despill=strength).float() for strength in (0.0, 0.5, 1.0)
    )
    assert ((none + whole) / 2 - half).abs().max() <= 1


def test_a_soft_mask_over_a_whole_picture_has_no_background_to_take_out() -> None:
    frames, ground = clip(), clip(seed=1)
    keep = torch.full((3, 12, 10), 0.5)
    out = composite(frames, keep, ground, despill=1.0)
    assert torch.equal(out, composite(frames, keep, ground))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"background": clip(2)}, r"background of \(2, 12, 10, 3\) .* \(3, 12, 10, 3\)"),
        ({"background": clip(1, 12, 11)}, r"\(1, 12, 11, 3\).*cut it to the clip's size"),
        ({"feather": -1.0}, "feather is -1.0"),
        ({"feather": float("nan")}, "feather is nan"),
        ({"despill": 1.5}, "despill is 1.5"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], said: str) -> None:
    options = {"background": clip(1), **changes}
    with pytest.raises(ValueError, match=said):
        composite(clip(), torch.ones(3, 12, 10), **options)


@pytest.mark.parametrize("kind", ["flat", "gradient", "noise"])
def test_drawn_backgrounds_are_seeded_and_of_the_asked_size(kind: Any) -> None:
    first, words = draw(kind, np.random.default_rng(3), 20, 33)
    again, same_words = draw(kind, np.random.default_rng(3), 20, 33)
    assert first.shape == (20, 33, 3)
    assert torch.equal(first, again)
    assert words == same_words
    assert len({draw(kind, np.random.default_rng(seed), 8, 8)[1] for seed in range(20)}) > 2


def test_a_flat_background_is_its_colour() -> None:
    picture, words = flat("green", 4, 5)
    assert words == "a plain green background"
    assert picture.unique(dim=0).shape[0] == 1
    assert tuple(picture[0, 0].tolist()) == COLOURS["green"]
    with pytest.raises(ValueError, match="no colour 'gren'"):
        flat("gren", 4, 5)


@pytest.mark.parametrize("seed", range(8))
def test_the_words_of_a_gradient_are_true(seed: int) -> None:
    picture, words = gradient(np.random.default_rng(seed), 33, 47)
    start, end = words.split("from ")[1].split(" to ")[0], words.split(" to ")[1].split(" ")[0]
    places = {
        "top": (picture[0, 23], picture[-1, 23]),
        "left": (picture[16, 0], picture[16, -1]),
        "centre": (picture[16, 23], picture[0, 0]),
    }
    first, last = next(ends for place, ends in places.items() if place in words)
    for colour, found in ((start, first), (end, last)):
        assert (found.int() - torch.tensor(COLOURS[colour])).abs().max() <= 1


@pytest.mark.parametrize("seed", range(8))
def test_the_words_of_noise_are_true(seed: int) -> None:
    picture, words = noise(np.random.default_rng(seed), 96, 96)
    levels = picture.float()
    grey = bool((levels[..., 0] == levels[..., 1]).all())
    step = levels.diff(dim=1).abs().mean() / levels.std()
    assert grey == ("grey" in words)
    assert (step > 0.8) == ("fine" in words)
