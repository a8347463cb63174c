"""VACE beside a plain Wan transformer: the same as the whole, from its files, and back again."""

from pathlib import Path

import pytest
import torch
from diffusers import WanVACETransformer3DModel
from safetensors import safe_open
from tests.families.control.scene import Scene, draw, stir

from frisket.families.base import WeightsNotFound
from frisket.families.control.base import CONTROLS, ControlNotUsable
from frisket.families.control.branch import connect_control
from frisket.families.control.nets.wan import add_mask
from frisket.families.control.vace.files import assemble
from frisket.families.control.vace.places import KEY

OPTIONS = {"dtype": torch.float32, "device": "cpu"}


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene("wan", "2.1-t2v-1.3b", frames=5)


def build_whole(scene: Scene, **more) -> WanVACETransformer3DModel:
    """A VACE transformer of random weights, whose plain half the scene's denoiser has."""
    config = {name: value for name, value in scene.denoiser.config.items() if name[0] != "_"}
    config |= {"vace_layers": [0, 1], "vace_in_channels": 96, **more}
    whole = stir(WanVACETransformer3DModel.from_config(config))
    whole.load_state_dict(scene.denoiser.state_dict(), strict=False)
    return whole


@torch.no_grad()
def test_the_net_and_a_plain_transformer_are_the_whole(scene, tmp_path):
    """At each of its layers' scales, for a batch, from the folder that upstream saves."""
    whole = build_whole(scene)
    whole.save_pretrained(tmp_path)
    net = scene.support.load(tmp_path, "2.1-t2v-1.3b", **OPTIONS)
    context, t = add_mask(scene.read(net)), torch.tensor([300.0, 600.0])
    expected = whole(
        scene.noisy,
        t,
        scene.conditioning["text"],
        control_hidden_states=context,
        control_hidden_states_scale=torch.full((2,), 0.7),
        return_dict=False,
    )[0]
    output = scene.predict(net, 0.7)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(output, scene.predict(), atol=1e-3)


@torch.no_grad()
def test_the_context_is_what_the_public_pipeline_prepares(scene):
    net = scene.support.tiny(scene.denoiser)
    stock = scene.support.pipeline(scene.parts, net)
    height, width = scene.size
    video, mask, references = stock.preprocess_conditions(
        scene.support.call(scene.clips[:1], 1.0)["video"],
        height=height,
        width=width,
        num_frames=5,
        dtype=torch.float32,
        device="cpu",
    )
    latents = stock.prepare_video_latents(video, mask, references, device=torch.device("cpu"))
    expected = torch.cat([latents, stock.prepare_masks(mask, references)], 1)
    context = add_mask(scene.read(net)[:1])
    torch.testing.assert_close(context, expected, rtol=1e-5, atol=1e-6)
    assert expected.shape[1] == 96


def test_only_the_context_blocks_are_read_of_a_whole_folder(scene, tmp_path):
    build_whole(scene).save_pretrained(tmp_path)
    net = scene.support.load(tmp_path, "2.1-t2v-1.3b", dtype=torch.bfloat16, device="cpu")
    assert all(name.startswith("vace_") for name in net.state_dict())
    exact = [n for n, value in net.named_parameters() if value.dtype == torch.float32]
    assert all("scale_shift_table" in name or "norm2" in name for name in exact)
    assert any("scale_shift_table" in name for name in exact)


def test_what_is_put_together_is_saved_as_the_released_ones_are(scene, tmp_path):
    net = scene.support.tiny(scene.denoiser)
    whole = scene.support.pipeline(scene.parts, net).transformer
    assert whole.blocks is scene.denoiser.blocks  # nothing is copied
    whole.save_pretrained(tmp_path)
    theirs = WanVACETransformer3DModel.from_pretrained(tmp_path)
    expected = {**scene.denoiser.state_dict(), **net.state_dict()}
    assert set(theirs.state_dict()) == set(expected)
    assert all(torch.equal(theirs.state_dict()[name], expected[name]) for name in expected)
    again = scene.support.load(tmp_path, "2.1-t2v-1.3b", **OPTIONS)
    assert torch.equal(scene.predict(again), scene.predict(net))
    assert not any(value.is_meta for value in assemble(scene.denoiser, net).parameters())


