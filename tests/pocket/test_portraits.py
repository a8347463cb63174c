from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frisket.pocket.portraits import draw_person, sample_person, sample_view
from frisket.pocket.world import Background

WALL = Background("wall", "blue", "blue")


def draws(seed, side=64, spread=1.0):
    rng = np.random.RandomState(seed)
    person = sample_person(rng)
    view = sample_view(rng, spread=spread)
    return person, view, draw_person(person, view, side)


@given(st.integers(0, 5000), st.sampled_from([32, 48, 64, 112]))
def test_masks_and_key_points_lie_in_the_picture_and_on_the_face(seed, side):
    _, _, portrait = draws(seed, side)
    face, hair = portrait.planes["face"], portrait.planes["hair"]
    assert portrait.picture.shape == (side, side, 3)
    assert min(face.min(), hair.min()) >= 0
    assert (face + hair).max() <= 1 + 1e-6
    assert 0.06 < face.mean() < 0.6
    for x, y in portrait.keypoints.round().astype(int):
        assert 0 <= x < side
        assert 0 <= y < side
        near = np.s_[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]  # a turned mouth is at the edge
        assert (face + hair)[near].max() > 0.5
    eyes_nose_mouth = portrait.keypoints
    assert eyes_nose_mouth[0, 0] < eyes_nose_mouth[1, 0]
    assert eyes_nose_mouth[3, 0] < eyes_nose_mouth[4, 0]


def test_the_same_seed_draws_the_same_and_outside_is_the_background():
    person, view, portrait = draws(3)
    assert np.array_equal(portrait.picture, draws(3)[2].picture)
    other = draw_person(person, replace(view, background=WALL))
    inside = portrait.planes["face"] + portrait.planes["hair"]
    assert np.array_equal(portrait.picture[inside >= 1], other.picture[inside >= 1])
    assert (other.picture[inside == 0] == (40, 80, 220)).all()


def test_key_points_do_not_depend_on_the_size_of_the_picture():
    person, view, large = draws(4, 112)
    small = draw_person(person, view, 56)
    assert np.allclose((large.keypoints + 0.5) / 2, small.keypoints + 0.5, atol=1e-3)


def test_pupils_are_dark_where_the_key_points_say():
    _, _, portrait = draws(5, 112, spread=0.0)
    for x, y in portrait.keypoints[:2].round().astype(int):
        assert portrait.picture[y, x].max() < 60


def test_a_picture_too_small_is_refused():
    person, view, _ = draws(0)
    with pytest.raises(ValueError, match="side: 24 pixels are too few"):
        draw_person(person, view, 24)
