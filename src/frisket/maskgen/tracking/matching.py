"""Which masks are of the same thing: overlap, duplicates, and one-to-one assignment."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import networkx as nx
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from frisket.maskgen.base import Box, Instance, SoftMask
from frisket.maskgen.tracking.temporal import has_pixels
from frisket.masks.morphology import INSIDE

PackedMask = UInt8[Tensor, "H W"]  # a mask in 255ths: a quarter of its memory
PixelFlags = Bool[Tensor, "H W"]

HALF = 128  # 0.5, packed
EXACT = 1_000_000  # scores are compared as whole numbers of this, the same on every machine
DUPLICATE = 0.8  # IoU from which two finds of one region in one picture are the same thing


def iou(
    first: SoftMask | PackedMask | PixelFlags, second: SoftMask | PackedMask | PixelFlags
) -> float:
    """Intersection over union of two masks, 0 where both are empty."""
    first, second = to_flags(first), to_flags(second)
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 0.0


def to_flags(mask: SoftMask | PackedMask | PixelFlags) -> PixelFlags:
    """The pixels that belong: those of at least 0.5."""
    if mask.dtype == torch.bool:
        return mask
    return mask >= (HALF if mask.dtype == torch.uint8 else INSIDE)


def box_of(mask: SoftMask | PackedMask | PixelFlags) -> Box:
    """The box around the pixels that belong; of no area where there are none."""
    flags = to_flags(mask)
    if not bool(flags.any()):
        return Box(0.0, 0.0, 0.0, 0.0)
    rows, columns = flags.any(1).nonzero(), flags.any(0).nonzero()
    return Box(float(columns[0]), float(rows[0]), float(columns[-1]) + 1, float(rows[-1]) + 1)


def pack(mask: SoftMask) -> PackedMask:
    """To 255ths; what belongs still belongs, and no more."""
    return (mask.clamp(0, 1) * 255).round().to(torch.uint8)


def unpack(packed: PackedMask) -> SoftMask:
    """Back to [0, 1]."""
    return packed.float() / 255


def drop_duplicates(instances: Iterable[Instance]) -> list[Instance]:
    """Finds that are not empty; of several of one thing the one with the best score."""
    unique: list[Instance] = []
    for it in sorted(instances, key=lambda it: -(it.score or 0.0)):
        twice = (it.region == other.region and iou(it.mask, other.mask) for other in unique)
        if has_pixels(it.mask) and max(twice, default=0.0) < DUPLICATE:
            unique.append(it)
    return unique


def compute_overlaps(
    instances: Sequence[Instance], objects: Mapping[int, tuple[str, Tensor]]
) -> dict[tuple[int, int], float]:
    """IoU of each find (by its place) with each known object; 0 across regions."""
    return {
        (index, number): iou(it.mask, mask) if it.region == region else 0.0
        for index, it in enumerate(instances)
        for number, (region, mask) in objects.items()
    }


def assign(scores: Mapping[tuple[int, int], float], least: float) -> dict[int, int]:
    """Pairs of at least `least`, each find and each number once, of the greatest sum.

    The maximum weight matching of Galil 1986 (networkx): where two things compete, taking the best
    pair first may leave the other find with no pair at all. Equal sums go to the first finds.
    """
    pairs = sorted(pair for pair, score in scores.items() if score >= least)
    step = len(pairs) ** 2 + 1  # more than all ranks together
    graph = nx.Graph()
    for rank, (index, number) in enumerate(reversed(pairs), 1):
        weight = round(scores[index, number] * EXACT) * step + rank
        graph.add_edge(("find", index), ("number", number), weight=weight)
    matching = (dict(pair) for pair in nx.max_weight_matching(graph))
    return dict(sorted((pair["find"], pair["number"]) for pair in matching))


def match_unambiguous(scores: Mapping[tuple[int, int], float], least: float) -> dict[int, int]:
    """Pairs of at least `least` of which neither side has a second choice."""
    pairs = [pair for pair, score in scores.items() if score >= least]
    finds, numbers = Counter(find for find, _ in pairs), Counter(number for _, number in pairs)
    return {find: number for find, number in pairs if finds[find] == 1 and numbers[number] == 1}
