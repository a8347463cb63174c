"""Depth by DPT (arXiv 2103.13413) and Depth Anything (arXiv 2401.10891), differentiable."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from frisket.control.base import ControlModelNotFound
from frisket.control.loading import (
    PROCESSOR,
    load_model,
    normalise,
    read_config,
    read_processor,
)

TYPES = ("dpt", "depth_anything")
SIDE = 384  # pixels that a picture is read at where its processor does not say
NEAREST = 1e-3  # metres: where a metric model says less, it is as near


@dataclass(frozen=True, slots=True)
class DepthModel:
    """A depth estimator; `metric` ones answer in metres, and are turned into nearness."""

    model: nn.Module
    processor: Mapping[str, Any]
    metric: bool
    device: str

    def measure(self, frames: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 1 h w"]:
        """Nearness of frames in [0, 1], larger is nearer, at the model's own size, not scaled.

        Gradients reach the frames. Resized and normalised as the stock DPT processor does (bicubic
        with antialias, here in floats).
        """
        size = fit_size((frames.shape[2], frames.shape[3]), self.processor)
        small = functional.interpolate(
            frames.to(self.device), size, mode="bicubic", antialias=True, align_corners=False
        ).clamp(0, 1)
        depth: Tensor = self.model(pixel_values=normalise(small, self.processor)).predicted_depth
        return (1 / depth.clamp_min(NEAREST) if self.metric else depth)[:, None]


def load_depth(folder: Path, device: str) -> DepthModel:
    """The model of a folder (transformers' DPT or Depth Anything); ControlModelNotFound."""
    from transformers import AutoModelForDepthEstimation  # noqa: PLC0415 - slow to import

    config = read_config(folder, TYPES)
    processor = dict(read_processor(folder))
    processor["size"] = _read_size(folder, processor.get("size") or SIDE)
    model = load_model(AutoModelForDepthEstimation, folder, device)
    return DepthModel(model, processor, config.get("depth_estimation_type") == "metric", device)


def _read_size(folder: Path, size: Any) -> dict[str, int]:
    """Height and width, which older folders write as one number; ControlModelNotFound."""
    if isinstance(size, int):
        return {"height": size, "width": size}
    if not isinstance(size, Mapping) or not {"height", "width"} <= set(size):
        raise ControlModelNotFound(
            f"{folder / PROCESSOR}: size = {size!r} should have height and width, as transformers'"
            " DPT and Depth Anything are saved"
        )
    return {name: int(size[name]) for name in ("height", "width")}


def fit_size(size: tuple[int, int], processor: Mapping[str, Any]) -> tuple[int, int]:
    """The size (height, width) a picture is read at: of the processor's, and of its steps.

    With `keep_aspect_ratio` the axis that changes less sets the scale, as in the stock processor.
    """
    target_size = processor.get("size") or {"height": 384, "width": 384}
    step = int(processor.get("ensure_multiple_of") or 1)
    scales = [target_size["height"] / size[0], target_size["width"] / size[1]]
    if processor.get("keep_aspect_ratio"):
        scales = [min(scales[::-1], key=lambda scale: abs(1 - scale))] * 2
    height, width = (
        max(round(scale * side / step) * step, step)
        for scale, side in zip(scales, size, strict=True)
    )
    return height, width


def spread_depths(
    depths: Float[Tensor, "F 1 h w"], low: Tensor, high: Tensor, size: tuple[int, int]
) -> Float[Tensor, "F 1 H W"]:
    """Nearness spread over [0, 1], `low` (the clip's farthest) to `high`, at `size`.

    One range for all frames, so that the picture does not flicker; a flat clip is all 0.
    """
    spread = (depths - low) / (high - low) if high > low else torch.zeros_like(depths)
    return functional.interpolate(spread, size, mode="bicubic", align_corners=False).clamp(0, 1)
