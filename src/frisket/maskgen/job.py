"""What a run of mask generation is: everything that shapes its masks, in one plain record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from frisket.maskgen.base import ModelSource
from frisket.maskgen.cleanup.clean import PRIORITY, Cleaning, How
from frisket.maskgen.cleanup.instances import InstanceChoice
from frisket.maskgen.cleanup.stages import Prompts
from frisket.maskgen.files.record import ModelRecord, Status
from frisket.maskgen.files.store import MaskStore
from frisket.maskgen.pipeline import PipelineOptions, PipelineParts
from frisket.maskgen.tracking.tracker import Tracking

Smooth = Literal["none", "median", "motion"]


@dataclass(frozen=True, slots=True)
class Motion:
    """How masks are made steady through a video; lengths in frames."""

    tracking: Tracking = field(default_factory=Tracking)
    smooth: Smooth = "median"
    radius: int = 1
    gap: int = 8  # frames a region may be missing for and still be filled in


@dataclass(frozen=True, slots=True)
class MaskJob:
    """One run. Holds no model and no tensor but reference faces: worker processes get a copy.

    `sources` are asked one by one; what the second and further say is laid on the first by `how`.
    """

    sources: tuple[PipelineParts, ...]
    place: MaskStore
    regions: tuple[str, ...]
    legend: Mapping[str, int]
    settings: Mapping[str, Any]
    key: str
    models: tuple[ModelRecord, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)  # all of them, for the record
    cuts: Mapping[str, float] = field(default_factory=dict)  # "backend.threshold" the user set
    how: How = "union"
    options: PipelineOptions = field(default_factory=PipelineOptions)
    weights: Mapping[str, ModelSource] = field(default_factory=dict)
    default: ModelSource = field(default_factory=ModelSource)
    priority: tuple[str, ...] = PRIORITY
    cleaning: Mapping[str, Cleaning] = field(default_factory=dict)  # by region; "" for the others
    choice: InstanceChoice = field(default_factory=InstanceChoice)
    faces: str = ""  # backend that finds the faces a choice goes by
    motion: Motion = field(default_factory=Motion)
    soft: bool = False
    stability: bool = False
    brush: Path | None = None  # folder of label images laid over the result, named as the clips
    batch: int = 1
    everything_but: str = ""  # region that is all but what was found; empty: what was found

    def get_cleaning(self, region: str) -> Cleaning:
        """The clean-up of one region."""
        return self.cleaning.get(region) or self.cleaning.get("") or Cleaning()


@dataclass(frozen=True, slots=True)
class Task:
    """One clip to make masks for, and what to look for in it."""

    name: str
    clip: Path
    prompts: Prompts


@dataclass(frozen=True, slots=True)
class ClipResult:
    """What became of a task; `message` is for the reader, empty where all is well."""

    name: str
    status: Status
    confidence: float | None = None
    message: str = ""
    seconds: float = 0.0
    masked: bool = True  # whether a mask was written
