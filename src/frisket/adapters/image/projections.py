"""Projections of IP-Adapter, FaceID and InstantID: an image's embedding to tokens of attention.

Written from the equations of the paper (Ye and others 2023, arXiv 2308.06721, section 3.2) and of
the authors' files; each loads the `image_proj` part of a public file by `load_state_dict`. `b` is
samples, `m` tokens of the image encoder, `n` tokens made, `s` and `d` their widths.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.adapters.image.perceiver import TokenResampler, count_layers, make_layers, read_through

Negative = Literal["zeros", "zero image"]
Embedding = Tensor | Sequence[Tensor]  # several where a projection reads several feature maps


def make_zeros(embedding: Embedding) -> Embedding:
    """Zeros of the same form."""
    if isinstance(embedding, Tensor):
        return torch.zeros_like(embedding)
    return [torch.zeros_like(plane) for plane in embedding]


class ImageProjection(nn.Module, ABC):
    """What all projections have: tokens of an embedding, and tokens of the unconditional row.

    `negative` says what the authors feed for the unconditional row of classifier-free guidance.
    "zeros": an embedding of zeros. "zero image": what the image encoder makes of a black image, as
    normalised for it (that is, a tensor of zeros in place of pixels), which is no zero tensor.
    `tokens` and `width` are those of what it makes.
    """

    negative: ClassVar[Negative] = "zeros"
    tokens: int
    width: int

    @classmethod
    @abstractmethod
    def from_shapes(cls, tensors: Mapping[str, Tensor]) -> "ImageProjection":
        """One of the sizes that the tensors of a file have, its weights still random."""

    def project_negative(
        self, embedding: Embedding, zero_image: Tensor | None = None
    ) -> Float[Tensor, "b n d"]:
        """Tokens of the unconditional row, one for each row of `embedding`.

        `zero_image` is what the image encoder makes of the zero image, 1 m s or b m s; ValueError
        where it is needed and left out.
        """
        if self.negative == "zeros":
            return self(make_zeros(embedding))
        return self(self._need_zero_image(zero_image, len(embedding)))

    def _need_zero_image(self, zero_image: Tensor | None, rows: int) -> Tensor:
        if zero_image is None:
            raise ValueError(
                f"{type(self).__name__}: the unconditional row is the image encoder's reading of a"
                " zero image, not zeros; pass it as zero_image"
            )
        return zero_image.expand(rows, *zero_image.shape[1:])


class PooledProjection(ImageProjection):
    """IP-Adapter (base): LN(reshape(W c + b)), of the pooled embedding of CLIP."""

    def __init__(self, embedding: int, width: int, tokens: int = 4) -> None:
        super().__init__()
        self.tokens, self.width = tokens, width
        self.proj = nn.Linear(embedding, tokens * width)
        self.norm = nn.LayerNorm(width)

    @classmethod
    def from_shapes(cls, tensors: Mapping[str, Tensor]) -> "PooledProjection":
        """One of the sizes of `proj.weight` and `norm.weight`."""
        rows, embedding = tensors["proj.weight"].shape
        width = len(tensors["norm.weight"])
        return cls(embedding, width, rows // width)

    def forward(self, embedding: Float[Tensor, "b s"]) -> Float[Tensor, "b n d"]:
        """Tokens of the embedding."""
        return self.norm(self.proj(embedding).unflatten(-1, (self.tokens, self.width)))


class TokenwiseProjection(ImageProjection):
    """IP-Adapter full: an MLP and layer norm on each token of CLIP's last hidden state but one.

    Of the public file (full-face) those are 257 tokens, the class token included.
    """

    negative: ClassVar[Negative] = "zero image"

    def __init__(self, embedding: int, width: int, tokens: int = 257) -> None:
        super().__init__()
        self.tokens, self.width = tokens, width
        self.proj = nn.Sequential(
            nn.Linear(embedding, embedding),
            nn.GELU(),
            nn.Linear(embedding, width),
            nn.LayerNorm(width),
        )

    @classmethod
    def from_shapes(cls, tensors: Mapping[str, Tensor]) -> "TokenwiseProjection":
        """One of the sizes of `proj.2.weight`."""
        width, embedding = tensors["proj.2.weight"].shape
        return cls(embedding, width)

    def forward(self, states: Float[Tensor, "b n s"]) -> Float[Tensor, "b n d"]:
        """As many tokens as there are states."""
        return self.proj(states)


class ResamplerProjection(ImageProjection):
    """IP-Adapter plus: a perceiver with latents of its own reads the tokens of CLIP."""

    negative: ClassVar[Negative] = "zero image"

    def __init__(
        self,
        embedding: int,
        width: int,
        *,
        tokens: int = 16,
        hidden: int = 1280,
        inner: int | None = None,
        depth: int = 4,
    ) -> None:
        super().__init__()
        self.tokens, self.width = tokens, width
        self.latents = nn.Parameter(torch.randn(1, tokens, hidden) / hidden**0.5)
        self.proj_in = nn.Linear(embedding, hidden)
        self.proj_out = nn.Linear(hidden, width)
        self.norm_out = nn.LayerNorm(width)
        self.layers = make_layers(hidden, depth, inner)

    @classmethod
    def from_shapes(cls, tensors: Mapping[str, Tensor]) -> "ResamplerProjection":
        """One of the sizes of the latents, the two projections and the first attention."""
        return cls(
            tensors["proj_in.weight"].shape[1],
            tensors["proj_out.weight"].shape[0],
            tokens=tensors["latents"].shape[1],
            hidden=tensors["latents"].shape[2],
            inner=tensors["layers.0.0.to_q.weight"].shape[0],
            depth=count_layers(tensors),
        )

    def forward(self, states: Float[Tensor, "b m s"]) -> Float[Tensor, "b n d"]:
        """Tokens that the latents have become after reading the states."""
        latents = self.latents.expand(len(states), -1, -1)
        latents = read_through(self.layers, [self.proj_in(states)], latents)
        return self.norm_out(self.proj_out(latents))


class FaceResamplerProjection(ResamplerProjection):
    """InstantID: the same perceiver over one token, the raw embedding of a face.

    Its unconditional row is an embedding of zeros (arXiv 2401.07519, and the authors' pipeline).
    """

    negative: ClassVar[Negative] = "zeros"

    def forward(
        self, face: Float[Tensor, "b s"] | Float[Tensor, "b m s"]
    ) -> Float[Tensor, "b n d"]:
        """Tokens of a face, b s as an embedder gives it or b 1 s."""
        return super().forward(face.unsqueeze(1) if face.ndim == 2 else face)


class FaceProjection(ImageProjection):
    """FaceID: LN(reshape(MLP(f))) of a face's embedding of length one."""

    def __init__(
        self, embedding: int, width: int, tokens: int = 4, hidden: int | None = None
    ) -> None:
        super().__init__()
        self.tokens, self.width = tokens, width
        hidden = 2 * embedding if hidden is None else hidden
        self.proj = nn.Sequential(
            nn.Linear(embedding, hidden), nn.GELU(), nn.Linear(hidden, tokens * width)
        )
        self.norm = nn.LayerNorm(width)

    @classmethod
    def from_shapes(cls, tensors: Mapping[str, Tensor]) -> "FaceProjection":
        """One of the sizes of the MLP and the norm (the portrait files have 16 tokens)."""
        hidden, embedding = tensors["proj.0.weight"].shape
        width = len(tensors["norm.weight"])
        return cls(embedding, width, len(tensors["proj.2.weight"]) // width, hidden)

    def forward(self, face: Float[Tensor, "b s"]) -> Float[Tensor, "b n d"]:
        """Tokens of a face."""
        return self.norm(self.proj(face).unflatten(-1, (self.tokens, self.width)))


class FacePlusProjection(ImageProjection):
    """FaceID-Plus: tokens of the face are the latents of a perceiver over CLIP's tokens of it.

    x = LN(reshape(MLP(f))), y = resample(x, CLIP states of the crop); y, or x + scale y with the
    `shortcut` of the second version (plusv2). The unconditional row: zeros in place of the face,
    and the zero image in place of the crop.
    """

    negative: ClassVar[Negative] = "zero image"

    def __init__(
        self,
        embedding: int,
        width: int,
        *,
        states: int = 1280,
        tokens: int = 4,
        hidden: int | None = None,
        depth: int = 4,
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.tokens, self.width, self.shortcut = tokens, width, shortcut
        hidden = 2 * embedding if hidden is None else hidden
        self.proj = nn.Sequential(
            nn.Linear(embedding, hidden), nn.GELU(), nn.Linear(hidden, tokens * width)
        )
        self.norm = nn.LayerNorm(width)
        self.perceiver_resampler = TokenResampler(width, states, width, depth)

    @classmethod
    def from_shapes(cls, tensors: Mapping[str, Tensor]) -> "FacePlusProjection":
        """One of the sizes of the MLP, the norm and the resampler, without shortcut."""
        hidden, embedding = tensors["proj.0.weight"].shape
        width = len(tensors["norm.weight"])
        return cls(
            embedding,
            width,
            states=tensors["perceiver_resampler.proj_in.weight"].shape[1],
            tokens=len(tensors["proj.2.weight"]) // width,
            hidden=hidden,
            depth=count_layers(tensors, "perceiver_resampler."),
        )

    def forward(
        self, face: Float[Tensor, "b s"], states: Float[Tensor, "b m c"], scale: float = 1.0
    ) -> Float[Tensor, "b n d"]:
        """Tokens of a face and CLIP's tokens of its crop; `scale` (v2 alone) weighs the latter."""
        tokens = self.norm(self.proj(face).unflatten(-1, (self.tokens, self.width)))
        resampled = self.perceiver_resampler(tokens, states)
        return tokens + scale * resampled if self.shortcut else resampled

    def project_negative(
        self, embedding: Embedding, zero_image: Tensor | None = None, scale: float = 1.0
    ) -> Float[Tensor, "b n d"]:
        """Tokens of a face of zeros and of the zero image."""
        states = self._need_zero_image(zero_image, len(embedding))
        return self(make_zeros(embedding), states, scale)
