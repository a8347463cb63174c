"""One source of masks by name: which backends it takes, loaded once and freed after."""

import gc
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from frisket.maskgen.base import BACKENDS, Backend, BackendUnusable, Role, Source
from frisket.maskgen.cleanup.compose import (
    Drafted,
    Faced,
    Followed,
    Grounded,
    Look,
    Parsed,
    Phrased,
    Reduced,
)
from frisket.maskgen.vision.classes import Grouping, grouping
from frisket.maskgen.vision.loading import fingerprint
from frisket.masks.read import BACKGROUND
from frisket.registry import UnknownPlugin, suggest

NONE = "none"  # in place of a backend's name: go on without


@dataclass(frozen=True, slots=True)
class Parts:
    """Backends of one source: `front` is asked first, the others where it needs them."""

    front: str
    segmenter: str = ""
    people: str = ""  # detector of the persons that are parsed one by one
    tracker: str = ""  # tracker or follower for videos


COMPOSITIONS: Mapping[str, Parts] = {
    "grounded-sam2": Parts("grounding_dino", "sam2", tracker="sam2_video"),
    "florence2-sam2": Parts("florence2", "sam2", tracker="sam2_video"),
    "sapiens-people": Parts("sapiens", people="grounding_dino"),
}
# What a backend alone is completed with, by its first role here.
_USUAL: Mapping[Role, Parts] = {
    "grounder": Parts(""),
    "drafter": Parts(""),
    "parser": Parts(""),
    "detector": Parts("", "sam2", tracker="sam2_video"),
    "faces": Parts("", "sam2", tracker="sam2_video"),
    "follower": Parts(""),
}
_TRACKERS = {"sam3": "sam3_video"}  # a follower of the same model


def parts_of(name: str, *, segmenter: str = "", people: str = "", tracker: str = "") -> Parts:
    """The backends behind a name, those named here in place of the usual ones ("none": without).

    Raises UnknownPlugin with the nearest name, BackendUnusable where a name cannot stand there.
    """
    if name in COMPOSITIONS:
        usual = COMPOSITIONS[name]
    elif name in BACKENDS.names():
        role = front_role(name)
        usual = replace(_USUAL[role], front=name)
        if role in ("grounder", "follower"):
            usual = replace(usual, tracker=name if role == "follower" else _TRACKERS.get(name, ""))
    else:
        known = [*BACKENDS.names(), *COMPOSITIONS]
        raise UnknownPlugin(f"no mask backend is named {name!r}{suggest(name, known)}")
    laid = {"segmenter": segmenter, "people": people, "tracker": tracker}
    chosen = replace(usual, **{place: each for place, each in laid.items() if each})
    _check(chosen)
    return replace(
        chosen,
        **{place: "" for place in laid if getattr(chosen, place) == NONE},
    )


def front_role(name: str) -> Role:
    """The role a backend is asked in where it stands first; BackendUnusable where it cannot."""
    roles = BACKENDS.load(name).roles
    found = next((role for role in _USUAL if role in roles), None)
    if found is None:
        fitting = [each for each, parts in COMPOSITIONS.items() if name in backends_of(parts)]
        hint = f"; take {' or '.join(fitting)}" if fitting else ""
        raise BackendUnusable(
            f"{name} cuts out or follows what others have found, and finds nothing itself{hint}"
        )
    return found


def backends_of(parts: Parts) -> list[str]:
    """The names of a source's backends, the first one first."""
    return [each for each in (parts.front, parts.segmenter, parts.people, parts.tracker) if each]


def _check(parts: Parts) -> None:
    places: dict[str, tuple[Role, ...]] = {
        "segmenter": ("segmenter",),
        "people": ("detector",),
        "tracker": ("tracker", "follower"),
    }
    for place, roles in places.items():
        name = getattr(parts, place)
        if name not in ("", NONE) and not BACKENDS.load(name).roles & set(roles):
            fitting = [e for e in BACKENDS.names() if BACKENDS.load(e).roles & set(roles)]
            raise BackendUnusable(
                f"{name} is no {place}; there are: {', '.join(fitting)}, or {NONE}"
            )
    role = front_role(parts.front)
    if parts.people and role != "parser":
        raise BackendUnusable(f"{parts.front} parses nobody, so it takes no people detector")
    if parts.segmenter and role not in ("detector", "faces"):
        raise BackendUnusable(f"{parts.front} makes masks itself, so it takes no segmenter")


