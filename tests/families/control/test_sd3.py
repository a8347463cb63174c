"""ControlNets of Stable Diffusion 3: InstantX's form and SD 3.5 Large's, and what is copied."""

import pytest
import torch
from diffusers import SD3ControlNetModel
from tests.families.control.scene import Scene, stir

from frisket.families.control.base import ControlNotUsable

OPTIONS = {"dtype": torch.float32, "device": "cpu"}
LARGE = {"use_pos_embed": False, "joint_attention_dim": None}


def build(scene: Scene, **more) -> SD3ControlNetModel:
    config = {**scene.denoiser.config, "num_layers": 1, **more}
    names = SD3ControlNetModel._get_init_keys(SD3ControlNetModel)
    return stir(SD3ControlNetModel(**{k: v for k, v in config.items() if k in names}))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene("sd3", "3.5-medium")


def test_a_new_net_has_the_first_blocks_and_the_transformer_keeps_its_configuration(scene):
    before = dict(scene.denoiser.config)
    net = scene.support.start(scene.denoiser)
    assert dict(scene.denoiser.config) == before
    assert len(net.transformer_blocks) == len(scene.denoiser.transformer_blocks) - 1
    copied = scene.denoiser.state_dict()
    own = ("controlnet_blocks", "pos_embed_input")
    for name, value in net.state_dict().items():
        if not name.startswith(own):
            assert torch.equal(value, copied[name])
    assert not any(value.any() for value in net.pos_embed_input.parameters())


@pytest.mark.usefixtures("plain_posterior")
@pytest.mark.parametrize("zeroed", [True, False])
@pytest.mark.parametrize("form", [{}, LARGE], ids=["instantx", "large"])
def test_both_forms_draw_what_the_public_pipeline_draws(scene, form, zeroed):
    net = build(scene, force_zeros_for_pooled_projection=zeroed, **form)
    ours, theirs = (scene.sample(net, stock=stock) for stock in (False, True))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(scene.predict(net), scene.predict(), atol=1e-3)
    assert (net.pos_embed is None) == bool(form)  # the pipeline left the net as it was


def test_latents_are_shifted_where_the_net_was_trained_so(scene):
    plain, shifted = (build(scene, force_zeros_for_pooled_projection=z) for z in (True, False))
    config = scene.parts.vae.config
    difference = scene.read(plain) - scene.read(shifted)
    expected = torch.full_like(difference, config.shift_factor * config.scaling_factor)
    torch.testing.assert_close(difference, expected)


def test_an_inpainting_net_is_refused(scene, tmp_path):
    build(scene, extra_conditioning_channels=1).save_pretrained(tmp_path)
    with pytest.raises(ControlNotUsable, match="inpainting"):
        scene.support.load(tmp_path, "3.5-medium", **OPTIONS)
