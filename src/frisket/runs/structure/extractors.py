"""The extractor of a run: without weights, or a frozen model of a local folder."""

from collections.abc import Callable
from pathlib import Path

from torch.nn import functional

from frisket.config.provenance import ConfigError
from frisket.control.base import ControlModelNotFound
from frisket.control.depth_model import DepthModel, load_depth
from frisket.losses.comparing import StructureRequest
from frisket.losses.structure import EXTRACTORS
from frisket.shapes import Clip, Structure

FLAT = 1e-12  # a frame that has no depth anywhere stays 0


def open_extractor(request: StructureRequest, device: str) -> Callable[[Clip], Structure]:
    """What a term asks for, differentiable; a model in float32 on `device`, frozen.

    ConfigError for a folder that is not there, or of another model.
    """
    if request.extractor in EXTRACTORS:
        return EXTRACTORS[request.extractor]
    try:
        model = load_depth(Path(request.source).expanduser(), device)
    except ControlModelNotFound as error:
        raise ConfigError(f"losses.consistency.source: {error}") from error
    return DepthExtractor(model)


class DepthExtractor:
    """Nearness of each pixel in a share of the frame's nearest, as ControlNet++ compares depths."""

    def __init__(self, model: DepthModel) -> None:
        self.model = model

    def __call__(self, clip: Clip) -> Structure:
        """A map b 1 F H W, at most 1; bilinear from the model's own size. Frames by themselves."""
        frames = clip.transpose(1, 2).flatten(0, 1)
        depths = self.model.measure(frames).float()
        depths = functional.interpolate(depths, clip.shape[3:], mode="bilinear")
        depths = depths / depths.amax((1, 2, 3), keepdim=True).clamp_min(FLAT)
        return depths.view(len(clip), -1, *depths.shape[1:]).transpose(1, 2)
