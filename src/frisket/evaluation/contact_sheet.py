"""Contact sheets: each clip, its regions laid over it, and the weights the loss will see."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_Pixels = NDArray[np.uint8]
Ink = tuple[int, int, int]

# Okabe and Ito's palette, told apart by colour-blind readers as well; repeats after seven.
REGION_COLOURS: tuple[Ink, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (240, 228, 66),
    (0, 114, 178),
)
# Weight from none to full: dark violet, red, amber, pale yellow; brightness rises all the way.
HEAT = np.array([(13, 8, 33), (86, 22, 96), (187, 55, 84), (249, 142, 9), (252, 253, 191)], float)
PAPER, CARD, INK, FAINT, ALARM = (
    (238, 236, 231),
    (255, 255, 255),
    (33, 33, 38),
    (120, 118, 114),
    (176, 42, 30),
)
PANEL = 256  # pixels a side of one panel
GAP = 12
STRIP = 8  # frames of a film strip
SMALL = 96  # pixels a side up to which hard pixels are shown
PANELS = ("clip", "regions", "weights")
WITH_CONTROL = (*PANELS, "control")


@dataclass(frozen=True, slots=True)
class Card:
    """One clip of a contact sheet.

    `frames`: the clip after resize and crop, uint8 F H W 3. `planes`: region to F H W in [0, 1],
    empty where the clip has no mask. `weights`: f h w as the loss sees them, or None. `coverage`:
    region to its share of the clip; what it leaves out of `planes` has no chip in the legend.
    """

    name: str
    frames: UInt8[np.ndarray, "F H W 3"]
    planes: Mapping[str, Float[np.ndarray, "F H W"]] = field(default_factory=dict)
    weights: Float[np.ndarray, "f h w"] | None = None
    coverage: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    at: Sequence[int] = ()  # place in the clip of each frame held here; empty: all are held
    length: int = 0  # frames of the clip, where not all are held
    size: tuple[int, int] | None = None  # H W of the clip, where the frames held are smaller
    control: UInt8[np.ndarray, "H W 3"] | None = None  # control picture of the frame at the focus
    focus: int | None = None  # which of the frames held is shown large; None: the middle one


def draw_overlay(
    frame: UInt8[np.ndarray, "H W 3"], planes: Mapping[str, Float[np.ndarray, "H W"]]
) -> UInt8[np.ndarray, "H W 3"]:
    """Lay regions over a frame: what no region covers turns grey and dim, each region is tinted.

    Colours follow the order of the regions; borders (at 0.5) are drawn full.
    """
    picture = frame.astype(np.float32)
    grey = picture.mean(-1, keepdims=True) * 0.45 + 20
    cover = np.clip(sum(planes.values(), start=np.zeros(frame.shape[:2])), 0, 1)[..., None]
    blended = grey * (1 - cover) + picture * cover
    for plane, colour in zip(planes.values(), _list_colours(), strict=False):
        tint = np.array(colour, np.float32)
        blended += (tint - blended) * (plane * 0.42)[..., None]
    for plane, colour in zip(planes.values(), _list_colours(), strict=False):
        blended[_find_border(plane >= 0.5)] = colour
    rounded: _Pixels = blended.round().clip(0, 255).astype(np.uint8)
    return rounded


def _find_border(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    edge = np.zeros_like(inside)
    edge[1:] |= inside[1:] & ~inside[:-1]
    edge[:-1] |= inside[:-1] & ~inside[1:]
    edge[:, 1:] |= inside[:, 1:] & ~inside[:, :-1]
    edge[:, :-1] |= inside[:, :-1] & ~inside[:, 1:]
    return edge


def _list_colours() -> Sequence[Ink]:
    return REGION_COLOURS * 8


def css_colour(region: int) -> str:
    """The colour of the region at a place in their order, for a page."""
    return "rgb({}, {}, {})".format(*REGION_COLOURS[region % len(REGION_COLOURS)])


def draw_heat(
    weights: Float[np.ndarray, "h w"], top: float | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Weights as colours, one pixel a cell: 0 is dark violet, `top` (default the largest) pale."""
    top = float(weights.max()) if top is None else top
    level = np.clip(weights / top if top > 0 else weights * 0, 0, 1) * (len(HEAT) - 1)
    below = np.floor(level).astype(int).clip(0, len(HEAT) - 2)
    part = (level - below)[..., None]
    colour = HEAT[below] * (1 - part) + HEAT[below + 1] * part
    rounded: _Pixels = colour.round().astype(np.uint8)
    return rounded


def fit_picture(picture: _Pixels, width: int, height: int) -> Image.Image:
    """A picture scaled to fit a box; small ones (up to SMALL) by a whole factor, pixels kept."""
    image = Image.fromarray(picture)
    scale = min(width / image.width, height / image.height)
    if scale <= 1 or max(image.size) > SMALL:
        return image.resize(_scale_size(image, min(scale, 1.5)), Image.Resampling.LANCZOS)
    return image.resize(_scale_size(image, float(math.floor(scale))), Image.Resampling.NEAREST)


