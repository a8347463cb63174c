"""What every ControlNet promises, whichever family it is beside."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from tests.contracts.conftest import WALKED_BY_ANOTHER, Case
from torch import Tensor, nn

from frisket.families.base import FAMILIES, Conditioning, Parts, WeightsNotFound
from frisket.families.control.base import CONTROLS, ControlNotUsable, ControlSupport
from frisket.families.control.branch import ControlBranch, connect_control
from frisket.families.control.masking import mask_residuals
from frisket.families.streams import bind_call

TEXTS = ("a red fox on a stone wall", "two boats", "")
SCALES = torch.tensor([1.0, 0.0, 0.5])


@dataclass(frozen=True)
class ControlCase:
    """One variant that takes a ControlNet, its parts and a random net."""

    case: Case
    support: ControlSupport
    net: nn.Module

    @property
    def parts(self) -> Parts:
        return self.case.parts

    @property
    def frames(self) -> int:
        return self.case.lengths[-1]

    def draw(self, batch: int = len(TEXTS)) -> Tensor:
        """Control clips in [0, 1]."""
        return self.case.clip(self.frames, batch) / 2 + 0.5

    def read(self, net: nn.Module | None = None, batch: int = len(TEXTS)) -> Tensor:
        rows = self.draw(batch)
        net = self.net if net is None else net
        return torch.cat([self.support.read(net, self.parts.vae, row[None]) for row in rows])

    def predict(self, denoiser: nn.Module | None = None, rows: slice = slice(None)) -> Tensor:
        case = self.case
        denoiser = case.parts.denoiser if denoiser is None else denoiser
        noisy, t = case.latents(self.frames, len(TEXTS)), case.levels(len(TEXTS))
        texts = {name: value[rows] for name, value in case.conditioning.items()}
        return case.family.predict(denoiser, noisy[rows], t[rows], texts)

    @contextmanager
    def connect(self, net: nn.Module | None = None) -> Iterator[ControlBranch]:
        net = self.net if net is None else net
        branch = connect_control(self.case.family, self.parts.denoiser, net)
        try:
            yield branch
        finally:
            branch.remove()

    def sample(self, pipeline, **more) -> Tensor:
        """Two steps from the same noise, guided where the variant is."""
        case, card = self.case, self.case.card
        pipeline.set_progress_bar_config(disable=True)
        height, width = case.size
        negative = self.embed("a blur") if card.negative else None
        kwargs = case.family.call(
            case.variant, self.embed(TEXTS[0]), negative, guidance=card.guidance
        )
        if card.video:
            kwargs["num_frames"] = self.frames
        return pipeline(
            **kwargs,
            **more,
            height=height,
            width=width,
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(3),
            output_type="latent",
        )[0]

    def embed(self, prompt: str) -> Conditioning:
        return self.case.family.embed(self.parts.text, [prompt])


def _list_controls():
    return [
        pytest.param(
            (name, variant), marks=[pytest.mark.slow] * ((name, variant) in WALKED_BY_ANOTHER)
        )
        for name in CONTROLS.names()
        for variant, card in FAMILIES.load(name).variants.items()
        if not card.like and not CONTROLS.load(name).refuse(variant)
    ]


@pytest.fixture(scope="module", params=_list_controls(), ids="/".join)
def control(request) -> ControlCase:
    name, variant = request.param
    family = FAMILIES.load(name)
    parts = family.tiny(variant)
    case = Case(family, variant, parts, {})
    case = replace(case, conditioning=family.embed(parts.text, TEXTS))
    support = CONTROLS.load(name)
    return ControlCase(case, support, support.tiny(_get_first(parts.denoiser)))


@cache
def _build_denoiser(name: str) -> nn.Module:
    family = FAMILIES.load(name)
    return _get_first(family.tiny(family.default).denoiser)


def _get_first(denoiser):
    return next(iter(denoiser.experts.values())) if hasattr(denoiser, "experts") else denoiser


@pytest.fixture
def plain_posterior(monkeypatch) -> None:
    """Some public pipelines draw a control's latents from the VAE's posterior; we take its mode."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, *_options: self.mode())


