"""The tables of FLUX's original layer names against diffusers' own conversion of checkpoints."""

import pytest
import torch
from diffusers import Flux2Transformer2DModel, FluxTransformer2DModel
from diffusers.loaders.single_file_utils import (
    convert_flux2_transformer_checkpoint_to_diffusers,
    convert_flux_transformer_checkpoint_to_diffusers,
)
from torch import nn

from frisket.families.key_map import UnknownLayer
from frisket.families.models.flux.family import FAMILY as FLUX
from frisket.families.models.flux2.family import FAMILY as FLUX2

SWAPPED = "norm_out.linear"  # its halves trade places: no plain name, so not in the tables


def flux_1() -> nn.Module:
    # diffusers converts at the released width only (3072 is written into the function).
    return FluxTransformer2DModel(num_layers=2, num_single_layers=2, guidance_embeds=True)


def flux_2() -> nn.Module:
    return Flux2Transformer2DModel(num_layers=2, num_single_layers=2)


CASES = [
    pytest.param(FLUX, flux_1, convert_flux_transformer_checkpoint_to_diffusers, id="flux"),
    pytest.param(FLUX2, flux_2, convert_flux2_transformer_checkpoint_to_diffusers, id="flux2"),
]


def thin(build) -> tuple[dict[str, torch.Tensor], list[str]]:
    """A state dict one column wide with no value twice, and the names of the linear layers."""
    with torch.device("meta"):
        model = build()
    state, start = {}, 0
    for name, value in model.state_dict().items():
        rows = value.shape[0]
        state[name] = torch.arange(start, start + rows).view(-1, *[1] * (value.ndim - 1))
        start += rows
    return state, [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]


def original_norm(name: str) -> str:
    """By hand: norms are no layers an adapter sits on, so the tables leave them out."""
    kind, block, *_, norm, _ = name.split(".")
    side = {"norm_q": "query_norm", "norm_k": "key_norm"}
    if kind == "single_transformer_blocks":
        return f"single_blocks.{block}.norm.{side[norm]}.scale"
    stream = "txt" if "added" in norm else "img"
    return f"double_blocks.{block}.{stream}_attn.norm.{side[norm.replace('added_', '')]}.scale"


def original(state: dict[str, torch.Tensor], names, layers: list[str]) -> dict[str, torch.Tensor]:
    found: dict[str, dict[int, torch.Tensor]] = {}
    for key, value in state.items():
        layer, _, parameter = key.rpartition(".")
        if layer == SWAPPED:
            scale, shift = value.chunk(2)
            turned = torch.cat([shift, scale])
            found[f"final_layer.adaLN_modulation.1.{parameter}"] = {0: turned}
        elif layer in layers:
            name, place, _ = names.original(layer)
            found.setdefault(f"{name}.{parameter}", {})[place] = value
        else:
            found[original_norm(key)] = {0: value}
    return {key: torch.cat([parts[i] for i in range(len(parts))]) for key, parts in found.items()}


@pytest.mark.parametrize(("family", "build", "convert"), CASES)
def test_diffusers_converts_what_the_table_names_to_what_it_was(family, build, convert):
    state, layers = thin(build)
    converted = convert(original(state, family.names, layers))
    assert converted.keys() == state.keys()
    assert all(torch.equal(converted[name], state[name]) for name in state)


@pytest.mark.parametrize(("family", "build", "convert"), CASES)
def test_every_layer_has_an_original_name_of_its_own_that_leads_back(family, build, convert):
    _, layers = thin(build)
    layers.remove(SWAPPED)
    seen = set()
    for layer in layers:
        name, place, count = family.names.original(layer)
        fused = family.names.diffusers(name)
        assert len(fused) == count
        assert fused[place] == layer
        seen.add((name, place))
    assert len(seen) == len(layers)


@pytest.mark.parametrize(("family", "build", "convert"), CASES)
def test_the_layer_whose_halves_trade_places_is_refused_by_name(family, build, convert):
    with pytest.raises(UnknownLayer, match=r"norm_out\.linear"):
        family.names.original(SWAPPED)