@dataclass(frozen=True, slots=True)
class Model:
    """One model as the record names it."""

    backend: str
    source: str
    revision: str
    code: str  # licences
    weights: str
    version: int
    thresholds: tuple[tuple[str, float], ...] = ()


class Models:
    """Backends by name, each loaded when first asked for and held until `close`."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        default: Source,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        """`sources`: a backend's own weights; `default` gives the others' device and precision.

        `thresholds`: "backend.name" to a value other than the backend's own.
        """
        self.sources, self.default, self.thresholds = sources, default, thresholds or {}
        self._held: dict[str, Any] = {}

    def source(self, name: str) -> Source:
        """Where a backend's weights lie."""
        return self.sources.get(name, self.default)

    def get(self, name: str) -> Any:
        """The loaded backend; raises WeightsNotFound or BackendUnusable."""
        if name not in self._held:
            loaded = BACKENDS.load(name).load(self.source(name))
            for key, value in self._cuts(name).items():
                setattr(loaded, key, value)
            self._held[name] = loaded
        return self._held[name]

    def _cuts(self, name: str) -> dict[str, float]:
        """The thresholds of a backend that the user set; BackendUnusable for one it has not."""
        known = dict(BACKENDS.load(name).thresholds or {})
        own = {
            key.partition(".")[2]: value
            for key, value in self.thresholds.items()
            if key.partition(".")[0] == name
        }
        for key in own:
            if key not in known:
                raise BackendUnusable(f"{name} has no threshold {key!r}{suggest(key, list(known))}")
        return own

    def described(self, names: Iterable[str]) -> list[Model]:
        """Backends as the record names them, each once; nothing is loaded."""
        return [self._described(name) for name in dict.fromkeys(names)]

    def _described(self, name: str) -> Model:
        backend: Backend = BACKENDS.load(name)
        path = self.source(name).path or backend.repo
        local = Path(path).expanduser()
        revision = self.source(name).revision or ""
        if path and local.exists():
            revision = fingerprint(local)
        return Model(
            name,
            path or "built in",
            revision,
            backend.licence.code,
            backend.licence.weights,
            backend.version,
            tuple({**(backend.thresholds or {}), **self._cuts(name)}.items()),
        )

    def close(self) -> None:
        """Let go of every model, on the device too."""
        for held in self._held.values():
            if hasattr(held, "close"):
                held.close()
        self._held.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@dataclass(frozen=True, slots=True)
class Options:
    """How the parts of a source are used; all of it is part of a mask's settings."""

    loosen: float = 0.0  # share of its size a box is grown by before it is cut out
    grouping: Grouping = field(default_factory=grouping)  # classes of a parser to regions
    longest: int = 0  # pixels of the longer side that models see; 0: all


def look_of(parts: Parts, models: Models, options: Options) -> Look:
    """The source's answer to pictures; loads its models."""
    role = front_role(parts.front)
    front = models.get(parts.front)
    segmenter = models.get(parts.segmenter) if parts.segmenter else None
    look: Look
    match role:
        case "detector":
            look = Grounded(front, segmenter, options.loosen)
        case "grounder":
            look = Phrased(front)
        case "faces":
            look = Faced(front, segmenter)
        case "parser":
            people = models.get(parts.people) if parts.people else None
            look = Parsed(front, people, options.grouping)
        case "follower":
            look = Followed(front)
        case _:
            look = Drafted(front)
    return Reduced(look, options.longest) if options.longest else look


def licences(names: Iterable[str]) -> Iterator[str]:
    """One line a backend on what its code and weights may be used for, warnings with it."""
    for name in dict.fromkeys(names):
        licence = BACKENDS.load(name).licence
        warning = f". {licence.warning}" if licence.warning else ""
        yield f"{name}: code {licence.code}, weights {licence.weights}{warning}"


def needs_phrases(parts: Parts) -> bool:
    """Whether the source must be told what to look for."""
    return front_role(parts.front) in ("detector", "grounder", "follower")


def regions_of(parts: Parts, grouping: Grouping) -> tuple[str, ...]:
    """Regions a source has by itself; none where phrases name them."""
    match front_role(parts.front):
        case "faces":
            return ("face",)
        case "drafter":
            return BACKENDS.load(parts.front).regions
        case "parser":
            return tuple(name for name in grouping.regions if name != BACKGROUND)
        case _:
            return ()
