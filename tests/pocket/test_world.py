"""The pocket world is deterministic, captioned, and its masks are exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frisket.pocket.world import (
    COLOURS,
    NOVEL_COLOURS,
    PALETTE,
    PATTERNS,
    SHAPES,
    ZIGZAG,
    Background,
    Scene,
    creature,
    draw,
    draw_background,
    frames_of,
    is_held_out,
    random_background,
    random_creature,
    random_scene,
    shape_alpha,
)

seeds = st.integers(0, 10_000)


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_a_scene_is_its_background_with_paint_under_its_mask(seed: int) -> None:
    scene = random_scene(np.random.RandomState(seed))
    picture, planes = draw(scene)
    alpha = planes["subject"]
    assert picture.dtype == np.uint8
    assert picture.shape == (32, 32, 3)
    assert (alpha.min(), alpha.max()) == (0, 1)
    np.testing.assert_array_equal(
        picture[alpha == 0], draw_background(scene.background)[alpha == 0]
    )
    assert (picture[alpha == 1] == COLOURS[scene.colour]).all()


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_creature_regions_are_disjoint_and_whole(seed: int) -> None:
    scene = random_creature(np.random.RandomState(seed))
    picture, planes = draw(scene)
    assert set(planes) == {"body", "eye", "legs"}
    whole = sum(planes.values())
    assert min(plane.min() for plane in planes.values()) >= -1e-6
    assert whole.max() <= 1 + 1e-6
    assert all(plane.sum() > 3 for plane in planes.values())
    np.testing.assert_array_equal(picture[whole == 0], draw_background(ZIGZAG)[whole == 0])


@given(seeds)
@settings(max_examples=50, deadline=None)
def test_a_subject_never_hides_in_its_background(seed: int) -> None:
    scene = random_scene(np.random.RandomState(seed))
    ground = scene.background
    assert scene.colour not in (ground.first, ground.second)
    assert (ground.first == ground.second) == (ground.pattern == "wall")
    assert scene.shape in SHAPES
    assert ground.pattern in PATTERNS


def test_same_seed_same_scenes() -> None:
    first, second = (
        [random_scene(rng, empty=0.2) for _ in range(20)]
        for rng in (np.random.RandomState(3), np.random.RandomState(3))
    )
    assert first == second


def test_empty_share() -> None:
    rng = np.random.RandomState(0)
    share = np.mean([not random_scene(rng, empty=0.3).shape for _ in range(500)])
    assert 0.22 < share < 0.38
    picture, planes = draw(random_scene(rng, empty=1.0))
    assert planes == {}
    assert picture.shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("scene", "caption"),
    [
        (Scene(Background("wall", "red", "red")), "nothing on a red wall"),
        (
            Scene(Background("dots", "red", "blue"), "ring", "white"),
            "a white ring on red and blue dots",
        ),
        (
            Scene(Background("checks", "red", "blue"), "ring", "white", motion="rising"),
            "a rising white ring on red and blue checks",
        ),
        (Scene(ZIGZAG, "sks"), "sks on orange and purple zigzag"),
    ],
)
def test_captions_read_as_a_person_would_write(scene: Scene, caption: str) -> None:
    assert scene.caption == caption


@pytest.mark.parametrize("shape", SHAPES)
def test_bigger_rasters_show_the_same_shape(shape: str) -> None:
    small = shape_alpha(shape, 15.3, 17.1, 8.2)
    big = shape_alpha(shape, 15.3, 17.1, 8.2, 128)
    reduced = big.reshape(32, 4, 32, 4).mean((1, 3))
    assert abs(small - reduced).mean() < 0.01


@pytest.mark.parametrize("pattern", [*PATTERNS, "zigzag"])
def test_patterns_use_exactly_their_colours(pattern: str) -> None:
    second = "green" if pattern == "wall" else "black"
    picture = draw_background(Background(pattern, "green", second), 64)
    assert {tuple(map(int, p)) for p in picture.reshape(-1, 3)} == {
        PALETTE["green"],
        PALETTE[second],
    }


def test_what_is_new_stays_out_of_the_corpus() -> None:
    rng = np.random.RandomState(1)
    grounds = [random_background(rng) for _ in range(300)]
    assert not {g.first for g in grounds} & set(NOVEL_COLOURS)
    assert not {g.second for g in grounds} & set(NOVEL_COLOURS)
    assert ZIGZAG.pattern not in {g.pattern for g in grounds}


def test_motion_moves_the_subject_around_its_place() -> None:
    scene = Scene(Background("wall", "red", "red"), "circle", "blue", 16.0, 16.0, 7.0, "rightward")
    frames = list(frames_of(scene, 5))
    assert [frame.x for frame in frames] == [13.0, 14.5, 16.0, 17.5, 19.0]
    assert {frame.y for frame in frames} == {16}
    still = Scene(Background("wall", "red", "red"), "circle", "blue")
    assert [frame.x for frame in frames_of(still, 3)] == [16.0] * 3


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no background pattern 'tartan'"):
        draw_background(Background("tartan", "red", "blue"))
    with pytest.raises(ValueError, match="no shape 'hexagon'"):
        shape_alpha("hexagon", 16.0, 16.0, 8.0)


def test_creature_paint_is_pink_left_and_teal_right() -> None:
    paint, planes = creature(16.0, 16.0, 9.0)
    assert tuple(paint[16, 10]) == PALETTE["pink"]
    assert tuple(paint[16, 21]) == PALETTE["teal"]
    assert planes["body"][16, 10] == 1


def test_one_caption_in_eight_is_held_out_and_always_the_same() -> None:
    rng = np.random.RandomState(2)
    scenes = [random_scene(rng) for _ in range(2000)]
    assert 0.10 < np.mean([is_held_out(scene) for scene in scenes]) < 0.15
    assert not is_held_out(random_scene(rng, empty=1.0))
    known = Scene(Background("dots", "red", "blue"), "ring", "white")
    assert is_held_out(known) == is_held_out(
        Scene(known.background, "ring", "white", 10.0, 11.0, 7.0)
    )
