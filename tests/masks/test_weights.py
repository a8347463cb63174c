"""The laws of weights: the table, the background, the curve, and samples without a mask."""

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from frisket.masks.weights import RegionWeights, describe

TABLE = RegionWeights({"face": 1.5, "body": 0.5, "hair": 0.3}, background=0.1)
YES = torch.ones(1, dtype=torch.bool)
UNIT = st.floats(0, 1, width=32)
COVERAGES = hnp.arrays(np.float32, (1, 3, 2, 2, 3), elements=UNIT).map(torch.from_numpy)


def partition(coverage: Tensor) -> Tensor:
    """Coverage scaled to sum to 1 in every cell."""
    return (coverage + 0.01) / (coverage + 0.01).sum(1, keepdim=True)


@given(COVERAGES)
def test_a_partition_weighs_its_table_linearly(coverage: Tensor) -> None:
    parts = partition(coverage)
    weights = TABLE(parts, YES)
    expected = sum(parts[:, i] * weight for i, weight in enumerate(TABLE.regions.values()))
    torch.testing.assert_close(weights[:, 0], expected)
    assert (weights >= 0.3 - 1e-6).all()
    assert (weights <= 1.5 + 1e-6).all()


@given(COVERAGES)
def test_what_no_region_covers_weighs_the_background(coverage: Tensor) -> None:
    thirds = coverage / 3
    weights = TABLE(thirds, YES)
    table = torch.tensor([1.5, 0.5, 0.3]).view(1, 3, 1, 1, 1)
    expected = (thirds * table).sum(1, keepdim=True) + 0.1 * (1 - thirds.sum(1, keepdim=True))
    torch.testing.assert_close(weights, expected)


@given(COVERAGES)
def test_overlapping_regions_never_weigh_more_than_the_heaviest(coverage: Tensor) -> None:
    weights = TABLE(coverage, YES)
    assert (weights <= 1.5 + 1e-6).all()
    assert (weights >= 0.1 - 1e-6).all()


def test_two_regions_that_both_fill_a_cell_share_it() -> None:
    both = torch.ones(1, 2, 1, 1, 1)
    assert RegionWeights({"a": 1.0, "b": 0.5}, background=9.0)(both, YES).item() == 0.75


@given(COVERAGES)
def test_gamma_one_and_floor_zero_change_nothing(coverage: Tensor) -> None:
    single = coverage[:, :1]
    assert torch.equal(RegionWeights()(single, YES), single)


@given(COVERAGES, st.floats(0.1, 4), st.floats(0, 0.9))
def test_gamma_then_floor(coverage: Tensor, gamma: float, floor: float) -> None:
    single = coverage[:, :1]
    weights = RegionWeights(gamma=gamma, floor=floor)(single, YES)
    torch.testing.assert_close(weights, (single.double() ** gamma).clamp_min(floor).float())


@given(COVERAGES, st.floats(0.2, 3), st.floats(0, 0.9))
def test_samples_without_a_mask_weigh_exactly_one(
    coverage: Tensor, gamma: float, floor: float
) -> None:
    table = replace(TABLE, gamma=gamma, floor=floor)
    batch = torch.cat([coverage, coverage])
    weights = table(batch, torch.tensor([True, False]))
    # Not bit for bit: torch's pow may differ in the last bit between tensors of different sizes.
    torch.testing.assert_close(weights[:1], table(coverage, YES))
    assert (weights[1] == 1).all()
    assert (table.weigh_uncurved(batch, torch.tensor([True, False]))[1] == 1).all()
    assert (table.outside(batch, torch.tensor([True, False]))[1] == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_coverage_gives_single_precision_weights(dtype: torch.dtype) -> None:
    coverage = torch.full((1, 1, 1, 2, 2), 0.5, dtype=dtype)
    weights = RegionWeights({"subject": 0.001}, gamma=2.0)(coverage, YES)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights, torch.full_like(weights, 0.0005**2))


def test_weights_stay_in_single_precision_under_autocast() -> None:
    coverage = torch.rand(1, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        weights = TABLE(coverage, YES)
    assert torch.equal(weights, TABLE(coverage, YES))
    assert weights.dtype == torch.float32


@pytest.mark.parametrize("lift", ["clamp", "affine"])
def test_a_floor_of_one_is_as_if_there_were_no_mask(lift: Literal["clamp", "affine"]) -> None:
    coverage = torch.rand(2, 1, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    assert (
        RegionWeights({"subject": 1.0}, floor=1.0, lift=lift)(coverage, YES.repeat(2)).eq(1).all()
    )


def test_weight_zero_is_exactly_zero_where_regions_fill_the_cell_up_to_rounding() -> None:
    tenths = torch.full((1, 10, 1, 1, 1), 0.1)
    tenths[:, -1] -= 2e-7
    table = RegionWeights({f"part{i}": 0.0 for i in range(10)}, background=1.0)
    assert table(tenths, YES).item() == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gamma": 0.0}, "gamma is 0.0"),
        ({"gamma": -1.0}, "gamma is -1.0"),
        ({"gamma": math.nan}, "gamma is nan"),
        ({"floor": 1.1}, "floor is 1.1"),
        ({"floor": -0.1}, "floor is -0.1"),
        ({"regions": {"face": -0.5}}, "'face' is -0.5"),
        ({"regions": {"face": math.inf}}, "'face' is inf"),
        ({"background": -1.0}, "'background' is -1.0"),
        ({"regions": {}}, "at least one region"),
        ({"regions": {"a": 1.0, "background": 0.0}}, "no plane"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused_with_its_value(
    options: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        RegionWeights(**options)  # type: ignore[arg-type]


def test_coverage_of_other_regions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2 planes .* 3 regions \['face', 'body', 'hair'\]"):
        TABLE(torch.zeros(1, 2, 1, 1, 1), YES)


def test_describe_measures_regions_background_and_odd_clips() -> None:
    table = RegionWeights({"face": 1.0, "hair": 0.5})
    half, empty, full = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 4, 2), torch.zeros(2, 3, 2, 2)
    half[0, :, 0] = 1
    full[1] = 1
    layout = describe(table, [half, empty, full])
    face, hair = layout.regions["face"], layout.regions["hair"]
    assert (face.mean, face.low, face.high) == (pytest.approx(1 / 6), 0, 0.5)
    assert (hair.mean, hair.low, hair.high) == (pytest.approx(1 / 3), 0, 1)
    assert (layout.weight.low, layout.weight.high) == (0, 0.5)
    assert (layout.clips, layout.empty, layout.full, layout.silent) == (3, 1, 1, 1)
    assert layout.background_weight == layout.background_share == 0


def test_describe_tells_what_a_floor_gives_to_the_background() -> None:
    clip = torch.zeros(1, 1, 10, 10)
    clip[:, :, 0] = 1
    layout = describe(RegionWeights(floor=0.05), [clip])
    assert layout.background_weight == 0.05
    assert layout.background_share == pytest.approx(0.31, abs=0.005)


def test_describe_refuses_a_data_set_without_masks() -> None:
    with pytest.raises(ValueError, match="no masked clip"):
        describe(TABLE, [])
