"""ControlNets by their folders or begun from a base: loaded, compared, refused by option."""

from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from frisket.config.provenance import ConfigError
from frisket.families import weights
from frisket.families.base import Family, WeightsNotFound
from frisket.families.control.base import CONTROLS, ControlNotUsable, ControlSupport

WEIGHTS = "diffusion_pytorch_model.safetensors"


def load_support(family: Family, variant: str, option: str) -> ControlSupport:
    """How a family takes ControlNets; ConfigError, which names `option`, where it takes none."""
    if family.name not in (families := CONTROLS.names()):
        raise ConfigError(
            f"{option}: there is no ControlNet for {family.name}; these families have them:"
            f" {', '.join(families)}"
        )
    support = CONTROLS.load(family.name)
    if reason := support.refuse(variant):
        raise ConfigError(f"{option}: {reason}")
    return support


def load_net(
    support: ControlSupport,
    path: Path,
    variant: str,
    *,
    dtype: torch.dtype,
    device: str,
    option: str = "control.source",
) -> nn.Module:
    """A net from its folder, frozen; ConfigError with the option that named it where it is none."""
    path = path.expanduser()
    if not path.is_dir():
        raise ConfigError(
            f"{option}: {path} is no folder; a ControlNet is a folder as diffusers saves it, with"
            " config.json and diffusion_pytorch_model.safetensors"
        )
    if not any((path / f"{WEIGHTS}{ending}").is_file() for ending in ("", ".index.json")):
        files = ", ".join(file.name for file in sorted(path.glob("*.safetensors")))
        hint = f"; there is {files}: give it that name" if files else "; fetch it again"
        raise ConfigError(
            f"{option}: {path} holds no weights: {WEIGHTS} is missing (only safetensors are"
            f" opened){hint}"
        )
    try:
        weights.check(path, str(path))
        return support.load(path, variant, dtype=dtype, device=device)
    except (WeightsNotFound, ControlNotUsable) as error:
        raise ConfigError(f"{option}: {error}") from error


def check_fit(
    support: ControlSupport, net: nn.Module, denoiser: nn.Module, option: str, path: Path
) -> None:
    """ConfigError where a net was made for another model than `denoiser`, a plain one."""
    if misfit := support.compare(net, denoiser):
        raise ConfigError(f"{option}: {path} was made for another model: {misfit}")


def start_net(
    support: ControlSupport, denoiser: nn.Module, layers: int | None, *, seed: int = 0
) -> nn.Module:
    """A new net from a plain denoiser's own weights; ConfigError where it cannot begin so.

    What is no copy (the layers that read the control) is drawn from `seed`. Of a denoiser on the
    meta device it has shapes alone.
    """
    is_shape = next(denoiser.parameters()).is_meta
    try:
        device = torch.device("meta") if is_shape else nullcontext()
        with torch.random.fork_rng(devices=[]), device:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed reseeds CUDA as well
            return support.start(denoiser, layers=layers)
    except ValueError as error:
        raise ConfigError(f'model.train = "controlnet": {error}') from error
