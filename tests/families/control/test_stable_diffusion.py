"""ControlNets of Stable Diffusion: what is copied, what a call may bring along, what is refused."""

import pytest
import torch
from diffusers import ControlNetModel
from tests.families.control.scene import Scene
from torch import nn

from frisket.families.base import WeightsNotFound
from frisket.families.control.base import ControlNotUsable
from frisket.families.control.branch import connect_control
from frisket.families.control.nets.stable_diffusion import DOWN, MIDDLE
from frisket.inference.methods.identity.residuals import UNetResiduals, join_residuals

OPTIONS = {"dtype": torch.float32, "device": "cpu"}


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene("stable_diffusion", "sd15")


def test_a_new_net_has_the_first_half_of_the_unet_as_upstream_copies_it(scene):
    net = scene.support.start(scene.denoiser)
    theirs = ControlNetModel.from_unet(scene.denoiser)
    ours, expected = net.state_dict(), theirs.state_dict()
    copied = [name for name in expected if not name.startswith("controlnet_cond_embedding")]
    assert set(ours) == set(expected)
    assert all(torch.equal(ours[name], expected[name]) for name in copied)
    with pytest.raises(ValueError, match="leave it out"):
        scene.support.start(scene.denoiser, layers=2)


def test_half_weights_are_copied_into_a_net_of_float32():
    scene = Scene("stable_diffusion", "sd15")
    unet = scene.denoiser.to(torch.bfloat16)
    net = scene.support.start(unet)
    assert {value.dtype for value in net.parameters()} == {torch.float32}
    weight = unet.down_blocks[0].resnets[0].conv1.weight
    assert torch.equal(net.down_blocks[0].resnets[0].conv1.weight, weight.float())


@torch.no_grad()
def test_residuals_go_with_those_of_identitynet(scene):
    """The two joins do the same to a call, in either order."""
    net = scene.support.tiny(scene.denoiser)
    calls = []
    hook = scene.denoiser.register_forward_pre_hook(
        lambda _model, _args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    branch = connect_control(scene.family, scene.denoiser, net)
    branch.set_rows(scene.read(net))
    handle = scene.denoiser.register_forward_pre_hook(
        lambda _model, _args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    scene.predict()
    for each in (hook, handle):
        each.remove()
    branch.remove()
    down, middle = calls[1][DOWN], calls[1][MIDDLE]
    plain = {name: value for name, value in calls[1].items() if name not in (DOWN, MIDDLE)}
    empty = {**plain, DOWN: None, MIDDLE: None}
    joined = join_residuals(empty, UNetResiduals(tuple(down), middle))
    assert all(torch.equal(a, b) for a, b in zip(joined[DOWN], down, strict=True))
    twice = join_residuals(joined, UNetResiduals(tuple(down), middle))
    assert all(torch.equal(a, 2 * b) for a, b in zip(twice[DOWN], down, strict=True))


def test_what_an_adapter_or_a_quantised_layer_hides_is_not_copied():
    scene = Scene("stable_diffusion", "sd15")
    scene.denoiser.peft_config = {"default": object()}
    with pytest.raises(ValueError, match="without adapters"):
        scene.support.start(scene.denoiser)
    del scene.denoiser.peft_config
    layer = scene.denoiser.time_embedding.linear_1
    layer.weight = nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match=r"memory\.quantise"):
        scene.support.start(scene.denoiser)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"global_pool_conditions": True}, "global_pool_conditions"),
        ({"conditioning_channels": 6}, "conditioning_channels"),
    ],
)
def test_nets_of_other_kinds_are_refused(scene, tmp_path, change, words):
    net = scene.support.start(scene.denoiser)
    channels = change.get("conditioning_channels")
    if channels:
        net = ControlNetModel.from_unet(scene.denoiser, conditioning_channels=channels)
    net.register_to_config(**change)
    net.save_pretrained(tmp_path)
    with pytest.raises(ControlNotUsable, match=words):
        scene.support.load(tmp_path, "sd15", **OPTIONS)


def test_a_net_of_sdxl_is_refused_beside_sd15(scene, tmp_path):
    other = Scene("stable_diffusion", "sdxl")
    other.support.start(other.denoiser).save_pretrained(tmp_path)
    with pytest.raises(ControlNotUsable, match="no ControlNet of sd15"):
        scene.support.load(tmp_path, "sd15", **OPTIONS)


def test_damaged_files_are_named(scene, tmp_path):
    scene.support.start(scene.denoiser).save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"layers_per_block": 1', '"layers_per_block": 2'))
    with pytest.raises(ControlNotUsable, match=r"lacks|does not fit"):
        scene.support.load(tmp_path, "sd15", **OPTIONS)


def test_a_picture_of_bgr_order_is_turned_by_the_net_itself(scene):
    net = scene.support.tiny(scene.denoiser)
    rgb = scene.predict(net)
    net.register_to_config(controlnet_conditioning_channel_order="bgr")
    scene.clips = scene.clips.flip(1)
    torch.testing.assert_close(scene.predict(net), rgb)
    scene.clips = scene.clips.flip(1)


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks`:UserWarning")
def test_a_hub_id_is_not_fetched_where_only_shapes_are_asked_for(scene, monkeypatch):
    for device in ("meta", "cpu"):
        with pytest.raises(WeightsNotFound, match="hf download nobody/none"):
            scene.support.load("nobody/none", "sd15", dtype=torch.float32, device=device)
    calls = []
    monkeypatch.setattr(
        ControlNetModel,
        "load_config",
        lambda _hub, **options: calls.append(options) or {"_class_name": "ControlNetXSAdapter"},
    )
    for device, offline in (("meta", True), ("cpu", False)):
        with pytest.raises(ControlNotUsable, match="holds a ControlNetXSAdapter"):
            scene.support.load("nobody/none", "sd15", dtype=torch.float32, device=device)
        assert calls.pop() == {"local_files_only": offline}
