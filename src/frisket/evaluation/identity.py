"""Is it the same person? Numbers on embeddings alone; a picture without a face always counts.

Embeddings are compared by their direction (the cosine), so raw and unit ones give the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

FaceVector = Float[Tensor, " d"]
PictureFace = FaceVector | None  # the face on a picture, None where none was found

NOBODY = 0.0  # cosine that a picture without a face counts as: about that of two strangers


class TooFewReferences(ValueError):
    """Fewer pictures of a person than the question needs; the message says how many there are."""


@dataclass(frozen=True, slots=True)
class PersonReferences:
    """One person's faces, `embeddings` of any length but 0; `name` is the region's or person's."""

    name: str
    embeddings: Float[Tensor, "n d"]

    def __post_init__(self) -> None:
        """TooFewReferences where there is none; ValueError where a row is 0 or not finite."""
        if not len(self.embeddings):
            raise TooFewReferences(f"{self.name}: no picture of references shows a face")
        norms = self.embeddings.float().norm(dim=1)
        if not bool((norms > 0).all() and norms.isfinite().all()):
            raise ValueError(f"{self.name}: an embedding of the references is 0 or not finite")

    @property
    def units(self) -> Float[Tensor, "n d"]:
        """The embeddings, each of length 1, in float32."""
        return functional.normalize(self.embeddings.float(), dim=1)

    @property
    def centroid(self) -> FaceVector:
        """The mean of the units, of length 1 again: no picture counts more than another."""
        return functional.normalize(self.units.mean(0), dim=0)

    def measure_spread(self) -> list[float]:
        """Cosine of each reference to the centroid of the others: what the same person comes to.

        Empty for one reference alone.
        """
        units = self.units
        if len(units) < 2:
            return []
        rest = functional.normalize(units.sum(0) - units, dim=1)
        return [float(cosine) for cosine in (units * rest).sum(1)]

    def measure_nearest(self) -> list[float]:
        """Cosine of each reference to the nearest other one; empty for one alone."""
        if len(self.embeddings) < 2:
            return []
        cosines = self.units @ self.units.T
        cosines.fill_diagonal_(-torch.inf)
        return [float(cosine) for cosine in cosines.amax(1)]


@dataclass(frozen=True, slots=True)
class Copying:
    """Whether faces repeat a reference rather than the person.

    `nearest` is each face's cosine to its nearest reference, `between` each reference's to the
    nearest other one: two pictures of the same person, which nobody copied.
    """

    nearest: tuple[float, ...]
    between: tuple[float, ...]

    @property
    def excess(self) -> float | None:
        """How much nearer faces are to a reference than references to each other, on average.

        At or below 0 nothing was copied; None where there is no face or one reference alone.
        """
        if not self.nearest or not self.between:
            return None
        return fmean(self.nearest) - fmean(self.between)


@dataclass(frozen=True, slots=True)
class IdentityScore:
    """One person over a set of pictures, a number a picture: all lists are as long as the set.

    `cosines` are to the centroid, in [-1, 1], and 0 (a stranger's) where no face was found, so that
    no mean rises by pictures that are left out; `detected` is 1 or 0; `right` is 1 where this
    person is the nearest of all that were asked about, None for one person alone.
    """

    person: str
    cosines: tuple[float, ...]
    detected: tuple[float, ...]
    right: tuple[float, ...] | None
    copying: Copying
    spread: tuple[float, ...] = ()  # of the references: what the same person comes to


def measure_identity(
    picture_faces: Sequence[PictureFace],
    person: PersonReferences,
    people: Sequence[PersonReferences] = (),
) -> IdentityScore:
    """How well pictures that should show `person` do; `people` are all it could have been.

    `shown` is the face of each picture, None where none was found. `people` may hold the person.
    ValueError where no picture is given or embeddings are of another width.
    """
    if not picture_faces:
        raise ValueError(f"{person.name}: there is no picture to look for a face on")
    _check_width(picture_faces, [person, *people])
    centroid = person.centroid
    faces = [face for face in picture_faces if face is not None]
    strangers = [other for other in people if other.name != person.name]
    return IdentityScore(
        person.name,
        cosines=tuple(
            NOBODY if face is None else compare_faces(face, centroid) for face in picture_faces
        ),
        detected=tuple(float(face is not None) for face in picture_faces),
        right=tuple(
            float(face is not None and find_person(face, [person, *strangers]) == person.name)
            for face in picture_faces
        )
        if strangers
        else None,
        copying=Copying(
            tuple(_measure_nearest(face, person) for face in faces), tuple(person.measure_nearest())
        ),
        spread=tuple(person.measure_spread()),
    )


def find_person(face: FaceVector, people: Sequence[PersonReferences]) -> str:
    """The name of the person whose centroid is nearest; of two as near, the first."""
    cosines = [compare_faces(face, person.centroid) for person in people]
    return people[cosines.index(max(cosines))].name


def assign_faces(
    faces: Sequence[FaceVector], people: Sequence[PersonReferences]
) -> dict[str, int | None]:
    """Which of the faces on one picture is whose: the surest pair first, no face twice.

    By person the index among `faces`, None where fewer faces than people are shown.
    """
    pairs = sorted(
        (-compare_faces(face, person.centroid), index, person.name)
        for index, face in enumerate(faces)
        for person in people
    )
    owners: dict[str, int | None] = {person.name: None for person in people}
    used_faces: set[int] = set()
    for _, index, name in pairs:
        if owners[name] is None and index not in used_faces:
            owners[name] = index
            used_faces.add(index)
    return owners


def measure_people(
    pictures: Sequence[Sequence[FaceVector]], people: Sequence[PersonReferences]
) -> dict[str, IdentityScore]:
    """Every person over pictures that should show them all; each picture is all faces it shows."""
    owners = [assign_faces(faces, people) for faces in pictures]
    return {
        person.name: measure_identity(
            [
                None if (index := owner[person.name]) is None else faces[index]
                for faces, owner in zip(pictures, owners, strict=True)
            ],
            person,
            people,
        )
        for person in people
    }


def compare_faces(face: FaceVector, other: FaceVector) -> float:
    """Their cosine, in [-1, 1]."""
    cosine = functional.cosine_similarity(face.double(), other.double(), dim=0)
    return float(cosine.clamp(-1, 1))


def _measure_nearest(face: FaceVector, person: PersonReferences) -> float:
    return max(compare_faces(face, reference) for reference in person.embeddings)


def _check_width(picture_faces: Sequence[PictureFace], people: Sequence[PersonReferences]) -> None:
    width = people[0].embeddings.shape[1]
    widths = {person.name: person.embeddings.shape[1] for person in people}
    widths |= {
        f"picture {n}": len(face) for n, face in enumerate(picture_faces) if face is not None
    }
    name = next((name for name, other in widths.items() if other != width), None)
    if name is not None:
        raise ValueError(
            f"{name}: its embedding has {widths[name]} numbers and {people[0].name}'s {width}:"
            " embeddings of different networks cannot be compared"
        )
