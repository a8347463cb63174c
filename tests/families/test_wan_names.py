"""Wan's original layer names against diffusers' own conversions."""

import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from torch import nn

from frisket.families.experts import first
from frisket.families.models.wan.family import FAMILY

PIPELINES = {"2.1-t2v-1.3b": WanPipeline, "2.1-i2v-14b-480p": WanImageToVideoPipeline}


def layers_of(variant: str) -> dict[str, nn.Module]:
    model = first(FAMILY.tiny(variant).denoiser)
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv3d)
    }


@pytest.mark.parametrize("variant", [name for name in FAMILY.variants if name != "2.1-t2v-14b"])
def test_every_layer_has_one_original_name_and_comes_back(variant):
    layers = layers_of(variant)
    originals = {name: FAMILY.names.original(name) for name in layers}
    assert {(place, count) for _, place, count in originals.values()} == {(0, 1)}
    assert len({original for original, _, _ in originals.values()}) == len(layers)
    for name, (original, _, _) in originals.items():
        assert FAMILY.names.diffusers(original) == (name,)


@pytest.mark.parametrize("variant", ["2.1-t2v-1.3b", "2.1-i2v-14b-480p", "2.2-ti2v-5b"])
def test_weights_in_the_original_names_are_what_diffusers_converts(variant):
    layers = layers_of(variant)
    ours = {f"{name}.{k}": v for name, m in layers.items() for k, v in m.state_dict().items()}
    originals = {
        f"{FAMILY.names.original(name)[0]}.{k}": v
        for name, m in layers.items()
        for k, v in m.state_dict().items()
    }
    converted = convert_wan_transformer_to_diffusers(dict(originals))
    assert converted.keys() == ours.keys()
    assert all(torch.equal(converted[key], ours[key]) for key in ours)


@pytest.mark.parametrize("variant", PIPELINES)
def test_a_lora_in_the_original_names_is_read_by_the_stock_pipelines(variant):
    blocks = [name for name in layers_of(variant) if name.startswith(("blocks", "condition"))]
    state, wanted = {}, {}
    for index, name in enumerate(blocks):
        for half, shape in (("lora_A", (2, 3)), ("lora_B", (3, 2))):
            value = torch.full(shape, float(index))
            state[f"diffusion_model.{FAMILY.names.original(name)[0]}.{half}.weight"] = value
            wanted[f"transformer.{name}.{half}.weight"] = value
    read = PIPELINES[variant].lora_state_dict(state)
    assert read.keys() == wanted.keys()
    assert all(torch.equal(read[key], wanted[key]) for key in wanted)
