"""Loose masks: boxes as LoRA-Edit's authors draw them, and whole cells."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.families import lora_edit_scene as scene

from frisket.masks.loose import draw_boxes, join_frames, widen_to_cells

RECORD = json.loads((Path(scene.__file__).parent / "lora_edit.json").read_text())


@pytest.mark.parametrize("name", scene.PIECES)
def test_boxes_are_those_of_the_authors(name):
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(RECORD["boxes"][name]), np.uint8))
    theirs = torch.from_numpy(bits.reshape(scene.BOX_SIZE)).float()
    ours = draw_boxes(scene.mark(scene.PIECES[name], scene.BOX_SIZE)[None])
    assert torch.equal(ours[0], theirs)


def test_the_record_tells_boxes_apart():
    assert len(set(RECORD["boxes"].values())) == len(scene.PIECES)


planes = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(seed)) > 0.85
    ).repeat_interleave(4, 1).repeat_interleave(4, 2).float()
)  # fmt: skip


@given(planes, st.sampled_from([1, 4, 8]), st.floats(0, 0.5))
def test_loose_masks_hold_what_they_are_around(plane, step, margin):
    boxes = draw_boxes(plane, margin, smallest=0)
    assert (boxes >= plane).all()
    cells = widen_to_cells(boxes, step)
    assert (cells >= boxes).all()
    assert torch.equal(widen_to_cells(cells, step), cells)
    joined = join_frames(cells)
    assert (joined >= cells).all()
    assert (joined == joined[:1]).all()


@given(planes)
def test_whole_cells_are_read_alike_at_any_of_their_pixels(plane):
    cells = widen_to_cells(plane, 8).unflatten(2, (-1, 8)).unflatten(1, (-1, 8))
    assert torch.equal(cells.amax((2, 4)), cells.amin((2, 4)))


def test_an_empty_frame_has_no_box_and_sides_must_fit():
    assert not draw_boxes(torch.zeros(2, 16, 16)).any()
    with pytest.raises(ValueError, match="not whole cells of 16"):
        widen_to_cells(torch.zeros(1, 24, 16), 16)
    with pytest.raises(ValueError, match="margin is -1"):
        draw_boxes(torch.zeros(1, 16, 16), -1.0)
