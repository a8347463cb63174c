"""Masks without a download: cascades find the faces, GrabCut the persons; a draft, and says so."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from frisket.maskgen.base import (
    Backend,
    Box,
    ClickPoint,
    Detections,
    Face,
    Instance,
    Licence,
    ModelSource,
    RgbPicture,
    Segment,
)
from frisket.maskgen.draft.click import Clicked, cut_click
from frisket.maskgen.draft.faces import DraftFace, find_faces
from frisket.maskgen.draft.grabcut import (
    CropWindow,
    PersonEstimate,
    cut_face,
    cut_hair,
    cut_person,
    window_of,
)
from frisket.maskgen.draft.portrait import Doubt, doubts_of

VOTE = 0.6  # of the certain: a face's least
AGREEMENT = 0.6  # of the three cuts: a person's least
CONTACT = 0.4  # with the rim of the guess: a person's most
PLACE_KEPT = 0.45  # of the likely place: a person's least
HALF = 0.5  # of a pixel: who has as much has it
EDGED = 0.7  # of the outline: a person's least
PERHAPS = 0.05  # of the certain: a face that may be one, for the count of those left out
NOTED = 0.35  # of the largest face's side: what is smaller is somebody behind
CROWD = 0.4  # what a mask is worth at most where there are several people
LEAST = 0.05  # what any find is worth: 0 is for nothing


@dataclass(slots=True)
class Draft:
    """Face, hair and body of everybody who looks into the camera, upright.

    The score of a face is the vote of the cascades, that of hair and body also counts how well
    three cuts agree and how little of the person runs into the rim of where one can be, and each is
    worth no more than what speaks against it (`portrait`). It misses
    profiles, turned heads, sunglasses, drawings and faces below 5 % of the longer side; a hat is
    hair; it knows no skin but the face's own, whatever its tone.
    """

    vote: float = VOTE
    agreement: float = AGREEMENT
    contact: float = CONTACT
    kept: float = PLACE_KEPT
    edged: float = EDGED
    regions: ClassVar[tuple[str, ...]] = ("face", "hair", "body")

    def draft(self, pictures: Sequence[RgbPicture]) -> list[Detections]:
        """One answer a picture; without a face nothing, and where a cut fails the face alone."""
        return [self._detect(picture.numpy()) for picture in pictures]

    def faces(self, pictures: Sequence[RgbPicture]) -> list[list[Face]]:
        """Boxes alone, largest first: the cascades know no keypoints and tell nobody apart."""
        return [
            [Face(_make_box(face, *picture.shape[:2])) for face in self._find(picture.numpy())]
            for picture in pictures
        ]

    def encode_picture(self, picture: RgbPicture) -> Clicked:
        """Nothing is worked out beforehand."""
        return Clicked()

    def segment_points(
        self,
        _embedding: Clicked,
        picture: RgbPicture,
        points: Sequence[ClickPoint],
        box: Box | None = None,
    ) -> list[Segment]:
        """Up to three candidates by GrabCut (see `click.cut_click`)."""
        return cut_click(picture, points, box)

    def _find(self, picture: NDArray[Any], least: float | None = None) -> list[DraftFace]:
        vote = self.vote if least is None else least
        return find_faces(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), vote)

    def _detect(self, picture: NDArray[Any]) -> Detections:
        perhaps = self._find(picture, min(PERHAPS, self.vote))
        faces = [face for face in perhaps if face.score >= self.vote]
        if not faces:
            return Detections(
                unsure="no face found that looks into the camera, upright and large enough"
            )
        crowd = _describe_crowd(faces, perhaps)
        instances: list[Instance] = []
        doubts: list[str] = []
        covered = np.zeros(picture.shape[:2], bool)
        for number, face in enumerate(faces, start=1):
            cut = self._cut_out(picture, face, faces, crowd)
            if cut.doubt:
                doubts.append(f"person {number}: {cut.doubt}, so only the face was taken")
            instances += _list_instances(cut, face, number, covered)
        return Detections(tuple(instances), "; ".join(doubts))

    def _cut_out(
        self, picture: NDArray[Any], face: DraftFace, faces: Sequence[DraftFace], crowd: str
    ) -> "_Cut":
        """The person of a face; the face alone, and why, where the cut cannot be a person."""
        window = window_of(picture, face.box)
        other_faces = [window.face_of(other.box, face.box) for other in faces if other is not face]
        person = cut_person(window, other_faces)
        doubt = self._doubt(person)
        parts = _draw_face(window) if doubt else _cut_parts(window, person.region)
        doubts = {} if doubt else doubts_of(window, person, parts, picture.shape[1])
        if crowd and doubts.get("body", Doubt(1.0, "")).worth > CROWD:
            doubts["body"] = Doubt(CROWD, crowd)
        return _Cut(window, parts, person.trust, doubt, doubts)

    def _doubt(self, person: PersonEstimate) -> str:
        """Why a cut cannot be a person, empty where it can."""
        if person.agreement < self.agreement:
            return f"three cuts agree by no more than {person.agreement:.0%}"
        if person.contact > self.contact:
            return f"the cut runs into {person.contact:.0%} of the rim of where a person can be"
        if person.kept < self.kept:
            return f"the cut left {person.kept:.0%} of where a body is likely"
        if person.edged < self.edged:
            return f"only {person.edged:.0%} of the outline follows an edge"
        return ""


@dataclass(frozen=True, slots=True)
class _Cut:
    """The regions of a person in the window around the face, and what speaks against them."""

    window: CropWindow
    parts: dict[str, NDArray[np.bool_]]
    trust: float  # in the cut as a whole, in [0, 1]
    doubt: str  # why it cannot be a person; then only the face is taken
    doubts: Mapping[str, Doubt]  # about single regions


def _list_instances(
    cut: _Cut, face: DraftFace, number: int, covered: NDArray[np.bool_]
) -> Iterator[Instance]:
    """The regions of a person in their picture, less what is `covered`, which grows by them."""
    high, wide = covered.shape
    visible = ~covered  # who has the larger face is nearer, and in front
    for region, part in cut.parts.items():
        mask = cut.window.place(part, high, wide) * visible
        if mask.max() < HALF:
            continue
        is_face = region == "face"
        score = face.score * (1.0 if is_face and not cut.doubt else cut.trust)
        doubt = _find_doubt(cut.doubts, region, cut.parts)
        covered |= mask >= HALF
        yield Instance(
            region,
            torch.from_numpy(mask),
            max(min(score, doubt.worth), LEAST),
            _make_box(face, high, wide) if is_face else None,
            number,
            why=doubt.message if doubt.worth < score else "",
        )


def _make_box(face: DraftFace, height: int, width: int) -> Box:
    box = face.box
    scored = Box(box.left, box.top, box.right, box.bottom, score=face.score, phrase="face")
    return scored.within(height, width) or scored


def _cut_parts(window: CropWindow, person: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    face = cut_face(window, person)
    hair = cut_hair(window, person, face)
    return {"face": face, "hair": hair, "body": person & ~face & ~hair}


def _find_doubt(doubts: Mapping[str, Doubt], region: str, parts: Mapping[str, Any]) -> Doubt:
    """What speaks against a region; a face also bears what is said of regions that are empty."""
    of = [
        doubt
        for name, doubt in doubts.items()
        if name == region or (region == "face" and not _has_pixels(parts, name))
    ]
    return min(of, key=lambda doubt: doubt.worth, default=Doubt(1.0, ""))


def _has_pixels(parts: Mapping[str, Any], region: str) -> bool:
    return region in parts and bool(parts[region].any())


def _describe_crowd(faces: Sequence[DraftFace], perhaps: Sequence[DraftFace]) -> str:
    """What is to be said where several people are in a picture, some of them perhaps left out."""
    largest = faces[0].side
    missed = sum(face.side > NOTED * largest for face in perhaps) - len(faces)
    if missed > 0:
        return f"{missed} more faces may have been left out"
    if len(faces) > 1:
        return f"{len(faces)} people are in it: others may be left out, or run into one another"
    return ""


def _draw_face(window: CropWindow) -> dict[str, NDArray[np.bool_]]:
    """An ellipse in the face box, where most faces are."""
    return {"face": window.ellipse(0.09, 0.47, 0.56)}


def load(_source: ModelSource) -> Draft:
    """Ready at once: OpenCV brings the cascades, no source is read."""
    return Draft()


BACKEND = Backend(
    summary="face, hair and body of people who face the camera, by OpenCV; no download, a draft",
    roles=frozenset({"drafter", "faces", "pointer"}),
    licence=Licence(code="Apache-2.0", weights="cascades of OpenCV: Intel licence (BSD-like)"),
    load=load,
    regions=Draft.regions,
    version=2,
    thresholds={
        "vote": VOTE,
        "agreement": AGREEMENT,
        "contact": CONTACT,
        "kept": PLACE_KEPT,
        "edged": EDGED,
    },
)
