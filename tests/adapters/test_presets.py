"""lora.preset and lora.conv_rank: the layers of OneTrainer's presets, and of kohya's conv_dim."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.training.peer_inputs import digest_of, unet_of
from torch import nn

from frisket.adapters import lora
from frisket.adapters.targets import is_spatial, resolve
from frisket.families.base import FAMILIES, choose_targets
from frisket.families.experts import experts_of

PEERS = Path(__file__).parents[1] / "training/peers.json"
ROWS = json.loads(PEERS.read_text("utf-8"))["rows"]
WORDS = {"attn-only": "attn"}


def model_of(family: str) -> nn.Module:
    known = FAMILIES.load(family)
    denoiser = known.tiny(known.default).denoiser
    assert denoiser is not None
    return next(iter(experts_of(denoiser).values()))


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row["what"] == "preset"],
    ids=lambda row: f"{row['family']}-{row['name']}",
)
def test_a_preset_takes_the_layers_that_onetrainers_takes(row: dict[str, Any]) -> None:
    family = FAMILIES.load(row["family"])
    targets, _ = choose_targets(family, family.default, preset=WORDS.get(row["name"], row["name"]))
    hit = resolve(model_of(row["family"]), targets)
    assert (len(hit), digest_of(hit)) == (row["count"], row["digest"])


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row["what"] == "layers"],
    ids=lambda row: f"{row['variant']}-{row['conv']}",
)
def test_a_conv_rank_adds_the_layers_that_kohyas_conv_dim_adds(row: dict[str, Any]) -> None:
    family = FAMILIES.load("stable_diffusion")
    conv = row["conv"] or 0
    targets, _ = choose_targets(family, row["variant"], conv=conv > 0)
    model = unet_of(row["variant"])
    spec = lora.LoraSpec(rank=8, conv_rank=conv, conv_alpha=1.0 if conv else None, targets=targets)
    named = {
        name: spec.as_layer(spatial=is_spatial(model.get_submodule(name))).rank
        for name in resolve(model, targets)
    }
    listed = [f"lora_unet_{name.replace('.', '_')} {rank}" for name, rank in named.items()]
    assert (len(listed), digest_of(listed)) == (row["count"], row["digest"])
    hit = lora.attach(model, spec, seed=0)
    there = {name: model.get_submodule(name).r["default"] for name in hit}  # type: ignore[union-attr,index]
    assert there == named


@pytest.mark.parametrize("name", FAMILIES.names())
def test_every_preset_of_a_family_hits_layers_and_attention_is_part_of_all(name: str) -> None:
    family = FAMILIES.load(name)
    model = model_of(name)
    hit = {each: set(resolve(model, found)) for each, found in family.lora_presets.items()}
    assert {"attn", "full"} <= hit.keys()
    assert all(layers <= hit["full"] for layers in hit.values())
    assert all(hit["attn"] <= hit[each] for each in ("attn-mlp",) if each in hit)


def test_a_preset_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="flux has no preset 'mlp'; there are: attn, attn-mlp"):
        choose_targets(FAMILIES.load("flux"), "dev", preset="mlp")
    with pytest.raises(ValueError, match=r"flux has no convolutions.*conv_rank out"):
        choose_targets(FAMILIES.load("flux"), "dev", conv=True)
