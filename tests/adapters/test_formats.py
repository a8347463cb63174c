"""Adapter files in every key format: ranks, alphas, fused layers, other trainers' files."""

from copy import deepcopy

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from frisket.adapters import files, formats, layers, lora, writing
from frisket.adapters.arithmetic import delta
from frisket.adapters.layers import A, B, Layer
from frisket.adapters.lora import AdapterMismatch, LoraSpec
from frisket.families.key_map import Names
from frisket.families.models.wan.family import FAMILY as WAN

FUSED = Names(  # Wan's layers as another model's authors would have fused them
    {
        "b.{}.qkv": ("blocks.{}.attn1.to_q", "blocks.{}.attn1.to_k", "blocks.{}.attn1.to_v"),
        "b.{}.attn_out": "blocks.{}.attn1.to_out.0",
        "b.{}.in": "blocks.{}.ffn.net.0.proj",
    }
)
TARGETS = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ffn.net.0.proj")


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    return WAN.tiny("2.1-t2v-1.3b").denoiser


@pytest.fixture
def denoiser(tiny) -> nn.Module:
    return deepcopy(tiny)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def adapted(model: nn.Module, **options) -> nn.Module:
    lora.attach(model, LoraSpec(**{"rank": 2, "targets": TARGETS, **options}), seed=0)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in lora.trainable(model).values():
            value.add_(0.2 * torch.randn(value.shape, generator=generator))
    return model


def deltas(model: nn.Module) -> dict[str, Tensor]:
    """What each adapted layer adds to its weight."""
    return {
        name: layer.get_delta_weight("default").detach()
        for name, layer in model.named_modules()
        if hasattr(layer, "get_delta_weight")
    }


def assert_same(first: nn.Module, second: nn.Module) -> None:
    ours, theirs = lora.trainable(first), lora.trainable(second)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_comfyui_keys_are_dotted_originals_with_fused_factors(denoiser, tmp_path):
    file = tmp_path / "a.safetensors"
    lora.save(adapted(denoiser, alpha=5.0), file, {}, names=FUSED, form="comfyui")
    values, _ = files.tensors(file)
    assert {key for key in values if "b.0" in key} == {
        f"diffusion_model.b.0.{layer}.{end}"
        for layer in ("qkv", "attn_out", "in")
        for end in ("lora_A.weight", "lora_B.weight", "alpha")
    }
    assert values["diffusion_model.b.0.qkv.lora_A.weight"].shape == (6, 24)
    assert values["diffusion_model.b.0.qkv.lora_B.weight"].shape == (72, 6)
    assert values["diffusion_model.b.0.qkv.alpha"] == 15  # 15 / 6 = 5 / 2
    assert values["diffusion_model.b.0.in.alpha"] == 5


def test_kohya_keys_have_underscores_and_an_alpha_always(denoiser, tmp_path):
    file = tmp_path / "a.safetensors"
    lora.save(adapted(denoiser), file, {}, names=FUSED, form="kohya")
    assert {key for key in files.header(file)[0] if "b_0" in key} == {
        f"lora_unet_b_0_{layer}.{end}"
        for layer in ("qkv", "attn_out", "in")
        for end in ("lora_down.weight", "lora_up.weight", "alpha")
    }


def test_an_alpha_that_is_the_rank_is_left_out_of_comfyui_keys(denoiser, tmp_path):
    file = tmp_path / "a.safetensors"
    lora.save(adapted(denoiser), file, {}, names=FUSED, form="comfyui")
    assert not any(key.endswith(".alpha") for key in files.header(file)[0])


@pytest.mark.parametrize("form", ["comfyui", "kohya", "diffusers"])
@pytest.mark.parametrize("targets", [("attn1.to_q",), ("attn1.to_v", "attn1.to_k"), TARGETS])
def test_parts_of_a_fused_layer_that_are_not_adapted_stay_so(denoiser, tmp_path, form, targets):
    bare, file = deepcopy(denoiser), tmp_path / "a.safetensors"
    adapted(denoiser, targets=targets, alpha=0.1)
    lora.save(denoiser, file, {}, names=FUSED, form=form)
    lora.load(bare, file, names=FUSED)
    torch.testing.assert_close(dict(lora.trainable(bare)), dict(lora.trainable(denoiser)))
    assert lora.get_spec(bare) == lora.get_spec(denoiser)


