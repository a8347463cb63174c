"""What looking at decoded faces takes beside a training step, foretold from shapes."""

from dataclasses import replace
from pathlib import Path

import torch

from frisket.config.tree import Config
from frisket.families.base import Family, Source, WeightsNotFound
from frisket.losses.decoding import CONTEXT
from frisket.runs.faces.asking import request_of
from frisket.training.memory import precision
from frisket.training.memory.dry_run import META, Rehearsal

MIB = 2**20


def measure_decoding(
    config: Config, family: Family, source: Source, size: tuple[int, int, int]
) -> float:
    """MiB of the VAE, the embedder's file, and decoding one clip of `size` (F H W) with gradients.

    All of it lies beside what the denoiser keeps for its backward pass: each clip is decoded, and
    decoded again in the backward pass, by itself. 0 where no term compares faces, or the VAE's
    shape is not known here.
    """
    request = request_of(config)
    if request is None:
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
    file = Path(request.source).expanduser()
    embedder = file.stat().st_size if request.source and file.is_file() else 0
    return (live.peak + embedder) / MIB
