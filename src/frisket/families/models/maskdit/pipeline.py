"""Sampling: Euler steps along the path from noise, with classifier-free guidance."""

from typing import Any

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from frisket.families.defaults import decode_kl
from frisket.families.models.maskdit.predict import predict_clean
from frisket.families.shared.pocket.text import embed
from frisket.families.shared.pocket.vae import IMAGE_CHANNELS, PocketVae
from frisket.grid import LatentGrid
from frisket.shapes import Clip, Latents


class MaskDiTOutput(BaseOutput):
    """Samples in [0, 1], b F 3 H W."""

    frames: Any


class MaskDiTPipeline(DiffusionPipeline):
    """Text to picture or clip; the call follows WanPipeline.

    `vae` is an AutoencoderKL, or None where the latents are pixels folded into channels.
    """

    model_cpu_offload_seq = "denoiser->vae"
    _optional_components = ["vae"]  # noqa: RUF012, as diffusers has it

    def __init__(
        self, denoiser: Any, scheduler: FlowMatchEulerDiscreteScheduler, vae: Any = None
    ) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler, vae=vae)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] = "",
        height: int = 32,
        width: int = 32,
        num_frames: int = 1,
        num_inference_steps: int = 20,
        guidance_scale: float = 1.5,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pt",
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
    ) -> MaskDiTOutput:
        """Sample; `output_type` is "pt", or "latent" for `b c f h w`."""
        embeddings = _embed_prompt(prompt, 1) if prompt_embeds is None else prompt_embeds
        guided = guidance_scale != 1.0
        if guided:
            without = negative_prompt_embeds
            if without is None:
                without = _embed_prompt(negative_prompt, len(embeddings))
            embeddings = torch.cat([without, embeddings])
        tokens = embeddings.to(self.device)
        grid = self._find_grid()
        count = len(tokens) // 2 if guided else len(tokens)
        shape = (count, grid.channels, *grid.cells(num_frames, height, width))
        latents = randn_tensor(shape, generator=generator, device=self.device, dtype=torch.float32)
        self.scheduler.set_timesteps(num_inference_steps, device=self.device)
        for timestep in self.progress_bar(self.scheduler.timesteps):
            doubled = torch.cat([latents, latents]) if guided else latents
            t = (timestep / 1000).float().expand(len(doubled))
            clean = predict_clean(self.denoiser, doubled, t, tokens)
            if guided:
                away, towards = clean.chunk(2)
                clean = away + guidance_scale * (towards - away)
            # The path's velocity, noise - clean, of x = (1 - t) clean + t noise.
            velocity = (latents - clean) / t[0]
            latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        if output_type == "latent":
            return MaskDiTOutput(frames=latents)
        clip = self._decode(latents).transpose(1, 2)
        return MaskDiTOutput(frames=(clip / 2 + 0.5).clamp(0, 1))

    def _find_grid(self) -> LatentGrid:
        channels = self.denoiser.config.in_channels
        if self.vae is not None:
            stride = 2 ** (len(self.vae.config.block_out_channels) - 1)
            return LatentGrid(channels=channels, spatial=stride)
        return LatentGrid(channels=channels, spatial=2, temporal=channels // IMAGE_CHANNELS)

    def _decode(self, latents: Latents) -> Clip:
        if self.vae is not None:
            return decode_kl(self.vae, latents, self.vae.config.scaling_factor)
        return PocketVae(self._find_grid().temporal).decode(latents)


def _embed_prompt(prompt: str | list[str] | None, count: int) -> Tensor:
    """Embeddings of prompts; one prompt serves `count` samples."""
    if prompt is None:
        raise ValueError("give a prompt, or prompt_embeds")
    return embed([prompt] * count if isinstance(prompt, str) else prompt)
