"""TARA in training: the adapter acts on one rare word's tokens, and that word stays near its class.

arXiv 2508.08812 (AAAI 2026): token focus masking and the token alignment loss.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.adapters.routed.factors import Factors
from frisket.attention.base import Positions, mark_positions
from frisket.data.sample import Batch
from frisket.families.streams import Stream

KEYS = ("to_k", "add_k_proj")  # how modules end that make keys of the text
ALIGNMENT = "alignment"  # the loss, among the values of a step


@dataclass(eq=False, slots=True)
class Focus:
    """On rows of the text the adapter's update is 0 but at the rare word.

    `word` and `like` say which of a batch's phrases are the rare word and its class word (None: no
    alignment), `find` whose rows a module works on, `strength` what the alignment counts for.
    Modules that work on the picture act as they do. A caption without the word teaches the text
    nothing.
    """

    factors: Factors
    word: int
    like: int | None = None
    strength: float = 1.0
    find: Callable[[str], Stream] = lambda _: "apart"
    losses: list[Tensor] = field(default_factory=list)

    @contextmanager
    def __call__(self, batch: Batch) -> Iterator[None]:
        """Inside, calls of the denoiser (and their recomputation, later) are focused."""
        if not batch.phrases:
            raise ValueError("lora.focus: this batch does not say where its word is")
        before = self.factors.tokens, self.factors.observer
        self.losses.clear()
        self.factors.tokens = mark(batch, self.word)
        if self.like is not None:
            self.factors.observer = self._watch(batch, self.like)
        try:
            yield
        finally:
            self.factors.tokens, self.factors.observer = before

    def _watch(self, batch: Batch, like: int) -> Callable[[str, Tensor, Tensor], None]:
        rare = [row[self.word] for row in batch.phrases]
        alike = [row[like] for row in batch.phrases]

        def compare_keys(name: str, base: Tensor, update: Tensor) -> None:
            # An averaged teacher's update asks for no gradient: it is not what is aligned.
            if not update.requires_grad or not name.endswith(KEYS):
                return
            if self.find(name) in ("text", "prompt"):
                loss = align_keys(base, update, rare, alike)
                self.losses.extend([] if loss is None else [loss])

        return compare_keys

    def take(self) -> Mapping[str, Tensor]:
        """The alignment of the last forward pass, mean over modules, times its strength."""
        losses, self.losses = self.losses, []
        if self.like is None or not losses:
            return {}
        return {ALIGNMENT: torch.stack(losses).mean() * self.strength}


def mark(batch: Batch, column: int) -> Float[Tensor, "b s"]:
    """1 at the positions of a phrase of the batch, else 0."""
    return mark_positions([row[column] for row in batch.phrases]).to(batch.latents.device)


def align_keys(
    base: Float[Tensor, "b s c"],
    update: Float[Tensor, "b s c"],
    rare: list[Positions],
    like: list[Positions],
) -> Float[Tensor, ""] | None:
    """Mean absolute difference of the adapted key of the rare word and the base's of its class.

    Both are means over their tokens (the authors subtract token by token, which needs as many of
    the one as of the other; with one token each it is theirs), then the mean over channels and
    samples. No gradient goes to the class word's key. None where no caption has both.
    """
    pairs = [
        (
            (base[row, list(rare_places)] + update[row, list(rare_places)]).mean(0),
            base[row, list(like_places)].mean(0),
        )
        for row, (rare_places, like_places) in enumerate(zip(rare, like, strict=True))
        if rare_places and like_places
    ]
    if not pairs:
        return None
    differences = [
        (rare_places - like_places.detach()).abs().mean() for rare_places, like_places in pairs
    ]
    return torch.stack(differences).mean().float()
