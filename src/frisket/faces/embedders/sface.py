"""OpenCV's SFace (arXiv:2205.12010) from one ONNX file: free for any use; goes with YuNet."""

from typing import Any

import cv2
import numpy as np
import torch

from frisket.disk.untrusted import cut
from frisket.faces.base import (
    SIDE,
    AlignedFaces,
    EmbedderNotFound,
    EmbedderPlugin,
    EmbedderUnusable,
    RawEmbeddings,
)
from frisket.faces.sessions import locate_model
from frisket.licence import Licence

NAMES = (
    *("face_recognition_sface_2021dec.onnx", "face_recognition_sface_2021dec_int8.onnx"),
    "face_recognition_sface_2021dec_int8bq.onnx",
)
PUBLISHED = (
    f"OpenCV's model zoo (github.com/opencv/opencv_zoo, models/face_recognition_sface): {NAMES[0]}"
)
LICENCE = Licence(
    code="Apache-2.0 (Frisket's own and OpenCV's)",
    weights="Apache-2.0",
    warning=(
        "face embeddings are biometric data: ask the people in the pictures where your law wants"
        " it."
    ),
)


class SFaceEmbedder:
    """SFace through OpenCV's network reader, on the CPU; 128 numbers a face.

    As cv2.FaceRecognizerSF.feature, but that pixels are not rounded to whole levels first.
    """

    name = "sface"
    licence = LICENCE
    trainable_through = False

    def __init__(self, network: Any, width: int) -> None:
        self.network, self.width = network, width

    def embed(self, aligned: AlignedFaces) -> RawEmbeddings:
        """Raw embeddings on the CPU; the file itself subtracts and divides."""
        levels = ((aligned.detach().float().cpu() + 1) * 127.5).numpy()
        rows = [_run_network(self.network, face[None]) for face in levels]
        return torch.from_numpy(np.concatenate([np.zeros((0, self.width), np.float32), *rows]))


def _run_network(network: Any, blob: np.ndarray[Any, np.dtype[np.float32]]) -> Any:
    network.setInput(blob)
    return network.forward().reshape(1, -1).copy()  # what forward gives is written over


def load(source: str, device: str) -> SFaceEmbedder:  # noqa: ARG001 - cv2's build runs on the CPU
    """The .onnx file, or a folder that holds one of NAMES.

    Raises FaceModelNotFound where there is none or it is damaged, EmbedderUnusable where it is
    another network.
    """
    file = locate_model(source, NAMES, PUBLISHED, "the embedder sface")
    try:
        network = cv2.dnn.readNetFromONNX(str(file))
        outputs = network.getUnconnectedOutLayersNames()
        row = _run_network(network, np.zeros((1, 3, SIDE, SIDE), np.float32))
    except cv2.error as error:
        reason = cut(" ".join(str(error).split()), 120)
        raise EmbedderNotFound(
            f"{file} is damaged or nothing that OpenCV {cv2.__version__} reads ({reason});"
            f" give {PUBLISHED}"
        ) from error
    if len(outputs) != 1:
        raise EmbedderUnusable(
            f"{file} has {len(outputs)} outputs, and a face recogniser one; give {PUBLISHED}"
        )
    return SFaceEmbedder(network, row.shape[1])


EMBEDDER = EmbedderPlugin(
    summary="OpenCV's SFace: 128 numbers a face, free for any use; goes with the detector yunet",
    licence=LICENCE,
    load=load,
    commercial=True,
    trainable_through=False,
    files=f"a folder with {NAMES[0]}, or such a file",
    published=PUBLISHED,
    names=NAMES,
    detector="yunet",
)
