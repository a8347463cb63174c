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
    find_shown_rows,
)
from frisket.inference.methods.identity.instantid.control import FaceControl, ResidualSource
from frisket.inference.methods.identity.residuals import add_residuals
from frisket.inference.methods.identity.token_layers import TokenLayers, name_layers
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
                f"{counts[0]} embeddings, {counts[1]} pictures of key points, and {masks} masks:"
                " one of each a row"
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


@dataclass(eq=False, slots=True)
class FaceStage:
    """InstantID on a UNet that trains: `show` says whose faces the next calls are about.

    Made by `set_stage`. What was shown stays until the next `show` or `hide`, so that blocks which
    are computed again in the backward pass find it.
    """

    modules: InstantIdModules
    layers: TokenLayers
    attention: ImageAttention
    source: ResidualSource

    def show(self, rows: FaceRows, scale: float = 1.0) -> None:
        """Calls are of a batch of these rows from here on; gradients reach the modules.

        `scale` 0 is the bare model bit for bit.
        """
        tokens, mask = project_rows(self.modules, rows.embeddings), rows.mask
        layers = self.layers
        adapter = ImageAdapter(layers.keys, layers.values, tokens, scale=scale, mask=mask)
        self.attention.adapters = [adapter]
        self.source.control = FaceControl(tokens, tokens, rows.pictures, scale=scale, mask=mask)
        self.attention.side = "own"

    def hide(self) -> None:
        """Calls are the bare model's from here on: a prior, a validation without faces."""
        self.attention.side = "off"


@contextmanager
def set_stage(
    family: Family, denoiser: nn.Module, modules: InstantIdModules
) -> Iterator[FaceStage]:
    """Inside, `family.predict` knows the faces that the stage shows; none at first.

    The UNet's own parameters are left alone (gradients pass through it). A backward pass that
    computes blocks again has to end inside. AdapterMismatch where the modules are not for this
    denoiser; ValueError, in a call, for a batch of another number of rows than are shown.
    """
    unet = find_unet(denoiser)
    if unet is None:
        kind = type(denoiser).__name__
        raise AdapterMismatch(f"InstantID trains beside a UNet, and this denoiser is a {kind}")
    layers = name_layers(modules.adapter.ip_adapter, number_layers(family, unet))
    net = modules.identity_net
    nobody = torch.zeros(1, 1, net.config.cross_attention_dim)
    adapter = ImageAdapter(layers.keys, layers.values, nobody)
    places = tuple(list_places(family, unet).values())
    attention = ImageAttention(places, [adapter], side="off")

    def find_owners(call: BranchCall) -> RowOwners:
        return find_shown_rows(call, len(attention.adapters[0].tokens))

    control = FaceControl(nobody, nobody, torch.zeros(1, 3, 1, 1))
    source = ResidualSource(net, control, find_owners, lambda: attention.side)
    with add_residuals(unet, source.compute), attention.attach_branches(find_owners):
        yield FaceStage(modules, layers, attention, source)


@contextmanager
def show_faces(
    family: Family,
    denoiser: nn.Module,
    modules: InstantIdModules,
    rows: FaceRows,
    *,
    scale: float = 1.0,
) -> Iterator[None]:
    """`set_stage` for one batch, which is shown at once."""
    with set_stage(family, denoiser, modules) as stage:
        stage.show(rows, scale)
        yield


def project_rows(
    modules: InstantIdModules, embeddings: Float[Tensor, "b d"]
) -> Float[Tensor, "b t c"]:
    """Tokens of raw embeddings, in the projection's own dtype."""
    projection: Any = modules.adapter.image_proj
    weight = projection.proj_in.weight
    tokens: Tensor = projection(embeddings.to(weight.device, weight.dtype))
    return tokens
