"""Attention maps against masks: known answers, and laws that hold for every map."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from frisket.evaluation.mask_metrics import iou
from frisket.evaluation.word_alignment import (
    MEASURES,
    WordAlignment,
    average_alignments,
    estimate_alignments,
    find_best_iou,
    measure_alignment,
)


def measure(attention: Tensor, coverage: Tensor) -> WordAlignment:
    alignment = measure_alignment(attention, coverage)
    assert alignment is not None
    return alignment


def draw_case(seed: int, levels: int = 5) -> tuple[Tensor, Tensor]:
    """A map with many equal values, and a soft coverage with an inside and an outside."""
    generator = torch.Generator().manual_seed(seed)
    attention = torch.randint(0, levels, (2, 3, 4), generator=generator).float() / levels
    coverage = torch.rand(2, 3, 4, generator=generator)
    coverage[0, 0, 0], coverage[0, 0, 1] = 1.0, 0.0
    return attention, coverage


def test_a_map_that_is_the_mask_scores_one_everywhere():
    mask = torch.zeros(1, 4, 4)
    mask[0, 1:3, 1:3] = 1
    assert measure(mask * 0.3, mask) == WordAlignment(1.0, 1.0, 1.0, 1.0, 0.25)


def test_a_map_beside_the_mask_has_neither_point_nor_mass_there():
    mask = torch.zeros(1, 4, 4)
    mask[0, 0, 0] = 1
    alignment = measure(1 - mask, mask)
    assert (alignment.pointing, alignment.mass, alignment.iou_half) == (0.0, 0.0, 0.0)
    assert alignment.iou == pytest.approx(1 / 16)  # cut so low that all of it is taken


@given(seed=st.integers(0, 10_000), height=st.floats(0, 5))
@settings(max_examples=25, deadline=None)
def test_a_map_that_knows_nothing_scores_the_area(seed, height):
    coverage = (draw_case(seed)[1] >= 0.5).float()
    alignment = measure(torch.full_like(coverage, height), coverage)
    for name in MEASURES:
        assert getattr(alignment, name) == pytest.approx(alignment.area)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_the_best_threshold_is_the_best_of_all_there_are(seed):
    attention, coverage = draw_case(seed)
    inside = coverage >= 0.5
    by_hand = max(iou(attention >= threshold, inside) for threshold in attention.unique())
    assert find_best_iou(attention, inside) == pytest.approx(by_hand)
    alignment = measure(attention, coverage)
    assert alignment.iou == pytest.approx(by_hand)
    assert alignment.iou >= max(alignment.iou_half, alignment.area) - 1e-12


@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.25, 2.0, 8.0]))
@settings(max_examples=25, deadline=None)
def test_scale_changes_nothing_and_order_alone_decides_point_and_overlap(seed, scale):
    attention, coverage = draw_case(seed)
    plain = measure(attention, coverage)
    scaled = measure(attention * scale, coverage)
    for name in MEASURES:
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name))
    bent = measure(attention.square(), coverage)
    assert (bent.pointing, bent.iou) == (plain.pointing, plain.iou)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_mass_inside_and_mass_outside_are_all_of_it(seed):
    attention, coverage = draw_case(seed)
    attention += 0.1
    outside = measure(attention, 1 - coverage).mass
    assert measure(attention, coverage).mass + outside == pytest.approx(1)


def test_frames_of_a_clip_count_together():
    coverage = torch.zeros(2, 2, 2)
    coverage[0, 0, 0] = 1
    attention = torch.zeros(2, 2, 2)
    attention[0, 0, 0], attention[1, 1, 1] = 1.0, 3.0
    alignment = measure(attention, coverage)
    assert (alignment.pointing, alignment.mass, alignment.area) == (0.0, 0.25, 0.125)


def test_where_nothing_is_told_apart_nothing_is_measured():
    attention = torch.rand(1, 2, 2, generator=torch.Generator().manual_seed(0))
    assert measure_alignment(attention, torch.zeros(1, 2, 2)) is None
    assert measure_alignment(attention, torch.ones(1, 2, 2)) is None
    assert measure_alignment(attention, torch.full((1, 2, 2), 0.4)) is None


def test_what_is_no_map_is_refused():
    mask = torch.tensor([[[1.0, 0.0]]])
    for broken in (float("nan"), float("inf"), -1.0):
        with pytest.raises(ValueError, match="NaN, infinity or values below 0"):
            measure_alignment(torch.tensor([[[broken, 1.0]]]), mask)
    with pytest.raises(ValueError, match=r"\(1, 1, 3\) cells and a coverage of \(1, 1, 2\)"):
        measure_alignment(torch.ones(1, 1, 3), mask)


def test_clips_are_averaged_with_an_interval():
    first = WordAlignment(1.0, 0.5, 0.5, 0.25, 0.25)
    second = WordAlignment(0.0, 0.25, 0.5, 0.75, 0.25)
    assert average_alignments([first, second]) == WordAlignment(0.5, 0.375, 0.5, 0.5, 0.25)
    with pytest.raises(ValueError, match="nothing was measured"):
        average_alignments([])
    estimates = estimate_alignments([first, second, first])
    assert estimates["pointing"].mean == pytest.approx(2 / 3)
    assert estimates["iou"].low == estimates["iou"].high == 0.5
    with pytest.raises(ValueError, match="nothing was measured"):
        estimate_alignments([])
