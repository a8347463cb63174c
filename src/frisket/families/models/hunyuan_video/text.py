"""Texts of HunyuanVideo's models: where words are, and no padding to full length.

Their pipelines pad every text; here it is as long as the longest of a batch.
"""

import inspect
import logging
from collections.abc import Sequence
from typing import Any

import diffusers
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5 import format_text_input
from torch import Tensor
from transformers import (
    ByT5Tokenizer,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLTextModel,
    T5Config,
    T5EncoderModel,
)

from frisket.attention.tokens import Spans
from frisket.families import tiny
from frisket.families.defaults import TextBundle
from frisket.families.shared.prompt_spans import read_template

PROMPT_START = 108  # tokens of 1.5's template before the prompt, which the pipeline drops
logger = logging.getLogger(__name__)


class HunyuanText(TextBundle):
    """Tokenizers and encoders; `early`: those of the first model, before 1.5."""

    def __init__(self, early: bool, **parts: Any) -> None:
        """Hold the parts under the pipelines' names."""
        super().__init__(**parts)
        self.early = early


def find_llama_spans(tokenizer: Any, prompts: Sequence[str], length: int) -> list[Spans]:
    """Spans of the first model's prompts, `length` tokens at most, without the template before."""
    template, dropped = DEFAULT_PROMPT_TEMPLATE["template"], DEFAULT_PROMPT_TEMPLATE["crop_start"]
    options = {"truncation": True, "max_length": length + dropped}
    rows = [read_template(tokenizer, template.format, prompt, **options) for prompt in prompts]
    return [row.spans[dropped:] or [None] for row in rows]


def find_qwen_spans(tokenizer: Any, prompts: Sequence[str], length: int) -> list[Spans]:
    """Spans of 1.5's prompts, `length` tokens at most, without the template before."""

    def render(prompt: str) -> str:
        (messages,) = format_text_input([prompt], make_default_message())
        chat: str = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
        return chat

    options = {"truncation": True, "max_length": length + PROMPT_START}
    options["add_special_tokens"] = False  # the template writes them itself
    rows = [read_template(tokenizer, render, prompt, **options) for prompt in prompts]
    return [row.spans[PROMPT_START:] or [None] for row in rows]


def make_default_message() -> str:
    """What the pipeline of 1.5 tells its text encoder before the prompt."""
    stock = diffusers.HunyuanVideo15Pipeline._get_mllm_prompt_embeds
    message: str = inspect.signature(stock).parameters["system_message"].default
    return message


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


def make_tiny_text_15() -> HunyuanText:
    """1.5's texts in small: a byte tokenizer, two narrow encoders."""
    message = make_default_message()
    # One token for most of the message, so that the template has the tokens the pipeline drops.
    framed = "<system.<.<user.".replace(".", "\n")
    start = (message[: len(framed) + 1 - PROMPT_START],)
    qwen = Qwen2_5_VLTextConfig(
        vocab_size=tiny.VOCABULARY,
        hidden_size=16,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2]},
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    byt5 = T5Config(vocab_size=384, d_model=16, d_kv=8, d_ff=37, num_layers=2, num_heads=2)
    return HunyuanText(
        False,
        tokenizer=tiny.tokenizer(4096, extra=start),
        text_encoder=Qwen2_5_VLTextModel(qwen),
        tokenizer_2=ByT5Tokenizer(),
        text_encoder_2=T5EncoderModel(byt5),
    )
