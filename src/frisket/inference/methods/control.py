"""A ControlNet in a family's own pipeline: its residuals join every call of the denoiser."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from frisket.families.control.base import ControlSupport
from frisket.families.control.branch import ControlBranch
from frisket.inference.methods.plugin import ClipSize
from frisket.inference.sample_specs import SampleSpec
from frisket.shapes import Clip, Weights


@dataclass(eq=False, slots=True)
class ControlMethod:
    """A ControlNet beside a denoiser, whose `branch` it is connected by; composes with others.

    `controls` are what it is shown by the size of the samples, 1 3 F H W, RGB in [0, 1], and
    `masks` where it acts, 1 1 f h w in [0, 1] ({}: everywhere). At `scale` 0, and with a mask of
    zeros, nothing is computed and every sample is the one without it, bit for bit.
    """

    support: ControlSupport
    net: nn.Module
    branch: ControlBranch
    vae: nn.Module
    controls: Mapping[ClipSize, Clip]
    scale: float = 1.0
    masks: Mapping[ClipSize, Weights] = field(default_factory=dict)
    # What the net reads of each control, once it was needed.
    readings: dict[ClipSize, Tensor] = field(default_factory=dict, init=False)

    @contextmanager
    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> Iterator[None]:
        """Inside, the net acts; ValueError for samples of a size that no control was laid for."""
        size = (specs[0].frames, specs[0].height, specs[0].width)
        control, place = self._read(size), self._find_place(size)
        count = len(specs)
        device = control.device
        scale = torch.full((count,), self.scale, device=device)
        if place is not None:
            place = place.to(device).expand(count, *place.shape[1:])
            scale = scale * float(bool((place > 0).any()))
        try:
            self.branch.set_rows(control.expand(count, *control.shape[1:]), scale, place)
            yield
        finally:
            self.branch.set_rows(None)

    @torch.no_grad()
    def _read(self, size: ClipSize) -> Tensor:
        if size not in self.controls:
            raise ValueError(f"no control was laid for samples of {size} frames and pixels")
        if size not in self.readings:
            weight = next(self.net.parameters())
            control = self.controls[size].to(weight.device)  # its precision is the VAE's matter
            self.readings[size] = self.support.read(self.net, self.vae, control)
        return self.readings[size]

    def _find_place(self, size: ClipSize) -> Weights | None:
        if self.masks and size not in self.masks:
            raise ValueError(f"no mask was laid for samples of {size} frames and pixels")
        return self.masks[size] if self.masks else None
