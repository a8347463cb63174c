"""Qwen3-VL, text encoder of Qwen-Image 2.1: its processor without torchvision, tiny parts."""

from typing import Any

from torch import nn
from transformers import (
    ProcessorMixin,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)

from frisket.families import tiny
from frisket.families.shared.qwen_text import VISION, PictureProcessor, tiny_tokenizer

SIDE = 64  # of a picture before the tiny encoder


class PromptProcessor(PictureProcessor):
    """`PictureProcessor` for Qwen3-VL; the prompt template is counted by its chat template."""

    def to_dict(self) -> dict[str, Any]:
        """What `save_pretrained` writes: under the name of the stock class, which reads it."""
        return {**ProcessorMixin.to_dict(self), "processor_class": Qwen3VLProcessor.__name__}


class NoProcessor:
    """Stands in where prompts are embedded already: the pipeline's constructor asks for lengths."""

    @property
    def tokenizer(self) -> "NoProcessor":
        """The same object: what it answers stands in for a tokenizer's."""
        return self

    def apply_chat_template(self, *_: Any, **__: Any) -> list[list[int]]:
        """One chat of no tokens, so that a template's length comes out as 0."""
        return [[]]

    def encode(self, _: str) -> list[int]:
        """An id that no token has."""
        return [-1]


def tiny_prompt_encoder() -> nn.Module:
    """Two text layers, one vision layer, 16 channels wide, for the ids of `tiny_tokenizer`."""
    ids = {token: index for index, token in enumerate((*tiny.SPECIAL, *VISION))}
    config = Qwen3VLConfig(
        text_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "vocab_size": tiny.VOCABULARY,
            "pad_token_id": 0,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
                "rope_theta": 1e6,
            },
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 64,
        },
        vision_start_token_id=ids[VISION[0]],
        vision_end_token_id=ids[VISION[1]],
        image_token_id=ids[VISION[2]],
        video_token_id=ids[VISION[3]],
    )
    encoder: nn.Module = Qwen3VLForConditionalGeneration(config)
    return encoder


def tiny_prompt_processor() -> PromptProcessor:
    """A processor of `tiny_tokenizer` for pictures of `SIDE` x `SIDE` pixels."""
    pictures: Any = Qwen2VLImageProcessorPil
    area = SIDE * SIDE
    image_processor = pictures(patch_size=16, size={"shortest_edge": area, "longest_edge": area})
    tokenizer = tiny_tokenizer()
    return PromptProcessor(image_processor, tokenizer, tokenizer.chat_template)
