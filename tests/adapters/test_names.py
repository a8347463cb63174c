"""Names of layers as other programs write them: recorded from their own code, read as ours."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_flux2_transformer_checkpoint_to_diffusers,
    convert_hunyuan_video_transformer_to_diffusers,
    convert_sd3_transformer_checkpoint_to_diffusers,
)
from safetensors.torch import save_file
from torch import Tensor

from frisket.adapters import factors, files, formats, writing
from frisket.adapters.arithmetic import delta
from frisket.adapters.layers import Layer
from frisket.runs.adapter_base import AdapterBase

RECORDED = Path(__file__).parent / "names"
COMFYUI: dict[str, Any] = json.loads((RECORDED / "comfyui.json").read_text("utf-8"))["families"]
SD_SCRIPTS: dict[str, Any] = json.loads((RECORDED / "sd_scripts_sd3.json").read_text("utf-8"))
# ComfyUI has one map for both FLUX models, and so names of the other one for each; an embedding
# is no layer for an adapter; the refiner of FLUX' linear1 and SDXL's class embedding are names
# that no trainer writes.
NO_LAYERS = {
    "flux": r"linear_(in|out)$|to_qkv_mlp_proj$|single_\w+[._]\{\}[._]attn[._]to_out$|linear1_qkv$",
    "flux2": r"time_text_embed|ff(_context)?[._]net|single_\w+[._]\{\}[._](proj_|attn[._]to_[qkv]$)"
    r"|linear1_qkv$",
    "hunyuan_video": r"cond_type_embedding$",
    "stable_diffusion": r"class_embedding",
}


@cache
def base_of(case: str) -> tuple[AdapterBase, tuple[str, ...]]:
    base = AdapterBase(*case.split())
    return base, base.layers()


def layers_in(case: str, path: Path, names: list[str]) -> dict[str, list[str]]:
    """What a file of these layers holds: diffusers' names by the name in the file."""
    base, layers = base_of(case)
    found: dict[str, list[str]] = {}
    values: dict[str, Tensor] = {}
    for count, name in enumerate(names):
        down, up = (
            ("_lora.down", "_lora.up") if ".processor." in name else (".lora_down", ".lora_up")
        )
        mark = torch.full((1, 1), float(count))
        values |= {f"{name}{down}.weight": mark, f"{name}{up}.weight": torch.ones(12, 1)}
    save_file(values, path)
    read = formats.read(
        path,
        base.names(),
        prefix=base.load_family().lora_prefix,
        layers=layers,
        outputs=_Any(layers),
    )
    for ours, layer in read.layers.items():
        found.setdefault(names[int(layer.low.item())], []).append(ours)
    return found


class _Any(dict[str, int]):
    """Sizes of layers whatever they are called: parts of twelve rows, of which four are fused."""

    def __init__(self, layers: tuple[str, ...]) -> None:
        super().__init__(dict.fromkeys(layers, 1))

    def get(self, name: str, default: Any = None) -> Any:
        return None


def style(name: str) -> str:
    """What is common to the names of one file."""
    start = re.match(
        r"lora_unet_(input_|middle_|output_|time_embed_|label_|out_)?|diffusion_model\.|lycoris_"
        r"|lora_transformer_|transformer\.|base_model\.model\.|unet\.",
        name,
    )
    return start[0] if start else "bare"


@pytest.mark.parametrize("case", COMFYUI)
def test_every_name_that_comfyui_takes_is_read_as_the_same_layer(case, tmp_path):
    family = case.split()[0]
    odd = re.compile(NO_LAYERS.get(family, r"(?!)"))
    files_of: dict[str, dict[str, str]] = {}
    for target, names in COMFYUI[case].items():
        for name in names:
            if not odd.search(name):
                sgm = style(name) if family != "stable_diffusion" else style(name).rstrip("_")
                files_of.setdefault(sgm, {})[name.replace("{}", "7")] = target
    read: dict[str, set[tuple[str, ...]]] = {}
    for each, targets in files_of.items():
        # One name for a layer: ComfyUI takes several for some, and no file has two.
        rest = list(targets)
        while rest:
            taken = {targets[name]: name for name in reversed(rest)}
            rest = [name for name in rest if name not in taken.values()]
            whole = [name for name in taken.values() if not _is_part(targets[name], taken)]
            parts = [name for name in taken.values() if _is_part(targets[name], taken)]
            for names in (whole, parts):
                if names:
                    found = layers_in(case, tmp_path / "a.safetensors", names)
                    assert found.keys() == set(names), each
                    for name, ours in found.items():
                        read.setdefault(targets[name], set()).add(tuple(ours))
    several = {target: found for target, found in read.items() if len(found) > 1}
    assert not several
    assert read.keys() >= {
        t for t, names in COMFYUI[case].items() if not all(map(odd.search, names))
    }


def _is_part(target: str, taken: dict[str, str]) -> bool:
    """Whether another name in the file stands for the whole layer of which this is a part."""
    return " " in target and target.split(maxsplit=1)[0] in taken


def test_diffusers_names_are_read_as_comfyui_maps_them():
    """The parts of a fused layer are its rows, in ComfyUI's map and in Frisket's table."""
    for case, table in COMFYUI.items():
        names = base_of(case)[0].names()
        tables = {**names.rows, **names.also}
        fused = {key: row for key, row in tables.items() if isinstance(row, tuple)}
        parts: dict[str, dict[int, str]] = {}
        for target, theirs in table.items():
            layer, _, rows = target.partition(" ")
            ours = [name for name in theirs if name.startswith("transformer.")]
            if rows and layer in fused and len(ours) == 1:
                start = int(rows.split(":")[0])
                parts.setdefault(layer, {})[start] = ours[0].removeprefix("transformer.")
        for layer, places in parts.items():
            if case.split()[0] != "flux2":
                assert tuple(places[start] for start in sorted(places)) == fused[layer]


