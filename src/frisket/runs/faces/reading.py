"""Reads whose face a clip shows: the embedder and the detector of a run, on clean frames."""

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.data.cached.index import Index
from frisket.data.faces.keypoints import FacePoints, find_keypoints, read_keypoints
from frisket.faces.align import align_faces, fit_similarity
from frisket.faces.base import SIDE, Embedder
from frisket.faces.choose import LEAST_FACE
from frisket.faces.detect import FaceDetector, find_faces
from frisket.faces.opening import open_detector
from frisket.families.base import Source
from frisket.losses.faces import FaceRequest
from frisket.media.files import ClipFiles, find
from frisket.media.frames import decode
from frisket.runs.faces.asking import request_of
from frisket.runs.faces.models import load_embedder
from frisket.shapes import Picture


class ClipFaces:
    """A `data.faces.reading.ClipFaceReader`: an embedder and, where one is named, a detector.

    Both are loaded when first asked. With `references` the target of every face is one direction,
    that of the mean of the unit embeddings of the pictures in that folder.
    """

    def __init__(self, request: FaceRequest, index: Index, device: str = "cpu") -> None:
        """Name what is read with, for the cache keys; files by their content."""
        self.request, self.device = request, device
        self.region = request.region
        self.detects = bool(request.detector)
        self.record: Mapping[str, Any] = {
            "embedder": request.embedder,
            "source": _hash_source(index, request.source, "embedder_source"),
            "detector": request.detector,
            "detector_source": _hash_source(index, request.detector_source, "detector_source"),
            "references": _hash_source(index, request.references, "references"),
        }
        self._embedder: Embedder | None = None
        self._detector: FaceDetector | None = None
        self._centroid: Tensor | None = None

    def detect(self, picture: Float[Tensor, "3 H W"]) -> Sequence[FacePoints]:
        """The faces with key points, the largest first; none without a detector."""
        if not self.detects:
            return ()
        if self._detector is None:
            source = self.request.detector_source
            self._detector = open_detector(self.request.detector, source, self.device)
        frame = picture.permute(1, 2, 0).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        faces = find_faces(self._detector, frame.contiguous())
        return [face.keypoints.float() for face in faces if face.keypoints is not None]

    def embed(self, picture: Float[Tensor, "3 H W"], points: FacePoints) -> Tensor | None:
        """The unit embedding of a face, or of the references; None below 20 pixels a side."""
        if measure_side(points) < LEAST_FACE:
            return None
        if not self.request.references:
            return self._embed(picture, points)
        if self._centroid is None:
            self._centroid = self._read_references(Path(self.request.references).expanduser())
        return self._centroid

    def unload(self) -> None:
        """Let go of both models."""
        if self._embedder is None and self._detector is None:
            return
        self._embedder = self._detector = None
        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    @torch.no_grad()
    def _embed(self, picture: Float[Tensor, "3 H W"], points: FacePoints) -> Tensor:
        if self._embedder is None:
            self._embedder = load_embedder(self.request, self.device)
        aligned = align_faces(picture[None], points[None]).to(self.device)
        return functional.normalize(self._embedder.embed(aligned).float().cpu(), dim=-1)[0]

    def _read_references(self, folder: Path) -> Tensor:
        """The direction of the mean of a person's unit embeddings, d."""
        rows = []
        for clip in find(folder, masks="none", folders={}).clips:
            frame = decode(clip.clip, (0,))
            picture = frame[0].permute(2, 0, 1).float() / 127.5 - 1
            points = self._locate(clip, frame, picture)
            if measure_side(points) < LEAST_FACE:
                raise ConfigError(
                    f"losses.identity.references: the face in {clip.clip} is below {LEAST_FACE}"
                    " pixels a side, where nobody is told apart; take it out of the folder"
                )
            rows.append(self._embed(picture, points))
        return functional.normalize(torch.stack(rows).mean(0), dim=-1)

    def _locate(self, clip: ClipFiles, frame: Picture, picture: Tensor) -> FacePoints:
        """The one face of a reference picture: of the file beside it, else the largest found."""
        path = find_keypoints(clip.clip)
        if path is None:
            faces = list(self.detect(picture))
            source = "the detector finds none" if self.detects else "and no detector is named"
        else:
            noted, source = read_keypoints(path), f"{path} has none of its first frame"
            scale = torch.tensor([frame.shape[2] / noted.size[1], frame.shape[1] / noted.size[0]])
            faces = [(points + 0.5) * scale - 0.5 for points in noted.faces.get(0, ())]
        if not faces:
            raise ConfigError(
                f"losses.identity.references: no face is known in {clip.clip} ({source}); write"
                f" {clip.clip.stem}.keypoints.json, name a detector, or take it out of the folder"
            )
        return max(faces, key=measure_side)


def make_reader(config: Config, source: Source, index: Index) -> ClipFaces | None:
    """What reads the faces of a run's clips; None where no term compares any."""
    request = request_of(config)
    return None if request is None else ClipFaces(request, index, source.device)


def measure_side(points: FacePoints) -> float:
    """About how many pixels a side an aligned face fills in its picture; 0 for points in one."""
    if float((points - points.mean(0)).abs().max()) < 1e-3:
        return 0.0
    turn = fit_similarity(points[None].double())[0, :, :2]
    return float(SIDE / turn.det().abs().sqrt().clamp_min(1e-6))


def _hash_source(index: Index, source: str, option: str) -> str | None:
    """What a file or folder holds; None where none is named. ConfigError where it is not there."""
    if not source:
        return None
    path = Path(source).expanduser()
    if not path.exists():
        raise ConfigError(
            f"losses.identity.{option}: {path} is not there; correct the path, or leave it out"
        )
    return str(index.content(path))
