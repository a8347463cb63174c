"""HunyuanVideo-1.5's weights: Tencent's own files, names of layers, adapters in stock pipelines."""

from copy import deepcopy
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import HunyuanVideo15Transformer3DModel
from safetensors.torch import load_file, save_file
from torch import nn

from frisket.adapters import lora
from frisket.families.base import Source, WeightsNotFound
from frisket.families.key_map import UnknownLayer
from frisket.families.models.hunyuan_video.family import FAMILY
from frisket.families.models.hunyuan_video.version_15 import architecture

TEXT, SEEING = "1.5-480p-t2v", "1.5-480p-i2v"
PROMPT = 'a fox beside a sign "OPEN"'


@pytest.fixture(scope="module")
def parts():
    return FAMILY.tiny(TEXT)


@pytest.fixture(scope="module")
def saved(parts, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hunyuan15")
    FAMILY.save(parts, folder)
    return folder


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def predict(denoiser, parts) -> torch.Tensor:
    given = FAMILY.embed(parts.text, [PROMPT])
    return FAMILY.predict(denoiser, draw(1, 32, 2, 2, 3), torch.tensor([0.7]), given)


def adapted(denoiser) -> tuple[str, ...]:
    """Put the default adapter on, off zero."""
    spec = lora.LoraSpec(rank=2, alpha=3.0, targets=FAMILY.lora_targets, dead=FAMILY.lora_dead)
    names = lora.attach(denoiser, spec, seed=0)
    with torch.no_grad():
        for value in lora.trainable(denoiser).values():
            value.add_(0.1)
    return names


def tencent(state: dict[str, torch.Tensor], *, fused: bool) -> dict[str, torch.Tensor]:
    """Diffusers' state dict in the keys of the release (or with q, k, v fused as in ComfyUI)."""
    pairs = {
        "context_embedder_2.norm.": "byt5_in.layernorm.",
        "context_embedder_2.linear_": "byt5_in.fc",
        "context_embedder.time_text_embed.timestep_embedder.linear_1": "txt_in.t_embedder.mlp.0",
        "context_embedder.time_text_embed.timestep_embedder.linear_2": "txt_in.t_embedder.mlp.2",
        "context_embedder.time_text_embed.text_embedder": "txt_in.c_embedder",
        "context_embedder.proj_in": "txt_in.input_embedder",
        "context_embedder.token_refiner.refiner_": "txt_in.individual_token_refiner.",
        "time_embed.timestep_embedder.linear_1": "time_in.mlp.0",
        "time_embed.timestep_embedder.linear_2": "time_in.mlp.2",
        "image_embedder.norm_in": "vision_in.proj.0",
        "image_embedder.linear_1": "vision_in.proj.1",
        "image_embedder.linear_2": "vision_in.proj.3",
        "image_embedder.norm_out": "vision_in.proj.4",
        "x_embedder": "img_in",
        "cond_type_embed.": "cond_type_embedding.",
        "norm1_context.linear": "txt_mod.linear",
        "norm1.linear": "img_mod.linear",
        "ff_context.net.0.proj": "txt_mlp.fc1",
        "ff_context.net.2": "txt_mlp.fc2",
        "attn.norm_added_q": "txt_attn_q_norm",
        "attn.norm_added_k": "txt_attn_k_norm",
        "attn.norm_q": "img_attn_q_norm",
        "attn.norm_k": "img_attn_k_norm",
        "attn.to_add_out": "txt_attn_proj",
        **{f"attn.add_{part}_proj": f"txt_attn_{part}" for part in "qkv"},
    }
    refined = {
        "attn.to_out.0": "self_attn_proj",
        "ff.net.0.proj": "mlp.fc1",
        "ff.net.2": "mlp.fc2",
        "norm_out.linear": "adaLN_modulation.1",
        **{f"attn.to_{part}": f"self_attn_{part}" for part in "qkv"},
    }
    blocks = {
        "transformer_blocks": "double_blocks",
        "attn.to_out.0": "img_attn_proj",
        "ff.net.0.proj": "img_mlp.fc1",
        "ff.net.2": "img_mlp.fc2",
        "norm_out.linear": "final_layer.adaLN_modulation.1",
        **{f"attn.to_{part}": f"img_attn_{part}" for part in "qkv"},
    }
    named: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        table = {**pairs, **(refined if "refiner" in key else blocks)}
        if key.startswith("norm_out"):
            value = torch.cat(value.chunk(2)[::-1])  # noqa: PLW2901
        elif key.startswith("proj_out"):
            table = {"proj_out": "final_layer.linear"}
        for ours, theirs in table.items():
            key = key.replace(ours, theirs)  # noqa: PLW2901
        named[key] = value
    for key in [key for key in named if "_attn_q." in key and (fused or "self" in key)]:
        three = [named.pop(key.replace("_q.", f"_{part}.")) for part in "qkv"]
        named[key.replace("_q.", "_qkv.")] = torch.cat(three)
    return named


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_one_file_in_the_authors_names_loads_exactly(parts, saved, tmp_path, fused, prefix):
    state = load_file(saved / "transformer" / "diffusion_pytorch_model.safetensors")
    named = tencent(state, fused=fused)
    file = tmp_path / "original.safetensors"
    save_file({prefix + key: value.contiguous() for key, value in named.items()}, file)
    config = (saved / "transformer" / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    loaded = FAMILY.load_denoiser(Source(TEXT, str(file)))
    with torch.no_grad():
        assert torch.equal(predict(loaded, parts), predict(parts.denoiser, parts))


def test_single_files_that_do_not_fit_are_refused(parts, saved, tmp_path):
    inside = saved / "transformer" / "diffusion_pytorch_model.safetensors"
    half = FAMILY.load_denoiser(Source(TEXT, str(inside), dtype=torch.bfloat16))
    assert {value.dtype for value in half.parameters()} == {torch.bfloat16}
    state = load_file(inside)
    alone = tmp_path / "alone.safetensors"
    save_file(state, alone)
    with pytest.raises(ValueError, match=r"alone.*does not fit .*variant 1\.5-480p-t2v: Error"):
        FAMILY.load_denoiser(Source(TEXT, str(alone)))
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(3, 2)}, alone)
    with pytest.raises(ValueError, match=r"img_attn\.qkv is no original layer"):
        FAMILY.load_denoiser(Source(TEXT, str(alone)))
    alone.write_bytes(b"")
    with pytest.raises(WeightsNotFound, match="cut short"):
        FAMILY.load_denoiser(Source(TEXT, str(alone)))
    with pytest.raises(ValueError, match=r"1\.5 i2v transformer: its task_type is t2v, not i2v"):
        FAMILY.load_denoiser(Source(SEEING, str(saved)))


