"""How faces in clips are read: as FaceID, InstantID and UniID want them, one largest a region."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from frisket.adapters.image.face_maps import ReferenceSizes
from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.data.cached.index import Index
from frisket.data.faces.keypoints import FacePoints
from frisket.faces.base import SIDE, Embedder
from frisket.faces.choose import LEAST_FACE
from frisket.faces.detect import (
    DetectedFace,
    FaceBox,
    FaceDetector,
    describe_faces,
    find_faces,
)
from frisket.faces.opening import open_detector, open_embedder
from frisket.inference.methods.identity.uniid.reading import FaceMapEmbedder
from frisket.registry import UnknownPlugin
from frisket.runs.faces.reading import measure_side
from frisket.runs.image_adapters.cutting import lay_softly

INSIDE = 0.5  # of the region's largest coverage: the middle of a face has that, to be of the region

Frame = UInt8[Tensor, "H W 3"]
RegionPlane = Float[Tensor, "h w"]
NotedFaces = Sequence[FacePoints]  # key points of a file beside the clip, in pixels of the frame


@dataclass(frozen=True, slots=True)
class ClipReference:
    """What a projection reads of a clip, and where the face in it is.

    `keypoints` are (x, y) as shares of the frame's sides, None where nobody asks for them.
    """

    row: Tensor
    keypoints: Float[Tensor, "5 2"] | None = None


@runtime_checkable
class ClipReferenceReader(Protocol):
    """Frames to what a projection reads, on the CPU in float32; networks are loaded when asked.

    `reads_points`: whether it takes key points that lie beside a clip in place of a detector's.
    """

    reads_points: bool

    def record(self, index: Index) -> dict[str, Any]:
        """What changes the answer, for cache keys."""
        ...

    def read(
        self, frame: Frame, plane: RegionPlane | None, noted_faces: NotedFaces | None = None
    ) -> ClipReference | None:
        """What is read of a frame whose region has that coverage; None where nothing is there."""
        ...

    def read_blank(self) -> Tensor:
        """What is read where no picture is shown."""
        ...


def measure_faces(config: Config) -> ReferenceSizes:
    """The shape of what is read of a face.

    ConfigError where a network is not there, or shows no maps though they are read.
    """
    options = config.image_adapter
    open_network(config, "detector")
    embedder: Embedder = open_network(config, "embedder")
    if not options.kind.startswith("uniid"):
        return ReferenceSizes((embedder.width,))
    if not isinstance(embedder, FaceMapEmbedder):
        raise ConfigError(
            f"image_adapter.embedder = {options.embedder!r} shows nothing but embeddings, and"
            f' kind = "{options.kind}" reads the stages of a recognition network: set it to'
            ' "iresnet", with its weights as image_adapter.embedder_source'
        )
    with torch.no_grad(), torch.device("cpu"):
        embeddings, maps = embedder.embed_maps(torch.zeros(1, 3, SIDE, SIDE))
    chosen_maps = maps[-1:] if options.kind == "uniid-text" else maps
    shapes = tuple((plane.shape[1], plane.shape[2], plane.shape[3]) for plane in chosen_maps)
    return ReferenceSizes((embeddings.shape[1],), shapes)


class FaceReferenceReader:
    """The largest face in the region, as its embedder sees it, divided by its length (FaceID)."""

    reads_points = False

    def __init__(self, config: Config) -> None:
        self.config, self.sizes = config, measure_faces(config)
        self._networks: tuple[FaceDetector, Embedder] | None = None

    def load_networks(self) -> tuple[FaceDetector, Embedder]:
        """Detector and embedder, once."""
        if self._networks is None:
            self._networks = (
                open_network(self.config, "detector"),
                open_network(self.config, "embedder"),
            )
        return self._networks

    def record(self, index: Index) -> dict[str, Any]:
        """Both networks by name and weights."""
        options = self.config.image_adapter
        sources = {
            "embedder": (options.embedder, options.embedder_source),
            "detector": (options.detector, options.detector_source),
        }
        return {
            key: [name, None if source is None else index.fingerprint(source)]
            for key, (name, source) in sources.items()
        }

    def read(
        self, frame: Frame, plane: RegionPlane | None, noted_faces: NotedFaces | None = None
    ) -> ClipReference | None:
        """What is read of that face; None where there is none of 20 pixels or more.

        `noted_faces` are the faces of a file beside the clip: with it the detector is not asked.
        """
        detector, embedder = self.load_networks()
        faces = find_faces(detector, frame) if noted_faces is None else _list_noted(noted_faces)
        faces = [face for face in faces if _is_usable(face)]
        soft = torch.ones(frame.shape[:2])
        if plane is not None:
            soft = lay_softly(plane, frame.shape[0], frame.shape[1])
        faces = [face for face in faces if _is_inside(face, soft)]
        if not faces:
            return None
        (face,) = describe_faces(embedder, frame, faces[:1])
        return self.describe(face, embedder, frame)

    def describe(
        self, face: DetectedFace, _embedder: Embedder, _frame: Frame
    ) -> ClipReference | None:
        """The unit embedding; other kinds read more of the frame, or by the network."""
        return None if face.embedding is None else ClipReference(face.embedding)

    def read_blank(self) -> Tensor:
        """Zeros, which are no face."""
        return torch.zeros(self.sizes.row)


class PosedFaceReader(FaceReferenceReader):
    """The raw embedding of that face, with its key points (InstantID)."""

    reads_points = True

    def record(self, index: Index) -> dict[str, Any]:
        """Both networks, and that it is raw."""
        return {**super().record(index), "reads": "raw"}

    def describe(
        self, face: DetectedFace, _embedder: Embedder, frame: Frame
    ) -> ClipReference | None:
        """The embedding as the network answers, and the points as shares of the frame."""
        if face.description is None or face.keypoints is None:
            return None
        sides = torch.tensor([float(frame.shape[1]), float(frame.shape[0])])
        return ClipReference(face.description.raw, (face.keypoints.float() + 0.5) / sides)


class FaceMapReader(FaceReferenceReader):
    """The raw embedding of that face and what the network's stages made of it (UniID)."""

    reads_points = True

    def record(self, index: Index) -> dict[str, Any]:
        """Both networks, and which maps."""
        maps = [list(shape) for shape in self.sizes.maps]
        return {**super().record(index), "reads": maps}

    def describe(
        self, face: DetectedFace, embedder: Embedder, _frame: Frame
    ) -> ClipReference | None:
        """All of it in one row."""
        if face.description is None or face.description.crop is None:
            return None
        assert isinstance(embedder, FaceMapEmbedder)  # refused when measured
        with torch.no_grad():
            embeddings, maps = embedder.embed_maps(face.description.crop[None])
        chosen_maps = maps[-len(self.sizes.maps) :]
        rows = [plane[0].float().cpu() for plane in chosen_maps]
        return ClipReference(self.sizes.pack(embeddings[0].float().cpu(), rows))