@pytest.mark.parametrize("form", ["comfyui", "kohya"])
@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "lokr"])
def test_every_kind_comes_back_where_it_can_be_written(denoiser, tmp_path, form, kind):
    bare, file = deepcopy(denoiser), tmp_path / "a.safetensors"
    targets = ("attn1.to_out.0", "ffn.net.0.proj")
    adapted(denoiser, kind=kind, alpha=3.0, targets=targets)
    lora.save(denoiser, file, {}, names=FUSED, form=form)
    lora.load(bare, file, names=FUSED)
    assert_same(bare, denoiser)
    if kind == "dora":
        shapes = [shape for key, shape in files.header(file)[0].items() if "dora_scale" in key]
        assert all(shape[1:] == (1,) for shape in shapes)
        assert shapes
    words = {"loha": ".hada_w2_b", "lokr": ".lokr_w"}
    assert any(words.get(kind, "lora_") in key for key in files.header(file)[0])


def test_a_lokr_of_two_whole_factors_carries_its_scale_in_them(denoiser, tmp_path):
    bare, file = deepcopy(denoiser), tmp_path / "a.safetensors"
    adapted(denoiser, kind="lokr", rank=8, alpha=2.0, targets=("attn1.to_out.0",))
    lora.save(denoiser, file, {}, names=FUSED, form="comfyui")
    found = formats.read(file, FUSED).layers["blocks.0.attn1.to_out.0"]
    wanted = deltas(denoiser)["blocks.0.attn1.to_out.0"]
    torch.testing.assert_close(delta(found), wanted)  # as programs read it that scale nothing
    lora.load(bare, file, names=FUSED)
    torch.testing.assert_close(deltas(bare)["blocks.0.attn1.to_out.0"], wanted)


@pytest.mark.parametrize("kind", ["loha", "lokr"])
def test_what_cannot_be_fused_is_refused_before_anything_is_written(denoiser, tmp_path, kind):
    adapted(denoiser, kind=kind, targets=("attn1.to_q",))
    file = tmp_path / "a.safetensors"
    with pytest.raises(AdapterMismatch, match=rf"b\.0\.qkv.*fuses 3 layers.*{kind}.*diffusers"):
        lora.save(denoiser, file, {}, names=FUSED, form="comfyui")
    assert not file.exists()


def test_dora_is_fused_where_all_parts_are_there(denoiser, tmp_path):
    bare, file = deepcopy(denoiser), tmp_path / "a.safetensors"
    lora.save(adapted(denoiser, kind="dora"), file, {}, names=FUSED, form="comfyui")
    lora.load(bare, file, names=FUSED)
    assert_same(bare, denoiser)
    lora.detach(denoiser)
    adapted(denoiser, kind="dora", targets=("attn1.to_q",))
    with pytest.raises(AdapterMismatch, match="a dora of some of them only"):
        lora.save(denoiser, file, {}, names=FUSED, form="comfyui")


def foreign(tmp_path, values: dict[str, Tensor], metadata: dict[str, str] | None = None):
    file = tmp_path / "theirs.safetensors"
    save_file({key: value.contiguous() for key, value in values.items()}, file, metadata)
    return file


def kohya(base: str, rank: int, inputs: int, outputs: int, alpha: float | None = None, seed=0):
    values = {
        f"lora_unet_{base}.lora_down.weight": random(rank, inputs, seed=seed),
        f"lora_unet_{base}.lora_up.weight": random(outputs, rank, seed=seed + 1),
    }
    if alpha is not None:
        values[f"lora_unet_{base}.alpha"] = torch.tensor(alpha)
    return values


def test_a_layer_trained_fused_is_cut_into_parts_that_share_a(denoiser, tmp_path):
    values = kohya("b_1_qkv", 3, 24, 72, alpha=6.0)
    lora.load(denoiser, foreign(tmp_path, values), names=FUSED)
    assert lora.get_spec(denoiser).rank == 3
    assert lora.get_spec(denoiser).scale == 6
    whole = (
        values["lora_unet_b_1_qkv.lora_up.weight"] @ values["lora_unet_b_1_qkv.lora_down.weight"]
    )
    found = deltas(denoiser)
    parts = [found[f"blocks.1.attn1.to_{part}"] for part in "qkv"]
    torch.testing.assert_close(torch.cat(parts), 2 * whole)
    assert len(found) == 3


