"""The ControlNet of a run beside its denoiser: in its place, connected, shown controls."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Generator, nn
from torch.nn import functional

from frisket.adapters.control.net import TrainedControlNet, install_net
from frisket.config.regions import weights_of
from frisket.config.tree import Config
from frisket.data.records import Prepared
from frisket.families.base import Family
from frisket.families.control.base import CONTROLS
from frisket.families.control.branch import connect_control
from frisket.families.experts import first
from frisket.inference.methods.base import Method
from frisket.inference.methods.control import ControlMethod
from frisket.inference.methods.plugin import ClipSize
from frisket.inference.sample_specs import SampleSpec
from frisket.runs.control.reading import read_batch
from frisket.runs.control.setup import is_control_run
from frisket.runs.control.showing import ControlDraws, ShownControls
from frisket.shapes import Clip

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PreviewControl:
    """What previews are under control of: the first clip's control, at their own sizes."""

    vae: nn.Module
    controls: Mapping[ClipSize, Clip]


def place_net(config: Config, denoiser: nn.Module, net: nn.Module) -> TrainedControlNet | None:
    """Put a net where it stays: a part of the denoiser to train, or beside it; returns the former.

    The denoiser lies where it is to lie (`memory.plan.apply`): nothing of the net is swapped,
    quantised or narrowed with it.
    """
    if not is_control_run(config):
        weight = next(first(denoiser).parameters())
        net.to(weight.device).requires_grad_(False).eval()
        return None
    part = install_net(denoiser, net)
    if config.memory.checkpointing:
        model: Any = part.net
        model.enable_gradient_checkpointing()
    return part


def connect_controls(
    config: Config,
    family: Family,
    denoiser: nn.Module,
    net: nn.Module,
    preview: PreviewControl | None = None,
) -> ShownControls:
    """A run's net on its denoiser, off until a batch is shown.

    ValueError where the family's denoiser cannot be joined.
    """
    part = place_net(config, denoiser, net)
    branch = connect_control(family, denoiser, net)
    if part is not None:
        part.branch = branch
    support, options = CONTROLS.load(family.name), config.control
    least, most = options.drawn_scale
    draws = ControlDraws(options.drawn_dropout, least, most)

    branches = {id(denoiser): branch}

    def sample(model: nn.Module) -> Method:
        """With the net beside all experts, also those that the run leaves as they are."""
        assert preview is not None
        if id(model) not in branches:  # the one that all experts are joined in for previews
            branches[id(model)] = connect_control(family, model, net)
        return ControlMethod(support, net, branches[id(model)], preview.vae, preview.controls)

    return ShownControls(
        branch=branch,
        part=part,
        read=partial(read_batch, support, net),
        generator=Generator(),
        draws=ControlDraws() if is_control_run(config) else draws,
        confine=options.confine,
        regions=weights_of(config),
        sample=sample,
    )


def lay_preview(
    prepared: Prepared, vae: nn.Module, specs: tuple[SampleSpec, ...]
) -> PreviewControl | None:
    """The first clip's control at the sizes of previews; None where the data have none.

    Frames are picked evenly, pixels are averaged or enlarged.
    """
    item = prepared.items[0]
    if item.control is None:
        return None
    stored = prepared.cache.load("control", item.control).tensors["pixels"]
    pixels = stored[None].float() / 255
    sizes = {(spec.frames, spec.height, spec.width) for spec in specs}
    return PreviewControl(vae, {size: _resize(_crop(pixels, size), size) for size in sizes})


def _crop(control: Clip, size: ClipSize) -> Clip:
    """The middle of a control that has the aspect of a preview: a pose is not to be stretched."""
    height, width = control.shape[3:]
    unit = min(height / size[1], width / size[2])
    rows, columns = min(round(unit * size[1]), height), min(round(unit * size[2]), width)
    if (rows, columns) != (height, width):
        log.info("previews show the middle of the first clip's control, at their own aspect")
    top, left = (height - rows) // 2, (width - columns) // 2
    return control[..., top : top + rows, left : left + columns]


def _resize(control: Clip, size: ClipSize) -> Clip:
    frames, height, width = size
    picks = torch.linspace(0, control.shape[2] - 1, frames).round().long()
    pictures = control[:, :, picks].transpose(1, 2).flatten(0, 1)
    shrinks = height <= control.shape[3] and width <= control.shape[4]
    mode = "area" if shrinks else "bilinear"
    resized = functional.interpolate(pictures, (height, width), mode=mode)
    return resized.view(1, frames, *resized.shape[1:]).transpose(1, 2)
