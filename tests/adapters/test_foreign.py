"""Files of other programs that are more than other names: left out, turned, cut or refused."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from frisket.adapters import formats, lora
from frisket.adapters.arithmetic import delta
from frisket.adapters.lora import AdapterMismatch, LoraSpec
from frisket.families.key_map import Names
from frisket.families.models.flux.family import FAMILY as FLUX
from frisket.families.models.stable_diffusion.family import FAMILY as SD
from frisket.families.models.wan.family import FAMILY as WAN
from frisket.families.models.z_image import FAMILY as Z_IMAGE
from frisket.recipes import convert
from frisket.runs.adapter_base import AdapterBase

VARIANT = "2.1-t2v-1.3b"
LAYER = "diffusion_model.blocks.0.ffn.0"  # 24 to 32 in the tiny model
OURS = "blocks.0.ffn.net.0.proj"


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    return WAN.tiny(VARIANT).denoiser


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair(name: str, ins: int = 24, outs: int = 32, rank: int = 2) -> dict[str, Tensor]:
    return {
        f"{name}.lora_A.weight": random(rank, ins),
        f"{name}.lora_B.weight": random(outs, rank, seed=1),
    }


def saved(path: Path, values: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file({key: value.contiguous() for key, value in values.items()}, path, metadata)
    return path


# what is left out


def lightx2v(path: Path) -> Path:
    """A distillation's file: every bias and norm moves as well."""
    values = pair(LAYER)
    for block in (0, 1):
        values[f"diffusion_model.blocks.{block}.norm3.diff"] = torch.ones(24)
        values[f"diffusion_model.blocks.{block}.norm3.diff_b"] = torch.ones(24)
        values[f"diffusion_model.blocks.{block}.ffn.0.diff_b"] = torch.ones(32)
    return saved(path, values)


def test_what_no_lora_holds_is_refused_and_left_out_on_request(tiny, tmp_path):
    file, out = lightx2v(tmp_path / "a.safetensors"), tmp_path / "b.safetensors"
    with pytest.raises(AdapterMismatch, match=r"6 of 8 keys .*frisket convert .*--leave-out"):
        lora.load(deepcopy(tiny), file, names=WAN.names)
    lines = convert.run([file], out, family="wan", leave_out=("*.diff", "*.diff_b"))
    assert "left out by '*.diff': 2, diffusion_model.blocks.*.norm3.diff (2)" in lines
    assert any(
        line.startswith("left out by '*.diff_b': 4, ") and "blocks.*.ffn.0.diff_b (2)" in line
        for line in lines
    )
    lora.load(deepcopy(tiny), out, names=WAN.names)
    before, after = formats.read(out, WAN.names).layers, pair(LAYER)
    assert torch.equal(before[OURS].high, after[f"{LAYER}.lora_B.weight"])


def test_a_layer_of_another_model_is_left_out_by_name(tmp_path):
    values = pair(LAYER) | pair("diffusion_model.blocks.0.face_block.q")
    file, out = saved(tmp_path / "a.safetensors", values), tmp_path / "b.safetensors"
    with pytest.raises(AdapterMismatch, match=r"1 of 2 layers are none of this family's.*face_blo"):
        convert.run([file], out, family="wan")
    lines = convert.run([file], out, family="wan", leave_out=("face_block",))
    assert sum("left out" in line for line in lines) == 1
    assert list(formats.read(out, WAN.names).layers) == [OURS]
    described = "\n".join(convert.run([file], None, family="wan", leave_out=("face_block",)))
    assert "left out by 'face_block': 2" in described


@pytest.mark.parametrize("pattern", ["*.alpha", "lora_B", "dora_scale", "*hada_t1"])
def test_half_a_layer_is_never_left_out(tmp_path, pattern):
    values = pair(LAYER)
    for end in ("alpha", "dora_scale", "hada_t1"):
        values[f"{LAYER}.{end}"] = torch.ones(1)
    file = saved(tmp_path / "a.safetensors", values)
    with pytest.raises(AdapterMismatch, match=rf"would leave a part of {LAYER} and drop another"):
        convert.run([file], tmp_path / "b", family="wan", leave_out=(pattern,))


def test_a_pattern_that_names_nothing_is_an_error(tmp_path):
    file = saved(tmp_path / "a.safetensors", pair(LAYER))
    with pytest.raises(AdapterMismatch, match="nothing in it is called 'diff_c'"):
        convert.run([file], tmp_path / "b", family="wan", leave_out=("diff_c",))


# DoRA's axis