def _list_noted(noted_faces: NotedFaces) -> list[DetectedFace]:
    """Faces of a file, the largest first; those too small to tell anybody by are left out."""
    faces = []
    for points in sorted(noted_faces, key=measure_side, reverse=True):
        side = measure_side(points)
        if side >= LEAST_FACE:
            middle, half = points.mean(0).tolist(), side / 2
            left, top = middle[0] - half, middle[1] - half
            faces.append(DetectedFace(FaceBox(left, top, left + side, top + side), points, 1.0))
    return faces


def _is_usable(face: DetectedFace) -> bool:
    width, height = face.box.right - face.box.left, face.box.bottom - face.box.top
    return face.keypoints is not None and min(width, height) >= LEAST_FACE


def _is_inside(face: DetectedFace, soft: Float[Tensor, "H W"]) -> bool:
    across, down = face.box.centre
    place = min(int(down), soft.shape[0] - 1), min(int(across), soft.shape[1] - 1)
    return float(soft[place]) >= INSIDE * float(soft.amax())


def open_network(config: Config, name: str) -> Any:
    """The detector or embedder that is named; ConfigError says what is wrong with its file."""
    options = config.image_adapter
    opener: Any = open_detector if name == "detector" else open_embedder
    source = getattr(options, f"{name}_source")
    try:
        with torch.device("cpu"):  # memory is foretold where all that is made is without content
            return opener(getattr(options, name), "" if source is None else str(source))
    except UnknownPlugin as error:
        raise ConfigError(f"image_adapter.{name}: {error}") from error
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"image_adapter.{name}_source: {error}") from error
