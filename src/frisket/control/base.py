"""The contract of kinds of control pictures: what they need, and how they draw a clip."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from frisket.licence import Licence
from frisket.registry import Shelf, suggest

ControlPicture = UInt8[Tensor, "H W 3"]  # RGB


class KindUnusable(ValueError):
    """A kind of control picture that cannot be drawn as it is asked for; says the fix."""


class ControlModelNotFound(FileNotFoundError):
    """A model's folder that is missing, not whole, or of another model; names it and the fix."""


@dataclass(frozen=True, slots=True)
class DrawRequest:
    """What a kind is loaded with: its own options, whole, and a model's folder where it has one."""

    options: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    device: str = "cpu"
    detector: str = ""  # folder of what finds people, for kinds that look at them one by one


@runtime_checkable
class Drawer(Protocol):
    """A kind that is loaded."""

    @property
    def fingerprint(self) -> str:
        """Of its weights and their config; empty without any."""
        ...

    def draw(self, frames: Iterable[ControlPicture]) -> Iterator[ControlPicture]:
        """The control picture of each frame of one clip, of its size and in its order.

        May look at the whole clip first; it holds no more than that takes.
        """
        ...


@dataclass(frozen=True, slots=True)
class ControlKind:
    """One file of the shelf; `load` raises ControlModelNotFound or KindUnusable."""

    summary: str  # one line for `frisket control list`
    licence: Licence
    load: Callable[[DrawRequest], Drawer]
    rule: int = 1  # count up when the same clip is drawn otherwise than before
    options: Mapping[str, float] = field(default_factory=dict)  # names, and their usual values
    files: str = ""  # what the source must be; empty where no weights are needed
    published: str = ""  # where its weights are to be had
    takes_detector: bool = False  # can draw each of several people
    tiny: Callable[[Path], Path] | None = None  # a small random build of its model, for tests


KINDS: Shelf[ControlKind] = Shelf("frisket.control.kinds", "KIND", "frisket.control_kinds")


def load_drawer(name: str, request: DrawRequest) -> Drawer:
    """A kind of the shelf with its options filled in.

    Raises UnknownPlugin, KindUnusable for an option it has not or a source it needs or lacks, and
    what its `load` raises.
    """
    kind = KINDS.load(name)
    if kind.files and not request.source:
        raise KindUnusable(
            f"--kind {name} draws by a model: give --source FOLDER, {kind.files}"
            f" ({kind.published}). {spell_licence(kind)}"
        )
    if request.source and not kind.files:
        raise KindUnusable(f"--kind {name} needs no weights: leave --source {request.source} out")
    if request.detector and not kind.takes_detector:
        raise KindUnusable(
            f"--kind {name} looks at the whole frame: leave --detector {request.detector} out"
        )
    return kind.load(replace(request, options=fill_options(name, request.options)))


def fill_options(name: str, options: Mapping[str, float]) -> dict[str, float]:
    """A kind's options with the usual values of those left out; KindUnusable for others."""
    kind = KINDS.load(name)
    for option in options:
        if option not in kind.options:
            hint = suggest(option, list(kind.options)) if kind.options else "; it has none"
            raise KindUnusable(f"--kind {name} has no option {option!r}{hint}")
        if not math.isfinite(options[option]):
            raise KindUnusable(
                f"--kind {name}: {option} = {options[option]} is no number to draw by"
            )
    return {**kind.options, **options}


def spell_licence(kind: ControlKind) -> str:
    """What code and weights of a kind may be used under, as one or two sentences."""
    licence = kind.licence
    weights = f", weights {licence.weights}" if licence.weights else ""
    warning = f" {licence.warning}" if licence.warning else ""
    return f"Licence: code {licence.code}{weights}.{warning}"
