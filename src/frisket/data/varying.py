"""Variants of a clip's coverage, prepared once and drawn from: its mask shrunk or blurred anew."""

from collections.abc import Sequence

from frisket.data.cached.status import Entries
from frisket.data.cached.store import key_of
from frisket.data.mask_pipeline import coverage_record, lay, read_planes
from frisket.data.records import Window
from frisket.data.rng import draw, order
from frisket.data.statistics import PrepareCounts
from frisket.grid import LatentGrid
from frisket.masks.drawn import blur, cut_to_disc, random_point
from frisket.shapes import Plane

RULE = 1  # goes into cache keys; count up when a step below changes
SEEDS = 1 << 32


def variant_keys(window: Window, regions: Sequence[str], grid: LatentGrid) -> tuple[str, ...]:
    """Keys of the coverages that the draws of a clip take one of; () where its mask is not varied.

    They hold what the plain coverage's key holds, so that a mask has the same variants in all runs.
    """
    how = window.masking
    if not how.drawn:
        return ()
    record = coverage_record(window, regions, grid)
    drawn = {"rule": RULE, "shrink": how.shrink, "blur": how.blur, "of": how.variants}
    return tuple(key_of({**record, "drawn": {**drawn, "number": n}}) for n in range(how.variants))


class Varying:
    """Makes the variants that are not in the cache yet."""

    def __init__(
        self, entries: Entries, tally: PrepareCounts, regions: Sequence[str], grid: LatentGrid
    ) -> None:
        """What all clips have in common."""
        self.entries, self.tally, self.regions, self.grid = entries, tally, regions, grid

    def __call__(self, window: Window) -> tuple[str, ...]:
        """The `variant_keys` of a masked clip, every one of them there.

        The mask is varied at its own size, before it is cut like its clip, grown and feathered.
        Discs and blurs are spread evenly over their range, each by an order of its own.
        """
        keys = variant_keys(window, self.regions, self.grid)
        lacking = [n for n, key in enumerate(keys) if not self.entries.ready("coverage", key)]
        if not lacking:
            return keys
        named = read_planes(window, self.regions)
        question = key_of(coverage_record(window, self.regions, self.grid))
        notes = {"regions": "\n".join(named)}
        for number in lacking:
            varied = _vary_planes(list(named.values()), window, question, number)
            coverages = lay(dict(zip(named, varied, strict=True)), window, self.grid)
            self.entries.store("coverage", keys[number], coverages, notes)
            self.tally.covered += 1
        return keys


def _vary_planes(planes: list[Plane], window: Window, question: str, number: int) -> list[Plane]:
    how = window.masking
    if how.shrink < 1:
        place = _draw_place("shrink", how.variants, question, number)
        seed = int(draw("disc", question, number) * SEEDS)
        share = how.shrink + (1 - how.shrink) * place
        planes = cut_to_disc(planes, share, random_point(planes, seed))
    if how.blur:
        place = _draw_place("blur", how.variants, question, number)
        # Whole pixels of the mask's own, as ai-toolkit rounds them.
        planes = [blur(plane, int(min(plane.shape[1:]) * place * how.blur)) for plane in planes]
    return planes


def _draw_place(what: str, count: int, question: str, number: int) -> float:
    """A number in [0, 1): of `count` variants one lies in each `count`-th of it."""
    stretch = order(count, what, question)[number]
    return (stretch + draw(what, question, number, "within")) / count
