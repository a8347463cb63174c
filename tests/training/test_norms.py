"""lora.max_norm: kohya's scale_weight_norms to the number, for every kind of adapter."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from tests.training.peer_inputs import FACTORS, factors
from torch import nn

from frisket.adapters import lora
from frisket.adapters.norms import limit_norms
from frisket.families.base import FAMILIES

ROWS = json.loads((Path(__file__).parent / "peers.json").read_text("utf-8"))["rows"]
NORMS = [row for row in ROWS if row["what"] == "norm"]


def tuned(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


class One(nn.Module):
    """A model of one layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer


@pytest.mark.parametrize("row", NORMS, ids=lambda row: f"{row['limit']}-{row['number']}")
def test_factors_are_scaled_as_kohya_scales_them(row: dict[str, Any]) -> None:
    out, into, kernel, rank, alpha, _ = shapes = FACTORS[row["number"]]
    layer = nn.Conv2d(into, out, kernel) if kernel else nn.Linear(into, out)
    model = One(layer)
    lora.attach(model, lora.LoraSpec(rank=rank, alpha=alpha, targets=("layer",)), seed=0)
    down, up, _ = factors(row["number"], shapes)
    (one,) = tuned(model)
    one.lora_A["default"].weight.data.copy_(down)
    one.lora_B["default"].weight.data.copy_(up)
    scaled, largest = limit_norms(model, row["limit"])
    assert scaled == row["scaled"]
    assert largest == pytest.approx(row["most"], rel=1e-5)
    assert float(one.lora_A["default"].weight.data.norm()) == pytest.approx(row["down"], rel=1e-5)
    assert float(one.lora_B["default"].weight.data.norm()) == pytest.approx(row["up"], rel=1e-5)


@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "lokr"])
def test_every_kind_is_held_at_the_norm_and_below_left_alone(kind: lora.AdapterKind) -> None:
    family = FAMILIES.load("pocket")
    model = family.tiny("image").denoiser
    assert model is not None
    # A rank of 2 leaves some of a lokr's factors whole, and decomposes others.
    spec = lora.LoraSpec(kind, rank=2, alpha=3.0, targets=family.lora_targets)
    lora.attach(model, spec, seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, value in lora.trainable(model).items():
        if "magnitude" not in name:
            value.data = torch.randn(value.shape, generator=generator) / 3
    kept = {name: value.clone() for name, value in lora.trainable(model).items()}
    assert limit_norms(model, 1e6)[0] == 0
    assert all(torch.equal(value, kept[name]) for name, value in lora.trainable(model).items())

    scaled, largest = limit_norms(model, 0.5)
    assert 0 < scaled <= len(tuned(model))
    assert largest == pytest.approx(0.5)
    deltas = [float(updated(layer).norm()) for layer in tuned(model)]
    assert max(deltas) == pytest.approx(0.5, rel=1e-4)
    assert limit_norms(model, 0.51)[0] == 0


def updated(layer: Any) -> torch.Tensor:
    """The update itself, multiplied out."""
    if not hasattr(layer, "lora_A"):
        return layer.get_delta_weight("default").detach()
    low, high = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        return layer.scaling["default"] * high.flatten(1) @ low.flatten(1)


def test_an_untrained_adapter_has_nothing_to_scale() -> None:
    model = One(nn.Linear(4, 4))
    lora.attach(model, lora.LoraSpec(rank=2, targets=("layer",)), seed=0)
    assert limit_norms(model, 1.0) == (0.0, 0.0)


def test_training_holds_the_limit_and_says_how_many_were_scaled(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    trainer = bench.trainer_of(tmp_path, steps=3, max_norm=0.02)
    trainer.run()
    lines = bench.lines_of(tmp_path)
    assert lines[-1]["scaled"] > 0
    assert all(line["largest_norm"] <= 0.02 + 1e-6 for line in lines)
    assert limit_norms(trainer.unwrapped, 0.0201)[0] == 0
