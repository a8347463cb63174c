"""Key points of faces: the files beside clips, and what a clip's geometry makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.disk.untrusted import BadText, parse_json, show
from frisket.media.geometry import Geometry, fits

SUFFIX = ".keypoints.json"
POINTS = 5  # eyes, nose, corners of the mouth, as face detectors of the ArcFace kind give them
MIRRORED = (1, 0, 2, 4, 3)  # the place each takes in a mirrored picture: left stays left as seen
SHARE = 0.5  # of its points that must lie in a region for a face to be that region's

FacePoints = Float[Tensor, "5 2"]  # (x, y) in pixels whose middles are whole numbers


class BadKeypoints(ValueError):
    """A file of key points that cannot be used; the message names it, the value and the fix."""


@dataclass(frozen=True, slots=True)
class KeypointFile:
    """The faces of one clip: by frame of the file, those in it, in a picture of `size` (H, W)."""

    size: tuple[int, int]
    faces: Mapping[int, tuple[FacePoints, ...]]


def find_keypoints(clip: Path) -> Path | None:
    """The file of key points beside a clip (`name.keypoints.json`), where there is one."""
    name = clip.name if clip.is_dir() else clip.stem
    path = clip.with_name(f"{name}{SUFFIX}")
    return path if path.is_file() else None


def read_keypoints(path: Path) -> KeypointFile:
    """Read `{"size": [width, height], "faces": [{"frame": 0, "points": [[x, y], ...]}, ...]}`.

    `frame` counts from 0 and may be left out of a still's; a frame may have several faces. Raises
    BadKeypoints, which names what is wrong and where.
    """
    try:
        tree = parse_json(path.read_bytes())
    except BadText as error:
        raise BadKeypoints(f"{path}: no JSON: {error}") from error
    if not isinstance(tree, dict) or not isinstance(tree.get("faces"), list):
        raise BadKeypoints(
            f'{path}: it should be {{"size": [width, height], "faces": [...]}}; see'
            " docs/identity-loss"
        )
    size: Any = tree.get("size")
    if not _is_size(size):
        raise BadKeypoints(
            f"{path}: size should be [width, height] of the picture in pixels, got {show(size)}"
        )
    faces: dict[int, tuple[FacePoints, ...]] = {}
    for number, face in enumerate(tree["faces"]):
        frame, points = _read_face(path, number, face)
        faces[frame] = (*faces.get(frame, ()), points)
    return KeypointFile((int(size[1]), int(size[0])), faces)


def _is_size(size: Any) -> bool:
    return (
        isinstance(size, list)
        and len(size) == 2
        and all(type(side) is int and 0 < side <= 1 << 20 for side in size)
    )


def _read_face(path: Path, number: int, face: Any) -> tuple[int, FacePoints]:
    """Frame and points of one entry."""
    subject = f"{path}: face {number}"
    if not isinstance(face, dict):
        raise BadKeypoints(f"{subject} should be a table with `points`, got {show(face)}")
    frame = face.get("frame", 0)
    if type(frame) is not int or frame < 0:
        raise BadKeypoints(f"{subject}: frame should be a whole number from 0, got {show(frame)}")
    rows: Any = face.get("points")
    numeric = isinstance(rows, list) and all(
        isinstance(row, list)
        and len(row) == 2
        and all(type(value) in (int, float) and abs(value) < 1 << 24 for value in row)
        for row in rows
    )
    if not numeric or len(rows) != POINTS:
        raise BadKeypoints(
            f"{subject}: points should be {POINTS} pairs [x, y] (left eye, right eye, nose, left"
            f" and right corner of the mouth, as seen), got {show(rows)}"
        )
    return frame, torch.tensor(rows, dtype=torch.float32)


def place_keypoints(
    points: FacePoints, geometry: Geometry, size: tuple[int, int], source: str
) -> FacePoints:
    """Key points of a picture of `size` (H, W) where they lie in the clip as it is trained on.

    Cut, scaled and mirrored as the clip's pixels and masks are; mirrored, left and right change
    places. BadKeypoints, which names `source`, where the size is not the clip's shape.
    """
    if not fits(size, geometry.source):
        height, width = geometry.source
        raise BadKeypoints(
            f"{source}: its size is {size[1]} x {size[0]} (width x height), its clip"
            f" {width} x {height}: another shape; write the key points of the clip as it is now"
        )
    cut_points = geometry.place_points(points.double(), size).float()
    return cut_points[list(MIRRORED)] if geometry.flip else cut_points


def measure_cover(points: FacePoints, plane: Float[Tensor, "H W"]) -> float:
    """The mean of a plane at the five points, in [0, 1]; 0 for a point outside the picture."""
    height, width = plane.shape
    total = 0.0
    for x, y in points.round().long().tolist():
        if 0 <= x < width and 0 <= y < height:
            total += float(plane[y, x])
    return total / POINTS


def pick_face(faces: Sequence[FacePoints], plane: Float[Tensor, "H W"]) -> FacePoints | None:
    """The face that lies in a region: of several the one it covers best; None below a half."""
    covers = [measure_cover(points, plane) for points in faces]
    best = max(range(len(faces)), key=covers.__getitem__, default=None)
    return None if best is None or covers[best] < SHARE else faces[best]
