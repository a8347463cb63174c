"""Frames of a window as they are looked at: cropped as trained, small."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from frisket.data.records import Window
from frisket.media.frames import decode
from frisket.shapes import Frames


def decode_views(window: Window, places: Sequence[int], side: int) -> Frames:
    """Frames of a window by place, cropped as trained (to whole pixels), at most `side` long."""
    picks = tuple(window.geometry.picks[place] for place in places)
    rows, columns = window.geometry.spans()
    box = tuple(
        slice(round(span.start), max(round(span.start + span.length), round(span.start) + 1))
        for span in (rows, columns)
    )
    height, width = window.geometry.target
    scale = min(side / max(height, width), 1.0)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    cut = [shrink(frame[box].numpy(), size) for frame in decode(window.clip, picks)]
    return torch.from_numpy(np.stack(cut))


def shrink(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """H W (and channels) at (width, height): area mean, linear where it is enlarged."""
    if image.shape[1::-1] == size:
        return image
    shrinks = image.shape[1] >= size[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    small: NDArray[Any] = cv2.resize(np.ascontiguousarray(image), size, interpolation=how)
    return small