def _scale_size(image: Image.Image, scale: float) -> tuple[int, int]:
    return max(round(image.width * scale), 1), max(round(image.height * scale), 1)


def draw_panels(card: Card, side: int = PANEL) -> dict[str, Image.Image]:
    """The pictures of a card: `clip`, `regions`, `weights`, `control` at its focus, `strip`.

    What it has none of is not there; the strip is of videos.
    """
    focus, length = _choose_focus(card), card.length or len(card.frames)
    frame = card.frames[focus]
    at_frame = {name: plane[focus] for name, plane in card.planes.items()}
    images = {"clip": fit_picture(frame, side, side)}
    size = images["clip"].size
    if at_frame:
        # Tint at the size shown, so that borders are one pixel thin on big pictures as well.
        big, enlarged = np.asarray(images["clip"]), size[0] >= 2 * frame.shape[1]
        how = Image.Resampling.NEAREST if enlarged else Image.Resampling.BILINEAR
        resized = {
            name: np.asarray(Image.fromarray(plane.astype(np.float32)).resize(size, how))
            for name, plane in at_frame.items()
        }
        images["regions"] = Image.fromarray(draw_overlay(big, resized))
    if card.weights is not None:
        place = card.at[focus] if card.at else focus
        latent = _find_latent(place, length, len(card.weights))
        cells = draw_heat(card.weights[latent], max(float(card.weights.max()), 1.0))
        images["weights"] = Image.fromarray(cells).resize(size, Image.Resampling.NEAREST)
    if card.control is not None:
        images["control"] = fit_picture(card.control, side, side)
    if len(card.frames) > 1:
        images["strip"] = _draw_strip(card, size[0] * 3 + 2 * GAP)
    return images


def _choose_focus(card: Card) -> int:
    return len(card.frames) // 2 if card.focus is None else card.focus


