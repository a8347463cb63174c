"""What one adapter's update is multiplied by, and laying it on a module's rows."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from frisket.adapters.routed.calls import Calls
from frisket.adapters.routed.laying import RoutingError, lay_cells, lay_rows
from frisket.adapters.routed.schedule import RankSchedule
from frisket.families.routes import KeptTokens
from frisket.families.streams import DenoiserCall, Stream

# A factor, or what makes it of a call (where negative prompts come in calls of their own, say).
FactorSource = Tensor | Callable[[DenoiserCall], Tensor | None] | None
Observer = Callable[[str, Tensor, Tensor], None]


@dataclass(eq=False, slots=True)
class Factors:
    """What the update of one adapter is multiplied by; None is nothing, and costs nothing.

    `ranks` b r acts between A and B; `tokens` b s on rows of the text (its axis is that of the
    conditioning); `space` b 1 f h w, on the latent grid, on rows and cells of the image. One
    sample's serves all of a batch, those of b samples repeat in a batch of 2 b. `tokens` and
    `space` may be functions of the call. They hold until they are changed, for all calls after; a
    call keeps those it began with, and so does its recomputation in the backward pass.
    `observer`, where given, is called with the module's name, the base's output and the update
    (after all factors) of every module in every forward pass, recomputed ones included.
    """

    ranks: RankSchedule | None = None
    tokens: FactorSource = None
    space: FactorSource = None
    observer: Observer | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is multiplied."""
        return self.ranks is None and self.tokens is None and self.space is None

    def compute_rank_factor(self, site: "Site", low: Tensor, *, channels: bool) -> Tensor | None:
        """What goes between A and B: for `low` of b n r (or b r h w: `channels`)."""
        ranks = site.hold(self)[0]
        if ranks is None:
            return None
        rank = low.shape[1] if channels else low.shape[-1]
        call = site.read_call()

        def compute() -> Tensor:
            mask = ranks.mask(call.t, rank).to(low)
            mask = _fit_batch(mask, len(low))
            ends = [1] * (low.ndim - 2)
            return (
                mask.reshape(len(mask), rank, *ends) if channels else mask.reshape(-1, *ends, rank)
            )

        return site.remember(
            (id(self), "ranks", rank, low.ndim, len(low), channels, low.dtype), compute
        )

    def compute_row_factor(self, site: "Site", update: Tensor, *, channels: bool) -> Tensor | None:
        """What the update is multiplied by: b n 1, or of a convolution b 1 h w (b 1 f h w)."""
        _, own_tokens, own_space = site.hold(self)
        if (own_tokens is None and own_space is None) or site.stream == "apart":
            return None
        call, kept_tokens = site.read_call(), site.find_kept_tokens()

        def compute() -> Tensor | None:
            tokens, space = _resolve(own_tokens, call), _resolve(own_space, call)
            if channels:
                factor = lay_cells(call, space, tuple(update.shape[2:]))
            elif update.ndim == 3:
                factor = lay_rows(
                    site.stream, update.shape[1], call, tokens, space, kept_tokens=kept_tokens
                )
            else:
                factor = lay_rows("flat", len(update), call, tokens, space)
            return None if factor is None else factor.to(update)

        sides = tuple(update.shape[2:]) if channels else (update.shape[1],)
        return site.remember((id(self), site.stream, sides, update.dtype, id(kept_tokens)), compute)


@dataclass(eq=False, slots=True)
class Site:
    """Where an adapted module is: its name in the bare denoiser, whose rows it works on."""

    name: str = ""
    stream: Stream = "apart"
    calls: Calls | None = None

    def read_call(self) -> DenoiserCall:
        """The call the module is in; RoutingError where none is followed."""
        record = None if self.calls is None else self.calls.record
        if record is None:
            raise RoutingError(
                f"{self.name or 'a module'} was called outside a call of its denoiser: its adapter"
                " acts by noise level or place, which only the denoiser is told"
            )
        return record.call

    def find_kept_tokens(self) -> KeptTokens | None:
        """The tokens that routed blocks of the call carry; None where they carry all."""
        record = None if self.calls is None else self.calls.record
        return None if record is None else record.find_kept_tokens()

    def hold(self, factors: Factors) -> tuple[RankSchedule | None, FactorSource, FactorSource]:
        """Ranks, tokens and space as they were when the call first asked."""
        record = None if self.calls is None else self.calls.record
        now = (factors.ranks, factors.tokens, factors.space)
        return now if record is None else record.factor_states.setdefault(id(factors), now)

    def remember(self, key: Hashable, compute: Callable[[], Tensor | None]) -> Tensor | None:
        """What was computed for this call under the key, computed once."""
        assert self.calls is not None
        assert self.calls.record is not None
        factors = self.calls.record.factors
        if key not in factors:
            try:
                factors[key] = compute()
            except RoutingError as error:
                raise RoutingError(f"{self.name}: {error}") from error
        return factors[key]


def _resolve(source: FactorSource, call: DenoiserCall) -> Any:
    return source(call) if callable(source) else source


def _fit_batch(mask: Tensor, rows: int) -> Tensor:
    """Ranks of each row that a module sees: tokens of one sample follow each other in a batch."""
    if len(mask) == rows:
        return mask
    if rows % len(mask) == 0:
        return mask.repeat_interleave(rows // len(mask), 0)
    if bool((mask == mask[:1]).all()):
        return mask[:1].expand(rows, -1)
    raise RoutingError(
        f"it works on {rows} rows, of which the {len(mask)} samples of the call have several noise"
        " levels: leave it out with lora.exclude"
    )
