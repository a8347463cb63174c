"""One resize, crop, flip and frame pick, computed once, laid on pixels and planes alike."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from frisket.shapes import Frames, Plane

RULE = 1  # goes into cache keys; count up when the arithmetic below changes
ROUNDED = 8  # pixels of a mask's side from which one lost to rounding is no other aspect
TOLERANCE = 0.01  # relative difference in aspect ratio a mask may have from its clip


class MaskMismatch(ValueError):
    """A mask whose aspect ratio is not that of its clip; names both sizes."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one axis in pixels of its source, and how many pixels it becomes."""

    start: float
    length: float
    size: int  # of the source along this axis
    out: int

    @property
    def whole(self) -> bool:
        """Whether pixels map one to one, so that nothing is resampled."""
        return self.length == self.out and self.start == int(self.start)

    def scale_to(self, size: int) -> "Span":
        """The same stretch of a source that has `size` pixels along this axis."""
        # Multiplied first: a whole axis then stays whole to the last bit.
        start, length = self.start * size / self.size, self.length * size / self.size
        return Span(start, length, size, self.out)

    @property
    def edged(self) -> bool:
        """Whether the stretch begins and ends on edges of source pixels."""
        return self.start == int(self.start) and self.length == int(self.length)

    def slice(self) -> slice:
        """The stretch as a slice, where `edged`."""
        return slice(int(self.start), int(self.start) + int(self.length))

    def nearest(self) -> NDArray[np.int64]:
        """Index of the source pixel under the centre of each output pixel."""
        centres = self.start + (np.arange(self.out) + 0.5) * (self.length / self.out)
        indices: NDArray[np.int64] = np.clip(np.floor(centres).astype(np.int64), 0, self.size - 1)
        return indices


@lru_cache(maxsize=16)
def _build_matrix(span: Span) -> Tensor:
    """Sparse (out, size) weights: exact area mean when shrinking, linear when enlarging.

    Rows sum to 1 and no weight is negative, so results stay within the source's range.
    """
    step = span.length / span.out
    if step >= 1:  # overlap of output pixel [edge, edge + step) with each source pixel
        edge = (span.start + np.arange(span.out) * step)[:, None]
        column = np.floor(edge).astype(np.int64) + np.arange(int(np.ceil(step)) + 1)
        overlap = np.minimum(column + 1, edge + step) - np.maximum(column, edge)
        weight = np.maximum(overlap, 0)
    else:  # between the two source pixels whose centres enclose that of the output pixel
        centre = (span.start + (np.arange(span.out) + 0.5) * step - 0.5)[:, None]
        column = np.floor(centre).astype(np.int64) + np.arange(2)
        weight = 1 - np.abs(centre - column)
    column = np.clip(column, 0, span.size - 1)
    weight = weight / weight.sum(1, keepdims=True)
    row = np.broadcast_to(np.arange(span.out)[:, None], column.shape)
    is_touched = weight > 1e-9  # what rounding leaves beyond an edge
    place = torch.from_numpy(np.stack([row[is_touched], column[is_touched]]))
    values = torch.from_numpy(weight[is_touched].astype(np.float32))
    shape = (span.out, span.size)
    matrix: Tensor = torch.sparse_coo_tensor(place, values, shape, check_invariants=False)
    return matrix.coalesce()


def _apply(rows: Span, columns: Span, image: Float[Tensor, "H W"]) -> Float[Tensor, "H_cut W_cut"]:
    """Resample one grey picture: exact area means when shrinking, linear when enlarging."""
    if rows.whole and columns.whole:
        return image[rows.slice(), columns.slice()]
    shrinks = rows.length >= rows.out and columns.length >= columns.out
    if shrinks and rows.edged and columns.edged:
        # The same exact means, several times faster, but it knows only boxes of whole pixels.
        box = image[rows.slice(), columns.slice()].numpy()
        size = (columns.out, rows.out)
        cut = torch.from_numpy(cv2.resize(box, size, interpolation=cv2.INTER_AREA))
    else:
        down = torch.sparse.mm(_build_matrix(rows), image)
        cut = torch.sparse.mm(_build_matrix(columns), down.t().contiguous()).t()
    low, high = image.aminmax()
    return cut.clamp_(low, high)  # the last bit of a sum may lie outside


