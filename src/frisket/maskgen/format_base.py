"""The contract of other tools' mask layouts, and what their files have in common."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from frisket.disk.atomic import replacing
from frisket.disk.untrusted import ANNOTATIONS, BadText, cut, parse_json, read_text, show
from frisket.maskgen.base import SoftMask
from frisket.maskgen.files.store import levels, read_frames
from frisket.masks.read import BACKGROUND, WHOLE
from frisket.masks.weights import RegionWeights
from frisket.media.files import ClipFiles, find
from frisket.media.frames import BadMedia, Media, probe, writing_labels
from frisket.media.images import read_orientation
from frisket.media.paths import plain
from frisket.registry import Shelf

log = logging.getLogger(__name__)
T = TypeVar("T")

GREY = "subject"  # the region that a grey mask of another tool is read as
UPLOADED = re.compile(r"^[0-9a-f]{4,40}-")  # Label Studio puts a hash before names it is given
FAR = 1_000_000  # pixels from the corner of a picture; no annotation is out there
FPS = 24  # of mask videos whose clip tells no rate; nobody reads it
BAKED = (
    "Regions become one grey plane: the weight table is baked in, rounded to 256 levels, and a new"
    " weight needs a new export. Weights above 1 shrink all alike, so that the largest is white."
)

Bits = NDArray[np.bool_]  # H W
RegionMasks = Mapping[str, SoftMask]  # regions of one frame; a region that is not named is nowhere


class BadExchange(ValueError):
    """A file or clip that another tool's layout cannot give or take; names it and the fix."""


@dataclass(frozen=True, slots=True)
class Masked:
    """One clip and its regions. `frames` can be gone through once, as many as the clip has."""

    name: str  # path below the clip folder, without suffix
    clip: Media
    frames: Iterable[RegionMasks]


@runtime_checkable
class Write(Protocol):
    """Writes masks into a folder, one clip at a time, and yields each file when it is whole.

    `weights` are those of the regions and of `background` (0 if not named), for tools that know
    weights only. Files that are there are kept (BadExchange) unless `overwrite`.
    """

    def __call__(
        self,
        folder: Path,
        items: Iterable[Masked],
        weights: Mapping[str, float],
        /,
        *,
        overwrite: bool = False,
    ) -> Iterator[Path]:
        """Nothing is written until it is gone through."""
        ...


@dataclass(frozen=True, slots=True)
class Exchange:
    """One file of the shelf: a layout that other tools write and read."""

    summary: str  # one line for `frisket masks export --help`
    lossy: str  # what does not survive, in a sentence for the user
    write: Write
    read: Callable[[Path, Path], Iterator[Masked]]  # (source, clip folder); what has a mask
    missing: str = ""  # what the tool makes of a clip without a mask, where it matters
    grey: bool = False  # holds weights instead of regions, read back as the region `subject`
    video: bool = False  # takes masks of videos; others refuse them with BadExchange


EXCHANGES: Shelf[Exchange] = Shelf("frisket.maskgen.formats", "EXCHANGE", "frisket.mask_exchanges")


@contextmanager
def blame(path: Path, content: str) -> Iterator[None]:
    """Within the block, whatever goes wrong with the values of a file is its fault: BadExchange.

    A stranger's numbers make arrays, parsers and pictures raise anything; errors that are written
    for the reader, and the system's, pass as they are.
    """
    try:
        yield
    except (BadExchange, BadMedia, OSError):
        raise
    except Exception as error:
        message = cut(str(error) or type(error).__name__)
        raise BadExchange(f"{path}: {cut(content)} cannot be read ({message})") from error


def read_json(path: Path, fault: str) -> Any:
    """The tree of a JSON file; BadExchange, with the place, where it is none."""
    try:
        return parse_json(read_text(path, ANNOTATIONS))
    except BadText as error:
        raise BadExchange(f"{path}: {fault} ({error})") from error


def points_of(values: Any) -> NDArray[np.float64]:
    """N (x, y) from a flat or nested list; ValueError for what is none, or lies far outside."""
    points = np.asarray(values, np.float64).reshape(-1, 2)
    if not (np.abs(points) <= FAR).all():
        raise ValueError(f"a point is not finite, or more than {FAR:,} pixels away")
    return points


