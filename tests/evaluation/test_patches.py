"""Patches of a training picture are found wherever they lie, and only those that are meant."""

import pytest
import torch
from torch.nn import functional

from frisket.evaluation.patches import cosine, match_patches, weigh_patches


def features(*rows: int) -> torch.Tensor:
    """Four patches of eight directions, no two alike."""
    return functional.one_hot(torch.tensor(rows), 8).float()


def test_a_patch_counts_by_the_share_that_is_covered() -> None:
    plane = torch.zeros(1, 4, 4)
    plane[:, :2] = 1
    plane[:, 2, 2:] = 1
    assert weigh_patches(features(0, 1, 2, 3), plane, 2, 2).weights.tolist() == [1, 1, 0, 0.5]


def test_what_is_meant_is_found_wherever_it_lies() -> None:
    top = torch.zeros(1, 4, 4)
    top[:, :2] = 1
    training = weigh_patches(features(0, 1, 2, 3), top, 2, 2)
    everything = torch.ones(1, 4, 4)
    assert match_patches(
        weigh_patches(features(7, 6, 1, 0), everything, 2, 2), training
    ) == pytest.approx(1)
    assert match_patches(
        weigh_patches(features(2, 3, 6, 1), everything, 2, 2), training
    ) == pytest.approx(0.5)
    assert match_patches(
        weigh_patches(features(2, 3, 2, 3), everything, 2, 2), training
    ) == pytest.approx(0)


def test_length_does_not_matter() -> None:
    whole = torch.ones(1, 4, 4)
    one, other = (weigh_patches(features(0, 1, 2, 3) * scale, whole, 2, 2) for scale in (1, 9))
    assert match_patches(one, other) == pytest.approx(1)


def test_nothing_meant_is_nothing_to_find() -> None:
    nothing = weigh_patches(features(0, 1, 2, 3), torch.zeros(1, 4, 4), 2, 2)
    assert nothing.empty
    with pytest.raises(ValueError, match="nothing of the training picture"):
        match_patches(nothing, nothing)


def test_cosine() -> None:
    assert cosine(torch.tensor([1.0, 0]), torch.tensor([2.0, 0])) == pytest.approx(1)
    assert cosine(torch.tensor([1.0, 0]), torch.tensor([0, 2.0])) == pytest.approx(0)
