"""One source of masks by name: which backends it takes, loaded once and freed after."""

import gc
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from frisket.maskgen.base import BACKENDS, Backend, BackendRole, BackendUnusable, ModelSource
from frisket.maskgen.cleanup.stages import (
    FacePipeline,
    GroundedPipeline,
    ParsingPipeline,
    PhrasePipeline,
    PromptFreePipeline,
    ReducedPipeline,
    SegmentationPipeline,
    StillGroundingPipeline,
)
from frisket.maskgen.vision.classes import Grouping, get_grouping
from frisket.maskgen.vision.loading import compute_fingerprint
from frisket.masks.read import BACKGROUND
from frisket.registry import UnknownPlugin, suggest

NONE = "none"  # in place of a backend's name: go on without


@dataclass(frozen=True, slots=True)
class PipelineParts:
    """Backends of one source: `front` is asked first, the others where it needs them."""

    front: str
    segmenter: str = ""
    people: str = ""  # detector of the persons that are parsed one by one
    tracker: str = ""  # tracker or follower for videos


COMPOSITIONS: Mapping[str, PipelineParts] = {
    "grounded-sam2": PipelineParts("grounding_dino", "sam2", tracker="sam2_video"),
    "florence2-sam2": PipelineParts("florence2", "sam2", tracker="sam2_video"),
    "sapiens-people": PipelineParts("sapiens", people="grounding_dino"),
}
# What a backend alone is completed with, by its first role here.
_COMPLETIONS: Mapping[BackendRole, PipelineParts] = {
    "grounder": PipelineParts(""),
    "drafter": PipelineParts(""),
    "parser": PipelineParts(""),
    "detector": PipelineParts("", "sam2", tracker="sam2_video"),
    "faces": PipelineParts("", "sam2", tracker="sam2_video"),
    "follower": PipelineParts(""),
}
_TRACKERS = {"sam3": "sam3_video"}  # a follower of the same model


def resolve_parts(
    name: str, *, segmenter: str = "", people: str = "", tracker: str = ""
) -> PipelineParts:
    """The backends behind a name, those named here in place of the usual ones ("none": without).

    Raises UnknownPlugin with the nearest name, BackendUnusable where a name cannot stand there.
    """
    if name in COMPOSITIONS:
        defaults = COMPOSITIONS[name]
    elif name in BACKENDS.names():
        role = find_front_role(name)
        defaults = replace(_COMPLETIONS[role], front=name)
        if role in ("grounder", "follower"):
            defaults = replace(
                defaults, tracker=name if role == "follower" else _TRACKERS.get(name, "")
            )
    else:
        names = [*BACKENDS.names(), *COMPOSITIONS]
        raise UnknownPlugin(f"no mask backend is named {name!r}{suggest(name, names)}")
    overrides = {"segmenter": segmenter, "people": people, "tracker": tracker}
    parts = replace(defaults, **{place: backend for place, backend in overrides.items() if backend})
    _check(parts)
    return replace(
        parts,
        **{place: "" for place in overrides if getattr(parts, place) == NONE},
    )


def find_front_role(name: str) -> BackendRole:
    """The role a backend is asked in where it stands first; BackendUnusable where it cannot."""
    roles = BACKENDS.load(name).roles
    front = next((role for role in _COMPLETIONS if role in roles), None)
    if front is None:
        fitting = [
            composition for composition, parts in COMPOSITIONS.items() if name in backends_of(parts)
        ]
        hint = f"; take {' or '.join(fitting)}" if fitting else ""
        raise BackendUnusable(
            f"{name} cuts out or follows what others have found, and finds nothing itself{hint}"
        )
    return front


def backends_of(parts: PipelineParts) -> list[str]:
    """The names of a source's backends, the first one first."""
    return [name for name in (parts.front, parts.segmenter, parts.people, parts.tracker) if name]


