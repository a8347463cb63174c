"""Tiny random builds of the SAM family: the real classes and files, small enough for a CPU."""

import json
from pathlib import Path
from typing import Any

import torch

# Sam 2 wants a multiple of 64 above the memory's 64 channels; Sam 3's image model wants less.
SIDE, WIDTH, NARROW, PATCH = 64, 128, 32, 14
SAM3_SIDE = 4 * PATCH
LOUDER = 4
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


def sam2(folder: Path) -> Path:
    """Write a random Sam2Model that reads 64 x 64 and answers masks of 16 x 16."""
    import transformers as tf

    config = tf.Sam2Config(
        vision_config=_hiera(NARROW),
        prompt_encoder_config=_prompts(NARROW),
        mask_decoder_config=_decoder(NARROW),
    )
    return _save(tf.Sam2Model, config, folder, SIDE, IMAGENET)


def sam2_video(folder: Path) -> Path:
    """Write a random Sam2VideoModel that reads 64 x 64 and answers masks of 16 x 16."""
    import transformers as tf

    config = tf.Sam2VideoConfig(
        vision_config=_hiera(WIDTH),
        image_size=SIDE,
        prompt_encoder_config=_prompts(WIDTH),
        mask_decoder_config=_decoder(WIDTH),
        **_memory(SIDE // 16),
    )
    return _save(tf.Sam2VideoModel, config, folder, SIDE, IMAGENET)


def sam3(folder: Path) -> Path:
    """Write a random Sam3Model (8 queries, 56 x 56, masks of 16 x 16) and a byte tokenizer.

    It holds every phrase for present, so that about half of its queries pass the threshold.
    """
    import transformers as tf

    config = tf.Sam3Config(**_detector(NARROW))
    return _tokenizer(_save(tf.Sam3Model, config, folder, SAM3_SIDE, HALF))


def sam3_video(folder: Path) -> Path:
    """Write a random Sam3VideoModel: sam3's detector beside a tracker, as one checkpoint.

    Its thresholds let everything through at once: random weights are sure of nothing.
    """
    import transformers as tf

    detector = _detector(WIDTH)
    tracker = tf.Sam3TrackerVideoConfig(
        vision_config=detector["vision_config"],
        image_size=SAM3_SIDE,
        prompt_encoder_config=_prompts(WIDTH) | {"image_size": SAM3_SIDE, "patch_size": PATCH},
        mask_decoder_config=_decoder(WIDTH),
        **_memory(SAM3_SIDE // PATCH),
    )
    config = tf.Sam3VideoConfig(
        detector_config=tf.Sam3Config(**detector).to_dict(),
        tracker_config=tracker.to_dict(),
        low_res_mask_size=16,
        hotstart_delay=0,
        hotstart_unmatch_thresh=0,
        hotstart_dup_thresh=0,
        score_threshold_detection=0.0,
        new_det_thresh=0.0,
    )
    return _tokenizer(_save(tf.Sam3VideoModel, config, folder, SAM3_SIDE, HALF))


def _hiera(width: int) -> dict[str, Any]:
    cells = SIDE // 4
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 12,
        "num_attention_heads": 1,
        "image_size": [SIDE, SIDE],
        "window_positional_embedding_background_size": [cells // 4, cells // 4],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [12, 24, 48, 96],
        "num_attention_heads_per_stage": [1, 1, 1, 1],
        "window_size_per_stage": [4, 2, 4, 2],
        # A block that sees the whole picture may not open its stage: it has no window to divide by.
        "global_attention_blocks": [3],
        "num_query_pool_stages": 3,
    }
    return {
        "backbone_config": backbone,
        "backbone_channel_list": [96, 48, 24, 12],
        "backbone_feature_sizes": [[cells // n, cells // n] for n in (1, 2, 4)],
        "fpn_hidden_size": width,
    }


def _prompts(width: int) -> dict[str, Any]:
    return {"hidden_size": width, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}


def _decoder(width: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "mlp_dim": 64,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 32,
    }


def _memory(cells: int) -> dict[str, Any]:
    return {
        "memory_attention_hidden_size": WIDTH,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 64,
        "memory_attention_rope_feat_sizes": [cells, cells],
        "memory_encoder_hidden_size": WIDTH,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": WIDTH,
        "memory_fuser_embed_dim": WIDTH,
        "memory_fuser_intermediate_dim": 64,
        "memory_fuser_num_layers": 1,
    }


def _detector(width: int) -> dict[str, Any]:
    cells = SAM3_SIDE // PATCH
    layer = {"num_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    return {
        "vision_config": {
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": SAM3_SIDE,
                "patch_size": PATCH,
                "window_size": 2,
                "global_attn_indexes": [1],
                "pretrain_image_size": 2 * PATCH,
            },
            "fpn_hidden_size": width,
            "backbone_feature_sizes": [[cells * n, cells * n] for n in (4, 2, 1)],
        },
        "text_config": {
            "vocab_size": 514,
            "hidden_size": 32,
            "intermediate_size": 64,
            "projection_dim": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 32,
            "hidden_act": "gelu",
            "bos_token_id": 512,
            "eos_token_id": 513,
            "pad_token_id": 513,
        },
        "geometry_encoder_config": {"hidden_size": width, **layer},
        "detr_encoder_config": {"hidden_size": width, **layer},
        "detr_decoder_config": {"hidden_size": width, **layer, "num_queries": 8},
        "mask_decoder_config": {"hidden_size": width, "num_attention_heads": 2},
    }


def _save(kind: Any, config: Any, folder: Path, side: int, colour: dict[str, Any]) -> Path:
    """Weights from seed 0, whatever was drawn before, and the preprocessor's numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config).eval()
    # As drawn (deviation 0.02) every answer is 0.5 to the third digit, whatever was asked.
    for weight in model.parameters():
        weight.data.mul_(LOUDER if weight.ndim > 1 else 1)
    if config.model_type == "sam3":
        model.detr_decoder.presence_head.layer3.bias.data.fill_(10)
    model.save_pretrained(folder)
    # Written by hand: the stock processors of this family do not load without torchvision.
    numbers = {"size": {"height": side, "width": side}, **colour}
    (folder / "preprocessor_config.json").write_text(json.dumps(numbers), encoding="utf-8")
    return folder


def _tokenizer(folder: Path) -> Path:
    """A CLIP tokenizer without merges: one token a byte, so 30 characters fill its room."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters)]
    vocabulary = {word: at for at, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=32).save_pretrained(folder)
    return folder
