"""ControlNets of Z-Image: modules that are lent, and the forms of its public nets."""

from copy import deepcopy

import pytest
import torch
from diffusers import ZImageControlNetModel
from safetensors import safe_open
from tests.families.control.scene import Scene, stir

from frisket.families.control.base import ControlNotUsable
from frisket.families.control.nets.z_image import LENT
from frisket.families.control.starting import build_net

OPTIONS = {"dtype": torch.float32, "device": "cpu"}


def build(scene: Scene, **more) -> ZImageControlNetModel:
    config = {**scene.denoiser.config, "control_layers_places": [0, 1], "control_in_dim": 16}
    config |= {"control_refiner_layers_places": [0], **more}
    return stir(build_net(ZImageControlNetModel, config, torch.device("cpu")))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene("z_image", "turbo")


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"control_layers_places": [0]},
        {"control_in_dim": 33, "add_control_noise_refiner": "control_layers"},
        {"control_in_dim": 33, "add_control_noise_refiner": "control_noise_refiner"},
    ],
    ids=["first", "one layer", "version 2", "version 2.1"],
)
def test_every_form_draws_what_the_public_pipeline_draws(scene, form, tmp_path):
    build(scene, **form).save_pretrained(tmp_path)
    net = scene.support.load(tmp_path, "turbo", **OPTIONS)
    ours, theirs = (scene.sample(net, stock=stock) for stock in (False, True))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(scene.predict(net), scene.predict(), atol=1e-3)


def test_a_net_is_and_saves_its_own_weights_alone_whatever_was_called(scene, tmp_path):
    net = scene.support.start(scene.denoiser)
    before = [name for name, _ in net.named_parameters()]
    frozen = {id(value) for value in scene.denoiser.parameters()}
    scene.predict(net)
    scene.support.pipeline(scene.parts, net)
    assert [name for name, _ in net.named_parameters()] == before
    assert not frozen & {id(value) for value in net.parameters()}
    assert all(getattr(net, name) is None for name in LENT)
    deepcopy(net).save_pretrained(tmp_path)
    with safe_open(tmp_path / "diffusion_pytorch_model.safetensors", "pt") as opened:
        assert set(opened.keys()) == set(before)


def test_a_new_net_has_layers_of_the_transformer_evenly_spread(scene):
    net = scene.support.start(scene.denoiser, layers=2)
    assert net.control_layers_places == [0, 1]
    for block, place in zip(net.control_layers, net.control_layers_places, strict=True):
        for name, value in scene.denoiser.layers[place].state_dict().items():
            assert torch.equal(block.state_dict()[name], value)
    for name, value in scene.denoiser.noise_refiner.state_dict().items():
        assert torch.equal(net.control_noise_refiner.state_dict()[name], value)
    with pytest.raises(ValueError, match="1 to 2 blocks"):
        scene.support.start(scene.denoiser, layers=3)


def test_modules_come_back_even_where_a_call_fails(scene):
    net = build(scene)
    scene.clips = scene.clips[..., :-16]
    with pytest.raises(ValueError, match="clip's size"):
        scene.predict(net)
    scene.clips = torch.cat([scene.clips, scene.clips[..., -16:]], -1)
    assert all(getattr(net, name) is None for name in LENT)


def test_nets_that_do_not_go_with_it_are_refused(scene, tmp_path):
    build(scene, control_in_dim=8).save_pretrained(tmp_path)
    with pytest.raises(ControlNotUsable, match="control_in_dim is 8"):
        scene.support.load(tmp_path, "turbo", **OPTIONS)
    deeper = build(scene, control_layers_places=[0, 5])
    assert "layer 5" in scene.support.compare(deeper, scene.denoiser)
    with pytest.raises(ValueError, match="one precision"):
        scene.predict(build(scene).to(torch.bfloat16))


def test_a_float32_net_beside_a_half_precision_transformer_adds_in_its_precision():
    scene = Scene("z_image", "turbo")
    scene.denoiser.to(torch.bfloat16)
    net = build(scene)
    assert net.control_layers[0].attention_norm1.weight.dtype == torch.float32
    assert torch.isfinite(scene.predict(net)).all()
    assert not torch.equal(scene.predict(net), scene.predict())
