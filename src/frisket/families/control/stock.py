"""The public ControlNet pipeline over parts that a family's own pipeline is made of."""

import copy
import inspect
from typing import Any

from torch import Tensor, nn

from frisket.families.base import FAMILIES, Parts
from frisket.shapes import Clip


def build_pipeline(kind: Any, family: str, parts: Parts, **more: Any) -> Any:
    """A pipeline of the class `kind` with the parts, scheduler and settings of the family's own."""
    base_pipeline = FAMILIES.load(family).pipeline(parts)
    settings = {**dict(base_pipeline.config), **base_pipeline.components}
    names = inspect.signature(kind.__init__).parameters
    arguments = {name: value for name, value in settings.items() if name in names}
    return kind(**{**arguments, **more})


def share_net(net: nn.Module) -> nn.Module:
    """A net with the same weights and tables of its own, for pipelines that put modules on it."""
    shared = copy.copy(net)
    shared._modules, shared._parameters = dict(net._modules), dict(net._parameters)
    return shared


def read_picture(control: Clip) -> Tensor:
    """The only frame of a control clip, b 3 H W; ValueError for a video."""
    if control.shape[2] != 1:
        raise ValueError(
            f"a model of pictures takes a control picture, got {control.shape[2]} frames"
        )
    return control[:, :, 0]


def normalise_pixels(control: Tensor) -> Tensor:
    """Values in [0, 1] to [-1, 1], as the pipelines' image processors hand them to a VAE."""
    return control * 2 - 1


def check_vae(vae: nn.Module | None, reason: str) -> nn.Module:
    """The VAE; ValueError where there is none."""
    if vae is None:
        raise ValueError(f"{reason} reads its control through the VAE, and none is loaded")
    return vae
