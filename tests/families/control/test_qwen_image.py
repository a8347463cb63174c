"""ControlNets of Qwen-Image: what is copied, one residual for both sides of guidance."""

import pytest
import torch
from diffusers import QwenImageControlNetModel
from tests.families.control.scene import Scene

from frisket.families.control.base import CONTROLS, ControlNotUsable
from frisket.families.control.branch import connect_control
from frisket.families.control.starting import build_net

OPTIONS = {"dtype": torch.float32, "device": "cpu"}


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene("qwen_image", "image")


def test_a_new_net_has_the_first_blocks_and_the_norm_of_the_text(scene):
    with torch.no_grad():
        scene.denoiser.txt_norm.weight.mul_(1.5)
    net = scene.support.start(scene.denoiser, layers=1)
    copied = scene.denoiser.state_dict()
    own = ("controlnet_blocks", "controlnet_x_embedder")
    names = [name for name in net.state_dict() if not name.startswith(own)]
    assert "txt_norm.weight" in names
    assert all(torch.equal(net.state_dict()[name], copied[name]) for name in names)
    assert len(net.transformer_blocks) == 1


@torch.no_grad()
def test_a_step_with_a_negative_prompt_computes_residuals_once(scene):
    net, passes = scene.support.tiny(scene.denoiser), []
    hook = net.register_forward_pre_hook(lambda *_: passes.append(1))
    scene.sample(net, stock=False)
    assert len(passes) == 2  # steps, each with a call for the prompt and one for the negative
    passes.clear()
    scene.predict(net)
    scene.predict(net)
    hook.remove()
    assert len(passes) == 2


@torch.no_grad()
def test_residuals_are_not_kept_for_another_level_or_other_rows(scene):
    net = scene.support.tiny(scene.denoiser)
    calls = []
    hook = scene.denoiser.register_forward_pre_hook(
        lambda _model, _args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    scene.predict()
    hook.remove()
    call, rows = calls[0], scene.read(net)
    branch = connect_control(scene.family, scene.denoiser, net)
    branch.set_rows(rows)
    first = scene.denoiser(**call)[0]
    assert torch.equal(scene.denoiser(**call)[0], first)
    later = scene.denoiser(**{**call, "timestep": call["timestep"] / 2})[0]
    branch.set_rows(rows.flip(0))
    other = scene.denoiser(**call)[0]
    branch.remove()
    assert not torch.allclose(later, first, atol=1e-3)
    assert not torch.allclose(other, first, atol=1e-3)


def test_what_is_not_supported_is_refused(scene, tmp_path):
    config = {**scene.denoiser.config, "num_layers": 1, "extra_condition_channels": 4}
    net = build_net(QwenImageControlNetModel, config, torch.device("cpu"))
    net.save_pretrained(tmp_path)
    with pytest.raises(ControlNotUsable, match="inpainting"):
        scene.support.load(tmp_path, "image", **OPTIONS)
    for variant in ("edit", "edit-2509", "edit-2511"):
        assert "leave [control] out" in CONTROLS.load("qwen_image").refuse(variant)
