"""SCRFD of an InsightFace pack through onnxruntime: faces with key points."""

import numpy as np
import torch

from frisket.faces.detect import DetectedFace, DetectorPlugin, FaceBox, FaceFrame
from frisket.faces.scrfd import OVERLAP, SCORE, SIDE, ScrfdNetwork, open_scrfd
from frisket.faces.sessions import (
    DEFAULT_PACK,
    PACK_DETECTORS,
    PACK_LICENCE,
    PUBLISHED,
    import_runtime,
    locate_model,
)

READER = "the detector scrfd"


class ScrfdDetector:
    """A detector of a pack; a picture without a face is read again at half the size.

    Faces that fill a picture are missed at 640 pixels (known of insightface); that second look is
    possible with networks of free size, which those of the public packs are.
    """

    name = "scrfd"
    licence = PACK_LICENCE

    def __init__(self, network: ScrfdNetwork) -> None:
        self.network = network

    def detect(self, frame: FaceFrame) -> list[DetectedFace]:
        """Faces of a score of at least 0.5, each once."""
        picture = np.ascontiguousarray(frame.cpu().numpy())
        faces = self.network.find(picture, SCORE, OVERLAP)
        if not faces and self.network.free:
            faces = self.network.find(picture, SCORE, OVERLAP, SIDE // 2)
        return [
            DetectedFace(
                FaceBox(*face.edges),
                None if face.points is None else torch.from_numpy(face.points),
                face.score,
            )
            for face in faces
        ]


def load(source: str, device: str) -> ScrfdDetector:
    """A pack's folder or its detector; without a source, where insightface unpacks buffalo_l."""
    import_runtime(READER)
    file = locate_model(source or DEFAULT_PACK, PACK_DETECTORS, PUBLISHED, READER)
    return ScrfdDetector(open_scrfd(file, device, READER))


DETECTOR = DetectorPlugin(
    summary="SCRFD of an InsightFace pack: faces with key points; non-commercial",
    licence=PACK_LICENCE,
    load=load,
    commercial=False,
    files=f"a folder with one of {', '.join(PACK_DETECTORS)}, or such a file",
    published=PUBLISHED,
    names=PACK_DETECTORS,
)
