import pytest
import torch

from frisket.faces.keypoints import COLOURS, draw_keypoints, measure_strokes

POINTS = torch.tensor([[0.35, 0.4], [0.65, 0.4], [0.5, 0.55], [0.38, 0.7], [0.62, 0.7]])


def test_each_point_has_its_colour():
    picture = draw_keypoints(POINTS * 256, 256, 256)
    for (x, y), colour in zip((POINTS * 256).int().tolist(), COLOURS, strict=True):
        assert tuple(picture[y, x].tolist()) == colour


def test_scaled_strokes_are_theirs_at_their_size_and_smaller_below():
    assert measure_strokes(1024, 1024) == (4, 10)
    assert measure_strokes(64, 64) == (1, 1)
    assert measure_strokes(2048, 2048) == (8, 20)
    theirs = draw_keypoints(POINTS * 1024, 1024, 1024)
    assert torch.equal(theirs, draw_keypoints(POINTS * 1024, 1024, 1024, scaled=True))
    small = draw_keypoints(POINTS * 128, 128, 128, scaled=True)
    assert (small > 0).sum() < (draw_keypoints(POINTS * 128, 128, 128) > 0).sum()


def test_points_outside_are_cut_and_others_refused():
    picture = draw_keypoints(POINTS * 64 - 100, 64, 48)
    assert picture.shape == (64, 48, 3)
    with pytest.raises(ValueError, match="not finite; detect"):
        draw_keypoints(POINTS * float("nan"), 64, 64)
