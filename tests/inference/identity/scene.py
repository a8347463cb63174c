"""What the identity methods' parts are compared on: seeded tensors, one small attention layer.

Drawn by numpy's RandomState, whose stream is frozen.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from frisket.inference.methods.identity.decoupled import DecoupledGuidance
from frisket.inference.methods.identity.image_attention import ImageAttention
from frisket.inference.sample_specs import SampleSpec

HEADS, WIDTH, TEXT, CELLS, TOKENS = 2, 16, 12, 16, 4
LEVELS = (999.0, 750.0, 500.0, 251.0, 1.0)
# Of a kind, strengths, renorm and rescale: `dcg_type` 1, 2, 3.
GUIDANCES = {
    "plain1": (1, 1.5, 3.0, False, 0.0),
    "plain2": (2, 1.5, 3.0, False, 0.0),
    "plain3": (3, 1.5, 3.0, False, 0.0),
    "rescaled": (3, 1.5, 3.0, False, 0.75),
    "renormed": (3, 1.2, 2.0, True, 0.0),
    "both": (1, 1.2, 2.0, True, 0.7),
}
# Of their schedules: name, further arguments; ours as options of Strength.
SCHEDULES = {
    "default": ({}, {}),
    "linear": ({}, {"shape": "linear"}),
    "clamped_lin": ({"c": 0.6}, {"shape": "linear", "least": 0.6}),
    "cos": ({}, {"shape": "cosine"}),
    "pcs": ({"s": 2.0}, {"power": 2.0}),
    "clamped_pcs": ({"c": 0.5, "s": 1.5}, {"power": 1.5, "least": 0.5}),
    "capshape": ({}, {"shape": "cap"}),
    "ccshape": ({"c": 0.4}, {"shape": "cap", "least": 0.4}),
    "inv_cos": ({}, {"shape": "cosine", "inverse": True}),
    "inv_pcs": ({"s": 2.0}, {"power": 2.0, "inverse": True}),
    "inv_clamped_pcs": ({"c": 0.5, "s": 1.5}, {"power": 1.5, "least": 0.5, "inverse": True}),
    "inv_linear": ({}, {"shape": "linear", "inverse": True}),
    "inv_clamp_linear": ({"c": 0.6}, {"shape": "linear", "least": 0.6, "inverse": True}),
}


@dataclass(frozen=True, slots=True)
class GuidedAttention:
    """Image adapters with decoupled guidance and nothing else; a method."""

    attention: ImageAttention
    guidance: DecoupledGuidance

    @contextmanager
    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> Iterator[None]:
        with (
            self.attention.attach(pipeline, call, specs),
            self.guidance.attach_guidance(call, specs),
        ):
            yield


def draw(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape)).float()


def draw_predictions(batch: int = 1) -> list[Tensor]:
    """Negative, middle and full."""
    return [draw(seed, batch, 4, 6, 5) for seed in (1, 2, 3)]


def draw_heads() -> list[Tensor]:
    """Query, key and value, b heads n d."""
    rows = ((4, CELLS), (5, TOKENS), (6, TOKENS))
    return [2 * draw(seed, 1, HEADS, count, WIDTH // HEADS) for seed, count in rows]


def build_attention() -> Attention:
    attention = Attention(WIDTH, cross_attention_dim=TEXT, heads=HEADS, dim_head=WIDTH // HEADS)
    fill(attention, 7)
    return attention.eval()


def build_projections() -> tuple[nn.Linear, nn.Linear]:
    """The adapter's keys and values."""
    pair = nn.Linear(TEXT, WIDTH, bias=False), nn.Linear(TEXT, WIDTH, bias=False)
    for seed, layer in zip((8, 9), pair, strict=True):
        fill(layer, seed)
    return pair


def fill(module: nn.Module, seed: int) -> None:
    for index, value in enumerate(module.parameters()):
        value.data = draw(100 * seed + index, *value.shape) * 0.3


def draw_states(batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Cells, text and image tokens."""
    return draw(10, batch, CELLS, WIDTH), draw(11, batch, 5, TEXT), draw(12, batch, TOKENS, TEXT)
