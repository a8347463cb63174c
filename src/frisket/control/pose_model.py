"""Poses by ViTPose (arXiv 2204.12484) of transformers, of one person a box, differentiable."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from frisket.control.base import ControlModelNotFound
from frisket.control.loading import load_model, normalise, read_config, read_processor

JOINTS = 17  # of COCO: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles
ROOM = 1.25  # how much more than its box a person is cut out with
NUDGE = 0.25  # of a heatmap cell towards the larger neighbour (Xiao et al., arXiv 1804.06208)

PersonBox = tuple[float, float, float, float]  # left, top, width, height in pixels


@dataclass(frozen=True, slots=True)
class Crop:
    """What of a frame a model looks at, in its pixels: the middle (x, y), width and height."""

    centre: tuple[float, float]
    width: float
    height: float


def fit_crop(box: PersonBox, size: tuple[int, int]) -> Crop:
    """A box with room around it, widened or heightened to the aspect of `size` (height, width)."""
    left, top, width, height = box
    aspect = size[1] / size[0]
    width, height = max(width, height * aspect), max(height, width / aspect)
    return Crop((left + (box[2]) / 2, top + box[3] / 2), ROOM * width, ROOM * height)


@dataclass(frozen=True, slots=True)
class PoseModel:
    """A ViTPose of COCO's 17 joints."""

    model: nn.Module
    processor: Mapping[str, Any]
    size: tuple[int, int]  # height and width it reads
    has_experts: bool  # has experts for has_experts data sets; COCO is the first
    device: str

    def measure(self, frames: Float[Tensor, "b 3 H W"], crop: Crop) -> Float[Tensor, "b 17 h w"]:
        """Heatmaps of the joints of one person in frames in [0, 1]; gradients reach the frames.

        The crop is laid on the model's size corner to corner (UDP), outside of the frame is black.
        """
        cut = cut_out(frames.to(self.device), crop, self.size)
        options = {}
        if self.has_experts:
            options["dataset_index"] = torch.zeros(len(cut), dtype=torch.long, device=self.device)
        heatmaps: Tensor = self.model(
            pixel_values=normalise(cut, self.processor), **options
        ).heatmaps
        return heatmaps


def cut_out(
    frames: Float[Tensor, "b 3 H W"], crop: Crop, size: tuple[int, int]
) -> Float[Tensor, "b 3 h w"]:
    """A crop at `size` (height, width), linear, 0 outside of the frame."""
    high, wide = frames.shape[2:]
    xs = crop.centre[0] + torch.linspace(-0.5, 0.5, size[1], device=frames.device) * crop.width
    ys = crop.centre[1] + torch.linspace(-0.5, 0.5, size[0], device=frames.device) * crop.height
    # grid_sample counts pixels from -1 to 1 between the middles of the outermost ones.
    across = 2 * xs / max(wide - 1, 1) - 1
    down = 2 * ys / max(high - 1, 1) - 1
    grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1)
    return functional.grid_sample(
        frames, grid.expand(len(frames), -1, -1, -1), align_corners=True, padding_mode="zeros"
    )


def find_joints(
    heatmaps: Float[Tensor, "17 h w"], crop: Crop
) -> tuple[Float[Tensor, "17 2"], Float[Tensor, " 17"]]:
    """Places (x, y) in pixels of the frame, and the height of each peak (about 0 to 1).

    The largest cell, moved a quarter towards its larger neighbour along each axis; within a cell
    of what ViTPose's own refinement (DARK) gives, which needs more of the heatmap.
    """
    high, wide = heatmaps.shape[1:]
    scores, places = heatmaps.flatten(1).max(1)
    rows, columns = places // wide, places % wide
    padded = functional.pad(heatmaps, (1, 1, 1, 1), mode="replicate")
    joints = torch.arange(len(heatmaps), device=heatmaps.device)

    def compare(down: int, across: int) -> Tensor:
        ahead = padded[joints, rows + 1 + down, columns + 1 + across]
        behind = padded[joints, rows + 1 - down, columns + 1 - across]
        return NUDGE * torch.sign(ahead - behind)

    x, y = columns + compare(0, 1), rows + compare(1, 0)
    spread_x = (x / max(wide - 1, 1) - 0.5) * crop.width + crop.centre[0]
    spread_y = (y / max(high - 1, 1) - 0.5) * crop.height + crop.centre[1]
    return torch.stack([spread_x, spread_y], 1), scores


def load_pose(folder: Path, device: str) -> PoseModel:
    """The model of a folder (transformers' VitPose); ControlModelNotFound, also of other joints."""
    from transformers import VitPoseForPoseEstimation  # noqa: PLC0415 - slow to import

    read_config(folder, ("vitpose",))
    processor = read_processor(folder)
    model = load_model(VitPoseForPoseEstimation, folder, device)
    config: Any = model.config
    if config.num_labels != JOINTS:
        raise ControlModelNotFound(
            f"{folder} finds {config.num_labels} joints; a pose is drawn from the {JOINTS} of COCO:"
            " take usyd-community/vitpose-base-simple"
        )
    height, width = config.backbone_config.image_size
    has_experts = config.backbone_config.num_experts > 1
    return PoseModel(model, processor, (height, width), has_experts, device)
