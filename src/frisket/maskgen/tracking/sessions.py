"""Video sessions of SAM 2 and SAM 3 in flat memory: frames read late, old memories dropped."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.maskgen.vision.preprocess import Preprocessing, pixels
from frisket.shapes import Frames


@dataclass(frozen=True, slots=True)
class FrameBuffer:
    """The frames of a window as the model reads them, each prepared when a session asks for it.

    The stock processors prepare the whole clip at once: 12 MB a frame at 1024 x 1024.
    """

    frames: Frames
    how: Preprocessing
    dtype: torch.dtype

    def __len__(self) -> int:
        """Frames in the window, which is all that a session asks of it."""
        return len(self.frames)

    def __getitem__(self, index: int) -> Float[Tensor, "3 h w"]:
        """Frame `index` at the model's size, normalised, in `dtype`."""
        return pixels(self.frames[index], self.how)[0].to(self.dtype)


def open_session(kind: Any, buffer: FrameBuffer, device: str) -> Any:
    """A session of class `kind` over `buffer`; everything it remembers lies on `device`."""
    session = kind(
        video_height=buffer.frames.shape[1],
        video_width=buffer.frames.shape[2],
        inference_device=device,
        inference_state_device=device,
        dtype=buffer.dtype,
    )
    session.processed_frames = buffer  # it asks for a frame by its index and for their number only
    return session


def forget(session: Any, frame: int, config: Any) -> None:
    """Drop what no later frame looks at, once `frame` is done; seeded frames stay.

    `config` is the tracker's: it looks back num_maskmem masks and max_object_pointers_in_encoder
    pointers. Masks at the model's full size serve only to encode the memory of their own frame.
    """
    reach = max(config.num_maskmem, config.max_object_pointers_in_encoder)
    for outputs in session.output_dict_per_obj.values():
        outputs["non_cond_frame_outputs"].pop(frame - reach, None)
        for frame_outputs in outputs.values():
            frame_outputs.get(frame, {}).pop("high_res_masks", None)
