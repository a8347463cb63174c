"""The pocket family: a 4 M UNet on 32-pixel pictures that ships with the package.

The real thing in small: rectified flow, cross-attention to a caption, classifier-free guidance,
peft adapters, a diffusers pipeline. Its VAE folds 2 x 2 pixels into 12 channels and loses nothing,
its text encoder is a frozen word embedding, so that everything a job does runs on a laptop offline.
"""

import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from frisket.families.base import Conditioning, Family, Parts, Source, Variant, WeightsNotFound
from frisket.grid import LatentGrid
from frisket.objectives.flow import Flow
from frisket.objectives.timesteps import TimestepSampler
from frisket.shapes import Clip, Latents, PerSample

WIDTH = 64  # of one token
SLOTS = 6  # tokens a phrase; a caption is a subject phrase and a background phrase
STOP_WORDS = frozenset({"a", "an", "the", "and", "of", "with", "at", "is", "photo", "picture"})


def slots(caption: str) -> list[str]:
    """The word in each of the 2 * SLOTS token slots, "" where empty.

    The caption is cut at its first `on`: subject phrase before, background phrase after. Stop
    words are dropped, each phrase keeps its last SLOTS words and is aligned right, so that a noun
    sits in the same slot whether or not adjectives come before it.
    """
    words = [word.strip(".,;:!?\"'()") for word in caption.lower().split()]
    words = [word for word in words if word and word not in STOP_WORDS]
    cut = words.index("on") if "on" in words else len(words)
    phrases = (words[:cut], [word for word in words[cut + 1 :] if word != "on"])
    return [word for phrase in phrases for word in ([""] * SLOTS + phrase)[-SLOTS:]]


@lru_cache(maxsize=4096)
def _vector(key: str, scale: float) -> Tensor:
    # RandomState's stream is frozen by numpy's compatibility policy: the embedding is part of the
    # trained model and must never change.
    draw = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(WIDTH)
    return torch.from_numpy(draw.astype(np.float32) * np.float32(scale))


def embed(captions: Sequence[str]) -> Tensor:
    """Token embeddings `b 2*SLOTS WIDTH`: frozen word vector + slot vector; no vocabulary limit.

    The empty caption (used for classifier-free guidance) is the slot vectors alone.
    """
    rows = []
    for caption in captions:
        row = [
            _vector(f"slot {index}", 0.7) + (_vector(f"word {word}", 1.0) if word else 0)
            for index, word in enumerate(slots(caption))
        ]
        rows.append(torch.stack(row))
    return torch.stack(rows)


def fold(pictures: Tensor) -> Tensor:
    """`n 3 H W` pixels to `n 12 H/2 W/2` latents, without loss."""
    return functional.pixel_unshuffle(pictures, 2)


def unfold(latents: Tensor) -> Tensor:
    """The inverse of `fold`."""
    return functional.pixel_shuffle(latents, 2)


def build_image_net(widths: tuple[int, int, int] = (64, 96, 96)) -> UNet2DConditionModel:
    """A fresh UNet of the shipped shape: 4.04 M parameters at the default widths."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=12,
        out_channels=12,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=16,
        norm_num_groups=8,
    )


class PocketVae(nn.Module):
    """Space to depth; has no weights."""


class PocketText(nn.Module):
    """The frozen word embedding; has no weights, its vectors come from the words themselves."""


class PocketOutput(BaseOutput):  # type: ignore[misc]
    """Pictures in [0, 1]: `images` b 3 H W, or b H W 3 numpy, as `output_type` says."""

    images: Any


class PocketPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Text to picture with classifier-free guidance; the call follows StableDiffusionPipeline."""

    model_cpu_offload_seq = "denoiser"

    def __init__(
        self, denoiser: UNet2DConditionModel, scheduler: FlowMatchEulerDiscreteScheduler
    ) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        negative_prompt: str | list[str] = "",
        height: int = 32,
        width: int = 32,
        num_inference_steps: int = 20,
        guidance_scale: float = 3.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pt",
    ) -> PocketOutput:
        """Sample pictures; `output_type` is "pt" (b 3 H W) or "np" (b H W 3), both in [0, 1]."""
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        negative = negative_prompt
        negatives = [negative] * len(prompts) if isinstance(negative, str) else list(negative)
        guided = guidance_scale != 1.0
        tokens = embed(negatives + prompts if guided else prompts).to(self.device, self.dtype)
        grid = FAMILY.variants["image"].grid
        _, rows, columns = grid.cells(1, height, width)
        shape = (len(prompts), grid.channels, rows, columns)
        latents = randn_tensor(shape, generator=generator, device=self.device, dtype=self.dtype)
        self.scheduler.set_timesteps(num_inference_steps, device=self.device)
        for timestep in self.progress_bar(self.scheduler.timesteps):
            doubled = torch.cat([latents, latents]) if guided else latents
            velocity = self.denoiser(doubled, timestep, tokens, return_dict=False)[0]
            if guided:
                without, given = velocity.chunk(2)
                velocity = without + guidance_scale * (given - without)
            latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        pictures = (unfold(latents).float() / 2 + 0.5).clamp(0, 1)
        if output_type == "np":
            pictures = pictures.permute(0, 2, 3, 1).cpu().numpy()
        return PocketOutput(images=pictures)


