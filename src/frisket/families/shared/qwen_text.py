"""Qwen2.5-VL, text encoder of Qwen-Image, the processor that shows it pictures, tiny parts."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import (
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImagePipeline,
)
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
)

from frisket.attention.tokens import Spans
from frisket.families import tiny
from frisket.families.defaults import TextBundle
from frisket.families.shared.prompt_spans import read_template
from frisket.families.shared.qwen_references import (
    ReferencePictures,
    check_count,
    check_references,
    pictures_of,
    resize_for_text,
)

PICTURE = "<|image_pad|>"  # one a 28 x 28 pixel cell; the processor repeats it as often as needed
VISION = ("<|vision_start|>", "<|vision_end|>", PICTURE, "<|video_pad|>")
SHOWN_PICTURE = VISION[0] + PICTURE + VISION[1]  # a picture in an edit pipeline's template
TINY_PIXELS = 56 * 56  # of a picture before the tiny encoder: 2 x 2 cells


class PictureProcessor(Qwen2VLProcessor):
    """The stock processor for text and pictures, without the part for videos.

    That part needs torchvision, and the stock class does not work without it. Pictures are resized
    by Pillow (transformers' `Qwen2VLImageProcessorPil`), the same on every machine.
    """

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None
    ) -> None:
        """Bind the two, and the ids of the picture tokens in the tokenizer's vocabulary."""
        self.image_token, self.video_token = VISION[2:]
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def from_pretrained(cls, source: str, **options: Any) -> Any:
        """Read a `processor/` folder, or one of a hub repository; OSError where it is not there."""
        pictures: Any = Qwen2VLImageProcessorPil
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        template = getattr(tokenizer, "chat_template", None)
        return cls(pictures.from_pretrained(source, **options), tokenizer, template)

    def to_dict(self) -> dict[str, Any]:
        """What `save_pretrained` writes: under the name of the stock class, which reads it."""
        return {**super().to_dict(), "processor_class": Qwen2VLProcessor.__name__}


class EditText(TextBundle):
    """The text bundle of an edit model; `several`: its prompt numbers any number of pictures."""

    def __init__(self, *, several: bool, **parts: Any) -> None:
        """Hold the parts, as `TextBundle` does, by the pipeline's names."""
        super().__init__(**parts)
        self.several = several


def find_qwen_spans(
    text: TextBundle,
    prompts: Sequence[str],
    references: Sequence[ReferencePictures],
    longest: int,
) -> list[Spans]:
    """Spans on the axis of Qwen-Image's `text`: the template's beginning is not on it, its end is.

    `longest` is where a text-to-image prompt is cut. A picture is as many positions (None) as the
    encoder sees it in, so that an edit model's prompts need theirs: ValueError where `references`
    are not of every prompt.
    """
    kind: Any = QwenImagePipeline
    if isinstance(text, EditText):
        kind = QwenImageEditPlusPipeline if text.several else QwenImageEditPipeline
    parts = {"text_encoder": None, **text.parts()}
    pipeline = kind(**parts, vae=None, scheduler=None, transformer=None)
    template, dropped = pipeline.prompt_template_encode, pipeline.prompt_template_encode_start_idx
    if not isinstance(text, EditText):
        options = {"truncation": True, "max_length": pipeline.tokenizer_max_length + dropped}
        rows = [
            read_template(pipeline.tokenizer, template.format, prompt, **options).spans
            for prompt in prompts
        ]
        return [row[dropped:][:longest] for row in rows]
    check_references(len(prompts), len(references))
    return [
        _find_edit_spans(text, template, prompt, pictures)[dropped:]
        for prompt, pictures in zip(prompts, references, strict=True)
    ]


def _find_edit_spans(
    text: EditText, template: str, prompt: str, references: ReferencePictures
) -> Spans:
    """All positions of the template, each picture's mark repeated as the processor repeats it."""
    pictures = pictures_of(references)
    check_count(len(pictures), several=text.several, prompt=prompt)
    processor: Any = text.processor
    resized = [resize_for_text(picture, several=text.several) for picture in pictures]
    features: Any = processor.image_processor(images=resized, return_tensors="pt")
    cells = processor.image_processor.merge_size**2
    lengths = iter((features["image_grid_thw"].prod(-1) // cells).tolist())
    marks = [f"Picture {index + 1}: {SHOWN_PICTURE}" for index in range(len(pictures))]
    before = "".join(marks) if text.several else ""
    tokens = read_template(
        processor.tokenizer, lambda words: template.format(before + words), prompt
    )
    row: list[tuple[int, int] | None] = []
    for token, span in zip(*tokens, strict=True):
        row += [None] * next(lengths) if token == processor.image_token_id else [span]
    return row


def see_in_place(encoder: nn.Module) -> nn.Module:
    """Give picture tokens their two-dimensional positions again, whoever calls the encoder.

    Since transformers 5 the encoder knows them by `mm_token_type_ids`, which the edit pipelines of
    diffusers do not pass on (huggingface/diffusers#14194, open): it then takes a picture for a line
    of words without an error, which is not what the models were trained with. Does nothing where
    the types are given.
    """
    encoder.register_forward_pre_hook(_name_token_types, with_kwargs=True)
    return encoder


def _name_token_types(
    encoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    ids: Tensor | None = kwargs.get("input_ids")
    grids = kwargs.get("image_grid_thw")
    if ids is None or grids is None or kwargs.get("mm_token_type_ids") is not None:
        return None
    config: Any = encoder.config
    return args, {**kwargs, "mm_token_type_ids": (ids == config.image_token_id).int()}


def tiny_encoder() -> nn.Module:
    """Two text layers, one vision layer, 16 channels wide, for the ids of `tiny_tokenizer`."""
    ids = {token: index for index, token in enumerate((*tiny.SPECIAL, *VISION))}
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "vocab_size": tiny.VOCABULARY,
            "pad_token_id": 0,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [1, 1, 2],
                "rope_theta": 1e6,
            },
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
        },
        vision_start_token_id=ids[VISION[0]],
        vision_end_token_id=ids[VISION[1]],
        image_token_id=ids[VISION[2]],
        video_token_id=ids[VISION[3]],
    )
    return see_in_place(Qwen2_5_VLForConditionalGeneration(config))


def tiny_tokenizer() -> Any:
    """One token a byte, and the picture tokens."""
    return tiny.tokenizer(4096, extra=VISION)


def tiny_processor() -> PictureProcessor:
    """Of `tiny_tokenizer`; a picture is seen as 4 tokens, or thereabouts."""
    pictures: Any = Qwen2VLImageProcessorPil
    image_processor = pictures(size={"shortest_edge": TINY_PIXELS, "longest_edge": TINY_PIXELS})
    return PictureProcessor(image_processor, tiny_tokenizer())


@torch.no_grad()
def pad_texts(rows: list[Tensor]) -> Tensor:
    """Texts of different lengths (each 1 l ...) as one tensor, zeros after the end of the short."""
    longest = max(row.shape[1] for row in rows)
    output = rows[0].new_zeros(len(rows), longest, *rows[0].shape[2:])
    for index, row in enumerate(rows):
        output[index, : row.shape[1]] = row[0]
    return output


def trim_texts(text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """Text and mask as far as the longest prompt goes; no mask where all go that far.

    Attention without a mask is what the pipeline runs there, and the only kind that is fast.
    """
    lengths = mask.sum(1)
    longest = int(lengths.max())
    if int(lengths.min()) == longest:
        return text[:, :longest], None
    return text[:, :longest], mask[:, :longest]
