"""FastFace's and UniID's parts against their own code, as scripts/record_identity.py has it."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.inference.identity import scene
from torch import Tensor

from frisket.attention.base import BranchCall
from frisket.inference.methods.identity.attention_maps import (
    ChangedAttention,
    ScalePower,
    ScheduledMask,
)
from frisket.inference.methods.identity.guidance import GuidanceStrength, combine_decoupled
from frisket.inference.methods.identity.image_attention import (
    ImageAdapter,
    LayerPlace,
    RowOwners,
    attend_plainly,
    compute_branch,
)
from frisket.inference.methods.identity.rescale import rescale_to_output

PEERS = load_file(Path(__file__).with_name("peers.safetensors"))
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
KINDS: Any = {1: "text", 2: "apart", 3: "identity"}


@pytest.mark.parametrize("name", scene.GUIDANCES)
def test_guided_predictions_are_the_authors(name: str) -> None:
    kind, first, second, renorm, rescale = scene.GUIDANCES[name]
    guided = combine_decoupled(
        *scene.draw_predictions(),
        first=first,
        second=second,
        kind=KINDS[kind],
        renorm=renorm,
        rescale=rescale,
    )
    torch.testing.assert_close(guided, PEERS[f"guidance.{name}"], **CLOSE)


@pytest.mark.parametrize("name", scene.SCHEDULES)
def test_strengths_by_noise_level_are_the_authors(name: str) -> None:
    options: dict[str, Any] = scene.SCHEDULES[name][1]
    strength = GuidanceStrength(peak=1.7, **options)
    values = [strength.at(0, level / 1000) for level in scene.LEVELS]
    torch.testing.assert_close(
        torch.tensor(values, dtype=torch.float64), PEERS[f"strength.{name}"], rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("part", ["down", "up"])
def test_a_sharpened_map_reads_what_the_authors_reads(part: str) -> None:
    read = _read(ChangedAttention(ScalePower().change), LayerPlace(f"{part}_blocks.0", 0))
    torch.testing.assert_close(read, PEERS[f"maps.power.{part}"], **CLOSE)


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("weight", [1.0, 0.7])
def test_a_softened_map_reads_what_the_authors_reads(step: int, weight: float) -> None:
    changed = ChangedAttention(ScheduledMask().change, background=(0,), weight=weight)
    name = f"maps.mask.{step}.{'plain' if weight == 1 else 'adain'}"
    read = _read(changed, LayerPlace("down_blocks.0", step))
    torch.testing.assert_close(read, PEERS[name], **CLOSE)


def _read(attend: ChangedAttention, place: LayerPlace) -> Tensor:
    query, key, value = (part.transpose(1, 2) for part in scene.draw_heads())
    read = attend(query, key, value, place)
    assert not torch.equal(read, attend_plainly(query, key, value, place))
    return read.transpose(1, 2)


@pytest.mark.parametrize("name", ["rescaled", "plain"])
@torch.no_grad()
def test_a_layer_with_an_identity_gives_what_the_authors_gives(name: str) -> None:
    attention, (keys, values) = scene.build_attention(), scene.build_projections()
    states, text, tokens = scene.draw_states()
    adapter = ImageAdapter(
        keys={"layer": keys},
        values={"layer": values},
        tokens=tokens,
        scale=0.8,
        merge=rescale_to_output if name == "rescaled" else None,
    )
    query = attention.to_q(states).unflatten(-1, (scene.HEADS, -1))
    handle = attention.to_out[0].register_forward_pre_hook(partial(_join, adapter, query))
    given = attention(states, text)
    handle.remove()
    torch.testing.assert_close(given, PEERS[f"layer.{name}"], **CLOSE)


def _join(adapter: ImageAdapter, query: Tensor, _: Any, args: tuple[Tensor]) -> Tensor:
    call = BranchCall(query=query, output=args[0], cells=(1, 4, 4))
    owners = RowOwners(torch.arange(1), (True,))
    branch = compute_branch(adapter, call, owners, LayerPlace("layer", 0))
    assert branch is not None
    return args[0] + branch