def test_sizes_that_do_not_add_up_are_another_models(denoiser, tmp_path):
    file = foreign(tmp_path, kohya("b_1_qkv", 2, 24, 70))
    with pytest.raises(AdapterMismatch, match=r"70 outputs; its parts here have 24 \+ 24 \+ 24"):
        lora.load(denoiser, file, names=FUSED)
    assert lora.get_spec(denoiser) is None


def test_one_rank_several_alphas_are_multiplied_into_b(denoiser, tmp_path):
    values = kohya("b_0_in", 2, 24, 32, 4.0) | kohya("b_1_in", 2, 24, 32, 1.0, seed=5)
    lora.load(denoiser, foreign(tmp_path, values), names=FUSED)
    assert (lora.get_spec(denoiser).rank, lora.get_spec(denoiser).scale) == (2, 2.0)
    for block, scale in ((0, 2.0), (1, 0.5)):
        name = f"lora_unet_b_{block}_in"
        wanted = values[f"{name}.lora_up.weight"] @ values[f"{name}.lora_down.weight"] * scale
        torch.testing.assert_close(deltas(denoiser)[f"blocks.{block}.ffn.net.0.proj"], wanted)


def test_lower_ranks_are_filled_up_and_what_is_filled_can_learn(denoiser, tmp_path):
    values = kohya("b_0_in", 2, 24, 32, 1.0) | kohya("b_1_in", 4, 24, 32, 2.0, seed=5)
    file = foreign(tmp_path, values)
    assert lora.spec_of(file, FUSED).rank == 4
    lora.load(denoiser, file, names=FUSED)
    assert lora.get_spec(denoiser).scale == 2  # alpha / rank is 1/2 in both
    name = "lora_unet_b_0_in"
    wanted = values[f"{name}.lora_up.weight"] @ values[f"{name}.lora_down.weight"] / 2
    torch.testing.assert_close(deltas(denoiser)["blocks.0.ffn.net.0.proj"], wanted)
    tuned = denoiser.get_submodule("blocks.0.ffn.net.0.proj")
    assert tuned.lora_A["default"].weight.any(1).all()  # else neither factor had a gradient
    assert not tuned.lora_B["default"].weight[:, 2:].any()


@pytest.mark.parametrize(
    "start",
    ["diffusion_model.b.0.in", "transformer.blocks.0.ffn.net.0.proj", "b.0.in",
     "base_model.model.blocks.0.ffn.net.0.proj", "transformer.b.0.in",
     "diffusion_model.blocks.0.ffn.net.0.proj"],
)  # fmt: skip
@pytest.mark.parametrize("ends", [("lora_A", "lora_B"), ("lora_down", "lora_up"),
                                  ("lora_A.default", "lora_B.default"),
                                  ("lora_A.my-adapter_1", "lora_B.my-adapter_1")])  # fmt: skip
def test_dotted_keys_of_all_trainers_name_the_same_layer(denoiser, tmp_path, start, ends):
    values = {
        f"{start}.{ends[0]}.weight": random(2, 24),
        f"{start}.{ends[1]}.weight": random(32, 2),
    }
    lora.load(denoiser, foreign(tmp_path, values), names=FUSED)
    assert list(deltas(denoiser)) == ["blocks.0.ffn.net.0.proj"]


@pytest.mark.parametrize("start", ["lora_unet_b_0_in", "lora_unet_blocks_0_ffn_net_0_proj",
                                   "lycoris_blocks_0_ffn_net_0_proj",
                                   "lora_transformer_blocks_0_ffn_net_0_proj"])  # fmt: skip
def test_flat_keys_are_looked_up_not_guessed(denoiser, tmp_path, start):
    values = {
        f"{start}.lora_down.weight": random(2, 24),
        f"{start}.lora_up.weight": random(32, 2),
        f"{start}.alpha": torch.tensor(2.0, dtype=torch.bfloat16),
    }
    lora.load(denoiser, foreign(tmp_path, values), names=FUSED)
    assert list(deltas(denoiser)) == ["blocks.0.ffn.net.0.proj"]


def test_an_empty_table_is_read_through_the_models_own_layers(denoiser, tmp_path):
    values = kohya("blocks_1_attn1_to_out_0", 2, 24, 24)
    file = foreign(tmp_path, values)
    lora.load(denoiser, file, names=Names())
    assert list(deltas(denoiser)) == ["blocks.1.attn1.to_out.0"]
    with pytest.raises(AdapterMismatch, match="none of this family's"):
        lora.spec_of(file, Names())  # no model at hand, no table


