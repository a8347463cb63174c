"""SAM 3 on video: what phrases name, found and followed through the frames of a window."""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from frisket.maskgen.base import Backend, Licence, ModelSource, Track
from frisket.maskgen.text.tokens import tokenise
from frisket.maskgen.tracking.sessions import FrameBuffer, forget, open_session
from frisket.maskgen.vision.loading import config_of, folder_of, load_model
from frisket.maskgen.vision.preprocess import Preprocessing, enlarge, read
from frisket.shapes import Frames, Plane

REPO = "facebook/sam3"
HALF = (0.5, 0.5, 0.5)


class Sam3Video:
    """A loaded Sam3VideoModel, a VideoGrounder.

    Finding, matching and dropping of doubles are the model's own, with its checkpoint's thresholds.
    """

    def __init__(self, model: Any, how: Preprocessing, tokenizer: Any) -> None:
        """Take a model, and the preprocessing and tokenizer of its checkpoint."""
        self.model, self.how, self.tokenizer = model, how, tokenizer

    def follow(self, frames: Frames, phrases: Sequence[str]) -> list[Track]:
        """Tracks in the order in which they were first seen; forward only, as the model works.

        A score is the detector's when it found the object; None on frames the object is not in.
        Raises BackendUnusable for a phrase that cannot be read.
        """
        if not phrases:
            return []
        session = self._open_session(frames, phrases)
        planes: dict[int, Plane] = {}  # by the model's number, in the order of appearance
        scores: dict[int, list[float | None]] = {}
        names: dict[int, str] = {}
        for output in self.model.propagate_in_video_iterator(session):
            for number, mask in _settle(session, output, *frames.shape[1:3]):
                if number not in planes:
                    planes[number] = torch.zeros(frames.shape[:3])
                    scores[number] = [None] * len(frames)
                    names[number] = session.prompts[session.obj_id_to_prompt_id[number]]
                planes[number][output.frame_idx] = mask
                scores[number][output.frame_idx] = output.obj_id_to_score[number]
            forget(session, output.frame_idx, self.model.config.tracker_config)
        return [
            Track(at, planes[number], tuple(scores[number]), names[number])
            for at, number in enumerate(planes, start=1)
        ]

    def _open_session(self, frames: Frames, phrases: Sequence[str]) -> Any:
        from transformers.models.sam3_video.modeling_sam3_video import (  # noqa: PLC0415
            Sam3VideoInferenceSession,
        )

        room = self.model.config.detector_config.text_config.max_position_embeddings
        texts = {phrase: tokenise(self.tokenizer, phrase, room) for phrase in phrases}
        buffer = FrameBuffer(frames, self.how, self.model.dtype)
        session = open_session(Sam3VideoInferenceSession, buffer, str(self.model.device))
        for phrase, text in texts.items():
            number = session.add_prompt(phrase)
            session.prompt_input_ids[number] = text["input_ids"].to(self.model.device)
            session.prompt_attention_masks[number] = text["attention_mask"].to(self.model.device)
        return session


def _settle(
    session: Any, output: Any, height: int, width: int
) -> Iterator[tuple[int, Float[Tensor, "H W"]]]:
    """Number and mask of what is to be seen on a frame, as the stock processor settles it.

    What the model hides (doubles, objects it gave up) and what is nowhere above 0.5 is left out.
    """
    hidden = set(output.suppressed_obj_ids or ()) | session.hotstart_removed_obj_ids
    numbers = [number for number in sorted(output.obj_id_to_mask) if number not in hidden]
    if not numbers:
        return
    logits = torch.cat([output.obj_id_to_mask[number] for number in numbers])
    masks = enlarge(logits, height, width).sigmoid().cpu()
    parted = _separate(
        masks,
        torch.tensor([output.obj_id_to_tracker_score.get(number, 0.0) for number in numbers]),
        [session.obj_id_to_prompt_id[number] for number in numbers],
    )
    for number, mask, alone in zip(numbers, parted, masks, strict=True):
        if (alone > 0.5).any():
            yield number, mask


def _separate(
    masks: Float[Tensor, "n H W"], scores: Float[Tensor, " n"], phrases: Sequence[int]
) -> Float[Tensor, "n H W"]:
    """Where objects of one phrase overlap, the pixel is the best scored one's, 0 to the others."""
    phrase_ids = torch.tensor(phrases)
    claimed = masks > 0.5
    parted = masks.clone()
    for phrase in set(phrases):
        group = phrase_ids == phrase
        bids = torch.where(claimed[group], scores[group][:, None, None], -torch.inf)
        won = bids.argmax(0, keepdim=True) == torch.arange(len(bids))[:, None, None]
        parted[group] = torch.where(claimed[group] & ~won, 0.0, parted[group])
    return parted


class _Kernel:
    """The two functions Sam3VideoModel looks for in native code from the hub, on OpenCV."""

    @staticmethod
    def generic_nms(
        ious: Float[Tensor, "n n"], scores: Float[Tensor, " n"], iou_threshold: float, **_: bool
    ) -> Tensor:
        """Indices kept, best first: none overlaps a better one by more than the threshold."""
        kept_indices: list[int] = []
        overlaps = (ious > iou_threshold).cpu()
        for at in scores.argsort(descending=True, stable=True).tolist():
            if not overlaps[at, kept_indices].any():
                kept_indices.append(at)
        return torch.tensor(kept_indices, device=scores.device)

    @staticmethod
    def cc_2d(mask: Tensor, **_: bool) -> tuple[Tensor, Tensor]:
        """Labels, and the area of its component at every pixel; n 1 h w, uint8 to int32."""
        labels = torch.zeros_like(mask, dtype=torch.int32)
        areas = torch.zeros_like(labels)
        for at, frame_mask in enumerate(mask[:, 0].cpu().numpy()):
            _, numbers, stats, _ = cv2.connectedComponentsWithStats(frame_mask, connectivity=8)
            labels[at, 0] = torch.from_numpy(numbers)
            areas[at, 0] = torch.from_numpy(stats[:, cv2.CC_STAT_AREA][numbers].astype(np.int32))
        return labels, areas


def load(source: ModelSource) -> Sam3Video:
    """Sam3VideoModel and its tokenizer from a folder or hub id."""
    from transformers import CLIPTokenizer, Sam3VideoModel  # noqa: PLC0415 - slow, rarely needed
    from transformers.models.sam3_video import modeling_sam3_video  # noqa: PLC0415

    # It would download native code and run it; without it, it keeps doubles and says so once.
    modeling_sam3_video.cv_utils_kernel = _Kernel()
    folder = folder_of(source, REPO, needs=("config.json", "tokenizer.json"))
    config_of(folder, "sam3_video")
    how = read(folder, Preprocessing(1008, 1008, HALF, HALF))
    model = load_model(Sam3VideoModel, folder, source)
    return Sam3Video(model, how, CLIPTokenizer.from_pretrained(folder))


BACKEND = Backend(
    summary="SAM 3 on video: what phrases name, found and followed",
    roles=frozenset({"follower"}),
    licence=Licence(
        code="Apache-2.0",
        weights="SAM License",
        warning="SAM 3's weights are gated and under Meta's own SAM License: read and accept its"
        " terms at https://huggingface.co/facebook/sam3 before you use them",
    ),
    load=load,
    repo=REPO,
    weights=True,
)
