"""Choices of layers by name: which of a denoiser's layers an adapter goes on.

The words are OneTrainer's, and what they choose as well, where it knows the family
(modules/modelSetup, LAYER_PRESETS): a word is looked for anywhere in a layer's name.
"""

from collections.abc import Mapping


def presets(
    attention: str = "attn", mlp: str = "", blocks: str = "transformer_blocks"
) -> Mapping[str, tuple[str, ...]]:
    """By name, regular expressions for the layers of attention, feed-forward and blocks.

    `attn-mlp` only where `mlp` is given, `blocks` only where `blocks` is. `full` is every layer.
    """
    patterns = {"attn": attention, "full": "."}
    if mlp:
        patterns["attn-mlp"] = f"{attention}|{mlp}"
    if blocks:
        patterns["blocks"] = blocks
    return {name: (f"/{pattern}/",) for name, pattern in patterns.items()}
