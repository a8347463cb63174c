"""Several denoisers that share the noise range between them (Wan 2.2 A14B), as one denoiser."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

SCALE = 1000  # the timestep a denoiser is told is t * 1000


class Experts(nn.Module):
    """Denoisers by name, each for its range of t; a call goes to the one its timesteps fall to.

    Only the expert that was called last holds its frozen weights on `device` (the others' lie on
    the CPU); parameters that ask for a gradient stay where they are, so that an optimizer's state
    keeps their company. Ranges are [low, high), the highest includes t = 1.
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
        for name, expert in self.experts.items():
            # A hook, not `forward`: the public pipeline calls an expert directly.
            expert.register_forward_pre_hook(lambda *_, name=name: self.use(name))

    def forward(self, *args: Any, timestep: Tensor, **given: Any) -> Any:
        """Call the expert of these timesteps (t * 1000, one a sample, or one a token)."""
        levels = timestep.float() / SCALE
        levels = levels.amax(-1) if levels.ndim > 1 else levels  # given tokens are at 0
        return self.experts[self.named(levels)](*args, timestep=timestep, **given)

    def named(self, t: Tensor) -> str:
        """Which expert noise levels fall to; ValueError where they fall to none or to several."""
        low, high = float(t.min()), float(t.max())
        for name, (least, most) in self.ranges.items():
            # Timesteps pass through float32: 0.875 comes back as 0.875 +- 1e-7.
            if least - 1e-6 <= low and (high < most - 1e-6 or most >= 1):
                return name
        raise ValueError(
            f"t from {low:g} to {high:g} is not within the range of one loaded expert: "
            + ", ".join(
                f"{name} {least:g} to {most:g}" for name, (least, most) in self.ranges.items()
            )
        )

    def use(self, name: str) -> nn.Module:
        """Bring an expert's frozen weights to the device, and take the others' off it."""
        if self.device is not None:
            for other, expert in self.experts.items():
                if other != name:
                    _move(expert, torch.device("cpu"))
            _move(self.experts[name], self.device)
        return self.experts[name]

    def on(self, device: torch.device | str) -> "Experts":
        """Choose the device: what is trained goes there for good, the rest when it is called."""
        self.device = torch.device(device)
        for value in self.parameters():
            if value.requires_grad:
                value.data = value.data.to(self.device)
        return self

    def enable_gradient_checkpointing(self) -> None:
        """Of every expert."""
        for expert in self.experts.values():
            expert.enable_gradient_checkpointing()  # type: ignore[operator]


def experts_of(denoiser: nn.Module) -> dict[str, nn.Module]:
    """The denoisers in a denoiser by name; a plain one is the only one and has the name ""."""
    bare: Any = getattr(denoiser, "module", denoiser)  # inside DistributedDataParallel
    return dict(bare.experts.items()) if isinstance(bare, Experts) else {"": bare}


def first(denoiser: nn.Module) -> Any:
    """One plain denoiser of those there are: for what all share (configuration, precision)."""
    return next(iter(experts_of(denoiser).values()))


def _move(expert: nn.Module, device: torch.device) -> None:
    for value in _frozen(expert):
        if value.device != device:
            value.data = value.data.to(device)


def _frozen(expert: nn.Module) -> Iterator[Tensor]:
    yield from (value for value in expert.parameters() if not value.requires_grad)
    yield from expert.buffers()