def check_free(path: Path, *, overwrite: bool) -> Path:
    """The path itself; BadExchange where a file is there that may not be replaced."""
    if path.exists() and not overwrite:
        raise BadExchange(
            f"{path}: is there already, perhaps painted by hand; give another folder, or"
            " --overwrite"
        )
    return path


def get_still(item: Masked, tool: str) -> RegionMasks:
    """The one frame of a picture; BadExchange for a video."""
    if item.clip.video:
        raise BadExchange(
            f"{item.clip.path}: {tool} takes no masks of videos; leave it out, or export as kohya"
        )
    return next(iter(item.frames))


def bake_weights(
    frame: RegionMasks, weights: Mapping[str, float], clip: Media
) -> UInt8[Tensor, "H W"]:
    """One grey plane of the weights of a frame's regions; ValueError for a region without one."""
    if strangers := [name for name in frame if name not in weights]:
        raise ValueError(f"weights: {strangers[0]!r} has none; there are: {', '.join(weights)}")
    table = {name: weights[name] for name in weights if name != BACKGROUND}
    blank = torch.zeros(clip.height, clip.width)
    planes = torch.stack([frame.get(name, blank) for name in table])
    pixel_weights = RegionWeights(table, weights.get(BACKGROUND, 0.0))(
        planes[None, :, None], torch.ones(1, dtype=torch.bool)
    )
    return levels(pixel_weights[0, 0, 0] / max(1.0, *weights.values()))


def write_grey(path: Path, item: Masked, weights: Mapping[str, float]) -> None:
    """The baked weights of a clip: `path` with .png, or .mkv (FFV1) for a video."""
    greys = (bake_weights(frame, weights, item.clip) for frame in item.frames)
    if path.suffix == ".mkv":
        with writing_labels(path, item.clip.fps or FPS) as video:
            for grey in greys:
                video.add(grey)
        return
    with replacing(path) as draft:
        Image.fromarray(next(greys).numpy()).save(draft, format="PNG")


def read_grey(clips: Iterable[ClipFiles]) -> Iterator[Masked]:
    """Clips with one grey mask, as the region `subject`."""
    for files in clips:
        if files.masks:
            clip = probe(files.clip)
            yield Masked(files.name, clip, read_frames({GREY: files.masks[WHOLE]}, clip, {}))


def match_clips(
    source: Path, clips: Path, entries: Mapping[str, T]
) -> Iterator[tuple[str, Media, T]]:
    """(name, clip, what is told of it) for entries by file name, those with a clip.

    A file name is a path below the clip folder with any suffix, or the last part of one where that
    tells clips apart. BadExchange where none has a clip.
    """
    clip_paths = {files.name: files.clip for files in find(clips, masks="none", folders={}).clips}
    last: dict[str, list[str]] = {}
    for name in clip_paths:
        last.setdefault(PurePosixPath(name).name, []).append(name)
    strangers, claimed = [], dict[str, str]()
    for file, entry in entries.items():
        names = _find_names(_strip_suffix(file), clip_paths, last)
        if len(names) != 1:
            strangers.append(file)
            continue
        if names[0] in claimed:
            raise BadExchange(
                f"{source}: {cut(claimed[names[0]])!r} and {cut(file)!r} both mean the clip"
                f" {names[0]!r}; keep one"
            )
        claimed[names[0]] = file
        yield names[0], probe(clip_paths[names[0]]), entry
    if strangers and len(strangers) == len(entries):
        raise BadExchange(
            f"{source}: none of its {len(entries)} pictures is in {clips}; one is"
            f" {cut(strangers[0])!r}, a"
            f" clip is {next(iter(clip_paths))!r}"
        )
    if strangers:
        log.warning(
            "%s: %d pictures have no clip in %s, %s among them",
            *(source, len(strangers), clips, cut(strangers[0])),
        )


