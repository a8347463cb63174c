"""The contract of face embedders, and embeddings that cannot be mixed up."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from frisket.licence import Licence
from frisket.registry import Shelf

AlignedFaces = Float[Tensor, "b 3 112 112"]  # RGB in [-1, 1], laid on the template of faces.align
RawEmbeddings = Float[Tensor, "b d"]  # as the network answers; norms are about 20, never 1
EmbeddingScale = Literal["raw", "unit"]

SIDE = 112  # pixels of an aligned face
LEAST_RAW_NORM = 1.5  # networks of the ArcFace kind answer about 20; a unit embedding has 1
RAW_WANTED = (
    "a raw one is wanted (norms of about 20): this one was normalised; hand over the network's own"
    " answer (InsightFace's embedding, not normed_embedding)"
)
UNIT_WANTED = (
    "one of length 1 is wanted: this one is raw; divide it by its norm (InsightFace's"
    " normed_embedding, not embedding)"
)


class FaceModelNotFound(FileNotFoundError):
    """A face model's file that is not there or not whole; names file, fault and a source."""


class FaceModelUnusable(ValueError):
    """A face model that cannot do what is asked of it here; the message says the fix."""


class EmbedderNotFound(FaceModelNotFound):
    """Weights that are not there or not whole; the message names file, fault and a source."""


class EmbedderUnusable(FaceModelUnusable):
    """An embedder that cannot do what is asked of it here; the message says the fix."""


class EmbeddingMixup(ValueError):
    """A raw embedding where a unit one is wanted, the reverse, or one of another width."""


@runtime_checkable
class Embedder(Protocol):
    """Aligned faces to raw embeddings; people are compared by the cosine.

    `width` is how many numbers an embedding has. `trainable_through` says whether gradients reach
    the pixels: a loss needs that, a metric does not.
    """

    name: str
    width: int
    licence: Licence
    trainable_through: bool

    def embed(self, aligned: AlignedFaces) -> RawEmbeddings:
        """Embeddings as the network answers, NOT normalised; on the device it was loaded on."""
        ...


@dataclass(frozen=True, slots=True)
class EmbedderPlugin:
    """One file of the shelf.

    `load(source, device)` gives an Embedder; an empty source is the plugin's own weights where it
    has any. It downloads nothing. Raises EmbedderNotFound or EmbedderUnusable.
    """

    summary: str  # one line for `frisket methods`
    licence: Licence
    load: Callable[[str, str], Embedder]
    commercial: bool  # whether what it loads may be used commercially; else never a default
    trainable_through: bool = True  # of what it loads, known before it is loaded
    files: str = ""  # what the source must be; empty where the package brings the weights
    published: str = ""  # where its files are to be had
    names: tuple[str, ...] = ()  # of the files: a folder with one of them is taken for its source
    detector: str = ""  # the face detector that goes with it
    tiny: Callable[[Path], Path] | None = None  # a small random build of its files, for tests


EMBEDDERS: Shelf[EmbedderPlugin] = Shelf(
    "frisket.faces.embedders", "EMBEDDER", "frisket.face_embedders"
)


@dataclass(frozen=True, slots=True)
class FaceEmbedding:
    """One face as its network sees it: `raw` as answered, `unit` of length 1.

    InstantID reads `raw` (its embedder's norms are about 20), IP-Adapter FaceID reads `unit`;
    neither can be taken for the other, since a bare tensor is never handed on.
    """

    raw: Float[Tensor, " d"]
    crop: Float[Tensor, "3 112 112"] | None = None  # the aligned face it came from, in [-1, 1]

    def __post_init__(self) -> None:
        """EmbeddingMixup where `raw` is of unit length, empty or not finite."""
        check_norm(self.raw[None], "raw", "FaceEmbedding.raw")

    @property
    def unit(self) -> Float[Tensor, " d"]:
        """The direction alone, in float32."""
        return functional.normalize(self.raw.float(), dim=-1)

    @property
    def width(self) -> int:
        """How many numbers it has."""
        return self.raw.shape[-1]


@torch.no_grad()
def embed_faces(embedder: Embedder, aligned: AlignedFaces) -> list[FaceEmbedding]:
    """One embedding a face, on the CPU; without gradients (a loss calls `embed` itself)."""
    rows = embedder.embed(aligned).float().cpu()
    crops = aligned.float().cpu()
    return [FaceEmbedding(raw, crop) for raw, crop in zip(rows, crops, strict=True)]


def check_norm(embeddings: Float[Tensor, "b d"], scale: EmbeddingScale, source: str) -> None:
    """Refuse embeddings of the other scale, for files and callers that hand over bare numbers.

    `source` is the file or option they came from. Raises EmbeddingMixup, which names the row, its
    norm and the fix. A mean of unit embeddings is shorter than 1 and counts as one. Zeros are
    refused: the rows of "no face" that guidance needs are made where they are needed, after this.
    """
    for row, norm in enumerate(embeddings.detach().double().norm(dim=-1).tolist()):
        subject = f"{source}: embedding {row} has norm {norm:.4g}"
        if not 0 < norm < float("inf"):
            raise EmbeddingMixup(
                f"{subject}, so it holds no face; embed the picture again and look at its crop"
            )
        if scale == "raw" and norm < LEAST_RAW_NORM:
            raise EmbeddingMixup(f"{subject}, and {RAW_WANTED}")
        if scale == "unit" and norm >= LEAST_RAW_NORM:
            raise EmbeddingMixup(f"{subject}, and {UNIT_WANTED}")


def check_width(width: int, expected: int, source: str, reader: str) -> None:
    """Refuse an embedding of another width than `reader` was made for; EmbeddingMixup says both."""
    if width != expected:
        raise EmbeddingMixup(
            f"{source}: its embedding has {width} numbers, and {reader} reads {expected};"
            " embeddings of different networks cannot be compared: use the embedder it was made for"
        )
