"""What other trainers' code was run on: made anew here, so that only its numbers are kept."""

import hashlib
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from frisket.adapters.targets import LAYERS
from frisket.families.base import FAMILIES
from frisket.families.experts import experts_of

# noise_offset, at random strength, multires_noise_iterations, multires_noise_discount
NOISES = (
    (0.0, False, 0, 0.3),
    (0.1, False, 0, 0.3),
    (0.1, True, 0, 0.3),
    (0.0, False, 6, 0.3),
    (0.0, False, 10, 0.8),
    (0.05, True, 8, 0.4),
)
# out, in, kernel, rank, alpha, size of the numbers
FACTORS = (
    (12, 8, (), 4, 2.0, 1.0),
    (12, 8, (), 4, 4.0, 0.05),
    (6, 5, (1, 1), 3, 1.0, 2.0),
    (6, 5, (3, 3), 3, 3.0, 1.0),
)
LIMITS = (1.0, 30.0)
UNETS = ("sd15", "sdxl")


def latents_of() -> Tensor:
    """Two pictures' latents, wider than high."""
    return torch.zeros(2, 4, 20, 28)


def factors(
    number: int, shapes: tuple[int, int, tuple[int, ...], int, float, float]
) -> tuple[Tensor, Tensor, float]:
    """A and B of one layer, and alpha."""
    out, into, kernel, rank, alpha, size = shapes
    generator = torch.Generator().manual_seed(number)
    ones = [1] * len(kernel)
    down = torch.randn(rank, into, *kernel, generator=generator) * size
    up = torch.randn(out, rank, *ones, generator=generator) * size
    return down, up, alpha


class ScaledOnce:
    """As much of kohya's network as its max-norm looks at: one layer's state."""

    def __init__(self, down: Tensor, up: Tensor, alpha: float) -> None:
        self.down, self.up, self.alpha = down.clone(), up.clone(), torch.tensor(alpha)

    def state_dict(self) -> dict[str, Tensor]:
        return {"x.lora_down.weight": self.down, "x.lora_up.weight": self.up, "x.alpha": self.alpha}


def unet_of(variant: str) -> nn.Module:
    """A UNet of two layers, with diffusers' names."""
    denoiser = FAMILIES.load("stable_diffusion").tiny(variant).denoiser
    assert denoiser is not None
    return denoiser


def layers_of(family: str) -> list[str]:
    """Names of the layers an adapter can go on, of a family's tiny model."""
    known = FAMILIES.load(family)
    denoiser = known.tiny(known.default).denoiser
    assert denoiser is not None
    model = next(iter(experts_of(denoiser).values()))
    return [name for name, module in model.named_modules() if isinstance(module, LAYERS)]


def kahan_problem() -> tuple[Mapping[str, nn.Parameter], Callable[[], Tensor]]:
    """A and B of one layer that is to become another, in float32 as every adapter trains."""
    generator = torch.Generator().manual_seed(0)
    low = nn.Parameter(torch.randn(24, 16, generator=generator) / 4)
    high = nn.Parameter(torch.zeros(16, 20))
    wanted = torch.randn(24, 20, generator=generator)

    def loss() -> Tensor:
        return (low @ high - wanted).square().mean()

    return {"x.lora_A": low, "x.lora_B": high}, loss


def losses_of(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> list[float]:
    """Every fifth of 40 steps."""
    seen = []
    for _ in range(40):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        seen.append(value.item())
    return seen[::5]


def digest_of(names: Iterable[str]) -> str:
    """Of names in any order."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]
