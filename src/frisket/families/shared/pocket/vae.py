"""The VAE of models of the pocket world: pixels and frames folded into channels, nothing lost."""

import torch
from torch import nn
from torch.nn import functional

from frisket.shapes import Clip, Latents

IMAGE_CHANNELS = 12  # 2 x 2 pixels of 3 colours


class PocketVae(nn.Module):
    """Space (and time) to depth, `12 * temporal` channels; has no weights.

    As in a causal video VAE, frame 0 is a latent frame of its own (repeated to fill its channels)
    and every further `temporal` frames make one more.
    """

    def __init__(self, temporal: int = 1) -> None:
        super().__init__()
        self.temporal = temporal

    def encode(self, clip: Clip) -> Latents:
        """`b 3 F H W` to `b 12*temporal f H/2 W/2`."""
        frames = functional.pixel_unshuffle(clip.transpose(1, 2), 2)  # b F 12 h w
        first = frames[:, :1].repeat(1, self.temporal, 1, 1, 1)
        groups = torch.cat([first, frames[:, 1:]], dim=1).unflatten(1, (-1, self.temporal))
        return groups.flatten(2, 3).transpose(1, 2).contiguous()

    def decode(self, latents: Latents) -> Clip:
        """The inverse; frame 0 is the mean of its copies."""
        groups = latents.transpose(1, 2).unflatten(2, (self.temporal, -1))  # b f temporal 12 h w
        first = groups[:, :1].mean(2)
        frames = torch.cat([first, groups[:, 1:].flatten(1, 2)], dim=1)
        return functional.pixel_shuffle(frames, 2).transpose(1, 2).contiguous()
