"""Depth, near bright and far dark, by a DPT or Depth Anything model from a local folder."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from frisket.control.base import ControlKind, ControlPicture, Drawer, DrawRequest
from frisket.control.depth_model import DepthModel, load_depth, spread_depths
from frisket.control.frames import make_picture
from frisket.control.loading import compute_fingerprint
from frisket.licence import Licence


@dataclass(frozen=True, slots=True)
class DepthDrawer:
    """Measures every frame of a clip first, at the model's size, then spreads them alike."""

    model: DepthModel
    fingerprint: str

    @torch.no_grad()
    def draw(self, frames: Iterable[ControlPicture]) -> Iterator[ControlPicture]:
        """Grey pictures: the clip's nearest is white, its farthest black."""
        size, depths = (0, 0), list[Tensor]()
        for frame in frames:
            size = (frame.shape[0], frame.shape[1])
            clip = frame.permute(2, 0, 1)[None].float() / 255
            depths.append(self.model.measure(clip).cpu())
        if not depths:
            return
        low = torch.stack([depth.min() for depth in depths]).min()
        high = torch.stack([depth.max() for depth in depths]).max()
        for depth in depths:
            yield make_picture(spread_depths(depth, low, high, size)[0])


def load(request: DrawRequest) -> Drawer:
    """A drawer by the model of a folder; ControlModelNotFound."""
    folder = Path(request.source).expanduser()
    return DepthDrawer(load_depth(folder, request.device), compute_fingerprint(folder))


def build_tiny(folder: Path) -> Path:
    """A small random Depth Anything model, saved as transformers does."""
    from transformers import (  # noqa: PLC0415 - slow to import
        DepthAnythingConfig,
        DepthAnythingForDepthEstimation,
        Dinov2Config,
        DPTImageProcessorPil,
    )

    torch.manual_seed(0)
    backbone = Dinov2Config(
        image_size=28,
        patch_size=14,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        mlp_ratio=2,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[4, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
    )
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    DPTImageProcessorPil(
        size={"height": 28, "width": 28}, ensure_multiple_of=14, keep_aspect_ratio=True
    ).save_pretrained(folder)
    return folder


KIND = ControlKind(
    summary="near bright, far dark, one range for a whole video; by DPT or Depth Anything",
    licence=Licence(
        code="Apache-2.0 (transformers)",
        weights="of the model you give",
        warning="Depth Anything V2 Small is Apache-2.0, Base and Large are CC-BY-NC-4.0: read the"
        " model's page before selling what comes of it.",
    ),
    load=load,
    files="a folder of transformers' DPT or Depth Anything",
    published="depth-anything/Depth-Anything-V2-Small-hf or Intel/dpt-large on Hugging Face",
    tiny=build_tiny,
)
