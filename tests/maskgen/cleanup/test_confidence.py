"""How sure a mask is: each kind of evidence, the weakest of them, and many frames."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frisket.maskgen.base import Detections, Instance, RgbPicture, SoftMask
from frisket.maskgen.cleanup.confidence import (
    DOUBT,
    Evidence,
    RunningConfidence,
    Stability,
    Term,
    assess,
    judge,
    stability,
)
from frisket.maskgen.cleanup.stages import Prompts

UNIT = st.floats(0, 1, allow_nan=False)
TERMS = st.none() | UNIT.map(lambda worth: Term(worth, worth))
EVIDENCE = st.builds(Evidence, TERMS, TERMS, TERMS, TERMS, TERMS, TERMS)


def rectangle(top: int, left: int, bottom: int, right: int, size: int = 100) -> SoftMask:
    mask = torch.zeros(size, size)
    mask[top:bottom, left:right] = 1
    return mask


def test_a_plain_subject_in_the_middle_has_nothing_against_it() -> None:
    found = assess(rectangle(20, 20, 80, 80))
    assert found.confidence == 1
    assert found.score is None


@pytest.mark.parametrize(
    ("mask", "confidence", "reason"),
    [
        (rectangle(0, 0, 0, 0), 0.0, "it covers 0.00% of the picture"),
        (rectangle(50, 50, 51, 60), 0.5, "it covers 0.10% of the picture"),
        (rectangle(1, 1, 99, 99), 0.396, "it covers 96.04% of the picture"),
        (rectangle(0, 0, 100, 100), 0.0, "it covers 100.00% of the picture"),
        (1 - rectangle(10, 10, 90, 90), 0.0, "it touches 100% of the picture's border"),
        (1 - rectangle(0, 30, 90, 70), 0.202, "it touches 90% of the picture's border"),
    ],
)
def test_areas_and_borders_no_subject_has(mask: SoftMask, confidence: float, reason: str) -> None:
    found = assess(mask)
    assert found.confidence == pytest.approx(confidence, abs=1e-3)
    assert found.reason == reason


def test_a_bust_cut_by_the_lower_border_is_plausible() -> None:
    assert assess(rectangle(20, 10, 100, 90)).confidence == 1


@pytest.mark.parametrize(
    ("score", "threshold", "worth"),
    [(0.3, 0.3, 0.5), (0.65, 0.3, 0.75), (0.15, 0.3, 0.25), (1.0, 0.3, 1.0), (0.7, 0.5, 0.7)],
)
def test_a_score_at_its_threshold_is_worth_a_half(
    score: float, threshold: float, worth: float
) -> None:
    found = assess(rectangle(20, 20, 80, 80), score=score, threshold=threshold)
    assert found.confidence == pytest.approx(worth)
    assert found.score is not None
    assert found.score.raw == score


def test_a_score_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a score is 3\.0"):
        assess(rectangle(20, 20, 80, 80), score=3.0)


def test_the_weakest_evidence_counts_and_is_named() -> None:
    mask, other = rectangle(20, 20, 80, 80), rectangle(20, 20, 80, 65)
    found = assess(mask, score=0.9, stability=Stability(0.41, 0.8), other=other)
    assert found.confidence == pytest.approx(0.41)
    assert found.reason == "the mirrored picture gave another mask (IoU 0.41)"
    assert found.agreement == Term(0.75, 0.75)
    assert list(found.terms) == ["score", "area", "border", "mirrored", "smaller", "agreement"]


@given(EVIDENCE)
def test_confidence_is_never_above_any_term(evidence: Evidence) -> None:
    terms = evidence.terms
    assert all(0 <= evidence.confidence <= term.worth for term in terms.values())
    assert not terms or evidence.confidence in [term.worth for term in terms.values()]
    assert evidence.reason


@given(EVIDENCE, st.sampled_from(["score", "area", "mirrored", "agreement"]), UNIT, UNIT)
def test_better_evidence_never_lowers_and_more_never_raises(
    evidence: Evidence, name: str, one: float, two: float
) -> None:
    def given_worth(worth: float) -> float:
        parts = evidence.terms | {name: Term(worth, worth)}
        return Evidence(**parts).confidence

    assert given_worth(min(one, two)) <= given_worth(max(one, two))
    if getattr(evidence, name) is None and evidence.terms:
        assert given_worth(one) <= evidence.confidence


@given(UNIT, UNIT, st.floats(0.01, 0.99))
def test_a_higher_score_is_never_worth_less(one: float, two: float, threshold: float) -> None:
    mask = rectangle(2, 2, 7, 7, size=10)
    low, high = (
        assess(mask, score=score, threshold=threshold).confidence for score in sorted((one, two))
    )
    assert low <= high


def test_the_weakest_region_speaks_for_the_picture() -> None:
    regions = {
        "face": assess(rectangle(20, 20, 80, 80), score=0.9),
        "hair": assess(rectangle(20, 20, 80, 80), score=0.6),
    }
    found = judge(regions)
    assert (found.confidence, found.region) == (pytest.approx(0.6), "hair")
    assert found.reason == "the backend is only 60% sure of it"
    assert judge({}).confidence == 0
    assert judge({}).reason == "nothing was found"


def test_what_its_maker_calls_unsure_is_never_sure() -> None:
    sure = {"face": assess(rectangle(20, 20, 80, 80))}
    found = judge(sure, "the face is in the dark")
    assert (found.confidence, found.reason) == (DOUBT, "the face is in the dark")
    assert judge({}, "no face found").reason == "no face found"
    assert judge({"face": assess(torch.zeros(9, 9))}, "dark").confidence == 0


def bright(pictures: Sequence[RgbPicture], wanted: Sequence[Prompts]) -> list[Detections]:
    """Looks at what is there, wherever and however large it is."""
    return [
        Detections((Instance("thing", (it.float().mean(-1) > 127).float()),)) for it in pictures
    ]


def left_half(pictures: Sequence[RgbPicture], wanted: Sequence[Prompts]) -> list[Detections]:
    """Always the same pixels, as a model that has not understood the picture."""
    masks = [torch.zeros(*it.shape[:2]) for it in pictures]
    for mask in masks:
        mask[:, : mask.shape[1] // 2] = 1
    return [Detections((Instance("thing", mask),)) for mask in masks]


def lit() -> RgbPicture:
    picture = torch.zeros(64, 80, 3, dtype=torch.uint8)
    picture[8:40, 16:48] = 255
    return picture


def test_a_look_that_follows_the_picture_is_stable() -> None:
    found = stability(bright, lit())["thing"]
    assert found.mirrored == 1
    assert found.smaller > 0.95


def test_a_look_that_does_not_is_found_out_by_the_mirror() -> None:
    found = stability(left_half, lit())["thing"]
    assert found.mirrored == 0
    assert found.smaller == 1


def test_what_is_lost_in_the_smaller_picture_has_no_overlap() -> None:
    def only_large(pictures: Sequence[RgbPicture], wanted: Sequence[Prompts]) -> list[Detections]:
        return [
            seen if it.shape[0] == 64 else Detections()
            for it, seen in zip(pictures, bright(pictures, wanted), strict=True)
        ]

    assert stability(only_large, lit()) == {"thing": Stability(1.0, 0.0)}
    dark = torch.zeros(64, 80, 3, dtype=torch.uint8)
    assert stability(only_large, dark)["thing"] == Stability(0.0, 0.0)


def test_a_known_answer_is_not_looked_for_again() -> None:
    looks: list[int] = []

    def counting(pictures: Sequence[RgbPicture], wanted: Sequence[Prompts]) -> list[Detections]:
        looks.append(len(pictures))
        return bright(pictures, wanted)

    (seen,) = bright([lit()], [{}])
    assert stability(counting, lit(), detections=seen)["thing"].mirrored == 1
    assert len(looks) == 2


@given(st.lists(UNIT, min_size=1, max_size=30))
def test_a_clip_remembers_its_mean_and_its_first_worst_frame(worths: list[float]) -> None:
    running = RunningConfidence()
    for worth in worths:
        running.add(Evidence(score=Term(worth, worth)))
    assert running.frames == len(worths)
    assert running.mean == pytest.approx(sum(worths) / len(worths))
    assert running.lowest == min(worths)
    assert running.worst == worths.index(min(worths))
    assert running.reason == f"the backend is only {min(worths):.0%} sure of it"


def test_a_clip_without_frames() -> None:
    assert (RunningConfidence().mean, RunningConfidence().worst) == (0.0, None)
