"""Attention drawn over the picture it belongs to, with the outline of the region it should fit."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from frisket.shapes import Frames

_Image = NDArray[np.uint8]  # H W 3
_Map = NDArray[np.float32]  # h w
AttentionMap = Float[Tensor, "f h w"]
RegionCover = Float[Tensor, "g y x"]

SIDE = 192  # pixels, of the longer side of a drawn frame at least
PALE = 0.35  # share of the colour where a phrase does not look at all
STRONG = 0.85  # and where it looks hardest
GAP, HEAD, TEXT = 4, 24, 12  # of a sheet: between pictures, above them, its letters; pixels
MOST_FRAMES = 3  # of a clip that are drawn: first, middle, last


def draw_heat_maps(
    frames: Frames, attention: AttentionMap, coverage: RegionCover | None = None
) -> _Image:
    """The frames of one clip with one phrase's attention over them, side by side, uint8 H W 3.

    Black is the least value of the clip and bright yellow the greatest, so that pictures say where
    a phrase looks and never how hard. Of a clip first, middle and last latent frame are drawn over
    the pixel frames they stand for. `coverage` outlines where it is 0.5 or more. Small pictures are
    enlarged with hard pixels. ValueError where the coverage has other cells than the map.
    """
    if coverage is not None and coverage.shape != attention.shape:
        raise ValueError(
            f"a map of {tuple(attention.shape)} cells and a coverage of {tuple(coverage.shape)}"
        )
    values = attention.detach().float().cpu()
    span = float(values.max() - values.min())
    values = (values - values.min()) / span if span > 0 else values * 0
    images = []
    for place in pick_places(len(values)):
        frame = frames[round(place * (len(frames) - 1) / max(len(values) - 1, 1))].numpy()
        image = _draw_frame(frame, values[place].numpy())
        if coverage is not None:
            _draw_outline(image, coverage[place].float().cpu().numpy())
        images.append(image)
    return np.concatenate(images, 1)


def draw_plain(frames: Frames, latent_frames: int) -> _Image:
    """The same frames at the same size without any attention."""
    places = pick_places(latent_frames)
    last = len(frames) - 1
    indices = [round(place * last / max(latent_frames - 1, 1)) for place in places]
    return np.concatenate([_enlarge(frames[index].numpy()) for index in indices], 1)


def pick_places(count: int) -> list[int]:
    """First, middle and last of so many latent frames."""
    return sorted({0, count // 2, count - 1})[:MOST_FRAMES]


def _draw_frame(frame: _Image, heat: _Map) -> _Image:
    picture = _enlarge(frame)
    size = (picture.shape[1], picture.shape[0])
    smooth = cv2.resize(heat, size, interpolation=cv2.INTER_LINEAR).clip(0, 1)
    levels = (smooth * 255).round().astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    share = (PALE + (STRONG - PALE) * smooth)[..., None]
    mixed: _Image = (grey * (1 - share) + colours * share).round().astype(np.uint8)
    return mixed


def _draw_outline(image: _Image, cover: NDArray[Any]) -> None:
    size = (image.shape[1], image.shape[0])
    inside = cv2.resize((cover >= 0.5).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    lines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):  # seen on dark and on bright
        cv2.drawContours(image, lines, -1, colour, width)


def _enlarge(frame: _Image) -> _Image:
    scale = max(1, -(-SIDE // max(frame.shape[:2])))
    larger: _Image = frame.repeat(scale, 0).repeat(scale, 1)
    return larger


def lay_sheet(
    columns: Sequence[str], rows: Sequence[tuple[str, Sequence[_Image]]], *, label: int = 150
) -> _Image:
    """Pictures of one size in labelled rows and columns, on white, uint8 H W 3.

    `label` is the width of the names of the rows in pixels; longer names go on in further lines.
    ValueError where a row has more or fewer pictures than there are columns.
    """
    height, width = rows[0][1][0].shape[:2]
    sheet = Image.new(
        "RGB",
        (label + (width + GAP) * len(columns), HEAD + (height + GAP) * len(rows)),
        "white",
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for column, name in enumerate(columns):
        pen.text((label + column * (width + GAP), GAP), name, "black", font)
    for row, (name, images) in enumerate(rows):
        top = HEAD + row * (height + GAP)
        pen.text((GAP, top), _wrap(name, label - 2 * GAP, font), "black", font)
        for column, image in zip(range(len(columns)), images, strict=True):
            sheet.paste(Image.fromarray(image), (label + column * (width + GAP), top))
    return np.asarray(sheet)


def _wrap(text: str, width: int, font: Any) -> str:
    """A text in lines of at most `width` pixels, cut anywhere: names of layers have no spaces."""
    lines = [""]
    for character in text:
        if font.getlength(lines[-1] + character) > width:
            lines.append("")
        lines[-1] += character
    return "\n".join(lines)
