"""The pocket family's diffusers pipeline, with a ControlNet beside it where one is given."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from frisket.families.models.pocket.transformer import is_transformer, predict_velocity
from frisket.families.models.pocket.unet import (
    NOTHING,
    TEMPORAL,
    is_for_clips,
    lay_planes,
    predict_planes,
)
from frisket.families.shared.pocket.text import embed
from frisket.families.shared.pocket.vae import IMAGE_CHANNELS, PocketVae
from frisket.families.streams import expand_t
from frisket.grid import LatentGrid
from frisket.shapes import Clip, Latents, PerSample


class PocketOutput(BaseOutput):
    """Samples in [0, 1], b F 3 H W."""

    frames: Any


class PocketPipeline(DiffusionPipeline):
    """Text to picture or clip with classifier-free guidance; the call follows WanPipeline."""

    model_cpu_offload_seq = "denoiser"
    _optional_components = ("controlnet",)

    def __init__(
        self, denoiser: Any, scheduler: FlowMatchEulerDiscreteScheduler, controlnet: Any = None
    ) -> None:
        """Hold the models."""
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler, controlnet=controlnet)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] = "",
        height: int = 32,
        width: int = 32,
        num_frames: int = 1,
        num_inference_steps: int = 20,
        guidance_scale: float = 3.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pt",
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        control: Clip | None = None,
        controlnet_conditioning_scale: float = 1.0,
    ) -> PocketOutput:
        """Sample; `output_type` is "pt", or "latent" for `b c f h w`.

        `control` (b 3 F H W or 1 3 F H W in [0, 1]) is for the ControlNet the pipeline has.
        """
        embeddings = _embed_prompts(prompt, 1) if prompt_embeds is None else prompt_embeds
        count, guided = len(embeddings), guidance_scale != 1.0
        if guided:
            without = negative_prompt_embeds
            without = _embed_prompts(negative_prompt, count) if without is None else without
            embeddings = torch.cat([without, embeddings])
        embeddings = embeddings.to(self.device)
        vae = PocketVae(count_frames(self.denoiser))
        grid = LatentGrid(channels=IMAGE_CHANNELS * vae.temporal, spatial=2, temporal=vae.temporal)
        shape = (count, grid.channels, *grid.cells(num_frames, height, width))
        latents = randn_tensor(shape, generator=generator, device=self.device, dtype=torch.float32)
        structure = None
        if control is not None and self.controlnet is not None:
            structure = vae.encode(control.to(self.device) * 2 - 1)
            structure = structure.expand(len(embeddings), -1, -1, -1, -1)
        self.scheduler.set_timesteps(num_inference_steps, device=self.device)
        for timestep in self.progress_bar(self.scheduler.timesteps):
            doubled = torch.cat([latents, latents]) if guided else latents
            t = expand_t(timestep, len(doubled))
            residuals = NOTHING
            if structure is not None:
                scale = controlnet_conditioning_scale
                residuals = self._ask_controlnet(doubled, t, embeddings, structure, scale)
            velocity = predict_latents(self.denoiser, doubled, t, embeddings, residuals)
            if guided:
                away, towards = velocity.chunk(2)
                velocity = away + guidance_scale * (towards - away)
            latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        if output_type == "latent":
            return PocketOutput(frames=latents)
        clip = vae.decode(latents).transpose(1, 2)
        return PocketOutput(frames=(clip / 2 + 0.5).clamp(0, 1))

    def _ask_controlnet(
        self, noisy: Latents, t: PerSample, tokens: Tensor, structure: Latents, scale: float
    ) -> dict[str, Any]:
        dtype = self.controlnet.dtype
        planes = lay_planes(noisy, self.denoiser)
        repeats = len(planes) // len(tokens)
        down, middle = self.controlnet(
            planes.to(dtype),
            t.repeat_interleave(repeats, 0) * 1000,
            tokens.repeat_interleave(repeats, 0).to(dtype),
            controlnet_cond=lay_planes(structure, self.denoiser).to(dtype),
            conditioning_scale=scale,
            return_dict=False,
        )
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


def predict_latents(
    denoiser: nn.Module,
    noisy: Latents,
    t: PerSample,
    tokens: Tensor,
    residuals: Mapping[str, Any] = NOTHING,
) -> Latents:
    """The velocity of either kind of denoiser, float32; residuals are for the UNets alone."""
    if is_transformer(denoiser):
        return predict_velocity(denoiser, noisy, t, tokens)
    return predict_planes(denoiser, noisy, t, tokens, residuals)


def count_frames(denoiser: nn.Module) -> int:
    """Pixel frames behind a latent frame: 1 for the models of pictures, 4 for those of clips."""
    return TEMPORAL if not is_transformer(denoiser) and is_for_clips(denoiser) else 1


def _embed_prompts(prompt: str | list[str] | None, count: int) -> Tensor:
    """Embeddings of prompts; one prompt serves `count` samples."""
    if prompt is None:
        raise ValueError("give a prompt, or prompt_embeds")
    return embed([prompt] * count if isinstance(prompt, str) else prompt)
