"""Single files of Stable Diffusion: UNet, VAE and text encoders in the authors' names."""

import socket
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from frisket.families.base import Parts, Source, WeightsNotFound
from frisket.families.key_map import Names
from frisket.families.models.stable_diffusion.family import FAMILY
from frisket.families.models.stable_diffusion.key_map import rows
from frisket.families.shared import sd_files
from frisket.families.shared.sd_files import VAES

PROMPT = "a red fox"
BLOCKS = {"sd15": ([True, True, True, False], 1), "sdxl": ([False, True, True], 2)}
UNET_NORMS = {"norm1": ("conv1", "in_layers.0"), "norm2": ("conv2", "out_layers.0")}
VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
OPEN_CLIP = {
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
    "final_layer_norm": "ln_final",
    "embeddings.token_embedding": "token_embedding",
}


def unet_name(names: Names, module: str) -> str:
    """The original name of a layer, or of a norm, by the layer beside it."""
    parent, _, last = module.rpartition(".")
    if module == "conv_norm_out":
        return "out.0"
    if "norm" not in last:
        return names.original(module)[0]
    if ".resnets." in module:
        sibling, ending = UNET_NORMS[last]
        return names.original(f"{parent}.{sibling}")[0].rsplit(".", 2)[0] + f".{ending}"
    if last == "norm":
        return names.original(f"{parent}.proj_in")[0].removesuffix("proj_in") + "norm"
    return names.original(f"{parent}.attn1.to_q")[0].removesuffix("attn1.to_q") + last


def vae_name(module: str, blocks: int = 4) -> str:
    """The original name of one of the VAE's layers."""
    parts = module.split(".")
    if len(parts) < 3:
        return module.replace("conv_norm_out", "norm_out")
    side, kind, *rest = parts
    if kind == "mid_block":
        if rest[0] == "attentions":
            return f"{side}.mid.attn_1.{VAE_ATTENTION['.'.join(rest[2:])]}"
        return f"{side}.mid.block_{int(rest[1]) + 1}.{rest[2]}"
    level = int(rest[0]) if side == "encoder" else blocks - 1 - int(rest[0])
    way = "down" if side == "encoder" else "up"
    if rest[1].endswith("samplers"):
        return f"{side}.{way}.{level}.{way}sample.conv"
    inner = rest[3].replace("conv_shortcut", "nin_shortcut")
    return f"{side}.{way}.{level}.block.{rest[2]}.{inner}"


def open_clip(encoder: nn.Module) -> dict[str, Tensor]:
    """An encoder's tensors as OpenCLIP calls and fuses them."""
    state = {k.removeprefix("text_model."): v for k, v in encoder.state_dict().items()}
    made = {
        "positional_embedding": state.pop("embeddings.position_embedding.weight"),
        "text_projection": state.pop("text_projection.weight").T.contiguous(),
    }
    for key in [key for key in state if ".q_proj." in key]:
        layer, _, kind = key.partition(".self_attn.q_proj.")
        fused = [state.pop(f"{layer}.self_attn.{n}_proj.{kind}") for n in "qkv"]
        place = layer.replace("encoder.layers", "transformer.resblocks")
        made[f"{place}.attn.in_proj_{kind}"] = torch.cat(fused)
    for key, value in state.items():
        for ours, theirs in OPEN_CLIP.items():
            key = key.replace(ours, theirs)  # noqa: PLW2901
        made[key] = value
    return made


def whole(parts: Parts) -> dict[str, Tensor]:
    """All parts of a model as one original checkpoint."""
    made: dict[str, Tensor] = {}
    names = Names(rows(*BLOCKS[parts.variant]))
    for key, value in parts.denoiser.state_dict().items():
        module, _, kind = key.rpartition(".")
        made[f"model.diffusion_model.{unet_name(names, module)}.{kind}"] = value
    for key, value in parts.vae.state_dict().items():
        module, _, kind = key.rpartition(".")
        conv = ".attentions." in key and "norm" not in key and kind == "weight"
        shown = value[..., None, None] if conv else value  # they were 1x1 convolutions
        made[f"first_stage_model.{vae_name(module)}.{kind}"] = shown
    xl = parts.variant == "sdxl"
    prefix = "conditioner.embedders.0.transformer." if xl else "cond_stage_model.transformer."
    for key, value in parts.text.text_encoder.state_dict().items():
        made[f"{prefix}text_model.{key.removeprefix('text_model.')}"] = value
    if xl:
        second = open_clip(parts.text.text_encoder_2)
        made |= {f"conditioner.embedders.1.model.{key}": value for key, value in second.items()}
    return {key: value.contiguous() for key, value in made.items()}


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def parts(request) -> Parts:
    return FAMILY.tiny(request.param)