def _check(parts: PipelineParts) -> None:
    places: dict[str, tuple[BackendRole, ...]] = {
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
    role = find_front_role(parts.front)
    if parts.people and role != "parser":
        raise BackendUnusable(f"{parts.front} parses nobody, so it takes no people detector")
    if parts.segmenter and role not in ("detector", "faces"):
        raise BackendUnusable(f"{parts.front} makes masks itself, so it takes no segmenter")


@dataclass(frozen=True, slots=True)
class LoadedModel:
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
        sources: Mapping[str, ModelSource],
        default: ModelSource,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        """`sources`: a backend's own weights; `default` gives the others' device and precision.

        `thresholds`: "backend.name" to a value other than the backend's own.
        """
        self.sources, self.default, self.thresholds = sources, default, thresholds or {}
        self._loaded: dict[str, Any] = {}

    def source(self, name: str) -> ModelSource:
        """Where a backend's weights lie."""
        return self.sources.get(name, self.default)

    def get(self, name: str) -> Any:
        """The loaded backend; raises MaskWeightsNotFound or BackendUnusable."""
        if name not in self._loaded:
            loaded = BACKENDS.load(name).load(self.source(name))
            for key, value in self._read_thresholds(name).items():
                setattr(loaded, key, value)
            self._loaded[name] = loaded
        return self._loaded[name]

    def _read_thresholds(self, name: str) -> dict[str, float]:
        """The thresholds of a backend that the user set; BackendUnusable for one it has not."""
        thresholds = dict(BACKENDS.load(name).thresholds or {})
        overrides = {
            key.partition(".")[2]: value
            for key, value in self.thresholds.items()
            if key.partition(".")[0] == name
        }
        for key in overrides:
            if key not in thresholds:
                raise BackendUnusable(
                    f"{name} has no threshold {key!r}{suggest(key, list(thresholds))}"
                )
        return overrides

    def describe(self, names: Iterable[str]) -> list[LoadedModel]:
        """Backends as the record names them, each once; nothing is loaded."""
        return [self._describe(name) for name in dict.fromkeys(names)]

    def _describe(self, name: str) -> LoadedModel:
        backend: Backend = BACKENDS.load(name)
        path = self.source(name).path or backend.repo
        local = Path(path).expanduser()
        revision = self.source(name).revision or ""
        if path and local.exists():
            revision = compute_fingerprint(local)
        return LoadedModel(
            name,
            path or "built in",
            revision,
            backend.licence.code,
            backend.licence.weights,
            backend.version,
            tuple({**(backend.thresholds or {}), **self._read_thresholds(name)}.items()),
        )

    def close(self) -> None:
        """Let go of every model, on the device too."""
        for model in self._loaded.values():
            if hasattr(model, "close"):
                model.close()
        self._loaded.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """How the parts of a source are used; all of it is part of a mask's settings."""

    loosen: float = 0.0  # share of its size a box is grown by before it is cut out
    grouping: Grouping = field(default_factory=get_grouping)  # classes of a parser to regions
    longest: int = 0  # pixels of the longer side that models see; 0: all


def build_pipeline(
    parts: PipelineParts, models: Models, options: PipelineOptions
) -> SegmentationPipeline:
    """The source's answer to pictures; loads its models."""
    role = find_front_role(parts.front)
    front = models.get(parts.front)
    segmenter = models.get(parts.segmenter) if parts.segmenter else None
    pipeline: SegmentationPipeline
    match role:
        case "detector":
            pipeline = GroundedPipeline(front, segmenter, options.loosen)
        case "grounder":
            pipeline = PhrasePipeline(front)
        case "faces":
            pipeline = FacePipeline(front, segmenter)
        case "parser":
            people = models.get(parts.people) if parts.people else None
            pipeline = ParsingPipeline(front, people, options.grouping)
        case "follower":
            pipeline = StillGroundingPipeline(front)
        case _:
            pipeline = PromptFreePipeline(front)
    return ReducedPipeline(pipeline, options.longest) if options.longest else pipeline


def list_licences(names: Iterable[str]) -> Iterator[str]:
    """One line a backend on what its code and weights may be used for, warnings with it."""
    for name in dict.fromkeys(names):
        licence = BACKENDS.load(name).licence
        warning = f". {licence.warning}" if licence.warning else ""
        yield f"{name}: code {licence.code}, weights {licence.weights}{warning}"


def needs_phrases(parts: PipelineParts) -> bool:
    """Whether the source must be told what to look for."""
    return find_front_role(parts.front) in ("detector", "grounder", "follower")


def regions_of(parts: PipelineParts, grouping: Grouping) -> tuple[str, ...]:
    """Regions a source has by itself; none where phrases name them."""
    match find_front_role(parts.front):
        case "faces":
            return ("face",)
        case "drafter":
            return BACKENDS.load(parts.front).regions
        case "parser":
            return tuple(name for name in grouping.regions if name != BACKGROUND)
        case _:
            return ()
