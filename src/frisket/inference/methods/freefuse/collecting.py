"""The first phase: some steps of sampling, and what the attention shows in the last of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.attention.base import AttentionLayer, PhrasePositions, Projections
from frisket.attention.capture import ChooseRows, choose_rows
from frisket.attention.maps import lay_on_grid
from frisket.inference.methods.freefuse.similarity import (
    ANCHORS,
    choose_anchors,
    choose_rest,
    compare_features,
    contrast_scores,
    normalise_over_cells,
    score_phrases,
)
from frisket.shapes import Cells


class _Enough(Exception):
    """Ends a pipeline's loop once enough steps were taken."""


@dataclass(frozen=True, slots=True)
class Sight:
    """How maps are read from one layer: the anchors' share, and three forms of the authors' code.

    `factor` multiplies the logits (None: as the layer does; theirs 1/1000), `temperature` divides
    the similarities (None: by their own spread; theirs 4000 for FLUX, 1000 for SDXL), `centred`
    takes the mean over cells off the features (theirs: not).
    """

    anchors: float = ANCHORS
    factor: float | None = None
    temperature: float | None = None
    centred: bool = True


@dataclass(frozen=True, slots=True)
class SimilarityMaps:
    """Similarity maps b T n of a grid f h w, and the background's b 1 n; each sums to 1."""

    concepts: Float[Tensor, "b T n"]
    background: Float[Tensor, "b 1 n"]
    cells: Cells


def measure_layer(
    projections: Projections,
    features: Float[Tensor, "r n c"],
    phrases: PhrasePositions,
    background: PhrasePositions | None,
    sight: Sight,
) -> SimilarityMaps:
    """The maps that one layer shows, of rows that belong to `phrases` (frames may lie among them).

    `background` holds one phrase a sample; None takes the cells that answer least to any concept.
    """
    batch = len(phrases)
    query, cells = _unfold(projections.query, batch), projections.cells
    frames = len(projections.query) // batch
    key = projections.key[::frames, projections.text]
    factor = projections.factor if sight.factor is None else sight.factor
    scores = score_phrases(query, key, phrases, factor=factor)
    anchors = choose_anchors(contrast_scores(scores), sight.anchors)
    if background is None:
        behind = choose_rest(scores, sight.anchors)
    else:
        phrase_scores = score_phrases(query, key, background, factor=factor)
        behind = choose_anchors(phrase_scores, sight.anchors)
    similarity = compare_features(
        _unfold(features, batch), torch.cat([anchors, behind], dim=1), centred=sight.centred
    )
    maps = normalise_over_cells(similarity, sight.temperature)
    return SimilarityMaps(maps[:, :-1], maps[:, -1:], (cells[0] * frames, *cells[1:]))


def _unfold(rows: Tensor, batch: int) -> Tensor:
    """Frames that lie in the batch, as more cells of their sample."""
    return rows.unflatten(0, (batch, -1)).flatten(1, 2)


def average_maps(layer_maps: Sequence[SimilarityMaps]) -> SimilarityMaps:
    """The mean over layers, on the finest of their grids; each map sums to 1 again."""
    cells = max((maps.cells for maps in layer_maps), key=lambda grid: grid[0] * grid[1] * grid[2])

    def average(planes: Sequence[tuple[Tensor, Cells]]) -> Tensor:
        resized_planes = [
            lay_on_grid(plane.unflatten(2, grid), cells).flatten(2) for plane, grid in planes
        ]
        total = torch.stack([plane / plane.sum(-1, keepdim=True) for plane in resized_planes])
        return total.mean(0)

    return SimilarityMaps(
        average([(maps.concepts, maps.cells) for maps in layer_maps]),
        average([(maps.background, maps.cells) for maps in layer_maps]),
        cells,
    )


@contextmanager
def watch_layers(
    denoiser: nn.Module,
    layers: Sequence[AttentionLayer],
    rows: ChooseRows,
    samples: int,
    measure: Callable[[AttentionLayer, Projections, Tensor], None],
) -> Iterator[None]:
    """Inside, `measure` is called with each layer's rows of the prompts, and their features.

    Those are the layer's output of joint attention, the self-attention's beside it of
    cross-attention; r n c, before the last projection and after it.
    """

    def listen(
        layer: AttentionLayer, kept_output: dict[str, Tensor]
    ) -> Callable[[Projections], None]:
        def receive(projections: Projections) -> None:
            row_slice = rows(projections)
            if row_slice is None:
                return
            picked = choose_rows(projections, [[()]] * samples, row_slice, layer=layer.name)
            assert picked is not None
            features = kept_output["output"][row_slice] if kept_output else picked.image_output
            if features is None:
                raise ValueError(f"{layer.name} does not hand over its output: choose other layers")
            measure(layer, picked, features)

        return receive

    with ExitStack() as stack:
        for layer in layers:
            kept_output: dict[str, Tensor] = {}
            if layer.kind == "cross":
                self_attention = find_self_attention(denoiser, layer)
                stack.callback(self_attention.register_forward_hook(_keep(kept_output)).remove)
            stack.callback(layer.tap(listen(layer, kept_output)))
        yield


def _keep(kept_output: dict[str, Tensor]) -> Callable[..., None]:
    def keep(_: nn.Module, __: Any, output: Any) -> None:
        kept_output["output"] = output[0] if isinstance(output, tuple) else output

    return keep


def find_self_attention(denoiser: nn.Module, layer: AttentionLayer) -> nn.Module:
    """The self-attention beside a cross-attention layer: its output is what cells look like.

    A cross-attention's own output is made of the prompt's values alone. ValueError where the block
    has none.
    """
    for block in denoiser.modules():
        if getattr(block, "attn2", None) is layer.module:
            self_attention = getattr(block, "attn1", None)
            if isinstance(self_attention, nn.Module):
                return self_attention
    raise ValueError(
        f"{layer.name} has no self-attention beside it whose features could be compared: choose"
        " other layers"
    )


def run_until(
    pipeline: Any, call: Callable[[], dict[str, Any]], steps: int, begin: Callable[[], None]
) -> None:
    """Call the pipeline and leave it before its step number `steps` is taken.

    `begin` is called when one step is left. It is the scheduler that is counted; afterwards it is
    as it was, and its next `set_timesteps` starts over.
    """
    scheduler = pipeline.scheduler
    step, steps_taken = scheduler.step, 0

    def count(*args: Any, **kwargs: Any) -> Any:
        nonlocal steps_taken
        steps_taken += 1
        if steps_taken == steps:
            raise _Enough
        if steps_taken == steps - 1:
            begin()
        return step(*args, **kwargs)

    if steps == 1:
        begin()
    scheduler.step = count
    try:
        pipeline(**call())
    except _Enough:
        return
    finally:
        del scheduler.step
    raise ValueError(f"the pipeline took {steps_taken} steps: no step {steps} to read masks from")
