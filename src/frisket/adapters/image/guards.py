"""Guards against the silent mistake of image adapters: the embedding of another network or form."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

EmbeddingForm = Literal["raw", "unit"]
BORDER = 1.5  # length of an embedding: those of length one are below, raw ones (about 20) above


class EmbeddingMismatch(ValueError):
    """A face's embedding that this adapter was not trained on."""


def check_embedding(
    embedding: Float[Tensor, "... s"], width: int, form: EmbeddingForm | None, adapter: str
) -> None:
    """Refuse a face's embedding of another width, or raw in place of normalised or the reverse.

    `form` is what the adapter was trained on: "raw" as the network gives it (InstantID, UniID; a
    length of about 20 with ArcFace's networks), "unit" divided by its length (FaceID), None where
    it is no face's. Rows of zeros are the unconditional row and pass in either form. `adapter`
    names it in the message. EmbeddingMismatch.
    """
    if embedding.shape[-1] != width:
        raise EmbeddingMismatch(
            f"{adapter} reads embeddings of {width} numbers, this one has {embedding.shape[-1]}:"
            " take the embedder that the adapter was trained with"
        )
    if form is None:
        return
    lengths = embedding.detach().float().norm(dim=-1).flatten()
    if not bool(lengths.isfinite().all()):
        raise EmbeddingMismatch(f"{adapter}: the embedding has numbers that are not finite")
    lengths = lengths[lengths > 0]
    if form == "raw" and bool((lengths < BORDER).any()):
        raise EmbeddingMismatch(
            f"{adapter} reads raw embeddings, of a length of about 20; this one has"
            f" {lengths.min().item():.3g}: it was divided by its length. Pass it as the network"
            " gave it (InsightFace's `embedding`, not `normed_embedding`)"
        )
    if form == "unit" and bool((lengths > BORDER).any()):
        raise EmbeddingMismatch(
            f"{adapter} reads embeddings of length one; this one has {lengths.max().item():.3g}: it"
            " is raw. Divide it by its length (InsightFace's `normed_embedding`, not `embedding`)"
        )
