"""The control file of one clip: whether it fits, which of its frames are meant, and its pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from frisket.disk.untrusted import BadText, read_table
from frisket.media.frames import BadMedia, Media, decode
from frisket.media.geometry import Geometry

RULE = 1  # goes into cache keys; count up when a step below changes

ControlPixels = UInt8[Tensor, "3 F H W"]


class ControlMismatch(BadMedia):
    """A control that cannot be laid on its clip; names both files and what differs."""


@dataclass(frozen=True, slots=True)
class ControlFile:
    """The control picture, video or folder of frames of one clip, and the hash of its content."""

    path: Path
    content: str
    media: Media

    @property
    def still(self) -> bool:
        """Whether it is one picture, which stands for every frame of its clip."""
        return not self.media.video

    def record(self, geometry: Geometry, frames: int) -> dict[str, Any]:
        """Everything that makes the pixels of a control, for cache keys; `frames` of the clip."""
        record: dict[str, Any] = {
            "kind": "control",
            "rule": RULE,
            "file": self.content,
            "frames": list(self.pick(geometry.picks, frames)),
            "geometry": geometry.record(),
        }
        if self.media.reading:  # named only where something is done
            record["reading"] = list(self.media.reading)
        return record

    def pick(self, picks: Sequence[int], frames: int) -> tuple[int, ...]:
        """The frames of the control that go with `picks` of a clip of `frames` frames.

        One with as many frames as the clip is picked alike; one of just the frames that were picked
        is taken whole.
        """
        if self.still:
            return (0,)
        return tuple(picks) if self.media.frames == frames else tuple(range(len(picks)))


def check_control(control: ControlFile, clip: Media, picks: Sequence[Sequence[int]]) -> None:
    """ControlMismatch where a control has another aspect or frame count than its clip.

    `picks` are the frames of each training clip that is taken from the file. A size of the same
    aspect (within 1 %) fits; so does a control of as many frames as are picked, where all training
    clips of the file are one.
    """
    media, size = control.media, (clip.height, clip.width)
    geometry = Geometry(size, size, (0,), stored=clip.stored)
    if not geometry.accepts((media.height, media.width)):
        difference = abs(media.width / media.height / (clip.width / clip.height) - 1)
        raise ControlMismatch(
            f"{control.path} is {media.width} x {media.height}, its clip {clip.path} is"
            f" {clip.width} x {clip.height} (width x height): the aspect ratios differ by"
            f" {difference:.1%} (1% passes), so they cannot be laid on each other; make the control"
            " at the clip's size"
        )
    picked = len(picks[0]) if len(picks) == 1 else 0
    if not control.still and media.frames not in (clip.frames, picked):
        alone = f", of which {picked} are trained on" if picked else ""
        raise ControlMismatch(
            f"{control.path} has {media.frames} frames but its clip {clip.path} has"
            f" {clip.frames}{alone}: make one control frame for every frame of the clip, or give a"
            " single picture for all"
        )


def read_control(control: ControlFile, geometry: Geometry, frames: int) -> ControlPixels:
    """The pixels of a control, RGB 0 to 255, cut as its clip is; one frame where it is a still.

    Resampled as masks are (exact area mean when shrinking, linear when enlarging), not as clips:
    Lanczos rings around lines on black, nearest drops lines of one pixel, and a control that is
    resampled like the mask lies on it to rounding. BadMedia where it does not decode.
    """
    pictures = decode(control.path, control.pick(geometry.picks, frames))
    pixels = torch.empty(3, len(pictures), *geometry.target, dtype=torch.uint8)
    for index, picture in enumerate(pictures):  # frame by frame: floats are four times as large
        pixels[:, index] = _cut_frame(picture, geometry)
    return pixels


def read_control_frame(
    control: ControlFile, geometry: Geometry, frames: int, place: int
) -> UInt8[Tensor, "3 H W"]:
    """The control of the frame at `place` of the picked ones, as `read_control` gives it."""
    picks = control.pick(geometry.picks, frames)
    return _cut_frame(decode(control.path, (picks[0 if control.still else place],))[0], geometry)


def is_pose(path: Path) -> bool:
    """Whether `frisket control make` noted beside a control that it is a drawn pose."""
    try:
        return read_table(path.with_suffix(".json")).get("kind") == "pose"
    except (OSError, BadText):
        return False


def _cut_frame(
    picture: UInt8[Tensor, "H W 3"], geometry: Geometry
) -> UInt8[Tensor, "3 H_cut W_cut"]:
    still = replace(geometry, picks=(0,))
    planes = [still.plane(picture[None, ..., channel].float())[0] for channel in range(3)]
    return torch.stack(planes).round().to(torch.uint8)
