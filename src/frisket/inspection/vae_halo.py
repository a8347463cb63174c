"""`frisket inspect --vae`: measures with the run's own VAE how far masks leak at their borders."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from frisket.families.base import Family, Source
from frisket.inspection.checks.halo import Halo, look_at_halos, measure_halo
from frisket.inspection.findings import RULES, Finding
from frisket.inspection.per_clip import Looker
from frisket.media.files import ClipFiles
from frisket.media.frames import decode
from frisket.shapes import Clip, Latents

log = logging.getLogger(__name__)

CLIPS = 6  # measured: the VAE is the same for all


def load_encoder(family: Family, source: Source) -> Callable[[Clip], Latents]:
    """Load the VAE, once; WeightsNotFound where its weights are not there."""
    vae = family.load_vae(source).to(source.device)

    @torch.no_grad()
    def encode(clip: Clip) -> Latents:
        return family.encode(vae, clip.to(source.device, source.dtype)).float().cpu()

    return encode


def _read_first(looker: Looker, clip: ClipFiles) -> tuple[Clip, Tensor]:
    """The first frame of a clip as trained, and what of it the regions cover."""
    window = looker.windows(clip)[0]
    first = replace(window.geometry, picks=window.geometry.picks[:1])
    planes = looker.planes(window)
    total = torch.stack([plane[0] for plane in planes.values()]).sum(0)
    return first.pixels(decode(window.clip, first.picks))[None], total


def measure_halos(
    encode: Callable[[Clip], Latents], masked: Sequence[tuple[Looker, ClipFiles]]
) -> list[Finding]:
    """Halos of a few masked clips (their first frame), spread evenly over the set."""
    step = max(len(masked) // CLIPS, 1)
    halos: list[Halo] = []
    for looker, clip in masked[::step][:CLIPS]:
        try:
            picture, total = _read_first(looker, clip)
        except (ValueError, OSError) as error:
            log.warning("%s; no halo is measured on it", error)
            continue
        halo = measure_halo(encode, picture, total >= RULES, looker.grid)
        halos += [halo] if halo else []
    return list(look_at_halos(halos))
