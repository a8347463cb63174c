"""What insightface's classes and ours are both given beside a tiny pack, made by rule."""

import torch
from torch import Tensor

# Scores and five points in the 64 pixels the tiny detector reads; the third repeats the first.
FACES = (
    (0.9, ((12.0, 14.0), (22.0, 13.0), (17.0, 19.0), (13.0, 24.0), (21.0, 24.0))),
    (0.7, ((38.0, 34.0), (54.0, 36.0), (46.0, 44.0), (39.0, 52.0), (52.0, 53.0))),
    (0.6, ((40.0, 35.0), (55.0, 34.0), (48.0, 43.0), (41.0, 51.0), (55.0, 51.0))),
)


def draw_face() -> Tensor:
    """An aligned face, `112 112 3` uint8."""
    y, x = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
    waves = [torch.sin(x / 9 + y / 17), torch.cos(y / 11), torch.sin((x - y) / 13 + 1)]
    return ((torch.stack(waves, -1) + 1) * 127.5).round().byte()


def draw_picture() -> Tensor:
    """A picture of 128 pixels a side, which the detector reads at half of it exactly."""
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    waves = [torch.cos(x / 8), torch.sin(y / 7 + x / 19), torch.cos((x + y) / 12)]
    return ((torch.stack(waves, -1) + 1) * 127.5).round().byte()
