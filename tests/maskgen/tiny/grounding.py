"""Tiny random builds of the phrase models, in the folders their real weights come in."""

from pathlib import Path
from typing import Any

import torch

WORDS = "the person face hair woman man astronaut cat dog hand body clothes suit flag red jacket"
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
SWIN = {
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 2, 2, 4],
    "window_size": 4,
    "out_indices": [2, 3, 4],
}
TASK_TOKENS = "od ocr cap ncap dcap grounding seg region_cap region_to_desciption proposal poly"


def pocket(folder: Path) -> Path:
    """A random pocket model, for the backend that asks a diffusion model."""
    from frisket.families.models.pocket.family import FAMILY

    FAMILY.save(FAMILY.tiny("image"), folder)
    return folder


def grounding_dino(folder: Path) -> Path:
    """GroundingDINO of 0.5 million parameters that reads pictures of 128 to 192 pixels."""
    import transformers

    return _dino(
        folder, transformers.GroundingDinoConfig, transformers.GroundingDinoForObjectDetection
    )


def mm_grounding_dino(folder: Path) -> Path:
    """The same as MM-GroundingDINO, the reproduction of OpenMMLab."""
    import transformers

    return _dino(
        folder, transformers.MMGroundingDinoConfig, transformers.MMGroundingDinoForObjectDetection
    )


def _dino(folder: Path, config: Any, model: Any) -> Path:
    import transformers

    tokenizer = _bert()
    built = _seeded(
        model,
        config(
            backbone_config=transformers.SwinConfig(**SWIN),
            text_config=transformers.BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=256,
            ),
            d_model=32,
            encoder_layers=1,
            decoder_layers=2,  # one alone leaves its box head untied, and loading refuses that
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            num_queries=10,
        ),
    )
    # Below 128 pixels the coarsest of the four levels is one cell, which GroupNorm refuses.
    pictures = transformers.GroundingDinoImageProcessorPil(
        size={"shortest_edge": 128, "longest_edge": 192}
    )
    return _saved(folder, built, transformers.GroundingDinoProcessor(pictures, tokenizer))


def clipseg(folder: Path) -> Path:
    """CLIPSeg of 0.1 million parameters that reads 64 x 64 pixels."""
    import transformers

    alphabet = _bytes()
    tokens = [
        *alphabet,
        *(f"{token}</w>" for token in alphabet),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    tokenizer = transformers.CLIPTokenizer(
        vocab={token: at for at, token in enumerate(tokens)}, merges=[], model_max_length=77
    )
    start, end = len(tokens) - 2, len(tokens) - 1
    built = _seeded(
        transformers.CLIPSegForImageSegmentation,
        transformers.CLIPSegConfig(
            text_config={
                **_small_clip(layers=1),
                "vocab_size": len(tokens),
                "bos_token_id": start,
                "eos_token_id": end,
                "pad_token_id": end,
            },
            vision_config={**_small_clip(layers=3), "image_size": 64, "patch_size": 16},
            projection_dim=32,
            extract_layers=[0, 1, 2],
            reduce_dim=16,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=32,
            conditional_layer=0,
            use_complex_transposed_convolution=True,
        ),
    )
    pictures = transformers.ViTImageProcessorPil(
        size={"height": 64, "width": 64},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    return _saved(folder, built, transformers.CLIPSegProcessor(pictures, tokenizer))


def florence2(folder: Path) -> Path:
    """Florence-2 of 0.2 million parameters that reads 64 x 64 pixels; a token is a letter."""
    import transformers

    tokenizer = _bart()
    built = _seeded(
        transformers.Florence2ForConditionalGeneration,
        transformers.Florence2Config(
            text_config=transformers.BartConfig(
                vocab_size=len(tokenizer),
                d_model=32,
                encoder_layers=1,
                decoder_layers=1,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=64,
                decoder_ffn_dim=64,
                max_position_embeddings=192,
            ),
            vision_config={
                "depths": (1, 1, 1, 1),
                "embed_dim": (16, 16, 32, 32),
                "num_heads": (1, 1, 2, 2),
                "num_groups": (1, 1, 2, 2),
                "window_size": 4,
                "projection_dim": 32,
                "max_temporal_embeddings": 4,
                "max_position_embeddings": 8,
            },
            image_token_id=tokenizer.image_token_id,
        ),
    )
    pictures = transformers.CLIPImageProcessorPil(
        size={"height": 64, "width": 64},
        do_center_crop=False,
        resample=3,
        image_seq_length=(64 // 32) ** 2 + 1,
    )
    processor = transformers.Florence2Processor(
        pictures,
        tokenizer,
        post_processor_config={
            "phrase_grounding": {"banned_grounding_tokens": ["it", "the image"]},
            "description_with_bboxes": {},
            "description_with_bboxes_or_polygons": {},
        },
    )
    return _saved(folder, built, processor)


def _seeded(model: Any, config: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model(config)


def _saved(folder: Path, model: Any, processor: Any) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _small_clip(layers: int) -> dict[str, int]:
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
    }


def _bytes() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def _bert() -> Any:
    """Some words, letters, and the numbers BERT gives the tokens GroundingDINO splits texts at."""
    import transformers

    told = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    told |= {1012: ".", 1029: "?"}
    tokens = [told.get(at, f"[unused{at}]") for at in range(1030)]
    tokens += [*LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS.split()]
    return transformers.BertTokenizer(
        vocab={token: at for at, token in enumerate(tokens)}, model_max_length=256
    )


def _bart() -> Any:
    import transformers

    tokens = ["<s>", "<pad>", "</s>", "<unk>", *_bytes(), "<mask>"]
    tokenizer = transformers.BartTokenizer(
        vocab={token: at for at, token in enumerate(tokens)},
        merges=[],
        model_max_length=1024,
        extra_special_tokens={"image_token": "<image>"},
    )
    tasks = [f"<{slash}{task}>" for task in TASK_TOKENS.split() for slash in ("", "/")]
    bins = [f"<loc_{at}>" for at in range(1000)]
    tokenizer.add_tokens([*tasks, *bins, "<sep>", "<and>"], special_tokens=True)
    return tokenizer
