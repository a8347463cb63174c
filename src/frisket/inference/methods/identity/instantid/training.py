"""InstantID while it trains: each row of a batch is another person's, with gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.adapters.image.instantid import InstantIdModules
from frisket.adapters.image.numbering import list_places, number_layers
from frisket.adapters.spec import AdapterMismatch
from frisket.attention.base import BranchCall
from frisket.families.base import Family
from frisket.inference.methods.identity.image_attention import (
    ImageAdapter,
    ImageAttention,
    RowOwners,
)
from frisket.inference.methods.identity.instantid.control import FaceControl, ResidualSource
from frisket.inference.methods.identity.residuals import add_residuals
from frisket.inference.methods.identity.token_layers import name_layers
from frisket.inference.methods.identity.unets import find_unet


@dataclass(frozen=True, slots=True)
class FaceRows:
    """Of each row of a batch: the raw embedding of its face, and its key points' picture.

    A row of zeros is the unconditional one: nobody's face. `pictures` are RGB in [0, 1], as large
    as the rows' clips (`draw_pose`). `mask` (one a row, or one for all, on any grid, in [0, 1]) is
    where InstantID acts; None everywhere.
    """

    embeddings: Float[Tensor, "b d"]
    pictures: Float[Tensor, "b 3 H W"]
    mask: Float[Tensor, "m f h w"] | None = None

    def __post_init__(self) -> None:
        """ValueError where the parts are of different numbers of rows."""
        counts = (len(self.embeddings), len(self.pictures))
        masks = counts[0] if self.mask is None else len(self.mask)
        if counts[0] != counts[1] or masks not in (1, counts[0]):
            raise ValueError(
                f"{counts[0]} embeddings, {counts[1]} pictures of key points, and {masks} masks: one"
                " of each a row"
            )


def drop_faces(rows: FaceRows, rate: float, generator: torch.Generator) -> FaceRows:
    """Some rows made the unconditional one, each by its own chance of `rate` in [0, 1].

    The embedding becomes zeros; the key points stay, so that the negative side of guidance knows
    them too, as in the authors' pipeline. One number a row is drawn whatever the rate, from a
    generator on the CPU. ValueError for another rate.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"faces are dropped at a rate from 0 to 1, not {rate}")
    keeps = torch.rand(len(rows.embeddings), generator=generator) >= rate
    keeps = keeps.to(rows.embeddings.device)[:, None]
    embeddings = torch.where(keeps, rows.embeddings, torch.zeros_like(rows.embeddings))
    return replace(rows, embeddings=embeddings)


@contextmanager
def show_faces(
    family: Family,
    denoiser: nn.Module,
    modules: InstantIdModules,
    rows: FaceRows,
    *,
    scale: float = 1.0,
) -> Iterator[None]:
    """Inside, `family.predict` of a batch of these rows knows their faces; it can be learned from.

    Gradients reach `modules` alone (the UNet is asked for none, but they pass through it). Where a
    UNet recomputes its blocks in the backward pass, that has to end inside as well. `scale` 0 is
    the bare model bit for bit: the prior of a loss. AdapterMismatch where the modules are not for
    this denoiser; ValueError, in the call, for a batch of another number of rows.
    """
    unet = find_unet(denoiser)
    if unet is None:
        kind = type(denoiser).__name__
        raise AdapterMismatch(f"InstantID trains beside a UNet, and this denoiser is a {kind}")
    layers = name_layers(modules.adapter.ip_adapter, number_layers(family, unet))
    tokens = project_rows(modules, rows.embeddings)

    def find_owners(call: BranchCall) -> RowOwners:
        samples = range(len(tokens)) if call.samples is None else call.samples
        if len(call.query) != len(samples):
            raise ValueError(
                f"the denoiser was called with {len(call.query)} rows for {len(samples)} faces"
            )
        return RowOwners(torch.tensor(list(samples)), (True,) * len(samples))

    adapter = ImageAdapter(layers.keys, layers.values, tokens, scale=scale, mask=rows.mask)
    control = FaceControl(tokens, tokens, rows.pictures, scale=scale, mask=rows.mask)
    attention = ImageAttention(tuple(list_places(family, unet).values()), [adapter])
    source = ResidualSource(modules.identity_net, control, find_owners)
    with add_residuals(unet, source.compute), attention.attach_branches(find_owners):
        yield


def project_rows(
    modules: InstantIdModules, embeddings: Float[Tensor, "b d"]
) -> Float[Tensor, "b t c"]:
    """Tokens of raw embeddings, in the projection's own dtype."""
    projection: Any = modules.adapter.image_proj
    weight = projection.proj_in.weight
    tokens: Tensor = projection(embeddings.to(weight.device, weight.dtype))
    return tokens
