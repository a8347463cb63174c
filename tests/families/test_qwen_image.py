"""Qwen-Image against the stock text-to-image pipeline, its files, and the keys of its LoRAs."""

import logging
import socket
from pathlib import Path

import pytest
import torch
from diffusers import (
    FluxTransformer2DModel,
    QwenImageImg2ImgPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_qwen_lora_to_diffusers
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from frisket.adapters import lora
from frisket.families.base import Source, WeightsNotFound
from frisket.families.models.qwen_image import ARCHITECTURES, FAMILY
from frisket.families.shared.qwen_references import latents_from, tokens

VARIANT = "image"
PROMPT, NEGATIVE = "a red fox, caf\u00e9 & snow", "blurry, and more words than the prompt has"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def parts():
    return FAMILY.tiny(VARIANT)


@pytest.fixture(scope="module")
def saved(parts, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("qwen_image")
    FAMILY.save(parts, folder)
    return folder


@pytest.fixture
def pipeline(parts) -> QwenImagePipeline:
    found = FAMILY.pipeline(parts)
    found.set_progress_bar_config(disable=True)
    return found


@pytest.fixture
def offline(monkeypatch):
    """Any network traffic is an error."""

    def refuse(*_, **__):
        raise AssertionError("network traffic")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def predict(denoiser, parts) -> torch.Tensor:
    with torch.no_grad():
        given = FAMILY.embed(parts.text, [PROMPT])
        return FAMILY.predict(denoiser, draw(1, 16, 1, 4, 6), torch.tensor([0.7]), given)


def test_the_transformer_is_fed_what_the_stock_pipeline_feeds_it(parts, pipeline):
    calls = []

    def keep(_, __, given, out):
        calls.append((given, out[0]))

    stock = parts.denoiser.register_forward_hook(keep, with_kwargs=True)
    pipeline(
        [PROMPT, "two boats"],
        negative_prompt=[NEGATIVE, ""],
        height=32,
        width=48,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(9),
        output_type="pt",
    )
    stock.remove()
    assert len(calls) == 4
    noise = torch.randn(2, 1, 16, 4, 6, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(calls[0][0]["hidden_states"], tokens(noise.transpose(1, 2)))
    ours = parts.denoiser.register_forward_hook(keep, with_kwargs=True)
    for index, (given, prediction) in enumerate(calls[:4]):
        prompts = [NEGATIVE, ""] if index % 2 else [PROMPT, "two boats"]
        noisy = latents_from(given["hidden_states"], 4, 6)
        with torch.no_grad():
            conditioning = FAMILY.embed(parts.text, prompts)
            made = FAMILY.predict(parts.denoiser, noisy, given["timestep"], conditioning)
        told = calls[-1][0]
        for name in ("hidden_states", "timestep", "encoder_hidden_states"):
            torch.testing.assert_close(told[name], given[name], atol=1e-5, rtol=0)
        assert torch.equal(told["encoder_hidden_states_mask"], given["encoder_hidden_states_mask"])
        assert told["img_shapes"] == given["img_shapes"] == [[(1, 2, 3)]] * 2
        torch.testing.assert_close(made, latents_from(prediction, 4, 6), atol=1e-5, rtol=0)
    ours.remove()


def test_texts_of_one_length_go_without_a_mask_as_in_the_stock_pipeline(parts, pipeline):
    given = {}
    handle = parts.denoiser.register_forward_pre_hook(
        lambda _, __, kw: given.update(kw), with_kwargs=True
    )
    predict(parts.denoiser, parts)
    assert given["encoder_hidden_states_mask"] is None
    pipeline(PROMPT, height=16, width=16, num_inference_steps=2, true_cfg_scale=1.0)
    handle.remove()
    assert given["encoder_hidden_states_mask"] is None


def test_further_padding_changes_nothing(parts):
    given = FAMILY.embed(parts.text, [PROMPT, NEGATIVE])
    further = {
        "text": torch.nn.functional.pad(given["text"], (0, 0, 0, 7)),
        "mask": torch.nn.functional.pad(given["mask"], (0, 7)),
    }
    noisy, t = draw(2, 16, 1, 4, 6), torch.tensor([0.3, 0.7])
    with torch.no_grad():
        made = [FAMILY.predict(parts.denoiser, noisy, t, each) for each in (given, further)]
    assert torch.equal(*made)


def test_encode_normalises_as_the_stock_pipeline_does(parts, pipeline):
    clip = draw(1, 3, 1, 32, 48).clamp(-1, 1)
    stock = QwenImageImg2ImgPipeline(**pipeline.components)
    packed = stock._encode_vae_image(clip, torch.Generator())
    sampled = parts.vae.encode(clip).latent_dist
    spread = packed - FAMILY.encode(parts.vae, clip)  # that pipeline samples, ours is the mode
    noise = (sampled.sample(torch.Generator()) - sampled.mode()).detach()
    std = torch.tensor(parts.vae.config.latents_std).view(1, -1, 1, 1, 1)
    torch.testing.assert_close(spread.detach(), noise / std, atol=1e-5, rtol=0)


def test_decode_gives_the_pixels_of_the_stock_pipeline(parts, pipeline):
    def sample(kind: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(5)
        given = FAMILY.call(
            VARIANT, FAMILY.embed(parts.text, [PROMPT]), None, guidance=4.0, references=()
        )
        return pipeline(
            **given,
            height=32,
            width=48,
            num_inference_steps=2,
            generator=generator,
            output_type=kind,
        ).images

    latents = latents_from(sample("latent"), 4, 6)
    ours = (FAMILY.decode(parts.vae, latents)[:, :, 0] / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(ours, sample("pt"), atol=1e-5, rtol=0)


def test_previews_need_no_text_encoder_and_agree_with_those_that_have_one(parts, pipeline):
    size = {"height": 32, "width": 48, "num_inference_steps": 2, "output_type": "pt"}
    with_text = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        true_cfg_scale=3.0,
        generator=torch.Generator().manual_seed(1),
        **size,
    ).images
    positive, negative = (FAMILY.embed(parts.text, [text]) for text in (PROMPT, NEGATIVE))
    bare = FAMILY.tiny(VARIANT)
    bare.text = None
    stock = FAMILY.pipeline(bare)
    stock.set_progress_bar_config(disable=True)
    given = FAMILY.call(VARIANT, positive, negative, guidance=3.0)
    without = stock(**given, generator=torch.Generator().manual_seed(1), **size).images
    torch.testing.assert_close(without, with_text, atol=1e-5, rtol=0)


def test_the_timestep_reaches_a_bfloat16_model_unrounded(saved):
    denoiser = FAMILY.load_denoiser(Source(VARIANT, str(saved), dtype=torch.bfloat16))
    given = {}
    denoiser.register_forward_pre_hook(lambda _, __, kw: given.update(kw), with_kwargs=True)
    conditioning = {"text": torch.zeros(1, 7, 16), "mask": torch.ones(1, 7)}
    prediction = FAMILY.predict(
        denoiser, draw(1, 16, 1, 4, 4), torch.tensor([0.9371]), conditioning
    )
    assert given["timestep"].item() == pytest.approx(0.9371)
    assert given["hidden_states"].dtype == given["encoder_hidden_states"].dtype == torch.bfloat16
    assert prediction.dtype == torch.float32


def test_a_prompt_beyond_the_models_length_is_cut_aloud(parts, caplog):
    with caplog.at_level(logging.WARNING):
        given = FAMILY.embed(parts.text, ["x" * 1100, "short"])
    assert given["text"].shape == (2, 1024, 16)
    assert "tokens cut to 1024: xxx" in caplog.text
    assert "short" not in caplog.text


def test_the_schedule_ends_and_shifts_as_the_released_one(parts, pipeline):
    pipeline(PROMPT, height=32, width=48, num_inference_steps=4, output_type="latent")
    sigmas = pipeline.scheduler.sigmas
    assert sigmas[0] == 1
    assert sigmas[-2].item() == pytest.approx(0.02, abs=1e-6)
    config = pipeline.scheduler.config
    assert (config.base_shift, config.max_shift, config.max_image_seq_len) == (0.5, 0.9, 8192)


def test_the_public_pipeline_reads_what_save_wrote(parts, saved, offline):
    stock = QwenImagePipeline.from_pretrained(saved, local_files_only=True)
    assert torch.equal(predict(stock.transformer, parts), predict(parts.denoiser, parts))


def test_local_folders_and_files_touch_no_network(parts, saved, offline):
    for path in (saved, saved / WEIGHTS):
        source = Source(VARIANT, str(path))
        FAMILY.load_vae(source)
        FAMILY.load_text(source)
        loaded = FAMILY.load_denoiser(source)
        assert torch.equal(predict(loaded, parts), predict(parts.denoiser, parts))


def test_one_file_alone_is_held_to_its_variants_architecture(saved, tmp_path, offline):
    save_file(load_file(saved / WEIGHTS), tmp_path / "alone.safetensors")
    source = Source(VARIANT, str(tmp_path / "alone.safetensors"))
    with pytest.raises(ValueError, match=r"alone.*does not fit .*variant image.*config\.json"):
        FAMILY.load_denoiser(source)
    with pytest.raises(WeightsNotFound, match="there is no vae/ beside it"):
        FAMILY.load_vae(source)


@pytest.mark.parametrize("variant", ["image", "edit-2511"])
def test_the_built_in_architectures_have_the_released_size(variant):
    with torch.device("meta"):
        model = QwenImageTransformer2DModel.from_config(ARCHITECTURES[variant])
    count = sum(value.numel() for value in model.parameters())
    assert count / 1e9 == pytest.approx(20.43, abs=0.005)
    assert model.zero_cond_t == (variant == "edit-2511")


def test_other_models_are_refused(saved, tmp_path):
    with pytest.raises(ValueError, match=r"Edit-2511: its zero_cond_t is False, not True"):
        FAMILY.load_denoiser(Source("edit-2511", str(saved)))
    with pytest.raises(WeightsNotFound, match=r"has no processor/"):
        FAMILY.load_text(Source("edit", str(saved)))
    layered = QwenImageTransformer2DModel(
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=1,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
        use_layer3d_rope=True,
    )
    layered.save_pretrained(tmp_path / "layered" / "transformer")
    with pytest.raises(ValueError, match="use_layer3d_rope is True"):
        FAMILY.load_denoiser(Source(VARIANT, str(tmp_path / "layered")))
    flux = FluxTransformer2DModel(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=1,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    flux.save_pretrained(tmp_path / "flux" / "transformer")
    with pytest.raises(ValueError, match="flux"):
        FAMILY.load_denoiser(Source(VARIANT, str(tmp_path / "flux")))


def adapted(parts, alpha: float):
    denoiser = FAMILY.tiny(VARIANT).denoiser
    spec = lora.LoraSpec(rank=2, alpha=alpha, targets=FAMILY.lora_targets, dead=FAMILY.lora_dead)
    lora.attach(denoiser, spec, seed=0)
    with torch.no_grad():
        for value in lora.trainable(denoiser).values():
            value.add_(0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(7)))
    return denoiser, get_peft_model_state_dict(denoiser, adapter_name=lora.ADAPTER)


def test_dead_layers_are_those_of_the_last_blocks_text_alone(parts):
    denoiser, _ = adapted(parts, 2.0)
    names = {name.split(".lora_")[0] for name in lora.trainable(denoiser)}
    assert len(names) == 2 * 12 - 4
    assert "transformer_blocks.1.attn.add_k_proj" in names
    assert "transformer_blocks.1.attn.add_q_proj" not in names
    assert "transformer_blocks.0.attn.add_q_proj" in names


@pytest.mark.parametrize("with_alpha", [True, False])
def test_comfyui_keys_load_whole_in_the_stock_pipeline(parts, tmp_path, with_alpha):
    alpha = 1.0 if with_alpha else 2.0
    denoiser, state = adapted(parts, alpha)
    keys = {}
    for key, value in state.items():
        layer, _, end = key.rpartition(".lora_")
        original, place, count = FAMILY.names.original(layer)
        assert (original, place, count) == (layer, 0, 1)  # Qwen's own names are diffusers'
        keys[f"{FAMILY.names.dotted}.{original}.lora_{end}"] = value.contiguous()
        if with_alpha:
            keys[f"{FAMILY.names.dotted}.{original}.alpha"] = torch.tensor(alpha)
    save_file(keys, tmp_path / "comfy.safetensors")
    converted = _convert_non_diffusers_qwen_lora_to_diffusers(dict(keys))
    assert len(converted) == len(state)
    stock = FAMILY.pipeline(FAMILY.tiny(VARIANT))
    stock.load_lora_weights(tmp_path, weight_name="comfy.safetensors")
    loaded = get_peft_model_state_dict(stock.transformer, adapter_name="default_0")
    assert len(loaded) == len(state)
    ours, theirs = predict(denoiser.eval(), parts), predict(stock.transformer, parts)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert not torch.allclose(ours, predict(parts.denoiser, parts), atol=1e-3)
