"""Scenes painted of cutouts: a subject's pixels are its own, regions are what is visible."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from frisket.data.composites.paint import add_planes, extend, lay_regions, paste, resize_frames
from frisket.data.composites.places import Placement, lay_plane


def random(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def picture(seed: int, frames: int = 1, side: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (frames, side, side, 3), dtype=torch.uint8, generator=generator)


def box(top: int, bottom: int, left: int, right: int, side: int = 16) -> Tensor:
    plane = torch.zeros(1, side, side)
    plane[:, top:bottom, left:right] = 1
    return plane


@pytest.mark.parametrize(("down", "right"), [(0, 0), (5, 3), (-3, 6)])
def test_a_pasted_subject_is_its_own_bit_for_bit(down: int, right: int) -> None:
    canvas, frames, keep = picture(0), picture(1), box(4, 9, 3, 8)
    before = canvas.clone()
    paste(canvas, frames, keep, Placement(1.0, down, right))
    moved = lay_plane(keep, (16, 16), down, right)
    assert torch.equal(canvas[moved == 1].flatten(), frames[keep == 1].flatten())
    assert torch.equal(canvas[moved == 0], before[moved == 0])


def test_a_smaller_subject_of_one_colour_keeps_its_colour() -> None:
    frames = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    frames[:] = torch.tensor([200, 40, 90], dtype=torch.uint8)
    canvas = picture(0)
    paste(canvas, frames, box(2, 14, 2, 14), Placement(0.5, 4, 4))
    assert torch.equal(canvas[0, 5:11, 5:11], frames[0, :6, :6])
    assert resize_frames(frames, 0.5).shape == (1, 8, 8, 3)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 999),
    scale=st.sampled_from([0.5, 0.8, 1.0]),
    down=st.integers(-6, 6),
    right=st.integers(-6, 6),
)
def test_regions_after_a_mix_sum_to_one_at_most(
    seed: int, scale: float, down: int, right: int
) -> None:
    def planes(start: int, *names: str) -> dict[str, Tensor]:
        return {
            name: random(seed + start + n, 1, 16, 16).mul(2).sub(0.7).clamp(0, 1)
            for n, name in enumerate(names)
        }

    ground, first, second = planes(0, "cat"), planes(10, "cat", "hat"), planes(20, "dog")
    places = Placement(scale, down, right), Placement(1.0, right, down)
    mixed = lay_regions(ground, [(first, places[0]), (second, places[1])], (16, 16), 1)
    assert sorted(mixed) == ["cat", "dog", "hat"]
    total = torch.stack(list(mixed.values())).sum(0)
    assert (total <= 1 + 1e-5).all()
    assert all((plane >= 0).all() for plane in mixed.values())
    top = lay_plane(second["dog"], (16, 16), right, down)
    assert torch.allclose(mixed["dog"], top)  # nothing lies above it
    assert (mixed["cat"] + mixed["hat"] <= 1 - top + 1e-5).all()  # the rest shows where it does not


def test_a_region_below_is_left_where_nothing_lies_above() -> None:
    mixed = lay_regions(
        {"cat": box(0, 8, 0, 8), "wall": box(8, 16, 0, 16)},
        [({"dog": box(0, 6, 0, 6)}, Placement(1.0, 5, 5))],
        (16, 16),
        1,
    )
    dog = box(5, 11, 5, 11)
    assert torch.equal(mixed["dog"], dog)
    assert torch.equal(mixed["cat"], box(0, 8, 0, 8) * (1 - dog))
    assert torch.equal(mixed["wall"], box(8, 16, 0, 16) * (1 - dog))


def test_regions_that_claim_the_same_pixels_share_them() -> None:
    both = {"face": box(0, 4, 0, 4), "body": box(0, 8, 0, 8)}
    mixed = lay_regions({}, [(both, Placement(1.0, 0, 0))], (16, 16), 1)
    assert float(mixed["face"][0, 0, 0]) == 0.5
    assert torch.equal(mixed["face"] + mixed["body"], add_planes(both))


def test_a_shorter_clip_runs_forwards_and_backwards() -> None:
    assert extend(torch.arange(3), 7).tolist() == [0, 1, 2, 1, 0, 1, 2]
    assert extend(torch.arange(3), 2).tolist() == [0, 1]
    assert extend(torch.arange(1), 3).tolist() == [0, 0, 0]
