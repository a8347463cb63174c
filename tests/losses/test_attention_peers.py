"""Our attention penalties against what their authors' own code gave on the same tensors."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.losses.attention_scenes import RESOLUTION, AttentionScene, draw_scene
from torch import Tensor
from torch.nn import functional

from frisket.losses.attention import (
    compute_balanced_loss,
    compute_mse_loss,
    compute_pixel_loss,
    compute_ratio_loss,
    shrink_coverage,
)

PEERS = Path(__file__).with_name("peers") / "attention"
GRID = (RESOLUTION, RESOLUTION)


def read_cases(peer: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((PEERS / f"{peer}.json").read_text())["cases"]
    assert len(cases) >= 3
    return cases


def gather(layer: Tensor, positions: list[int]) -> Tensor:
    """Maps b T n f h w of single text positions."""
    chosen = layer[..., positions].permute(0, 3, 1, 2)
    return chosen.unflatten(3, (1, *GRID))


def resize(masks: Tensor, **how: Any) -> Tensor:
    return functional.interpolate(masks, GRID, **how).unsqueeze(2)


def check(scene: AttentionScene, maps: list[Tensor], loss: Tensor, expected: Any) -> None:
    torch.testing.assert_close(loss.item(), expected["value"], rtol=1e-5, atol=1e-6)
    gradients = torch.autograd.grad(loss, maps)
    pairs = zip(gradients, scene.directions, strict=True)
    slope = sum(float((gradient * along).double().sum()) for gradient, along in pairs)
    torch.testing.assert_close(slope, expected["slope"], rtol=1e-5, atol=1e-5)


def open_scene(case: dict[str, Any]) -> tuple[AttentionScene, list[Tensor], Tensor]:
    scene = draw_scene(**case["scene"])
    maps = [layer.clone().requires_grad_() for layer in scene.maps]
    return scene, maps, torch.ones(len(scene.masks), 1, 1, *GRID)


def average_by_phrase(losses: Tensor, scene: AttentionScene) -> Tensor:
    """Their order: over the tokens of a word, then over words."""
    counts = [len(tokens) for tokens in scene.tokens]
    return torch.stack([part.mean() for part in losses.split(counts, dim=1)]).mean()


@pytest.mark.parametrize("case", read_cases("TokenCompose"), ids=lambda case: case["scene"]["seed"])
def test_ratio_is_token_compose(case):
    """Their resize (bilinear, all above 0 is 1), their sum over layers, a token at a time."""
    scene, maps, valid = open_scene(case)
    masks = (resize(scene.masks, mode="bilinear", align_corners=False) > 0).float()
    inside = masks.repeat_interleave(torch.tensor([len(ids) for ids in scene.tokens]), dim=1)
    positions = [token for tokens in scene.tokens for token in tokens]
    losses = [compute_ratio_loss(gather(layer, positions), inside, valid) for layer in maps]
    loss = average_by_phrase(torch.stack(losses).sum(0), scene)
    check(scene, maps, loss, case["numbers"]["token_loss"])


@pytest.mark.parametrize("case", read_cases("TokenCompose"), ids=lambda case: case["scene"]["seed"])
def test_pixel_is_token_compose(case):
    """Tokens of a word are summed, layers averaged, as ours: only the resize is theirs."""
    scene, maps, valid = open_scene(case)
    inside = (resize(scene.masks, mode="bilinear", align_corners=False) > 0).float()
    layers = [torch.stack([gather(layer, ids).sum(1) for ids in scene.tokens], 1) for layer in maps]
    loss = compute_pixel_loss(torch.stack(layers).mean(0), inside, valid).mean()
    check(scene, maps, loss, case["numbers"]["pixel_loss"])


@pytest.mark.parametrize(
    "case", read_cases("break-a-scene"), ids=lambda case: case["scene"]["seed"]
)
def test_mse_is_break_a_scene(case):
    """Their nearest resize, and their sum over the masks of a sample."""
    scene, maps, valid = open_scene(case)
    positions = [token for (token,) in scene.tokens]
    layers = torch.stack([gather(layer, positions) for layer in maps]).mean(0)
    loss = compute_mse_loss(layers, resize(scene.masks), valid).sum(1).mean()
    check(scene, maps, loss, case["numbers"]["attn_loss"])


@pytest.mark.parametrize("case", read_cases("fastcomposer"), ids=lambda case: case["scene"]["seed"])
def test_balanced_is_fastcomposer(case):
    """Their resize: bilinear with antialias."""
    scene, maps, valid = open_scene(case)
    positions = [token for (token,) in scene.tokens]
    inside = resize(scene.masks, mode="bilinear", antialias=True)
    losses = [compute_balanced_loss(gather(layer, positions), inside, valid) for layer in maps]
    check(scene, maps, torch.stack(losses).mean(), case["numbers"]["localization_loss"])


@pytest.mark.parametrize("peer", ["TokenCompose", "break-a-scene"])
def test_where_regions_fill_whole_cells_no_resize_differs(peer):
    """The area mean is then the peers' own mask, so that the whole of the algorithm agrees."""
    aligned = [case for case in read_cases(peer) if case["scene"]["aligned"]]
    assert aligned
    for case in aligned:
        masks = draw_scene(**case["scene"]).masks
        ours = shrink_coverage(masks.unsqueeze(2), (1, *GRID))
        assert torch.equal(ours, resize(masks))
        theirs = resize(masks, mode="bilinear", align_corners=False) > 0
        assert torch.equal(ours, theirs.float())
