"""The contract of mask generation: what a backend is given and what it answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from frisket.licence import Licence as Licence  # noqa: PLC0414 - a name of this contract
from frisket.registry import Shelf
from frisket.shapes import Frames, Plane

RgbPicture = UInt8[Tensor, "_ _ 3"]  # one frame, H W, RGB, 0 to 255; those of a list differ in size
SoftMask = Float[Tensor, "H W"]  # probability that a pixel belongs, float32 in [0, 1]
LabelMap = UInt8[Tensor, "H W"]  # 0 is background, others as a legend says
ClassMasks = Float[Tensor, "k _ _"]  # k H W: probability of each class of a parser; sums to 1

ClickPoint = tuple[float, float, bool]  # x, y in pixels of the picture; whether it lies inside

BackendRole = Literal[
    "detector",
    "faces",
    "segmenter",
    "pointer",
    "grounder",
    "parser",
    "drafter",
    "tracker",
    "follower",
    "captioner",
]


class MaskWeightsNotFound(FileNotFoundError):
    """A source without the weights a backend needs; the message names what is missing."""


class BackendUnusable(ValueError):
    """A backend that cannot do what is asked here (an extra, a phrase, a device); says the fix."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of its picture: x from the left, y from the top, left < right.

    `score` is the model's own confidence in [0, 1], None where it tells none (Florence-2).
    """

    left: float
    top: float
    right: float
    bottom: float
    score: float | None = None
    phrase: str = ""  # what was asked for and found here, as it was asked

    @property
    def area(self) -> float:
        """In square pixels, 0 where an edge has passed the other."""
        return max(self.right - self.left, 0.0) * max(self.bottom - self.top, 0.0)

    @property
    def centre(self) -> tuple[float, float]:
        """The middle as (x, y), in pixels of its picture."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def within(self, height: int, width: int) -> "Box | None":
        """Put in order, cut to a picture; None where less than one square pixel is left."""
        left, right = sorted((self.left, self.right))
        top, bottom = sorted((self.top, self.bottom))
        cut = Box(
            *(max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))),
            score=self.score,
            phrase=self.phrase,
        )
        return cut if cut.right > cut.left and cut.bottom > cut.top and cut.area >= 1 else None

    def loosen(self, share: float, height: int, width: int) -> "Box":
        """Grown by `share` of its own size in all (half on either side), cut to the picture."""
        x, y = (self.right - self.left) * share / 2, (self.bottom - self.top) * share / 2
        larger = Box(
            *(self.left - x, self.top - y, self.right + x, self.bottom + y),
            score=self.score,
            phrase=self.phrase,
        )
        return larger.within(height, width) or self

    def overlap(self, other: "Box") -> float:
        """Intersection over union, 0 to 1."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        shared = max(wide, 0.0) * max(high, 0.0)
        union = self.area + other.area - shared
        return shared / union if union > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Face:
    """A face: its box, five keypoints (eyes, nose, corners of the mouth) and its embedding."""

    box: Box
    keypoints: Float[Tensor, "5 2"] | None = None  # (x, y) in pixels; left of the picture first
    embedding: Float[Tensor, " d"] | None = None  # unit length; None where there is no recogniser


@dataclass(frozen=True, slots=True)
class Segment:
    """A mask a model gave for one box or phrase; `score` in [0, 1] or None."""

    mask: SoftMask
    score: float | None = None
    box: Box | None = None
    phrase: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """One thing of one region in one picture; `person` numbers the person it is part of."""

    region: str
    mask: SoftMask
    score: float | None = None  # of the model, in [0, 1]
    box: Box | None = None
    person: int | None = None  # None: not known to be anybody's
    phrase: str = ""
    why: str = ""  # what its score is low for, where the backend can tell


@dataclass(frozen=True, slots=True)
class Detections:
    """What was found in one picture; `unsure` says why it is not to be trusted, empty if it is."""

    instances: tuple[Instance, ...] = ()
    unsure: str = ""


@dataclass(frozen=True, slots=True)
class Seed:
    """What a tracker starts from: object `number` at `frame`, as a box or as a mask."""

    number: int
    frame: int
    box: Box | None = None
    mask: SoftMask | None = None


@dataclass(frozen=True, slots=True)
class Track:
    """One object through the frames of a window; frames it is not in hold zeros."""

    number: int
    plane: Plane  # F H W, probabilities
    scores: tuple[float | None, ...] = ()  # one a frame, or none at all
    phrase: str = ""


@runtime_checkable
class Detector(Protocol):
    """Phrases to boxes. `phrases` holds one list a picture; what is not found gives no box.

    Boxes lie within their picture and carry the phrase as it was asked.
    """

    def detect(
        self, pictures: Sequence[RgbPicture], phrases: Sequence[Sequence[str]]
    ) -> list[list[Box]]:
        """One list of boxes a picture."""
        ...


@runtime_checkable
class FaceFinder(Protocol):
    """Faces with keypoints and, where there is a recogniser, an embedding; largest first."""

    def faces(self, pictures: Sequence[RgbPicture]) -> list[list[Face]]:
        """One list of faces a picture."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """Boxes to masks at the picture's size: one segment a box, in the order of the boxes.

    `points`: for a picture, for a box, (x, y, inside) in pixels that refine it.
    """

    def segment(
        self,
        pictures: Sequence[RgbPicture],
        boxes: Sequence[Sequence[Box]],
        points: Sequence[Sequence[Sequence[ClickPoint]]] | None = None,
    ) -> list[list[Segment]]:
        """One list of segments a picture."""
        ...


@runtime_checkable
class PointSegmenter(Protocol):
    """Clicks, a box or both to a mask, with what else they may mean; asked again and again.

    What `encode_picture` gives has `bytes`, and may be kept for as long as the backend is loaded.
    """

    def encode_picture(self, picture: RgbPicture) -> Any:
        """What is worked out once for a picture."""
        ...

    def segment_points(
        self,
        embedding: Any,
        picture: RgbPicture,
        points: Sequence[ClickPoint],
        box: Box | None = None,
    ) -> list[Segment]:
        """One to three candidates, the likeliest first; `points` are (x, y, inside) in pixels.

        ValueError where there is neither a click inside nor a box.
        """
        ...


@runtime_checkable
class Grounder(Protocol):
    """Phrases to masks, one segment an instance (or one a phrase where it knows none)."""

    def ground(
        self, pictures: Sequence[RgbPicture], phrases: Sequence[Sequence[str]]
    ) -> list[list[Segment]]:
        """One list of segments a picture."""
        ...


@runtime_checkable
class Parser(Protocol):
    """Every pixel to one of fixed named classes, without a prompt; the first is background."""

    classes: tuple[str, ...]

    def parse(self, pictures: Sequence[RgbPicture]) -> list[ClassMasks]:
        """One k H W a picture, at the picture's size."""
        ...


