"""How like the people of some references generated pictures are: for `generate` and previews."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from frisket.evaluation.bootstrap import estimate
from frisket.evaluation.identity import (
    FaceVector,
    IdentityScore,
    PersonReferences,
    TooFewReferences,
    measure_people,
)
from frisket.faces.base import FaceEmbedding
from frisket.faces.choose import choose_face
from frisket.faces.recognise import FaceRecogniser
from frisket.media.frames import decode
from frisket.shapes import Frames

log = logging.getLogger(__name__)

LOOKED_AT = 8  # frames of a clip at most, evenly


@dataclass(frozen=True, slots=True)
class PictureLikeness:
    """One picture or clip against one person.

    `cosine` is the mean over its frames, 0 for a frame without a face; `detected` is the share of
    the frames with a face of that person.
    """

    person: str
    cosine: float
    detected: float

    def describe(self) -> str:
        """Few words for a label: `ada 0.62`, or `ada: no face`."""
        return f"{self.person} {self.cosine:.2f}" if self.detected else f"{self.person}: no face"


@dataclass(frozen=True, slots=True)
class LikenessTable:
    """Pictures against people: `pictures` one list a picture, a person each in the same order."""

    pictures: tuple[tuple[PictureLikeness, ...], ...]
    people: Mapping[str, IdentityScore]  # over all frames looked at

    def describe(self, index: int) -> str:
        """The label of one picture."""
        return ", ".join(likeness.describe() for likeness in self.pictures[index])

    def as_record(self) -> dict[str, Any]:
        """For a JSON file: every picture's numbers, and each person's means with intervals."""
        return {
            "pictures": [
                {
                    likeness.person: {
                        "cosine": round(likeness.cosine, 4),
                        "detected": round(likeness.detected, 4),
                    }
                    for likeness in picture
                }
                for picture in self.pictures
            ],
            "people": {
                name: summarise_person(score, [row[place].cosine for row in self.pictures])
                for place, (name, score) in enumerate(self.people.items())
            },
        }


def summarise_person(score: IdentityScore, cosines: Sequence[float]) -> dict[str, Any]:
    """Means of one person; `cosines` are one a picture, over which the 95 % interval is taken."""
    interval = estimate(cosines)
    return {
        "cosine": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "pictures": interval.count,
        "detected": fmean(score.detected),
        "right": fmean(score.right) if score.right else None,
        "references": fmean(score.spread) if score.spread else None,
        "copied": score.copying.excess,
    }


def measure_likeness(
    recogniser: FaceRecogniser, clips: Sequence[Frames], people: Sequence[PersonReferences]
) -> LikenessTable:
    """Every clip (a picture is one of one frame) against every person.

    Where several people are asked about, each face on a frame is one person's at most, the surest
    pair first. ValueError where nobody is asked about, or nothing shown.
    """
    if not people or not clips:
        raise ValueError(
            f"likeness takes people and pictures; there are {len(people)} and {len(clips)}"
        )
    frame_indices = [pick_evenly(len(frames)) for frames in clips]
    faces = [
        list_faces(recogniser, frames[index])
        for frames, indices in zip(clips, frame_indices, strict=True)
        for index in indices
    ]
    scores = measure_people(faces, people)
    pictures, begin = [], 0
    for indices in frame_indices:
        end = begin + len(indices)
        pictures.append(tuple(_cut_score(score, begin, end) for score in scores.values()))
        begin = end
    return LikenessTable(tuple(pictures), scores)


def _cut_score(score: IdentityScore, begin: int, end: int) -> PictureLikeness:
    cosines = score.cosines[begin:end]
    return PictureLikeness(score.person, fmean(cosines), fmean(score.detected[begin:end]))


def list_faces(recogniser: FaceRecogniser, frame: torch.Tensor) -> list[FaceVector]:
    """Raw embeddings of all faces on an H W 3 frame, the largest first."""
    faces = recogniser.recognise(frame)
    return [face.description.raw for face in faces if face.description is not None]


def read_references(
    recogniser: FaceRecogniser, pictures: Mapping[str, Sequence[Path]]
) -> list[PersonReferences]:
    """People by name from pictures of each; the largest face of a picture is theirs.

    Says which face is taken where a picture shows several. Raises BadMedia, and FaceNotUsable for a
    picture without a usable face.
    """
    return [
        gather_person(name, [_read_face(recogniser, file) for file in files])
        for name, files in pictures.items()
    ]


def _read_face(recogniser: FaceRecogniser, file: Path) -> FaceEmbedding:
    face, message = choose_face(recogniser.recognise(decode(file, [0])[0]), str(file), option="")
    if message:
        log.warning("%s", message)
    assert face.description is not None  # it has key points, or it would have been refused
    return face.description


def gather_person(name: str, faces: Sequence[FaceEmbedding]) -> PersonReferences:
    """One person of faces that were embedded already; TooFewReferences where there is none."""
    if not faces:
        raise TooFewReferences(f"{name}: no picture of references shows a face")
    return PersonReferences(name, torch.stack([face.raw for face in faces]))


def pick_evenly(count: int) -> list[int]:
    """At most LOOKED_AT of `count` frames."""
    return sorted({round(place) for place in torch.linspace(0, count - 1, LOOKED_AT).tolist()})
