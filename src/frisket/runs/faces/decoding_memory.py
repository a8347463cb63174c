"""What looking at decoded pictures takes beside a training step, foretold from shapes."""

from dataclasses import replace
from pathlib import Path

import torch

from frisket.config.tree import Config
from frisket.families.base import Family, Source, WeightsNotFound
from frisket.losses.base import DECODED
from frisket.losses.decoding import CONTEXT
from frisket.runs.concepts.terms import terms_of
from frisket.runs.faces.asking import request_of
from frisket.runs.structure.comparing_memory import measure_comparing
from frisket.training.memory import precision
from frisket.training.memory.dry_run import META, Rehearsal

MIB = 2**20


def measure_decoding(
    config: Config, family: Family, source: Source, size: tuple[int, int, int]
) -> float:
    """MiB of the VAE, the embedder's file, and decoding one clip of `size` (F H W) with gradients.

    All of it lies beside what the denoiser keeps for its backward pass: each clip is decoded, and
    decoded again in the backward pass, by itself. With it what comparing structure takes. 0 where
    no term looks at decoded pictures, or the VAE's shape is not known here.
    """
    request = request_of(config)
    if not any(DECODED in term.needs for term, _ in terms_of(config).values()):
        return 0.0
    dtype = torch.float32 if source.dtype == torch.float16 else source.dtype
    try:
        vae = family.load_vae(replace(source, quantise="none", dtype=dtype))
    except WeightsNotFound:
        return 0.0
    if config.memory.tile_vae:
        precision.tile(vae)
    grid = family.variants[source.variant].grid
    frames, height, width = grid.cells(*size)
    window = (1, grid.channels, min(frames, CONTEXT + 1), height, width)
    with Rehearsal() as live:
        live.hold([*vae.parameters(), *vae.buffers()])
        latents = torch.empty(window, device=META, requires_grad=True)
        live.backward(family.decode(vae, latents).mean())
    file = Path(request.source).expanduser() if request is not None else Path()
    embedder = file.stat().st_size if file.is_file() else 0
    return (live.peak + embedder) / MIB + measure_comparing(config, size)
