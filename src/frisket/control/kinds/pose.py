"""The pose of a person, drawn as OpenPose does, by a ViTPose model from a local folder."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from frisket.control.base import ControlKind, ControlPicture, Drawer, DrawRequest, KindUnusable
from frisket.control.loading import compute_fingerprint
from frisket.control.pose_model import PoseModel, find_joints, fit_crop, load_pose
from frisket.control.skeletons import draw_skeletons, name_joints
from frisket.licence import Licence


@dataclass(frozen=True, slots=True)
class PoseDrawer:
    """Finds one person in the whole of each frame."""

    model: PoseModel
    least: float  # confidence from which a joint is drawn
    fingerprint: str

    @torch.no_grad()
    def draw(self, frames: Iterable[ControlPicture]) -> Iterator[ControlPicture]:
        """The skeleton of each frame on black; black alone where no joint is sure enough."""
        for frame in frames:
            height, width = frame.shape[:2]
            crop = fit_crop((0.0, 0.0, float(width), float(height)), self.model.size)
            heatmaps = self.model.measure(frame.permute(2, 0, 1)[None].float() / 255, crop)
            joints = name_joints(*find_joints(heatmaps[0].float().cpu(), crop))
            yield draw_skeletons([joints], (height, width), self.least)


def load(request: DrawRequest) -> Drawer:
    """A drawer by the model of a folder; KindUnusable for an impossible `sure`."""
    least = request.options["sure"]
    if not 0 <= least < 1:
        raise KindUnusable(f"pose: sure = {least:g} should be a confidence from 0 up to 1")
    folder = Path(request.source).expanduser()
    return PoseDrawer(load_pose(folder, request.device), least, compute_fingerprint(folder))


def build_tiny(folder: Path) -> Path:
    """A small random ViTPose, saved as transformers does."""
    from transformers import (  # noqa: PLC0415 - slow to import
        VitPoseBackboneConfig,
        VitPoseConfig,
        VitPoseForPoseEstimation,
        VitPoseImageProcessorPil,
    )

    torch.manual_seed(0)
    backbone = VitPoseBackboneConfig(
        image_size=[32, 24],
        patch_size=[8, 8],
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    config = VitPoseConfig(backbone_config=backbone, num_labels=17)
    VitPoseForPoseEstimation(config).save_pretrained(folder)
    VitPoseImageProcessorPil(size={"height": 32, "width": 24}).save_pretrained(folder)
    return folder


KIND = ControlKind(
    summary="the skeleton of one person in OpenPose's colours, by ViTPose (sure)",
    licence=Licence(
        code="Apache-2.0 (transformers)",
        weights="of the model you give",
        warning="ViTPose's weights are Apache-2.0; they were trained on COCO, MPII and others,"
        " whose pictures have terms of their own.",
    ),
    load=load,
    options={"sure": 0.3},
    files="a folder of transformers' VitPose",
    published="usyd-community/vitpose-base-simple on Hugging Face",
    tiny=build_tiny,
)
