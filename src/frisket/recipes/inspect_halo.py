"""`frisket inspect --vae`: measures with the run's own VAE how far masks leak at their borders."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from frisket.evaluation.findings import RULES, Finding
from frisket.evaluation.halo import Halo, halo, look_at_halos
from frisket.families.base import Family, Source
from frisket.media.files import Found
from frisket.media.frames import decode
from frisket.recipes.inspect_look import Looker
from frisket.shapes import Clip, Latents

CLIPS = 6  # measured: the VAE is the same for all


def encoder(family: Family, source: Source) -> Callable[[Clip], Latents]:
    """Load the VAE, once; WeightsNotFound where its weights are not there."""
    vae = family.load_vae(source).to(source.device)

    @torch.no_grad()
    def encode(clip: Clip) -> Latents:
        return family.encode(vae, clip.to(source.device, source.dtype)).float().cpu()

    return encode


def halo_of(
    encode: Callable[[Clip], Latents], masked: Sequence[tuple[Looker, Found]]
) -> list[Finding]:
    """Halos of a few masked clips (their first frame), spread evenly over the set."""
    step = max(len(masked) // CLIPS, 1)
    measured: list[Halo] = []
    for looker, found in masked[::step][:CLIPS]:
        window = looker.windows(found)[0]
        geometry = window.geometry
        planes = looker.planes(window)
        total = torch.stack([plane[0] for plane in planes.values()]).sum(0)
        first = replace(geometry, picks=geometry.picks[:1])
        picture = first.pixels(decode(window.clip, first.picks))[None]
        seen = halo(encode, picture, total >= RULES, looker.grid)
        measured += [seen] if seen else []
    return list(look_at_halos(measured))
