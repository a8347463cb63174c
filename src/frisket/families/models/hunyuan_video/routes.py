"""How the blocks of HunyuanVideo and HunyuanVideo-1.5 take a part of the image's tokens."""

from dataclasses import dataclass
from typing import Any

from diffusers import HunyuanVideo15Transformer3DModel, HunyuanVideoTransformer3DModel
from torch import nn

from frisket.families.routes import KeptTokens, Narrow, RoutedBlock, align
from frisket.families.shared.routes.rotary import align_rotary
from frisket.families.shared.routes.stacks import list_stack

# Of HunyuanVideo's blocks, in diffusers' names: the mask b 1 1 n has one column a token of
# [image | text]. In 1.5 it is b n of the text alone, and the processor widens it to the image.
JOINT_MASK = align(attention_mask=("joint", 3))
DOUBLE = align_rotary("freqs_cis", "image", JOINT_MASK)
SINGLE = align_rotary("image_rotary_emb", "image", JOINT_MASK)
DOUBLE_15 = align_rotary("freqs_cis", "image")


@dataclass(frozen=True, slots=True)
class HunyuanRoutes:
    """Text goes beside the image through all blocks, so a window may span both kinds of them."""

    def find_patch(self, denoiser: nn.Module) -> tuple[int, int, int]:
        """2 x 2 cells of a frame; one cell in 1.5."""
        config: Any = denoiser.config
        return config.patch_size_t, config.patch_size, config.patch_size

    def list_blocks(self, denoiser: nn.Module) -> tuple[RoutedBlock, ...]:
        """Double blocks, then single ones (1.5 has none); ValueError for another class."""
        if isinstance(denoiser, HunyuanVideo15Transformer3DModel):
            return list_stack(denoiser, "transformer_blocks", output=0, narrow=DOUBLE_15)
        if not isinstance(denoiser, HunyuanVideoTransformer3DModel):
            raise ValueError(f"{type(denoiser).__name__} is no transformer of HunyuanVideo")
        double, single = DOUBLE, SINGLE
        if denoiser.config["image_condition_type"] == "token_replace":
            double, single = _count_clean(double), _count_clean(single)
        return (
            *list_stack(denoiser, "transformer_blocks", output=0, narrow=double),
            *list_stack(denoiser, "single_transformer_blocks", output=0, narrow=single),
        )


def _count_clean(narrow: Narrow) -> Narrow:
    """The same for blocks that tell the first `num_tokens` rows (latent frame 0) a level of 0."""

    def narrow_counted(arguments: dict[str, Any], kept_tokens: KeptTokens) -> dict[str, Any]:
        clean = kept_tokens.tokens < arguments["num_tokens"]
        count = int(clean[0].sum())
        if not (bool((clean.sum(1) == count).all()) and bool(clean[:, :count].all())):
            raise ValueError(
                "num_tokens: the kept tokens of latent frame 0 must come first, as many in each"
                f" sample; there are {clean.sum(1).tolist()}"
            )
        return {**narrow(arguments, kept_tokens), "num_tokens": count}

    return narrow_counted
