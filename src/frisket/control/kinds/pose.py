"""The poses of people, drawn as OpenPose does, by a ViTPose model from a local folder."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from frisket.control.base import ControlKind, ControlPicture, Drawer, DrawRequest, KindUnusable
from frisket.control.loading import compute_fingerprint
from frisket.control.person_boxes import PersonDetector, load_people
from frisket.control.pose_model import PersonBox, PoseModel, find_joints, fit_crop, load_pose
from frisket.control.skeletons import draw_skeletons, name_joints
from frisket.licence import Licence


@dataclass(frozen=True, slots=True)
class PoseDrawer:
    """Finds people in each frame; without a detector one, in the whole of it."""

    model: PoseModel
    least: float  # confidence from which a joint is drawn
    detector: PersonDetector | None
    least_person: float  # confidence from which a person is
    fingerprint: str

    @torch.no_grad()
    def draw(self, frames: Iterable[ControlPicture]) -> Iterator[ControlPicture]:
        """The skeletons of each frame on black; black alone where no joint is sure enough."""
        for frame in frames:
            height, width = frame.shape[:2]
            boxes: list[PersonBox] = [(0.0, 0.0, float(width), float(height))]
            if self.detector is not None:
                boxes = self.detector.find(frame, self.least_person)
            clip = frame.permute(2, 0, 1)[None].float() / 255
            crops = [fit_crop(box, self.model.size) for box in reversed(boxes)]  # largest on top
            people = [
                name_joints(*find_joints(self.model.measure(clip, crop)[0].float().cpu(), crop))
                for crop in crops
            ]
            yield draw_skeletons(people, (height, width), self.least)


def load(request: DrawRequest) -> Drawer:
    """A drawer by the model of a folder; KindUnusable for an impossible confidence."""
    for name, value in request.options.items():
        if not 0 <= value < 1:
            raise KindUnusable(f"pose: {name} = {value:g} should be a confidence from 0 up to 1")
    folder = Path(request.source).expanduser()
    fingerprint, detector = compute_fingerprint(folder), None
    if request.detector:
        place = Path(request.detector).expanduser()
        detector = load_people(place, request.device)
        fingerprint += compute_fingerprint(place)
    model, options = load_pose(folder, request.device), request.options
    return PoseDrawer(model, options["sure"], detector, options["person"], fingerprint)


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
    summary="skeletons in OpenPose's colours, by ViTPose: of one person, or of all detected",
    licence=Licence(
        code="Apache-2.0 (transformers)",
        weights="of the model you give",
        warning="ViTPose's weights are Apache-2.0; they were trained on COCO, MPII and others,"
        " whose pictures have terms of their own.",
    ),
    load=load,
    options={"sure": 0.3, "person": 0.5},
    takes_detector=True,
    files="a folder of transformers' VitPose",
    published="usyd-community/vitpose-base-simple on Hugging Face",
    tiny=build_tiny,
)