@pytest.mark.parametrize("outs", [24, 32])
@pytest.mark.parametrize("end", ["dora_scale", "lora_magnitude_vector"])
def test_magnitudes_of_the_inputs_are_refused_square_or_not(tiny, tmp_path, outs, end):
    name = "diffusion_model.blocks.0.self_attn.q" if outs == 24 else LAYER
    values = pair(name, outs=outs) | {f"{name}.{end}": torch.ones(1, 24)}
    file = saved(tmp_path / "a.safetensors", values)
    for doing in (
        lambda: lora.load(deepcopy(tiny), file, names=WAN.names),
        lambda: convert.run([file], tmp_path / "b.safetensors", family="wan"),
        lambda: convert.run([file], None),
    ):
        with pytest.raises(
            AdapterMismatch, match=rf"a.safetensors: .*{end} is 1 x 24, a magnitude"
        ):
            doing()
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize("shape", [(24, 1), (24,)])
def test_magnitudes_of_the_outputs_of_a_square_layer_are_read(tmp_path, shape):
    name = "diffusion_model.blocks.0.self_attn.q"
    values = pair(name, outs=24) | {f"{name}.dora_scale": random(*shape, seed=3)}
    read = formats.read(saved(tmp_path / "a.safetensors", values), WAN.names)
    layer = read.layers["blocks.0.attn1.to_q"]
    assert torch.equal(layer.tensors["lora_magnitude_vector"], random(*shape, seed=3).flatten())


def test_magnitudes_of_kernels_tell_the_axis_too(tmp_path):
    name, names = "lora_unet_x", Names({"x": "x"})
    values = {
        f"{name}.lora_down.weight": random(2, 6, 3, 3),
        f"{name}.lora_up.weight": random(6, 2, 1, 1),
    }
    scale = random(6, seed=4)
    values[f"{name}.dora_scale"] = scale.reshape(6, 1, 1, 1)
    layer = formats.read(saved(tmp_path / "a.safetensors", values), names).layers["x"]
    assert torch.equal(layer.tensors["lora_magnitude_vector"], scale.reshape(1, 6, 1, 1))
    values[f"{name}.dora_scale"] = scale.reshape(1, 6, 1, 1)
    with pytest.raises(AdapterMismatch, match="dora_scale is 1 x 6 x 1 x 1, a magnitude for every"):
        formats.read(saved(tmp_path / "b.safetensors", values), names)


# other names


def test_names_with_two_underscores_are_read(tmp_path):
    for family, start, ours in (
        (WAN, "lora_unet__blocks_0_ffn_0", OURS),
        (Z_IMAGE, "lora_unet__layers_3_attention_to_q", "layers.3.attention.to_q"),
    ):
        values = {
            f"{start}.lora_down.weight": random(2, 24),
            f"{start}.lora_up.weight": random(32, 2),
        }
        base = AdapterBase(family.name)
        file = saved(tmp_path / "a.safetensors", values)
        assert list(formats.read(file, base.names(), layers=base.layers()).layers) == [ours]


def test_the_first_attention_adapters_of_diffusers_are_read(tmp_path):
    block = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    base = AdapterBase("stable_diffusion", "sd15")
    for start in ("unet.", ""):
        values = {}
        for part in ("to_q", "to_out"):
            values[f"{start}{block}.processor.{part}_lora.down.weight"] = random(2, 8)
            values[f"{start}{block}.processor.{part}_lora.up.weight"] = random(8, 2)
        file = saved(tmp_path / "a.safetensors", values)
        read = formats.read(file, base.names(), prefix="unet", layers=base.layers())
        assert sorted(read.layers) == [f"{block}.to_out.0", f"{block}.to_q"]


def test_the_authors_names_of_sd15_are_read_onto_the_model(tmp_path):
    values = {}
    for name, ins in (("input_blocks_1_1_transformer_blocks_0_attn1_to_q", 8),
                      ("middle_block_1_transformer_blocks_0_attn1_to_q", 8)):  # fmt: skip
        values |= {f"lora_unet_{name}.lora_down.weight": random(2, ins)}
        values |= {f"lora_unet_{name}.lora_up.weight": random(ins, 2)}
    base = AdapterBase("stable_diffusion", "sd15")
    file = saved(tmp_path / "a.safetensors", values)
    read = formats.read(file, SD.names, prefix="unet", layers=base.layers())
    assert sorted(read.layers) == [
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
    ]


