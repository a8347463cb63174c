"""InstantX's projection for SD3: a perceiver that knows the time."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from frisket.adapters.image.perceiver import PerceiverAttention, count_layers, make_feed_forward
from frisket.adapters.image.projections import Embedding, ImageProjection, make_zeros
from frisket.shapes import PerSample

LONGEST_PERIOD = 10_000


class TimeEmbedding(nn.Module):
    """Cosines and sines of the timestep, then a two-layer MLP with SiLU."""

    def __init__(self, waves: int, width: int) -> None:
        super().__init__()
        self.waves = waves
        self.linear_1 = nn.Linear(waves, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, timestep: PerSample) -> Float[Tensor, "b d"]:
        """Of the timestep as the model gets it (0 to 1000)."""
        half = self.waves // 2
        steps = torch.arange(half, dtype=torch.float32, device=timestep.device)
        angle = timestep.float()[:, None] * torch.exp(-math.log(LONGEST_PERIOD) * steps / half)
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(waves)))


class TimedLayer(nn.ModuleList):
    """One layer: attention and feed-forward, each with a shift and scale that the time gives."""

    def __init__(self, width: int, inner: int | None = None) -> None:
        modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 4 * width))
        super().__init__(
            [PerceiverAttention(width, inner), make_feed_forward(width), modulation],
        )

    def forward(
        self,
        source: Float[Tensor, "b m d"],
        latents: Float[Tensor, "b n d"],
        time: Float[Tensor, "b d"],
    ) -> Float[Tensor, "b n d"]:
        """The latents after the layer."""
        attention, feed_forward, modulation = self
        assert isinstance(attention, PerceiverAttention)
        assert isinstance(feed_forward, nn.Sequential)
        shift, scale, late_shift, late_scale = modulation(time)[:, None].chunk(4, dim=-1)
        normed = attention.norm2(latents) * (1 + scale) + shift
        latents = latents + attention.attend(attention.norm1(source), normed)
        normed = feed_forward[0](latents) * (1 + late_scale) + late_shift
        return latents + feed_forward[1:](normed)


class TimedProjection(ImageProjection):
    """The time-resampler of InstantX's adapters for SD3 and SD3.5, over SigLIP's tokens.

    Equal to diffusers' IPAdapterTimeImageProjection. Its unconditional row: zeros in place of
    SigLIP's states, as diffusers' pipeline does it.
    """

    def __init__(
        self,
        embedding: int,
        width: int,
        *,
        tokens: int = 64,
        hidden: int = 1280,
        inner: int | None = None,
        depth: int = 4,
        waves: int = 320,
    ) -> None:
        super().__init__()
        self.tokens, self.width = tokens, width
        self.latents = nn.Parameter(torch.randn(1, tokens, hidden) / hidden**0.5)
        self.proj_in = nn.Linear(embedding, hidden)
        self.proj_out = nn.Linear(hidden, width)
        self.norm_out = nn.LayerNorm(width)
        self.layers = nn.ModuleList(TimedLayer(hidden, inner) for _ in range(depth))
        self.time_embedding = TimeEmbedding(waves, hidden)

    @classmethod
    def from_shapes(cls, tensors: Mapping[str, Tensor]) -> "TimedProjection":
        """One of the sizes that a file has."""
        return cls(
            tensors["proj_in.weight"].shape[1],
            tensors["proj_out.weight"].shape[0],
            tokens=tensors["latents"].shape[1],
            hidden=tensors["latents"].shape[2],
            inner=tensors["layers.0.0.to_q.weight"].shape[0],
            depth=count_layers(tensors),
            waves=tensors["time_embedding.linear_1.weight"].shape[1],
        )

    def forward(
        self, states: Float[Tensor, "b m s"], timestep: PerSample
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b t"]]:
        """Tokens, and the time's embedding, which the attention layers of this adapter read too."""
        time = self.time_embedding(timestep)
        source = self.proj_in(states) + time[:, None]
        latents = self.latents.expand(len(states), -1, -1)
        for layer in self.layers:
            latents = layer(source, latents, time)
        return self.norm_out(self.proj_out(latents)), time

    def project_negative(
        self,
        embedding: Embedding,
        zero_image: Tensor | None = None,
        timestep: PerSample | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Tokens of states of zeros at a timestep; ValueError without one."""
        if timestep is None:
            raise ValueError("TimedProjection: its tokens depend on the time; pass timestep")
        return self(make_zeros(embedding), timestep)[0]
