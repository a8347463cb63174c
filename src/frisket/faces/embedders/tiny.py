"""A small recogniser of the procedural people, its weights in the package: for tests."""

from functools import lru_cache
from pathlib import Path

from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from frisket.faces.base import AlignedFaces, EmbedderPlugin, EmbedderUnusable, RawEmbeddings
from frisket.faces.iresnet import IResNet, IResNetShape, build_iresnet
from frisket.licence import Licence

WEIGHTS = Path(__file__).parents[1] / "tiny.safetensors"
PIXELS = 40  # a side of what the network reads: procedural faces hold no more
SHAPE = IResNetShape(depths=(1, 1, 1, 1), widths=(12, 24, 40, 64), embedding=64, cells=9)

LICENCE = Licence(
    code="Apache-2.0 (Frisket's own)", weights="Apache-2.0 (trained on drawings of our own)"
)


class TinyEmbedder:
    """A narrow iResNet (scripts/pretrain_faces.py); it knows drawn people and nobody else."""

    name = "tiny"
    width = SHAPE.embedding
    licence = LICENCE
    trainable_through = True

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def embed(self, aligned: AlignedFaces) -> RawEmbeddings:
        """Raw embeddings, 64 numbers a face."""
        weight = next(self.model.parameters())
        small = functional.interpolate(aligned.to(weight), (PIXELS, PIXELS), mode="area")
        embeddings: RawEmbeddings = self.model(small)
        return embeddings


@lru_cache(maxsize=1)
def _read_weights() -> IResNet:
    return build_iresnet(load_file(WEIGHTS))


def load(source: str, device: str) -> TinyEmbedder:
    """The package's own weights; it takes no others."""
    if source:
        raise EmbedderUnusable(
            f"the tiny embedder brings its own weights and reads none from {source}: leave the"
            " source out, or take the embedder iresnet for a backbone.pth"
        )
    model = IResNet(SHAPE).eval().requires_grad_(False)
    model.load_state_dict(_read_weights().state_dict())
    return TinyEmbedder(model.to(device))


EMBEDDER = EmbedderPlugin(
    summary="drawn people only (weights in the package): for tests and measurements offline",
    licence=LICENCE,
    load=load,
    commercial=True,
    detector="drawn",
)
