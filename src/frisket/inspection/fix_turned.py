"""Which masks `frisket inspect --fix` turns, and how: only where it is certain."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from frisket.data.records import Window
from frisket.inspection.alignment import BY_QUARTERS, find_quarter
from frisket.inspection.checks.orientation import find_turn, is_certain
from frisket.inspection.per_clip import Looker
from frisket.inspection.turned_masks import find_orientation, is_square, read_middle
from frisket.media.files import ClipFiles
from frisket.media.frames import BadMedia, decode, decode_grey, probe
from frisket.media.geometry import fits
from frisket.media.images import LOSSY, open_image
from frisket.media.stills.orientation import METHODS, upright

INSIDE = 0.1  # levels are of several regions: the outline of all tells which way up they are


def turn_for(looker: Looker, clip: ClipFiles) -> int | None:
    """EXIF's number of the turn that surely makes the masks of a still fit; None for none."""
    paths = list(clip.masks.values())
    try:
        window = looker.windows(clip)[0]
        if window.media.video or any(path.is_dir() or probe(path).video for path in paths):
            return None
        orientation = find_orientation(window.media)
        masks = [probe(path) for path in paths]
        size = (window.media.height, window.media.width)
        if all(fits((mask.height, mask.width), size) for mask in masks):
            return _find_by_sight(looker, window, orientation)
        swapped = (size[1], size[0])
        if not all(fits((mask.height, mask.width), swapped) for mask in masks):
            return None
        return orientation if orientation in BY_QUARTERS else _find_quarter(window, paths)
    except (BadMedia, ValueError, OSError):
        return None  # the inspection names the file and the fault


def _find_by_sight(looker: Looker, window: Window, orientation: int) -> int | None:
    picture, mask = read_middle(window, looker.planes)
    square = is_square(window)
    alignment = find_turn(picture, mask, orientation=orientation, quarters=square)
    if alignment and is_certain(picture, mask, alignment, orientation=orientation, quarters=square):
        return alignment.orientation
    return None


def _find_quarter(window: Window, paths: Sequence[Path]) -> int | None:
    """Of the four ways to lay a mask back on its side, the one that fits far better than others."""
    mask = np.max([decode_grey(path)[0].numpy() for path in paths], axis=0)
    return find_quarter(decode(window.clip, [0])[0].numpy(), (mask > INSIDE).astype(np.float32))


def turn_file(path: Path, orientation: int) -> tuple[Image.Image, Path]:
    """A mask turned, label numbers and palette kept, and the PNG to save it as."""
    with open_image(path) as image:
        image.load()
        lossy = image.format in LOSSY
        turned = upright(image).transpose(METHODS[orientation])
    if lossy:
        levels = np.rint(decode_grey(path)[0].numpy() * 255).astype(np.uint8)
        turned = Image.fromarray(levels).transpose(METHODS[orientation])
    return turned, path.with_suffix(".png")
