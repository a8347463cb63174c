"""FastFace's changes to where an image adapter's tokens are read (arXiv 2505.21144, section 4.2).

A map is the softmax of a branch, r heads n t: rows of samples, queries of cells, tokens. Every row
is changed by itself. The authors' code takes minimum and maximum over the batch, so that images and
the two sides of guidance change each other; with one row both are the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.inference.methods.identity.image_attention import LayerPlace, attend_plainly

Maps = Float[Tensor, "r heads n t"]
UPPER = 10.0  # no entry grows beyond it
EPSILON = 1e-6


def stretch_maps(maps: Maps) -> Maps:
    """Each row's tokens from 0 (their lowest cell of any head) to 1; 0 where a map is flat."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return torch.where(high > low, (maps - low) / (high - low).clamp_min(1e-30), 0.0)


def sharpen_maps(maps: Maps, power: float) -> Maps:
    """Powers of the entries: what is little becomes less."""
    return maps.pow(power)


def scale_maps(maps: Maps, scale: float) -> Maps:
    """Times `scale`, but never above 10; rows need not sum to 1 afterwards."""
    return (maps * scale).clamp_max(UPPER)


def soften_maps(maps: Maps, slope: float, quantile: float | None = None) -> Maps:
    """A soft mask: a sigmoid of the stretched map about a threshold, stretched again.

    The threshold is the quantile of the unstretched map over a head's cells, as theirs (at least
    1e-6), or 0.5.
    """
    threshold: Tensor | float = 0.5
    if quantile is not None:
        levels = torch.quantile(maps.float(), quantile, dim=-2, keepdim=True)
        threshold = levels.to(maps.dtype).clamp_min(EPSILON)
    return stretch_maps(torch.sigmoid(slope * (stretch_maps(maps) - threshold)))


def turn_over(maps: Maps, change: Callable[[Maps], Maps]) -> Maps:
    """A change of the inverse, 1 - maps, turned back: for a token that is about the background."""
    changed = change(1 - maps)
    return changed.amax(-2, keepdim=True) - changed


def match_moments(changed: Tensor, before: Tensor, weight: float) -> Tensor:
    """`weight` of a changed tensor, and the rest of it with the moments it had (AdaIN).

    Mean and standard deviation (unbiased) are of the last axis; `weight` 1 leaves it as changed.
    """
    mean, spread = changed.mean(-1, keepdim=True), changed.std(-1, keepdim=True)
    target_spread = before.std(-1, keepdim=True)
    matched = (changed - mean) * (target_spread / (spread + EPSILON)) + before.mean(
        -1, keepdim=True
    )
    return weight * changed + (1 - weight) * matched


class MapChange(Protocol):
    """What changes maps, by layer and step."""

    def change(self, maps: Maps, place: LayerPlace) -> Maps:
        """The map of one layer in one step."""
        ...


@dataclass(frozen=True, slots=True)
class ScalePower:
    """The first of the paper's two: a power, then a scale that is another on the way up."""

    power: float = 1.3
    down: float = 1.55
    up: float = 1.45

    def change(self, maps: Maps, place: LayerPlace) -> Maps:
        """The map of one layer."""
        scale = self.up if place.layer.startswith("up_blocks") else self.down
        return scale_maps(sharpen_maps(maps, self.power), scale)


@dataclass(frozen=True, slots=True)
class ScheduledMask:
    """The second: soft masks whose slope and scale follow the step (the last holds on)."""

    slopes: Sequence[float] = (7.5, 5.0, 5.0, 5.0)
    scales: Sequence[float] = (1.0, 1.55, 1.55, 1.55)
    quantiles: Sequence[float] = (0.65, 0.65, 0.65, 0.65)

    def change(self, maps: Maps, place: LayerPlace) -> Maps:
        """The map of one layer in one step."""
        slope, scale, quantile = (
            values[min(place.step, len(values) - 1)]
            for values in (self.slopes, self.scales, self.quantiles)
        )
        return scale_maps(soften_maps(maps, slope, quantile), scale)


@dataclass(frozen=True, slots=True)
class ChangedAttention:
    """An image adapter's attention with its map changed; hand it over as `ImageAdapter.attend`.

    `tokens` are those whose maps change (None: all), `background` those of them that are turned
    over around the change. `weight` below 1 brings moments back, of the map and of what it reads.
    `parts` are beginnings of the layers' names: others attend plainly. Of a UNet theirs leave the
    middle alone; `parts` = ("",) is all layers of any model.
    """

    change: Callable[[Maps, LayerPlace], Maps]
    tokens: Sequence[int] | None = (0, 1, 2, 3)
    background: Sequence[int] = ()
    weight: float = 1.0
    parts: Sequence[str] = ("down_blocks", "up_blocks")

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, place: LayerPlace) -> Tensor:
        """What each query reads, r n heads d."""
        if not place.layer.startswith(tuple(self.parts)):
            return attend_plainly(query, key, value, place)
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
        before = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)
        changed = self._change_tokens(before, place)
        if self.weight == 1:
            return (changed @ value).transpose(1, 2)
        changed = match_moments(changed, before, self.weight)
        read = changed @ value
        matched = match_moments(read, before @ value, self.weight)
        return torch.where(matched.isfinite(), matched, read).transpose(1, 2)

    def _change_tokens(self, maps: Maps, place: LayerPlace) -> Maps:
        count = maps.shape[-1]
        token_indices = range(count) if self.tokens is None else self.tokens
        if beyond := [token for token in (*token_indices, *self.background) if token >= count]:
            raise ValueError(
                f"token {beyond[0]} of the image cannot be changed: there are {count}, from 0"
            )

        def change(part: Maps) -> Maps:
            return self.change(part, place)

        changed = maps.clone()
        for behind, edit in ((False, change), (True, lambda part: turn_over(part, change))):
            indices = [index for index in token_indices if (index in self.background) == behind]
            if indices:
                changed[..., indices] = edit(maps[..., indices])
        return changed