def test_tuckers_core_is_worked_into_a(tmp_path):
    names = Names({"x": "x"})
    low, core, high = random(3, 6, 1, 1), random(3, 3, 3, 3, seed=1), random(8, 3, 1, 1, seed=2)
    values = {
        "lora_unet_x.lora_down.weight": low,
        "lora_unet_x.lora_mid.weight": core,
        "lora_unet_x.lora_up.weight": high,
        "lora_unet_x.alpha": torch.tensor(1.5),
    }
    layer = formats.read(saved(tmp_path / "a.safetensors", values), names).layers["x"]
    conv = nn.functional.conv2d
    x = random(1, 6, 5, 5, seed=5)
    wanted = conv(conv(conv(x, low), core, padding=1), high) * 0.5
    found = conv(x, delta(layer, (8, 6, 3, 3)), padding=1)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    values = {f"lora_unet_x.{end}": random(3, 3) for end in
              ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1")}  # fmt: skip
    with pytest.raises(AdapterMismatch, match="has hada_t1, Tucker's form"):
        formats.read(saved(tmp_path / "b.safetensors", values), names)


# forms on fused layers


def test_a_loha_on_a_fused_layer_is_cut_into_its_rows(tmp_path):
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    values = {f"{name}.{end}": random(*shape, seed=seed) for seed, (end, shape) in enumerate({
        "hada_w1_a": (36, 2), "hada_w1_b": (2, 12), "hada_w2_a": (36, 2), "hada_w2_b": (2, 12),
    }.items())}  # fmt: skip
    values[f"{name}.alpha"] = torch.tensor(1.0)
    layers = formats.read(saved(tmp_path / "a.safetensors", values), FLUX.names).layers
    whole = (
        0.5
        * (values[f"{name}.hada_w1_a"] @ values[f"{name}.hada_w1_b"])
        * (values[f"{name}.hada_w2_a"] @ values[f"{name}.hada_w2_b"])
    )
    parts = [delta(layers[f"transformer_blocks.0.attn.to_{part}"]) for part in "qkv"]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_a_lokr_on_a_fused_layer_is_cut_where_its_first_factor_has_a_row(tmp_path):
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    values = {f"{name}.lokr_w1": random(6, 3), f"{name}.lokr_w2": random(6, 4, seed=1)}
    values[f"{name}.alpha"] = torch.tensor(64.0)  # means nothing to whole factors
    layers = formats.read(saved(tmp_path / "a.safetensors", values), FLUX.names).layers
    whole = torch.kron(values[f"{name}.lokr_w1"], values[f"{name}.lokr_w2"])
    parts = [delta(layers[f"transformer_blocks.0.attn.to_{part}"]) for part in "qkv"]
    torch.testing.assert_close(torch.cat(parts), whole)
    values = {f"{name}.lokr_w1": random(4, 3), f"{name}.lokr_w2": random(9, 4, seed=1)}
    with pytest.raises(AdapterMismatch, match=r"its LoKr has 9 outputs in one piece.*cannot be"):
        formats.read(saved(tmp_path / "b.safetensors", values), FLUX.names)


# forms as ComfyUI computes them


RECORDED = Path(__file__).parent / "names" / "comfyui_weights.json"
CASES = json.loads(RECORDED.read_text("utf-8"))["cases"]


@pytest.mark.parametrize("case", CASES)
def test_a_layer_does_what_comfyui_makes_of_it(tmp_path, case):
    """Of two whole factors it ignores alpha, of one it divides by the other's rank."""
    tensors = {end: torch.tensor(value) for end, value in CASES[case]["tensors"].items()}
    values = {f"lora_unet_x.{end}": value for end, value in tensors.items()}
    wanted = torch.tensor(CASES[case]["weight"])
    layer = formats.read(saved(tmp_path / "a.safetensors", values), Names({"x": "x"})).layers["x"]
    torch.testing.assert_close(delta(layer, wanted.shape), wanted, rtol=1e-4, atol=1e-5)


# LoKr of whole factors


def test_a_lokr_of_whole_factors_alone_is_continued_and_converted(tiny, tmp_path):
    """ai-toolkit's default; its alpha, if any, means nothing (ComfyUI weight_adapter/lokr.py)."""
    model = deepcopy(tiny)
    lora.attach(model, LoraSpec("lokr", 64, targets=("attn1.to_q", "ffn.net.0.proj")), seed=0)
    with torch.no_grad():
        for value in lora.trainable(model).values():
            value.add_(0.1)
    lora.save(model, tmp_path / "a.safetensors", {}, names=WAN.names, form="comfyui")
    values = load_file(tmp_path / "a.safetensors")
    for key in [key for key in values if key.endswith("lokr_w1")]:
        values[key.replace("lokr_w1", "alpha")] = torch.tensor(4.0)
    file = saved(tmp_path / "theirs.safetensors", values)
    continued = deepcopy(tiny)
    lora.load(continued, file, names=WAN.names)
    ours, theirs = lora.trainable(model), lora.trainable(continued)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for to in ("comfyui", "kohya", "diffusers"):
        out = tmp_path / f"{to}.safetensors"
        convert.run([file], out, to=to, family="wan", scale=0.5)
        again = deepcopy(tiny)
        lora.load(again, out, names=WAN.names)
        for name, layer in formats.read(out, WAN.names).layers.items():
            wanted = continued.get_submodule(name).get_delta_weight("default") / 2
            torch.testing.assert_close(delta(layer), wanted)
            torch.testing.assert_close(
                again.get_submodule(name).get_delta_weight("default"), wanted
            )


@pytest.mark.parametrize("sides", [((2, 2), (16, 12)), ((16, 12), (2, 2))])
def test_a_lokr_in_other_factors_is_refused_with_the_way_out(tiny, tmp_path, sides):
    first, second = sides
    values = {f"{LAYER}.lokr_w1": random(*first), f"{LAYER}.lokr_w2": random(*second)}
    file = saved(tmp_path / "a.safetensors", values)
    with pytest.raises(AdapterMismatch, match=r"LoKr in other factors.*--merge-into"):
        lora.load(deepcopy(tiny), file, names=WAN.names)
    tiny.save_pretrained(tmp_path / "model")
    lines = convert.run([file], tmp_path / "out", family="wan", merge_into=tmp_path / "model")
    assert any("of the change kept" in line for line in lines)
