"""The pocket family's diffusers pipeline, with a ControlNet beside it where one is given."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from frisket.families.models.pocket.first_frame import mark_visible, read_frame, show_clip
from frisket.families.models.pocket.transformer import is_transformer, predict_velocity
from frisket.families.models.pocket.unet import (
    NOTHING,
    TEMPORAL,
    add_condition,
    is_for_clips,
    is_image_to_video,
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
        """Hold denoiser and scheduler, and the ControlNet where there is one."""
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler, controlnet=controlnet)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        image: Any = None,
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

        `image` is the PIL picture that the image-to-video model goes on from; `control` (1 3 F H W
        in [0, 1]) is for the ControlNet that the pipeline has.
        """
        embeddings = _embed_prompts(prompt, 1) if prompt_embeds is None else prompt_embeds
        count, guided = len(embeddings), guidance_scale != 1.0
        if guided:
            without = negative_prompt_embeds
            without = _embed_prompts(negative_prompt, count) if without is None else without
            embeddings = torch.cat([without, embeddings])
        embeddings = embeddings.to(self.device)
        latents, condition = self.prepare_latents(
            image, count, height, width, num_frames, generator=generator
        )
        rows = len(embeddings)
        conditioning = {"tokens": embeddings}
        if condition is not None:
            conditioning["condition"] = condition.repeat(rows // count, 1, 1, 1, 1)
        vae = PocketVae(count_frames(self.denoiser))
        structure = None
        if control is not None and self.controlnet is not None:
            structure = vae.encode(control.to(self.device) * 2 - 1)
            structure = structure.expand(rows, -1, -1, -1, -1)
        self.scheduler.set_timesteps(num_inference_steps, device=self.device)
        for timestep in self.progress_bar(self.scheduler.timesteps):
            doubled = torch.cat([latents, latents]) if guided else latents
            t = expand_t(timestep, len(doubled))
            residuals = NOTHING
            if structure is not None:
                scale = controlnet_conditioning_scale
                residuals = self._ask_controlnet(doubled, t, conditioning, structure, scale)
            velocity = predict_latents(self.denoiser, doubled, t, conditioning, residuals)
            if guided:
                away, towards = velocity.chunk(2)
                velocity = away + guidance_scale * (towards - away)
            latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        if output_type == "latent":
            return PocketOutput(frames=latents)
        clip = vae.decode(latents).transpose(1, 2)
        return PocketOutput(frames=(clip / 2 + 0.5).clamp(0, 1))

    def prepare_latents(
        self,
        image: Any,
        batch_size: int,
        height: int,
        width: int,
        num_frames: int,
        *,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Noise b c f h w, and what the image-to-video model is shown of its first frame."""
        temporal = count_frames(self.denoiser)
        grid = LatentGrid(channels=IMAGE_CHANNELS * temporal, spatial=2, temporal=temporal)
        shape = (batch_size, grid.channels, *grid.cells(num_frames, height, width))
        noise = randn_tensor(shape, generator=generator, device=self.device, dtype=torch.float32)
        if not is_image_to_video(self.denoiser):
            return noise, None
        if image is None:
            raise ValueError("pocket video-i2v goes on from a first frame: give an image")
        clip = noise.new_zeros(1, 3, num_frames, height, width)
        clip[:, :, :1] = read_frame(image, height, width).to(clip)
        condition = show_clip(clip, mark_visible(clip, None))["condition"]
        return noise, condition.expand(batch_size, -1, -1, -1, -1)

    def _ask_controlnet(
        self,
        noisy: Latents,
        t: PerSample,
        conditioning: Mapping[str, Tensor],
        structure: Latents,
        scale: float,
    ) -> dict[str, Any]:
        dtype, tokens = self.controlnet.dtype, conditioning["tokens"]
        planes = add_condition(lay_planes(noisy, self.denoiser), conditioning, self.denoiser)
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
    conditioning: Mapping[str, Tensor],
    residuals: Mapping[str, Any] = NOTHING,
) -> Latents:
    """The velocity of either kind of denoiser, float32; residuals are for the UNets alone."""
    if is_transformer(denoiser):
        return predict_velocity(denoiser, noisy, t, conditioning["tokens"])
    return predict_planes(denoiser, noisy, t, conditioning, residuals)


def count_frames(denoiser: nn.Module) -> int:
    """Pixel frames behind a latent frame: 1 for the models of pictures, 4 for those of clips."""
    return TEMPORAL if not is_transformer(denoiser) and is_for_clips(denoiser) else 1


def _embed_prompts(prompt: str | list[str] | None, count: int) -> Tensor:
    """Embeddings of prompts; one prompt serves `count` samples."""
    if prompt is None:
        raise ValueError("give a prompt, or prompt_embeds")
    return embed([prompt] * count if isinstance(prompt, str) else prompt)
