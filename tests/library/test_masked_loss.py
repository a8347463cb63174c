"""The library's loss: every shape, dtype and option, and the laws that hold for all of them."""

import inspect
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

import frisket
from frisket.losses.base import KINDS, divisors, weighted_error

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
NORMALISE = ("sample", "batch", "none", "area")
# As in production, where nothing checks annotations.
masked_loss, coverage = inspect.unwrap(frisket.masked_loss), inspect.unwrap(frisket.coverage)
STILL, CLIP = (2, 3, 4, 6), (2, 3, 3, 4, 6)  # b c h w, b c f h w
SPATIAL, TEMPORAL = 4, 2


def draw(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def mask_of(*shape: int) -> Tensor:
    """A soft mask with whole blocks of 0 and 1, of which no cell is like another."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(7))
    mask[..., : shape[-2] // 2, : shape[-1] // 2] = 0
    mask[..., shape[-2] // 2 :, : shape[-1] // 2] = 1
    return mask


def mean_of(planes: Tensor) -> Tensor:
    """b k F H W to b k f h w by the definition, cell by cell."""
    small = functional.avg_pool3d(planes, (1, SPATIAL, SPATIAL))
    first, rest = small[:, :, :1], small[:, :, 1:]
    groups = [part.mean(2, keepdim=True) for part in rest.split(TEMPORAL, 2) if part.shape[2]]
    return torch.cat([first, *groups], 2)


H, W, F = 4 * SPATIAL, 6 * SPATIAL, 1 + 2 * TEMPORAL
# Shape of the prediction, shape of the mask, and where its axes stand in b k F H W.
FORMS = [
    (STILL, (H, W), (None, None, None)),
    (STILL, (2, H, W), (0, None, None)),
    (STILL, (2, 1, H, W), (0, 1, None)),
    (STILL, (2, 1, 1, H, W), (0, 1, 2)),
    (STILL, (2, 1, 4, 6), (0, 1, None)),
    (STILL, (4, 6), (None, None, None)),
    (CLIP, (H, W), (None, None, None)),
    (CLIP, (2, 1, H, W), (0, None, 1)),
    (CLIP, (2, F, H, W), (0, None, 1)),
    (CLIP, (2, 1, F, H, W), (0, 1, 2)),
    (CLIP, (2, 1, 1, H, W), (0, 1, 2)),
    (CLIP, (2, 3, 4, 6), (0, None, 1)),
    (CLIP, (2, 1, 3, 4, 6), (0, 1, 2)),
]


@pytest.mark.parametrize(("shape", "mask_shape", "axes"), FORMS, ids=str)
@pytest.mark.parametrize("soft", [True, False], ids=["soft", "bool"])
def test_every_form_of_mask_is_the_weights_it_stands_for(shape, mask_shape, axes, soft):
    mask = mask_of(*mask_shape) if soft else mask_of(*mask_shape) > 0.5
    planes = mask.float()
    for place, axis in enumerate(axes):
        planes = planes.unsqueeze(place) if axis is None else planes
    cells = planes if mask_shape[-1] == 6 else mean_of(planes)
    frames = shape[2] if len(shape) == 5 else 1
    cells = cells.expand(2, 1, frames, 4, 6)
    options_of = [*itertools.product(DTYPES, NORMALISE, ["mse"])]
    options_of += [(torch.float16, "sample", kind) for kind in KINDS]
    for dtype, normalise, kind in options_of:
        prediction, target = draw(shape, 1, dtype), draw(shape, 2)
        clip = prediction.reshape(2, 3, frames, 4, 6)
        divisor = divisors(cells, 3, normalise)
        wanted = weighted_error(kind, 1.0, clip, target.reshape(clip.shape), cells, divisor)
        options = {"normalise": normalise, "kind": kind, "temporal": TEMPORAL}
        value = masked_loss(prediction, target, mask, reduction="none", **options)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, wanted)
        value = masked_loss(prediction, target, mask, **options)
        torch.testing.assert_close(value, wanted.mean())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [STILL, CLIP], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_nothing_where_the_mask_is_and_in_the_predictions_dtype(dtype, shape, kind):
    prediction = draw(shape, 1, dtype).requires_grad_()
    target = draw(shape, 2).requires_grad_()
    mask = mask_of(H, W).requires_grad_()
    masked_loss(prediction, target, mask, kind=kind).backward()
    assert prediction.grad.dtype == dtype
    outside = torch.zeros(4, 6, dtype=torch.bool)
    outside[:2, :3] = True
    assert torch.all(prediction.grad[..., outside] == 0)
    assert torch.all(prediction.grad[..., ~outside] != 0)
    assert target.grad is None
    assert mask.grad is None


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(
    normalise=st.sampled_from(NORMALISE), batch=st.integers(1, 4), video=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_a_mask_of_ones_or_none_is_torchs_loss_bit_for_bit(dtype, normalise, batch, video, seed):
    shape = (batch, 3, *((2,) if video else ()), 3, 5)
    prediction, target = draw(shape, seed, dtype), draw(shape, seed + 1, dtype)
    plain = functional.mse_loss(prediction.float(), target.float())
    ones = torch.ones(6, 10, dtype=torch.bool)
    for mask in (None, ones, ones.float()):
        assert torch.equal(masked_loss(prediction, target, mask, normalise=normalise), plain)
    losses = masked_loss(prediction, target, ones, normalise=normalise, reduction="none")
    rows = zip(prediction.float(), target.float(), strict=True)
    assert torch.equal(losses, torch.stack([functional.mse_loss(*row) for row in rows]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalise", NORMALISE)
def test_an_empty_mask_gives_nothing_and_no_gradient(kind, normalise):
    prediction = draw(CLIP, 1).requires_grad_()
    value = masked_loss(
        prediction, draw(CLIP, 2), torch.zeros(4, 6), kind=kind, normalise=normalise
    )
    value.backward()
    assert value == 0
    assert torch.all(prediction.grad == 0)


@given(
    spatial=st.integers(1, 5), temporal=st.sampled_from([1, 2, 4]), frames=st.integers(1, 3),
    regions=st.integers(1, 3), reading=st.sampled_from(["mean", "max", "min"]),
)  # fmt: skip
def test_pixels_give_what_their_coverage_gives(spatial, temporal, frames, regions, reading):
    pixels = 1 + (frames - 1) * temporal
    mask = mask_of(2, regions, pixels, 3 * spatial, 2 * spatial)
    table = frisket.RegionWeights({str(k): 0.5 + k for k in range(regions)}, background=0.1)
    prediction, target = draw((2, 4, frames, 3, 2), 1), draw((2, 4, frames, 3, 2), 2)
    cells = coverage(mask, spatial, temporal, reading)
    assert cells.shape == (2, regions, frames, 3, 2)
    options = {"weights": table, "reading": reading}
    assert torch.equal(
        masked_loss(prediction, target, mask, temporal=temporal, **options),
        masked_loss(prediction, target, cells, **options),
    )
    laid = table(cells)
    wanted = ((prediction - target) ** 2 * laid).sum((1, 2, 3, 4)) / (4 * laid.sum((1, 2, 3, 4)))
    value = masked_loss(prediction, target, cells, weights=table, reduction="none")
    torch.testing.assert_close(value, wanted)


def test_stills_are_covered_without_a_frame_axis():
    mask = mask_of(2, 3, H, W)
    cells = coverage(mask, SPATIAL)
    assert torch.equal(cells, coverage(mask[:, :, None], SPATIAL)[:, :, 0])
    assert torch.equal(coverage(mask > 0.5, 1), (mask > 0.5).float())


@pytest.mark.parametrize("shape", [(H, W), (2, H, W), (1,) * 6, (0, 1, 1, H, W)])
def test_coverage_wants_batch_and_regions(shape):
    with pytest.raises(ValueError, match="give b k F H W"):
        coverage(torch.zeros(shape), SPATIAL)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2, 1, H, W), {"temporal": 4}, "has no frame axis: give b k F H W"),
        ((2, 1, 4, H, W), {"temporal": 4}, "4 frames do not fit"),
        ((2, 1, H, W), {"spatial": 5}, "16 x 24 pixels do not fit"),
        ((2, 1, H, W), {"spatial": 0}, "spatial is 0"),
    ],
)
def test_coverage_says_what_does_not_fit(shape, options, message):
    with pytest.raises(ValueError, match=message):
        coverage(torch.zeros(shape), **{"spatial": SPATIAL, **options})


def test_the_rounding_of_a_resize_is_clamped():
    mask = torch.ones(4, 6)
    mask[0, 0], mask[1, 1] = 1.0005, -0.0005
    prediction = draw(STILL, 1).requires_grad_()
    masked_loss(prediction, draw(STILL, 2), mask).backward()
    assert torch.all(prediction.grad[..., 1, 1] == 0)
    exact = masked_loss(prediction, draw(STILL, 2), mask.clamp(0, 1))
    assert torch.equal(masked_loss(prediction, draw(STILL, 2), mask), exact)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalise": "global"}, "one call knows one batch"),
        ({"normalise": "each"}, "'each' is not one of sample, batch, none, area"),
        ({"kind": "charbonnier"}, "masked_loss: kind 'charbonnier'"),
        ({"delta": 0.0}, "delta must be > 0"),
        ({"beta": 2.0}, "beta is 2.0"),
        ({"reduction": "sum"}, "'sum' is not"),
        ({"spatial": 8}, "32 x 48 pixels"),
    ],
)
def test_options_without_meaning_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        masked_loss(draw(STILL), draw(STILL, 1), mask_of(H, W), **options)


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        (torch.zeros(2, 4, 8, 8), torch.zeros(2, 1, 8, 8), "the target has shape"),
        (torch.zeros(2, 4, 8, 8, dtype=torch.int), torch.zeros(2, 4, 8, 8), "is torch.int32"),
        (torch.zeros(0, 4, 8, 8), torch.zeros(0, 4, 8, 8), "give b c h w"),
    ],
)
def test_latents_that_would_broadcast_are_refused(prediction, target, message):
    with pytest.raises(ValueError, match=message):
        masked_loss(prediction, target)


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        (7, {}, "7 frames does not fit 2 latent frames: give it 1 frame, 2, or 1 . 1 t"),
        (7, {"temporal": 4}, r"give it 1 or 5 frames \(temporal = 4\)"),
        (2, {"temporal": 4}, r"give it 1 or 5 frames \(temporal = 4\)"),
    ],
)
def test_frames_that_a_vae_would_fold_otherwise_are_refused(frames, options, message):
    latents = torch.zeros(1, 4, 2, 4, 6)
    with pytest.raises(ValueError, match=message):
        masked_loss(latents, latents, torch.zeros(1, frames, H, W), **options)


def test_a_stride_that_is_no_power_of_two_is_said():
    prediction, target = draw((1, 4, 2, 4, 6)), draw((1, 4, 2, 4, 6), 1)
    mask = mask_of(1, 7, H, W)
    cells = coverage(mask[:, None], SPATIAL, 6)
    value = masked_loss(prediction, target, mask, temporal=6)
    assert torch.equal(value, masked_loss(prediction, target, cells))


def test_regions_and_frames_of_four_axes_are_not_guessed():
    table = frisket.RegionWeights({"face": 1.0, "hair": 0.3, "hand": 0.1})
    with pytest.raises(ValueError, match="may be b F H W or b k H W"):
        masked_loss(draw(CLIP), draw(CLIP, 1), mask_of(2, 3, H, W), weights=table)


def test_weights_need_no_flags_where_all_have_a_mask():
    table = frisket.RegionWeights({"face": 2.0, "hair": 0.3}, background=0.1, floor=0.05)
    cells = mask_of(2, 2, 1, 4, 6)
    flags = torch.ones(2, dtype=torch.bool)
    for weigh in (table, table.weigh_uncurved, table.outside):
        assert torch.equal(weigh(cells), weigh(cells, flags))
