"""Where each concept stands: anchors by attention to its words, and the cells that are like them.

FreeFuse, arXiv 2510.23515v2, section 3.2, written from its equations. Departures, each with the
authors' own form as an option:

- their similarities are divided by a constant (4000 for FLUX, 1000 for SDXL) that fits the size of
  one model's activations; here by the standard deviation over cells, phrases and background, so
  that a model whose features are twice as large gives the same maps (`temperature`);
- features are compared as they differ from their mean over cells: what all cells have in common
  says nothing of who stands where (`centred`);
- their code multiplies the logits by 1/1000, the paper by 1/sqrt(d): here as the model (`factor`).
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from frisket.attention.base import PhrasePositions

ANCHORS = 0.1  # of the cells


def score_phrases(
    query: Float[Tensor, "b n heads d"],
    key: Float[Tensor, "b s heads d"],
    phrases: PhrasePositions,
    *,
    factor: float,
    over: Literal["cells", "text"] = "cells",
) -> Float[Tensor, "b T n"]:
    """How much each image cell answers to each phrase: mean over heads and the phrase's positions.

    `query` are the image's rows, `key` the prompt's columns, both after norm and rotary embedding;
    `factor` multiplies the logits. The softmax runs over the cells (the paper; a phrase's scores
    sum to 1), or over the text as the authors' SDXL code has it. float32. ValueError for a phrase
    without positions and for samples with different numbers of phrases.
    """
    _check_phrases(phrases, len(query))
    columns: list[Tensor] = []
    for sample, row in enumerate(phrases):
        rows, keys = query[sample].float(), key[sample].float()
        if over == "text":
            weights = _attend(rows, keys, factor).softmax(2)
            scores = [weights[..., list(positions)].mean((0, 2)) for positions in row]
        else:
            scores = [
                _attend(rows, keys[list(positions)], factor).softmax(1).mean((0, 2))
                for positions in row
            ]
        columns.append(torch.stack(scores))
    return torch.stack(columns)


def _attend(query: Tensor, key: Tensor, factor: float) -> Float[Tensor, "heads n p"]:
    return torch.einsum("nhd,phd->hnp", query, key) * factor


def _check_phrases(phrases: PhrasePositions, batch: int) -> None:
    if len(phrases) != batch:
        raise ValueError(f"phrases of {len(phrases)} samples for a batch of {batch}")
    if len({len(row) for row in phrases}) > 1:
        raise ValueError("every sample needs the same number of phrases")
    if not all(positions for row in phrases for positions in row):
        raise ValueError("a phrase has no position on the text axis")


def contrast_scores(scores: Float[Tensor, "b T n"]) -> Float[Tensor, "b T n"]:
    """T times a phrase's own scores less the others': high where it alone is meant."""
    other_scores = scores.sum(1, keepdim=True) - scores
    return scores * scores.shape[1] - other_scores


def choose_anchors(scores: Float[Tensor, "b T n"], share: float = ANCHORS) -> Int[Tensor, "b T k"]:
    """The `share` of cells with the highest scores, at least one, for each phrase."""
    if not 0 < share <= 1:
        raise ValueError(f"the share of cells that are anchors is in (0, 1], got {share}")
    return scores.topk(max(1, int(scores.shape[-1] * share)), dim=-1).indices


def compare_features(
    features: Float[Tensor, "b n c"], anchors: Int[Tensor, "b T k"], *, centred: bool = True
) -> Float[Tensor, "b T n"]:
    """Mean dot product of each cell's features with those of a phrase's anchors; float32.

    `features` are the attention's output, heads side by side; `centred` takes their mean over cells
    off first.
    """
    cells = features.float()
    if centred:
        cells = cells - cells.mean(1, keepdim=True)
    rows = torch.arange(len(cells), device=cells.device)[:, None, None]
    # The mean of the products is the product with the mean: never k x n.
    means = cells[rows, anchors].mean(2)
    return torch.einsum("btc,bnc->btn", means, cells)


def normalise_over_cells(
    similarity: Float[Tensor, "b T n"], temperature: float | None = None
) -> Float[Tensor, "b T n"]:
    """Softmax over cells: each phrase's map sums to 1.

    `temperature` divides first. None takes each sample's standard deviation over all phrases and
    cells, which makes the maps independent of how large the features are; where all are equal
    nothing is divided.
    """
    if temperature is None:
        deviation = similarity.flatten(1).std(1, correction=0)
        divisor = torch.where(deviation > 0, deviation, 1.0)[:, None, None]
    else:
        divisor = torch.tensor(temperature, device=similarity.device)
    return (similarity / divisor).softmax(-1)


def choose_rest(scores: Float[Tensor, "b T n"], share: float = ANCHORS) -> Int[Tensor, "b 1 k"]:
    """Anchors of a background that nothing names: the cells that answer least to any phrase.

    Ours: the authors take the position after the last word, which not every text axis has.
    """
    weighed = scores / scores.amax(-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)
    return choose_anchors(-weighed.amax(1, keepdim=True), share)
