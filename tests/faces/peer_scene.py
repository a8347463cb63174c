"""What the authors' code and ours are both given, made by rule, so that no weights are kept."""

import torch
from torch import Tensor

VALUED = "18"  # the depth whose outputs are compared; of the others, the keys
SEED = 16
# Key points that are turned, small, mirrored, wide and nearly in a line; (x, y) in pixels.
FACES = (
    ((60.0, 70.0), (100.0, 66.0), (83.0, 95.0), (66.0, 118.0), (101.0, 113.0)),
    ((30.5, 41.25), (44.0, 52.0), (31.0, 60.5), (20.0, 66.0), (33.75, 76.0)),
    ((100.0, 66.0), (60.0, 70.0), (83.0, 95.0), (101.0, 113.0), (66.0, 118.0)),
    ((10.0, 20.0), (150.0, 25.0), (81.0, 75.0), (30.0, 130.0), (128.0, 120.0)),
    ((50.0, 10.0), (52.0, 40.0), (51.0, 70.0), (53.0, 100.0), (50.0, 130.0)),
)
# Sizes (height, width) and points: inside, outside, negative, on a line, in one place.
DRAWINGS = (
    ((96, 128), FACES[0]),
    ((160, 120), ((-12.5, 30.2), (70.0, 200.0), (60.0, 60.9), (10.1, 90.0), (130.0, 99.9))),
    ((64, 64), ((20.0, 20.0), (44.0, 20.0), (32.0, 20.0), (24.0, 20.0), (40.0, 20.0))),
    ((64, 64), ((32.0, 32.0),) * 5),
    ((256, 256), ((90.7, 100.3), (160.2, 95.8), (128.5, 140.1), (100.9, 180.6), (158.4, 176.2))),
)


def fill_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights by key, small enough that outputs stay of the order of 1 in a deep network."""
    generator = torch.Generator().manual_seed(SEED)
    weights = {}
    for key in sorted(shapes):
        shape = shapes[key]
        draw = torch.randn(shape, generator=generator) if shape else torch.zeros(())
        if not shape:
            weights[key] = torch.zeros((), dtype=torch.long)
        elif key.endswith("running_var"):
            weights[key] = 1 + 0.2 * draw.abs()
        elif len(shape) > 1:
            weights[key] = draw * (draw[0].numel()) ** -0.5
        elif key.endswith(("bn3.weight", "downsample.1.weight")):
            weights[key] = 0.4 + 0.1 * draw
        elif key.endswith("prelu.weight"):
            weights[key] = 0.25 + 0.1 * draw
        elif key.endswith("weight"):
            weights[key] = 1 + 0.1 * draw
        else:
            weights[key] = 0.1 * draw
    return weights


def draw_faces() -> Tensor:
    """Two aligned faces of noise, `2 3 112 112` in [-1, 1]."""
    return torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(SEED + 1)) * 2 - 1


def draw_picture() -> Tensor:
    """A smooth picture, `140 170 3` uint8."""
    y, x = torch.meshgrid(torch.arange(140.0), torch.arange(170.0), indexing="ij")
    waves = [torch.sin(x / 7 + y / 13), torch.cos(y / 9), torch.sin((x - y) / 11 + 1)]
    return ((torch.stack(waves, -1) + 1) * 127.5).round().byte()


def summarise(values: Tensor) -> dict[str, list[float] | float]:
    """Enough of a large tensor to know it by: 24 of its numbers, its mean and its size."""
    flat = values.double().flatten()
    places = torch.linspace(0, len(flat) - 1, 24).long()
    return {
        "values": flat[places].tolist(),
        "mean": float(flat.mean()),
        "norm": float(flat.norm()),
    }
