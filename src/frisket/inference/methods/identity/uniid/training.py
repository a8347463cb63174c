"""UniID's identity-focused training (arXiv 2512.03964, section 3.2; the authors' script): the API.

What makes it identity-focused: every picture has the same caption but for the word man or woman, so
that the text explains nothing else of it; a branch reads a recognition network alone, which sees
little but the identity; and the branches are trained one without the other, the base frozen, with
nothing rescaled. Theirs is the plain error over the whole picture. Here it is whatever masked loss
the trainer has: weights of the face's region leave everything else unasked for as well.

Theirs: AdamW, weight decay 0.01; words 12 epochs at 1e-4, image tokens 16 at 1e-5; 512 pixels. The
first step of a new adapter branch adds nothing, and its norm makes gradients about 316 times too
large: clip them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from frisket.adapters.image.adapter import ImageAdapterModules as TrainedAdapter
from frisket.adapters.image.layouts import ImageAdapterFile, recognise
from frisket.adapters.image.numbering import number_layers
from frisket.adapters.image.uniid import UniIdAdapterProjection, UniIdTextProjection
from frisket.adapters.targets import unwrap_model
from frisket.families.base import Conditioning, Family
from frisket.families.experts import first
from frisket.inference.methods.identity.adapter_layers import list_expert_places
from frisket.inference.methods.identity.image_attention import (
    ImageAdapter,
    ImageAttention,
    find_shown_rows,
)
from frisket.inference.methods.identity.rescale import put_tokens, rescale_tokens
from frisket.inference.methods.identity.token_layers import name_layers

CAPTIONS = {
    "male": "a photo of a man",
    "female": "a photo of a woman",
    "": "a photo of a person",  # where nobody says
}


@dataclass(frozen=True, slots=True)
class FaceFeatures:
    """What the recognition network made of each sample's face: raw embeddings, and its maps."""

    embeddings: Float[Tensor, "b d"]
    maps: Sequence[Float[Tensor, "b _ _ _"]]

    def drop(self, samples: Bool[Tensor, "b"]) -> "FaceFeatures":
        """Zeros for these samples: for guidance, a branch must know what no face is."""

        def silence(tensor: Tensor) -> Tensor:
            axes = (1,) * (tensor.ndim - 1)
            return tensor.masked_fill(samples.to(tensor.device).view(-1, *axes), 0)

        return FaceFeatures(silence(self.embeddings), [silence(plane) for plane in self.maps])


@dataclass(frozen=True, slots=True)
class WordTraining:
    """The text branch as it learns: a prompt with the face in it, in place of the prompt.

    `norms` as the authors' option: of each encoder, those of names; None (their script) leaves the
    tokens as they are.
    """

    branch: UniIdTextProjection
    norms: Sequence[Float[Tensor, "t"]] | None = None

    def list_trained(self) -> Mapping[str, nn.Parameter]:
        """All that learns, by the names of a checkpoint."""
        return dict(self.branch.named_parameters())

    def condition(self, conditioning: Conditioning, features: FaceFeatures) -> Conditioning:
        """The same with every sample's face behind the first token of `text`, with gradients."""
        parts = self.branch(features.embeddings, features.maps[-1])
        if self.norms is not None:
            pairs = zip(parts, self.norms, strict=True)
            parts = tuple(rescale_tokens(part, norms) for part, norms in pairs)
        text = put_tokens(conditioning["text"], torch.cat(parts, dim=-1))
        return {**conditioning, "text": text}

    def to_file(self) -> ImageAdapterFile:
        """Copies of its weights, to be written by `write_image_adapter`."""
        state = {key: value.clone() for key, value in self.branch.state_dict().items()}
        return recognise(state, {}, kind="uniid-text")


@dataclass(frozen=True, slots=True)
class TokenTraining:
    """The adapter branch as it learns: projection, keys and values, beside a frozen denoiser."""

    family: Family
    denoiser: nn.Module
    adapter: TrainedAdapter

    @classmethod
    def start(
        cls, family: Family, denoiser: nn.Module, *, tokens: int = 25, hidden: int = 768
    ) -> "TokenTraining":
        """A new branch for a UNet, of the authors' sizes; keys and values begin as the text's.

        AdapterMismatch for a model without cross-attention.
        """
        model = unwrap_model(first(denoiser))
        width: int = model.config.cross_attention_dim  # type: ignore[union-attr,assignment]
        projection = UniIdAdapterProjection(width, tokens=tokens, hidden=hidden)
        adapter = TrainedAdapter.start_for_model("uniid-adapter", projection, model)
        return cls(family, denoiser, adapter)

    def list_trained(self) -> Mapping[str, nn.Parameter]:
        """All that learns: `image_proj.*` and `ip_adapter.{number}.*`."""
        return dict(self.adapter.named_parameters())

    @contextmanager
    def attach(self, features: FaceFeatures) -> Iterator[None]:
        """Inside, calls of the denoiser read each row's face; gradients reach the branch alone."""
        tokens = self.adapter.image_proj(list(features.maps))
        names = number_layers(self.family, self.denoiser)
        layers = name_layers(self.adapter.ip_adapter, names)
        adapter = ImageAdapter(layers.keys, layers.values, tokens)
        places = list_expert_places(self.family, self.denoiser)
        find_owners = partial(find_shown_rows, count=len(tokens))
        with ImageAttention(places, [adapter]).attach_branches(find_owners):
            yield

    def to_file(self) -> ImageAdapterFile:
        """Copies of its weights, to be written by `write_image_adapter`."""
        return self.adapter.to_file()
