"""How a reference is read: a region through an image encoder, or the face in it by an embedder."""

import logging
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from frisket.adapters.image.encoder_sizes import (
    ImageEncoderNotUsable,
    ImageEncoderSizes,
    read_encoder_sizes,
)
from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.data.cached.index import Index
from frisket.faces.base import EMBEDDERS, Embedder
from frisket.faces.choose import LEAST_FACE
from frisket.faces.detect import DETECTORS, DetectedFace, FaceDetector, describe_faces, find_faces
from frisket.inference.methods.identity.vision_encoder import VisionEncoder, load_vision_encoder
from frisket.registry import Shelf, UnknownPlugin
from frisket.runs.image_adapters.cutting import cut_out, lay_softly

log = logging.getLogger(__name__)
INSIDE = 0.5  # of the region's largest coverage: the middle of a face has that, to be of the region

Frame = UInt8[Tensor, "H W 3"]
RegionPlane = Float[Tensor, "h w"]


@runtime_checkable
class ClipReferenceReader(Protocol):
    """Frames to what a projection reads, on the CPU in float32; networks are loaded when asked."""

    def record(self, index: Index) -> dict[str, Any]:
        """What changes the answer, for cache keys."""
        ...

    def read(self, frame: Frame, plane: RegionPlane | None) -> Tensor | None:
        """What is read of a frame whose region has that coverage; None where nothing is there."""
        ...

    def read_blank(self) -> Tensor:
        """What is read where no picture is shown."""
        ...


def make_reader(config: Config) -> ClipReferenceReader:
    """The reader of a configuration that was checked."""
    return (
        FaceReferenceReader(config)
        if config.image_adapter.kind == "faceid"
        else (EncoderReferenceReader(config))
    )


def measure_reference(config: Config) -> tuple[int, ...]:
    """The shape of what is read of a picture.

    ConfigError where the encoder or the networks for faces are not there, or not of the kind.
    """
    options = config.image_adapter
    if options.kind == "faceid":
        _open_network(config, "detector")
        embedder: Embedder = _open_network(config, "embedder")
        return (embedder.width,)
    sizes = _read_sizes(options.encoder)
    if options.kind != "base":
        return (sizes.patches, sizes.states)
    if sizes.pooled is None:
        raise ConfigError(
            f'image_adapter.encoder: {options.encoder} is a SigLIP, and kind = "base" reads the'
            ' projected embedding of a CLIP: set image_adapter.kind = "plus", or give a CLIP'
        )
    return (sizes.pooled,)


def _read_sizes(folder: Path | None) -> ImageEncoderSizes:
    if folder is None:
        raise ConfigError("image_adapter.encoder is not set: give the folder of an image encoder")
    try:
        return read_encoder_sizes(folder)
    except ImageEncoderNotUsable as error:
        raise ConfigError(f"image_adapter.encoder: {error}") from error


class EncoderReferenceReader:
    """A region on grey (or the whole frame) through CLIP or SigLIP."""

    def __init__(self, config: Config) -> None:
        folder = config.image_adapter.encoder
        assert folder is not None  # refused when checked
        self.folder = folder
        self.is_pooled = config.image_adapter.kind == "base"
        self.shape = measure_reference(config)
        self._encoder: VisionEncoder | None = None

    def load_encoder(self) -> VisionEncoder:
        """The encoder, read from its folder once."""
        if self._encoder is None:
            self._encoder = load_vision_encoder(self.folder, Path("image_adapter.encoder"))
        return self._encoder

    def record(self, index: Index) -> dict[str, Any]:
        """The encoder's weights, and which of its outputs."""
        reads = "pooled" if self.is_pooled else "states"
        return {"encoder": index.fingerprint(self.folder), "reads": reads}

    def read(self, frame: Frame, plane: RegionPlane | None) -> Tensor | None:
        """The embedding, or the last states but one, of what is cut out."""
        picture = frame if plane is None else cut_out(frame, plane)
        if picture is None:
            return None
        encoder = self.load_encoder()
        read = encoder.read_pooled if self.is_pooled else encoder.read_states
        return read([picture])[0]

    def read_blank(self) -> Tensor:
        """Zeros in place of an embedding; in place of states those of the zero image."""
        if self.is_pooled:
            return torch.zeros(self.shape)
        return self.load_encoder().read_zero_image()[0]


class FaceReferenceReader:
    """The largest face in the region, as its embedder sees it, divided by its length."""

    def __init__(self, config: Config) -> None:
        self.config, self.shape = config, measure_reference(config)
        self._networks: tuple[FaceDetector, Embedder] | None = None

    def load_networks(self) -> tuple[FaceDetector, Embedder]:
        """Detector and embedder, once; their licences are said before."""
        if self._networks is None:
            for name, shelf in (("detector", DETECTORS), ("embedder", EMBEDDERS)):
                plugin: Any = shelf.load(getattr(self.config.image_adapter, name))
                if plugin.licence.warning:
                    log.warning("%s", plugin.licence.warning)
            self._networks = (
                _open_network(self.config, "detector"),
                _open_network(self.config, "embedder"),
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

    def read(self, frame: Frame, plane: RegionPlane | None) -> Tensor | None:
        """The unit embedding of that face; None where there is none of 20 pixels or more."""
        detector, embedder = self.load_networks()
        faces = [face for face in find_faces(detector, frame) if _is_usable(face)]
        if plane is not None:
            soft = lay_softly(plane, frame.shape[0], frame.shape[1])
            faces = [face for face in faces if _is_inside(face, soft)]
        if not faces:
            return None
        (face,) = describe_faces(embedder, frame, faces[:1])
        return face.embedding

    def read_blank(self) -> Tensor:
        """Zeros, which are no face."""
        return torch.zeros(self.shape)


def _is_usable(face: DetectedFace) -> bool:
    width, height = face.box.right - face.box.left, face.box.bottom - face.box.top
    return face.keypoints is not None and min(width, height) >= LEAST_FACE


def _is_inside(face: DetectedFace, soft: Float[Tensor, "H W"]) -> bool:
    across, down = face.box.centre
    place = min(int(down), soft.shape[0] - 1), min(int(across), soft.shape[1] - 1)
    return float(soft[place]) >= INSIDE * float(soft.amax())


def _open_network(config: Config, name: str) -> Any:
    """The detector or embedder that is named; ConfigError says what is wrong with its file."""
    options = config.image_adapter
    shelf: Shelf[Any] = DETECTORS if name == "detector" else EMBEDDERS
    source = getattr(options, f"{name}_source")
    try:
        plugin: Any = shelf.load(getattr(options, name))
        return plugin.load("" if source is None else str(source), "cpu")
    except UnknownPlugin as error:
        raise ConfigError(f"image_adapter.{name}: {error}") from error
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"image_adapter.{name}_source: {error}") from error
