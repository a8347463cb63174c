"""Stable Diffusion's single files: a UNet with its VAE and text encoders in one .safetensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from safetensors import safe_open
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModel, CLIPTextModelWithProjection

from frisket.disk.untrusted import read_table
from frisket.families import weights
from frisket.families.base import Source, WeightsNotFound

# What the config.json files of the released models say beyond diffusers' and transformers' own
# defaults: a single file carries no configuration.
CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "projection_dim": 768,
}
BIG_G = {
    "hidden_act": "gelu",
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_attention_heads": 20,
    "num_hidden_layers": 32,
    "projection_dim": 1280,
}
CLIP: dict[str, Any] = {
    "bos_token_id": 0,
    # Not the tokenizer's: with 2, transformers pools at the highest token, as CLIP was trained.
    "eos_token_id": 2,
    "pad_token_id": 1,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
}

TextEncoders = Mapping[str, tuple[str, Any, Mapping[str, Any]]]

# The place of each text encoder in a file: prefix of its keys, class, architecture.
SD15_TEXT: TextEncoders = {
    "text_encoder": ("cond_stage_model.transformer.", CLIPTextModel, CLIP_L),
}
SDXL_TEXT: TextEncoders = {
    "text_encoder": ("conditioner.embedders.0.transformer.", CLIPTextModel, CLIP_L),
    "text_encoder_2": ("conditioner.embedders.1.model.", CLIPTextModelWithProjection, BIG_G),
}
VAE = ("first_stage_model.", "vae.")

DOWN = {
    "sd15": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "sdxl": ["DownBlock2D"] + ["CrossAttnDownBlock2D"] * 2,
}
UP = {
    "sd15": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "sdxl": ["CrossAttnUpBlock2D"] * 2 + ["UpBlock2D"],
}
SCALES = {"sd15": 0.18215, "sdxl": 0.13025}  # of the VAE's latents

# unet/config.json and vae/config.json of the released models beyond diffusers' defaults.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "sd15": {"sample_size": 64, "cross_attention_dim": 768},
    "sdxl": {
        "sample_size": 128,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "attention_head_dim": [5, 10, 20],
        "block_out_channels": [320, 640, 1280],
        "cross_attention_dim": 2048,
        "down_block_types": DOWN["sdxl"],
        "projection_class_embeddings_input_dim": 2816,
        "transformer_layers_per_block": [1, 2, 10],
        "up_block_types": UP["sdxl"],
        "use_linear_projection": True,
    },
}
VAES: dict[str, dict[str, Any]] = {
    kind: {
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "sample_size": size,
        "scaling_factor": SCALES[kind],
        "force_upcast": True,
    }
    for kind, size in (("sd15", 512), ("sdxl", 1024))
}
ENCODERS: dict[str, TextEncoders] = {
    "sd15": SD15_TEXT,
    "sdxl": SDXL_TEXT,
}


def holds(source: Source, *prefixes: str) -> Path | None:
    """The single file a source points at, if it has keys of every, or of one, of `prefixes`."""
    file = weights.local(source)
    if file is None or not file.is_file():
        return None
    return file if any(key.startswith(prefixes) for key in weights.tensors(file)) else None


def text_encoders(file: Path, source: Source, repo: str, encoders: TextEncoders) -> dict[str, Any]:
    """Tokenizers from beside a single file and text encoders from inside it, by pipeline names.

    A config.json in the encoder's folder beside the file goes before the built-in architecture.
    WeightsNotFound where a tokenizer is not there: no file carries one; ValueError where the
    file's encoders are of another model.
    """
    parts: dict[str, Any] = {}
    for name in encoders:
        parts[_tokenizer(name)] = _beside(file, source, repo, _tokenizer(name))
    for name, (prefix, kind, built_in) in encoders.items():
        beside = file.parent / name / "config.json"
        own = read_table(beside) if beside.is_file() else built_in
        parts[name] = _encoder(file, source, prefix, kind, own)
    return parts


def _tokenizer(encoder: str) -> str:
    return encoder.replace("text_encoder", "tokenizer")


def _beside(file: Path, source: Source, repo: str, name: str) -> Any:
    if not any((parent / name).is_dir() for parent in (file.parent, file.parent.parent)):
        raise WeightsNotFound(
            f"{file} holds the text encoder but no tokenizer, and there is no {name}/ beside it."
            f' Fetch it: hf download {repo} --include "{name}/*" --local-dir "{file.parent}"'
        )
    return weights.load(AutoTokenizer, source, repo, name)


def _encoder(
    file: Path, source: Source, prefix: str, kind: Any, architecture: Mapping[str, Any]
) -> Any:
    with safe_open(file, framework="pt") as opened:
        wanted = [key for key in opened.keys() if key.startswith(prefix)]  # noqa: SIM118
        state: dict[str, Tensor] = {key: opened.get_tensor(key) for key in wanted}
    with TemporaryDirectory() as scratch:
        config = kind.config_class(**{**CLIP, **architecture}).to_dict()
        (Path(scratch) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        try:
            model = create_diffusers_clip_model_from_ldm(
                kind, state, config=scratch, torch_dtype=source.dtype, local_files_only=True
            )
        except (ValueError, NotImplementedError, RuntimeError) as error:
            # A parameter that no tensor filled cannot leave the meta device: NotImplementedError.
            lacking = isinstance(error, NotImplementedError)
            what = "it lacks some of its tensors" if lacking else error
            raise ValueError(
                f"{file} has another text encoder under {prefix} than variant {source.variant}:"
                f" {what}. Choose the variant the file was made for."
            ) from error
    weights.strict(model, file)
    return model
