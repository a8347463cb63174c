"""All weights of a denoiser: what may be opened, and the base kept beside a trained model."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from frisket.adapters import lora
from frisket.families.base import FAMILIES
from frisket.families.models.pocket.family import FAMILY
from frisket.families.whole_model import lay_over, open_weights, save_weights, use_base
from frisket.losses.base import weighted_mse


class Ring(nn.Module):
    """Two layers and a buffer."""

    def __init__(self, seed: int, width: int = 3) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = nn.Linear(3, width), nn.Linear(width, 2)
        self.register_buffer("steps", torch.arange(4))
        self.requires_grad_(False).eval()

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(value))


def test_all_parameters_are_opened_in_memory_of_their_own() -> None:
    ring = Ring(0)
    before = {name: value.data_ptr() for name, value in ring.named_parameters()}
    opened = open_weights(ring)
    assert list(opened) == list(before)
    assert list(lora.trainable(ring)) == list(before)
    assert all(value.requires_grad for value in ring.parameters())
    assert all(value.data_ptr() != before[name] for name, value in opened.items())


def test_no_weight_learns_from_cells_of_weight_0() -> None:
    """Of a model whose output at a cell is that cell's own weight, the mask is the gradient."""

    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.Parameter(torch.randn(1, 2, 1, 4, 4), requires_grad=False)

    model, weights = Cells(), torch.zeros(1, 1, 1, 4, 4)
    weights[..., 1:3, :2] = 0.5
    open_weights(model)
    weighted_mse(model.cells, torch.randn(1, 2, 1, 4, 4), weights).sum().backward()
    gradient = model.cells.grad
    assert gradient is not None
    assert torch.equal(gradient != 0, (weights > 0).expand_as(gradient))


def test_a_lower_precision_and_several_experts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"first.weight is torch.bfloat16"):
        open_weights(Ring(0).bfloat16())
    experts = FAMILIES.load("wan").tiny("2.2-t2v-a14b").denoiser
    assert experts is not None
    with pytest.raises(ValueError, match="of one denoiser are trained, not of 2"):
        open_weights(experts)


def test_the_base_is_there_inside_and_the_trained_model_after() -> None:
    base, trained, value = Ring(0), Ring(1), torch.randn(5, 3)
    both = Ring(0)
    lay_over(both, dict(trained.named_parameters()))
    assert torch.equal(both(value), trained(value))
    with lora.frozen(both):
        assert torch.equal(both(value), base(value))
        with use_base(both):  # in a block in a block nothing changes
            assert torch.equal(both(value), base(value))
        assert torch.equal(both(value), base(value))
    assert torch.equal(both(value), trained(value))
    with pytest.raises(KeyError), lora.frozen(both):
        raise KeyError
    assert torch.equal(both(value), trained(value))


def test_another_shape_is_refused_and_changes_nothing() -> None:
    both, value = Ring(0), torch.randn(5, 3)
    with pytest.raises(ValueError, match=r"first.bias is \(4,\) in the trained model, \(3,\) here"):
        lay_over(both, dict(Ring(1, width=4).named_parameters()))
    assert torch.equal(both(value), Ring(0)(value))
    with use_base(both):
        assert torch.equal(both(value), Ring(0)(value))


def test_equal_models_of_other_folders_make_equal_files(tmp_path: Path) -> None:
    files = []
    for name in ("here", "elsewhere"):
        FAMILY.save(FAMILY.tiny("image"), tmp_path / name)
        model = type(FAMILY.tiny("image").denoiser).from_pretrained(tmp_path / name / "denoiser")
        save_weights(model, tmp_path / f"{name}-again")
        files.append({p.name: p.read_bytes() for p in (tmp_path / f"{name}-again").iterdir()})
    assert files[0] == files[1]
    assert str(tmp_path) not in json.dumps(str(files[0]["config.json"]))
    with pytest.raises(TypeError, match="Ring has no save_pretrained"):
        save_weights(Ring(0), tmp_path / "ring")
