"""How a reference is read: a region through an image encoder, or the face in it by networks."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frisket.adapters.image.encoder_sizes import (
    ImageEncoderNotUsable,
    ImageEncoderSizes,
    read_encoder_sizes,
)
from frisket.adapters.image.face_maps import ReferenceSizes
from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.data.cached.index import Index
from frisket.inference.methods.identity.vision_encoder import VisionEncoder, load_vision_encoder
from frisket.runs.image_adapters.cutting import cut_out
from frisket.runs.image_adapters.face_readers import (
    ClipReference,
    ClipReferenceReader,
    FaceMapReader,
    FaceReferenceReader,
    Frame,
    NotedFaces,
    PosedFaceReader,
    RegionPlane,
    measure_faces,
)

FACE_READERS = {
    "faceid": FaceReferenceReader,
    "instantid": PosedFaceReader,
    "uniid-text": FaceMapReader,
    "uniid-adapter": FaceMapReader,
}


def make_reader(config: Config) -> ClipReferenceReader:
    """The reader of a configuration that was checked."""
    reader = FACE_READERS.get(config.image_adapter.kind)
    return EncoderReferenceReader(config) if reader is None else reader(config)


def measure_reference(config: Config) -> ReferenceSizes:
    """The shape of what is read of a picture.

    ConfigError where the encoder or the networks for faces are not there, or not of the kind.
    """
    options = config.image_adapter
    if options.kind in FACE_READERS:
        return measure_faces(config)
    sizes = _read_sizes(options.encoder)
    if options.kind != "base":
        return ReferenceSizes((sizes.patches, sizes.states))
    if sizes.pooled is None:
        raise ConfigError(
            f'image_adapter.encoder: {options.encoder} is a SigLIP, and kind = "base" reads the'
            ' projected embedding of a CLIP: set image_adapter.kind = "plus", or give a CLIP'
        )
    return ReferenceSizes((sizes.pooled,))


def _read_sizes(folder: Path | None) -> ImageEncoderSizes:
    if folder is None:
        raise ConfigError("image_adapter.encoder is not set: give the folder of an image encoder")
    try:
        return read_encoder_sizes(folder)
    except ImageEncoderNotUsable as error:
        raise ConfigError(f"image_adapter.encoder: {error}") from error


class EncoderReferenceReader:
    """A region on grey (or the whole frame) through CLIP or SigLIP."""

    reads_points = False

    def __init__(self, config: Config) -> None:
        folder = config.image_adapter.encoder
        assert folder is not None  # refused when checked
        self.folder = folder
        self.is_pooled = config.image_adapter.kind == "base"
        self.shape = measure_reference(config).row
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

    def read(
        self, frame: Frame, plane: RegionPlane | None, _: NotedFaces | None = None
    ) -> ClipReference | None:
        """The embedding, or the last states but one, of what is cut out."""
        picture = frame if plane is None else cut_out(frame, plane)
        if picture is None:
            return None
        encoder = self.load_encoder()
        read = encoder.read_pooled if self.is_pooled else encoder.read_states
        return ClipReference(read([picture])[0])

    def read_blank(self) -> Tensor:
        """Zeros in place of an embedding; in place of states those of the zero image."""
        if self.is_pooled:
            return torch.zeros(self.shape)
        return self.load_encoder().read_zero_image()[0]
