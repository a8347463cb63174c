"""UniID's training: what learns and from where, and that what was learnt is read back."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.inference.plugins import small_sdxl, uniid_cases
from torch import Tensor

from frisket.adapters.image.branches import read_branch, write_branch
from frisket.adapters.image.uniid import UniIdTextProjection
from frisket.inference.methods.identity.uniid.training import (
    FaceFeatures,
    TokenTraining,
    WordTraining,
)
from frisket.losses.base import weighted_mse

SIZES = ((64, 8), (128, 4), (256, 4), (512, 2))
FAMILY, PARTS = small_sdxl.build_parts()
LATENTS, TARGET = small_sdxl.draw(1, 2, 4, 1, 16, 16), small_sdxl.draw(2, 2, 4, 1, 16, 16)
T = torch.tensor([0.2, 0.6])


def draw_features(seed: int = 3) -> FaceFeatures:
    maps = [
        small_sdxl.draw(seed + n, 2, width, side, side) for n, (width, side) in enumerate(SIZES)
    ]
    return FaceFeatures(small_sdxl.draw(seed + 9, 2, 512), maps)


def draw_conditioning() -> dict[str, Tensor]:
    return {
        "text": small_sdxl.draw(4, 2, small_sdxl.LENGTH, small_sdxl.WIDTH),
        "pooled": small_sdxl.draw(5, 2, small_sdxl.POOLED),
    }


def start_tokens() -> TokenTraining:
    torch.manual_seed(0)
    return TokenTraining.start(
        FAMILY,
        PARTS.denoiser,  # type: ignore[arg-type]
        tokens=uniid_cases.ADAPTER_TOKENS,
        hidden=uniid_cases.HIDDEN,
    )


def start_words() -> WordTraining:
    torch.manual_seed(0)
    half = small_sdxl.HALF
    return WordTraining(UniIdTextProjection((half, half), small_sdxl.TOKENS, depth=1))


def predict(training: Any, features: FaceFeatures) -> Tensor:
    """One prediction with a branch that learns."""
    conditioning, denoiser = draw_conditioning(), PARTS.denoiser
    assert denoiser is not None
    if isinstance(training, WordTraining):
        told = training.condition(conditioning, features)
        return FAMILY.predict(denoiser, LATENTS, T, told)
    with training.attach(features):
        return FAMILY.predict(denoiser, LATENTS, T, conditioning)


@pytest.mark.parametrize("start", [start_tokens, start_words])
def test_a_branch_learns_in_the_face_and_nothing_else_learns(start: Any) -> None:
    training, features = start(), draw_features()
    weights = torch.zeros(2, 1, 1, 16, 16)
    weights[:1, ..., 4:12, 4:12] = 1  # the second sample has no face
    trained = training.list_trained()
    optimizer = torch.optim.AdamW(trained.values(), lr=3e-3, weight_decay=0.01)
    losses = []
    for _ in range(8):
        prediction = predict(training, features)
        prediction.retain_grad()
        loss = weighted_mse(prediction, TARGET, weights).sum()
        loss.backward()
        assert prediction.grad is not None
        assert not prediction.grad[1].any()
        assert not prediction.grad[0, ..., :4].any()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 1e-3
    assert all(value.grad is None for value in PARTS.denoiser.parameters())  # type: ignore[union-attr]


@torch.no_grad()
def test_a_new_adapter_branch_adds_nothing_and_rows_are_apart() -> None:
    training, features = start_tokens(), draw_features()
    denoiser, conditioning = PARTS.denoiser, draw_conditioning()
    assert denoiser is not None
    bare = FAMILY.predict(denoiser, LATENTS, T, conditioning)
    assert torch.equal(predict(training, features), bare)
    small_sdxl.fill(training.adapter.image_proj)
    moved = predict(training, features)
    assert all(not torch.equal(*rows) for rows in zip(moved, bare, strict=True))
    other = predict(training, features.drop(torch.tensor([False, True])))
    torch.testing.assert_close(other[0], moved[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(other[1], moved[1], atol=1e-3)
    assert torch.equal(FAMILY.predict(denoiser, LATENTS, T, conditioning), bare)


@torch.no_grad()
def test_a_half_precision_denoiser_and_a_batch_of_another_size() -> None:
    features, denoiser = draw_features(), deepcopy(PARTS.denoiser).bfloat16()  # type: ignore[union-attr]
    training = replace(start_tokens(), denoiser=denoiser)
    small_sdxl.fill(training.adapter.image_proj)
    half = {name: value.bfloat16() for name, value in draw_conditioning().items()}
    with training.attach(features):
        given = FAMILY.predict(denoiser, LATENTS.bfloat16(), T, half)
        assert torch.isfinite(given).all()
        with pytest.raises(ValueError, match="4 rows for 2 faces"):
            FAMILY.predict(
                denoiser, torch.cat([LATENTS] * 2).bfloat16(), torch.cat([T] * 2),
                {name: torch.cat([value] * 2) for name, value in half.items()},
            )  # fmt: skip


def test_what_was_learnt_is_read_back_as_a_checkpoint(tmp_path: Path) -> None:
    for training in (start_tokens(), start_words()):
        folder = tmp_path / type(training).__name__
        write_branch(folder, training.to_file())  # type: ignore[attr-defined]
        back = read_branch(folder)
        written = training.to_file()  # type: ignore[attr-defined]
        assert back.kind == written.kind
        for key, value in {**written.projection, **written.layers}.items():
            assert torch.equal({**back.projection, **back.layers}[key], value)
