"""Faces, keypoints and embeddings from an InsightFace model pack, read with onnxruntime alone."""

import logging
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from frisket.maskgen.base import (
    Backend,
    BackendUnusable,
    Box,
    Face,
    Licence,
    MaskWeightsNotFound,
    ModelSource,
)

log = logging.getLogger(__name__)

_Array = NDArray[np.float32]

DEFAULT_FOLDER = "~/.insightface/models/buffalo_l"  # where insightface itself unpacks it
DETECTORS = ("det_10g.onnx", "det_500m.onnx", "det_2.5g.onnx", "scrfd_10g_bnkps.onnx")
RECOGNISERS = ("w600k_r50.onnx", "w600k_mbf.onnx", "glintr100.onnx")

SIDE = 640  # pixels a detector of free size reads
STRIDES = (8, 16, 32, 64, 128)
SCORE, OVERLAP = 0.5, 0.4  # insightface's own defaults

# Eyes, nose and corners of the mouth in the 112 x 112 picture an ArcFace recogniser reads.
ALIGNED = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)


class InsightFace:
    """SCRFD (arXiv:2105.04714) finds faces; an ArcFace (arXiv:1801.07698) network embeds them."""

    def __init__(self, detector: Any, recogniser: Any = None) -> None:
        self.detector, self.recogniser = detector, recogniser
        self.score, self.overlap = SCORE, OVERLAP
        side = detector.get_inputs()[0].shape[-1]
        self.side = side if isinstance(side, int) else SIDE

    def faces(self, pictures: Sequence[UInt8[Tensor, "_ _ 3"]]) -> list[list[Face]]:
        """Faces of each picture, largest first; scores are the detector's, at least `score`."""
        return [self._find_faces(np.ascontiguousarray(picture.numpy())) for picture in pictures]

    def _find_faces(self, picture: NDArray[np.uint8]) -> list[Face]:
        blob, scale = resize_letterbox(picture, self.side)
        candidates = decode_faces(_run(self.detector, blob), self.side, self.score)
        high, wide, _ = picture.shape
        faces: list[Face] = []
        kept_boxes: list[Box] = []
        for edges, score, points in candidates:
            left, top, right, bottom = (edges * np.tile(scale, 2)).tolist()
            full_box = Box(left, top, right, bottom, score)
            box = full_box.within(high, wide)
            if box is None or any(full_box.overlap(other) > self.overlap for other in kept_boxes):
                continue
            keypoints = None if points is None else (points * scale).astype(np.float32)
            faces.append(self._describe_face(picture, box, keypoints))
            kept_boxes.append(full_box)
        return sorted(faces, key=lambda face: -face.box.area)

    def _describe_face(
        self, picture: NDArray[np.uint8], box: Box, keypoints: _Array | None
    ) -> Face:
        if keypoints is None:
            return Face(box)
        embedding = None
        if self.recogniser is not None:
            raw = _run(self.recogniser, normalise(align_face(picture, keypoints), 127.5))[0]
            embedding = torch.from_numpy(raw.flatten())
            embedding = embedding / embedding.norm().clamp(min=1e-12)
        return Face(box, torch.from_numpy(keypoints), embedding)


def resize_letterbox(picture: NDArray[np.uint8], side: int) -> tuple[_Array, _Array]:
    """1 3 side side as SCRFD reads it, and (x, y) that bring its pixels back to the picture's.

    The picture keeps its aspect and lies at the top left; the rest is black.
    """
    high, wide, _ = picture.shape
    share = side / max(high, wide)
    size = max(round(wide * share), 1), max(round(high * share), 1)
    board = np.zeros((side, side, 3), np.uint8)
    board[: size[1], : size[0]] = cv2.resize(picture, size)
    return normalise(board, 128.0), np.array([wide / size[0], high / size[1]], np.float32)


def normalise(rgb: NDArray[np.uint8], deviation: float) -> _Array:
    """1 3 h w: (value - 127.5) / deviation."""
    return ((rgb.astype(np.float32) - 127.5) / deviation).transpose(2, 0, 1)[None]


