"""SAM 2 on pictures: boxes, and points that refine them, to masks."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.maskgen.base import Backend, Box, Licence, ModelSource, RgbPicture, Segment
from frisket.maskgen.vision import pointing
from frisket.maskgen.vision.loading import config_of, folder_of, load_model, run_halving
from frisket.maskgen.vision.preprocess import (
    Preprocessing,
    enlarge,
    pixels,
    read,
    scale_box,
    split_batches,
)

# 81 M parameters: 1.3 points of J&F on SA-V below large at a third of its size (SAM 2.1's README).
REPO = "facebook/sam2.1-hiera-base-plus"
PICTURES, OBJECTS = 8, 16  # at once through the encoder, and through the decoder

Points = Sequence[tuple[float, float, bool]]
_Request = tuple[RgbPicture, Sequence[Box], Sequence[Points]]


class Sam2:
    """A loaded Sam2Model, a Segmenter and a PointSegmenter.

    One mask a box: the model's single mask where that is stable, else the best of its three by
    predicted IoU (Sam2Model with multimask_output=False). The score is that predicted IoU.
    """

    def __init__(self, model: Any, how: Preprocessing) -> None:
        """Take a model and the preprocessing of its checkpoint."""
        self.model, self.how = model, how

    def segment(
        self,
        pictures: Sequence[RgbPicture],
        boxes: Sequence[Sequence[Box]],
        points: Sequence[Sequence[Points]] | None = None,
    ) -> list[list[Segment]]:
        """One segment a box; a mask above 0.5 is where the stock processor's logits are above 0."""
        refined = points or [[()] * len(of_picture) for of_picture in boxes]
        requests = list(zip(pictures, boxes, refined, strict=True))
        return list(run_halving(self._segment, requests, PICTURES))

    def encode_picture(self, picture: RgbPicture) -> pointing.PictureEmbedding:
        """What the image encoder makes of a picture."""
        return pointing.encode_picture(self.model, self.how, picture)

    def segment_points(
        self,
        embedding: pointing.PictureEmbedding,
        picture: RgbPicture,
        points: Points,
        box: Box | None = None,
    ) -> list[Segment]:
        """Up to three candidates (see `pointing.segment_points`)."""
        return pointing.segment_points(self.model, self.how, embedding, picture, points, box)

    @torch.no_grad()
    def _segment(self, requests: Sequence[_Request]) -> list[list[Segment]]:
        nonempty = [request for request in requests if request[1]]
        if not nonempty:
            return [[] for _ in requests]
        batch = torch.cat([pixels(picture, self.how) for picture, _, _ in nonempty])
        embeddings = self.model.get_image_embeddings(batch.to(self.model.device, self.model.dtype))
        decoded = iter(
            self._decode([level[i : i + 1] for level in embeddings], *request)
            for i, request in enumerate(nonempty)
        )
        return [next(decoded) if boxes else [] for _, boxes, _ in requests]

    def _decode(
        self,
        embeddings: list[Float[Tensor, "1 _ _ _"]],
        picture: RgbPicture,
        boxes: Sequence[Box],
        points: Sequence[Points],
    ) -> list[Segment]:
        # Boxes with as many points go together: padding points would change a box's own mask.
        groups: dict[int, list[int]] = defaultdict(list)
        for at, of_box in zip(range(len(boxes)), points, strict=True):
            groups[len(of_box)].append(at)
        segments: dict[int, Segment] = {}
        for members in groups.values():
            for chunk in split_batches(members, OBJECTS):
                together = [members[i] for i in chunk]
                masks, scores = self._predict(
                    embeddings,
                    picture,
                    [boxes[i] for i in together],
                    [points[i] for i in together],
                )
                for i, mask, score in zip(together, masks, scores.tolist(), strict=True):
                    segments[i] = Segment(mask, score, box=boxes[i], phrase=boxes[i].phrase)
        return [segments[i] for i in range(len(boxes))]

    def _predict(
        self,
        embeddings: list[Float[Tensor, "1 _ _ _"]],
        picture: RgbPicture,
        boxes: Sequence[Box],
        points: Sequence[Points],
    ) -> tuple[Float[Tensor, "n H W"], Float[Tensor, " n"]]:
        prompts = {
            "input_boxes": self._to_tensor([scale_box(box, picture, self.how) for box in boxes])
        }
        if points[0]:
            spots = [
                [scale_box(Box(x, y, x, y), picture, self.how)[:2] for x, y, _ in of_box]
                for of_box in points
            ]
            inside = [[int(inside) for _, _, inside in of_box] for of_box in points]
            prompts["input_points"] = self._to_tensor(spots)
            prompts["input_labels"] = self._to_tensor(inside).long()
        output = self.model(image_embeddings=embeddings, multimask_output=False, **prompts)
        logits = enlarge(output.pred_masks[0, :, 0], *picture.shape[:2])
        return logits.sigmoid().cpu(), output.iou_scores[0, :, 0].float().clamp(0, 1).cpu()

    def _to_tensor(self, values: Sequence[Any]) -> Tensor:
        return torch.tensor([values], dtype=torch.float32, device=self.model.device)


def load(source: ModelSource) -> Sam2:
    """Sam2Model from a folder or hub id; also reads a Sam2VideoModel's checkpoint."""
    from transformers import Sam2Model  # noqa: PLC0415 - slow, and listing backends needs none

    folder = folder_of(source, REPO)
    config_of(folder, "sam2", "sam2_video")
    how = read(folder, Preprocessing(1024, 1024))
    return Sam2(load_model(Sam2Model, folder, source), how)


BACKEND = Backend(
    summary="SAM 2.1: boxes and points to sharp masks",
    roles=frozenset({"segmenter", "pointer"}),
    licence=Licence(code="Apache-2.0", weights="Apache-2.0"),
    load=load,
    repo=REPO,
    weights=True,
)