def test_diffusers_own_alphas_by_layer_and_rslora_are_heard(denoiser, tmp_path):
    import json

    values = {}
    for block in (0, 1):
        name = f"transformer.blocks.{block}.ffn.net.0.proj"
        values |= {f"{name}.lora_A.weight": random(4, 24), f"{name}.lora_B.weight": random(32, 4)}
    record = {"r": 4, "lora_alpha": 2, "alpha_pattern": {"blocks.1.ffn.net.0.proj": 8}}
    record["use_rslora"] = True
    said = {"lora_adapter_metadata": json.dumps({f"transformer.{k}": v for k, v in record.items()})}
    lora.load(denoiser, foreign(tmp_path, values, said))
    whole = random(32, 4) @ random(4, 24)
    found = deltas(denoiser)  # rslora: alpha / sqrt(rank)
    torch.testing.assert_close(found["blocks.0.ffn.net.0.proj"], whole)
    torch.testing.assert_close(found["blocks.1.ffn.net.0.proj"], 4 * whole)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lora_unet_b_9_zzz.lora_down.weight": 1}, "1 of 1 layers are none of this family's"),
        ({"lora_unet_b_0_in.diff": 1}, "1 of 1 keys are not adapter keys that Frisket knows"),
        ({"lora_unet_b_0_in.lora_mid.weight": 1}, r"has lora_mid\.weight and no A that fits it"),
        ({"lora_te1_x.lora_down.weight": 1}, "no adapter of a denoiser is in it"),
        ({"lora_unet_b_0_in.lora_down.weight": 1}, r"lacks lora_B\.weight"),
    ],
)
def test_what_no_adapter_is_is_named(denoiser, tmp_path, values, message):
    file = foreign(tmp_path, {key: torch.ones(2, 24) for key in values})
    with pytest.raises(AdapterMismatch, match=message):
        lora.load(denoiser, file, names=FUSED)
    assert lora.get_spec(denoiser) is None


def test_text_encoders_are_counted_aloud_and_not_trained(denoiser, tmp_path):
    values = kohya("b_0_in", 2, 24, 32)
    for text in ("lora_te1_text_model_x", "lora_te2_text_model_x", "text_encoder.x"):
        values[f"{text}.lora_down.weight"] = torch.ones(2, 2)
    file = foreign(tmp_path, values)
    with pytest.raises(
        AdapterMismatch, match=r"\(1 lora_te1, 1 lora_te2, 1 text_encoder\).*--drop-text"
    ):
        lora.load(denoiser, file, names=FUSED)
    read = formats.read(file, FUSED)
    assert read.tensors == 2
    assert dict(read.text) == {"lora_te1": 1, "lora_te2": 1, "text_encoder": 1}


def test_a_flat_name_of_two_layers_is_refused(tmp_path):
    double = Names({"a.b_c": "x", "a_b.c": "y"})
    file = foreign(tmp_path, kohya("a_b_c", 2, 4, 4))
    with pytest.raises(AdapterMismatch, match="stands for more than one layer: x or y"):
        formats.read(file, double)


def test_a_layer_outside_the_table_keeps_diffusers_keys(denoiser, tmp_path):
    adapted(denoiser, targets=("attn2.to_q",))
    with pytest.raises(AdapterMismatch, match=r"blocks\.0\.attn2\.to_q is no layer in this family"):
        lora.save(denoiser, tmp_path / "a.safetensors", {}, names=FUSED, form="comfyui")


def test_fusing_parts_of_other_ranks_and_alphas_is_exact_in_what_it_does():
    parts = [
        Layer("lora", {A: random(r, 6, seed=r), B: random(6, r, seed=9 + r)}, r, alpha)
        for r, alpha in ((2, 1.0), (3, 6.0), (4, None))
    ]
    whole = delta(layers.fuse("x", parts, [None] * 3))
    torch.testing.assert_close(whole, torch.cat([delta(part) for part in parts]))


def test_an_absent_part_whose_size_nobody_knows_is_an_error(tmp_path):
    name = "blocks.0.attn1.to_q"
    part = {name: Layer("lora", {A: random(2, 24), B: random(24, 2)}, 2)}
    with pytest.raises(AdapterMismatch, match="part 2 of 3 of a fused layer has no adapter"):
        writing.write(tmp_path / "a.safetensors", part, {}, names=FUSED)
