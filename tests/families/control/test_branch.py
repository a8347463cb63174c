"""A ControlNet on a denoiser: whose rows, wrappers, experts, and blocks that are computed again."""

from copy import deepcopy

import peft
import pytest
import torch
from torch import nn

from frisket.adapters import lora
from frisket.attention.base import name_samples
from frisket.families.base import FAMILIES, default_targets
from frisket.families.control.base import CONTROLS, ControlNotUsable
from frisket.families.control.branch import connect_control, list_rows
from frisket.registry import UnknownPlugin
from frisket.training.memory.precision import checkpoint_blocks

MIXED = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
PROMPTS = ["a red fox", "two boats on a lake"]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Scene:
    """Tiny parts of a family, a net, and one batch of two."""

    def __init__(self, name: str, variant: str) -> None:
        self.family, self.support = FAMILIES.load(name), CONTROLS.load(name)
        self.variant = variant
        self.parts = self.family.tiny(variant)
        self.denoiser = self.parts.denoiser
        self.models = getattr(self.denoiser, "experts", {"": self.denoiser})
        self.net = self.support.tiny(next(iter(self.models.values())))
        grid = self.family.variants[variant].grid
        height, width = 2 * grid.step, 3 * grid.step
        self.noisy = draw(2, grid.channels, *grid.cells(1, height, width))
        self.conditioning = self.family.embed(self.parts.text, PROMPTS)
        clips = draw(2, 3, 1, height, width).sigmoid()
        rows = [self.support.read(self.net, self.parts.vae, clip[None]) for clip in clips]
        self.control = torch.cat(rows)

    def predict(self, denoiser=None, t=(0.3, 0.6), rows=slice(None)) -> torch.Tensor:
        denoiser = self.denoiser if denoiser is None else denoiser
        texts = {name: value[rows] for name, value in self.conditioning.items()}
        return self.family.predict(denoiser, self.noisy[rows], torch.tensor(t)[rows], texts)


@pytest.fixture(scope="module")
def wan() -> Scene:
    return Scene("wan", "2.1-t2v-1.3b")


@pytest.fixture(scope="module")
def flux() -> Scene:
    return Scene("flux", "dev")


def test_rows_follow_the_batch_the_samples_named_and_both_sides_of_guidance():
    assert list_rows(2, 2) == [0, 1]
    assert list_rows(4, 2) == [0, 1, 0, 1]
    assert list_rows(3, 1) == [0, 0, 0]
    with name_samples([2, 0]):
        assert list_rows(2, 3) == [2, 0]
        assert list_rows(4, 3) == [2, 0, 2, 0]
    with pytest.raises(ValueError, match="3 rows"):
        list_rows(3, 2)