class Pocket:
    """The family; see `frisket.families.base.Family` for the contract."""

    name = "pocket"
    lora_prefix = "unet"
    lora_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "conv1", "conv2")
    variants: Mapping[str, Variant] = {
        "image": Variant(
            repo="packaged with frisket",
            grid=LatentGrid(channels=12, spatial=2, temporal=1, patch=4),
            height=32,
            width=32,
            steps=20,
            guidance=3.0,
        ),
    }

    def objective(self, variant: str, timesteps: TimestepSampler | None = None) -> Flow:
        """Rectified flow at the density the base was trained with."""
        return Flow(timesteps or TimestepSampler(shift=self.variants[variant].shift))

    def load_vae(self, source: Source) -> nn.Module:
        """The weightless VAE."""
        return PocketVae()

    def load_text(self, source: Source) -> nn.Module:
        """The weightless text encoder."""
        return PocketText()

    def load_denoiser(self, source: Source) -> nn.Module:
        """The packaged UNet, or one saved by `save` under `source.path`/denoiser."""
        if not source.path:
            packaged = files("frisket") / "pocket" / f"{source.variant}.safetensors"
            net = build_image_net()
            state = load_file(str(packaged))
            net.load_state_dict({name: value.float() for name, value in state.items()})
            net = net.to(source.device, source.dtype)
        else:
            folder = Path(source.path).expanduser() / "denoiser"
            if not (folder / "config.json").is_file():
                raise WeightsNotFound(
                    f"{source.path} holds no pocket model: {folder / 'config.json'} is missing."
                    " Point model.source at a folder written by Frisket, or leave it empty for"
                    " the packaged base."
                )
            net = UNet2DConditionModel.from_pretrained(
                folder, torch_dtype=source.dtype, use_safetensors=True, local_files_only=True
            ).to(source.device)
        return net.requires_grad_(False).eval()

    def encode(self, vae: nn.Module, clip: Clip) -> Latents:
        """Fold every frame; already of unit scale."""
        frames = clip.shape[2]
        folded = fold(clip.transpose(1, 2).flatten(0, 1))
        return folded.unflatten(0, (-1, frames)).transpose(1, 2).contiguous()

    def decode(self, vae: nn.Module, latents: Latents) -> Clip:
        """Unfold every frame."""
        frames = latents.shape[2]
        pictures = unfold(latents.transpose(1, 2).flatten(0, 1))
        return pictures.unflatten(0, (-1, frames)).transpose(1, 2).contiguous()

    def embed(self, text: nn.Module, prompts: Sequence[str]) -> Conditioning:
        """`tokens` b 12 64."""
        return {"tokens": embed(prompts)}

    def predict(
        self, denoiser: nn.Module, noisy: Latents, t: PerSample, conditioning: Conditioning
    ) -> Latents:
        """The velocity; frames are taken one by one, each with the clip's caption and t."""
        frames = noisy.shape[2]
        weight = next(denoiser.parameters())
        pictures = noisy.transpose(1, 2).flatten(0, 1).to(weight.dtype)
        tokens = conditioning["tokens"].repeat_interleave(frames, 0).to(weight.dtype)
        timestep = (t * 1000).repeat_interleave(frames, 0)
        velocity = denoiser(pictures, timestep, tokens, return_dict=False)[0]
        return velocity.unflatten(0, (-1, frames)).transpose(1, 2).float()

    def pipeline(self, parts: Parts) -> Any:
        """A diffusers pipeline over the denoiser."""
        shift = self.variants[parts.variant].shift
        return PocketPipeline(parts.denoiser, FlowMatchEulerDiscreteScheduler(shift=shift))

    def tiny(self, variant: str) -> Parts:
        """A narrower random UNet."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = build_image_net((16, 32, 32))
        return Parts(variant, PocketVae(), PocketText(), net.requires_grad_(False).eval())

    def save(self, parts: Parts, folder: Path) -> None:
        """Write the denoiser under `folder`/denoiser (the other parts have no weights)."""
        if parts.denoiser is None:
            raise ValueError(f"nothing to save in {folder}: the denoiser is not loaded")
        parts.denoiser.save_pretrained(folder / "denoiser")


FAMILY: Family = Pocket()
