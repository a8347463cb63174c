"""Samples pictures and clips with a family's public pipeline, and lays them out in a grid."""

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from frisket.families.base import Family, Parts
from frisket.media.frames import write_image, write_video
from frisket.shapes import Frames

log = logging.getLogger(__name__)

PIXELS = 1 << 18  # pixels (frames counted) that are sampled together when no batch is given
CELL = 160  # least width of a grid's column: narrower pictures are enlarged, labels need room
TEXT = 12  # pixels, of a label
LINES = 3  # of a label, at most
MARGIN = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """One sample; an image is a clip of one frame."""

    prompt: str
    seed: int
    frames: Frames


def generate(
    family: Family,
    parts: Parts,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    negative: str = "",
    height: int | None = None,
    width: int | None = None,
    frames: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    batch: int | None = None,
) -> Iterator[Picture]:
    """Sample one picture for each pair of prompt and seed, in order, as they are done.

    Sizes in pixels, steps and guidance default to the variant's own. Every picture has its own
    generator, so it does not depend on `batch` (beyond rounding); without one, pictures of about
    512 x 512 pixels in all are sampled together. Torch's global generators, gradients and the
    train or eval mode of every module are left as they were.

    Raises ValueError, before any work, when prompts and seeds differ in number or the model cannot
    make that size.
    """
    variant = family.variants[parts.variant]
    height, width = height or variant.height, width or variant.width
    frames = frames or variant.frames
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds: every picture takes one")
    variant.grid.cells(frames, height, width)
    if height % variant.grid.step or width % variant.grid.step:
        raise ValueError(
            f"{height} x {width} pixels do not fit {family.name}: sides are multiples of"
            f" {variant.grid.step}"
        )
    if frames > 1 and not variant.video:
        raise ValueError(
            f"{family.name} {parts.variant} makes images, not clips of {frames} frames"
        )
    if parts.denoiser is None:
        raise ValueError("nothing to sample with: the denoiser is not loaded")
    pipeline = family.pipeline(parts)
    call: dict[str, Any] = {
        "height": height,
        "width": width,
        "num_inference_steps": variant.steps if steps is None else steps,
        "guidance_scale": variant.guidance if guidance is None else guidance,
        "output_type": "pt",
    }
    if "num_frames" in inspect.signature(pipeline.__call__).parameters:
        call["num_frames"] = frames
    size = batch or min(16, max(1, PIXELS // (frames * height * width)))
    return _sample(pipeline, parts, list(zip(prompts, seeds, strict=True)), negative, size, call)


def _sample(
    pipeline: Any,
    parts: Parts,
    pairs: list[tuple[str, int]],
    negative: str,
    size: int,
    call: dict[str, Any],
) -> Iterator[Picture]:
    pipeline.set_progress_bar_config(disable=True)
    for start in range(0, len(pairs), size):
        some = pairs[start : start + size]
        # On the CPU whatever the device: a seed means the same picture everywhere.
        generators = [torch.Generator().manual_seed(seed) for _, seed in some]
        with _untouched(parts), torch.no_grad():
            output = pipeline(
                prompt=[prompt for prompt, _ in some],
                negative_prompt=[negative] * len(some),
                generator=generators,
                **call,
            )
        for (prompt, seed), sample in zip(some, _stack(output), strict=True):
            yield Picture(prompt, seed, _to_uint8(sample, prompt, seed))


def _stack(output: Any) -> Tensor:
    """What a pipeline returns as b F 3 H W in [0, 1]."""
    if (clips := getattr(output, "frames", None)) is not None:
        return torch.as_tensor(clips) if not isinstance(clips, list) else torch.stack(clips)
    return torch.as_tensor(output.images)[:, None]


def _to_uint8(sample: Tensor, prompt: str, seed: int) -> Frames:
    values = sample.detach().float().cpu()
    if not torch.isfinite(values).all():
        log.warning("the picture of %r, seed %d, has NaN or inf in it; painted black", prompt, seed)
        values = values.nan_to_num(0.0, 0.0, 0.0)
    return values.mul(255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@contextmanager
def _untouched(parts: Parts) -> Iterator[None]:
    """Eval mode and generators of its own; what was there before comes back."""
    modules = [
        module
        for part in (parts.vae, parts.text, parts.denoiser)
        if isinstance(part, nn.Module)
        for module in part.modules()
    ]
    modes = [module.training for module in modules]
    gpus = {p.get_device() for m in modules for p in m.parameters(recurse=False) if p.is_cuda}
    with torch.random.fork_rng(devices=sorted(gpus)):
        for module in modules:
            module.training = False
        try:
            yield
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode


def grid(
    pictures: Sequence[Picture], columns: int, *, labels: Sequence[str] | None = None
) -> Frames:
    """Lay pictures out row by row, each above a strip with its prompt and seed (or its label).

    Small pictures are enlarged by a whole factor. A clip shorter than the longest one holds its
    last frame. The result has even sides, as video codecs want.
    """
    if not pictures or columns < 1:
        raise ValueError(f"a grid needs pictures and columns, got {len(pictures)} and {columns}")
    texts = labels or [f"{p.prompt}\nseed {p.seed}" for p in pictures]
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
