"""Tiny random parts of every Wan variant: two layers, seeded, float32."""

from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from frisket.families import tiny
from frisket.families.base import Parts
from frisket.families.defaults import TextBundle
from frisket.families.experts import Experts
from frisket.families.models.wan.latents import Vision, clip_processor
from frisket.families.models.wan.model_cards import GRID, VARIANTS, has_clip, list_expected


def parts(variant: str) -> Parts:
    """Transformers 24 channels wide, a VAE of 8, a byte tokenizer, and a vision where one looks."""
    card = VARIANTS[variant]
    with tiny.seed_torch():
        vae = AutoencoderKLWan(
            base_dim=8,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            **({} if card.grid is GRID else _configure_patch_vae()),
        )
        text = TextBundle(tokenizer=tiny.tokenizer(512), text_encoder=tiny.umt5())
        models = {name: _transformer(variant) for name in card.experts or ("",)}
        denoiser = Experts(models, card.experts) if card.experts else models[""]
        vision = _vision(variant) if card.sees == "first_frame" else None
    tiny.quiet(vae, text, denoiser, *([] if vision is None else [vision]))
    return Parts(variant, vae, text, denoiser, vision)


def _transformer(variant: str) -> nn.Module:
    image = {"image_dim": 16, "added_kv_proj_dim": 24} if has_clip(variant) else {}
    transformer: nn.Module = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        text_dim=32,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=64,
        **list_expected(variant),
        **image,
    )
    return transformer


def _configure_patch_vae() -> dict[str, Any]:
    """The form of TI2V's VAE, which folds 2 x 2 pixels before its first layer."""
    return {
        "z_dim": 48,
        "decoder_base_dim": 8,
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_spatial": 16,
        "latents_mean": torch.linspace(-0.5, 0.5, 48).tolist(),
        "latents_std": torch.linspace(0.5, 1.5, 48).tolist(),
    }


def _vision(variant: str) -> Vision:
    if not has_clip(variant):
        return Vision()
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    processor = clip_processor()(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    return Vision(image_encoder=CLIPVisionModel(config), image_processor=processor)
