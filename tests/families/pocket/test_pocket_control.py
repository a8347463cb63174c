"""The pocket family's ControlNets: nothing at the start, the picture afterwards, in both UNets."""

import re

import pytest
import torch

from frisket.families.base import WeightsNotFound
from frisket.families.control.base import CONTROLS, ControlNotUsable, ControlSupport
from frisket.families.models.pocket import FAMILY
from frisket.families.streams import bind_call

CONTROL = CONTROLS.load("pocket")
UNETS = ("image", "video")


def draw_inputs(variant: str, rows: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    card = FAMILY.variants[variant]
    shape = (rows, card.grid.channels, *card.grid.cells(card.frames, 32, 32))
    return {
        "noisy": torch.randn(shape, generator=generator),
        "t": torch.rand(rows, generator=generator),
        "tokens": torch.randn(rows, 12, 64, generator=generator),
        "control": torch.rand(rows, 3, card.frames, 32, 32, generator=generator),
    }


def predict(denoiser, inputs, residuals_of=None):
    """The family's prediction, with what `residuals_of` makes of the UNet's own call joined in."""
    conditioning = {"tokens": inputs["tokens"]}
    if residuals_of is None:
        return FAMILY.predict(denoiser, inputs["noisy"], inputs["t"], conditioning)
    forward = denoiser.forward

    def join(*args, **kwargs):
        call = bind_call(denoiser, args, kwargs)
        return forward(**CONTROL.join(call, residuals_of(call)))

    denoiser.forward = join
    try:
        return FAMILY.predict(denoiser, inputs["noisy"], inputs["t"], conditioning)
    finally:
        del denoiser.forward


def read_control(net, parts, clips):
    return torch.cat([CONTROL.read(net, parts.vae, clip[None]) for clip in clips])


def test_support_keeps_the_contract() -> None:
    assert isinstance(CONTROL, ControlSupport)
    assert CONTROL.reads == "latents"


@pytest.mark.parametrize("variant", UNETS)
def test_a_net_just_begun_changes_no_bit(variant: str) -> None:
    parts, inputs = FAMILY.tiny(variant), draw_inputs(variant)
    net = CONTROL.start(parts.denoiser)
    control = read_control(net, parts, inputs["control"])
    scale = torch.ones(len(control))
    joined = predict(
        parts.denoiser,
        inputs,
        lambda call: CONTROL.compute(net, parts.denoiser, call, control, scale),
    )
    assert torch.equal(joined, predict(parts.denoiser, inputs))


@pytest.mark.parametrize("variant", UNETS)
def test_scales_are_of_rows_and_zero_is_no_control(variant: str) -> None:
    parts, inputs = FAMILY.tiny(variant), draw_inputs(variant)
    net = CONTROL.tiny(parts.denoiser)
    control = read_control(net, parts, inputs["control"])
    scale = torch.tensor([1.0, 0.0, 0.5])
    joined = predict(
        parts.denoiser,
        inputs,
        lambda call: CONTROL.compute(net, parts.denoiser, call, control, scale),
    )
    plain = predict(parts.denoiser, inputs)
    assert torch.equal(joined[1], plain[1])
    assert not torch.allclose(joined[0], plain[0], atol=1e-4)
    assert not torch.allclose(joined[2], plain[2], atol=1e-4)


@pytest.mark.parametrize("variant", UNETS)
def test_residuals_are_those_of_diffusers_module_and_fit_their_cells(variant: str) -> None:
    parts, inputs = FAMILY.tiny(variant), draw_inputs(variant)
    net = CONTROL.tiny(parts.denoiser)
    control = read_control(net, parts, inputs["control"])
    calls = []

    def keep(call):
        calls.append(call)
        return CONTROL.compute(net, parts.denoiser, call, control, torch.ones(3))

    predict(parts.denoiser, inputs, keep)
    residuals = keep(calls[0])
    folded = control.transpose(1, 2).flatten(1, 2)
    down, middle = net(
        calls[0]["sample"],
        calls[0]["timestep"],
        inputs["tokens"],
        controlnet_cond=folded,
        return_dict=False,
    )
    places = residuals.places
    for residual, tensor in zip(
        (*places["down_block_additional_residuals"], *places["mid_block_additional_residual"]),
        (*down, middle),
        strict=True,
    ):
        assert torch.equal(residual.value, tensor)
        assert residual.cells == (1, *tensor.shape[2:])


def test_control_of_another_size_or_length_is_refused() -> None:
    parts, inputs = FAMILY.tiny("image"), draw_inputs("image")
    net = CONTROL.tiny(parts.denoiser)
    control = read_control(net, parts, inputs["control"])
    for wrong in (control[..., :8], control[:2], control.expand(-1, -1, 2, -1, -1)):

        def join(call, wrong=wrong):
            return CONTROL.compute(net, parts.denoiser, call, wrong, torch.ones(len(wrong)))

        with pytest.raises(ValueError, match="one picture, or one clip"):
            predict(parts.denoiser, inputs, join)


def test_residuals_add_up() -> None:
    parts, inputs = FAMILY.tiny("image"), draw_inputs("image")
    net = CONTROL.tiny(parts.denoiser)
    control = read_control(net, parts, inputs["control"])
    call = {
        "self": parts.denoiser,
        "sample": inputs["noisy"][:, :, 0],
        "timestep": inputs["t"] * 1000,
        "encoder_hidden_states": inputs["tokens"],
        "down_block_additional_residuals": None,
        "mid_block_additional_residual": None,
    }
    residuals = CONTROL.compute(net, parts.denoiser, call, control, torch.ones(3))
    once = CONTROL.join(call, residuals)
    twice = CONTROL.join(once, residuals)
    assert "self" not in twice
    middle = "mid_block_additional_residual"
    assert torch.equal(twice[middle], 2 * once[middle])


@pytest.mark.parametrize("variant", UNETS)
def test_the_pipeline_samples_what_joined_residuals_give(variant: str) -> None:
    """Its one step is the family's own prediction with residuals, guided as the pipeline guides."""
    parts, inputs = FAMILY.tiny(variant), draw_inputs(variant, rows=1)
    net = CONTROL.tiny(parts.denoiser)
    tokens = {"prompt_embeds": inputs["tokens"], "negative_prompt_embeds": inputs["tokens"] * 0.5}
    card = FAMILY.variants[variant]
    options = dict(num_frames=card.frames, num_inference_steps=1, output_type="latent")
    pipeline = CONTROL.pipeline(parts, net)
    pipeline.set_progress_bar_config(disable=True)
    sample = pipeline(
        **tokens,
        **options,
        **CONTROL.call(inputs["control"], 0.7),
        generator=torch.Generator().manual_seed(3),
    ).frames
    shape = (1, card.grid.channels, *card.grid.cells(card.frames, 32, 32))
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    control = read_control(net, parts, inputs["control"]).expand(2, -1, -1, -1, -1)
    doubled = {
        "noisy": noise.expand(2, -1, -1, -1, -1),
        "t": torch.ones(2),
        "tokens": torch.cat([inputs["tokens"] * 0.5, inputs["tokens"]]),
    }
    scale = torch.full((2,), 0.7)
    away, towards = predict(
        parts.denoiser,
        doubled,
        lambda call: CONTROL.compute(net, parts.denoiser, call, control, scale),
    ).chunk(2)
    assert torch.allclose(sample, noise - (away + 3 * (towards - away)), atol=1e-5)


def test_a_saved_net_loads_and_the_wrong_one_is_refused(tmp_path) -> None:
    parts = FAMILY.tiny("video")
    net = CONTROL.tiny(parts.denoiser)
    net.save_pretrained(tmp_path)
    loaded = CONTROL.load(tmp_path, "video", dtype=torch.float32, device="cpu")
    assert not loaded.training
    assert not any(value.requires_grad for value in loaded.parameters())
    for name, value in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert CONTROL.compare(loaded, parts.denoiser) == ""
    assert "in_channels" in CONTROL.compare(loaded, FAMILY.tiny("image").denoiser)
    with pytest.raises(ControlNotUsable, match="It is no ControlNet of pocket image"):
        CONTROL.load(tmp_path, "image", dtype=torch.float32, device="cpu")
    (tmp_path / "no").mkdir()
    with pytest.raises(WeightsNotFound, match=re.escape("has no config.json")):
        CONTROL.load(tmp_path / "no", "video", dtype=torch.float32, device="cpu")
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(WeightsNotFound, match="safetensors"):
        CONTROL.load(tmp_path, "video", dtype=torch.float32, device="cpu")


def test_another_kind_of_model_is_refused(tmp_path) -> None:
    FAMILY.tiny("image").denoiser.save_pretrained(tmp_path)
    with pytest.raises(ControlNotUsable, match="holds a UNet2DConditionModel"):
        CONTROL.load(tmp_path, "image", dtype=torch.float32, device="cpu")
    for variant in ("dit", "video-i2v"):
        assert "take variant image or video" in CONTROL.refuse(variant)
    assert not any(map(CONTROL.refuse, UNETS))
    with pytest.raises(ControlNotUsable, match="takes no ControlNet"):
        CONTROL.load(tmp_path, "dit", dtype=torch.float32, device="cpu")
    with pytest.raises(ControlNotUsable, match="WanTransformer3DModel"):
        CONTROL.start(FAMILY.tiny("dit").denoiser)
    with pytest.raises(ValueError, match="leave it out"):
        CONTROL.start(FAMILY.tiny("image").denoiser, layers=2)


def test_half_precision_nets_serve_whole_precision_models(tmp_path) -> None:
    parts, inputs = FAMILY.tiny("image"), draw_inputs("image")
    CONTROL.tiny(parts.denoiser).save_pretrained(tmp_path)
    half = CONTROL.load(tmp_path, "image", dtype=torch.bfloat16, device="cpu")
    control = read_control(half, parts, inputs["control"])
    joined = predict(
        parts.denoiser,
        inputs,
        lambda call: CONTROL.compute(half, parts.denoiser, call, control, torch.ones(3)),
    )
    assert joined.dtype == torch.float32
    assert torch.isfinite(joined).all()
