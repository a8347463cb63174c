"""Boxes of people by a detector of transformers (YOLOS, RT-DETR, DETR) from a local folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from frisket.control.base import ControlModelNotFound, ControlPicture
from frisket.control.loading import load_model, read_config, read_processor
from frisket.control.pose_model import PersonBox

TYPES = ("yolos", "rt_detr", "rt_detr_v2", "detr", "conditional_detr", "deformable_detr")
PERSON = "person"  # what COCO calls them


@dataclass(frozen=True, slots=True)
class PersonDetector:
    """A detector whose classes hold people, and its stock processor."""

    model: Any
    processor: Any
    label: int
    device: str

    @torch.no_grad()
    def find(self, frame: ControlPicture, least: float) -> list[PersonBox]:
        """The people in a frame that it is at least so sure of, the largest first."""
        inputs = self.processor(images=frame.numpy(), return_tensors="pt")
        answer = self.model(pixel_values=inputs["pixel_values"].to(self.device))
        (rows,) = self.processor.post_process_object_detection(
            answer, threshold=least, target_sizes=[tuple(frame.shape[:2])]
        )
        boxes = rows["boxes"][rows["labels"] == self.label].float().cpu()
        people = [
            (left, top, right - left, bottom - top)
            for left, top, right, bottom in boxes.tolist()
            if right > left and bottom > top
        ]
        return sorted(people, key=lambda box: -box[2] * box[3])


def load_people(folder: Path, device: str) -> PersonDetector:
    """The detector of a folder; ControlModelNotFound, also for one that knows no people."""
    from transformers import (  # noqa: PLC0415 - slow to import
        AutoImageProcessor,
        AutoModelForObjectDetection,
    )

    read_config(folder, TYPES)
    read_processor(folder)
    model: Any = load_model(AutoModelForObjectDetection, folder, device)
    names = {int(number): str(name) for number, name in model.config.id2label.items()}
    label = next((number for number, name in names.items() if name.lower() == PERSON), None)
    if label is None:
        raise ControlModelNotFound(
            f"{folder} detects {', '.join(list(names.values())[:5])} and no {PERSON!r}: take one of"
            " COCO, such as hustvl/yolos-small"
        )
    try:
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a stranger's config may raise anything
        raise ControlModelNotFound(f"{folder}: {str(error)[:300]}") from error
    return PersonDetector(model, processor, label, device)


def build_tiny_detector(folder: Path) -> Path:
    """A small random YOLOS of two classes, saved as transformers does, for tests."""
    from transformers import (  # noqa: PLC0415 - slow to import
        YolosConfig,
        YolosForObjectDetection,
        YolosImageProcessorPil,
    )

    torch.manual_seed(0)
    config = YolosConfig(
        image_size=[32, 32],
        patch_size=16,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_detection_tokens=4,
        id2label={0: PERSON, 1: "cat"},
        label2id={PERSON: 0, "cat": 1},
    )
    YolosForObjectDetection(config).save_pretrained(folder)
    YolosImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
