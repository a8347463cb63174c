"""The two branches of UniID (arXiv 2512.03964): a face as words of the prompt, and as image tokens.

Both read a recognition network (iResNet): its raw embedding b 512, and the feature maps after its
four stages, b 64 56 56, b 128 28 28, b 256 14 14 and b 512 7 7 of a 112 x 112 crop. Written from
the paper and the authors' file layout; each loads its branch by `load_state_dict`.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from frisket.adapters.image.perceiver import TokenResampler, count_layers, make_layers, read_through
from frisket.adapters.image.projections import ImageProjection
from frisket.adapters.spec import AdapterMismatch

GRID = 16  # cells a side that the earlier feature maps are resized to
DEEP, SHALLOW = 1, 0  # places of the two inputs' projections in the file


class UniIdTextProjection(nn.Module):
    """Text branch: tokens to be put behind the start token of each text encoder's output.

    For text encoder e: x = LN(reshape(MLP_e(f))), then resampled over the 49 cells of the last
    feature map. The negative prompt gets no tokens, so there is no unconditional row.
    """

    def __init__(
        self,
        widths: tuple[int, int] = (768, 1280),
        tokens: int = 3,
        embedding: int = 512,
        depth: int = 4,
    ) -> None:
        super().__init__()
        self.widths, self.tokens = widths, tokens
        for number, width in enumerate(widths, 1):
            self.add_module(f"proj_{number}", _FaceWords(embedding, tokens * width))
            self.add_module(f"norm_{number}", nn.LayerNorm(width))
            resampler = TokenResampler(width, embedding, width, depth)
            self.add_module(f"text_resampler_{number}", resampler)

    @classmethod
    def from_shapes(cls, tensors: Mapping[str, Tensor]) -> "UniIdTextProjection":
        """One of the sizes that the tensors of a file have."""
        widths = (len(tensors["norm_1.weight"]), len(tensors["norm_2.weight"]))
        return cls(
            widths,
            len(tensors["proj_1.proj.2.weight"]) // widths[0],
            tensors["proj_1.proj.0.weight"].shape[1],
            count_layers(tensors, "text_resampler_1."),
        )

    def forward(
        self, face: Float[Tensor, "b s"], deep: Float[Tensor, "b s y x"]
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n e"]]:
        """Tokens for the first text encoder and for the second."""
        cells = deep.flatten(2).transpose(1, 2)
        branch_tokens = []
        for number, width in enumerate(self.widths, 1):
            words = self.get_submodule(f"proj_{number}")(face)
            words = words.unflatten(-1, (self.tokens, width))
            words = self.get_submodule(f"norm_{number}")(words)
            branch_tokens.append(self.get_submodule(f"text_resampler_{number}")(words, cells))
        return branch_tokens[0], branch_tokens[1]


class _FaceWords(nn.Module):
    def __init__(self, embedding: int, rows: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Linear(embedding, 2 * embedding), nn.GELU(), nn.Linear(2 * embedding, rows)
        )

    def forward(self, face: Float[Tensor, "b s"]) -> Float[Tensor, "b r"]:
        return self.proj(face)


class UniIdResampler(nn.Module):
    """A perceiver whose layers read the deep feature map first, then the shallow ones.

    In a file the shallow projection is the first of the two and the deep one the second, though the
    first attention of a layer reads the deep map. The output starts at zero.
    """

    def __init__(self, width: int, sources: tuple[int, int], output: int, depth: int) -> None:
        super().__init__()
        self.proj_face_recog_model_layers = nn.ModuleList(nn.Linear(s, width) for s in sources)
        self.proj_out = nn.Linear(width, output)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)
        self.norm_out = nn.LayerNorm(output)
        self.layers = make_layers(width, depth, reads=2)

    def forward(
        self,
        latents: Float[Tensor, "b n d"],
        shallow: Float[Tensor, "b m s"],
        deep: Float[Tensor, "b l t"],
    ) -> Float[Tensor, "b n o"]:
        """The latents after all layers, projected and layer-normed."""
        projections = self.proj_face_recog_model_layers
        sources = [projections[DEEP](deep), projections[SHALLOW](shallow)]
        return self.norm_out(self.proj_out(read_through(self.layers, sources, latents)))


class UniIdAdapterProjection(ImageProjection):
    """Adapter branch: learned latents read all four feature maps and become image tokens.

    The three earlier maps are resized bilinearly to 16 x 16 and joined by channel. As `proj_out`
    starts at zero, and the layer norm of zeros is its bias, the tokens of a new branch are exactly
    0. Gradients there are about 316 times too large (the norm divides by the root of its epsilon):
    train with gradients clipped. Unconditional row: feature maps of zeros.
    """

    def __init__(
        self,
        width: int,
        *,
        tokens: int = 25,
        hidden: int = 768,
        sources: tuple[int, int] = (448, 512),
        depth: int = 6,
    ) -> None:
        super().__init__()
        self.tokens, self.width = tokens, width
        self.latents = nn.Parameter(torch.randn(1, tokens, hidden) / hidden**0.5)
        self.adapter_resampler = UniIdResampler(hidden, sources, width, depth)

    @classmethod
    def from_shapes(cls, tensors: Mapping[str, Tensor]) -> "UniIdAdapterProjection":
        """One of the sizes that the tensors of a file have."""
        start = "adapter_resampler."
        shallow, deep = (
            tensors[f"{start}proj_face_recog_model_layers.{number}.weight"].shape[1]
            for number in (SHALLOW, DEEP)
        )
        return cls(
            len(tensors[f"{start}norm_out.weight"]),
            tokens=tensors["latents"].shape[1],
            hidden=tensors["latents"].shape[2],
            sources=(shallow, deep),
            depth=count_layers(tensors, start),
        )

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b n d"]:
        """Tokens of the feature maps, from the first stage to the last."""
        *early, deep = maps
        resized = [
            F.interpolate(plane, size=(GRID, GRID), mode="bilinear", align_corners=False)
            for plane in early
        ]
        shallow = torch.cat(resized, dim=1).flatten(2).transpose(1, 2)
        expected_width = self.adapter_resampler.proj_face_recog_model_layers[SHALLOW].in_features
        if shallow.shape[-1] != expected_width:
            raise AdapterMismatch(
                f"the feature maps before the last have {shallow.shape[-1]} channels together; this"
                f" branch reads {expected_width}: it was trained with another recognition network"
            )
        cells = deep.flatten(2).transpose(1, 2)
        latents = self.latents.expand(len(deep), -1, -1)
        return self.adapter_resampler(latents, shallow, cells)
