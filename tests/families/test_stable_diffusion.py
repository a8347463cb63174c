"""Stable Diffusion 1.5 and SDXL against the stock pipelines, and LoRAs in kohya's names."""

import logging
from copy import deepcopy

import pytest
import torch
from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors.torch import save_file
from torch import nn

from frisket.adapters import lora
from frisket.families.base import Parts, Source, layer_names
from frisket.families.key_map import UnknownLayer
from frisket.families.models.stable_diffusion.family import FAMILY
from frisket.families.models.stable_diffusion.key_map import rows
from frisket.families.shared.sd_files import ARCHITECTURES
from frisket.objectives.timesteps import TimestepSampler

PROMPT, NEGATIVE = "a red fox, caf\u00e9 &amp; snow", "blurry"
VARIANTS = list(FAMILY.variants)
SIZE = {"height": 64, "width": 96}


@pytest.fixture(scope="module", params=VARIANTS)
def parts(request) -> Parts:
    return FAMILY.tiny(request.param)


def stock(parts: Parts):
    made = FAMILY.pipeline(parts)
    made.set_progress_bar_config(disable=True)
    return made


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def watch(module: nn.Module) -> list[dict]:
    """Every call of the UNet from now on: what went in, by name, and what came out."""
    calls: list[dict] = []

    def keep(_, args, given, out) -> None:
        calls.append({"sample": args[0], "timestep": args[1], **given, "out": out[0]})

    module.register_forward_hook(keep, with_kwargs=True)
    return calls


def near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_the_unet_is_fed_what_the_stock_pipeline_feeds_it(parts):
    unet = deepcopy(parts.denoiser)
    calls = watch(unet)
    stock(Parts(parts.variant, parts.vae, parts.text, unet))(
        PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        **SIZE,
    )
    assert len(calls) == 2
    near(calls[0]["sample"], draw(1, 4, 8, 12, seed=3).expand(2, -1, -1, -1))
    given = FAMILY.embed(parts.text, [NEGATIVE, PROMPT])
    for theirs in list(calls):
        t = (theirs["timestep"] + 1).float() / 1000
        with torch.no_grad():
            out = FAMILY.predict(unet, theirs["sample"][:, :, None], t.expand(2), given)
        near(out[:, :, 0], theirs["out"])
        ours = calls[-1]
        assert ours["timestep"].dtype == torch.int64
        assert ours["timestep"].tolist() == [theirs["timestep"].item()] * 2
        near(ours["encoder_hidden_states"], theirs["encoder_hidden_states"])
        if parts.variant == "sd15":
            assert ours["added_cond_kwargs"] is theirs["added_cond_kwargs"] is None
        else:
            for name in ("text_embeds", "time_ids"):
                near(ours["added_cond_kwargs"][name], theirs["added_cond_kwargs"][name])
            assert ours["added_cond_kwargs"]["time_ids"][0].tolist() == [64, 96, 0, 0, 64, 96]


def test_encode_scales_as_the_stock_pipeline_does(parts):
    vae = deepcopy(parts.vae)
    nn.init.constant_(vae.quant_conv.bias[4:], -1e3)  # no spread: the sample is the mode
    nn.init.zeros_(vae.quant_conv.weight[4:])
    whole = FAMILY.pipeline(parts)
    if parts.variant == "sd15":
        kind, names = StableDiffusionImg2ImgPipeline, ("tokenizer", "text_encoder")
        more = {"safety_checker": None, "feature_extractor": None}
        more["requires_safety_checker"] = False
    else:
        names = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
        kind, more = StableDiffusionXLImg2ImgPipeline, {"add_watermarker": False}
    text = {name: getattr(whole, name) for name in names}
    pipeline = kind(vae=vae, unet=whole.unet, scheduler=whole.scheduler, **text, **more)
    clip = draw(1, 3, 1, 64, 96).clamp(-1, 1)
    level, noise = torch.tensor([499]), draw(1, 4, 8, 12, seed=3)
    noisy = pipeline.prepare_latents(
        clip[:, :, 0], level, 1, 1, torch.float32, "cpu", torch.Generator().manual_seed(3)
    )
    made = torch.Generator().manual_seed(3)
    torch.randn(1, 4, 8, 12, generator=made)  # the posterior's
    noise = torch.randn(1, 4, 8, 12, generator=made)
    latents = FAMILY.encode(vae, clip)
    near(noisy, whole.scheduler.add_noise(latents[:, :, 0], noise, level))


