"""Rates and combinations: LoRA+ beside kohya's groups, AdamW8bitKahan, what contradicts."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.peer_inputs import kahan_problem, losses_of, unet_of
from torch import nn

from frisket.adapters import lora
from frisket.families.base import FAMILIES
from frisket.training.optim import BadOptimizer, OptimizerSpec, build
from frisket.training.optim_probe import probe

ROWS = json.loads((Path(__file__).parent / "peers.json").read_text("utf-8"))["rows"]


def test_lora_plus_groups_are_kohyas() -> None:
    (row,) = (row for row in ROWS if row["what"] == "groups")
    model, family = unet_of("sd15"), FAMILIES.load("stable_diffusion")
    lora.attach(model, lora.LoraSpec(rank=8, targets=family.lora_targets), seed=0)
    spec = OptimizerSpec(lr=row["lr"], plus=row["ratio"])
    groups = [
        [group["lr"], len(group["params"]), sum(p.numel() for p in group["params"])]
        for group in build(lora.trainable(model), spec).param_groups
    ]
    assert groups == [pytest.approx(each) for each in row["groups"]]


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_lora_plus_is_for_every_b_and_for_nothing_else(kind: lora.AdapterKind) -> None:
    model: Any = nn.Sequential(nn.Linear(4, 4), nn.Conv2d(2, 2, 3))
    lora.attach(model, lora.LoraSpec(kind, rank=2, targets=("0", "1")), seed=0)
    parameters = lora.trainable(model)
    for name in ("adamw", "muon", "schedulefree"):
        optimizer = build(parameters, OptimizerSpec(name, lr=0.1, plus=4.0))
        fast = {
            id(p) for group in optimizer.param_groups if group["lr"] > 0.3 for p in group["params"]
        }
        assert fast == {id(p) for key, p in parameters.items() if "lora_B" in key}
        assert optimizer.param_groups[0]["lr"] == 0.1  # what the log shows


def test_an_adapter_without_b_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    lora.attach(model, lora.LoraSpec("lokr", rank=2, targets=("0",)), seed=0)
    with pytest.raises(BadOptimizer, match=r"lora_plus = 16: this adapter has no A and B"):
        build(lora.trainable(model), OptimizerSpec(plus=16.0))


def test_optimizers_of_one_rate_refuse_lora_plus_by_name() -> None:
    with pytest.raises(BadOptimizer, match=r"lora_plus = 16 and 'prodigy' contradict"):
        probe(OptimizerSpec("prodigy", lr=1.0, plus=16.0))
    for name in ("adamw", "schedulefree", "sgd", "muon"):
        probe(OptimizerSpec(name, plus=16.0))


def test_a_limit_to_the_norm_and_schedule_free_contradict() -> None:
    with pytest.raises(BadOptimizer, match=r"max_norm = 1 and 'schedulefree' contradict"):
        probe(OptimizerSpec("schedulefree"), max_norm=1.0)
    probe(OptimizerSpec("adamw"), max_norm=1.0)


@pytest.mark.parametrize("row", [row for row in ROWS if row["what"] == "kahan"])
def test_diffusion_pipes_kahan_is_adamw_without_decay_on_an_adapter_in_float32(
    row: dict[str, Any],
) -> None:
    """Its kernel decays the buffer of rounding errors, not the weights: no decay reaches them."""
    parameters, loss = kahan_problem()
    plain = OptimizerSpec("adamw", lr=1e-2, weight_decay=0.0, options={"betas": (0.9, 0.99)})
    assert losses_of(build(parameters, plain), loss) == pytest.approx(row["losses"], rel=1e-4)
    decayed, other = kahan_problem()
    spec = OptimizerSpec("adamw", 1e-2, 1.0, {"betas": (0.9, 0.99)})
    assert losses_of(build(decayed, spec), other)[-1] > 1.001 * row["losses"][-1]
    assert all(p.dtype == torch.float32 for p in parameters.values())