def test_a_file_is_called_as_its_family_is():
    assert set(CONTROLS.names()) <= set(FAMILIES.names())
    for name in CONTROLS.names():
        support = CONTROLS.load(name)
        assert isinstance(support, ControlSupport)
        assert support.reads in ("pixels", "latents")
        variants = FAMILIES.load(name).variants
        refusals = [support.refuse(variant) for variant in variants]
        assert not all(refusals)
        assert all(not reason or len(reason.split()) > 8 for reason in refusals)


@torch.no_grad()
def test_a_new_net_leaves_the_prediction_bit_for_bit(control):
    base = control.predict()
    net = control.support.start(_get_first(control.parts.denoiser))
    with control.connect(net) as branch:
        branch.set_rows(control.read(net))
        assert torch.equal(control.predict(), base)


@torch.no_grad()
def test_scales_are_of_rows_and_0_is_no_control_at_all(control):
    base = control.predict()
    with control.connect() as branch:
        branch.set_rows(control.read(), SCALES)
        output = control.predict()
        assert torch.equal(output[1], base[1])
        assert not torch.allclose(output[0], base[0], atol=1e-3)
        assert not torch.allclose(output[2], base[2], atol=1e-3)
        branch.set_rows(control.read(), 0.0)
        assert torch.equal(control.predict(), base)
        branch.set_rows(None)
        assert torch.equal(control.predict(), base)