def test_a_new_net_copies_every_second_block_and_gives_nothing(scene):
    net = scene.support.start(scene.denoiser)
    assert list(net.config.vace_layers) == [0]
    assert list(scene.support.start(scene.denoiser, layers=2).config.vace_layers) == [0, 1]
    for name, value in scene.denoiser.blocks[0].state_dict().items():
        assert torch.equal(net.vace_blocks[0].state_dict()[name], value)
    assert torch.equal(scene.predict(net), scene.predict())


def test_damaged_and_other_folders_are_named(scene, tmp_path):
    options = {"variant": "2.1-t2v-1.3b", **OPTIONS}
    build_whole(scene, vace_in_channels=132).save_pretrained(tmp_path / "fun")
    with pytest.raises(ControlNotUsable, match="vace_in_channels is 132"):
        scene.support.load(tmp_path / "fun", **options)
    scene.denoiser.save_pretrained(tmp_path / "plain")
    with pytest.raises(ControlNotUsable, match="WanTransformer3DModel"):
        scene.support.load(tmp_path / "plain", **options)
    build_whole(scene).save_pretrained(tmp_path / "whole" / "transformer")
    with pytest.raises(WeightsNotFound, match="There is one in: transformer"):
        scene.support.load(tmp_path / "whole", **options)
    with pytest.raises(WeightsNotFound, match="hf download"):
        scene.support.load("Wan-AI/Wan2.1-VACE-1.3B-diffusers", **options)
    _cut(tmp_path / "whole" / "transformer")
    with pytest.raises(ControlNotUsable, match="does not fit"):
        scene.support.load(tmp_path / "whole" / "transformer", **options)


def _cut(folder: Path) -> None:
    """Leave out a tensor of the context blocks."""
    from safetensors.torch import save_file

    (file,) = folder.glob("*.safetensors")
    with safe_open(file, "pt") as opened:
        names = [name for name in opened.keys() if name != "vace_blocks.0.proj_out.weight"]  # noqa: SIM118
        tensors = {name: opened.get_tensor(name) for name in names}
    save_file(tensors, file)


def test_variants_without_vace_are_refused_with_the_one_to_take():
    refuse = CONTROLS.load("wan").refuse
    assert 'model.variant = "2.2-t2v-a14b"' in refuse("2.2-i2v-a14b")
    assert 'model.variant = "2.1-t2v-14b"' in refuse("2.1-i2v-14b-480p")
    assert "Wan 2.1's VAE" in refuse("2.2-ti2v-5b-i2v")
    assert refuse("2.1-t2v-14b") == refuse("2.2-t2v-a14b") == ""


@torch.no_grad()
def test_residuals_that_no_block_takes_do_not_pass_in_silence(scene):
    """As where tokens are routed past blocks, which are then given another rotary embedding."""
    net = scene.support.tiny(scene.denoiser)
    branch = connect_control(scene.family, scene.denoiser, net)
    plain = scene.denoiser.blocks[0].register_forward_pre_hook(
        lambda _block, args: (*args[:3], tuple(args[3]))
    )
    branch.set_rows(scene.read(net))
    with pytest.raises(RuntimeError, match=r"blocks \[0\]"):
        scene.family.predict(
            scene.denoiser, scene.noisy, torch.tensor([0.3, 0.6]), scene.conditioning
        )
    plain.remove()
    branch.remove()


@torch.no_grad()
def test_residuals_may_be_handed_over_without_a_branch(scene):
    scene.support.prepare(scene.denoiser)
    call = {
        "hidden_states": scene.noisy,
        "timestep": torch.tensor([300.0, 600.0]),
        "encoder_hidden_states": scene.conditioning["text"],
        "return_dict": False,
    }
    base = scene.denoiser(**call)[0]
    tokens = scene.noisy[0, 0].numel() // 4
    residual = draw(2, tokens, 24)
    moved = scene.denoiser(**call, attention_kwargs={KEY: {1: residual}})[0]
    assert not torch.allclose(moved, base, atol=1e-3)
    assert torch.equal(scene.denoiser(**call)[0], base)
