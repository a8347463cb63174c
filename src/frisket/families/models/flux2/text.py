"""FLUX.2's texts: the chat templates of Mistral 3 (dev) and Qwen 3 (klein), and tiny encoders."""

from typing import Any

from diffusers.pipelines.flux2.pipeline_flux2 import format_input
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from frisket.attention.tokens import Spans
from frisket.families import tiny
from frisket.families.defaults import TextBundle
from frisket.families.shared.prompt_spans import read_template

WIDTHS = {  # of the tiny text encoders: what both configurations call alike
    "vocab_size": tiny.VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}


class FluxText(TextBundle):
    """Tokenizer and text encoder, and which of the two templates prompts are put into."""

    def __init__(self, variant: str, **parts: Any) -> None:
        """Hold the parts under the pipelines' names."""
        super().__init__(**parts)
        self.mistral = variant == "dev"

    def render(self, prompt: str) -> str:
        """What the pipeline makes of a prompt before it is cut into tokens."""
        tokenizer: Any = self.tokenizer
        messages = [{"role": "user", "content": prompt}]
        options = {"add_generation_prompt": True, "enable_thinking": False}
        if self.mistral:
            (messages,), options = format_input([prompt], SYSTEM_MESSAGE), {}
        chat: str = tokenizer.apply_chat_template(messages, tokenize=False, **options)
        return chat

    def count_tokens(self, prompt: str) -> int:
        """How many tokens the prompt takes with its template, before any cut."""
        tokenizer: Any = self.tokenizer
        return len(tokenizer(self.render(prompt), **self._specials).input_ids)

    def find_spans(self, prompt: str, length: int) -> Spans:
        """Spans of a prompt on an axis of `length` tokens."""
        options = {"padding": "max_length", "truncation": True, "max_length": length}
        options |= self._specials
        return read_template(self.tokenizer, self.render, prompt, **options).spans

    @property
    def _specials(self) -> dict[str, bool]:
        # Mistral's template writes them itself, and its pipeline leaves the tokenizer's out.
        return {"add_special_tokens": False} if self.mistral else {}


def make_tiny_mistral() -> FluxText:
    """31 layers, for the pipeline reads the thirtieth, and a picture tower that is never run."""
    vision = {
        "model_type": "pixtral",
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "head_dim": 8,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Mistral3Config(
        text_config={"model_type": "mistral", "num_hidden_layers": 31, **WIDTHS},
        vision_config=vision,
        image_token_index=tiny.VOCABULARY - 1,
    )
    encoder = Mistral3ForConditionalGeneration(config)
    return FluxText("dev", tokenizer=tiny.tokenizer(1024), text_encoder=encoder)


def make_tiny_qwen() -> FluxText:
    """28 layers, for the pipeline reads the 27th."""
    config = Qwen3Config(num_hidden_layers=28, **WIDTHS)
    encoder = Qwen3ForCausalLM(config)
    return FluxText("klein-base-4b", tokenizer=tiny.tokenizer(1024), text_encoder=encoder)
