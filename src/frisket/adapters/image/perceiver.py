"""Perceiver resampling: a few latent tokens that read a longer sequence by attention.

The layout of tensors is the public one (`layers.{i}.0.to_kv.weight` and so on), so that the tensors
of a file are loaded as they are.
"""

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from frisket.adapters.spec import AdapterMismatch

HEAD = 64  # channels of a head: a constant of the format, no tensor says it
EXPANSION = 4  # of the feed-forward part, times the width


class PerceiverAttention(nn.Module):
    """Latents attend to a source and to themselves, both layer-normed first.

    softmax(Q [K_source; K_latents]^T / sqrt(64)) [V_source; V_latents], bias-free (Flamingo,
    arXiv 2204.14198, section 3.1; the layer of IP-Adapter's Resampler). `inner` is the width of all
    heads, a multiple of 64; the width of the latents where it is left out.
    """

    def __init__(self, width: int, inner: int | None = None) -> None:
        super().__init__()
        inner = width if inner is None else inner
        if inner % HEAD:
            raise AdapterMismatch(
                f"a resampler's attention is {inner} channels wide; its heads have {HEAD} each, so"
                " it must be a multiple of that"
            )
        self.heads = inner // HEAD
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(
        self, source: Float[Tensor, "b m d"], latents: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b n d"]:
        """The update of the latents, to be added to them."""
        return self.attend(self.norm1(source), self.norm2(latents))

    def attend(
        self, source: Float[Tensor, "b m d"], latents: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b n d"]:
        """The same of two sequences that are normed already."""
        query = self.to_q(latents)
        key, value = self.to_kv(torch.cat([source, latents], dim=1)).chunk(2, dim=-1)
        query, key, value = (
            tensor.unflatten(-1, (self.heads, HEAD)).transpose(1, 2)
            for tensor in (query, key, value)
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(attended.transpose(1, 2).flatten(2))


def make_feed_forward(width: int) -> nn.Sequential:
    """Layer norm, then a bias-free MLP with a GELU between, four times as wide inside."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, EXPANSION * width, bias=False),
        nn.GELU(),
        nn.Linear(EXPANSION * width, width, bias=False),
    )


def make_layers(width: int, depth: int, inner: int | None = None, reads: int = 1) -> nn.ModuleList:
    """As many perceiver layers: `reads` attentions each, and a feed-forward part at the end."""
    return nn.ModuleList(
        nn.ModuleList(
            [*(PerceiverAttention(width, inner) for _ in range(reads)), make_feed_forward(width)]
        )
        for _ in range(depth)
    )


def read_through(
    layers: Iterable[nn.Module], sources: list[Tensor], latents: Float[Tensor, "b n d"]
) -> Float[Tensor, "b n d"]:
    """Latents after all layers; attention i of each layer reads `sources[i]`. All residual."""
    for layer in layers:
        *attentions, feed_forward = layer.children()
        for attention, source in zip(attentions, sources, strict=True):
            latents = attention(source, latents) + latents
        latents = feed_forward(latents) + latents
    return latents


def count_layers(tensors: Mapping[str, Tensor], prefix: str = "") -> int:
    """How many numbered layers there are under `prefix`layers."""
    start = f"{prefix}layers."
    numbers = {key[len(start) :].split(".")[0] for key in tensors if key.startswith(start)}
    return len(numbers)


class TokenResampler(nn.Module):
    """A perceiver whose latents come from outside: source b m s and latents b n d to b n o."""

    def __init__(self, width: int, source: int, output: int, depth: int = 4) -> None:
        super().__init__()
        self.proj_in = nn.Linear(source, width)
        self.proj_out = nn.Linear(width, output)
        self.norm_out = nn.LayerNorm(output)
        self.layers = make_layers(width, depth)

    def forward(
        self, latents: Float[Tensor, "b n d"], source: Float[Tensor, "b m s"]
    ) -> Float[Tensor, "b n o"]:
        """The latents, resampled over the source, projected and layer-normed."""
        latents = read_through(self.layers, [self.proj_in(source)], latents)
        return self.norm_out(self.proj_out(latents))
