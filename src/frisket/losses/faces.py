"""What loss terms that look at faces are given: where a face is, whose it is, and how to compare.

Nothing here knows a face model: who the person is, is a row of numbers that only `compare` reads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from frisket.shapes import FramePicture


@dataclass(frozen=True, slots=True)
class FaceMark:
    """One face of a clip, as read from its clean frames before the run.

    `frame` is a latent frame; the face is in the last of the pixel frames that it stands for.
    `keypoints` are 5 2, (x, y) in pixels of the clip as it is trained on (cut, mirrored): eyes,
    nose, corners of the mouth, left first as seen. `target` is the unit embedding to be like, d.
    """

    frame: int
    keypoints: Tensor
    target: Tensor


MarkRow = tuple[FaceMark, ...]  # of one sample; empty where it shows no face that counts


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceComparison:
    """The faces of one step: `marks` row by row, and which plane of the coverage they lie in.

    `compare` gives the cosine distance, in [0, 2] and differentiable in the pixels, of the face at
    a mark to the mark's target; `distances` holds what it gave in this step, without gradient.
    """

    marks: Sequence[MarkRow]
    region: int
    compare: Callable[[FramePicture, FaceMark], Tensor]
    distances: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceRequest:
    """Which faces a term asks for: of `region`, at most `frames` latent frames of a clip a step.

    `embedder` is a file of the shelf of face embedders and `source` its weights (empty: its own).
    `references` is a folder of pictures of the person, in place of each clip's own face; `detector`
    and `detector_source` find faces where no file says where they are. Empty strings are none.
    """

    region: str
    embedder: str
    source: str = ""
    frames: int = 1
    references: str = ""
    detector: str = ""
    detector_source: str = ""


@runtime_checkable
class FaceTerm(Protocol):
    """A term whose `needs` hold "faces" says which."""

    @property
    def faces(self) -> FaceRequest:
        """What is read before the run, and looked at in it."""
        ...