@torch.no_grad()
def test_a_part_of_a_batch_has_its_own_rows(flux):
    branch = connect_control(flux.family, flux.denoiser, flux.net)
    branch.set_rows(flux.control)
    together = flux.predict()
    with name_samples([1]):
        alone = flux.predict(rows=slice(1, 2))
    branch.remove()
    torch.testing.assert_close(alone, together[1:], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_show_gives_rows_for_a_while_and_then_what_there_was(flux):
    branch = connect_control(flux.family, flux.denoiser, flux.net)
    base = flux.predict()
    branch.set_rows(flux.control, 0.5)
    half = flux.predict()
    with branch.show(flux.control.flip(0)):
        other = flux.predict()
    assert torch.equal(flux.predict(), half)
    assert not torch.allclose(other, half, atol=1e-3)
    with branch.show(None):
        assert torch.equal(flux.predict(), base)
    branch.remove()
    assert torch.equal(flux.predict(), base)
    assert not flux.denoiser._forward_pre_hooks


@pytest.mark.parametrize("name", ["flux", "wan"])
@torch.no_grad()
def test_two_nets_add_up_and_leave_one_by_one(name, request):
    scene = request.getfixturevalue(name)
    base = scene.predict()
    first = connect_control(scene.family, scene.denoiser, scene.net)
    first.set_rows(scene.control)
    alone = scene.predict()
    second = connect_control(scene.family, scene.denoiser, scene.net)
    second.set_rows(scene.control)
    both = scene.predict()
    first.set_rows(None)
    assert torch.equal(scene.predict(), alone)
    first.set_rows(scene.control, 2.0)
    second.set_rows(None)
    torch.testing.assert_close(scene.predict(), both, rtol=1e-4, atol=1e-5)
    first.remove()
    second.remove()
    assert torch.equal(scene.predict(), base)


@torch.no_grad()
def test_wrappers_are_looked_through(flux):
    class Wrapper(nn.Module):
        """As DistributedDataParallel: the model is its `module`."""

        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, *args, **kwargs):
            return self.module(*args, **kwargs)

    branch = connect_control(flux.family, flux.denoiser, flux.net)
    branch.set_rows(flux.control)
    expected = flux.predict()
    branch.remove()
    wrapped = Wrapper(deepcopy(flux.denoiser))
    for denoiser, net in ((wrapped, flux.net), (wrapped.module, Wrapper(flux.net))):
        branch = connect_control(flux.family, denoiser, net)
        branch.set_rows(flux.control)
        assert torch.equal(flux.predict(wrapped.module), expected)
        branch.remove()
    adapter = peft.LoraConfig(r=2, target_modules=["to_q"])
    model = peft.get_peft_model(deepcopy(flux.denoiser), adapter)
    branch = connect_control(flux.family, model, flux.net)
    branch.set_rows(flux.control)
    assert torch.equal(flux.predict(model.base_model.model), expected)
    branch.remove()


@torch.no_grad()
def test_every_expert_takes_part_each_with_its_own_net_where_there_are_several():
    scene = Scene("wan", "2.2-t2v-a14b")
    levels = {"high": (0.9, 0.95), "low": (0.2, 0.6)}
    base = {name: scene.predict(t=t) for name, t in levels.items()}
    nets = {name: scene.support.tiny(model) for name, model in scene.models.items()}
    started = {**nets, "high": scene.support.start(scene.models["high"])}
    branch = connect_control(scene.family, scene.denoiser, started)
    branch.set_rows(scene.control)
    assert torch.equal(scene.predict(t=levels["high"]), base["high"])
    assert not torch.allclose(scene.predict(t=levels["low"]), base["low"], atol=1e-3)
    branch.remove()
    with pytest.raises(ControlNotUsable, match="expert high"):
        connect_control(scene.family, scene.denoiser, {"low": nets["low"]})


@pytest.mark.parametrize("name", ["flux", "wan"])
def test_a_backward_pass_that_looks_again_sees_the_rows_of_its_own_call(name, request):
    """Blocks are recomputed after another call, without control, was made in between."""
    scene = request.getfixturevalue(name)
    denoiser = deepcopy(scene.denoiser)
    weights = [value.requires_grad_() for value in denoiser.parameters() if value.ndim == 2]

    def find_gradients() -> list[torch.Tensor]:
        branch = connect_control(scene.family, denoiser, scene.net)
        branch.set_rows(scene.control)
        loss = scene.predict(denoiser).square().mean()
        branch.set_rows(None)
        with torch.no_grad():
            scene.predict(denoiser)
        branch.set_rows(scene.control.flip(0), 0.3)
        with torch.no_grad():
            scene.predict(denoiser)
        loss.backward()
        branch.remove()
        gradients = [value.grad.clone() for value in weights if value.grad is not None]
        denoiser.zero_grad()
        return gradients

    expected = find_gradients()
    checkpoint_blocks(denoiser)
    denoiser.train()
    found = find_gradients()
    assert len(found) == len(expected) > 4
    for value, other in zip(found, expected, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("z_image", "turbo"),
        ("wan", "2.1-t2v-1.3b"),
        pytest.param("stable_diffusion", "sd15", marks=pytest.mark.slow),
        pytest.param("sd3", "3.5-medium", marks=pytest.mark.slow),
    ],
)
def test_a_net_that_trains_may_look_again_too(name, variant):
    scene = Scene(name, variant)
    denoiser = next(iter(scene.models.values()))

    def find_gradients(checkpointed: bool) -> dict[str, torch.Tensor]:
        net = scene.support.tiny(denoiser).requires_grad_(True).train()
        if checkpointed:
            net.enable_gradient_checkpointing()
        branch = connect_control(scene.family, scene.denoiser, net)
        branch.set_rows(scene.control)
        scene.predict().square().mean().backward()
        branch.remove()
        return {key: value.grad for key, value in net.named_parameters() if value.grad is not None}

    expected, found = find_gradients(False), find_gradients(True)
    assert set(found) == set(expected)
    assert len(found) > 10
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-6)