def fits(mask: tuple[int, int], clip: tuple[int, int]) -> bool:
    """Whether a mask's (height, width) has a clip's aspect: within 1 %, or a rounded pixel."""
    height, width = mask
    clip_ratio = clip[1] / clip[0]
    rounded = min(mask) >= ROUNDED and (
        abs(width - height * clip_ratio) < 1 or abs(height - width / clip_ratio) < 1
    )
    return rounded or abs(width / height / clip_ratio - 1) <= TOLERANCE


@dataclass(frozen=True, slots=True)
class Geometry:
    """How one training clip is cut from its source: cover-scale, centre crop, flip, frame pick.

    The crop is kept as a fractional box, relative to the source, so a mask of another size than
    its clip is cut at exactly the same place.
    """

    source: tuple[int, int]  # (height, width) of the clip
    target: tuple[int, int]
    picks: tuple[int, ...]  # source frames
    flip: bool = False  # mirrored left to right, after all else
    stored: tuple[int, int] | None = None  # of the clip with pixels that are not square, if so

    def __post_init__(self) -> None:
        """Refuse sizes without area and an empty pick."""
        if min(*self.source, *self.target) < 1 or not self.picks:
            raise ValueError(
                f"no geometry from {self.source} to {self.target} with {len(self.picks)} frames"
            )

    def spans(self) -> tuple[Span, Span]:
        """The rows and the columns of the source that are kept."""
        scale = max(self.target[0] / self.source[0], self.target[1] / self.source[1])
        return self._cut_span(0, scale), self._cut_span(1, scale)

    @property
    def crop(self) -> tuple[float, float, float, float]:
        """Top, left, height and width of what is kept, in pixels of the clip as seen."""
        rows, columns = self.spans()
        return rows.start, columns.start, rows.length, columns.length

    def _cut_span(self, axis: int, scale: float) -> Span:
        size, out = self.source[axis], self.target[axis]
        # The axis that sets the scale is kept whole; out / scale may differ in the last bit.
        length = float(size) if scale == out / size else min(out / scale, float(size))
        start = (size - length) / 2
        if scale == 1:  # a pure crop stays on whole pixels, half a pixel off centre beats a blur
            start = float(int(start))
        return Span(start, length, size, out)

    def pixels(self, frames: Frames) -> Float[Tensor, "3 F H_cut W_cut"]:
        """Cut the picked frames, in [-1, 1]: area mean when shrinking, Lanczos when enlarging.

        Frames may have the source's size or the `stored` one. Raises ValueError where they have
        another, or are not as many as were picked.
        """
        rows, columns = self.spans()
        size = (frames.shape[1], frames.shape[2])
        if size not in (self.source, self.stored) or len(frames) != len(self.picks):
            raise ValueError(
                f"{len(frames)} frames of {_spell_size(frames.shape[1:3])} do not fit a geometry"
                f" for {len(self.picks)} frames of {_spell_size(self.source)}"
            )
        shrinks = rows.length >= rows.out
        if size != self.source:  # its pixels are not square: one axis may shrink, one may grow
            rows, columns = rows.scale_to(size[0]), columns.scale_to(size[1])
            shrinks = rows.length >= rows.out and columns.length >= columns.out
        cut = _shrink if shrinks else _enlarge
        clip = torch.empty(3, len(frames), *self.target)
        for index, frame in enumerate(frames):
            clip[:, index] = cut(frame, rows, columns)
        clip = clip.div_(127.5).sub_(1).clamp_(-1, 1)
        return clip.flip(-1) if self.flip else clip

    def _fit_mask(self, size: tuple[int, int], frames: int) -> tuple[Span, Span]:
        height, width = size
        source_ratio = self.source[1] / self.source[0]
        if not self.accepts(size):
            raise MaskMismatch(
                f"the mask is {_spell_size(size)}, its clip {_spell_size(self.source)}: the"
                f" aspect ratios differ by {abs(width / height / source_ratio - 1):.1%} (1%"
                " passes), so they cannot be laid on each other; export the mask at the clip's size"
            )
        if frames != len(self.picks):
            raise ValueError(f"{frames} mask frames for {len(self.picks)} picked clip frames")
        rows, columns = self.spans()
        return rows.scale_to(height), columns.scale_to(width)

    def accepts(self, size: tuple[int, int]) -> bool:
        """Whether a mask of (height, width) has the clip's aspect: as displayed, or as stored."""
        return any(
            fits(size, own_size) for own_size in (self.source, self.stored) if own_size is not None
        )

    def plane(self, plane: Plane) -> Float[Tensor, "F H_cut W_cut"]:
        """Cut a mask of any size that `accepts` takes: exact area mean, linear when enlarging.

        Results stay between the plane's own least and greatest value. Raises MaskMismatch where
        the aspect ratios differ by more than 1 %, ValueError on another number of frames.
        """
        rows, columns = self._fit_mask((plane.shape[1], plane.shape[2]), len(plane))
        # A still mask comes expanded over F without copies: cut it once.
        still = len(plane) > 1 and plane.stride(0) == 0
        cut = torch.stack(
            [_apply(rows, columns, frame) for frame in (plane[:1] if still else plane).float()]
        )
        if self.flip:
            cut = cut.flip(-1)
        return cut.expand(len(plane), -1, -1) if still else cut

    def labels(self, labels: Int[Tensor, "F H W"]) -> Int[Tensor, "F H_cut W_cut"]:
        """Cut a label map: the label under the centre of each output pixel, never a mixture."""
        rows, columns = self._fit_mask((labels.shape[1], labels.shape[2]), len(labels))
        down, across = torch.from_numpy(rows.nearest()), torch.from_numpy(columns.nearest())
        cut = labels[:, down][:, :, across]
        return cut.flip(-1) if self.flip else cut

    def place_points(
        self, points: Float[Tensor, "n 2"], size: tuple[int, int] | None = None
    ) -> Float[Tensor, "n 2"]:
        """Where places (x, y) of a picture of `size` (H, W; the source's) lie in the cut one.

        In pixels whose middles are whole numbers, on both sides; mirrored where the clip is. They
        may fall outside what is kept.
        """
        rows, columns = self.spans()
        if size is not None:
            rows, columns = rows.scale_to(size[0]), columns.scale_to(size[1])
        x = (points[:, 0] + 0.5 - columns.start) * (columns.out / columns.length) - 0.5
        y = (points[:, 1] + 0.5 - rows.start) * (rows.out / rows.length) - 0.5
        return torch.stack([columns.out - 1 - x if self.flip else x, y], 1)

    def record(self) -> dict[str, Any]:
        """The geometry as JSON, for cache keys."""
        return {
            "rule": RULE,
            # Named only where pixels are not square: the caches of all others stay good.
            **({"stored": list(self.stored)} if self.stored else {}),
            "source": list(self.source),
            "target": list(self.target),
            "picks": list(self.picks),
            "flip": self.flip,
        }


def _spell_size(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]} (width x height)"


def _shrink(frame: Tensor, rows: Span, columns: Span) -> Tensor:
    if rows.whole and columns.whole:
        return frame[rows.slice(), columns.slice()].permute(2, 0, 1)
    return torch.stack([_apply(rows, columns, frame[..., i].float()) for i in range(3)])


def _enlarge(frame: Tensor, rows: Span, columns: Span) -> Tensor:
    box = (
        *(columns.start, rows.start),
        *(columns.start + columns.length, rows.start + rows.length),
    )
    size = (columns.out, rows.out)
    large = Image.fromarray(frame.cpu().numpy()).resize(size, Image.Resampling.LANCZOS, box=box)
    return torch.from_numpy(np.array(large)).permute(2, 0, 1)
