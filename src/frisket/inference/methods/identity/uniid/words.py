"""UniID's text branch: a face as tokens behind the prompt's first, exchanged in the attention.

The authors' pipeline hands the UNet another prompt in every step. Here the prompt stays as it is,
and every cross-attention layer gives what it would give of the other one: the same numbers, since a
UNet reads its prompt nowhere else, but confined by a mask where there is one, and other methods
still find the prompt's own words.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.attention.base import AttentionLayer
from frisket.inference.methods.identity.image_attention import ImageAdapter, Projection
from frisket.inference.methods.identity.rescale import put_tokens, rescale_tokens
from frisket.inference.methods.plugin import MethodUnusable

NormSource = Literal["prompt", "names", "none"]


@dataclass(frozen=True, slots=True)
class FaceWords:
    """A face's tokens for each text encoder, before scale; `tokens` are 1 t d, one an encoder.

    `norms` are those a token at its place is brought to: numbers of each encoder for names of
    people (as the authors measure them), "prompt" (those of the tokens that the prompt itself has
    there: ours, where nobody measured names) or None (left as the branch gave them, as theirs
    without a list of names).
    """

    tokens: Sequence[Float[Tensor, "1 t _"]]
    norms: Sequence[Float[Tensor, "t"]] | Literal["prompt"] | None = "prompt"

    @property
    def width(self) -> int:
        """Channels of the prompt that they go into, all encoders side by side."""
        return sum(tokens.shape[-1] for tokens in self.tokens)

    def write_into(self, text: Float[Tensor, "b s c"], scale: float) -> Float[Tensor, "b s c"]:
        """Prompts with the face behind their first token; as many of the last are dropped.

        ValueError where the prompt is of another width, or too short.
        """
        if text.shape[-1] != self.width:
            raise ValueError(
                f"the face's tokens are {self.width} channels wide, the prompt {text.shape[-1]}"
            )
        parts = text.split([tokens.shape[-1] for tokens in self.tokens], dim=-1)
        tokens = [self._scale(index, part, scale) for index, part in enumerate(parts)]
        return put_tokens(text, torch.cat(tokens, dim=-1))

    def _scale(self, index: int, text: Tensor, scale: float) -> Float[Tensor, "b t _"]:
        """The tokens of one encoder for each prompt."""
        tokens = self.tokens[index].to(text.device).float()
        if self.norms is None:
            return (scale * tokens).expand(len(text), -1, -1)
        if self.norms == "prompt":
            words = text[:, 1 : 1 + tokens.shape[1]].float()
            rows = torch.linalg.vector_norm(words, dim=-1)
            return torch.cat([rescale_tokens(tokens, norms, scale) for norms in rows])
        norms = self.norms[index].to(tokens)
        return rescale_tokens(tokens, norms, scale).expand(len(text), -1, -1)


def replace_output(branch: Float[Tensor, "r n c"], output: Float[Tensor, "r n c"]) -> Tensor:
    """What makes of a layer's output what it gives for another prompt."""
    return branch - output


def list_word_adapters(
    words: FaceWords,
    layers: Sequence[AttentionLayer],
    text: Float[Tensor, "b s c"],
    scales: Sequence[float],
    mask: Float[Tensor, "m f h w"] | None = None,
) -> list[ImageAdapter]:
    """One for each scale that is not 0, on in the steps that have it; of the prompt's side alone.

    `scales` are one a step, the last holds on. With a scale of 0 the prompt is as it was (theirs
    then has zeros in place of its words). MethodUnusable for a layer without keys of its own.
    """
    keys, values = (_list_projections(layers, name) for name in ("to_k", "to_v"))
    return [
        ImageAdapter(
            keys,
            values,
            words.write_into(text, scale),
            scale=tuple(float(scale == other) for other in scales),
            mask=mask,
            merge=replace_output,
        )
        for scale in sorted({scale for scale in scales if scale != 0})
    ]


def _list_projections(layers: Sequence[AttentionLayer], name: str) -> Mapping[str, Projection]:
    return dict(_find_projections(layers, name))


def _find_projections(
    layers: Sequence[AttentionLayer], name: str
) -> Iterator[tuple[str, Projection]]:
    for layer in layers:
        projection: Any = getattr(layer.module, name, None)
        if layer.kind != "cross" or projection is None:
            raise MethodUnusable(
                f"the layer {layer.name} has no {name} for the prompt alone: UniID's text branch"
                " is for UNets with cross-attention (SDXL)"
            )
        # `forward`: hooks on the projection are about the layer's own call.
        yield layer.name, projection.forward