@MIXED
def test_layers_that_a_frozen_net_borrows_still_get_their_gradient_under_autocast():
    """Autocast would keep the weights it cast without a gradient, for the denoiser's own pass."""
    scene = Scene("z_image", "turbo")
    weight = scene.denoiser.noise_refiner[0].attention.to_q.weight.requires_grad_()
    branch = connect_control(scene.family, scene.denoiser, scene.net)
    branch.set_rows(scene.control)
    with torch.autocast("cpu", torch.bfloat16):
        loss = scene.predict().square().mean()
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.any()


@MIXED
@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("stable_diffusion", "sdxl"),
        pytest.param("flux", "dev", marks=pytest.mark.slow),
        ("wan", "2.1-t2v-1.3b"),
    ],
)
@torch.no_grad()
def test_a_row_without_control_is_the_base_under_autocast_and_in_half_precision(name, variant):
    scene = Scene(name, variant)
    branch = connect_control(scene.family, scene.denoiser, scene.net)
    for dtype in (torch.float32, torch.bfloat16):
        scene.denoiser.to(dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
            branch.set_rows(None)
            base = scene.predict()
            branch.set_rows(scene.control, torch.tensor([0.0, 1.0]))
            output = scene.predict()
        assert torch.equal(output[0], base[0])
        assert not torch.allclose(output[1], base[1], atol=1e-2)


@pytest.mark.parametrize("name", ["flux", "wan"])
@torch.no_grad()
def test_a_copy_of_the_denoiser_has_a_branch_of_its_own(name, request):
    scene = request.getfixturevalue(name)
    base = scene.predict()
    branch = connect_control(scene.family, scene.denoiser, scene.net)
    branch.set_rows(scene.control)
    once = scene.predict()
    copy = deepcopy(scene.denoiser)
    second = connect_control(scene.family, copy, scene.net)
    second.set_rows(scene.control)
    twice = scene.predict(copy)
    second.remove()
    branch.remove()
    assert torch.equal(scene.predict(), base)
    assert torch.equal(scene.predict(copy), once)
    assert not torch.allclose(twice, once, atol=1e-3)


@pytest.mark.parametrize("name", ["flux", "wan"])
def test_a_lora_is_saved_under_the_names_it_has_without_control(name, request):
    scene = request.getfixturevalue(name)
    denoiser = deepcopy(scene.denoiser)
    targets, dead = default_targets(scene.family, scene.variant)
    spec = lora.LoraSpec("lora", rank=2, alpha=2.0, targets=targets, dead=dead)
    lora.attach(denoiser, spec, seed=0)
    names = list(denoiser.state_dict()), list(lora.trainable(denoiser))
    branch = connect_control(scene.family, denoiser, scene.net)
    branch.set_rows(scene.control)
    scene.predict(denoiser).square().mean().backward()
    assert (list(denoiser.state_dict()), list(lora.trainable(denoiser))) == names
    trained = lora.trainable(denoiser)
    assert all(value.grad is not None for value in trained.values())
    assert all(value.grad is None for value in scene.net.parameters())


def test_what_cannot_be_connected_is_named(flux):
    maskdit = FAMILIES.load("maskdit")
    parts = maskdit.tiny(maskdit.default)
    with pytest.raises(UnknownPlugin, match="maskdit"):
        connect_control(maskdit, parts.denoiser, flux.net)
    other = Scene("sd3", "3.5-medium")
    with pytest.raises(ControlNotUsable, match="made for another model"):
        connect_control(flux.family, flux.denoiser, other.net)
