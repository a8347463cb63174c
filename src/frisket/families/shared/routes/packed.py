"""Routes of transformers that are handed packed tokens: FLUX, FLUX.2, Qwen-Image."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from frisket.families.routes import KeptTokens, RoutedBlock, align
from frisket.families.shared.routes.rotary import align_rotary, take_rotary
from frisket.families.shared.routes.stacks import list_stack

DOUBLE, SINGLE = "transformer_blocks", "single_transformer_blocks"
ROTATED = align_rotary("image_rotary_emb", "joint")  # a row for each token, text first


@dataclass(frozen=True, slots=True)
class FluxRoutes:
    """Of FLUX.1: double blocks and then single ones; both are handed text and image apart."""

    def find_patch(self, denoiser: nn.Module) -> tuple[int, int, int]:
        """2 x 2 cells: the family folds them before it calls the denoiser."""
        return 1, 2, 2

    def list_blocks(self, denoiser: nn.Module) -> tuple[RoutedBlock, ...]:
        """Double blocks, then single blocks."""
        return (
            *list_stack(denoiser, DOUBLE, output=1, narrow=ROTATED),
            *list_stack(denoiser, SINGLE, output=1, narrow=ROTATED),
        )


@dataclass(frozen=True, slots=True)
class Flux2Routes:
    """Of FLUX.2: its single blocks are handed text and image as one sequence.

    So a window may go in as rows of the image and come out as joint rows.
    """

    shared: bool = False

    def find_patch(self, denoiser: nn.Module) -> tuple[int, int, int]:
        """One cell: FLUX.2's latents are folded already."""
        return 1, 1, 1

    def list_blocks(self, denoiser: nn.Module) -> tuple[RoutedBlock, ...]:
        """Double blocks, then single blocks."""
        return (
            *list_stack(denoiser, DOUBLE, output=1, narrow=ROTATED),
            *list_stack(denoiser, SINGLE, stream="joint", output=None, narrow=ROTATED),
        )


@dataclass(frozen=True, slots=True)
class QwenRoutes:
    """Of Qwen-Image: two streams all along.

    Edit 2511 tells reference pictures that they are clean: `modulate_index` has one number a row.
    """

    shared: bool = False

    def find_patch(self, denoiser: nn.Module) -> tuple[int, int, int]:
        """2 x 2 cells: the family packs them before it calls the denoiser."""
        return 1, 2, 2

    def list_blocks(self, denoiser: nn.Module) -> tuple[RoutedBlock, ...]:
        """All blocks are of one kind."""
        return list_stack(denoiser, DOUBLE, output=1, narrow=_narrow_qwen)


@dataclass(frozen=True, slots=True)
class Qwen21Routes:
    """Of Qwen-Image 2.1: one sequence of text and pictures, where the target comes last.

    What the blocks are told of the prefix (`segments`, `cache_write_slice`) stays as it is.
    """

    shared: bool = False

    def find_patch(self, denoiser: nn.Module) -> tuple[int, int, int]:
        """One cell: 2.1 is handed its latents unfolded."""
        return 1, 1, 1

    def list_blocks(self, denoiser: nn.Module) -> tuple[RoutedBlock, ...]:
        """All blocks are of one kind."""
        return list_stack(denoiser, DOUBLE, stream="joint", output=None, narrow=_narrow_qwen_21)


_INDEXED = align(modulate_index=("image", 1))
_VALID = align(key_valid=("joint", 1))


def _narrow_qwen(arguments: dict[str, Any], kept_tokens: KeptTokens) -> dict[str, Any]:
    """The rotary embedding is a pair: of the image's rows, and of the text's, which all stay."""
    image_rotary, text_rotary = arguments["image_rotary_emb"]
    pair = (take_rotary(image_rotary, kept_tokens, "image"), text_rotary)
    return {**_INDEXED(arguments, kept_tokens), "image_rotary_emb": pair}


def _narrow_qwen_21(arguments: dict[str, Any], kept_tokens: KeptTokens) -> dict[str, Any]:
    """ValueError for a mask of flex_attention: its blocks of rows cannot be gathered."""
    if arguments["attention_mask"] is not None:
        raise ValueError(
            "attention_mask: token routing cannot cut the mask of QwenImage21FlexAttnProcessor; use"
            " QwenImage21AttnProcessor, the default"
        )
    narrow_arguments = _VALID(arguments, kept_tokens)
    rotary = take_rotary(arguments["rotary_emb"], kept_tokens, "joint")
    target_mask = arguments["target_token_mask"]
    if target_mask is not None:
        # As many rows of each kind stay in every sample, in the same order: one mask does for all.
        target_mask = KeptTokens(kept_tokens.tokens[:1], kept_tokens.call).take(
            target_mask, "joint", dim=0
        )
    return {**narrow_arguments, "rotary_emb": rotary, "target_token_mask": target_mask}