def decode_faces(
    outputs: Sequence[_Array], side: int, least: float = SCORE
) -> list[tuple[_Array, float, _Array | None]]:
    """SCRFD's outputs as (left, top, right, bottom; score; five points or None), surest first.

    Outputs come by kind (scores n 1, boxes n 4, points n 10), in each by stride. Anchors lie at the
    corners of the cells, row by row, two to a cell; boxes are distances from the anchor to the
    edges, and points are offsets from it, both in strides.
    """
    kinds: dict[int, list[_Array]] = {1: [], 4: [], 10: []}
    for output in outputs:
        kinds[output.shape[-1]].append(output.reshape(-1, output.shape[-1]))
    faces: list[tuple[_Array, float, _Array | None]] = []
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


def align_face(picture: NDArray[np.uint8], keypoints: _Array) -> NDArray[np.uint8]:
    """112 x 112 pixels: the picture turned, scaled and moved so that its keypoints fit ALIGNED.

    The least-squares similarity, which is Umeyama's (1991) wherever that does not mirror.
    """
    x, y = keypoints.astype(np.float64).T
    ones, zeros = np.ones(5), np.zeros(5)
    rows = np.concatenate(
        [np.stack([x, -y, ones, zeros], 1), np.stack([y, x, zeros, ones], 1)]
    )  # (a, b, tx, ty): x' = a x - b y + tx, y' = b x + a y + ty
    a, b, right, down = np.linalg.lstsq(rows, ALIGNED.T.flatten(), rcond=None)[0]
    matrix = np.array([[a, -b, right], [b, a, down]])
    return np.asarray(cv2.warpAffine(picture, matrix, (112, 112)), np.uint8)


def _run(session: Any, blob: _Array) -> list[_Array]:
    answers: list[_Array] = session.run(None, {session.get_inputs()[0].name: blob})
    return answers


def load(source: ModelSource) -> InsightFace:
    """A folder with a detector and, for embeddings, a recogniser; nothing is downloaded."""
    try:
        runtime = import_module("onnxruntime")
    except ImportError as error:
        raise BackendUnusable(
            "insightface needs onnxruntime: pip install 'frisket[insightface]'"
        ) from error
    folder = Path(source.path or DEFAULT_FOLDER).expanduser()
    detector = _find_file(folder, DETECTORS)
    if detector is None:
        raise MaskWeightsNotFound(
            f"{folder} holds no face detector; looked for {', '.join(DETECTORS)} and, for"
            f" embeddings, {', '.join(RECOGNISERS)}. Unpack a pack of InsightFace such as"
            " buffalo_l.zip (github.com/deepinsight/insightface, release v0.7) and give its folder"
        )
    recogniser = _find_file(folder, RECOGNISERS)
    if recogniser is None:
        log.warning(
            "%s holds no %s: faces are found, but nobody is told apart by a reference picture",
            folder,
            ", ".join(RECOGNISERS),
        )
    session = _open_session(runtime, detector, source.device)
    outputs = len(session.get_outputs())
    if outputs not in {6, 9, 10, 15}:
        raise MaskWeightsNotFound(
            f"{detector} has {outputs} outputs: it is not an SCRFD face detector"
        )
    return InsightFace(session, recogniser and _open_session(runtime, recogniser, source.device))


def _find_file(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _open_session(runtime: Any, file: Path, device: str) -> Any:
    providers = ["CPUExecutionProvider"]
    if device.startswith("cuda"):
        if "CUDAExecutionProvider" in runtime.get_available_providers():
            providers.insert(0, "CUDAExecutionProvider")
        else:
            log.warning(
                "this onnxruntime has no CUDA, so faces are found on the CPU;"
                " for the GPU, pip install onnxruntime-gpu in its place"
            )
    try:
        return runtime.InferenceSession(str(file), providers=providers)
    except _list_damages(runtime) as error:
        raise MaskWeightsNotFound(f"{file} is damaged or not an ONNX model: {error}") from error


def _list_damages(runtime: Any) -> tuple[type[Exception], ...]:
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented")
    return tuple(getattr(runtime.capi.onnxruntime_pybind11_state, name) for name in names)


BACKEND = Backend(
    summary="faces with keypoints and embeddings, from an InsightFace model pack",
    roles=frozenset({"faces"}),
    licence=Licence(
        code="Apache-2.0 (Frisket's own; onnxruntime is MIT)",
        weights="InsightFace model packs: non-commercial research only",
        warning=(
            "InsightFace's models are for non-commercial research only, and face embeddings are"
            " biometric data: ask the people in the pictures where your law wants it."
        ),
    ),
    load=load,
    weights=True,
    extra="insightface",
    thresholds={"score": SCORE, "overlap": OVERLAP},
)
