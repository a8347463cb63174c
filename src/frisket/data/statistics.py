"""Counts what `prepare` sees, for the banner, and picks the clips that are held out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from frisket.data.choosing import SelectedClips
from frisket.data.mask_pipeline import Facts
from frisket.data.records import Item, PrepareReport
from frisket.masks.weights import BACKGROUND, Spread

NAMED = 20  # clips an error names before it counts the rest


class NoMasks(ValueError):
    """Clips without the mask that `require` asks of them."""


@dataclass(slots=True)
class RunningStatistics:
    """Mean and range of a stream of numbers, without keeping them."""

    total: float = 0.0
    count: int = 0
    low: float = 1.0
    high: float = 0.0

    def add(self, value: float) -> None:
        """Count one more number."""
        self.total, self.count = self.total + value, self.count + 1
        self.low, self.high = min(self.low, value), max(self.high, value)

    def spread(self) -> Spread:
        """What came in so far."""
        return Spread(self.total / self.count, self.low, self.high)


@dataclass(slots=True)
class PrepareCounts:
    """What is counted of the clips while they are planned: a report in the making."""

    table: Mapping[str, float]
    clips: int = 0
    masked: int = 0
    silent: int = 0
    unmasked: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    uncaptioned: list[str] = field(default_factory=list)
    all_zero: list[str] = field(default_factory=list)
    all_full: list[str] = field(default_factory=list)
    thin: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    lent: list[str] = field(default_factory=list)
    doubted: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # clips without the mask they must have
    hints: list[str] = field(default_factory=list)
    sided: int = 0
    unnamed_swaps: int = 0
    crowded_mixes: int = 0
    unmatched_clips: list[str] = field(default_factory=list)
    encoded: int = 0
    covered: int = 0
    embedded: int = 0
    shares: dict[str, RunningStatistics] = field(default_factory=dict)

    def take(self, chosen: SelectedClips) -> None:
        """Which clips of a data set stay out, and which have a mask of doubt."""
        self.left += chosen.left
        self.lent += chosen.lent
        self.doubted += chosen.doubted
        self.unsure += chosen.unsure

    def count(self, name: str, facts: Facts | None, *, required: bool) -> None:
        """One training clip, with the facts of its coverage if it has a mask."""
        self.clips += 1
        if facts is None:
            self.unmasked.append(name)
            if required:
                self.missing.append(name)
            return
        self.masked += 1
        for region in self.table:
            if region != BACKGROUND:
                self.shares.setdefault(region, RunningStatistics()).add(facts.mean.get(region, 0.0))
        taught = any(
            self.table.get(region, 0.0) * share > 0 for region, share in facts.mean.items()
        )
        self.silent += not taught and not self.table.get(BACKGROUND, 0.0) * facts.free > 0
        self.thin += [f"{name}: {region}" for region in facts.thin]
        if not any(facts.mean.values()):
            self.all_zero.append(name)
        if facts.free == 0:
            self.all_full.append(name)

    def stop_if_unmasked(self) -> None:
        """Raise NoMasks, with their names, where clips lack a mask they must have."""
        if self.missing:
            more = f" and {len(self.missing) - NAMED} more" if len(self.missing) > NAMED else ""
            raise NoMasks(
                f"{len(self.missing)} clips have no mask: {', '.join(self.missing[:NAMED])}{more};"
                " add the masks, or set require = false to train on those clips whole"
            )

    def report(self) -> PrepareReport:
        """The counts so far, as they are shown."""
        return PrepareReport(
            clips=self.clips,
            masked=self.masked,
            unmasked=tuple(self.unmasked),
            orphans=tuple(self.orphans),
            uncaptioned=tuple(self.uncaptioned),
            all_zero=tuple(self.all_zero),
            all_full=tuple(self.all_full),
            thin=tuple(self.thin),
            silent=self.silent,
            coverage={region: running.spread() for region, running in self.shares.items()},
            hints=tuple(dict.fromkeys(self.hints)),
            sided=self.sided,
            unnamed_swaps=self.unnamed_swaps,
            encoded=self.encoded,
            covered=self.covered,
            embedded=self.embedded,
            left=tuple(self.left),
            lent=tuple(self.lent),
            doubted=tuple(self.doubted),
            unsure=tuple(self.unsure),
            shared=tuple(self.shared),
            crowded_mixes=self.crowded_mixes,
            unmatched_clips=tuple(self.unmatched_clips),
        )


def pick_held(items: Sequence[Item], count: int) -> tuple[list[int], list[int]]:
    """Positions to train on, and positions held out: one window of each of `count` clips.

    The held clips lie evenly over the list; where clips have masks, over those that have one, for
    nothing can be told of a mask on the others. Every window, flip and second listing of a held
    file is kept out of training, so that validation never sees a training picture. ValueError where
    no clip would be left.
    """
    if count == 0:
        return list(range(len(items))), []
    files = list(dict.fromkeys(item.clip for item in items))
    masked = list(dict.fromkeys(item.clip for item in items if item.coverage is not None))
    _check_holdout(count, len(files), len(masked))
    among = masked or files
    chosen = {among[(2 * index + 1) * len(among) // (2 * count)] for index in range(count)}
    training = [position for position, item in enumerate(items) if item.clip not in chosen]
    first: dict[str, int] = {}
    for position, item in enumerate(items):
        if item.clip in chosen and not item.flip:
            first.setdefault(item.clip, position)
    return training, list(first.values())


def _check_holdout(count: int, files: int, masked: int) -> None:
    if count >= files:
        raise ValueError(
            f"validation.holdout = {count} leaves none of the {files} clips to train on:"
            " hold out fewer"
        )
    if masked and count >= masked:
        raise ValueError(
            f"validation.holdout = {count} leaves none of the {masked} clips that have a mask"
            " to train on: hold out fewer"
        )
