"""OpenCV's YuNet: boxes and five points from one small ONNX file; free for any use."""

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from frisket.disk.untrusted import cut
from frisket.faces.base import FaceModelNotFound
from frisket.faces.detect import DetectedFace, DetectorPlugin, FaceBox, FaceFrame
from frisket.faces.sessions import locate_model
from frisket.licence import Licence

NAMES = (
    *("face_detection_yunet_2023mar.onnx", "face_detection_yunet_2023mar_int8.onnx"),
    "face_detection_yunet_2023mar_int8bq.onnx",
)
PUBLISHED = (
    f"OpenCV's model zoo (github.com/opencv/opencv_zoo, models/face_detection_yunet): {NAMES[0]}"
)
LICENCE = Licence(code="Apache-2.0 (Frisket's own and OpenCV's)", weights="MIT")
SCORE, OVERLAP, MOST = 0.6, 0.3, 5000  # as the zoo's own class has them
# Longer sides of what it reads. It was trained on faces of up to 300 pixels, so a picture without
# any is looked at again, smaller: a face may fill it.
SIDES = (640, 320)


class YuNet:
    """YuNet (Wu et al. 2023) through cv2.FaceDetectorYN, which decodes and suppresses."""

    name = "yunet"
    licence = LICENCE

    def __init__(self, network: Any) -> None:
        self.network = network

    def detect(self, frame: FaceFrame) -> list[DetectedFace]:
        """Faces of a score of at least SCORE, on the CPU."""
        picture = np.ascontiguousarray(frame.cpu().numpy()[..., ::-1])  # OpenCV's order
        longer = max(picture.shape[:2])
        for side in sorted({min(side, longer) for side in SIDES}, reverse=True):
            faces = self._detect_at(picture, side / longer)
            if faces:
                return faces
        return []

    def _detect_at(self, picture: NDArray[np.uint8], share: float) -> list[DetectedFace]:
        high, wide = picture.shape[:2]
        size = max(round(wide * share), 1), max(round(high * share), 1)
        self.network.setInputSize(size)
        _, rows = self.network.detect(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        scale = np.array([wide / size[0], high / size[1]])
        return [_read_row(row, scale) for row in (() if rows is None else rows)]


def _read_row(row: NDArray[np.float32], scale: NDArray[np.float64]) -> DetectedFace:
    """A row of cv2: left, top, width, height, five points from left to right, score."""
    left, top, wide, high = (row[:4] * np.tile(scale, 2)).tolist()
    points = torch.from_numpy((row[4:14].reshape(5, 2) * scale).astype(np.float32))
    score = min(max(float(row[14]), 0.0), 1.0)
    return DetectedFace(FaceBox(left, top, left + wide, top + high), points, score)


def load(source: str, device: str) -> YuNet:  # noqa: ARG001 - cv2's build runs on the CPU
    """The .onnx file, or a folder that holds one of NAMES; FaceModelNotFound names what lacks."""
    file = locate_model(source, NAMES, PUBLISHED, "the detector yunet")
    try:
        network = cv2.FaceDetectorYN.create(str(file), "", (32, 32), SCORE, OVERLAP, MOST)
        network.detect(
            np.zeros((32, 32, 3), np.uint8)
        )  # earlier files load, and have other outputs
    except cv2.error as error:
        reason = cut(" ".join(str(error).split()), 120)
        raise FaceModelNotFound(
            f"{file} is damaged or no YuNet that OpenCV {cv2.__version__} reads ({reason});"
            f" give {PUBLISHED}"
        ) from error
    return YuNet(network)


DETECTOR = DetectorPlugin(
    summary="OpenCV's YuNet: faces with key points, free for any use; goes with sface",
    licence=LICENCE,
    load=load,
    commercial=True,
    files=f"a folder with {NAMES[0]}, or such a file",
    published=PUBLISHED,
    names=NAMES,
)