def test_decode_gives_the_pixels_of_the_stock_pipeline(parts):
    def sample(kind: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(5)
        return stock(parts)(
            PROMPT, num_inference_steps=1, generator=generator, output_type=kind, **SIZE
        ).images

    ours = FAMILY.decode(parts.vae, sample("latent")[:, :, None])[:, :, 0] / 2 + 0.5
    near(ours.clamp(0, 1), sample("pt"))


def test_the_sampler_walks_the_levels_that_are_trained(parts):
    objective, scheduler = FAMILY.objective(parts.variant), FAMILY.pipeline(parts).scheduler
    clean, noise = draw(1000, 4, 1, 1, 2), draw(1000, 4, 1, 1, 2, seed=1)
    levels = torch.arange(1000)
    noisy, target = objective.corrupt(clean, noise, (levels + 1) / 1000)
    near(noisy, scheduler.add_noise(clean, noise, levels))
    assert torch.equal(target, noise) == (parts.variant != "sdxl-v")
    scheduler.set_timesteps(4)
    first = 999 if parts.variant == "sdxl-v" else 751
    assert scheduler.timesteps[0] == first
    # One step down with the true target is the same picture with less noise.
    k = int(scheduler.timesteps[1])
    one = slice(k, k + 1)
    lower = scheduler.step(target[one], k, noisy[one]).prev_sample
    near(lower, scheduler.add_noise(clean[one], noise[one], levels[k - 250 : k - 249]))


def test_sampling_from_embeddings_needs_no_text_encoder(parts):
    embeds = FAMILY.embed(parts.text, [PROMPT, NEGATIVE])
    positive, negative = ({k: v[i : i + 1] for k, v in embeds.items()} for i in (0, 1))
    bare = Parts(parts.variant, parts.vae, None, parts.denoiser)
    call = FAMILY.call(parts.variant, positive, negative, guidance=3.0)
    assert call.pop("guidance_rescale", 0.0) == (0.7 if parts.variant == "sdxl-v" else 0.0)

    def sample(pipeline, **given) -> torch.Tensor:
        made = torch.Generator().manual_seed(1)
        return pipeline(
            num_inference_steps=2, generator=made, output_type="latent", **SIZE, **given
        ).images

    wanted = sample(stock(parts), prompt=PROMPT, negative_prompt=NEGATIVE, guidance_scale=3.0)
    near(sample(stock(bare), **call), wanted)
    alone = FAMILY.call(parts.variant, positive, None, guidance=3.0)
    assert sample(stock(bare), **alone).isfinite().all()


@pytest.mark.parametrize("variant", ["sd15", "sdxl"])
def test_a_bfloat16_unet_is_told_whole_timesteps_and_exact_sizes(variant):
    parts = FAMILY.tiny(variant)
    unet = parts.denoiser.bfloat16()
    calls = watch(unet)
    given = FAMILY.embed(parts.text, [PROMPT])
    with torch.no_grad():
        out = FAMILY.predict(unet, draw(1, 4, 1, 33, 8), torch.tensor([0.938]), given)
    assert out.dtype == torch.float32
    assert calls[0]["timestep"].tolist() == [937]
    assert calls[0]["sample"].dtype == calls[0]["encoder_hidden_states"].dtype == torch.bfloat16
    if variant == "sdxl":
        assert calls[0]["added_cond_kwargs"]["time_ids"].tolist() == [[264, 64, 0, 0, 264, 64]]


def test_a_float16_vae_computes_in_float32_where_its_config_asks_for_it():
    vae = FAMILY.tiny("sdxl").vae
    clip = draw(1, 3, 1, 64, 64).clamp(-1, 1)
    with torch.no_grad():
        for value in vae.parameters():
            value.copy_(value.half())
    wanted = FAMILY.encode(vae, clip)
    half = deepcopy(vae).half()
    near(FAMILY.encode(half, clip), wanted)
    near(FAMILY.decode(half, wanted), FAMILY.decode(vae, wanted))
    assert next(half.parameters()).dtype == torch.float16


def test_a_prompt_beyond_77_tokens_is_cut_aloud(parts, caplog):
    with caplog.at_level(logging.WARNING):
        embeds = FAMILY.embed(parts.text, ["x" * 100, "short"])["text"]
    assert embeds.shape[:2] == (2, 77)
    assert "102 tokens cut to 77" in caplog.text


@pytest.mark.parametrize(
    ("kind", "count"), [("sd15", 859_520_964), ("sdxl", 2_567_463_684)]
)  # of the released unet/ files
def test_the_built_in_architectures_have_the_released_sizes(kind, count):
    with torch.device("meta"):
        model = UNet2DConditionModel.from_config(ARCHITECTURES[kind])
    assert sum(value.numel() for value in model.parameters()) == count


@pytest.mark.parametrize(
    ("variant", "attention", "layers"),
    [("sdxl", [False, True, True], 2), ("sd15", [True, True, True, False], 1)],
)
def test_rows_are_those_that_diffusers_converts(variant, attention, layers):
    model = FAMILY.tiny(variant).denoiser
    state = {k: v for k, v in model.state_dict().items() if "norm" not in k}
    names = type(FAMILY.names)(rows(attention, layers), comfyui="kohya")
    renamed = {}
    for key, value in state.items():
        module, _, kind = key.rpartition(".")
        original, place, count = names.original(module)
        assert names.diffusers(original) == (module,)
        assert (place, count) == (0, 1)
        renamed[f"model.diffusion_model.{original}.{kind}"] = value
    assert len(renamed) == len(state)
    converted = convert_ldm_unet_checkpoint(renamed, model.config)
    converted = {k: v for k, v in converted.items() if v is not None}
    assert converted.keys() == state.keys()
    assert all(torch.equal(converted[key], state[key]) for key in state)


def test_sd15_is_called_as_diffusers_calls_it_and_sdxl_as_its_authors():
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    assert layer_names(FAMILY, "sd15").original(name) == (name, 0, 1)
    ours = "input_blocks.4.1.transformer_blocks.0.attn1.to_q"
    assert layer_names(FAMILY, "sdxl").original(name) == (ours, 0, 1)
    name, ours = "mid_block.attentions.0.transformer_blocks", "middle_block.1.transformer_blocks"
    assert layer_names(FAMILY, "sdxl").original(f"{name}.9.ff.net.2")[0] == f"{ours}.9.ff.net.2"
    assert layer_names(FAMILY, "sdxl-v") is layer_names(FAMILY, "sdxl")
    with pytest.raises(UnknownLayer, match=r"down_blocks\.3"):
        layer_names(FAMILY, "sdxl").original("down_blocks.3.resnets.0.conv1")


@pytest.mark.parametrize("variant", ["sd15", "sdxl"])
def test_the_stock_pipeline_loads_every_key_of_a_lora_in_kohyas_names(variant, tmp_path):
    parts, other = FAMILY.tiny(variant), FAMILY.tiny(variant)
    names, rank, alpha = layer_names(FAMILY, variant), 2, 3.0
    spec = lora.LoraSpec(rank=rank, alpha=alpha, targets=FAMILY.lora_targets)
    modules = lora.attach(parts.denoiser, spec, seed=0)
    state = {}
    for name, value in lora.trainable(parts.denoiser).items():
        value.data.add_(0.1 * draw(*value.shape, seed=len(state)))
        module, _, end = name.partition(".lora_")
        key = "lora_unet_" + names.original(module)[0].replace(".", "_")
        place = {"A.default.weight": "lora_down", "B.default.weight": "lora_up"}[end]
        state[f"{key}.{place}.weight"] = value.detach().clone()
        state[f"{key}.alpha"] = torch.tensor(alpha)
    save_file(state, tmp_path / "kohya.safetensors")
    stock(other).load_lora_weights(tmp_path, weight_name="kohya.safetensors")
    loaded = [name for name, _ in other.denoiser.named_parameters() if ".lora_" in name]
    assert len(loaded) == 2 * len(modules) == len(state) * 2 // 3
    given = FAMILY.embed(parts.text, [PROMPT])
    noisy, t = draw(1, 4, 1, 8, 8), torch.tensor([0.5])
    with torch.no_grad():
        base = FAMILY.predict(FAMILY.tiny(variant).denoiser, noisy, t, given)
        ours = FAMILY.predict(parts.denoiser, noisy, t, given)
        near(FAMILY.predict(other.denoiser, noisy, t, given), ours)
    assert (ours - base).abs().max() > 1e-3


def test_the_objective_is_epsilon_or_v_and_says_what_it_does_not_know():
    assert FAMILY.objective("sd15").prediction == FAMILY.objective("sdxl").prediction == "epsilon"
    v = FAMILY.objective("sdxl-v", min_snr=5.0)
    assert (v.prediction, v.zero_terminal_snr, v.min_snr) == ("v", True, 5.0)
    sampler = TimestepSampler("uniform", low=0.5)
    t = FAMILY.objective("sd15", sampler).sample_t(100, torch.Generator())
    assert (t > 0.5).all()
    with pytest.raises(ValueError, match=r"'cosmap' is for models that predict a flow.*min_snr"):
        FAMILY.objective("sd15", weighting="cosmap")


@pytest.mark.parametrize(("saved", "wanted"), [("sd15", "sdxl"), ("sdxl", "sd15")])
def test_another_models_folder_is_refused(saved, wanted, tmp_path):
    FAMILY.save(FAMILY.tiny(saved), tmp_path)
    with pytest.raises(ValueError, match=f"is not a UNet of {wanted}: its down_block_types"):
        FAMILY.load_denoiser(Source(wanted, str(tmp_path)))
    with pytest.raises(ValueError, match=f"is not a VAE of {wanted}: its scaling_factor"):
        FAMILY.load_vae(Source(wanted, str(tmp_path)))


def test_an_inpainting_unet_is_refused(tmp_path):
    unet = FAMILY.tiny("sd15").denoiser
    made = UNet2DConditionModel.from_config(unet.config, in_channels=9)
    made.save_pretrained(tmp_path / "unet")
    with pytest.raises(ValueError, match="its in_channels is 9, not 4"):
        FAMILY.load_denoiser(Source("sd15", str(tmp_path)))
