"""From reference pictures to the tokens that an image adapter's layers read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from frisket.adapters.image.layouts import ImageAdapterFile, ImageAdapterKind
from frisket.adapters.image.projections import ImageProjection
from frisket.faces.align import fit_similarity, warp_faces
from frisket.faces.base import check_width
from frisket.inference.methods.identity.vision_encoder import VisionEncoder
from frisket.inference.methods.plugin import MethodUnusable, ReferencePicture

Combination = Literal["mean", "join"]
CROP_SIDE = 224  # pixels of the aligned face that FaceID-Plus shows to CLIP
POOLED: tuple[ImageAdapterKind, ...] = ("base", "xlabs-flux")
STATES: tuple[ImageAdapterKind, ...] = (
    "plus",
    "full",
    "faceid-plus",
    "faceid-plusv2",
    "instantx-sd3",
)


@dataclass(frozen=True, slots=True)
class ReferenceTokens:
    """What an adapter is given: of the references together, and of guidance's other side.

    Of instantx-sd3 they are the encoder's states, as its projection depends on the time; `pictures`
    says of how many pictures, one after the other.
    """

    tokens: Float[Tensor, "b t c"]  # one for all samples, or one each
    negative: Float[Tensor, "o n c"]
    pictures: int = 1


@dataclass(frozen=True, slots=True)
class ReferenceReader:
    """An adapter's file with what projects pictures for it.

    `combination` says what several faces become: one mean face, or the tokens of all side by side.
    Pictures without faces are always joined so. `structure` weighs CLIP's part in FaceID-Plus of
    the second version.
    """

    file: ImageAdapterFile
    source: str  # the file, for messages
    encoder: VisionEncoder | None = None
    combination: Combination = "mean"
    structure: float = 1.0

    def __post_init__(self) -> None:
        """MethodUnusable for an encoder of another width than the file reads."""
        file, encoder = self.file, self.encoder
        if encoder is None:
            return
        reads = file.embedding if file.states is None else file.states
        width = encoder.pooled_width if file.kind in POOLED else encoder.states_width
        if width != reads:
            raise MethodUnusable(
                f"{self.source} ({file.kind}) reads {reads} numbers of its image encoder, the one"
                f" in {encoder.folder} has {width}: it goes with another encoder"
            )

    @torch.no_grad()
    def project(self, references: Sequence[ReferencePicture]) -> ReferenceTokens:
        """Tokens of all references together, in float32 on the CPU.

        EmbeddingMixup for a face's embedding of another width; MethodUnusable for a reference
        without what the kind reads, and for none.
        """
        if not references:
            raise MethodUnusable(f"{self.source}: it is shown no picture; give at least one")
        readers: dict[ImageAdapterKind, Callable[[Any, Any], ReferenceTokens]] = {
            "base": self._project_pooled,
            "xlabs-flux": self._project_pooled,
            "plus": self._project_states,
            "full": self._project_states,
            "instantx-sd3": self._keep_states,
            "faceid": self._project_faces,
            "faceid-plus": self._project_faces,
            "faceid-plusv2": self._project_faces,
        }
        projection = self.file.build_projection().float().eval()
        return readers[self.file.kind](projection, references)

    def _project_pooled(
        self, projection: ImageProjection, references: Sequence[ReferencePicture]
    ) -> ReferenceTokens:
        encoder = self._need_encoder()
        pooled = encoder.read_pooled([reference.frame for reference in references])
        if self.file.kind == "xlabs-flux":
            # Both x-flux and diffusers show a black picture where no other is given.
            black = encoder.read_pooled([torch.zeros_like(references[0].frame)])
            negative = projection(black)
        else:
            negative = projection.project_negative(pooled[:1])
        return ReferenceTokens(join_tokens(projection(pooled)), negative, len(references))

    def _project_states(
        self, projection: ImageProjection, references: Sequence[ReferencePicture]
    ) -> ReferenceTokens:
        encoder = self._need_encoder()
        states = encoder.read_states([reference.frame for reference in references])
        negative = projection.project_negative(states[:1], encoder.read_zero_image())
        return ReferenceTokens(join_tokens(projection(states)), negative, len(references))

    def _keep_states(self, _: Any, references: Sequence[ReferencePicture]) -> ReferenceTokens:
        states = self._need_encoder().read_states([reference.frame for reference in references])
        joined = join_tokens(states)
        return ReferenceTokens(joined, torch.zeros_like(joined), len(references))

    def _project_faces(
        self, projection: Any, references: Sequence[ReferencePicture]
    ) -> ReferenceTokens:
        faces = torch.stack([self._read_face(reference) for reference in references])
        states, zero_image = None, None
        if self.file.kind != "faceid":
            encoder = self._need_encoder()
            states = encoder.read_states([self._crop_face(reference) for reference in references])
            states = states if self.combination == "join" else join_tokens(states)
            zero_image = encoder.read_zero_image()
        if self.combination == "mean":
            faces = functional.normalize(faces.mean(0, keepdim=True), dim=-1)
        more = () if states is None else (states, self.structure)
        tokens = projection(faces, *more)
        negative = projection.project_negative(faces[:1], zero_image, *more[1:])
        return ReferenceTokens(join_tokens(tokens), negative, len(references))

    def _read_face(self, reference: ReferencePicture) -> Float[Tensor, " s"]:
        if reference.face is None:
            raise MethodUnusable(f"{reference.path}: no face was read, and {self.source} reads one")
        reader = f"{self.source} ({self.file.kind})"
        check_width(reference.face.width, self.file.embedding, str(reference.path), reader)
        return reference.face.unit

    def _crop_face(self, reference: ReferencePicture) -> UInt8[Tensor, "H W 3"]:
        if reference.keypoints is None:
            raise MethodUnusable(
                f"{reference.path}: {self.source} shows its encoder the aligned face, for which the"
                " face's five key points are needed"
            )
        return align_frame(reference.frame, reference.keypoints)

    def _need_encoder(self) -> VisionEncoder:
        assert self.encoder is not None, "read_request loads one for each kind that reads pictures"
        return self.encoder


def align_frame(
    frame: UInt8[Tensor, "H W 3"], keypoints: Float[Tensor, "5 2"], side: int = CROP_SIDE
) -> UInt8[Tensor, "side side 3"]:
    """The face of a picture on the template, `side` pixels square."""
    picture = frame.permute(2, 0, 1)[None] / 127.5 - 1
    crop = warp_faces(picture, fit_similarity(keypoints[None], side), side)[0]
    return crop.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)


def join_tokens(tokens: Float[Tensor, "n t c"]) -> Float[Tensor, "1 _ c"]:
    """The tokens of several pictures side by side, as one sample's."""
    return tokens.flatten(0, 1)[None]
