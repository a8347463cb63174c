"""Laws of cleaning, of composing by priority and of combining sources."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from frisket.maskgen.cleanup.clean import (
    UNTOUCHED,
    Cleaning,
    combine,
    compose,
    paint,
    refine_border,
    soften,
    tidy,
)
from frisket.maskgen.tracking.matching import iou
from frisket.masks.morphology import grow

UNIT = st.floats(0, 1, width=32)
SIZE = (8, 11)
SOFT = hnp.arrays(np.float32, SIZE, elements=UNIT).map(torch.from_numpy)
HARD = hnp.arrays(np.bool_, SIZE).map(lambda it: torch.from_numpy(it).float())
LABELS = hnp.arrays(np.uint8, SIZE, elements=st.integers(0, 4)).map(torch.from_numpy)
BRUSHES = hnp.arrays(np.uint8, SIZE, elements=st.sampled_from([0, 1, 2, UNTOUCHED]))
PICTURES = hnp.arrays(np.uint8, (*SIZE, 3)).map(torch.from_numpy)
CLEANINGS = st.builds(
    Cleaning,
    threshold=st.sampled_from([0.25, 0.5, 0.7]),
    refine=st.sampled_from([0.0, 2.0]),
    fill_holes=st.booleans(),
    largest=st.booleans(),
    min_area=st.sampled_from([0.0, 0.03, 0.2]),
    grow=st.sampled_from([-1.0, 0.0, 1.5]),
    feather=st.sampled_from([0.0, 2.0]),
)
REGIONS = ("face", "hair", "body")
PLANES = st.tuples(SOFT, SOFT, SOFT).map(lambda it: dict(zip(REGIONS, it, strict=True)))
HARD_PLANES = st.tuples(HARD, HARD, HARD).map(lambda it: dict(zip(REGIONS, it, strict=True)))
ORDERS = st.permutations(REGIONS)


def disc(radius: float, size: int = 96) -> Tensor:
    line = torch.arange(size) - size / 2
    return (torch.hypot(line[:, None], line) <= radius).float()


def at(mask: Tensor, threshold: float = 0.5) -> Tensor:
    return mask >= threshold


@given(mask=SOFT, cleaning=CLEANINGS, picture=PICTURES)
def test_range_and_size_are_kept(mask: Tensor, cleaning: Cleaning, picture: Tensor) -> None:
    out = tidy(mask, cleaning, picture)
    assert out.shape == mask.shape
    assert out.dtype == torch.float32
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1


@given(cleaning=CLEANINGS, picture=PICTURES)
def test_nothing_stays_nothing_and_all_stays_all(cleaning: Cleaning, picture: Tensor) -> None:
    for value in (0.0, 1.0):
        mask = torch.full(SIZE, value)
        assert torch.equal(tidy(mask, cleaning, picture), mask)


@given(mask=SOFT, cleaning=CLEANINGS, picture=PICTURES, axis=st.sampled_from([0, 1]))
def test_a_flipped_picture_gives_a_flipped_mask(
    mask: Tensor, cleaning: Cleaning, picture: Tensor, axis: int
) -> None:
    if cleaning.refine:  # sums run the other way: a value at the very threshold may tip over
        cleaning = Cleaning(cleaning.threshold, cleaning.refine, feather=cleaning.feather)
    flipped = tidy(mask.flip(axis), cleaning, picture.flip(axis))
    torch.testing.assert_close(flipped, tidy(mask, cleaning, picture).flip(axis), atol=1e-4, rtol=0)


@given(mask=SOFT, threshold=st.sampled_from([0.1, 0.25, 0.5, 0.7]))
def test_the_threshold_comes_to_lie_at_one_half(mask: Tensor, threshold: float) -> None:
    out = tidy(mask, Cleaning(threshold=threshold))
    assert torch.equal(at(out), at(mask, threshold))
    order = mask.flatten().argsort()
    assert (out.flatten()[order].diff() >= 0).all()
    assert threshold != 0.5 or torch.equal(out, mask)


@given(mask=SOFT, fill=st.booleans(), largest=st.booleans(), area=st.sampled_from([0.0, 0.03, 0.2]))
def test_holes_and_patches_are_dealt_with_once(
    mask: Tensor, fill: bool, largest: bool, area: float
) -> None:
    cleaning = Cleaning(fill_holes=fill, largest=largest, min_area=area)
    once = tidy(mask, cleaning)
    assert torch.equal(tidy(once, cleaning), once)
    if not fill:
        assert ((once == mask) | (once == 0)).all()


@given(mask=SOFT, less=st.floats(-2, 2), more=st.floats(0, 2))
def test_growing_more_covers_more(mask: Tensor, less: float, more: float) -> None:
    assert (tidy(mask, Cleaning(grow=less + more)) >= tidy(mask, Cleaning(grow=less)) - 1e-6).all()


def test_patches_go_with_their_skirts_and_the_rest_stays_soft() -> None:
    """A large soft disc, a small one, and a speck beside them."""
    line = torch.arange(96)
    distance = torch.hypot(line[:, None] - 40.0, line - 40.0)
    large = ((25 - distance) / 8 + 0.5).clamp(0, 1)
    small = ((8 - torch.hypot(line[:, None] - 80.0, line - 80.0)) / 8 + 0.5).clamp(0, 1)
    speck = torch.zeros(96, 96)
    speck[5, 90] = 0.8
    mask = torch.maximum(torch.maximum(large, small), speck)
    assert torch.equal(tidy(mask, Cleaning(largest=True)), large)
    assert torch.equal(tidy(mask, Cleaning(min_area=0.001)), torch.maximum(large, small))
    assert not tidy(mask, Cleaning(min_area=0.5)).any()


def test_equal_patches_are_all_the_largest() -> None:
    mask = torch.zeros(20, 20)
    mask[2:5, 2:5] = mask[12:15, 12:15] = 1
    assert torch.equal(tidy(mask, Cleaning(largest=True)), mask)


def test_holes_are_filled_before_areas_are_counted_and_after_the_threshold() -> None:
    ring = disc(20) - disc(15)
    ring[40:50, 40:50] = 0.3
    out = tidy(ring, Cleaning(threshold=0.4, fill_holes=True, min_area=0.13))
    assert torch.equal(out, disc(20))


def picture_of(mask: Tensor) -> Tensor:
    """A bright object on a dark ground, with noise of 5 grey levels."""
    rng = np.random.default_rng(0)
    clean = 51 + 153 * mask.numpy()[..., None].repeat(3, 2)
    noisy = clean + rng.normal(0, 5, clean.shape)
    return torch.from_numpy(np.clip(noisy, 0, 255).round().astype(np.uint8))


@pytest.mark.parametrize("pixels", [6.0, -6.0])
def test_refining_brings_a_border_back_to_the_edge(pixels: float) -> None:
    exact = disc(80, 256)
    rough = grow(exact[None], pixels)[0]
    out = tidy(rough, Cleaning(refine=14.0), picture_of(exact))
    print(f"grow {pixels}: {iou(exact, rough):.3f} -> {iou(exact, out):.3f}")
    assert iou(exact, rough) < 0.9
    assert iou(exact, out) > 0.96
    far = torch.hypot(torch.arange(256)[:, None] - 128.0, torch.arange(256) - 128.0)
    assert (out[far < 33] == 1).all()
    assert (out[far > 127] == 0).all()


def test_refining_sees_edges_that_grey_does_not() -> None:
    """Red beside green of the same grey value: why the guide is in colour."""
    exact = disc(30)
    colour = torch.tensor([200, 20, 40]) * exact[..., None] + torch.tensor([20, 112, 40]) * (
        1 - exact[..., None]
    )
    grey = colour @ torch.tensor([0.299, 0.587, 0.114])
    assert float(grey.max() - grey.min()) < 1
    rough = grow(exact[None], 3.0)[0]
    assert iou(exact, refine_border(rough, colour.to(torch.uint8), 7.0, 1e-4)) > 0.97


@pytest.mark.parametrize("picture", [None, torch.zeros(9, 11, 3, dtype=torch.uint8)])
def test_refining_needs_the_picture_of_the_mask(picture: Tensor | None) -> None:
    with pytest.raises(ValueError, match="refine needs the picture of the mask, 8x11 pixels"):
        tidy(torch.zeros(SIZE), Cleaning(refine=2.0), picture)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", 0.0),
        ("threshold", math.nan),
        ("min_area", 1.5),
        ("refine", -1.0),
        ("refine_eps", 0.0),
        ("feather", math.inf),
        ("loosen", -0.1),
        ("grow", math.nan),
    ],
)
def test_what_is_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        Cleaning(**{name: value})


@given(planes=PLANES, order=ORDERS, threshold=st.sampled_from([0.3, 0.5]))
def test_labels_follow_priority(
    planes: dict[str, Tensor], order: list[str], threshold: float
) -> None:
    labels = compose(planes, order, threshold=threshold)
    for row, column in np.ndindex(SIZE):
        present = [name for name in order if planes[name][row, column] >= threshold]
        expected = REGIONS.index(present[0]) + 1 if present else 0
        assert int(labels[row, column]) == expected


@given(planes=PLANES, order=ORDERS)
def test_soft_planes_share_each_pixel(planes: dict[str, Tensor], order: list[str]) -> None:
    out = soften(planes, order)
    assert tuple(out) == REGIONS
    assert float(sum(out.values()).max()) <= 1 + 1e-6
    assert all((out[name] <= planes[name]).all() for name in REGIONS)
    assert torch.equal(out[order[0]], planes[order[0]])
    covered = torch.stack(list(planes.values())).sum(0).clamp(max=1)
    torch.testing.assert_close(sum(out.values()), covered)


@given(planes=HARD_PLANES, order=ORDERS)
def test_hard_planes_soften_to_their_labels(planes: dict[str, Tensor], order: list[str]) -> None:
    labels = compose(planes, order)
    out = soften(planes, order)
    for label, name in enumerate(REGIONS, 1):
        assert torch.equal(out[name], (labels == label).float())


def test_labels_hold_for_pictures_that_lack_a_region() -> None:
    mask = disc(10, 24)
    labels = compose({"body": mask}, regions=("face", "hair", "body"))
    assert labels.unique().tolist() == [0, 3]
    late = compose({"dog": mask, "face": mask}, ("face",))
    assert late.unique().tolist() == [0, 2]


def test_what_cannot_be_composed_is_named() -> None:
    mask = torch.zeros(SIZE)
    with pytest.raises(ValueError, match="no label for region 'dog'; the regions are face, hair"):
        compose({"dog": mask}, regions=("face", "hair"))
    with pytest.raises(ValueError, match="differ in size: face 8x11, hair 4x4"):
        soften({"face": mask, "hair": torch.zeros(4, 4)})
    with pytest.raises(ValueError, match="no planes"):
        compose({})
    with pytest.raises(ValueError, match="at most 254"):
        compose({str(k): torch.zeros(1, 1) for k in range(255)})


@given(first=SOFT, second=SOFT)
def test_laws_of_combining(first: Tensor, second: Tensor) -> None:
    union, both = combine(first, second, "union"), combine(first, second, "intersect")
    assert torch.equal(union, combine(second, first, "union"))
    assert torch.equal(both, combine(second, first, "intersect"))
    assert torch.equal(union + both, first + second)
    assert torch.equal(combine(first, union, "intersect"), first)
    torch.testing.assert_close(1 - union, combine(1 - first, 1 - second, "intersect"))
    torch.testing.assert_close(
        combine(first, second, "subtract"), combine(first, 1 - second, "intersect")
    )
    assert torch.equal(combine(first, second, "replace"), second)
    assert torch.equal(combine(first, second, "blend"), combine(second, first, "blend"))
    filled = combine(first, second, "fill")
    assert torch.equal(filled[first > 0], first[first > 0])
    assert torch.equal(filled[first == 0], second[first == 0])


@given(first=HARD, second=HARD)
def test_hard_masks_come_apart_and_together_again(first: Tensor, second: Tensor) -> None:
    rest = combine(first, second, "subtract")
    shared = combine(first, second, "intersect")
    assert not combine(rest, second, "intersect").any()
    assert torch.equal(combine(rest, shared, "union"), first)


@given(labels=LABELS, brush=BRUSHES.map(torch.from_numpy))
def test_the_brush_wins_exactly_where_it_painted(labels: Tensor, brush: Tensor) -> None:
    out = paint(labels, brush)
    painted = brush != UNTOUCHED
    assert torch.equal(out[painted], brush[painted])
    assert torch.equal(out[~painted], labels[~painted])
    assert torch.equal(paint(out, brush), out)
