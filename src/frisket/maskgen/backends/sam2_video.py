"""SAM 2 on video: seeded objects followed through the frames of a window."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from frisket.maskgen.base import Backend, Licence, ModelSource, Seed, SoftMask
from frisket.maskgen.tracking.sessions import FrameBuffer, forget, open_session
from frisket.maskgen.vision.loading import config_of, folder_of, load_model
from frisket.maskgen.vision.preprocess import Preprocessing, enlarge, read, scale_box
from frisket.shapes import Frames, Plane

# 81 M parameters: 1.3 points of J&F on SA-V below large at a third of its size (SAM 2.1's README).
REPO = "facebook/sam2.1-hiera-base-plus"
CORNERS = 2, 3  # the labels of the prompt encoder for a box's two corners


class Sam2Video:
    """A loaded Sam2VideoModel, a Tracker.

    A seed's frame answers with its own mask (a box's is the model's), at any frame of the window;
    several seeds of one object correct it on the way. A seed's mask goes before its box.
    """

    def __init__(self, model: Any, how: Preprocessing) -> None:
        """Take a model and the preprocessing of its checkpoint."""
        self.model, self.how = model, how

    def track(
        self, frames: Frames, seeds: Sequence[Seed], *, reverse: bool = False
    ) -> dict[int, Plane]:
        """Follow every seed to the last frame, or to the first (`reverse`).

        Probabilities above 0.5 are where the stock processor's logits are above 0; where the model
        says that an object is not in a frame, they are 0. Raises ValueError for a seed outside of
        the frames or with neither box nor mask.
        """
        _check(frames, seeds)
        if reverse:
            # Reverse tracking is tracking of the clip played backward: SAM 2 knows no other sign.
            last = len(frames) - 1
            mirrored = [replace(seed, frame=last - seed.frame) for seed in seeds]
            mirrored_planes = self.track(frames.flip(0), mirrored)
            return {number: plane.flip(0) for number, plane in mirrored_planes.items()}
        planes = {seed.number: torch.zeros(frames.shape[:3]) for seed in seeds}
        first = min((seed.frame for seed in seeds), default=len(frames))
        session = self._open_session(frames)
        for at in range(first, len(frames)):
            # Objects join at their own frame: before it the model has nothing to go by.
            self._plant(session, frames, [seed for seed in seeds if seed.frame == at])
            output = self.model(session, frame_idx=at)
            masks = enlarge(output.pred_masks[:, 0], *frames.shape[1:3]).sigmoid()
            for number, mask in zip(output.object_ids, masks, strict=True):
                planes[number][at] = mask
            forget(session, at, self.model.config)
        return planes

    def _open_session(self, frames: Frames) -> Any:
        from transformers.models.sam2_video.modeling_sam2_video import (  # noqa: PLC0415
            Sam2VideoInferenceSession,
        )

        buffer = FrameBuffer(frames, self.how, self.model.dtype)
        return open_session(Sam2VideoInferenceSession, buffer, str(self.model.device))

    def _plant(self, session: Any, frames: Frames, seeds: Sequence[Seed]) -> None:
        for seed in seeds:
            index = session.obj_id_to_idx(seed.number)
            if seed.mask is not None:
                session.add_mask_inputs(index, seed.frame, self._mask(seed.mask))
                session.remove_point_inputs(index, seed.frame)
            elif seed.box is not None:
                corners = torch.tensor(scale_box(seed.box, frames[seed.frame], self.how))
                prompt = {
                    "point_coords": corners.view(1, 1, 2, 2),
                    "point_labels": torch.tensor(CORNERS, dtype=torch.int32).view(1, 1, 2),
                }
                session.add_point_inputs(index, seed.frame, prompt)
                session.remove_mask_inputs(index, seed.frame)
        session.obj_with_new_inputs = list({seed.number: None for seed in seeds})

    def _mask(self, mask: SoftMask) -> Float[Tensor, "1 1 h w"]:
        size = self.how.height, self.how.width
        resized = F.interpolate(mask[None, None], size, mode="bilinear", antialias=True)
        return (resized >= 0.5).float()


def _check(frames: Frames, seeds: Sequence[Seed]) -> None:
    for seed in seeds:
        if not 0 <= seed.frame < len(frames):
            raise ValueError(
                f"seed {seed.number} lies on frame {seed.frame}, the window has {len(frames)}"
            )
        if seed.box is None and seed.mask is None:
            raise ValueError(f"seed {seed.number} on frame {seed.frame} has neither box nor mask")


def load(source: ModelSource) -> Sam2Video:
    """Sam2VideoModel from a folder or hub id."""
    from transformers import Sam2VideoModel  # noqa: PLC0415 - slow, and listing needs none

    folder = folder_of(source, REPO)
    config_of(folder, "sam2_video")
    how = read(folder, Preprocessing(1024, 1024))
    return Sam2Video(load_model(Sam2VideoModel, folder, source), how)


BACKEND = Backend(
    summary="SAM 2.1 on video: boxes or masks followed forward and backward",
    roles=frozenset({"tracker"}),
    licence=Licence(code="Apache-2.0", weights="Apache-2.0"),
    load=load,
    repo=REPO,
    weights=True,
)