def _find_latent(frame: int, frames: int, latents: int) -> int:
    """The latent frame that holds a pixel frame (causal time rule)."""
    stride = (frames - 1) // (latents - 1) if latents > 1 else 1
    return min(-(-frame // stride), latents - 1)


def _draw_strip(card: Card, width: int) -> Image.Image:
    count = len(card.frames) if card.at else min(STRIP, len(card.frames))
    picks = np.linspace(0, len(card.frames) - 1, count).round().astype(int)
    cell = (width - 3 * (len(picks) - 1)) // len(picks)
    thumbnails = []
    for pick in picks:
        planes = {name: plane[pick] for name, plane in card.planes.items()}
        picture = draw_overlay(card.frames[pick], planes) if planes else card.frames[pick]
        thumbnails.append(fit_picture(picture, cell, cell))
        if pick == card.focus:
            box = (0, 0, thumbnails[-1].width - 1, thumbnails[-1].height - 1)
            ImageDraw.Draw(thumbnails[-1]).rectangle(box, outline=ALARM, width=2)
    strip = Image.new("RGB", (width, thumbnails[0].height), CARD)
    for index, picture in enumerate(thumbnails):
        strip.paste(picture, (index * (cell + 3), 0))
    return strip


def contact_sheet(
    cards: Sequence[Card], *, title: str, columns: int = 2, shown: Sequence[str] = PANELS
) -> Image.Image:
    """All cards on one sheet: the panels of `shown` side by side, legend and findings below.

    ValueError where there is no card. The sheet grows with the clips: pass a few dozen at a time.
    """
    if not cards:
        raise ValueError("contact_sheet: there is no clip to show")
    columns = min(columns, len(cards))
    pictures = [_draw_card(card, shown) for card in cards]
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    heights = [max(card.height for card in row) for row in rows]
    width = columns * pictures[0].width + (columns + 1) * GAP
    sheet = Image.new("RGB", (width, 56 + sum(heights) + GAP * len(rows) + GAP), PAPER)
    pencil = ImageDraw.Draw(sheet)
    pencil.text((GAP + 4, 14), title, INK, _load_font(22))
    top = 56
    for row, height in zip(rows, heights, strict=True):
        for index, card in enumerate(row):
            left = GAP + index * (card.width + GAP)
            pencil.rectangle((left, top, left + card.width - 1, top + height - 1), fill=CARD)
            sheet.paste(card, (left, top))
        top += height + GAP
    return sheet


def _draw_card(card: Card, headings: Sequence[str]) -> Image.Image:
    images = draw_panels(card)
    width = len(headings) * (PANEL + GAP) + GAP
    tall = max(picture.height for name, picture in images.items() if name != "strip")
    strip = _narrow(images["strip"], width - 2 * GAP) if "strip" in images else None
    notes = [line for note in card.notes for line in _wrap(note, width - 2 * GAP, _load_font(13))]
    chips = _lay_chips(card, width)
    below = strip.height + GAP if strip else 0
    lines = 1 + max(len(chips), 1) if card.coverage else 1
    height = 62 + tall + below + 8 + lines * 20 + len(notes) * 18 + GAP
    image = Image.new("RGB", (width, height), CARD)
    pencil = ImageDraw.Draw(image)
    _draw_title(pencil, card, width)
    for index, name in enumerate(headings):
        left = GAP + index * (PANEL + GAP)
        pencil.text((left, 38), _spell_heading(name, card), FAINT, _load_font(13))
        if name in images:
            image.paste(images[name], (left, 60))
        else:
            _draw_empty(pencil, left, tall, "no control" if name == "control" else "no mask")
    top = 60 + tall + 8
    if strip:
        image.paste(strip, (GAP, top))
        top += below
    top = _draw_legend(pencil, card, chips, top, width)
    for line in notes:
        pencil.text((GAP, top), line, ALARM, _load_font(13))
        top += 18
    return image


def _draw_title(pencil: ImageDraw.ImageDraw, card: Card, width: int) -> None:
    high, wide = card.size or card.frames.shape[1:3]
    length = card.length or len(card.frames)
    size = f"{wide} x {high}" + (f", {length} frames" if length > 1 else "")
    pencil.text((GAP, 10), _shorten(card.name, width - 190, _load_font(16)), INK, _load_font(16))
    pencil.text((width - GAP, 12), size, FAINT, _load_font(13), anchor="ra")


def _draw_empty(pencil: ImageDraw.ImageDraw, left: int, tall: int, reason: str) -> None:
    """The frame of a panel that there is no picture for."""
    pencil.rectangle((left, 60, left + PANEL - 1, 59 + tall), outline=PAPER, width=2)
    pencil.text((left + PANEL / 2, 60 + tall / 2), reason, FAINT, _load_font(15), anchor="mm")


def _narrow(strip: Image.Image, width: int) -> Image.Image:
    if strip.width <= width:
        return strip
    return strip.resize((width, max(round(strip.height * width / strip.width), 1)))


def _spell_heading(name: str, card: Card) -> str:
    if name == "clip" and card.focus is not None:
        return f"clip, frame {card.at[card.focus] if card.at else card.focus}"
    if name != "weights" or card.weights is None:
        return name
    f, h, w = card.weights.shape
    low, high = float(card.weights.min()), float(card.weights.max())
    return f"weights of {f} x {h} x {w} cells, {low:.2g} to {high:.2g}"


def _choose_inks(card: Card) -> Mapping[str, Ink]:
    return dict(zip(dict.fromkeys([*card.planes, *card.coverage]), _list_colours(), strict=False))


def _lay_chips(card: Card, width: int) -> list[list[tuple[float, str, str]]]:
    """Lines of (left, region, text), as many to a line as fit."""
    lines: list[list[tuple[float, str, str]]] = []
    left = float(width)
    for name, share in card.coverage.items():
        text = f"{name} {share:.1%}"
        room = 15 + _load_font(13).getlength(text)
        if left + room > width - GAP:
            lines.append([])
            left = float(GAP)
        lines[-1].append((left, name, text))
        left += room + 16
    return lines


def _draw_legend(
    pencil: ImageDraw.ImageDraw,
    card: Card,
    chips: Sequence[Sequence[tuple[float, str, str]]],
    top: int,
    width: int,
) -> int:
    """A bar of shares, then a chip a region; returns where to go on."""
    if not card.coverage:
        pencil.text((GAP, top), "no mask is laid on it", FAINT, _load_font(13))
        return top + 20
    inks = _choose_inks(card)
    left, full = float(GAP), width - 2 * GAP
    pencil.rectangle((GAP, top + 2, GAP + full - 1, top + 9), fill=PAPER)
    for name, share in card.coverage.items():
        right = min(left + share * full, GAP + full - 1)
        if right - left >= 1:
            pencil.rectangle((left, top + 2, right, top + 9), fill=inks[name])
        left = right
    for line, row in enumerate(chips):
        y = top + 17 + 20 * line
        for x, name, text in row:
            pencil.rounded_rectangle((x, y + 3, x + 10, y + 13), 2, fill=inks[name])
            pencil.text((x + 15, y), text, INK, _load_font(13))
    return top + 20 + 20 * len(chips)


def _load_font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType; install a Pillow wheel from PyPI")
    return font


def _shorten(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, its middle left out where it is too long (names differ at both ends)."""
    keep = len(text)
    while keep > 8 and font.getlength(_cut(text, keep)) > width:
        keep -= 1
    return _cut(text, keep)


def _cut(text: str, keep: int) -> str:
    return text if keep >= len(text) else f"{text[: keep // 2]}...{text[-(keep - keep // 2) :]}"


def _wrap(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
