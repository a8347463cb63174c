"""The contract of a model family: all that differs between one diffusion model and the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from frisket.grid import LatentGrid
from frisket.objectives.base import Objective
from frisket.objectives.timesteps import TimestepSampler
from frisket.registry import Shelf
from frisket.shapes import Clip, Latents, PerSample

Conditioning = Mapping[str, Tensor]  # what the text says to the denoiser; every tensor batch first


class WeightsNotFound(FileNotFoundError):
    """A source that holds no weights of the asked-for part; the message names what is missing."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One released model of a family."""

    repo: str  # hub id of the diffusers weights, the default source
    grid: LatentGrid
    frames: int = 1  # default clip length in frames (1: an image model)
    height: int = 512
    width: int = 512
    fps: float = 16.0
    steps: int = 30  # sampling defaults
    guidance: float = 5.0
    shift: float = 1.0  # of the timestep density and the sampler

    @property
    def video(self) -> bool:
        """Whether the model makes more than one frame."""
        return self.frames > 1


@dataclass(frozen=True, slots=True)
class Source:
    """Where the weights lie: a folder, a single file or a hub id; empty is the variant's own."""

    variant: str
    path: str = ""
    revision: str | None = None
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @property
    def local(self) -> Path | None:
        """The path on this machine, or None for a hub id."""
        return (
            Path(self.path).expanduser()
            if self.path and Path(self.path).expanduser().exists()
            else None
        )


@dataclass(slots=True)
class Parts:
    """The loaded models of one variant; any may be None while not needed (memory)."""

    variant: str
    vae: nn.Module | None = None
    text: nn.Module | None = None
    denoiser: nn.Module | None = None


@runtime_checkable
class Family(Protocol):
    """One file under `families/models` binds an instance to `FAMILY`."""

    name: str
    variants: Mapping[str, Variant]
    lora_targets: tuple[str, ...]  # module name endings an adapter is put on by default
    lora_prefix: str  # of the keys in a LoRA file: "transformer" or "unet"

    def objective(self, variant: str, timesteps: TimestepSampler | None = None) -> Objective:
        """What the model was trained to predict; `timesteps` overrides the variant's density."""
        ...

    def load_vae(self, source: Source) -> nn.Module:
        """Load the VAE, frozen, in eval mode."""
        ...

    def load_text(self, source: Source) -> nn.Module:
        """Load tokenizer and text encoder as one frozen module."""
        ...

    def load_denoiser(self, source: Source) -> nn.Module:
        """Load the UNet or transformer, frozen."""
        ...

    def encode(self, vae: nn.Module, clip: Clip) -> Latents:
        """Pixels in [-1, 1] to latents, normalised as the public pipeline normalises."""
        ...

    def decode(self, vae: nn.Module, latents: Latents) -> Clip:
        """The inverse of `encode`, in [-1, 1]."""
        ...

    def embed(self, text: nn.Module, prompts: Sequence[str]) -> Conditioning:
        """Prompts to conditioning tensors, batch first."""
        ...

    def predict(
        self, denoiser: nn.Module, noisy: Latents, t: PerSample, conditioning: Conditioning
    ) -> Latents:
        """The model's prediction as `b c f h w`, in the sign and scale of the objective's target.

        Packing, timestep convention and extra inputs are hidden in here.
        """
        ...

    def pipeline(self, parts: Parts) -> Any:
        """The public diffusers pipeline over the loaded parts: previews and inference."""
        ...

    def tiny(self, variant: str) -> Parts:
        """Random two-layer parts, float32 on the CPU, seeded: contract tests in seconds."""
        ...

    def save(self, parts: Parts, folder: Path) -> None:
        """Write parts in the layout that `load_*` reads (diffusers' `save_pretrained`)."""
        ...


FAMILIES: Shelf[Family] = Shelf("frisket.families.models", "FAMILY", "frisket.families")
