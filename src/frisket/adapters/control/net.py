"""A ControlNet that trains: a part of its frozen denoiser, so that all that walks one finds it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from frisket.adapters.targets import unwrap_model
from frisket.families.control.branch import ControlBranch

NAME = "frisket_control"


class TrainedControlNet(nn.Module):
    """The net; while `is_silent`, a model that it was put on is to be the base.

    The denoiser never calls it: `branch` does, before each call of the denoiser. Whoever shows it
    controls leaves that while it is silent.
    """

    is_silent: bool = False
    branch: ControlBranch | None = None

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net


def install_net(denoiser: nn.Module, net: nn.Module) -> TrainedControlNet:
    """Make a net a part of a denoiser, which is frozen: in float32, on its device, to be trained.

    Nothing is computed by it yet. Every parameter gets memory of its own: as loaded it may be
    mapped from a file. ValueError where a net is there already.
    """
    model = unwrap_model(denoiser)
    if find_net(model) is not None:
        raise ValueError("the denoiser has a ControlNet already")
    device = next(model.parameters()).device
    model.requires_grad_(False)
    for value in net.parameters():
        value.data = value.data.to(device, torch.float32, copy=True)
    part = TrainedControlNet(net.to(device).requires_grad_(True))
    model.add_module(NAME, part)
    return part


def find_net(denoiser: nn.Module) -> TrainedControlNet | None:
    """The net that was put on a denoiser, None where there is none."""
    part = getattr(unwrap_model(denoiser), NAME, None)
    return part if isinstance(part, TrainedControlNet) else None


@contextmanager
def silence_nets(model: nn.Module) -> Iterator[None]:
    """Inside, ControlNets that are a part of a model (or of parts of it) add nothing."""
    parts = [module for module in model.modules() if isinstance(module, TrainedControlNet)]
    before = [part.is_silent for part in parts]
    try:
        with ExitStack() as stack:
            for part in parts:
                part.is_silent = True
                if part.branch is not None:
                    stack.enter_context(part.branch.show(None))
            yield
    finally:
        for part, is_silent in zip(parts, before, strict=True):
            part.is_silent = is_silent
