"""Guards against the silent mistake of image adapters: the embedding of another network or form."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

EmbeddingForm = Literal["raw", "unit"]
# Border and words are those of frisket.faces.base, which stands on the same floor and so cannot be
# imported; tests/faces/test_guards.py holds them equal.
LEAST_RAW_NORM = 1.5  # networks of the ArcFace kind answer about 20; a unit embedding has 1
RAW_WANTED = (
    "a raw one is wanted (norms of about 20): this one was normalised; hand over the network's own"
    " answer (InsightFace's embedding, not normed_embedding)"
)
UNIT_WANTED = (
    "one of length 1 is wanted: this one is raw; divide it by its norm (InsightFace's"
    " normed_embedding, not embedding)"
)


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
    norms = embedding.detach().double().norm(dim=-1).flatten()
    if not bool(norms.isfinite().all()):
        raise EmbeddingMismatch(f"{adapter}: the embedding has numbers that are not finite")
    for row, norm in enumerate(norms.tolist()):
        subject = f"{adapter}: embedding {row} has norm {norm:.4g}"
        if form == "raw" and 0 < norm < LEAST_RAW_NORM:
            raise EmbeddingMismatch(f"{subject}, and {RAW_WANTED}")
        if form == "unit" and norm >= LEAST_RAW_NORM:
            raise EmbeddingMismatch(f"{subject}, and {UNIT_WANTED}")
