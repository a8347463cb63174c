"""A new ControlNet from a denoiser's own weights."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from frisket.families import tiny
from frisket.families.control.loading import ignore_deprecations

COPIED = (torch.float32, torch.bfloat16, torch.float16)


def check_source(denoiser: nn.Module) -> None:
    """ValueError where a denoiser's weights cannot be copied as they are.

    That is so under an adapter, whose layers have other names, and where they are held in few bits.
    """
    if getattr(denoiser, "peft_config", None):
        raise ValueError(
            "a ControlNet is started from a denoiser without adapters: start it before a LoRA is"
            " put on"
        )
    for name, value in denoiser.named_parameters():
        if type(value) is not nn.Parameter or value.dtype not in COPIED:
            raise ValueError(
                f"a ControlNet is started from whole weights, and {name} of the denoiser is held as"
                f' {value.dtype}: set memory.quantise = "none" and memory.storage to its default'
            )


def build_net(kind: Any, config: Mapping[str, Any], device: torch.device) -> Any:
    """A net of the class `kind`, float32, of those settings that it takes."""
    setting_names = set(kind._get_init_keys(kind)) - {"self", "kwargs"}
    with ignore_deprecations():
        net = kind(**{name: value for name, value in config.items() if name in setting_names})
    return net.to(device)


def copy_weights(net: nn.Module, denoiser: nn.Module, names: Iterable[str]) -> None:
    """Copy modules of those names from a denoiser, strictly; of lists the first that the net has.

    RuntimeError where shapes differ.
    """
    for name in names:
        target, source = net.get_submodule(name), denoiser.get_submodule(name)
        if isinstance(target, nn.ModuleList):
            blocks: Any = source
            for index, block in enumerate(target):
                block.load_state_dict(blocks[index].state_dict())
        else:
            target.load_state_dict(source.state_dict())


def count_layers(layers: int | None, default: int, block_count: int) -> int:
    """How many blocks are copied; ValueError for none, or more than the denoiser has."""
    if layers is None:
        return min(default, block_count)
    if not 1 <= layers <= block_count:
        raise ValueError(
            f"control.layers = {layers}: a ControlNet of this model has 1 to {block_count} blocks"
        )
    return layers


def find_device(denoiser: nn.Module) -> torch.device:
    """Where a denoiser's first parameter lies."""
    return next(denoiser.parameters()).device


def build_tiny(start: Callable[[], nn.Module]) -> nn.Module:
    """What `start` gives with every parameter moved off where it is, so that it adds something.

    Seeded, frozen, in eval mode.
    """
    with tiny.seed_torch(1), torch.no_grad():
        net = start()
        for value in net.parameters():
            value.add_(0.1 * torch.randn(value.shape))
    return net.requires_grad_(False).eval()
