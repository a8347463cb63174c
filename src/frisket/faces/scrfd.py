"""SCRFD (arXiv:2105.04714), the detector of InsightFace's packs: its input and its outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from frisket.faces.base import FaceModelNotFound
from frisket.faces.sessions import Blob, open_session, run_session

SIDE = 640  # pixels a detector of free size reads
STRIDES = (8, 16, 32, 64, 128)
SCORE, OVERLAP = 0.5, 0.4  # insightface's own defaults
OUTPUTS = frozenset({6, 9, 10, 15})  # of 3 or 5 strides, without or with points


@dataclass(frozen=True, slots=True)
class ScrfdFace:
    """A face in the pixels of its picture; `edges` (left, top, right, bottom) may lie outside."""

    edges: tuple[float, float, float, float]
    score: float
    points: NDArray[np.float32] | None  # 5 2


class ScrfdNetwork:
    """An open detector; `side` is the square it reads."""

    def __init__(self, session: Any) -> None:
        self.session = session
        side = session.get_inputs()[0].shape[-1]
        self.side, self.free = (side, False) if isinstance(side, int) else (SIDE, True)

    def find(
        self, picture: NDArray[np.uint8], score: float, overlap: float, side: int = 0
    ) -> list[ScrfdFace]:
        """Faces of an RGB picture (H W 3), surest first; of those that overlap more, the surest.

        `side` is what the picture is read at where the network is `free`. Faces of which less than
        one square pixel lies in the picture are left out.
        """
        side = side if self.free and side else self.side
        blob, scale = resize_letterbox(picture, side)
        kept_faces: list[ScrfdFace] = []
        for edges, face_score, points in decode_faces(run_session(self.session, blob), side, score):
            left, top, right, bottom = (edges * np.tile(scale, 2)).tolist()
            keypoints = None if points is None else (points * scale).astype(np.float32)
            face = ScrfdFace((left, top, right, bottom), face_score, keypoints)
            is_twice = any(
                measure_overlap(face.edges, other.edges) > overlap for other in kept_faces
            )
            if _is_inside(face.edges, *picture.shape[:2]) and not is_twice:
                kept_faces.append(face)
        return kept_faces


def open_scrfd(file: Path, device: str, reader: str) -> ScrfdNetwork:
    """Raises FaceModelNotFound where the file is damaged or no SCRFD, and as open_session."""
    session = open_session(file, device, reader)
    outputs = len(session.get_outputs())
    if outputs not in OUTPUTS:
        raise FaceModelNotFound(f"{file} has {outputs} outputs: it is not an SCRFD face detector")
    return ScrfdNetwork(session)


def resize_letterbox(picture: NDArray[np.uint8], side: int) -> tuple[Blob, Blob]:
    """1 3 side side as SCRFD reads it, and (x, y) that bring its pixels back to the picture's.

    The picture keeps its aspect and lies at the top left; the rest is black.
    """
    high, wide, _ = picture.shape
    share = side / max(high, wide)
    size = max(round(wide * share), 1), max(round(high * share), 1)
    board = np.zeros((side, side, 3), np.uint8)
    board[: size[1], : size[0]] = cv2.resize(picture, size)
    return normalise_levels(board, 128.0), np.array([wide / size[0], high / size[1]], np.float32)


def normalise_levels(rgb: NDArray[np.uint8], deviation: float) -> Blob:
    """1 3 h w: (value - 127.5) / deviation."""
    return ((rgb.astype(np.float32) - 127.5) / deviation).transpose(2, 0, 1)[None]


def decode_faces(
    outputs: Sequence[Blob], side: int, least: float = SCORE
) -> list[tuple[Blob, float, Blob | None]]:
    """SCRFD's outputs as (left, top, right, bottom; score; five points or None), surest first.

    Outputs come by kind (scores n 1, boxes n 4, points n 10), in each by stride. Anchors lie at the
    corners of the cells, row by row, two to a cell; boxes are distances from the anchor to the
    edges, and points are offsets from it, both in strides.
    """
    kinds: dict[int, list[Blob]] = {1: [], 4: [], 10: []}
    for output in outputs:
        kinds[output.shape[-1]].append(output.reshape(-1, output.shape[-1]))
    faces: list[tuple[Blob, float, Blob | None]] = []
    for level, (scores, edges) in enumerate(zip(kinds[1], kinds[4], strict=True)):
        stride = STRIDES[level]
        across = side // stride
        for row in np.flatnonzero(scores >= least):
            cell = row // (len(scores) // across**2)
            anchor = np.array([cell % across, cell // across], np.float32) * stride
            reach = edges[row].reshape(2, 2) * stride * np.array([[-1], [1]], np.float32)
            points = kinds[10][level][row].reshape(5, 2) * stride + anchor if kinds[10] else None
            faces.append(((anchor + reach).flatten(), float(scores[row, 0]), points))
    return sorted(faces, key=lambda face: -face[1])


def measure_overlap(edges: Sequence[float], other_edges: Sequence[float]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom), 0 to 1."""
    wide = min(edges[2], other_edges[2]) - max(edges[0], other_edges[0])
    high = min(edges[3], other_edges[3]) - max(edges[1], other_edges[1])
    shared = max(wide, 0.0) * max(high, 0.0)
    union = _measure_area(edges) + _measure_area(other_edges) - shared
    return shared / union if union > 0 else 0.0


def _measure_area(edges: Sequence[float]) -> float:
    return max(edges[2] - edges[0], 0.0) * max(edges[3] - edges[1], 0.0)


def _is_inside(edges: Sequence[float], height: int, width: int) -> bool:
    left, right = sorted((edges[0], edges[2]))
    top, bottom = sorted((edges[1], edges[3]))
    wide, high = min(right, width) - max(left, 0.0), min(bottom, height) - max(top, 0.0)
    return wide > 0 and high > 0 and wide * high >= 1
