"""Maps cut in two, and made soft around the cut."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frisket.maskgen.vision.attention_planes import find_cut, soften_map


@given(values=st.lists(st.integers(0, 6), min_size=2, max_size=12))
@settings(max_examples=40, deadline=None)
def test_the_cut_explains_the_most_variance_that_any_cut_does(values):
    plane = torch.tensor(values, dtype=torch.float32)
    cut = find_cut(plane)
    double = plane.double()
    whole = float(double.var(unbiased=False))
    explained = [0.0]
    for level in double.unique()[1:]:
        above = double >= level
        share = float(above.double().mean())
        apart = float(double[above].mean() - double[~above].mean())
        explained.append(share * (1 - share) * apart**2 / whole)
    assert cut.separation == pytest.approx(max(explained), abs=1e-9)
    if whole > 0:
        assert float(plane.min()) < cut.threshold < float(plane.max())


def test_two_levels_are_told_apart_whole_and_a_flat_map_not_at_all():
    levels = torch.tensor([[0.2, 0.2], [0.2, 0.6]])
    cut = find_cut(levels)
    assert (cut.threshold, cut.separation) == (pytest.approx(0.4), pytest.approx(1))
    assert soften_map(levels, cut.threshold).tolist() == [[0, 0], [0, 1]]
    flat = torch.full((3, 3), 0.2)
    assert find_cut(flat).separation == 0
    assert not soften_map(flat, 0.2).any()


@given(
    values=st.lists(st.floats(0, 1, width=16), min_size=2, max_size=9),
    scale=st.sampled_from([0.5, 4.0]),
)
@settings(max_examples=40, deadline=None)
def test_a_softened_map_keeps_the_order_and_is_cut_at_one_half(values, scale):
    plane = torch.tensor(values)
    threshold = find_cut(plane).threshold
    soft = soften_map(plane, threshold)
    assert 0 <= float(soft.min()) <= float(soft.max()) <= 1
    order = plane.argsort()
    assert bool((soft[order].diff() >= 0).all())
    if float(plane.max()) > float(plane.min()):
        assert bool(((soft >= 0.5) == (plane >= threshold)).all())
        assert torch.allclose(soften_map(plane * scale, threshold * scale), soft, atol=1e-5)


def test_what_is_no_map_is_refused():
    with pytest.raises(ValueError, match="NaN or infinity"):
        find_cut(torch.tensor([float("nan"), 1.0]))
