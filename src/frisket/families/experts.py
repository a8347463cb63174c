"""Several denoisers that share the noise range between them (Wan 2.2 A14B), as one denoiser."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

SCALE = 1000  # the timestep a denoiser is told is t * 1000
MARGIN = 1e-6  # timesteps pass through float32: 0.875 comes back as 0.875 +- 1e-7


class Experts(nn.Module):
    """Denoisers by name, each for its range of t; a call goes to the one its timesteps fall to.

    Only the expert that was called last holds its frozen weights on `device` (the others' lie on
    the CPU). Parameters that ask for a gradient stay on the device, so that an optimizer's state
    keeps their company, and so do buffers and each expert's first parameter, by which diffusers
    tells where a model is. Ranges are [low, high), the highest includes t = 1.

    No other expert may be called between a forward pass and its backward pass: checkpointing runs
    the forward pass again.
    """

    def __init__(
        self, experts: Mapping[str, nn.Module], ranges: Mapping[str, tuple[float, float]]
    ) -> None:
        """Experts in the order of their names; ValueError where one has no range."""
        super().__init__()
        lost = sorted(set(experts) - set(ranges))
        if lost or not experts:
            raise ValueError(f"experts {sorted(experts)}: no range of t for {lost}")
        self.experts = nn.ModuleDict(dict(experts))
        self.ranges = {name: ranges[name] for name in experts}
        self.device: torch.device | None = None  # None: everything stays where it is
        self.swapped = False  # somebody else brings and takes the weights: `to` moves nothing
        for name, expert in self.experts.items():
            # A hook, not `forward`: the public pipeline calls an expert directly. And a bound
            # method, no closure: a deep copy's hook then moves the copy.
            # First: others, such as a ControlNet's, use the weights that this brings back.
            expert.register_forward_pre_hook(partial(self._on_call, name), prepend=True)

    def _on_call(self, name: str, _expert: nn.Module, _args: Any) -> None:
        self.use(name)

    def forward(self, *args: Any, timestep: Tensor, **kwargs: Any) -> Any:
        """Call the expert of these timesteps (t * 1000, one a sample, or one a token)."""
        levels = timestep.float() / SCALE
        levels = levels.amax(-1) if levels.ndim > 1 else levels  # given tokens are at 0
        return self.experts[self.find_name(levels)](*args, timestep=timestep, **kwargs)

    def find_name(self, t: Tensor) -> str:
        """Which expert noise levels fall to; ValueError where they fall to none or to several."""
        low, high = float(t.min()), float(t.max())
        for name, (least, most) in self.ranges.items():
            if least - MARGIN <= low and (high < most - MARGIN or most >= 1):
                return name
        raise ValueError(
            f"t from {low:g} to {high:g} is not within the range of one loaded expert: "
            + ", ".join(
                f"{name} {least:g} to {most:g}" for name, (least, most) in self.ranges.items()
            )
        )

    def use(self, name: str) -> nn.Module:
        """Bring an expert's frozen weights to the device, and take the others' off it first."""
        if self.device is not None:
            for other, expert in self.experts.items():
                if other != name:
                    _move(expert, torch.device("cpu"))
            _move(self.experts[name], self.device)
        return self.experts[name]

    def on(self, device: torch.device | str) -> "Experts":
        """Choose the device: what is trained goes there for good, the rest when it is called.

        A single expert has nobody to change places with and goes there whole, for good. With block
        swap this does nothing: what is out has no storage to move (Accelerate asks for it).
        """
        if self.swapped:
            return self
        if len(self.experts) == 1 or torch.device(device).type == "meta":  # shapes lie nowhere
            self.device = None
            super().to(device=torch.device(device))
            return self
        self.device = _add_index(torch.device(device))
        for expert in self.experts.values():
            for value in expert.parameters():
                if value.requires_grad or value is next(expert.parameters()):
                    value.data = value.data.to(self.device)
            for module in expert.modules():
                for name, buffer in module.named_buffers(recurse=False):
                    module._buffers[name] = buffer.to(self.device)
            _move(expert, torch.device("cpu"))
        return self

    def to(self, *args: Any, **kwargs: Any) -> "Experts":
        """As of any module, but a device is chosen (see `on`): both at once would not fit it."""
        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        if dtype is not None:
            super().to(dtype=dtype)
        return self if device is None else self.on(device)


def experts_of(denoiser: nn.Module) -> dict[str, nn.Module]:
    """The denoisers in a denoiser by name; a plain one is the only one and has the name ""."""
    bare: Any = getattr(denoiser, "module", denoiser)  # inside DistributedDataParallel
    return dict(bare.experts.items()) if isinstance(bare, Experts) else {"": bare}


def first(denoiser: nn.Module) -> Any:
    """One plain denoiser of those there are: for what all share (configuration, precision)."""
    return next(iter(experts_of(denoiser).values()))


def _add_index(device: torch.device) -> torch.device:
    """With the index that its tensors will say: "cuda" is none of theirs, and nothing equals it."""
    if str(device) == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _move(expert: nn.Module, device: torch.device) -> None:
    """Move what is frozen; a quantised weight goes as its own class moves it, with its scales."""
    stays = next(expert.parameters())
    for module in expert.modules():
        for name, value in module.named_parameters(recurse=False):
            if value.requires_grad or value is stays or value.device == device:
                continue
            if type(value) is nn.Parameter:
                value.data = value.data.to(device)
                continue
            moved: Any = value.to(device)
            frozen = isinstance(moved, nn.Parameter)
            module._parameters[name] = moved if frozen else nn.Parameter(moved, requires_grad=False)
