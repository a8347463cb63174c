"""The contract of ControlNets: how a family's denoiser takes one, and what it adds to a call.

A ControlNet (Zhang et al., arXiv 2302.05543) reads a control picture beside the noisy latents and
adds residuals inside the denoiser. All that differs between families is in here: what is read of a
picture, which arguments residuals travel in, and which cells a residual's rows are of.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.families.base import Parts
from frisket.registry import Shelf
from frisket.shapes import Clip

ResidualCells = tuple[int, int, int]  # latent frames, rows and columns


class ControlNotUsable(ValueError):
    """A ControlNet that is none, is damaged, or was made for another model; in words."""


@dataclass(frozen=True, slots=True)
class Residual:
    """One tensor that is added inside the denoiser, and the cells that it is of.

    `value` has the rows of the call first. Of a UNet it is r c h w (`cells` is then 1 h w); of a
    transformer r n c, whose image tokens are `cells` in row-major order from `first` on.
    """

    value: Tensor
    cells: ResidualCells
    first: int = 0


@dataclass(frozen=True, slots=True)
class Residuals:
    """All that a ControlNet adds to one call, by the place where it is added, in its order."""

    places: Mapping[str, tuple[Residual, ...]]

    def change(self, edit: Callable[[Residual], Tensor]) -> "Residuals":
        """The same with each value edited."""
        return Residuals(
            {
                place: tuple(
                    Residual(edit(residual), residual.cells, residual.first)
                    for residual in residuals
                )
                for place, residuals in self.places.items()
            }
        )


@runtime_checkable
class ControlSupport(Protocol):
    """One file under `families/control/nets`, named as its family, binds an instance to `CONTROL`.

    A call is a forward pass of one plain model (wrappers and `Experts` taken off), its arguments by
    name (`families.streams.bind_call`).
    """

    @property
    def reads(self) -> Literal["pixels", "latents"]:
        """What a net reads of a control clip: its pixels as they are, or through the VAE."""
        ...

    def refuse(self, variant: str) -> str:
        """Why a variant takes no ControlNet, in words with the fix; empty where it does."""
        ...

    def load(
        self, source: str | Path, variant: str, *, dtype: torch.dtype, device: str
    ) -> nn.Module:
        """Load a net from diffusers' folder, frozen, in eval mode; no code of its repo is run.

        WeightsNotFound where nothing is there, ControlNotUsable for a net of another kind.
        """
        ...

    def start(self, denoiser: nn.Module, *, layers: int | None = None) -> nn.Module:
        """A new net from the denoiser's own weights, whose residuals are exactly 0.

        `layers` of its blocks are copied (None: as the authors' script for this family does).
        """
        ...

    def compare(self, net: nn.Module, denoiser: nn.Module) -> str:
        """Why a net does not fit a denoiser (widths, heads, layers); empty where it does."""
        ...

    def read(
        self, net: nn.Module, vae: nn.Module | None, control: Float[Tensor, "1 3 F H W"]
    ) -> Float[Tensor, "1 c _ _ _"]:
        """What the net reads of a control clip, RGB in [0, 1]; batch of one, kept in the cache.

        Latents are normalised as the public pipeline does for control pictures (not always as
        `Family.encode`).
        """
        ...

    def compute(
        self,
        net: nn.Module,
        denoiser: nn.Module,
        call: Mapping[str, Any],
        control: Float[Tensor, "r c f h w"],
        scale: Float[Tensor, " r"],
    ) -> Residuals:
        """What the net adds to a call, each row times its scale (0: exactly 0)."""
        ...

    def join(self, call: Mapping[str, Any], residuals: Residuals) -> dict[str, Any]:
        """The call's arguments with residuals on top of those it has."""
        ...

    def pipeline(self, parts: Parts, net: nn.Module) -> Any:
        """The public ControlNet pipeline over loaded parts and a net."""
        ...

    def call(self, control: Clip, scale: float) -> dict[str, Any]:
        """What that pipeline is called with besides what the family's own is; RGB in [0, 1]."""
        ...

    def tiny(self, denoiser: nn.Module) -> nn.Module:
        """A small random net that fits a tiny denoiser and adds something."""
        ...


CONTROLS: Shelf[ControlSupport] = Shelf(
    "frisket.families.control.nets", "CONTROL", "frisket.controls"
)