def test_layers_have_one_original_name_where_both_generations_agree_on_it(parts):
    unnamed = []
    for name, layer in parts.denoiser.named_modules():
        if not isinstance(layer, (nn.Linear, nn.Conv3d)):
            continue
        try:
            found, place, _ = FAMILY.names.original(name)
        except UnknownLayer:
            unnamed.append(name)
        else:
            assert FAMILY.names.diffusers(found)[place] == name
    assert unnamed == [
        "time_embed.timestep_embedder.linear_1",
        "time_embed.timestep_embedder.linear_2",
        "norm_out.linear",
    ]
    split = FAMILY.names.diffusers("double_blocks.3.txt_attn_k")
    assert split == ("transformer_blocks.3.attn.add_k_proj",)


def test_the_adapter_has_no_layer_that_never_learns(parts):
    denoiser = deepcopy(parts.denoiser)
    assert len(adapted(denoiser)) == 2 * 12 - len(FAMILY.lora_dead)
    predict(denoiser, parts).square().mean().backward()
    assert all(value.grad.any() for value in lora.trainable(denoiser).values())


def test_the_stock_transformer_loads_the_adapter(parts, saved, tmp_path):
    denoiser = deepcopy(parts.denoiser)
    names = adapted(denoiser)
    file = tmp_path / "adapter.safetensors"
    lora.save(denoiser, file, {}, prefix=FAMILY.lora_prefix)
    stock = diffusers.HunyuanVideo15Pipeline.from_pretrained(saved, local_files_only=True)
    assert not hasattr(stock, "load_lora_weights")  # this is the public way for 1.5
    stock.transformer.load_lora_adapter(
        str(tmp_path), weight_name=file.name, prefix=FAMILY.lora_prefix
    )
    found = [name for name, _ in stock.transformer.named_modules() if name.endswith(".lora_A")]
    assert sorted(found) == sorted(f"{name}.lora_A" for name in names)
    with torch.no_grad():
        ours, theirs = (predict(model, parts) for model in (denoiser, stock.transformer))
        base = predict(parts.denoiser, parts)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert (ours - base).abs().max() > 0.01


@pytest.mark.parametrize("variant", [TEXT, "1.5-720p-t2v", SEEING, "1.5-720p-i2v"])
def test_the_built_in_architectures_have_the_released_size(variant):
    with torch.device("meta"):
        model = HunyuanVideo15Transformer3DModel.from_config(architecture(variant))
    assert sum(value.numel() for value in model.parameters()) == 8_326_608_160
    assert model.config.target_size == (960 if "720" in variant else 640)
