"""How good are masks: overlap, borders, mixed-up regions and steadiness, each defined once."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, UInt8
from numpy.typing import NDArray
from torch import Tensor

Inside = Bool[Tensor, "H W"]  # one region of one frame
Insides = Bool[Tensor, "F H W"]
_LabelMap = Integer[Tensor, "F H W"]  # 0 is background, i is the i-th name
Truth = Integer[Tensor, "G Y X"]  # checked by hand, as are the pictures: errors name the sizes
_Pictures = UInt8[Tensor, "P V U 3"]
Shares = Float[Tensor, "n n"]  # one row and column for the background, then one a name
_Image = NDArray[np.float32]  # H W

BACKGROUND = "background"
TOLERANCE = 0.008  # of the diagonal, as DAVIS has it
SMALLEST = 12  # pixels, of a picture's longer side, that the flow needs


@dataclass(frozen=True, slots=True)
class RegionScore:
    """One region of one clip, or of many; every number in [0, 1] and 1 is best.

    `iou`, `dice` and `boundary` are means over the frames that hold the region in either label map.
    `temporal` and `compensated` tell how steady the prediction is, `truth_compensated` what the
    ground truth itself scores there; None where there is one frame, or no picture was given.
    """

    frames: int  # that hold the region in prediction or truth: its weight in `pool_scores`
    iou: float
    dice: float
    boundary: float
    temporal: float | None = None
    compensated: float | None = None
    truth_compensated: float | None = None


@dataclass(frozen=True, slots=True)
class MaskScores:
    """A predicted clip against its truth: each region, and what was taken for what.

    `confusion` holds shares of all pixels (its sum is 1); rows are the truth, columns the
    prediction, in the order of `names`, which starts with the background.
    """

    names: tuple[str, ...]
    regions: dict[str, RegionScore]
    confusion: Shares
    frames: int

    @property
    def accuracy(self) -> float:
        """Share of the pixels that have the right label."""
        return float(self.confusion.diagonal().sum())

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the regions that occur, without the background; 1 where none does."""
        scores = [score.iou for score in self.regions.values() if score.frames]
        return sum(scores) / len(scores) if scores else 1.0


