"""What FreeFuse's own code and ours are given: a tiny FLUX, two LoRAs on it, a prompt.

Weights are numpy's RandomState, whose stream is frozen, so that the test draws what was recorded.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from peft import LoraConfig
from torch import Tensor, nn

CONFIG: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 64,
    "num_layers": 19,  # the authors' code reads block 18
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 24,
    "pooled_projection_dim": 20,
    "guidance_embeds": True,
    "axes_dims_rope": (4, 4, 8),
}
LAYERS = (
    *("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
    *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp"),
)
SINGLE_OUT = "single_transformer_blocks.0.proj_out"  # the model's head has the same ending
ADAPTERS = ("first", "second")
PHRASES = {"first": (2, 3), "second": (6,)}  # positions on the text axis
BACKGROUND = (8, 9)
END = 10
TEXT = 12
HEIGHT, WIDTH = 128, 96
CELLS = (1, 8, 6)
STEPS, COLLECT = 7, 5
GUIDANCE, SEED = 3.5, 11
RANK = 2
BIAS = 4.0, 2.0  # negative, positive
# Attention's output is that of a trained FLUX in size: the authors divide its products by 4000.
LOUD = {"transformer_blocks.18.attn.to_v.weight": 60.0}


def draw(name: str, shape: Sequence[int], scale: float = 1.0) -> Tensor:
    """The same numbers for the same name, everywhere."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    return torch.from_numpy((values * scale).astype(np.float32))


def add_adapters(model: Any) -> None:
    """Two plain LoRAs of peft's, side by side."""
    for adapter in ADAPTERS:
        targets = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear)
            and "lora" not in name
            and (name.removesuffix(".base_layer").endswith(LAYERS) or SINGLE_OUT in name)
        ]
        names = [name.removesuffix(".base_layer") for name in targets]
        model.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=names), adapter)
    model.set_adapters(list(ADAPTERS))


def fill(model: nn.Module) -> None:
    """Every weight by its name: none is zero, so that nothing is hidden."""
    for name, value in model.named_parameters():
        key = name.replace(".base_layer", "")
        fan = value.shape[-1] if value.ndim > 1 else 1
        scale = 0.5 if "lora" in key else LOUD.get(key, 1.0)
        if value.ndim == 1:
            level = 1.0 if "norm" in key and "linear" not in key else 0.0
            value.data = level + draw(key, value.shape, 0.1)
        else:
            value.data = draw(key, value.shape, scale / fan**0.5)


def conditioning() -> dict[str, Tensor]:
    """The text b n d and its summary b d."""
    return {
        "text": draw("text", (1, TEXT, CONFIG["joint_attention_dim"])),
        "pooled": draw("pooled", (1, CONFIG["pooled_projection_dim"])),
    }


# Balanced argmax by itself: height, width, concepts, and what differs from the defaults.
BALANCES: dict[str, tuple[int, int, int, dict[str, float]]] = {
    "plain": (8, 8, 2, {}),
    "three": (7, 11, 3, {}),
    "heavy": (9, 6, 2, {"gravity_weight": 0.3, "spatial_weight": 0.2}),
    "bordered": (10, 8, 3, {"border_penalty": 0.4, "centroid_margin": 0.7, "anisotropy": 1.6}),
    "slow": (8, 12, 2, {"momentum": 0.6, "lr": 0.2, "max_iter": 6, "target_count": 20.0}),
    "votes off": (6, 6, 2, {"spatial_weight": 0.0}),
}
CLEANS = {"two": (9, 7, 2), "three": (12, 8, 3), "wide": (5, 16, 2)}  # height, width, window


def draw_maps(name: str, count: int, concepts: int) -> Tensor:
    """Maps of two samples."""
    return draw(name, (2, concepts, count))
