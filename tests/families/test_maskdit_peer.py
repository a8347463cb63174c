"""Our MaskDiT and its authors' own code, on the same weights (scripts/record_maskdit.py)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.families import maskdit_scene as scene

THEIRS: dict[str, Any] = json.loads(Path(__file__).with_name("maskdit.json").read_text())


@pytest.mark.parametrize("name", ["masked", "full"])
def test_prediction_loss_and_gradients_are_theirs(name: str) -> None:
    theirs, model = THEIRS[name], scene.build_model()
    prediction, loss, _ = scene.run_step(model, masked=name == "masked")
    torch.testing.assert_close(
        prediction.flatten(1), torch.tensor(theirs["prediction"]), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(loss, torch.tensor(theirs["loss"]), rtol=1e-4, atol=1e-5)
    loss.mean().backward()
    for layer, norm in theirs["gradients"].items():
        gradient = model.get_parameter(layer).grad
        ours = 0.0 if gradient is None else float(gradient.norm())
        assert ours == pytest.approx(norm, rel=1e-3, abs=1e-6), layer


def test_the_loss_is_made_of_both_parts() -> None:
    _, loss, step = scene.run_step(scene.build_model(), masked=True)
    whole = scene.Denoise()(step) * scene.Edm().weight(step.t)
    restored = scene.Reconstruction()(step)
    assert (restored > 0.1).all()
    assert not torch.allclose(loss, whole, rtol=1e-3)  # or the agreement above says little


def test_as_many_tokens_stay_as_theirs() -> None:
    for (count, ratio), stay in zip(scene.COUNTS, THEIRS["counts"], strict=True):
        selection = scene.choose(count, ratio)
        assert selection is not None
        assert selection.tokens.shape == (1, stay)


def test_the_ratio_falls_as_theirs() -> None:
    assert scene.list_ratios() == pytest.approx(THEIRS["cosine4"], abs=1e-12)
