"""FLUX.1's ControlNets: both public forms, what is copied, and what is refused."""

import pytest
import torch
from diffusers import FluxControlNetModel
from tests.families.control.scene import Scene, stir

from frisket.families.base import FAMILIES
from frisket.families.control.base import CONTROLS, ControlNotUsable
from frisket.families.control.loading import ignore_deprecations

OPTIONS = {"dtype": torch.float32, "device": "cpu"}


def build(scene: Scene, **more) -> FluxControlNetModel:
    config = {**scene.denoiser.config, "num_layers": 1, "num_single_layers": 1, **more}
    names = FluxControlNetModel._get_init_keys(FluxControlNetModel)
    with ignore_deprecations():
        return stir(FluxControlNetModel(**{k: v for k, v in config.items() if k in names}))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene("flux", "dev")


def test_a_new_net_has_the_first_blocks_of_the_denoiser_as_upstream_copies_them(scene):
    net = scene.support.start(scene.denoiser, layers=1)
    with ignore_deprecations():
        theirs = FluxControlNetModel.from_transformer(
            scene.denoiser,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
        )
    ours, expected = net.state_dict(), theirs.state_dict()
    assert set(ours) == set(expected)
    assert all(torch.equal(ours[name], expected[name]) for name in expected)
    assert len(net.controlnet_blocks) == len(net.controlnet_single_blocks) == 1
    with pytest.raises(ValueError, match="1 to 2 blocks"):
        scene.support.start(scene.denoiser, layers=3)


@pytest.mark.parametrize("single", [0, 1])
def test_a_net_of_xlabs_form_reads_pixels_and_repeats_over_the_blocks(scene, single):
    net = build(scene, num_single_layers=single, conditioning_embedding_channels=16, patch_size=2)
    assert scene.read(net).shape == (2, 3, 1, *scene.size)
    ours, theirs = (scene.sample(net, stock=stock) for stock in (False, True))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(scene.predict(net), scene.predict(), atol=1e-3)


@pytest.mark.usefixtures("plain_posterior")
def test_a_net_that_is_told_no_guidance_goes_with_dev(scene):
    net = build(scene, guidance_embeds=False)
    assert scene.support.compare(net, scene.denoiser) == ""
    ours, theirs = (scene.sample(net, stock=stock) for stock in (False, True))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_union_net_is_refused(scene, tmp_path):
    build(scene, num_mode=6).save_pretrained(tmp_path)
    with pytest.raises(ControlNotUsable, match="Union nets"):
        scene.support.load(tmp_path, "dev", **OPTIONS)


def test_schnell_takes_no_net_that_is_told_a_guidance(scene, tmp_path):
    net = build(scene, guidance_embeds=True)
    net.save_pretrained(tmp_path)
    with pytest.raises(ControlNotUsable, match="guidance"):
        scene.support.load(tmp_path, "schnell", **OPTIONS)
    schnell = FAMILIES.load("flux").tiny("schnell").denoiser
    assert "guidance" in scene.support.compare(net, schnell)


def test_kontext_is_refused_with_the_variant_to_take():
    assert 'model.variant = "dev"' in CONTROLS.load("flux").refuse("kontext")