def network(case: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A network of sd-scripts at a 64th of the width, and the change it makes of each weight."""
    generator = torch.Generator().manual_seed(0)
    values: dict[str, Tensor] = {}
    changes: dict[str, Tensor] = {}
    for name, ins, outs, *blocks in SD_SCRIPTS["networks"][case]:
        for block in range(blocks[0], blocks[1] + 1) if blocks else (0,):
            base = name.format(block)
            low = torch.randn(2, max(1, ins // 64), generator=generator)
            high = torch.randn(max(1, outs // 64), 2, generator=generator)
            values |= {f"{base}.lora_down.weight": low, f"{base}.lora_up.weight": high}
            values[f"{base}.alpha"] = torch.tensor(3.0)
            changes[base.removeprefix("lora_unet_")] = high @ low * 1.5
    return values, changes


@pytest.mark.parametrize(
    "case",
    [
        case if case == "3.5-medium/emb_dims" else pytest.param(case, marks=pytest.mark.slow)
        for case in SD_SCRIPTS["networks"]
    ],
)
def test_a_network_of_sd_scripts_for_sd3_is_read_as_diffusers_converts_its_weights(case, tmp_path):
    values, changes = network(case)
    save_file(values, tmp_path / "a.safetensors")
    base, _ = base_of(f"sd3 {case.split('/')[0]}")
    layers = formats.read(tmp_path / "a.safetensors", base.names()).layers
    originals = {_dotted(name, base.names()): change for name, change in changes.items()}
    state = {f"{name}.weight": change for name, change in originals.items()}
    wanted = _converted_sd3(state)
    assert {f"{name}.weight" for name in layers} == wanted.keys()
    for name, layer in layers.items():
        torch.testing.assert_close(delta(layer), wanted[f"{name}.weight"], rtol=1e-5, atol=1e-5)
    writing.write(tmp_path / "b.safetensors", layers, {}, form="kohya", names=base.names())
    back = formats.read(tmp_path / "b.safetensors", base.names()).layers
    again, _ = files.tensors(tmp_path / "b.safetensors")
    assert again.keys() == values.keys()
    for name, layer in layers.items():
        same = back[name].tensors
        assert all(torch.equal(same[key], value) for key, value in layer.tensors.items())
    for base_name in ("final_layer_adaLN_modulation_1", "joint_blocks_0_context_block_mlp_fc1"):
        key = f"lora_unet_{base_name}.lora_up.weight"
        assert key not in values or torch.equal(again[key], values[key])


def _dotted(name: str, names: Any) -> str:
    for original in (*names.rows, *names.turned):
        pattern = re.escape(original.replace(".", "_")).replace(r"\{\}", r"(\d+)")
        if match := re.fullmatch(pattern, name):
            return original.format(*match.groups())
    raise AssertionError(name)


def _converted_sd3(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' own conversion, which wants a whole model: of what is not given, nothing."""
    given = {f"model.diffusion_model.{key}": value for key, value in state.items()}
    made = convert_sd3_transformer_checkpoint_to_diffusers(_Patient(given))
    return {key: value for key, value in made.items() if value.ndim == 2}


class _Patient(dict[str, Tensor]):
    """A checkpoint that gives a blank where it is asked for what it has not got."""

    def __missing__(self, key: str) -> Tensor:
        return torch.zeros(6)

    def pop(self, key: str, *_: Any) -> Tensor:
        return super().pop(key, torch.zeros(6))


@pytest.mark.parametrize(
    ("case", "convert"),
    [
        ("hunyuan_video t2v", convert_hunyuan_video_transformer_to_diffusers),
        ("flux2 klein-4b", convert_flux2_transformer_checkpoint_to_diffusers),
    ],
)
@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "lokr"])
def test_the_heads_shift_and_scale_trade_places_as_in_diffusers(case, convert, kind, tmp_path):
    name, ours = "final_layer.adaLN_modulation.1", "norm_out.linear"
    shapes: dict[str, tuple[int, ...]] = {
        "lora": {"lora_A.weight": (2, 12), "lora_B.weight": (24, 2)},
        "dora": {"lora_A.weight": (2, 12), "lora_B.weight": (24, 2), "dora_scale": (24, 1)},
        "loha": {"hada_w1_a": (24, 2), "hada_w1_b": (2, 12), "hada_w2_a": (24, 2),
                 "hada_w2_b": (2, 12)},
        "lokr": {"lokr_w1": (4, 3), "lokr_w2": (6, 4)},
    }[kind]  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    values = {end: torch.randn(*shape, generator=generator) for end, shape in shapes.items()}
    save_file({f"diffusion_model.{name}.{end}": value for end, value in values.items()},
              tmp_path / "a.safetensors")  # fmt: skip
    table = base_of(case)[0].names()
    layer = formats.read(tmp_path / "a.safetensors", table).layers[ours]
    plain = Layer(kind, factors.as_peft(name, values), 0 if kind == "lokr" else 2)
    wanted = convert({f"{name}.weight": delta(plain)})[f"{ours}.weight"]
    torch.testing.assert_close(delta(layer), wanted)
    if kind == "dora":
        scale = values["dora_scale"].flatten()
        assert torch.equal(layer.tensors["lora_magnitude_vector"], torch.cat(scale.chunk(2)[::-1]))
    writing.write(tmp_path / "b.safetensors", {ours: layer}, {}, names=table)
    again, _ = files.tensors(tmp_path / "b.safetensors")
    for end, value in values.items():
        assert torch.equal(again[f"diffusion_model.{name}.{end}"], value)
