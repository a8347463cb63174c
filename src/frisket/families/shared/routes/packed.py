"""Routes of transformers that are handed packed tokens: FLUX, FLUX.2, Qwen-Image.

Their rotary embeddings have no batch: the samples of a call keep the same tokens.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from frisket.families.routes import KeptTokens, RoutedBlock, align
from frisket.families.shared.routes.stacks import list_stack

DOUBLE, SINGLE = "transformer_blocks", "single_transformer_blocks"
ROTATED = align(image_rotary_emb=("joint", 0))  # a cosine and a sine for each row, text first


@dataclass(frozen=True, slots=True)
class FluxRoutes:
    """Of FLUX.1: double blocks and then single ones; both are handed text and image apart."""

    patch: tuple[int, int, int] = (1, 2, 2)
    shared: bool = True

    def list_blocks(self, denoiser: nn.Module) -> tuple[RoutedBlock, ...]:
        """Double blocks, then single blocks."""
        return (
            *list_stack(denoiser, DOUBLE, output=1, narrow=ROTATED),
            *list_stack(denoiser, SINGLE, output=1, narrow=ROTATED),
        )


@dataclass(frozen=True, slots=True)
class Flux2Routes:
    """Of FLUX.2: its single blocks are handed text and image as one sequence."""

    patch: tuple[int, int, int] = (1, 1, 1)
    shared: bool = True

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

    patch: tuple[int, int, int] = (1, 2, 2)
    shared: bool = True

    def list_blocks(self, denoiser: nn.Module) -> tuple[RoutedBlock, ...]:
        """All blocks are of one kind."""
        return list_stack(denoiser, DOUBLE, output=1, narrow=_narrow_qwen)


@dataclass(frozen=True, slots=True)
class Qwen21Routes:
    """Of Qwen-Image 2.1: one sequence of text and pictures, where the target comes last.

    What the blocks are told of the prefix (`segments`, `cache_write_slice`) stays as it is.
    """

    patch: tuple[int, int, int] = (1, 1, 1)
    shared: bool = True

    def list_blocks(self, denoiser: nn.Module) -> tuple[RoutedBlock, ...]:
        """All blocks are of one kind."""
        return list_stack(denoiser, DOUBLE, stream="joint", output=None, narrow=_narrow_qwen_21)


_INDEXED = align(modulate_index=("image", 1))
_ONE_SEQUENCE = align(
    rotary_emb=("joint", 0), target_token_mask=("joint", 0), key_valid=("joint", 1)
)


def _narrow_qwen(given: dict[str, Any], kept: KeptTokens) -> dict[str, Any]:
    """The rotary embedding is a pair: of the image's rows, and of the text's, which all stay."""
    taken = _INDEXED(given, kept)
    if given["image_rotary_emb"] is not None:
        of_image, of_text = given["image_rotary_emb"]
        taken["image_rotary_emb"] = (kept.take(of_image, "image", dim=0), of_text)
    return taken


def _narrow_qwen_21(given: dict[str, Any], kept: KeptTokens) -> dict[str, Any]:
    """ValueError for a mask of flex_attention: its blocks of rows cannot be gathered."""
    if given["attention_mask"] is not None:
        raise ValueError(
            "token routing cannot cut the attention mask of QwenImage21FlexAttnProcessor: use"
            " QwenImage21AttnProcessor, the default"
        )
    return _ONE_SEQUENCE(given, kept)
