"""Faces, keypoints and embeddings from an InsightFace model pack, read with onnxruntime alone."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from frisket.faces.align import fit_similarity
from frisket.faces.base import SIDE, FaceModelNotFound, FaceModelUnusable
from frisket.faces.scrfd import (
    OVERLAP,
    SCORE,
    ScrfdFace,
    ScrfdNetwork,
    normalise_levels,
    open_scrfd,
)
from frisket.faces.sessions import (
    DEFAULT_PACK,
    PACK_DETECTORS,
    PACK_LICENCE,
    PACK_RECOGNISERS,
    find_in_folder,
    import_runtime,
    open_session,
    run_session,
)
from frisket.maskgen.base import (
    Backend,
    BackendUnusable,
    Box,
    Face,
    MaskWeightsNotFound,
    ModelSource,
)

log = logging.getLogger(__name__)

READER = "insightface"


class InsightFace:
    """SCRFD (arXiv:2105.04714) finds faces; an ArcFace (arXiv:1801.07698) network embeds them."""

    def __init__(self, detector: ScrfdNetwork, recogniser: Any = None) -> None:
        self.detector, self.recogniser = detector, recogniser
        self.score, self.overlap = SCORE, OVERLAP

    def faces(self, pictures: Sequence[UInt8[Tensor, "_ _ 3"]]) -> list[list[Face]]:
        """Faces of each picture, largest first; scores are the detector's, at least `score`."""
        return [self._find_faces(np.ascontiguousarray(picture.numpy())) for picture in pictures]

    def _find_faces(self, picture: NDArray[np.uint8]) -> list[Face]:
        candidates = self.detector.find(picture, self.score, self.overlap)
        faces = [self._describe_face(picture, candidate) for candidate in candidates]
        return sorted(faces, key=lambda face: -face.box.area)

    def _describe_face(self, picture: NDArray[np.uint8], candidate: ScrfdFace) -> Face:
        whole_box = Box(*candidate.edges, score=candidate.score)
        box = whole_box.within(*picture.shape[:2]) or whole_box
        if candidate.points is None:
            return Face(box)
        embedding = None
        if self.recogniser is not None:
            face = normalise_levels(align_face(picture, candidate.points), 127.5)
            embedding = torch.from_numpy(run_session(self.recogniser, face)[0].flatten())
            embedding = embedding / embedding.norm().clamp(min=1e-12)
        return Face(box, torch.from_numpy(candidate.points), embedding)


def align_face(picture: NDArray[np.uint8], keypoints: NDArray[np.float32]) -> NDArray[np.uint8]:
    """112 x 112 pixels: the picture turned, scaled and moved so that its keypoints fit."""
    points = torch.from_numpy(np.asarray(keypoints, np.float64))
    matrix = fit_similarity(points[None])[0].numpy()
    return np.asarray(cv2.warpAffine(picture, matrix, (SIDE, SIDE)), np.uint8)


def load(source: ModelSource) -> InsightFace:
    """A folder with a detector and, for embeddings, a recogniser; nothing is downloaded."""
    try:
        import_runtime(READER)
        return _open_pack(Path(source.path or DEFAULT_PACK).expanduser(), source.device)
    except FaceModelNotFound as error:
        raise MaskWeightsNotFound(str(error)) from error
    except FaceModelUnusable as error:
        raise BackendUnusable(str(error)) from error


def _open_pack(folder: Path, device: str) -> InsightFace:
    detector = find_in_folder(folder, PACK_DETECTORS)
    if detector is None:
        raise FaceModelNotFound(
            f"{folder} holds no face detector; looked for {', '.join(PACK_DETECTORS)} and, for"
            f" embeddings, {', '.join(PACK_RECOGNISERS)}. Unpack a pack of InsightFace such as"
            " buffalo_l.zip (github.com/deepinsight/insightface, release v0.7) and give its folder"
        )
    recogniser = find_in_folder(folder, PACK_RECOGNISERS)
    if recogniser is None:
        log.warning(
            "%s holds no %s: faces are found, but nobody is told apart by a reference picture",
            folder,
            ", ".join(PACK_RECOGNISERS),
        )
    network = open_scrfd(detector, device, READER)
    return InsightFace(network, recogniser and open_session(recogniser, device, READER))


BACKEND = Backend(
    summary="faces with keypoints and embeddings, from an InsightFace model pack",
    roles=frozenset({"faces"}),
    licence=PACK_LICENCE,
    load=load,
    weights=True,
    extra="insightface",
    thresholds={"score": SCORE, "overlap": OVERLAP},
)
