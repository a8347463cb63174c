"""Pictures, latents and predictions drawn anew on either side of the comparison."""

import torch
from torch import Generator, Tensor

SIZES = ((2, 3, 24, 32), (1, 3, 17, 23))  # of pictures
BATCH = (5, 4, 16, 16)  # of latents
TIMESTEPS = (3, 200, 201, 120, 950)  # the gate lies at 200: three pass
NONE_PASS = (201, 500, 700, 999, 450)
GATE = 200
THRESHOLDS = (0.1, 0.2)


def draw_picture(case: int) -> Tensor:
    """Smooth shapes and a little noise in [0, 1], b 3 H W, so that there are edges to find."""
    generator = torch.Generator().manual_seed(100 + case)
    size = SIZES[case]
    coarse = torch.rand(*size[:2], 4, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size[2:], mode="bilinear")
    return (0.9 * smooth + 0.1 * torch.rand(size, generator=generator)).clamp(0, 1)


def draw_latents(generator: Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Clean latents b c h w, noise, and what a model might predict of it."""
    generator = generator or torch.Generator().manual_seed(7)
    coarse = torch.randn(*BATCH[:2], 4, 4, generator=generator)
    clean = torch.nn.functional.interpolate(coarse, BATCH[2:], mode="bilinear")
    noise = torch.randn(BATCH, generator=generator)
    prediction = noise + 0.3 * torch.randn(BATCH, generator=generator)
    return clean, noise, prediction


def draw_direction(shape: torch.Size) -> Tensor:
    """Along which a gradient is measured: one number says where it points."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(9))


def decode_colours(latents: Tensor) -> Tensor:
    """A decoder b c ... to b 3 ... in about [-1, 1]: each colour from two channels."""
    red, green, blue, rest = latents.unbind(1)
    return torch.stack([red, green, blue], 1) * 0.4 + 0.1 * rest[:, None]
