"""What an image adapter is shown: the region, centred on grey, and nothing of the rest."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frisket.runs.image_adapters.cutting import choose_latent_frame, crop_frame, cut_out


def draw_frame(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (height, width, 3), generator=generator).to(torch.uint8)


@given(
    top=st.integers(0, 11), left=st.integers(0, 15), height=st.integers(1, 4),
    width=st.integers(1, 4),
)  # fmt: skip
def test_only_the_region_is_shown(top: int, left: int, height: int, width: int) -> None:
    plane = torch.zeros(12, 16)
    plane[top : top + height, left : left + width] = 1
    frame = draw_frame(96, 128)
    shown = cut_out(frame, plane)
    assert shown is not None
    assert shown.shape[0] == shown.shape[1]
    changed = frame.clone()
    # Coverage is laid out softly over half a cell around each.
    top, left = max(0, 8 * top - 4), max(0, 8 * left - 4)
    bottom, right = top + 8 * height + 8, left + 8 * width + 8
    outside = torch.ones(96, 128, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    changed[outside] = 0
    assert torch.equal(cut_out(changed, plane), shown)


def test_a_region_at_the_edge_is_padded_and_an_empty_one_is_none() -> None:
    plane = torch.zeros(4, 4)
    assert cut_out(draw_frame(32, 32), plane) is None
    plane[0, 0] = 0.25  # seldom fully covered at the latent grid: the most that there is counts
    shown = cut_out(torch.full((32, 32, 3), 255, dtype=torch.uint8), plane)
    assert shown is not None
    assert int(shown.max()) == round(127 + 0.25 * 128)
    whole = cut_out(draw_frame(32, 48), torch.ones(4, 6))
    assert whole is not None
    assert whole.shape == (58, 58, 3)  # 48 and a margin of 5 on each side


def test_the_crop_is_of_the_file_and_mirrored_after() -> None:
    frame = draw_frame(20, 30)
    assert torch.equal(crop_frame(frame, ()), frame)
    assert torch.equal(
        crop_frame(frame, (2.4, 4.6, 10.0, 12.2), flip=True), frame[2:12, 5:17].flip(1)
    )


@pytest.mark.parametrize(("areas", "frame"), [((1, 3, 2), 1), ((0, 2, 2), 1), ((0,), 0)])
def test_the_frame_that_shows_most_is_taken(areas: tuple[int, ...], frame: int) -> None:
    plane = torch.zeros(len(areas), 2, 2)
    for index, area in enumerate(areas):
        plane[index].flatten()[:area] = 1
    assert choose_latent_frame(plane) == frame