@runtime_checkable
class PromptFreeSegmenter(Protocol):
    """Fixed regions of every person, without a prompt, and an open word where it is not sure."""

    regions: tuple[str, ...]

    def draft(self, pictures: Sequence[RgbPicture]) -> list[Detections]:
        """One answer a picture."""
        ...


@runtime_checkable
class Tracker(Protocol):
    """Seeds through the frames of a window, forward from each seed, or backward (`reverse`).

    Returns the numbers of the seeds with F H W probabilities; frames before the first seed
    (after the last, where `reverse`) are zeros.
    """

    def track(
        self, frames: Frames, seeds: Sequence[Seed], *, reverse: bool = False
    ) -> dict[int, Plane]:
        """Number of the object to its plane."""
        ...


@runtime_checkable
class VideoGrounder(Protocol):
    """Phrases through the frames of a window: detects and tracks in one."""

    def follow(self, frames: Frames, phrases: Sequence[str]) -> list[Track]:
        """Tracks numbered from 1 within this window."""
        ...


@runtime_checkable
class Captioner(Protocol):
    """Pictures to plain captions."""

    def caption(self, pictures: Sequence[RgbPicture]) -> list[str]:
        """One caption a picture."""
        ...


CONTRACTS: Mapping[BackendRole, type] = {
    "detector": Detector,
    "faces": FaceFinder,
    "segmenter": Segmenter,
    "pointer": PointSegmenter,
    "grounder": Grounder,
    "parser": Parser,
    "drafter": PromptFreeSegmenter,
    "tracker": Tracker,
    "follower": VideoGrounder,
    "captioner": Captioner,
}


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a backend's weights lie: a local folder, file or hub id; empty is its own default."""

    path: str = ""
    revision: str | None = None
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)  # the backend's own


@dataclass(frozen=True, slots=True)
class Backend:
    """One file of the shelf. `load` returns an object that fulfils the contract of every role.

    A loaded backend may have `close()`, called when the run is over. Loading raises
    MaskWeightsNotFound (names the folder and what is missing) or BackendUnusable.
    """

    summary: str  # one line for `frisket masks backends`
    roles: frozenset[BackendRole]
    licence: Licence
    load: Callable[[ModelSource], Any]
    repo: str = ""  # hub id taken where no source is given; empty: none is needed, or none exists
    weights: bool = False  # whether it loads weights: it is then held once, not once a process
    tiny: Callable[[Path], Path] | None = None  # a plugin's small random build, for tests alone
    extra: str = ""  # optional dependency: `pip install frisket[extra]`
    thresholds: Mapping[str, float] | None = None  # what its answers were cut at, for the record
    regions: tuple[str, ...] = ()  # those it has by itself (drafters)
    version: int = 1  # raised when the same weights give other answers: old masks are made again

    def __post_init__(self) -> None:
        """A plugin that has a build of weights has weights, whether it says so or not."""
        if self.tiny is not None:
            object.__setattr__(self, "weights", True)


BACKENDS: Shelf[Backend] = Shelf("frisket.maskgen.backends", "BACKEND", "frisket.mask_backends")

# Backends of other packages, written for earlier versions, import these.
EARLIER_NAMES = {
    "Drafter": "PromptFreeSegmenter",
    "Follower": "VideoGrounder",
    "Mask": "SoftMask",
    "Picture": "RgbPicture",
    "Role": "BackendRole",
    "Seen": "Detections",
    "Source": "ModelSource",
    "WeightsNotFound": "MaskWeightsNotFound",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """The names of this contract as they were before."""
        if name in EARLIER_NAMES:
            return globals()[EARLIER_NAMES[name]]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
