"""Wide pictures of two creatures: drawn as captioned, judged by halves."""

import numpy as np
import pytest

from frisket.pocket.judge import find_creature
from frisket.pocket.pairs import (
    PairScene,
    PairVerdict,
    count_verdicts,
    draw_pair,
    find_backgrounds,
    generate_pair,
    judge_pairs,
    judge_shapes,
    split,
)
from frisket.pocket.world import CREATURES, Background, Scene, draw, random_creature

GROUND = Background("checks", "white", "green")


def draw_creatures(word: str, count: int, seed: int) -> np.ndarray:
    rng = np.random.RandomState(seed)
    return np.stack([draw(random_creature(rng, GROUND, word))[0] for _ in range(count)])


@pytest.mark.parametrize("word", CREATURES)
def test_regions_of_a_creature_are_disjoint_and_stay_in_their_half(word: str) -> None:
    rng = np.random.RandomState(1)
    for _ in range(20):
        _, planes = draw(random_creature(rng, GROUND, word))
        total = sum(planes.values())
        assert total.max() <= 1 + 1e-6
        assert all(plane.min() >= 0 for plane in planes.values())
        assert all(plane.max() > 0.5 for plane in planes.values())


def test_each_template_matches_its_creature_alone() -> None:
    for word, other in (("sks", "zwx"), ("zwx", "sks")):
        pictures = draw_creatures(word, 12, seed=2)
        assert find_creature(pictures, word)[0].min() > 18
        assert find_creature(pictures, other)[0].max() < 9


def test_a_pair_is_judged_by_what_stands_where() -> None:
    first, second = draw_creatures("sks", 6, seed=3), draw_creatures("zwx", 6, seed=4)
    empty = draw(Scene(GROUND))[0][None].repeat(6, 0)
    blend = ((first.astype(float) + second) / 2).round().astype(np.uint8)
    cases = {
        "right": (first, second),
        "swapped": (second, first),
        "twins": (first, first[::-1]),
        "one": (empty, second),
        "none": (empty, blend),
    }
    for kind, halves in cases.items():
        verdicts = judge_pairs(np.concatenate(halves, axis=2))
        assert {verdict.kind for verdict in verdicts} == {kind}
        assert count_verdicts(verdicts)["mixup"] == float(kind != "right")


def test_the_tally_counts_shares_blends_and_how_many_are_found() -> None:
    verdicts = [PairVerdict("sks", "zwx"), PairVerdict("blend", "zwx"), PairVerdict("sks", "sks")]
    tally = count_verdicts([*verdicts, PairVerdict("", "")])
    assert tally["right"] == tally["one"] == tally["twins"] == tally["none"] == 0.25
    assert tally["mixup"] == 0.75
    assert tally["blends"] == 0.25
    assert tally["found"] == (2 + 1 + 1 + 0) / 4


def test_shapes_and_backgrounds_of_drawn_pairs_are_all_right() -> None:
    rng = np.random.RandomState(5)
    scenes = [generate_pair(rng) for _ in range(6)]
    pictures = np.stack([draw_pair(scene)[0] for scene in scenes])
    assert judge_shapes(pictures, scenes)["all"] >= 0.8  # the judge reads one in 20 amiss
    creatures = [
        PairScene(random_creature(rng, GROUND), random_creature(rng, GROUND, "zwx"))
        for _ in range(4)
    ]
    pictures = np.stack([draw_pair(scene)[0] for scene in creatures])
    assert find_backgrounds(pictures, [GROUND] * 4).all()
    assert not find_backgrounds(pictures, [Background("wall", "red", "red")] * 4).any()


def test_planes_of_a_pair_lie_in_their_halves() -> None:
    rng = np.random.RandomState(6)
    pair = PairScene(random_creature(rng, GROUND), random_creature(rng, GROUND, "zwx"))
    picture, planes = draw_pair(pair)
    assert picture.shape == (32, 64, 3)
    assert planes["left"][:, 32:].max() == planes["right"][:, :32].max() == 0
    assert planes["left"].max() == planes["right"].max() == 1
    assert pair.caption == "sks and zwx on white and green checks"


def test_captions_leave_out_an_empty_half() -> None:
    full, empty = Scene(GROUND, "ring", "red"), Scene(GROUND)
    assert PairScene(full, empty).caption == "a red ring on white and green checks"
    assert PairScene(empty, empty).caption == "nothing on white and green checks"


def test_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="32 x 64"):
        split(np.zeros((1, 32, 32, 3), np.uint8))
