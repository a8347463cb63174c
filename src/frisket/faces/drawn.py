"""Small networks that find the procedural people's faces and their five points."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from frisket.faces.align import TEMPLATE, Keypoints, fit_similarity, warp_faces
from frisket.faces.base import SIDE

DRAWN_SIDE, CELL = 64, 4  # pixels of the square it reads, and of one cell of its answer
CELLS = DRAWN_SIDE // CELL
WIDTHS = (16, 24, 32, 48)
REFINED_SIDE = 40  # pixels of an aligned face in which points are moved
SPOTS = 6  # the head's middle, then eyes, nose and corners of the mouth

ScoreMaps = Float[Tensor, "b 16 16"]  # logits of "the middle of a face lies in this cell"
HalfMaps = Float[Tensor, "b 16 16 2"]  # half the width and height of the head, in pixels
SpotMaps = Float[Tensor, "b 16 16 6 2"]  # (x, y) in pixels of the 64


def _halve(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 2, 1), nn.GroupNorm(8, outputs), nn.SiLU(inplace=True)
    )


def _mix(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 1, 1), nn.GroupNorm(8, outputs), nn.SiLU(inplace=True)
    )


class DrawnFaceFinder(nn.Module):
    """Each cell of 4 pixels says whether a face's middle lies in it, and where its points are.

    One look at centres, as CenterNet (arXiv:1904.07850) has it, on a short U of convolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        first, second, third, fourth = WIDTHS
        self.down = nn.ModuleList(
            [_halve(3, first), _halve(first, second), _halve(second, third), _halve(third, fourth)]
        )
        self.up = nn.ModuleList([_mix(fourth + third, third), _mix(third + second, third)])
        self.head = nn.Conv2d(third, 3 + 2 * SPOTS, 3, 1, 1)

    def forward(self, pictures: Float[Tensor, "b 3 64 64"]) -> tuple[ScoreMaps, HalfMaps, SpotMaps]:
        """What each cell says of pictures in [-1, 1]."""
        levels = [pictures]
        for layer in self.down:
            levels.append(layer(levels[-1]))
        cells = levels[4]
        for layer, skip in zip(self.up, (levels[3], levels[2]), strict=True):
            wider = functional.interpolate(cells, scale_factor=2.0, mode="nearest")
            cells = layer(torch.cat([wider, skip], 1))
        answer = self.head(cells).permute(0, 2, 3, 1)
        scores, halves, spots = answer.split([1, 2, 2 * SPOTS], -1)
        places = locate_cells(answer)[None, :, :, None]
        return (
            scores[..., 0],
            halves.exp() * CELL,
            places + spots.unflatten(-1, (SPOTS, 2)) * CELL,
        )


class PointRefiner(nn.Module):
    """How far the five points of an aligned face lie from the template's, in its pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(_halve(3, 16), _halve(16, 32), _halve(32, 48))
        self.head = nn.Sequential(
            nn.Linear(48 * (REFINED_SIDE // 8) ** 2, 48), nn.SiLU(inplace=True), nn.Linear(48, 10)
        )

    def forward(self, crops: Float[Tensor, "b 3 40 40"]) -> Float[Tensor, "b 5 2"]:
        """Offsets (x, y) of faces in [-1, 1]."""
        offsets: Tensor = self.head(self.down(crops).flatten(1))
        return offsets.view(-1, 5, 2)


class DrawnFaceNetworks(nn.Module):
    """Both: where faces are, and a closer look at the points of each."""

    def __init__(self) -> None:
        super().__init__()
        self.finder = DrawnFaceFinder()
        self.refiner = PointRefiner()

    def refine(self, picture: Float[Tensor, "1 3 H W"], points: Keypoints) -> Keypoints:
        """Points in pixels of a picture in [-1, 1], moved by what the faces laid by them show."""
        template = points.new_tensor(TEMPLATE) * (REFINED_SIDE / SIDE)
        similarities = fit_similarity(points, REFINED_SIDE)
        pictures = picture.expand(len(points), -1, -1, -1)
        crops = warp_faces(pictures, similarities, REFINED_SIDE)
        places = (template + self.refiner(crops).to(template)).double()
        turn, move = similarities[..., :2].double(), similarities[..., 2:].double()
        moved_points: Tensor = torch.linalg.solve(turn, (places - move.mT).mT).mT
        return moved_points.to(points.dtype)


def locate_cells(like: Tensor) -> Float[Tensor, "16 16 2"]:
    """The middle of each cell, (x, y) in pixels whose middles are whole numbers."""
    line = torch.arange(CELLS, device=like.device, dtype=like.dtype) * CELL + (CELL - 1) / 2
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], -1)


def pick_peaks(scores: ScoreMaps, least: float) -> list[tuple[int, int, int]]:
    """(row of the batch, y, x) of cells above `least` in [0, 1] that no neighbour is above."""
    confidence = scores.sigmoid()
    highest = functional.max_pool2d(confidence[:, None], 3, 1, 1)[:, 0]
    return [
        (row, y, x)
        for row, y, x in ((confidence >= least) & (confidence == highest)).nonzero().tolist()
    ]
