"""The embedder of a run's loss: one that gradients pass."""

from frisket.faces.base import Embedder, EmbedderUnusable
from frisket.faces.opening import open_embedder
from frisket.losses.faces import FaceRequest


def load_embedder(request: FaceRequest, device: str) -> Embedder:
    """The embedder that is asked for, frozen; EmbedderUnusable where no gradient passes it."""
    embedder = open_embedder(request.embedder, request.source, device)
    if not embedder.trainable_through:
        raise EmbedderUnusable(
            f"losses.identity: the embedder {request.embedder} lets no gradient through (it"
            " measures, and cannot teach); take another, e.g. iresnet"
        )
    return embedder
