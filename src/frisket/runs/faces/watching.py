"""What a trainer is handed to compare faces: the frozen VAE's decoder and the frozen embedder."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from frisket.config.regions import names_of
from frisket.config.tree import Config
from frisket.faces.align import align_faces
from frisket.faces.base import Embedder
from frisket.families.base import Family, Source
from frisket.losses.decoding import Decode
from frisket.losses.faces import FaceMark
from frisket.runs.faces.asking import request_of
from frisket.runs.faces.models import load_embedder
from frisket.shapes import Clip, FramePicture, Latents
from frisket.training.decoded.faces import FaceWatch
from frisket.training.memory.precision import tile


def make_watch(config: Config, family: Family, source: Source) -> FaceWatch | None:
    """Decoder and embedder of a run, loaded on its device; None where no term compares faces.

    The VAE runs in the base's precision, or in float32 where that is float16, in which the public
    ones overflow. Its activations are computed again in the backward pass (one row at a time is
    held), and `memory.tile_vae` tiles it. EmbedderUnusable where no gradient passes the embedder.
    """
    request = request_of(config)
    if request is None:
        return None
    return FaceWatch(
        region=names_of(config).index(request.region),
        decode=load_decoder(config, family, source),
        compare=EmbeddingDistance(load_embedder(request, source.device)),
    )


def load_decoder(config: Config, family: Family, source: Source) -> Decode:
    """Latents to pixels through the frozen VAE, computed again where a gradient is asked for."""
    dtype = torch.float32 if source.dtype == torch.float16 else source.dtype
    vae = family.load_vae(replace(source, dtype=dtype)).to(source.device)
    vae.eval().requires_grad_(False)
    if config.memory.tile_vae:
        tile(vae)

    def decode(latents: Latents) -> Clip:
        if torch.is_grad_enabled() and latents.requires_grad:
            pixels: Clip = checkpoint(family.decode, vae, latents, use_reentrant=False)
            return pixels
        return family.decode(vae, latents)

    return decode


class EmbeddingDistance:
    """1 - cosine of a face, laid on the embedder's template by its mark, and the mark's target."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    def __call__(self, picture: FramePicture, mark: FaceMark) -> Tensor:
        """The distance, in [0, 2], float32; differentiable in the pixels."""
        aligned = align_faces(picture, mark.keypoints[None].to(picture.device))
        embedding = self.embedder.embed(aligned).float()[0]
        target = mark.target.to(embedding)
        return 1 - functional.cosine_similarity(embedding, target, dim=0)
