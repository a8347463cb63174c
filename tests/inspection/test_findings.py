"""Faults are found where they are, and nowhere else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frisket.grid import LatentGrid
from frisket.inspection.findings import Finding, look_at_masks, look_at_sizes, sort_by_severity
from frisket.masks.coverage import to_latent

IMAGE = LatentGrid(channels=4, spatial=8)
VIDEO = LatentGrid(channels=16, spatial=8, temporal=4)


def look(planes: dict[str, torch.Tensor], grid: LatentGrid = IMAGE) -> list[Finding]:
    cells = to_latent(torch.stack(list(planes.values())), grid)
    return look_at_masks("clip", planes, dict(zip(planes, cells, strict=True)), grid)


def kinds(findings: list[Finding]) -> list[str]:
    return [one.kind for one in findings]


def box(top: int, left: int, high: int, wide: int, frames: int = 1) -> torch.Tensor:
    plane = torch.zeros(frames, 64, 64)
    plane[:, top : top + high, left : left + wide] = 1
    return plane


@given(st.integers(8, 24), st.integers(8, 24), st.integers(24, 32), st.integers(24, 32))
def test_a_plain_box_in_the_picture_has_no_fault(top: int, left: int, high: int, wide: int) -> None:
    assert look({"subject": box(top, left, high, wide)}) == []


def test_empty_and_full() -> None:
    assert kinds(look({"subject": torch.zeros(1, 64, 64)})) == ["empty"]
    assert kinds(look({"subject": torch.ones(1, 64, 64)})) == ["full"]
    halves = {"left": box(0, 0, 64, 32), "right": box(0, 32, 64, 32)}
    assert kinds(look(halves)) == ["full"]


def test_an_empty_region_beside_a_drawn_one_is_no_fault_of_the_clip() -> None:
    assert look({"body": box(16, 16, 32, 32), "hat": torch.zeros(1, 64, 64)}) == []


def test_tiny() -> None:
    (found,) = look({"subject": box(24, 24, 8, 8)})
    assert found.kind == "tiny"
    assert "1.56%" in found.sentence


def test_inverted_needs_a_border_without_a_centre() -> None:
    assert kinds(look({"subject": 1 - box(12, 12, 40, 40)})) == ["inverted"]
    assert look({"subject": box(0, 0, 40, 64)}) == []  # a large subject that touches the border


@pytest.mark.parametrize("offset", range(4))
def test_a_line_thinner_than_a_cell_is_lost(offset: int) -> None:
    planes = {"body": box(16, 16, 32, 32), "strap": box(16 + offset, 0, 3, 64)}
    (found,) = look(planes)
    assert found.kind == "lost at the grid"
    assert "strap is thinner than a latent cell (8 pixels)" in found.sentence


def test_a_scattered_region_tells_how_much_is_lost() -> None:
    dots = torch.zeros(1, 64, 64)
    dots[:, 0:8, 0:8] = 1
    dots[:, ::8, 16:] = 1
    (found,) = look({"spots": dots})
    assert "83% of spots" in found.sentence or "86% of spots" in found.sentence


def test_a_fast_region_is_lost_in_time() -> None:
    plane = torch.zeros(9, 64, 64)
    for frame in range(9):
        plane[frame, 24:40, 7 * frame : 7 * frame + 8] = 1
    still = box(24, 24, 16, 16, frames=9)
    assert look({"subject": still}, VIDEO) == []
    assert "lost at the grid" in kinds(look({"subject": plane}, VIDEO))


def test_sizes() -> None:
    assert look_at_sizes("a", (512, 512), (512, 512), {"a.png": (512, 512)}) == []
    other = look_at_sizes("a", (512, 512), (512, 512), {"a.png": (256, 256)})
    assert [(one.kind, one.severity) for one in other] == [("size", "note")]
    (wrong,) = look_at_sizes("a", (512, 512), (512, 512), {"a.png": (512, 768)})
    assert (wrong.kind, wrong.severity) == ("aspect", "error")
    assert "a.png is 768 x 512 but the clip is 512 x 512" in wrong.sentence
    (large,) = look_at_sizes("a", (100, 200), (256, 512), {})
    assert "enlarged 2.6 times" in large.sentence


def test_order_is_errors_first_and_clips_as_given() -> None:
    notes = [Finding("size", "note", clip, "", "") for clip in "ba"]
    error = Finding("aspect", "error", "z", "", "")
    assert sort_by_severity([*notes, error]) == [error, *notes]