def _find_names(
    stem: str, clip_paths: Mapping[str, Path], last: Mapping[str, list[str]]
) -> list[str]:
    """The clips that a name may mean: as it is, by its last part, without an uploader's prefix."""
    if stem in clip_paths:
        return [stem]
    name = PurePosixPath(stem).name
    return last.get(name) or last.get(UPLOADED.sub("", name), [])


def _strip_suffix(file: str) -> str:
    """A path without suffix, in NFC: annotations made on macOS may write names in NFD."""
    path = PurePosixPath(plain(file).replace("\\", "/"))
    return path.with_suffix("").as_posix() if path.name else file


def check_size(source: Path, clip: Media, height: Any, width: Any) -> None:
    """BadExchange where a mask was made for another size than its clip has."""
    if (height, width) != (clip.height, clip.width):
        raise BadExchange(
            f"{source}: the mask of {clip.path} is for {show(width)} x {show(height)}, the clip"
            f" is {clip.width} x {clip.height} (width x height);"
            f" {_explain_size(clip, height, width)}"
        )


def _explain_size(clip: Media, height: Any, width: Any) -> str:
    if (height, width) == (clip.width, clip.height) and not clip.video:
        orientation, _ = read_orientation(clip.path)
        if orientation >= 5:
            return (
                f"its EXIF orientation ({orientation}) turns it, and the tool did not: save the"
                " pictures upright, and annotate those"
            )
    return "it belongs to another version of the picture"


def turn_corners(points: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """N (x, y) turned clockwise, as it is seen, about the middle of their bounding box.

    As CVAT turns boxes (its transformations.py, RotatedBoxesToPolygons).
    """
    if not np.isfinite(degrees):
        raise ValueError(f"a rotation of {degrees} degrees")
    middle = (points.min(0) + points.max(0)) / 2
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[cosine, sine], [-sine, cosine]])
    turned: NDArray[np.float64] = (points - middle) @ turn + middle
    return turned


def fill_ellipse(
    centre: tuple[float, float], radii: tuple[float, float], degrees: float, height: int, width: int
) -> Bits:
    """The pixels whose centre lies in an ellipse, turned clockwise; ValueError if it is none."""
    if not np.isfinite([*centre, *radii, degrees]).all() or min(radii) < 0 or max(radii) > FAR:
        raise ValueError(f"radii {radii} about {centre} make no ellipse")
    y, x = np.mgrid[:height, :width] + 0.5
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    across = (x - centre[0]) * cosine + (y - centre[1]) * sine
    down = (y - centre[1]) * cosine - (x - centre[0]) * sine
    inside: Bits = (across * radii[1]) ** 2 + (down * radii[0]) ** 2 <= (radii[0] * radii[1]) ** 2
    return inside & (min(radii) > 0)


def merge_regions(parts: Iterable[tuple[str, Bits]]) -> dict[str, SoftMask]:
    """Regions from pieces, each name the union of its own."""
    regions: dict[str, Bits] = {}
    for name, bits in parts:
        regions[name] = regions[name] | bits if name in regions else bits
    return {name: torch.from_numpy(bits).float() for name, bits in regions.items()}


def bits_of(mask: SoftMask) -> Bits:
    """What is more likely in than out."""
    inside: Bits = (mask >= 0.5).cpu().numpy()
    return inside


def fill_polygon(points: NDArray[np.float64], height: int, width: int) -> Bits:
    """The pixels whose centre lies in a polygon of n (x, y), (0, 0) being the picture's corner.

    By the even-odd rule, exact; ValueError for a point that is not finite.
    """
    if not np.isfinite(points).all():
        raise ValueError("a polygon has a point that is not finite")
    rows = np.arange(height) + 0.5
    crossings = np.zeros((height, width + 1), np.int32)
    for (x, y), (next_x, next_y) in zip(points, np.roll(points, -1, 0), strict=True):
        crossed = np.flatnonzero((y > rows) != (next_y > rows))
        at = x + (rows[crossed] - y) * (next_x - x) / (next_y - y)
        crossings[crossed, np.ceil(at - 0.5).clip(0, width).astype(int)] += 1
    inside: Bits = crossings.cumsum(1)[:, :width] % 2 == 1
    return inside