@torch.no_grad()
def test_a_row_knows_nothing_of_the_controls_of_others(control):
    rows = control.read()
    with control.connect() as branch:
        branch.set_rows(rows)
        together = control.predict()
        branch.set_rows(torch.cat([rows[:1], rows[1:].flip(0)]))
        assert torch.equal(control.predict()[0], together[0])
        branch.set_rows(rows[:1])
        alone = control.predict(rows=slice(0, 1))
        torch.testing.assert_close(alone, together[:1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_mask_confines_control_and_keeps_it_out(control):
    base, rows = control.predict(), control.read()
    cells = control.case.latents(control.frames, len(TEXTS)).shape[2:]
    ones, zeros = torch.ones(len(TEXTS), 1, *cells), torch.zeros(len(TEXTS), 1, *cells)
    with control.connect() as branch:
        branch.set_rows(rows)
        everywhere = control.predict()
        for place, side, expected in (
            (ones, "inside", everywhere),
            (zeros, "inside", base),
            (zeros, "outside", everywhere),
            (ones, "outside", base),
        ):
            branch.set_rows(rows, 1.0, place, side)
            assert torch.equal(control.predict(), expected)
        half = zeros.clone()
        half[..., : cells[2] // 2] = 1
        branch.set_rows(rows, 1.0, half)
        confined = control.predict()
    assert not torch.allclose(confined, base, atol=1e-4)
    assert not torch.allclose(confined, everywhere, atol=1e-4)


@torch.no_grad()
def test_residuals_say_whose_cells_they_are(control):
    """Every residual is exactly 0 where its cells are outside the mask."""

    residuals = _compute(control)
    cells = control.case.latents(control.frames, 1).shape[2:]
    place = torch.zeros(1, 1, *cells)
    place[..., : cells[2] // 2] = 1
    masked = mask_residuals(residuals, place)
    assert residuals.places
    for name, values in masked.places.items():
        for residual, whole in zip(values, residuals.places[name], strict=True):
            inside = _lay_out(residual), _lay_out(whole)
            width = residual.cells[2] // 2  # columns that lie inside as a whole
            assert torch.equal(inside[0][..., :width], inside[1][..., :width])
            assert not inside[0][..., residual.cells[2] - width :].any()
            assert inside[1].any()


def _lay_out(residual) -> Tensor:
    """A residual's values as r c f h w."""
    if residual.value.ndim == 4:
        return residual.value[:, :, None]
    count = residual.cells[0] * residual.cells[1] * residual.cells[2]
    rows = residual.value[:, residual.first : residual.first + count]
    return rows.transpose(1, 2).unflatten(2, residual.cells)


def _compute(control):
    calls = []
    model = _get_first(control.parts.denoiser)
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(bind_call(module, args, kwargs)),
        with_kwargs=True,
    )
    control.predict()
    hook.remove()
    support, rows = control.support, control.read()
    return support.compute(control.net, model, calls[0], rows, torch.ones(len(TEXTS)))


@torch.no_grad()
def test_the_public_pipeline_draws_what_ours_draws(control, plain_posterior):
    case, scale = control.case, 0.7
    stock = control.support.pipeline(control.parts, control.net)
    clip = control.draw(1)
    theirs = control.sample(stock, **control.support.call(clip, scale))
    plain = control.sample(case.family.pipeline(control.parts))
    with control.connect() as branch:
        branch.set_rows(control.support.read(control.net, control.parts.vae, clip), scale)
        ours = control.sample(case.family.pipeline(control.parts))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ours, plain, atol=1e-3)
    assert torch.equal(control.sample(case.family.pipeline(control.parts)), plain)


@torch.no_grad()
def test_a_saved_net_comes_back_frozen_and_equal(control, tmp_path):
    with control.connect() as branch:
        branch.set_rows(control.read(), SCALES)
        expected = control.predict()
    before = control.net.state_dict()
    control.net.save_pretrained(tmp_path)
    support, variant = control.support, control.case.variant
    net = support.load(tmp_path, variant, dtype=torch.float32, device="cpu")
    assert not any(value.requires_grad for value in net.parameters())
    assert not any(module.training for module in net.modules())
    after = net.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    with control.connect(net) as branch:
        branch.set_rows(control.read(net), SCALES)
        assert torch.equal(control.predict(), expected)


def test_shapes_are_made_without_weights(control, tmp_path):
    control.net.save_pretrained(tmp_path)
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    support, variant = control.support, control.case.variant
    net = support.load(tmp_path, variant, dtype=torch.bfloat16, device="meta")
    assert {value.device.type for value in net.parameters()} == {"meta"}
    with pytest.raises(WeightsNotFound, match="safetensors"):
        support.load(tmp_path, variant, dtype=torch.float32, device="cpu")


def test_what_is_no_net_is_refused_in_words(control, tmp_path):
    support, variant = control.support, control.case.variant
    options = {"dtype": torch.float32, "device": "cpu"}
    for source in (tmp_path / "nowhere", tmp_path, ""):
        with pytest.raises(WeightsNotFound):
            support.load(source, variant, **options)
    config = tmp_path / "config.json"
    control.net.save_pretrained(tmp_path)
    config.write_text('{"_class_name": "ControlNetUnionModel"}')
    with pytest.raises(ControlNotUsable, match="union of kinds"):
        support.load(tmp_path, variant, **options)
    config.write_text("{")
    with pytest.raises(ControlNotUsable, match="cannot be read"):
        support.load(tmp_path, variant, **options)


def test_a_net_of_another_model_does_not_fit(control):
    denoiser = _get_first(control.parts.denoiser)
    assert control.support.compare(control.net, denoiser) == ""
    for name in CONTROLS.names():
        if name == control.case.family.name:
            continue
        assert control.support.compare(control.net, _build_denoiser(name))


@torch.no_grad()
def test_a_control_of_another_size_is_refused(control):
    rows = control.read()
    with control.connect() as branch:
        branch.set_rows(rows[..., : rows.shape[-1] // 2])
        with pytest.raises(ValueError, match="control of"):
            control.predict()
        branch.set_rows(rows[:2])
        with pytest.raises(ValueError, match="rows"):
            control.predict()
        with pytest.raises(ValueError, match="one for"):
            branch.set_rows(rows, torch.ones(2))


def test_a_frozen_net_gets_no_gradient_and_gives_none(control):
    denoiser = _get_first(control.parts.denoiser)
    weight = next(value for value in denoiser.parameters() if value.ndim > 1)
    weight.requires_grad_(True)
    try:
        with control.connect() as branch:
            branch.set_rows(control.read())
            control.predict().square().mean().backward()
        assert weight.grad is not None
        assert all(value.grad is None for value in control.net.parameters())
    finally:
        weight.requires_grad_(False).grad = None


def test_a_net_that_trains_gets_its_gradient_and_the_base_none(control):
    denoiser = _get_first(control.parts.denoiser)
    net = control.support.start(denoiser)
    assert all(value.requires_grad for value in net.parameters())
    with control.connect(net) as branch:
        branch.set_rows(control.read(net))
        control.predict().square().mean().backward()
    assert all(value.grad is None for value in denoiser.parameters())
    moved = [name for name, value in net.named_parameters() if value.grad is not None]
    assert any(net.get_parameter(name).grad.any() for name in moved)
