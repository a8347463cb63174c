"""A routed step on shapes alone: so many tokens, whichever they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, prod

import torch
from torch import nn

from frisket.config.tree import Config
from frisket.families.base import Family
from frisket.families.experts import first
from frisket.routing.router import Router
from frisket.routing.selection import TokenSelection, count_tokens
from frisket.training.memory.dry_run import META


@dataclass(frozen=True, slots=True)
class RoutedStep:
    """What carries a share of the tokens; nothing where a step carries all of them."""

    router: Router | None = None
    selection: TokenSelection | None = None

    @contextmanager
    def carry(self) -> Iterator[None]:
        """Inside, calls of the denoiser are routed."""
        if self.router is None:
            yield
            return
        with self.router.carry(self.selection):
            yield


def build_routed_step(
    config: Config, family: Family, denoiser: nn.Module, shape: tuple[int, ...], kept_share: float
) -> RoutedStep:
    """The first tokens of latents b c f h w, up to `kept_share` of them in (0, 1]; 1 is all.

    ValueError for a family without routes, and for another share.
    """
    if kept_share == 1:
        return RoutedStep()
    if family.routes is None or not 0 < kept_share < 1:
        raise ValueError(
            f"kept_share = {kept_share:g} of the tokens of {family.name}: no step can be routed so"
        )
    options, routes = config.routing, family.routes
    grid = count_tokens(tuple(shape[2:]), routes.find_patch(first(denoiser)))
    count = ceil(kept_share * prod(grid))
    cells = torch.empty((shape[0], 1, *shape[2:]), device=META)
    tokens = torch.arange(count)[None].expand(shape[0], -1)
    router = Router(denoiser, routes, family.streams, options.start, options.end)
    return RoutedStep(router, TokenSelection(tokens, grid, cells, cells))
