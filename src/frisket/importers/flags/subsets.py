"""Subsets of kohya's data sets: where an option counts, and the balance between the sets."""

from dataclasses import dataclass, field
from typing import Any

from frisket.importers.flags.options import Flags
from frisket.importers.flags.run import Epoch
from frisket.importers.folders import find_whole_repeats, longer
from frisket.importers.manifests import ManifestEntry, name_lines
from frisket.importers.options import OptionTable, drop_unset

FLAGS_FOR = {"batch_size": "train_batch_size", "num_repeats": "dataset_repeats"}


@dataclass(slots=True)
class Subset:
    """One subset on its way: its table, and what the balance between sets needs."""

    table: dict[str, Any]
    clips: int
    repeats: int
    flip: bool
    reg: bool
    group: int  # of the data set: reg pictures are as many as the others of theirs
    masked: bool


@dataclass(slots=True)
class Subsets:
    """All subsets of a configuration."""

    sets: list[Subset] = field(default_factory=list)
    manifests: dict[str, tuple[ManifestEntry, ...]] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)
    holdout: int = 0

    def keep_manifest(self, name: str, lines: list[ManifestEntry]) -> str:
        """Keep a manifest; its file name."""
        file = next(
            f
            for n in range(len(self.manifests) + 1)
            if (f := f"{name}{n or ''}.jsonl") not in self.manifests
        )
        self.manifests[file] = name_lines(lines)
        return file

    def epoch(self) -> Epoch:
        """An epoch of theirs, repeats counted; without clips where some are not known."""
        countable = all(subset.clips for subset in self.sets)
        clips = (
            round(sum(subset.clips * self.rate(subset) for subset in self.sets)) if countable else 0
        )
        return Epoch(clips, self.batches[0], longer(self._rates, find_whole_repeats(self._rates)))

    @property
    def _rates(self) -> list[float]:
        """Repeats that make the same epoch here: a flipped set is twice as long, without more."""
        return [self.rate(subset) / (2 if subset.flip else 1) for subset in self.sets]

    def rate(self, subset: Subset) -> float:
        """How often a picture is seen in an epoch of theirs."""
        if not subset.reg:
            return float(subset.repeats)
        group = [member for member in self.sets if member.group == subset.group]
        trained = sum(member.clips * member.repeats for member in group if not member.reg)
        reg = sum(member.clips * member.repeats for member in group if member.reg)
        pictures = sum(member.clips for member in group if member.reg)
        return float(max(1, round(subset.repeats + (trained - reg) / pictures)))

    def data(self) -> tuple[dict[str, Any], ...]:
        """The `[[data]]` tables. A flipped set is twice as long here, so the others are, too."""
        repeats = find_whole_repeats(self._rates)
        return tuple(
            subset.table | ({"repeats": count} if count > 1 else {})
            for subset, count in zip(self.sets, repeats, strict=True)
        )

    def batch(self, chain: "Chain") -> None:
        """Take the batch size of a data set: there is one for all, that of the first."""
        batch = max(1, chain.whole("batch_size", 1))
        if self.batches and batch != self.batches[0]:
            table, option = chain.find_holder("batch_size")
            message = f"run.batch is one number for all data, {self.batches[0]} as in the first set"
            table.say(option, "no equivalent", message)
        self.batches.append(batch)

    def sections(self, compat: str) -> dict[str, dict[str, Any]]:
        """What follows from the data alone; `compat` where they have masks."""
        return {
            "losses": {"compat": compat} if any(subset.masked for subset in self.sets) else {},
            "run": {"batch": self.batches[0]} if self.batches else {},
            "validation": drop_unset(holdout=self.holdout or None),
        }


class Chain:
    """An option where it counts: in the subset, its data set, `[general]`, the training options."""

    def __init__(self, *tables: OptionTable, flags: Flags | None = None) -> None:
        self.tables, self.flags = tables, flags

    def find_holder(self, name: str) -> tuple[OptionTable, str]:
        """The table an option stands in (the innermost for one not given), and its name there."""
        for table in self.tables:
            if name in table:
                return table, name
        other = FLAGS_FOR.get(name, name)
        if self.flags is not None and other in self.flags:
            return self.flags.at(other), other
        return self.tables[0], name

    def __contains__(self, name: str) -> bool:
        """Whether the option is given anywhere."""
        table, option = self.find_holder(name)
        return option in table

    def text(self, name: str, default: str = "") -> str:
        """An option that is text."""
        table, option = self.find_holder(name)
        return table.text(option, default)

    def flag(self, name: str) -> bool:
        """An option that is true or false."""
        table, option = self.find_holder(name)
        return table.flag(option)

    def number(self, name: str, default: float = 0.0) -> float:
        """An option that is a number of at least 0."""
        table, option = self.find_holder(name)
        return table.number(option, default, low=0)

    def whole(self, name: str, default: int = 0) -> int:
        """An option that is a whole number of at least 0."""
        table, option = self.find_holder(name)
        return table.whole(option, default)


def read_resolution(chain: Chain) -> int | list[int] | None:
    """A number, two of them, or either as text; one number is a square."""
    table, name = chain.find_holder("resolution")
    value = table.values.get(name)
    if value is None:
        return None
    parts = (
        value.split(",")
        if isinstance(value, str)
        else value
        if isinstance(value, list)
        else [value]
    )
    try:
        sides = [int(part) for part in parts]
    except (TypeError, ValueError):
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise table.bad(name, "the side of a square is needed, or width and height")
    return sides[0] if len(sides) == 1 else sides
