"""Texts of HunyuanVideo's models without the padding to full length that their pipelines add."""

import logging
from collections.abc import Sequence

from torch import Tensor

logger = logging.getLogger(__name__)


def cut_to_longest(
    embeds: Tensor, mask: Tensor, prompts: Sequence[str], what: str
) -> dict[str, Tensor]:
    """Texts b T d and their masks b T cut to the longest of them (at least one token) and zeroed.

    What is beyond a text's end reaches no other token in these models, so nothing is lost. A text
    that fills all T tokens is named in a warning: upstream cuts there. Returns `what`, `what_mask`.
    """
    for prompt, full in zip(prompts, mask[:, -1].tolist(), strict=True):
        if full:
            logger.warning(
                "%s: all %d tokens are taken, what is beyond is cut: %.60s...",
                what,
                mask.shape[1],
                prompt,
            )
    longest = max(1, int(mask.sum(1).max()))
    shown = mask[:, :longest]
    return {what: embeds[:, :longest] * shown[..., None].to(embeds.dtype), f"{what}_mask": shown}


def trim_tokens(embeds: Tensor, mask: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    """Without the tokens that no text of this batch has: they would only cost attention."""
    longest = max(least, int(mask.sum(1).max()))
    return embeds[:, :longest], mask[:, :longest]