@pytest.fixture(scope="module")
def file(parts, tmp_path_factory) -> Path:
    """A whole model in one file, with the configurations and tokenizers of the tiny parts."""
    folder = tmp_path_factory.mktemp("ldm")
    FAMILY.save(parts, folder / "diffusers")
    for name in ("tokenizer", "tokenizer_2"):
        if (folder / "diffusers" / name).is_dir():
            (folder / "diffusers" / name).rename(folder / name)
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        config = folder / "diffusers" / name / "config.json"
        if config.is_file():
            (folder / name).mkdir()
            config.rename(folder / name / "config.json")
    save_file(whole(parts), folder / "model.safetensors")
    return folder / "model.safetensors"


@pytest.fixture
def offline(monkeypatch):
    """Any network traffic is an error."""

    def refuse(*_, **__):
        raise AssertionError("network traffic")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def same(ours: nn.Module, theirs: nn.Module) -> None:
    mine, other = ours.state_dict(), theirs.state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[key], other[key]) for key in mine)


def test_everything_comes_out_of_one_file_exactly(parts, file, offline):
    source = Source(parts.variant, str(file))
    same(FAMILY.load_denoiser(source), parts.denoiser)
    same(FAMILY.load_vae(source), parts.vae)
    text = FAMILY.load_text(source)
    ours, theirs = FAMILY.embed(text, [PROMPT]), FAMILY.embed(parts.text, [PROMPT])
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not any(value.requires_grad for value in text.parameters())


def test_precision_is_the_sources(parts, file):
    source = Source(parts.variant, str(file), dtype=torch.bfloat16)
    for model in (FAMILY.load_denoiser(source), FAMILY.load_vae(source), FAMILY.load_text(source)):
        assert {value.dtype for value in model.parameters()} == {torch.bfloat16}


def test_a_missing_tokenizer_is_named_with_the_command_that_fetches_it(parts, file, tmp_path):
    alone = tmp_path / "folder" / "model.safetensors"
    alone.parent.mkdir()
    alone.write_bytes(file.read_bytes())
    with pytest.raises(WeightsNotFound) as caught:
        FAMILY.load_text(Source(parts.variant, str(alone)))
    repo = FAMILY.variants[parts.variant].repo
    assert "holds the text encoder but no tokenizer" in str(caught.value)
    assert f'hf download {repo} --include "tokenizer/*"' in str(caught.value)


def test_a_file_of_the_other_model_is_refused(parts, file, tmp_path):
    alone = tmp_path / "model.safetensors"
    alone.write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=r"model\.safetensors does not fit the architecture"):
        FAMILY.load_denoiser(Source(parts.variant, str(alone)))
    for name in ("tokenizer", "tokenizer_2"):
        (tmp_path / name).mkdir()
        for part in (file.parent / "tokenizer").iterdir():
            (tmp_path / name / part.name).write_bytes(part.read_bytes())
    with pytest.raises(ValueError, match=r"model\.safetensors has another text encoder under"):
        FAMILY.load_text(Source(parts.variant, str(alone)))


def test_a_unet_alone_asks_for_the_rest(parts, file, tmp_path):
    unet = {k: v for k, v in whole(parts).items() if k.startswith("model.diffusion_model.")}
    save_file(unet, tmp_path / "unet.safetensors")
    (tmp_path / "config.json").write_text((file.parent / "unet" / "config.json").read_text())
    source = Source(parts.variant, str(tmp_path / "unet.safetensors"))
    same(FAMILY.load_denoiser(source), parts.denoiser)
    for load in (FAMILY.load_vae, FAMILY.load_text):
        with pytest.raises(WeightsNotFound, match=r"there is no (vae|tokenizer)/ beside it"):
            load(source)


def test_the_built_in_vae_and_text_encoders_have_the_released_sizes():
    def count(model: nn.Module) -> int:
        return sum(value.numel() for value in model.parameters())

    def config(architecture: dict) -> CLIPTextConfig:
        return CLIPTextConfig(**{**sd_files.CLIP, **architecture})

    with torch.device("meta"):
        assert count(AutoencoderKL.from_config(VAES["sdxl"])) == 83_653_863
        assert count(CLIPTextModel(config(sd_files.CLIP_L))) == 123_060_480
        assert count(CLIPTextModelWithProjection(config(sd_files.BIG_G))) == 694_659_840
