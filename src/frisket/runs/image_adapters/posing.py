"""IdentityNet's pictures of key points, of the faces that a step's clips have."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.faces.keypoints import draw_keypoints
from frisket.inference.methods.identity.instantid.pose import Strokes


@dataclass(frozen=True, slots=True)
class PoseRows:
    """Key points of each row's face as shares of the clip's sides; None for a clip without one.

    `strokes` as `draw_pose` has them.
    """

    points: Sequence[Float[Tensor, "5 2"] | None]
    strokes: Strokes = "fixed"

    def draw(self, height: int, width: int) -> Float[Tensor, "b 3 height width"]:
        """The pictures, RGB in [0, 1], on the CPU; black where there is no face."""
        return torch.stack([self._draw_row(points, height, width) for points in self.points])

    def _draw_row(
        self, points: Tensor | None, height: int, width: int
    ) -> Float[Tensor, "3 height width"]:
        if points is None:
            return torch.zeros(3, height, width)
        pixel_points = points * torch.tensor([float(width), float(height)]) - 0.5
        picture = draw_keypoints(pixel_points, height, width, scaled=self.strokes == "scaled")
        return picture.permute(2, 0, 1).float() / 255