def iou(first: Bool[Tensor, "*shape"], second: Bool[Tensor, "*shape"]) -> float:
    """Intersection over union (Jaccard), in [0, 1]; both empty: 1, one empty: 0."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0


def dice(first: Bool[Tensor, "*shape"], second: Bool[Tensor, "*shape"]) -> float:
    """Twice the intersection over the summed areas (F1), in [0, 1]; both empty: 1, one empty: 0."""
    areas = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / areas if areas else 1.0


def boundary_f(first: Inside, second: Inside, tolerance: float = TOLERANCE) -> float:
    """F-measure of two outlines that may lie `tolerance` of the diagonal apart, in [0, 1].

    Perazzi et al. 2016, section 3.2 (F of DAVIS), with distances instead of its approximating
    dilation: the share of either outline with the other within reach, as a harmonic mean. An
    outline is the inner rim of a region, and the picture's border is none. Neither has one: 1;
    only one has: 0.
    """
    reach = math.ceil(tolerance * math.hypot(*first.shape))
    outlines = [_draw_outline(mask.numpy().astype(np.uint8)) for mask in (first, second)]
    drawn = [bool(outline.any()) for outline in outlines]
    if not all(drawn):
        return float(not any(drawn))
    near = [
        cv2.distanceTransform(1 - line, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for line in outlines
    ]
    precision = float((near[1][outlines[0] > 0] <= reach).mean())
    recall = float((near[0][outlines[1] > 0] <= reach).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _draw_outline(mask: NDArray[Any]) -> NDArray[Any]:
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return mask - cv2.erode(mask, cross)


def confusion(prediction: _LabelMap, truth: _LabelMap, count: int) -> Shares:
    """Shares of all pixels, `count` names and the background: rows truth, columns prediction.

    ValueError for a label that is no name's.
    """
    for side, labels in (("prediction", prediction), ("truth", truth)):
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high > count:
            raise ValueError(
                f"the {side} holds the label {low if low < 0 else high}, not one of {count} names"
            )
    cells = truth.long() * (count + 1) + prediction.long()
    counts = torch.bincount(cells.flatten(), minlength=(count + 1) ** 2)
    return (counts.double() / cells.numel()).view(count + 1, count + 1)


def temporal_iou(masks: Insides) -> float:
    """Mean IoU of each frame with the next, in [0, 1]; 1 for one frame.

    A mask that moves with its subject loses here too: compare `compensated_iou`.
    """
    scores = [iou(now, after) for now, after in itertools.pairwise(masks)]
    return sum(scores) / len(scores) if scores else 1.0


def compensated_iou(masks: Insides, frames: _Pictures) -> float:
    """`temporal_iou` with each mask first carried along the motion of the pictures, in [0, 1].

    The motion is dense inverse search optical flow (Kroeger et al. 2016). Pixels whose flow there
    and back does not return to them (hidden or revealed; Sundaram et al. 2010, eq. 5) do not count,
    as in the warping error of Lai et al. 2018. A true mask scores near 1 where the picture has
    texture to follow. ValueError where sizes differ or are below 12 pixels.
    """
    return _measure_compensated([masks], frames)[0]


def _measure_compensated(clips: Sequence[Insides], frames: _Pictures) -> list[float]:
    """Of several masks of one clip, so that its motion is found once."""
    if any(masks.shape != frames.shape[:3] for masks in clips):
        raise ValueError(
            f"masks of {tuple(clips[0].shape)} for pictures of {tuple(frames.shape[:3])}:"
            " frames, height and width must agree"
        )
    if max(frames.shape[1:3]) < SMALLEST:
        raise ValueError(
            f"pictures of {frames.shape[2]} x {frames.shape[1]} pixels are too small to follow"
            f" motion in: it takes {SMALLEST}"
        )
    totals = [0.0] * len(clips)
    for index in range(1, len(frames)):
        x, y, known = _follow_motion(frames[index - 1].numpy(), frames[index].numpy())
        for at, masks in enumerate(clips):
            old = masks[index - 1].numpy().astype(np.float32)
            carried = torch.from_numpy(_look_up(old, x, y) > 0.5)
            totals[at] += iou(carried & known, masks[index] & known)
    pairs = len(frames) - 1
    return [total / pairs if pairs else 1.0 for total in totals]


def _follow_motion(before: NDArray[Any], after: NDArray[Any]) -> tuple[_Image, _Image, Tensor]:
    """Where each pixel of `after` was in `before` (x, y), and whether that is known."""
    old, new = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (before, after))
    follow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    empty = np.zeros((*before.shape[:2], 2), np.float32)
    back, forth = follow.calc(new, old, empty.copy()), follow.calc(old, new, empty.copy())
    columns, rows = np.meshgrid(np.arange(before.shape[1]), np.arange(before.shape[0]))
    x, y = ((back[..., i] + at).astype(np.float32) for i, at in enumerate((columns, rows)))
    there = _look_up(forth, x, y)
    length = (back**2).sum(-1) + (there**2).sum(-1)
    known = ((back + there) ** 2).sum(-1) < 0.01 * length + 0.5
    return x, y, torch.from_numpy(known)


def _look_up(image: NDArray[Any], x: _Image, y: _Image) -> NDArray[Any]:
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def compare_labels(
    prediction: _LabelMap, truth: Truth, names: Sequence[str], frames: _Pictures | None = None
) -> MaskScores:
    """Everything about the label maps of one clip; label i is the i-th of `names`, 0 background.

    With `frames` (the pictures) regions get their motion-compensated steadiness as well.
    ValueError where shapes differ or a label is no name's.
    """
    if prediction.shape != truth.shape:
        raise ValueError(
            f"the prediction is {tuple(prediction.shape)} and the truth {tuple(truth.shape)}"
            " (frames, height, width): they must be of one size"
        )
    shares = confusion(prediction, truth, len(names))
    predicted = [prediction == label for label in range(1, len(names) + 1)]
    true = [truth == label for label in range(1, len(names) + 1)]
    steady: list[float] = []
    if frames is not None and len(truth) > 1:
        steady = _measure_compensated(
            [*predicted, *true], frames
        )  # the motion is found once for all of them
    regions = {
        name: _score_region(predicted[at], true[at], steady[at :: len(names)])
        for at, name in enumerate(names)
    }
    return MaskScores((BACKGROUND, *names), regions, shares, len(truth))


def _score_region(predicted: Insides, true: Insides, steady: Sequence[float]) -> RegionScore:
    present = (predicted | true).flatten(1).any(1)
    pairs = list(zip(predicted[present], true[present], strict=True))

    def mean(score: Callable[[Inside, Inside], float]) -> float:
        return sum(score(*pair) for pair in pairs) / len(pairs) if pairs else 1.0

    return RegionScore(
        frames=len(pairs),
        iou=mean(iou),
        dice=mean(dice),
        boundary=mean(boundary_f),
        temporal=temporal_iou(predicted) if len(predicted) > 1 else None,
        compensated=steady[0] if steady else None,
        truth_compensated=steady[1] if steady else None,
    )


def pool_scores(clips: Sequence[MaskScores]) -> MaskScores:
    """Many clips as one: means over the frames that hold each region, confusion over all frames.

    Steadiness is pooled over the clips that have it. ValueError where there is no clip, or where
    the clips' names differ.
    """
    if not clips:
        raise ValueError("there is no clip to pool the scores of")
    if len({clip.names for clip in clips}) > 1:
        raise ValueError(f"clips with different regions: {sorted({clip.names for clip in clips})}")
    frames = sum(clip.frames for clip in clips)
    shares = torch.stack([clip.confusion * clip.frames for clip in clips]).sum(0) / frames
    names = clips[0].names
    regions = {name: _pool([clip.regions[name] for clip in clips]) for name in names[1:]}
    return MaskScores(names, regions, shares, frames)


def _pool(scores: Sequence[RegionScore]) -> RegionScore:
    def mean(name: str) -> float | None:
        known = [(value, s.frames) for s in scores if (value := getattr(s, name)) is not None]
        weight = sum(frames for _, frames in known)
        if not weight:
            return 1.0 if known else None
        return sum(value * frames for value, frames in known) / weight

    return RegionScore(
        frames=sum(score.frames for score in scores),
        iou=mean("iou") or 0.0,
        dice=mean("dice") or 0.0,
        boundary=mean("boundary") or 0.0,
        temporal=mean("temporal"),
        compensated=mean("compensated"),
        truth_compensated=mean("truth_compensated"),
    )
