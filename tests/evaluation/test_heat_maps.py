"""Attention drawn over pictures: where it is bright, what is outlined, how large it is."""

import numpy as np
import pytest
import torch

from frisket.evaluation.heat_maps import SIDE, draw_heat_maps, draw_plain


def draw_corner(*, outlined: bool = False) -> np.ndarray:
    frames = torch.full((1, 32, 32, 3), 90, dtype=torch.uint8)
    attention = torch.full((1, 8, 8), 0.01)
    attention[0, 6, 6] = 0.4
    coverage = torch.zeros(1, 8, 8)
    coverage[0, 1:4, 1:4] = 1
    return draw_heat_maps(frames, attention, coverage if outlined else None)


def test_it_is_brightest_where_the_phrase_looks_hardest():
    drawn = draw_corner()
    assert drawn.shape == (SIDE, SIDE, 3)
    assert drawn.dtype == np.uint8
    row, column = np.unravel_index(drawn.sum(-1).argmax(), drawn.shape[:2])
    cell = SIDE / 8
    assert (row // cell, column // cell) == (6, 6)
    dark = drawn[: SIDE // 4, : SIDE // 4].astype(int)
    assert dark.max() < drawn.max()


def test_the_region_is_outlined_in_white():
    changed = (draw_corner(outlined=True) != draw_corner()).any(-1)
    assert changed.any()
    rows, columns = changed.nonzero()
    cell = SIDE // 8
    for places in (rows, columns):
        assert places.min() == pytest.approx(cell, abs=2)
        assert places.max() == pytest.approx(4 * cell, abs=2)
    assert (draw_corner(outlined=True)[changed] == 255).all(-1).any()


def test_a_clip_shows_its_first_middle_and_last_frame():
    frames = torch.zeros(9, 16, 24, 3, dtype=torch.uint8)
    attention = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0))
    drawn = draw_heat_maps(frames, attention)
    assert drawn.shape == draw_plain(frames, 3).shape == (16 * 8, 3 * 24 * 8, 3)


def test_a_map_without_a_peak_is_drawn_flat_and_large_pictures_keep_their_size():
    frames = torch.full((1, 200, 256, 3), 60, dtype=torch.uint8)
    drawn = draw_heat_maps(frames, torch.full((1, 4, 4), 0.2))
    assert drawn.shape == (200, 256, 3)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def test_other_cells_than_the_map_has_are_refused():
    with pytest.raises(ValueError, match=r"map of \(1, 4, 4\) cells and a coverage of \(1, 2, 2\)"):
        draw_heat_maps(
            torch.zeros(1, 8, 8, 3, dtype=torch.uint8), torch.ones(1, 4, 4), torch.ones(1, 2, 2)
        )
