"""Names of tensor shapes: the legend of the whole code.

Upper case counts pixels, lower case counts latent cells:

    b  batch            k  regions          c  latent channels
    F  H  W             frames, height, width of the media
    f  h  w             the same three on the latent grid

An image is a clip of one frame, so every tensor here has its frame axis.
"""

from jaxtyping import Bool, Float, UInt8
from torch import Tensor

Frames = UInt8[Tensor, "F H W 3"]  # decoded media, 0 to 255
Picture = UInt8[Tensor, "1 _ _ 3"]  # a reference picture, at its own size
Clip = Float[Tensor, "b 3 F H W"]  # what a VAE reads, in [-1, 1]
Plane = Float[Tensor, "F H W"]  # one mask, in [0, 1]
Planes = Float[Tensor, "k F H W"]  # one mask a region, in [0, 1]
CellPlanes = Float[Tensor, "k f h w"]  # the coverage of one clip
Coverage = Float[Tensor, "b k f h w"]  # share of the cell a region covers, in [0, 1]
Weights = Float[Tensor, "b 1 f h w"]  # how much a cell teaches, >= 0
Latents = Float[Tensor, "b c f h w"]
PerSample = Float[Tensor, "b"]
Flags = Bool[Tensor, "b"]
