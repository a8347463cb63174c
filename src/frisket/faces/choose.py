"""Which of the faces in a picture is meant, and sentences for where none is."""

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from frisket.faces.base import check_width

LEAST_FACE = 20  # pixels a side: below it an embedding says little


class FaceNotUsable(ValueError):
    """A picture without a usable face; the message names file, what is wrong and the fix."""


@runtime_checkable
class FaceEdges(Protocol):
    """The rectangle around a face, in pixels."""

    @property
    def left(self) -> float:
        """From the left of the picture."""
        ...

    @property
    def top(self) -> float:
        """Of its upper edge, from the picture's top."""
        ...

    @property
    def right(self) -> float:
        """Of its right edge, from the left of the picture."""
        ...

    @property
    def bottom(self) -> float:
        """Of its lower edge, from the picture's top."""
        ...


@runtime_checkable
class FaceCandidate(Protocol):
    """A face as the detectors of frisket.maskgen give it; the embedding is of unit length."""

    @property
    def box(self) -> FaceEdges:
        """The rectangle around it, in pixels of the picture."""
        ...

    @property
    def keypoints(self) -> Tensor | None:
        """Five points (x, y) in pixels, None where the detector gives none."""
        ...

    @property
    def embedding(self) -> Tensor | None:
        """None where there is no recogniser."""
        ...


_Candidate = TypeVar("_Candidate", bound=FaceCandidate)


def choose_face(
    faces: Sequence[_Candidate],
    source: str,
    like: Float[Tensor, " d"] | None = None,
    option: str = "--like",
) -> tuple[_Candidate, str]:
    """The face that is meant, and a sentence where others were passed over (else empty).

    The largest, or with `like` (an embedding of unit length, given by `option`; "" where there is
    no such option) the one of the highest cosine to it. `source` names the picture. Raises
    FaceNotUsable where there is no face, where the chosen one is below 20 pixels a side or has no
    key points, and EmbeddingMixup where `like` is of another width than the recogniser's.
    """
    if not faces:
        raise FaceNotUsable(
            f"{source} shows no face that the detector finds; give a picture in which the face is"
            " larger, upright and uncovered"
        )
    face = _find_likest(faces, like, source, option) if like is not None else _find_largest(faces)
    smaller = min(measure_face(face))
    if smaller < LEAST_FACE:
        width, height = measure_face(face)
        raise FaceNotUsable(
            f"{source}: its face is {width:.0f} x {height:.0f} pixels, and below {LEAST_FACE}"
            " nobody is told apart; give a larger picture of it, or a closer one"
        )
    if face.keypoints is None:
        raise FaceNotUsable(
            f"{source}: the detector gives no key points (eyes, nose, mouth), which faces are"
            " aligned by; take a pack whose detector has them (det_10g.onnx of buffalo_l has)"
        )
    if len(faces) == 1:
        return face, ""
    reason = f"the one most like {option}" if like is not None else "the largest"
    suggestion = f"; to choose another, give a picture of that person by {option}"
    hint = suggestion if like is None and option else ""
    box = face.box
    place = f"at ({(box.left + box.right) / 2:.0f}, {(box.top + box.bottom) / 2:.0f})"
    return face, f"{source} shows {len(faces)} faces: {reason} is taken, {place}{hint}"


def measure_face(face: FaceCandidate) -> tuple[float, float]:
    """Width and height of its box, in pixels."""
    return face.box.right - face.box.left, face.box.bottom - face.box.top


def _find_largest(faces: Sequence[_Candidate]) -> _Candidate:
    return max(faces, key=lambda face: measure_face(face)[0] * measure_face(face)[1])


def _find_likest(
    faces: Sequence[_Candidate], like: Float[Tensor, " d"], source: str, option: str
) -> _Candidate:
    embeddings = [face.embedding for face in faces]
    rows = [embedding for embedding in embeddings if embedding is not None]
    if len(rows) < len(faces):
        raise FaceNotUsable(
            f"{source}: its faces have no embeddings, so none can be compared with {option}; give a"
            " folder with a recogniser, or a picture that shows one face"
        )
    check_width(like.shape[-1], rows[0].shape[-1], option, f"the recogniser used on {source}")
    cosines = functional.cosine_similarity(torch.stack(rows).float(), like.float()[None])
    return faces[int(cosines.argmax())]
