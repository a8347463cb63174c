"""Faces found in a picture, with their five points and, where asked for, their embeddings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from frisket.faces.align import align_faces
from frisket.faces.base import Embedder, FaceEmbedding, embed_faces
from frisket.licence import Licence
from frisket.registry import Shelf

FaceFrame = UInt8[Tensor, "H W 3"]  # RGB


@dataclass(frozen=True, slots=True)
class FaceBox:
    """The rectangle around a face, in pixels of its picture: x from the left, y from the top."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """In square pixels, 0 where an edge has passed the other."""
        return max(self.right - self.left, 0.0) * max(self.bottom - self.top, 0.0)

    @property
    def centre(self) -> tuple[float, float]:
        """The middle as (x, y), in pixels."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def cut(self, height: int, width: int) -> "FaceBox":
        """What of it lies in a picture of that size."""
        return FaceBox(
            *(max(self.left, 0.0), max(self.top, 0.0)),
            *(min(self.right, float(width)), min(self.bottom, float(height))),
        )


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """A face in a picture; `frisket.faces.choose` tells which of several is meant.

    `keypoints` are (x, y) in pixels: eyes, nose, corners of the mouth, left of the picture first;
    None where the detector gives none. `score` is the detector's confidence in [0, 1].
    `description` is what describe_faces adds.
    """

    box: FaceBox
    keypoints: Float[Tensor, "5 2"] | None
    score: float
    description: FaceEmbedding | None = None

    @property
    def embedding(self) -> Float[Tensor, " d"] | None:
        """The direction of its description, of length 1; None before it has one."""
        return None if self.description is None else self.description.unit


@runtime_checkable
class FaceDetector(Protocol):
    """Pictures to faces; asked through find_faces, which puts the answer in order."""

    name: str
    licence: Licence

    def detect(self, frame: FaceFrame) -> list[DetectedFace]:
        """Faces of one picture in any order, each once; boxes may reach over its edges."""
        ...


@dataclass(frozen=True, slots=True)
class DetectorPlugin:
    """One file of the shelf.

    `load(source, device)` gives a FaceDetector; it downloads nothing. Raises FaceModelNotFound or
    FaceModelUnusable.
    """

    summary: str  # one line for `frisket methods`
    licence: Licence
    load: Callable[[str, str], FaceDetector]
    commercial: bool  # whether what it loads may be used commercially; else never a default
    files: str = ""  # what the source must be; empty where the package brings the weights
    published: str = ""  # where its files are to be had
    names: tuple[str, ...] = ()  # of the files: a folder with one of them is taken for its source


DETECTORS: Shelf[DetectorPlugin] = Shelf(
    "frisket.faces.detectors", "DETECTOR", "frisket.face_detectors"
)


def find_faces(detector: FaceDetector, frame: FaceFrame) -> list[DetectedFace]:
    """The faces of a picture, the largest first, boxes cut to it; empty where there is none.

    Faces of which less than one square pixel lies in the picture are left out.
    """
    height, width = frame.shape[:2]
    faces = [replace(face, box=face.box.cut(height, width)) for face in detector.detect(frame)]
    inside_faces = [face for face in faces if face.box.area >= 1]
    return sorted(inside_faces, key=lambda face: -face.box.area)


def describe_faces(
    embedder: Embedder, frame: FaceFrame, faces: Sequence[DetectedFace]
) -> list[DetectedFace]:
    """The same faces of a picture, each with its embedding; those without key points have none."""
    points = [face.keypoints for face in faces if face.keypoints is not None]
    if not points:
        return list(faces)
    picture = frame.permute(2, 0, 1)[None].float() / 127.5 - 1
    crops = [align_faces(picture, keypoints[None].float()) for keypoints in points]
    descriptions = iter(embed_faces(embedder, torch.cat(crops)))
    return [
        face if face.keypoints is None else replace(face, description=next(descriptions))
        for face in faces
    ]
