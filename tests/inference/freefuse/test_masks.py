"""What FreeFuse must give on any model: a partition, balanced, where the subjects are."""

import numpy as np
import pytest
import torch
from torch import Tensor

from frisket.inference.methods.freefuse.assignment import assign_cells
from frisket.inference.methods.freefuse.bias import Bias, bias_cells, bias_joint, check_apart
from frisket.inference.methods.freefuse.masks import build_masks, clean_mask
from frisket.inference.methods.freefuse.similarity import (
    choose_anchors,
    choose_rest,
    compare_features,
    contrast_scores,
    normalise_over_cells,
    score_phrases,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    values = np.random.RandomState(seed).standard_normal(shape)
    return torch.from_numpy(values.astype(np.float32))


def plant(frames: int = 1, *, alone: bool = False) -> tuple[Tensor, Tensor]:
    """Two discs on a 16 x 24 grid: each one's features, and its mask; the rest has its own."""
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing="ij")
    discs = []
    for frame in range(frames):
        first = (rows - 8) ** 2 + (columns - 6 - frame) ** 2 < 20
        second = (rows - 8) ** 2 + (columns - 18) ** 2 < 20
        discs.append(torch.stack([first, second]))
    truth = torch.stack(discs, dim=1)  # T f h w
    kinds = torch.where(truth[0], 0, torch.where(truth[1] & (not alone), 1, 2)).flatten()
    directions = draw(3, 32, seed=3)
    features = directions[kinds] + 0.3 * draw(len(kinds), 32, seed=4)
    return features[None], truth[None]


def overlap(mask: Tensor, truth: Tensor) -> float:
    both = (mask > 0) & truth
    return float(both.sum() / ((mask > 0) | truth).sum())


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_planted_discs_are_found(frames: int, scale: float) -> None:
    features, truth = plant(frames)
    scores = torch.cat([truth.flatten(2).float(), 1 - truth.flatten(2).amax(1, True).float()], 1)
    scores = scores + 0.2 * draw(*scores.shape, seed=5)
    concepts = choose_anchors(contrast_scores(scores[:, :2]), 0.05)
    anchors = torch.cat([concepts, choose_anchors(scores[:, 2:], 0.05)], dim=1)
    maps = normalise_over_cells(compare_features(features * scale, anchors))
    masks = build_masks(maps[:, :2], maps[:, 2:], (frames, 16, 24))
    assert min(overlap(masks[0, i], truth[0, i]) for i in range(2)) > 0.9


def test_one_concept_stands_before_the_rest() -> None:
    features, truth = plant(alone=True)
    scores = truth[:, :1].flatten(2).float() + 0.05 * draw(1, 1, 384, seed=6).abs()
    anchors = torch.cat([choose_anchors(scores, 0.05), choose_rest(scores, 0.05)], dim=1)
    maps = normalise_over_cells(compare_features(features, anchors))
    masks = build_masks(maps[:, :1], maps[:, 1:], (1, 16, 24))
    assert overlap(masks[0, 0], truth[0, 0]) > 0.9


def test_one_concept_without_a_background_is_refused() -> None:
    with pytest.raises(ValueError, match="background"):
        build_masks(torch.full((1, 1, 4), 0.25), None, (1, 2, 2))


@pytest.mark.parametrize("frames", [1, 2])
def test_masks_are_a_partition_of_the_foreground(frames: int) -> None:
    maps = draw(2, 4, frames * 60).softmax(-1)
    masks = build_masks(maps[:, :3], maps[:, 3:], (frames, 6, 10))
    assert masks.shape == (2, 3, frames, 6, 10)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert masks.sum(1).max() == 1
    owner = assign_cells(maps[:, :3], (frames, 6, 10))
    assert owner.shape == (2, frames * 60)
    assert owner.min() >= 0
    assert owner.max() <= 2


@pytest.mark.parametrize("concepts", [2, 3, 4])
def test_uniform_maps_are_shared_out_evenly(concepts: int) -> None:
    """Nothing but noise to go by, and one concept ahead everywhere: about as many for each."""
    maps = draw(1, concepts, 1024, seed=2) * 1e-3
    maps[:, 0] += 5e-4
    before = maps.argmax(1)[0].bincount(minlength=concepts)
    counts = assign_cells(maps, (1, 32, 32))[0].bincount(minlength=concepts)
    assert before.max() - before.min() > 150
    assert counts.max() - counts.min() <= 0.03 * 1024


def test_a_grid_of_other_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="15 cells, the maps 16"):
        assign_cells(torch.zeros(1, 2, 16), (1, 3, 5))


def test_cleaning_keeps_a_block_in_its_place() -> None:
    mask = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    mask[..., 2:6, 3:7] = True
    speckled = mask.clone()
    speckled[..., 8, 8] = True
    speckled[..., 4, 5] = False
    assert clean_mask(mask, 2).equal(mask)
    assert clean_mask(mask, 2, shifted=True).equal(mask.roll((2, 2), (-2, -1)))
    assert not clean_mask(speckled, 2)[..., 8, 8].any()
    assert clean_mask(speckled, 1).equal(speckled)


def test_the_maps_do_not_depend_on_the_size_of_the_features() -> None:
    features, anchors = draw(1, 40, 8), torch.arange(8).view(1, 2, 4)
    once = normalise_over_cells(compare_features(features, anchors))
    again = normalise_over_cells(compare_features(features * 30, anchors))
    torch.testing.assert_close(once, again, rtol=1e-4, atol=1e-6)
    even = normalise_over_cells(torch.ones(1, 2, 5))
    torch.testing.assert_close(even, torch.full((1, 2, 5), 0.2))


def test_scores_are_a_distribution_over_cells() -> None:
    scores = score_phrases(
        draw(2, 12, 2, 4), draw(2, 6, 2, 4, seed=1), [[(0, 1), (4,)]] * 2, factor=1.0
    )
    assert scores.shape == (2, 2, 12)
    torch.testing.assert_close(scores.sum(-1), torch.ones(2, 2))


@pytest.mark.parametrize(
    ("phrases", "words"),
    [([[(0,)]], "2"), ([[(0,)], [(0,), (1,)]], "same number"), ([[()], [(1,)]], "no position")],
)
def test_phrases_that_do_not_fit_are_refused(
    phrases: list[list[tuple[int, ...]]], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        score_phrases(draw(2, 5, 1, 4), draw(2, 3, 1, 4), phrases, factor=1.0)


def test_the_bias_leaves_others_words_and_cells_alone() -> None:
    masks = torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 0]]])
    phrases = [[(0,), (2,)]]
    cells = bias_cells(masks, phrases, 4, Bias(4.0, 2.0))
    expected = [[2.0, 0, -4, 0], [2, 0, -4, 0], [-4, 0, 2, 0], [0, 0, 0, 0]]
    assert cells[0].tolist() == expected
    joint = bias_joint(masks, phrases, 4, Bias(4.0, 2.0))
    assert joint[0, :4, :4].abs().max() == 0
    assert joint[0, 4:, 4:].abs().max() == 0
    assert joint[0, 0, 4:].tolist() == [2, 2, -4, -4]


def test_words_of_two_concepts_are_refused() -> None:
    with pytest.raises(ValueError, match="'red fox' and 'fox' share the tokens \\[3\\]"):
        check_apart([[(2, 3), (3,)]], ("red fox", "fox"))
