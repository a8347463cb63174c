"""Where the gradient of a run under control goes, and where there is none."""

from pathlib import Path

import pytest
import torch
from tests.runs.control.scene import config_of, write_world
from torch import Tensor, nn

from frisket.adapters import lora
from frisket.config.tree import Config
from frisket.data.loader import Loader
from frisket.data.sample import Batch
from frisket.families.base import FAMILIES, Source
from frisket.runs.control.connect import connect_controls
from frisket.runs.control.setup import open_net
from frisket.runs.control.showing import ControlDraws, ShownControls, lay_place
from frisket.runs.prepare import prepare
from frisket.runs.training_parts import load_trainable
from frisket.training.memory.plan import MemoryPlan

FAMILY = FAMILIES.load("pocket")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def open_run(config: Config) -> tuple[nn.Module, nn.Module, ShownControls, Batch]:
    """The denoiser of a run, its net, what shows it controls, and a batch."""
    source = Source("image", config.model.source)
    denoiser = load_trainable(config, FAMILY, source, MemoryPlan())
    net = open_net(config, FAMILY, denoiser, source)
    shown = connect_controls(config, FAMILY, denoiser, net)
    batch = Loader(prepare(config), batch=2, seed=0, prefetch=0).at(0)
    return denoiser, net, shown, batch


def compute_error(denoiser: nn.Module, batch: Batch, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The prediction, and its weighted squared error to noise."""
    t = torch.full((len(batch),), 0.5)
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0))
    prediction = FAMILY.predict(denoiser, batch.latents + noise, t, batch.conditioning)
    if prediction.requires_grad:
        prediction.retain_grad()
    return prediction, ((prediction - noise).square() * weights).sum()


@pytest.mark.parametrize("kind", ["lora", "controlnet"])
def test_only_what_is_trained_has_a_gradient(world: Path, tmp_path: Path, kind: str) -> None:
    config = config_of(world, tmp_path, kind, control={"dropout": 0.0} if kind == "lora" else {})
    denoiser, net, shown, batch = open_run(config)
    weights = batch.coverage.sum(1, keepdim=True)
    with shown.draw(batch):
        prediction, error = compute_error(denoiser, batch, weights)
    error.backward()
    trained = lora.trainable(denoiser)
    assert all(value.grad is not None for value in trained.values())
    others = [value for name, value in denoiser.named_parameters() if name not in trained]
    assert others
    assert all(value.grad is None for value in others)
    is_net_trained = any(value.grad is not None for value in net.parameters())
    assert is_net_trained == (kind == "controlnet")
    assert prediction.grad is not None
    outside = (weights == 0).expand_as(prediction)
    assert bool(outside.any())
    assert not prediction.grad[outside].any()
    assert prediction.grad[~outside].any()


@pytest.mark.parametrize("kind", ["lora", "controlnet"])
def test_without_weight_nothing_is_learnt(world: Path, tmp_path: Path, kind: str) -> None:
    config = config_of(world, tmp_path, kind, control={"dropout": 0.0} if kind == "lora" else {})
    denoiser, _, shown, batch = open_run(config)
    with shown.draw(batch):
        _, error = compute_error(denoiser, batch, torch.zeros_like(batch.coverage[:, :1]))
    error.backward()
    for value in lora.trainable(denoiser).values():
        assert value.grad is not None
        assert not value.grad.any()


def test_a_trained_net_is_silent_where_the_base_is_asked(world: Path, tmp_path: Path) -> None:
    config = config_of(world, tmp_path, "controlnet")
    denoiser, net, shown, batch = open_run(config)
    weights = torch.ones_like(batch.coverage[:, :1])
    plain, _ = compute_error(denoiser, batch, weights)
    with torch.no_grad():
        for value in net.parameters():
            value.add_(0.1)
    with shown.draw(batch):
        moved, _ = compute_error(denoiser, batch, weights)
        with lora.frozen(denoiser):
            base, _ = compute_error(denoiser, batch, weights)
            with shown.show(batch):  # as validation does
                again, _ = compute_error(denoiser, batch, weights)
        after, _ = compute_error(denoiser, batch, weights)
    assert torch.equal(base, plain)
    assert torch.equal(again, plain)
    assert not torch.equal(moved, plain)
    assert torch.equal(after, moved)


def test_draws_follow_the_generator() -> None:
    draws = ControlDraws(0.3, 0.5, 1.0)
    strengths = draws.draw(20000, torch.Generator().manual_seed(1))
    assert torch.equal(strengths, draws.draw(20000, torch.Generator().manual_seed(1)))
    assert float((strengths == 0).float().mean()) == pytest.approx(0.3, abs=0.02)
    kept = strengths[strengths > 0]
    assert 0.5 <= float(kept.min()) < 0.51
    assert 0.99 < float(kept.max()) <= 1.0
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    assert torch.equal(ControlDraws().draw(3, generator), torch.ones(3))
    assert torch.equal(generator.get_state(), before)


def test_places_are_the_taught_regions_or_the_rest(world: Path, tmp_path: Path) -> None:
    _, _, shown, batch = open_run(config_of(world, tmp_path))
    inside = lay_place("inside", shown.regions, batch.coverage, batch.masked)
    outside = lay_place("outside", shown.regions, batch.coverage, batch.masked)
    assert inside is not None
    assert outside is not None
    assert torch.equal(inside + outside, torch.ones_like(inside))
    assert torch.equal(inside, batch.coverage[:, :1])
    bare = torch.zeros_like(batch.masked)
    for confine in ("inside", "outside"):
        place = lay_place(confine, shown.regions, batch.coverage, bare)
        assert place is not None
        assert bool((place == 1).all())
    assert lay_place("none", shown.regions, batch.coverage, batch.masked) is None
