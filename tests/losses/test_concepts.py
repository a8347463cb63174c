"""Concepts: shares of the weights, what is left out, and a balance that is exact."""

from dataclasses import replace

import pytest
import torch

from frisket.data.captions import list_subsets, pick_subset, weigh_subsets
from frisket.losses.concepts import ClipShare, balance_concepts, measure_concepts
from frisket.losses.weighting import Weighting, weigh
from frisket.masks.weights import RegionWeights

TABLE = RegionWeights({"fox": 1.0, "owl": 0.5, "hat": 2.0}, background=0.1)
CONCEPTS = {"fox": 0, "owl": 1}
T = torch.ones(1)
MASKED = torch.tensor([True])


def draw_coverage(seed: int, size: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, 1, size, size, generator=generator) * 0.6


def sum_concepts(weighting: Weighting, clips: list[ClipShare]) -> list[float]:
    """What the balanced weights of each clip weigh of every concept, in float64."""
    sums = [0.0, 0.0]
    for clip in clips:
        coverage = clip.coverage[None]
        shares = TABLE.share_weights(coverage, MASKED).double()
        everything = torch.ones(1, 3, dtype=torch.bool)
        for chance, region_flags in clip.subsets or ((1.0, everything),):
            plain = replace(weighting, balance=())
            weighed = weigh(plain, coverage, MASKED, T, region_flags=region_flags)
            pooled = weighting.normalise in ("batch", "global")
            divisor = 1.0 if pooled else weighed.divisor.double().item()
            for index in range(2):
                cells = shares[:, index] * weighed.weights.double()[:, 0]
                factor = weighting.balance[index]
                sums[index] += clip.pulls * chance * factor * cells.sum().item() / divisor
    return sums


@pytest.mark.parametrize("normalise", ["sample", "batch", "none", "area", "global"])
def test_balanced_concepts_are_equal_and_their_sum_stays(normalise: str) -> None:
    weighting = Weighting(table=TABLE, channels=1, normalise=normalise, concepts=CONCEPTS)
    alone = torch.tensor([[True, False, True]])
    clips = [
        ClipShare(draw_coverage(0), 3.0),
        ClipShare(draw_coverage(1, size=4), 0.5, ((0.25, alone), (0.75, ~alone))),
        ClipShare(draw_coverage(2) * torch.tensor([1.0, 0, 1]).view(3, 1, 1, 1), 2.0),
    ]
    masses = measure_concepts(weighting, clips)
    factors = balance_concepts(masses)
    balanced = replace(weighting, balance=(factors["fox"], factors["owl"], 1.0))
    fox, owl = sum_concepts(balanced, clips)
    assert fox == pytest.approx(owl, rel=1e-6)
    assert fox + owl == pytest.approx(sum(masses.values()), rel=1e-6)
    assert factors["owl"] > 1 > factors["fox"]


def test_a_concept_that_teaches_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="owl teaches nothing"):
        balance_concepts({"fox": 1.0, "owl": 0.0})


def test_balance_moves_the_concepts_weight_alone_and_not_the_divisor() -> None:
    coverage = torch.zeros(1, 3, 1, 1, 4)
    coverage[0, 0, 0, 0, 0] = coverage[0, 1, 0, 0, 1] = coverage[0, 2, 0, 0, 2] = 1
    plain = Weighting(table=TABLE, channels=4, concepts=CONCEPTS)
    before = weigh(plain, coverage, MASKED, T)
    after = weigh(replace(plain, balance=(0.5, 3.0, 1.0)), coverage, MASKED, T)
    assert before.weights.flatten().tolist() == pytest.approx([1.0, 0.5, 2.0, 0.1])
    assert after.weights.flatten().tolist() == pytest.approx([0.5, 1.5, 2.0, 0.1])
    assert torch.equal(before.divisor, after.divisor)
    assert before.outside is None
    assert after.outside is not None
    assert after.outside.flatten().tolist() == pytest.approx([0.0, 0.5, 0.0, 0.9])
    assert torch.equal(after.concepts["owl"], before.concepts["owl"])


def test_a_region_that_is_left_out_weighs_exactly_nothing_whatever_the_floor() -> None:
    table = replace(TABLE, floor=0.3, gamma=0.5)
    coverage = torch.zeros(1, 3, 1, 1, 4)
    coverage[0, 0, 0, 0, 0] = coverage[0, 1, 0, 0, 1] = 1
    weighting = Weighting(table=table, channels=1)
    region_flags = torch.tensor([[True, False, True]])
    weighed = weigh(weighting, coverage, MASKED, T, region_flags=region_flags)
    assert weighed.weights[..., 1] == 0
    assert weighed.weights[..., 0] == 1
    everything = weigh(weighting, coverage, MASKED, T)
    assert torch.equal(weighed.weights[..., 2:], everything.weights[..., 2:])
    assert weighed.outside is not None
    assert weighed.outside[..., 1] == 1 - everything.weights[..., 1]  # held no more than it was


def test_shares_of_a_cell_and_of_a_clip_without_a_mask() -> None:
    coverage = torch.full((2, 3, 1, 1, 1), 0.25)
    shares = TABLE.share_weights(coverage, torch.tensor([True, False]))
    whole = 0.25 * 3.5 + 0.25 * 0.1
    assert shares[0].flatten().tolist() == pytest.approx([0.25 / whole, 0.125 / whole, 0.5 / whole])
    assert not shares[1].any()


def test_subsets_name_just_what_they_keep_and_sizes_are_alike() -> None:
    phrases = {"fox": "sks fox", "owl": "zwx owl", "hat": "red hat"}
    listed = list_subsets(("owl", "fox"), phrases, "a photo of {phrases}")
    assert listed == [
        ("a photo of sks fox", ("fox",)),
        ("a photo of zwx owl", ("owl",)),
        ("a photo of sks fox and zwx owl", ("fox", "owl")),
    ]
    sizes = [1, 1, 1, 2, 2, 2, 3]
    assert weigh_subsets(sizes) == pytest.approx([1 / 9] * 6 + [1 / 3])
    assert [pick_subset(sizes, chance) for chance in (0.0, 0.34, 0.7, 0.999999)] == [0, 3, 6, 6]
    many = {name: name for name in "abcde"}
    with pytest.raises(ValueError, match=r"5 regions with a phrase .* make 31 captions"):
        list_subsets("abcde", many, "{phrases}")
