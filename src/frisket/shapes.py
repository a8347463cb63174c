"""Names of tensor shapes: the legend of the whole code.

Upper case counts pixels, lower case counts latent cells:

    b  batch            k  regions          c  latent channels
    F  H  W             frames, height, width of the media
    f  h  w             the same three on the latent grid
    T                   phrases of a prompt

An image is a clip of one frame, so every tensor here has its frame axis.

The names are jaxtyping's where it is loaded before this module, as its import hook needs it to be
(the tests') and as type checkers read it; elsewhere nothing would look at them and all are plain
tensors, so that the library (`import frisket`) asks for torch and numpy alone.
"""

import sys
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, UInt8
else:

    class Float:
        """A tensor whose axes are named for the reader."""

        def __class_getitem__(cls, axes: tuple[type[Tensor], str]) -> type[Tensor]:
            """The tensor type alone."""
            return axes[0]

    Bool = UInt8 = Float

Frames = UInt8[Tensor, "F H W 3"]  # decoded media, 0 to 255
Picture = UInt8[Tensor, "1 _ _ 3"]  # a reference picture, at its own size
Clip = Float[Tensor, "b 3 F H W"]  # what a VAE reads, in [-1, 1]
FramePicture = Float[Tensor, "1 3 H W"]  # one decoded frame, in [-1, 1]
Structure = Float[Tensor, "b _ F H W"]  # edges, light or colours of a clip, at its size
Plane = Float[Tensor, "F H W"]  # one mask, in [0, 1]
CellPlane = Float[Tensor, "f h w"]  # the coverage of one region of one clip
Cells = tuple[int, int, int]  # f h w, how many there are
Planes = Float[Tensor, "k F H W"]  # one mask a region, in [0, 1]
CellPlanes = Float[Tensor, "k f h w"]  # the coverage of one clip
FrameCells = Float[Tensor, "k F h w"]  # the same of every pixel frame, not yet grouped in time
Coverage = Float[Tensor, "b k f h w"]  # share of the cell a region covers, in [0, 1]
Weights = Float[Tensor, "b 1 f h w"]  # how much a cell teaches, >= 0
Latents = Float[Tensor, "b c f h w"]
ClipLatents = Float[Tensor, "c f h w"]  # of one sample
WindowLatents = Float[Tensor, "c _ h w"]  # some frames of them
CellShares = Float[Tensor, "1 f h w"]  # of one sample, in [0, 1]
PhraseMaps = Float[Tensor, "b T f h w"]  # how much each cell attends to a phrase, in [0, 1]
HeadMaps = Float[Tensor, "b T n f h w"]  # the same of n heads; 1 is their mean
PerPhrase = Float[Tensor, "b T"]
LayerCoverage = Float[Tensor, "b k _ _ _"]  # coverage on the grid of an attention layer
PhraseFlags = Bool[Tensor, "b T"]  # whether a phrase is in the sample's caption
RegionFlags = Bool[Tensor, "b k"]  # whether a sample teaches a region
PerSample = Float[Tensor, "b"]
Flags = Bool[Tensor, "b"]
