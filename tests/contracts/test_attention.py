"""What is captured of every family's attention is what its layers computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from frisket.attention.base import AttentionLayer, Projections
from frisket.attention.capture import capture
from frisket.families.experts import experts_of
from tests.contracts.conftest import Case

# Each sample's own: a phrase of one token, and one of two that do not touch.
PHRASES = [[[1], [0, 2]], [[0], [1, 3]]]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@dataclass
class Kernel:
    """What one layer handed to the attention kernel last (b heads n d), and what came back."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scale: float | None
    output: Tensor

    def softmax(self) -> Tensor:
        """The whole of it, b heads n m, float64."""
        query, key = self.query.double(), self.key.double()
        scale = query.shape[-1] ** -0.5 if self.scale is None else self.scale
        logits = query @ key.mT * scale
        if self.mask is not None:
            logits = logits.masked_fill(~self.mask, -torch.inf)
        return logits.softmax(-1)


@contextmanager
def record_kernels(layers: tuple[AttentionLayer, ...]) -> Iterator[dict[str, Kernel]]:
    """Independent of the taps: torch's own kernel is listened to while a layer's module runs."""
    seen: dict[str, Kernel] = {}
    current: list[str] = []
    handles = []
    for layer in layers:
        enter = layer.module.register_forward_pre_hook(
            lambda *_, name=layer.name: current.append(name)
        )
        leave = layer.module.register_forward_hook(lambda *_: current.clear())
        handles += [enter, leave]
    kernel = functional.scaled_dot_product_attention

    def listen(query, key, value, attn_mask=None, *args, scale=None, **kwargs):
        output = kernel(query, key, value, attn_mask, *args, scale=scale, **kwargs)
        if current:
            seen[current[-1]] = Kernel(query, key, value, attn_mask, scale, output)
        return output

    functional.scaled_dot_product_attention = listen
    try:
        yield seen
    finally:
        functional.scaled_dot_product_attention = kernel
        for handle in handles:
            handle.remove()


def find_model(case: Case) -> nn.Module:
    """The denoiser that takes the levels of the tests."""
    assert case.parts.denoiser is not None
    return next(iter(experts_of(case.parts.denoiser).values()))


def find_columns(case: Case, layer: AttentionLayer, projections: Projections) -> list[list[int]]:
    """For each sample: which of the kernel's keys are the prompt's, in the order of its axis.

    From what is known of each model, not from the taps.
    """
    texts = case.given()
    image = projections.query.shape[1]
    if layer.kind == "cross":
        return [list(range(projections.key.shape[1]))] * 2
    length = texts["text"].shape[1]
    key = (case.family.name, case.variant.split("-")[0])
    first = {"flux", "flux2", "qwen_image", "qwen_image_21"}
    if case.family.name in first:
        return [list(range(length))] * 2
    if case.family.name == "z_image":
        image += -image % 32
    if key == ("hunyuan_video", "1.5"):
        # Glyphs that a sample has come first, then its text.
        return [
            [image + int(mask.sum()) + position for position in range(int(own.sum()))]
            for mask, own in zip(texts["glyphs_mask"], texts["text_mask"], strict=True)
        ]
    return [[image + position for position in range(length)]] * 2
