"""What a sample is made from: a prompt, a seed, sizes, and the pictures a model starts from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from frisket.families.base import Family, References, Variant
from frisket.media.frames import decode
from frisket.media.geometry import Geometry
from frisket.shapes import Frames


@dataclass(frozen=True, slots=True)
class SampleSpec:
    """One sample to be made; sizes in pixels, an image is a clip of one frame.

    `images` are files: the first frame, or the pictures that the model looks at.
    """

    prompt: str
    seed: int
    height: int
    width: int
    frames: int
    steps: int
    guidance: float
    negative: str = ""
    images: tuple[Path, ...] = ()


def build_spec(
    variant: Variant,
    prompt: str,
    seed: int,
    *,
    negative: str = "",
    images: Sequence[Path] = (),
    height: int | None = None,
    width: int | None = None,
    frames: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
) -> SampleSpec:
    """A shot in which the variant says what is left open."""
    return SampleSpec(
        prompt=prompt,
        seed=seed,
        height=height or variant.height,
        width=width or variant.width,
        frames=frames or variant.frames,
        steps=variant.steps if steps is None else steps,
        guidance=variant.guidance if guidance is None else guidance,
        negative=negative,
        images=tuple(images),
    )


def check(family: Family, variant: str, specs: Sequence[SampleSpec]) -> None:
    """Refuse, before any work, what the model cannot make; ValueError says what to change."""
    card, name = family.variants[variant], f"{family.name} {variant}"
    for size in {(spec.frames, spec.height, spec.width) for spec in specs}:
        frames, height, width = size
        card.grid.cells(*size)
        if height % card.grid.step or width % card.grid.step:
            raise ValueError(
                f"{height} x {width} pixels do not fit {name}: sides are multiples of"
                f" {card.grid.step}"
            )
        if frames > 1 and not card.video:
            raise ValueError(f"{name} makes images, not clips of {frames} frames")
    for images in {spec.images for spec in specs}:
        _check_images(card, name, images)


def _check_images(card: Variant, name: str, images: tuple[Path, ...]) -> None:
    if card.sees == "nothing" and images:
        raise ValueError(f"{name} looks at no picture: leave {images[0]} out")
    if card.sees == "first_frame" and len(images) != 1:
        raise ValueError(
            f"{name} goes on from a first frame: give one picture (--image FILE, or `--i FILE` in a"
            f" prompt file), not {len(images)}"
        )
    if card.sees == "pictures" and not images:
        raise ValueError(
            f"{name} works from pictures: give at least one (--image FILE, or `--i FILE` in a"
            " prompt file)"
        )


def references(variant: Variant, spec: SampleSpec) -> References:
    """The pictures of a shot, upright, each 1 H W 3.

    A first frame is cut to the shot's size as a training clip would be (scaled to cover, centre
    crop): the public pipelines would stretch it. Other pictures keep their size. Of a video or an
    animation the first frame is taken. Raises BadMedia.
    """
    pictures = [decode(path, [0]) for path in spec.images]
    if variant.sees != "first_frame":
        return pictures
    return [_cut(picture, spec.height, spec.width) for picture in pictures]


def _cut(picture: Frames, height: int, width: int) -> UInt8[Tensor, "F H_cut W_cut 3"]:
    source = (picture.shape[1], picture.shape[2])
    if source == (height, width):
        return picture
    clip = Geometry(source, (height, width), picks=(0,)).pixels(picture)
    levels = clip.add(1).mul(127.5).round().clamp(0, 255)
    return levels.to(torch.uint8).permute(1, 2, 3, 0).contiguous()
