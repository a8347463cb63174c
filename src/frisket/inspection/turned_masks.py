"""Masks against the way up of their pictures: by size, by EXIF and by what is to be seen."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from frisket.data.records import Window
from frisket.inspection.alignment import BY_QUARTERS, FINE, UPRIGHT
from frisket.inspection.checks.orientation import look_at_turns
from frisket.inspection.findings import Finding
from frisket.inspection.views import shrink
from frisket.media.frames import Media, decode
from frisket.media.geometry import Geometry, fits
from frisket.media.images import read_orientation
from frisket.media.moving.display import FrameSize
from frisket.media.paths import IMAGES
from frisket.media.stills.orientation import DESCRIPTIONS
from frisket.shapes import Plane

_ReadPlanes = Callable[[Window], Mapping[str, Plane]]


def find_orientation(clip: Media) -> int:
    """EXIF's orientation of a still clip, 1 for anything else."""
    still = not clip.video and clip.path.suffix.lower() in IMAGES
    return read_orientation(clip.path)[0] if still else UPRIGHT


def look_at_turned(
    clip: str,
    window: Window,
    planes: _ReadPlanes,
    *,
    orientation: int,
) -> Iterator[Finding]:
    """Whether all regions together lie right, in the middle frame of a window."""
    picture, mask = read_middle(window, planes)
    yield from look_at_turns(
        clip,
        picture,
        mask,
        orientation=orientation,
        quarters=is_square(window),
    )


def is_square(window: Window) -> bool:
    """Whether a mask turned by 90 degrees would have been laid on without complaint."""
    height, width = window.media.height, window.media.width
    return fits((width, height), (height, width))


def read_middle(
    window: Window, planes: _ReadPlanes
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The middle frame of a window, uncropped, and all its regions; at most FINE pixels long.

    Not at the size that is trained at: that may be too small to tell. `planes` reads a window.
    """
    picks = window.geometry.picks
    height, width = window.geometry.source
    scale = min(FINE / max(height, width), 1.0)
    size = (max(round(height * scale), 1), max(round(width * scale), 1))
    geometry = Geometry((height, width), size, picks[len(picks) // 2 : len(picks) // 2 + 1])
    as_drawn = replace(window.masking, grow=0.0, feather=0.0)
    regions = planes(replace(window, geometry=geometry, masking=as_drawn))
    total = torch.stack([plane[0] for plane in regions.values()]).sum(0).clamp(0, 1)
    frame = decode(window.clip, geometry.picks)[0].numpy()
    return shrink(frame, (size[1], size[0])), total.numpy().astype(np.float32)


def look_at_swapped(
    clip: str, size: FrameSize, masks: Mapping[str, FrameSize], orientation: int
) -> list[Finding]:
    """Masks whose sides are those of the clip lying on its side: all sizes (height, width)."""
    swapped = (size[1], size[0])
    names = [name for name, mask in masks.items() if fits(mask, swapped) and not fits(mask, size)]
    if not names:
        return []
    if orientation in BY_QUARTERS:
        reason = (
            f"The clip is shown {DESCRIPTIONS[orientation]} (EXIF orientation {orientation}); the"
            " mask was made on the picture as it is stored"
        )
        fix = "`frisket inspect --fix` turns the mask; or export it from the upright picture."
    else:
        reason = "It is turned by 90 degrees against the clip"
        fix = "Turn it back (`frisket inspect --fix` does where the picture tells which way)."
    sizes = f"{masks[names[0]][1]} x {masks[names[0]][0]}"
    return [
        Finding(
            "turned",
            "error",
            clip,
            f"{names[0]} is {sizes} but the clip is {size[1]} x {size[0]}. {reason}.",
            fix,
        )
    ]
