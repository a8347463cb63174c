"""TARA at sampling: LoRAs trained apart, each acting on its own rare word alone.

arXiv 2508.08812 (AAAI 2026), token focus masking. Nothing is found in the picture: where words and
picture meet in cross-attention alone, a LoRA's keys and values are those of its own word, and two
LoRAs with words of their own never touch the same one. See docs/tara.md.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from frisket.adapters.routed.factors import Factors
from frisket.attention.base import mark_positions
from frisket.inference.methods.words import (
    PromptPhrases,
    find_rows,
    lay_tokens,
    multiply,
    read_prompts,
)
from frisket.inference.sample_specs import SampleSpec


@dataclass(frozen=True, slots=True)
class Tara:
    """LoRAs on one denoiser, each with the word it was trained for.

    `adapters` are what each LoRA's update is multiplied by, `phrases` the positions of each one's
    word by prompt, in the same order. Their code masks the same positions in negative prompts; here
    a row of another prompt has no word, so that nothing of the LoRA acts on its text.
    """

    adapters: Sequence[Factors]
    phrases: PromptPhrases

    @contextmanager
    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> Iterator[None]:
        """Inside, the update of every module that works on the text is 0 but at the LoRA's word."""
        rows, text = find_rows(self.phrases, specs), read_prompts(call())
        with ExitStack() as stack:
            for index, factors in enumerate(self.adapters):
                tokens = mark_positions([row[index] for row in rows])
                stack.enter_context(
                    multiply(factors, tokens=partial(lay_tokens, tokens, text, other=0.0))
                )
            yield
