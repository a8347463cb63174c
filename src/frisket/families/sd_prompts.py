"""Prompts of CLIP models: they are cut at 77 tokens, and that is said."""

import logging
from collections.abc import Sequence
from typing import Any

logger = logging.getLogger(__name__)


def warn_cut(tokenizer: Any, prompts: Sequence[str], length: int) -> None:
    """Warn of every prompt that has more than `length` tokens, specials counted."""
    for prompt, ids in zip(prompts, tokenizer(list(prompts)).input_ids, strict=True):
        if len(ids) > length:
            logger.warning("%d tokens cut to %d: %.60s...", len(ids), length, prompt)
