"""Lays samples out in a labelled grid, and writes samples and grids to files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from frisket.inference.generate import Picture
from frisket.media.frames import write_image, write_video
from frisket.shapes import Frames

CELL = 160  # least width of a grid's column: narrower pictures are enlarged, labels need room
TEXT = 12  # pixels, of a label
LINES = 3  # of a label, at most
MARGIN = 4


def grid(
    pictures: Sequence[Picture], columns: int, *, labels: Sequence[str] | None = None
) -> Frames:
    """Lay pictures out row by row, each above a strip with its prompt and seed (or its label).

    Small pictures are enlarged by a whole factor. A clip shorter than the longest one holds its
    last frame. The result has even sides, as video codecs want.
    """
    if not pictures or columns < 1:
        raise ValueError(f"a grid needs pictures and columns, got {len(pictures)} and {columns}")
    texts = labels or [f"{p.spec.prompt}\nseed {p.spec.seed}" for p in pictures]
    scale = max(1, -(-CELL // max(p.frames.shape[2] for p in pictures)))
    length, tall, wide = (max(p.frames.shape[axis] for p in pictures) for axis in range(3))
    tall, wide = tall * scale, wide * scale
    strips = [_strip(text, wide) for text in texts]
    strip = max(part.shape[0] for part in strips)
    rows = -(-len(pictures) // columns)
    cell_tall, cell_wide = tall + strip + MARGIN, wide + MARGIN
    shape = (length, _even(rows * cell_tall + MARGIN), _even(columns * cell_wide + MARGIN), 3)
    sheet = torch.full(shape, 255, dtype=torch.uint8)
    for index, (picture, text) in enumerate(zip(pictures, strips, strict=True)):
        top = MARGIN + index // columns * cell_tall
        left = MARGIN + index % columns * cell_wide
        held = torch.arange(length).clamp(max=picture.frames.shape[0] - 1)
        shown = picture.frames[held]
        shown = shown.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        sheet[:, top : top + shown.shape[1], left : left + shown.shape[2]] = shown
        under = top + tall
        sheet[:, under : under + text.shape[0], left : left + wide] = text
    return sheet


def _even(length: int) -> int:
    return length + length % 2


def _strip(text: str, width: int) -> Tensor:
    """A label as black on white, uint8 h w 3, wrapped to `width` pixels."""
    font = ImageFont.load_default(TEXT)
    lines = [line for part in text.split("\n") for line in _wrap(part, font, width)]
    drawn = Image.new("RGB", (width, len(lines) * (TEXT + 3) + 2), "white")
    draw = ImageDraw.Draw(drawn)
    for row, line in enumerate(lines):
        draw.text((0, row * (TEXT + 3)), line, fill="black", font=font)
    return torch.from_numpy(np.asarray(drawn).copy())


def _wrap(text: str, font: Any, width: int) -> list[str]:
    lines = [""]
    for word in text.split() or [""]:
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], f"{lines[LINES - 1]} ..."]
    return lines


def save(frames: Frames, path: Path, fps: float) -> Path:
    """Write one frame as `path`.png, more as `path`.mp4; returns the file's path."""
    if frames.shape[0] == 1:
        path = path.with_name(f"{path.name}.png")
        write_image(path, frames[0])
    else:
        path = path.with_name(f"{path.name}.mp4")
        write_video(path, frames, fps)
    return path
