"""A region's phrase attends to its region: attention maps taught by the masks."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from frisket.losses.attention import (
    compute_balanced_loss,
    compute_mse_loss,
    compute_overlap_loss,
    compute_pixel_loss,
    compute_ratio_loss,
    shrink_coverage,
)
from frisket.losses.base import ATTENTION, AttentionMaps, AttentionRequest, Step
from frisket.shapes import PerSample

LossForm = Literal["ratio", "mse", "balanced", "pixel", "overlap"]
BY_LAYER = ("ratio", "balanced")  # the others read the mean map of the layers of one grid
MASKED = {
    "ratio": compute_ratio_loss,
    "mse": compute_mse_loss,
    "balanced": compute_balanced_loss,
    "pixel": compute_pixel_loss,
}


@dataclass(frozen=True, slots=True)
class Attention:
    """mean over layers and phrases of a penalty on where the image attends to a region's phrase.

    form: ratio (TokenCompose: share of the attention outside, squared; knows no scale), mse
        (Break-A-Scene: map over its maximum against the mask), balanced (FastComposer: mean outside
        minus mean inside), pixel (TokenCompose's cross-entropy), overlap (cosine between phrases).
    layers: names, endings or globs of attention layers, "middle" or "all".
    softmax: "all" that a cell attends to, or the prompt alone ("text"; other in joint attention).
    t_min, t_max: the noise levels at which it counts, each sample by its own t.

    Departures from the originals, all in `losses.attention`: coverage is read as the area mean of
    the layer's cell; a phrase's tokens are summed, heads averaged; sums over layers, words or masks
    are means, so that a strength keeps its meaning. A phrase counts in samples whose caption holds
    it and whose mask covers its region somewhere; cells handed over clean count nowhere.
    """

    form: LossForm = "ratio"
    layers: str | tuple[str, ...] = "middle"
    softmax: Literal["all", "text"] = "all"
    t_min: float = 0.0
    t_max: float = 1.0
    needs: ClassVar[frozenset[str]] = frozenset({ATTENTION})

    def __post_init__(self) -> None:
        """Refuse options that have no meaning."""
        if self.form not in get_args(LossForm):
            forms = ", ".join(get_args(LossForm))
            raise ValueError(f"attention: form {self.form!r} is not one of {forms}")
        if self.softmax not in ("all", "text"):
            raise ValueError(f"attention: softmax {self.softmax!r} is not one of all, text")
        if not self.layers or (not isinstance(self.layers, str) and not all(self.layers)):
            raise ValueError(f"attention: layers {self.layers!r} should be a list of names")
        if not 0 <= self.t_min < self.t_max <= 1:
            raise ValueError(
                f"attention: t_min {self.t_min} and t_max {self.t_max} must lie in [0, 1], in order"
            )

    @property
    def attention(self) -> AttentionRequest:
        """What the trainer captures for it."""
        names = (self.layers,) if isinstance(self.layers, str) else self.layers
        return AttentionRequest(names, self.softmax)

    def __call__(self, step: Step) -> PerSample:
        """The penalty of each sample, float32; 0 where no phrase counts or t is out of range."""
        if self.attention not in step.attention:
            raise ValueError("attention: the step carries no attention maps")
        attention = step.attention[self.attention]
        covered = step.coverage[:, list(attention.regions)].float()
        predicted = torch.ones_like(step.weights) if step.predicted is None else step.predicted
        covered = covered * predicted
        counts = attention.known & ((covered.flatten(2).sum(2) > 0) | (self.form == "overlap"))
        losses = [
            self._penalise(maps, covered, predicted, attention) for maps in self._gather(attention)
        ]
        by_phrase = torch.where(counts, torch.stack(losses).mean(0), 0.0)
        in_range = (step.t >= self.t_min) & (step.t <= self.t_max)
        return by_phrase.sum(1) / counts.sum(1).clamp_min(1) * in_range

    def _gather(self, attention: AttentionMaps) -> Iterator[Tensor]:
        """Maps b T n f h w that are each penalised: of a layer, or of all layers of one grid."""
        by_grid: defaultdict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for maps in attention.maps.values():
            by_grid[tuple(maps.shape[2:])].append(maps.unsqueeze(2))
        for layers in by_grid.values():
            if self.form in BY_LAYER:
                yield from layers
            else:
                yield torch.stack(layers).mean(0)

    def _penalise(
        self, maps: Tensor, covered: Tensor, predicted: Tensor, attention: AttentionMaps
    ) -> Tensor:
        frames, height, width = maps.shape[3:]
        cells = (frames, height, width)
        valid = shrink_coverage(predicted, cells)
        if self.form == "overlap":
            return compute_overlap_loss(maps, attention.known, valid)
        # Of cells that are predicted in part, the covered share of that part.
        inside = shrink_coverage(covered, cells) / valid.clamp_min(1e-6)
        return MASKED[self.form](maps, inside.clamp(0, 1), valid)


TERM = Attention
