"""What Tencent calls the layers of HunyuanVideo and HunyuanVideo-1.5, and 1.5's single files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from frisket.disk.untrusted import read_table
from frisket.families import weights
from frisket.families.base import Source
from frisket.families.key_map import Names

REFINER = "txt_in.individual_token_refiner.blocks.{}"
REFINED = "context_embedder.token_refiner.refiner_blocks.{}"

BOTH: dict[str, str | tuple[str, ...]] = {
    "img_in.proj": "x_embedder.proj",
    "final_layer.linear": "proj_out",
    "txt_in.input_embedder": "context_embedder.proj_in",
    "txt_in.t_embedder.mlp.0": "context_embedder.time_text_embed.timestep_embedder.linear_1",
    "txt_in.t_embedder.mlp.2": "context_embedder.time_text_embed.timestep_embedder.linear_2",
    "txt_in.c_embedder.linear_1": "context_embedder.time_text_embed.text_embedder.linear_1",
    "txt_in.c_embedder.linear_2": "context_embedder.time_text_embed.text_embedder.linear_2",
    f"{REFINER}.self_attn_qkv": tuple(f"{REFINED}.attn.to_{part}" for part in "qkv"),
    f"{REFINER}.self_attn_proj": f"{REFINED}.attn.to_out.0",
    f"{REFINER}.mlp.fc1": f"{REFINED}.ff.net.0.proj",
    f"{REFINER}.mlp.fc2": f"{REFINED}.ff.net.2",
    f"{REFINER}.adaLN_modulation.1": f"{REFINED}.norm_out.linear",
    "double_blocks.{}.img_mod.linear": "transformer_blocks.{}.norm1.linear",
    "double_blocks.{}.txt_mod.linear": "transformer_blocks.{}.norm1_context.linear",
    "double_blocks.{}.img_attn_qkv": tuple(f"transformer_blocks.{{}}.attn.to_{p}" for p in "qkv"),
    "double_blocks.{}.txt_attn_qkv": tuple(
        f"transformer_blocks.{{}}.attn.add_{part}_proj" for part in "qkv"
    ),
    "double_blocks.{}.img_attn_proj": "transformer_blocks.{}.attn.to_out.0",
    "double_blocks.{}.txt_attn_proj": "transformer_blocks.{}.attn.to_add_out",
    "double_blocks.{}.img_mlp.fc1": "transformer_blocks.{}.ff.net.0.proj",
    "double_blocks.{}.img_mlp.fc2": "transformer_blocks.{}.ff.net.2",
    "double_blocks.{}.txt_mlp.fc1": "transformer_blocks.{}.ff_context.net.0.proj",
    "double_blocks.{}.txt_mlp.fc2": "transformer_blocks.{}.ff_context.net.2",
}
FIRST: dict[str, str | tuple[str, ...]] = {  # HunyuanVideo's alone
    "time_in.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "time_in.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "guidance_in.mlp.0": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.mlp.2": "time_text_embed.guidance_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "single_blocks.{}.linear1": (
        *(f"single_transformer_blocks.{{}}.attn.to_{part}" for part in "qkv"),
        "single_transformer_blocks.{}.proj_mlp",
    ),
    "single_blocks.{}.linear2": "single_transformer_blocks.{}.proj_out",
    "single_blocks.{}.modulation.linear": "single_transformer_blocks.{}.norm.linear",
}
LATER: dict[str, str | tuple[str, ...]] = {  # HunyuanVideo-1.5's alone
    "byt5_in.fc1": "context_embedder_2.linear_1",
    "byt5_in.fc2": "context_embedder_2.linear_2",
    "byt5_in.fc3": "context_embedder_2.linear_3",
    "vision_in.proj.1": "image_embedder.linear_1",
    "vision_in.proj.3": "image_embedder.linear_2",
}
EMBEDDERS = {
    "time_in": "time_text_embed.timestep_embedder",
    "guidance_in": "time_text_embed.guidance_embedder",
    "txt_in.t_embedder": "context_embedder.time_text_embed.timestep_embedder",
    "txt_in.c_embedder": "context_embedder.time_text_embed.text_embedder",
}
# Where ComfyUI knows its own name alone. It comes first, so it is what is written.
EMBEDDED: dict[str, str | tuple[str, ...]] = {
    f"{original}.{layer}": f"{name}.linear_{number}"
    for original, name in EMBEDDERS.items()
    for layer, number in (("in_layer", 1), ("out_layer", 2))
}
SPLIT: dict[str, str | tuple[str, ...]] = {
    **{f"double_blocks.{{}}.img_attn_{p}": f"transformer_blocks.{{}}.attn.to_{p}" for p in "qkv"},
    **{
        f"double_blocks.{{}}.txt_attn_{p}": f"transformer_blocks.{{}}.attn.add_{p}_proj"
        for p in "qkv"
    },
}

# Tencent fuses q, k and v in HunyuanVideo's double blocks and splits them in 1.5's; ComfyUI fuses
# them in both. So the fused rows, which come first, are what is written, and the split ones are
# read as well (musubi's LoRAs of 1.5 have them). Not in here, since one table serves both models:
# time_embed of 1.5, whose original name is that of time_text_embed.
ROWS = {**BOTH, **FIRST, **LATER, **SPLIT}
HEAD = {"final_layer.adaLN_modulation.1": "norm_out.linear"}
# ComfyUI's own model has FLUX's names for these layers; musubi's converter for it writes them too.
COMFYUI = {
    "_attn_qkv": "_attn.qkv",
    "_attn_proj": "_attn.proj",
    "_mod.linear": "_mod.lin",
    "modulation.linear": "modulation.lin",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
    "time_in.mlp.0": "time_in.in_layer",
    "time_in.mlp.2": "time_in.out_layer",
    "guidance_in.mlp.0": "guidance_in.in_layer",
    "guidance_in.mlp.2": "guidance_in.out_layer",
    "_embedder.mlp.0": "_embedder.in_layer",
    "_embedder.mlp.2": "_embedder.out_layer",
    "c_embedder.linear_1": "c_embedder.in_layer",
    "c_embedder.linear_2": "c_embedder.out_layer",
}
ALSO = {
    key.removesuffix(ours) + theirs: names
    for key, names in ROWS.items()
    for ours, theirs in COMFYUI.items()
    if key.endswith(ours) and key.removesuffix(ours) + theirs not in EMBEDDED
}
NAMES = Names(
    {**EMBEDDED, **ROWS},
    also=ALSO,
    turned=HEAD,
    unwritten={"kohya": "ComfyUI and musubi-tuner call its layers differently in such keys"},
)

TIME = {
    f"time_in.mlp.{layer}": f"time_embed.timestep_embedder.linear_{number}"
    for layer, number in ((0, 1), (2, 2))
}
NORMS: dict[str, str | tuple[str, ...]] = {
    f"{REFINER}.norm1": f"{REFINED}.norm1",
    f"{REFINER}.norm2": f"{REFINED}.norm2",
    "byt5_in.layernorm": "context_embedder_2.norm",
    "vision_in.proj.0": "image_embedder.norm_in",
    "vision_in.proj.4": "image_embedder.norm_out",
    "cond_type_embedding": "cond_type_embed",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
    **{
        f"double_blocks.{{}}.{stream}_attn_{part}_norm": f"transformer_blocks.{{}}.attn.norm_{to}"
        for stream, added in (("img", ""), ("txt", "added_"))
        for part, to in (("q", f"{added}q"), ("k", f"{added}k"))
    },
}
WHOLE_15 = Names({**BOTH, **LATER, **SPLIT, **TIME, **NORMS})  # every tensor of 1.5's checkpoint


def from_original_15(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A HunyuanVideo-1.5 checkpoint of Tencent's in diffusers' keys.

    As diffusers' scripts/convert_hunyuan_video1_5_to_diffusers.py: fused rows are taken apart, the
    halves of the final modulation change places. UnknownLayer for a key that is not 1.5's.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        layer, _, kind = key.rpartition(".")
        names = WHOLE_15.diffusers(layer)
        if layer == "final_layer.adaLN_modulation.1":
            value = torch.cat(value.chunk(2)[::-1])  # noqa: PLW2901
        parts = value.chunk(len(names))
        renamed |= {f"{name}.{kind}": part for name, part in zip(names, parts, strict=True)}
    return renamed


def single_file_15(kind: Any, file: Path, source: Source, architecture: Mapping[str, Any]) -> Any:
    """A HunyuanVideo-1.5 transformer from one .safetensors file in diffusers' or Tencent's keys.

    diffusers has no `from_single_file` for it. The config.json of a transformer beside the file
    (or in transformer/) comes before `architecture`. WeightsNotFound for a damaged file, ValueError
    where its tensors do not fit.
    """
    weights.tensors(file)
    beside = [file.parent / "config.json", file.parent / "transformer" / "config.json"]
    config = next((path for path in beside if _class_of(path) == kind.__name__), None)
    state = {key.removeprefix("model.diffusion_model."): v for key, v in load_file(file).items()}
    where = f"variant {source.variant}" if config is None else str(config)
    with torch.device("meta"):
        model = kind.from_config(
            architecture if config is None else kind.load_config(config.parent)
        )
    try:
        if any(key.startswith("double_blocks.") for key in state):
            state = from_original_15(state)
        cast = {key: value.to(source.dtype) for key, value in state.items()}
        model.load_state_dict(cast, strict=True, assign=True)
    except (KeyError, RuntimeError) as error:
        raise ValueError(
            f"{file} does not fit the architecture of {where}: {_first_lines(error)}. Choose the"
            " variant the file was made for, or put its own config.json beside it."
        ) from error
    return model


def expect_kind(kind: Any, source: Source, subfolder: str) -> None:
    """Raise ValueError for a local folder that holds another class of model, before it is loaded.

    The parts of HunyuanVideo and 1.5 lie in folders of the same names, and diffusers would load one
    as the other until the first tensor's shape differs.
    """
    root = weights.local(source)
    config = None if root is None else root / subfolder / "config.json"
    name = kind.__name__ if config is None else _class_of(config)
    if name and name != kind.__name__:
        raise ValueError(
            f"{root}/{subfolder} is not for variant {source.variant}: it holds a {name}, not a"
            f" {kind.__name__}. Check model.family and model.variant."
        )


def _class_of(config: Path) -> str:
    if not config.is_file():
        return ""
    return str(read_table(config).get("_class_name", ""))


def _first_lines(error: Exception) -> str:
    """The head of torch's message, which otherwise lists every tensor of the model."""
    return " ".join(str(error).split())[:300]
