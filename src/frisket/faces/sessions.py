"""ONNX files opened with onnxruntime, and how InsightFace's model packs are laid out."""

import logging
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frisket.faces.base import FaceModelNotFound, FaceModelUnusable
from frisket.licence import Licence

log = logging.getLogger(__name__)

Blob = NDArray[np.float32]

DEFAULT_PACK = "~/.insightface/models/buffalo_l"  # where insightface itself unpacks it
PACK_DETECTORS = ("det_10g.onnx", "det_500m.onnx", "det_2.5g.onnx", "scrfd_10g_bnkps.onnx")
PACK_RECOGNISERS = ("w600k_r50.onnx", "w600k_mbf.onnx", "glintr100.onnx")
PUBLISHED = (
    "a pack of InsightFace such as buffalo_l.zip or antelopev2.zip"
    " (github.com/deepinsight/insightface, release v0.7)"
)
PACK_LICENCE = Licence(
    code="Apache-2.0 (Frisket's own; onnxruntime is MIT)",
    weights="InsightFace model packs: non-commercial research only",
    warning=(
        "InsightFace's models are for non-commercial research only, and face embeddings are"
        " biometric data: ask the people in the pictures where your law wants it."
    ),
)


def import_runtime(reader: str) -> Any:
    """The module onnxruntime; FaceModelUnusable names the extra that brings it to `reader`."""
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise FaceModelUnusable(
            f"{reader} needs onnxruntime: pip install 'frisket[insightface]'"
        ) from error


def open_session(file: Path, device: str, reader: str) -> Any:
    """A session on the device, or on the CPU with a warning where onnxruntime has no CUDA.

    Raises FaceModelNotFound where the file is damaged or no ONNX, and as import_runtime.
    """
    runtime = import_runtime(reader)
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
        raise FaceModelNotFound(f"{file} is damaged or not an ONNX model: {error}") from error


def run_session(session: Any, blob: Blob) -> list[Blob]:
    """All outputs for the one input."""
    answers: list[Blob] = session.run(None, {session.get_inputs()[0].name: blob})
    return answers


def find_in_folder(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of the names that is there."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def locate_model(source: str, names: Sequence[str], published: str, reader: str) -> Path:
    """The file a source names: itself, or the first of `names` in it; FaceModelNotFound else."""
    if not source:
        raise FaceModelNotFound(f"{reader} brings no weights: give {published}")
    place = Path(source).expanduser()
    if place.is_file():
        return place
    file = find_in_folder(place, names)
    if file is None:
        fault = f"holds none of {', '.join(names)}" if place.is_dir() else "does not exist"
        raise FaceModelNotFound(f"{place} {fault}; give {published}")
    return file


def _list_damages(runtime: Any) -> tuple[type[Exception], ...]:
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented")
    return tuple(getattr(runtime.capi.onnxruntime_pybind11_state, name) for name in names)
