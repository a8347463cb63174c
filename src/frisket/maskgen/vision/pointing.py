"""Points and a box to masks with a SAM-like model: a picture is encoded once, asked many times."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frisket.maskgen.base import (
    Box,
    ClickPoint,
    MaskWeightsNotFound,
    ModelSource,
    RgbPicture,
    Segment,
)
from frisket.maskgen.vision.loading import load_model
from frisket.maskgen.vision.preprocess import Preprocessing, enlarge, pixels, scale_box

# Where a Sam3VideoModel holds what its tracker looks at pictures with.
TRACKER_PARTS = {
    "detector_model.vision_encoder.backbone.": "vision_encoder.backbone.",
    "tracker_neck.": "vision_encoder.neck.",
    "tracker_model.": "",
}


@dataclass(frozen=True, slots=True)
class PictureEmbedding:
    """What a model made of one picture, to be asked of again; `bytes` is what it holds."""

    levels: tuple[Tensor, ...]

    @property
    def bytes(self) -> int:
        """What all levels take in memory."""
        return sum(level.numel() * level.element_size() for level in self.levels)


@torch.no_grad()
def encode_picture(model: Any, how: Preprocessing, picture: RgbPicture) -> PictureEmbedding:
    """The embedding of a picture, by a Sam2Model or a Sam3TrackerModel."""
    batch = pixels(picture, how).to(model.device, model.dtype)
    return PictureEmbedding(tuple(model.get_image_embeddings(batch)))


@torch.no_grad()
def segment_points(
    model: Any,
    how: Preprocessing,
    embedding: PictureEmbedding,
    picture: RgbPicture,
    points: Sequence[ClickPoint],
    box: Box | None,
) -> list[Segment]:
    """Up to three things that points, a box or both may mean, the likeliest first.

    One click alone may mean a part, a thing or all of it: the model's three masks. More than that
    means one: its single mask. The score is the model's predicted IoU. ValueError where nothing is
    asked for.
    """
    if not points and box is None:
        raise ValueError("points: give at least one click, or a box")
    prompts: dict[str, Tensor] = {}
    if points:
        spots = [scale_box(Box(x, y, x, y), picture, how)[:2] for x, y, _ in points]
        prompts["input_points"] = _to_tensor(model, [spots])
        prompts["input_labels"] = _to_tensor(model, [[int(inside) for *_, inside in points]]).long()
    if box is not None:
        prompts["input_boxes"] = _to_tensor(model, [scale_box(box, picture, how)])
    offers_several = box is None and len(points) == 1
    output = model(
        image_embeddings=list(embedding.levels), multimask_output=offers_several, **prompts
    )
    masks = enlarge(output.pred_masks[0, 0], *picture.shape[:2]).sigmoid().cpu()
    scores = output.iou_scores[0, 0].float().clamp(0, 1).cpu().tolist()
    segments = [Segment(mask, score, box=box) for mask, score in zip(masks, scores, strict=True)]
    return sorted(segments, key=lambda segment: -(segment.score or 0.0))


def _to_tensor(model: Any, values: Sequence[Any]) -> Tensor:
    return torch.tensor([values], dtype=torch.float32, device=model.device)


def load_tracker(folder: Path, source: ModelSource) -> Any:
    """The Sam3TrackerModel of a folder that holds a whole SAM 3.

    MaskWeightsNotFound where parts are missing.
    """
    from transformers import (  # noqa: PLC0415 - slow, and not always needed
        Sam3TrackerConfig,
        Sam3TrackerModel,
        Sam3VideoModel,
    )

    # transformers renames a tracker's keys by itself, but not in a folder that it saved itself.
    video_model = load_model(Sam3VideoModel, folder, source)
    weights = {
        name + key.removeprefix(prefix): value
        for key, value in video_model.state_dict().items()
        for prefix, name in TRACKER_PARTS.items()
        if key.startswith(prefix)
    }
    tracker = Sam3TrackerModel(Sam3TrackerConfig.from_pretrained(folder))
    missing = tracker.load_state_dict(weights, strict=False, assign=True).missing_keys
    if missing:
        raise MaskWeightsNotFound(
            f"{folder} has no weights for {len(missing)} parts of SAM 3's tracker, such as"
            f" {missing[0]}: it is another model, or an unfinished download"
        )
    return tracker.requires_grad_(False).eval().to(source.device)
