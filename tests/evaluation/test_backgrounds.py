"""Likeness of backgrounds: colour and texture, outside the subject, between base and copy."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frisket.evaluation.backgrounds import (
    BackgroundFeatures,
    compare_backgrounds,
    describe_background,
    find_nearest,
    measure_leak,
    score_copies,
)

seeds = st.integers(0, 10_000)


def alike(one: BackgroundFeatures, other: BackgroundFeatures) -> float:
    return compare_backgrounds(one, other)["both"]


def pictures(seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, 24, 24, 3), generator=draw, dtype=torch.uint8)


def stripes(across: bool, dark: int, light: int) -> torch.Tensor:
    line = torch.where(torch.arange(32) // 4 % 2 == 0, dark, light).to(torch.uint8)
    plane = line.expand(32, 32) if across else line[:, None].expand(32, 32)
    return plane[None, ..., None].expand(1, 32, 32, 3).contiguous()


def everywhere(frames: torch.Tensor) -> torch.Tensor:
    return torch.ones(frames.shape[:3])


def flat(*colour: int) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.uint8).expand(1, 32, 32, 3).contiguous()


def look_of(frames: torch.Tensor):
    return describe_background(frames, everywhere(frames))


@given(seeds, seeds)
@settings(max_examples=15)
def test_likeness_is_symmetric_bounded_and_one_for_itself(left: int, right: int) -> None:
    a, b = look_of(pictures(left)), look_of(pictures(right))
    there, back = compare_backgrounds(a, b), compare_backgrounds(b, a)
    for name, value in there.items():
        assert 0 <= value <= 1
        assert back[name] == pytest.approx(value)
    assert alike(a, a) == pytest.approx(1)


def test_what_is_inside_does_not_count() -> None:
    frames = pictures(1)
    outside = everywhere(frames)
    outside[:, 6:18, 6:18] = 0
    other = frames.clone()
    other[:, 6:18, 6:18] = 255 - other[:, 6:18, 6:18]
    assert alike(
        describe_background(frames, outside), describe_background(other, outside)
    ) == pytest.approx(1)


def test_texture_sees_direction_and_colour_does_not() -> None:
    turned = compare_backgrounds(look_of(stripes(True, 40, 200)), look_of(stripes(False, 40, 200)))
    assert turned["colour"] == pytest.approx(1)
    assert turned["texture"] < 0.6
    repainted = compare_backgrounds(
        look_of(stripes(True, 0, 120)), look_of(stripes(True, 130, 250))
    )
    assert repainted["texture"] > 0.8
    assert repainted["colour"] < 0.3


def test_a_colour_a_shade_off_still_counts_and_another_does_not() -> None:
    orange, near, blue = flat(245, 140, 20), flat(235, 150, 30), flat(40, 80, 220)
    assert alike(look_of(orange), look_of(near)) > 0.8
    assert alike(look_of(orange), look_of(blue)) < 0.05


def test_a_subject_that_fills_the_picture_leaves_no_background() -> None:
    frames = pictures(2)
    outside = torch.zeros(frames.shape[:3])
    outside[:, 0, :2] = 1
    assert describe_background(frames, outside) is None


def test_the_nearest_background_is_taken_and_a_copy_scores_as_the_others_do() -> None:
    looks = [look_of(flat(*colour)) for colour in ((250, 0, 0), (0, 250, 0), (0, 250, 0))]
    (best,) = find_nearest([looks[1]], looks, alike)
    assert best == pytest.approx(1)
    # each is held against the two others: red finds nothing, the greens find one another
    assert score_copies(looks, looks, alike) == pytest.approx((alike(looks[0], looks[1]) + 2) / 3)
    assert score_copies(looks[:1], looks[:1], alike) is None
    with pytest.raises(ValueError, match="of what clips"):
        score_copies(looks, looks[:1], alike)


def test_leak_runs_from_the_base_to_a_copy() -> None:
    told = measure_leak([0.2, 0.9, 0.1], [0.2, 0.2, 0.2], copy=0.9, least=0.1)
    assert told == pytest.approx([0, 1, -0.1 / 0.7])
    assert measure_leak([0.5], [0.85], copy=0.9, least=0.1) is None
    assert measure_leak([0.5], [0.1], copy=None, least=0.1) is None
