"""Label maps moved from frame to frame by optical flow, their borders found again by colour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8
from numpy.typing import NDArray

RgbArray = UInt8[np.ndarray, "H W 3"]
LabelArray = UInt8[np.ndarray, "H W"]
_Field = Float32[np.ndarray, "H W"]
_Flow = Float32[np.ndarray, "H W 2"]
_Codes = Int32[np.ndarray, "H W"]

REACH = 32.0  # pixels: a border farther away counts as this far
FLOW_SIDE = 640  # motion is estimated on frames of at most this many pixels a side
SMALLEST = 32  # pixels a side: DIS matches patches over five scales
MARGIN = 96  # pixels about the regions that are looked at
RING = 30  # pixels about the regions whose colours are those of the background
BAND = 6.0  # pixels from a border within which colours are near_border
SOFTNESS = 3.0  # pixels that one unit of evidence moves a border
SHIFT = 2  # pixels a keyframe's mask is moved by to see whether its colours find it again
BAR = 1  # pixels off, as motion alone would be after some frames
TRIALS = 3  # times a mask is mended to see where that leads
STRENGTHS = (0.5, 1.0)  # of colours against the place that motion gives
GAIN = 0.005  # IoU that colours must win to be near_border at all
BINS = 16  # a channel
_EVIDENCE_LIMIT = 4.0  # evidence that colours may give, in logarithms: one odd pixel is no proof


@dataclass(frozen=True, slots=True)
class _Colours:
    """What colours each label has, the background first: logarithms of shares, by colour code."""

    tables: NDArray[np.float32]  # labels, BINS ** 3

    def find_evidence(self, codes: _Codes, grey: UInt8[np.ndarray, "H W"]) -> NDArray[np.float32]:
        """For each label and pixel how well its colour fits, the best 0, the worst -4."""
        logs = self.tables[:, codes]
        logs = np.maximum(logs - logs.max(0), -_EVIDENCE_LIMIT)
        guide = grey.astype(np.float32) / 255
        return np.stack([_smooth_along(guide, plane) for plane in logs])


@dataclass(slots=True)
class FlowCarrier:
    """Carries the label map of one keyframe onward, a frame at a time.

    `confidence` is how much of the keyframe's regions comes back when a frame's labels are sent
    home along the opposite flow (mean IoU of the regions, 0 to 1): what is hidden, has left, or was
    followed wrongly does not come back.
    """

    picture: RgbArray
    labels: LabelArray
    regions: tuple[int, ...] = ()
    confidence: float = 1.0
    _key: LabelArray | None = None
    _fields: dict[int, _Field] = field(default_factory=dict)
    _home: NDArray[np.float32] | None = None  # H W (x, y): where a pixel of the keyframe is now
    _strength: dict[int, float] = field(default_factory=dict)  # of colours, by region
    _first: _Colours | None = None

    def __post_init__(self) -> None:
        """Learn what the keyframe's colours are worth."""
        self.regions = tuple(int(index) for index in np.unique(self.labels) if index)
        self._key = self.labels
        self._home = _lay_grid(*self.labels.shape)
        self._fields = {index: measure_distance(self.labels == index) for index in self.regions}
        if self.regions:
            self._first = _learn_colours(self.picture, self.labels, self.regions)
            self._strength = _choose_strengths(self.picture, self.labels, self.regions, self._first)

    def step(self, picture: RgbArray) -> LabelArray:
        """The labels on the next frame, H W as the frames are."""
        if not self.regions:
            self.picture = picture
            return self.labels
        window = _find_window(self.labels)
        before, now = (_to_grey(it[window]) for it in (self.picture, picture))
        back, ahead = estimate_flow(now, before), estimate_flow(before, now)
        fields = {
            index: np.full(plane.shape, -REACH, np.float32) for index, plane in self._fields.items()
        }
        for index, plane in self._fields.items():
            fields[index][window] = warp(plane[window], back)
        labels = self._settle(picture, fields, window, now)
        self._follow_home(ahead, window)
        self.picture, self.labels = picture, labels
        self._fields = {
            index: measure_distance(labels == index) if self._strength.get(index) else plane
            for index, plane in fields.items()
        }
        self.confidence = self._measure_return()
        return labels

    def _settle(
        self,
        picture: RgbArray,
        fields: Mapping[int, _Field],
        window: tuple[slice, slice],
        grey: UInt8[np.ndarray, "H W"],
    ) -> LabelArray:
        """Labels of the fields, near borders by colour where the keyframe's own can be told so."""
        stack = np.stack([fields[index][window] for index in self.regions])
        scores = _add_background(stack)
        if any(self._strength.values()):
            assert self._first is not None
            newest = _learn_colours(self.picture, self.labels, self.regions)
            mixed = _Colours(np.maximum(newest.tables, self._first.tables))
            evidence = mixed.find_evidence(_encode_colours(picture[window]), grey)
            scores = _ask_colours(scores, evidence, [self._strength[it] for it in self.regions])
        labels = np.zeros(picture.shape[:2], np.uint8)
        labels[window] = np.array([0, *self.regions], np.uint8)[scores.argmax(0)]
        return labels

    def _follow_home(self, ahead: _Flow, window: tuple[slice, slice]) -> None:
        assert self._home is not None
        x, y = self._home[..., 0], self._home[..., 1]
        moved_flow = np.zeros((*self.labels.shape, 2), np.float32)
        moved_flow[window] = ahead
        self._home = self._home + cv2.remap(
            moved_flow, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

    def _measure_return(self) -> float:
        assert self._home is not None
        assert self._key is not None
        returned = cv2.remap(
            self.labels,
            self._home[..., 0],
            self._home[..., 1],
            cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
        )
        return measure_overlap(np.asarray(returned, np.uint8), self._key, self.regions)


def measure_overlap(first: LabelArray, second: LabelArray, regions: Sequence[int]) -> float:
    """Mean IoU of regions in two label maps, those that neither has left out; 1 for none at all."""
    shares = []
    for index in regions:
        first_flags, second_flags = first == index, second == index
        union = int(np.count_nonzero(first_flags | second_flags))
        if union:
            shares.append(np.count_nonzero(first_flags & second_flags) / union)
    return float(np.mean(shares)) if shares else 1.0


def measure_distance(inside: NDArray[np.bool_], reach: float = REACH) -> _Field:
    """Pixels from the border, above 0 inside, cut at `reach`; -`reach` where nothing is inside."""
    if not inside.any():
        return np.full(inside.shape, -reach, np.float32)
    flags = inside.astype(np.uint8)
    depth = cv2.distanceTransform(flags, cv2.DIST_L2, cv2.DIST_MASK_5)
    beyond = cv2.distanceTransform(1 - flags, cv2.DIST_L2, cv2.DIST_MASK_5)
    # Distances are between centres of pixels; the border lies half a pixel before the other side.
    distance = np.where(inside, depth - 0.5, 0.5 - beyond)
    return np.asarray(np.clip(distance, -reach, reach), np.float32)


def blend_labels(first: LabelArray, second: LabelArray, share: float) -> LabelArray:
    """The label map `share` of the way (0 to 1) from one to another, by distance from borders.

    A region of only one of the two shrinks to nothing on its way.
    """
    regions = sorted({*np.unique(first).tolist(), *np.unique(second).tolist()} - {0})
    if not regions:
        return first.copy()
    reach = float(max(first.shape))
    planes = [
        measure_distance(first == index, reach) * np.float32(1 - share)
        + measure_distance(second == index, reach) * np.float32(share)
        for index in regions
    ]
    choices = _add_background(np.stack(planes)).argmax(0)
    return np.asarray(np.array([0, *regions], np.uint8)[choices], np.uint8)


def estimate_flow(at: UInt8[np.ndarray, "H W"], to: UInt8[np.ndarray, "H W"]) -> _Flow:
    """Where each pixel of one grey frame lies in another: H W (x, y) in pixels (DIS)."""
    high, wide = at.shape
    scale = min(FLOW_SIDE / max(high, wide), 1)
    size = max(round(wide * scale), SMALLEST), max(round(high * scale), SMALLEST)
    small = [cv2.resize(grey, size, interpolation=cv2.INTER_AREA) for grey in (at, to)]
    dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = cv2.resize(dis.calc(*small, None), (wide, high), interpolation=cv2.INTER_LINEAR)
    return np.asarray(flow * np.array([wide / size[0], high / size[1]]), np.float32)


def warp(plane: _Field, flow: _Flow) -> _Field:
    """A plane read where the flow points; beyond the picture its border goes on."""
    places = _lay_grid(*plane.shape) + flow
    moved_plane = cv2.remap(
        plane,
        places[..., 0],
        places[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(moved_plane, np.float32)


def _lay_grid(high: int, wide: int) -> NDArray[np.float32]:
    y, x = np.mgrid[0:high, 0:wide].astype(np.float32)
    return np.stack([x, y], -1)


def _to_grey(picture: RgbArray) -> UInt8[np.ndarray, "H W"]:
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY), np.uint8)


def _find_window(labels: LabelArray) -> tuple[slice, slice]:
    """Rows and columns of the regions and MARGIN about them; of all where there is no region."""
    rows, columns = np.flatnonzero(labels.any(1)), np.flatnonzero(labels.any(0))
    if not rows.size:
        return slice(0, labels.shape[0]), slice(0, labels.shape[1])
    return (
        slice(max(int(rows[0]) - MARGIN, 0), int(rows[-1]) + 1 + MARGIN),
        slice(max(int(columns[0]) - MARGIN, 0), int(columns[-1]) + 1 + MARGIN),
    )


def _add_background(stack: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distances of the regions behind that of what none of them is."""
    return np.concatenate([-stack.max(0, keepdims=True), stack])


def _encode_colours(picture: RgbArray) -> _Codes:
    """A number of BINS ** 3 for the colour of each pixel, of Lab and a little blurred."""
    soft = cv2.GaussianBlur(np.ascontiguousarray(picture), (3, 3), 0.8)
    parts = cv2.cvtColor(soft, cv2.COLOR_RGB2LAB).astype(np.int32) * BINS // 256
    return np.asarray((parts[..., 0] * BINS + parts[..., 1]) * BINS + parts[..., 2], np.int32)


def _learn_colours(picture: RgbArray, labels: LabelArray, regions: Sequence[int]) -> _Colours:
    window = _find_window(labels)
    codes, near = _encode_colours(picture[window]), labels[window]
    covered = near > 0
    ring = cv2.dilate(covered.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=RING) > 0
    ground = ring & ~covered
    planes = [ground if ground.any() else ~covered, *(near == index for index in regions)]
    return _Colours(np.stack([_count_colours(codes, plane) for plane in planes]))


def _count_colours(codes: _Codes, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Logarithms of the shares of colours, each bin mixed with its neighbours."""
    counts = np.bincount(codes[inside], minlength=BINS**3).astype(np.float32)
    cube = counts.reshape(BINS, BINS, BINS)
    for axis in range(3):
        padded = np.pad(cube, [(1, 1) if it == axis else (0, 0) for it in range(3)])
        low, mid, high = (
            np.take(padded, range(start, start + BINS), axis=axis) for start in range(3)
        )
        cube = 0.25 * low + 0.5 * mid + 0.25 * high
    total = max(float(cube.sum()), 1.0)
    return np.asarray(np.log((cube.ravel() + total * 1e-6 + 1e-6) / total), np.float32)


def _smooth_along(guide: _Field, plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """A plane made smooth within what the guide shows as one surface (a guided filter)."""

    def blur(it: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(it, (5, 5)), np.float32)

    of_guide, of_plane = blur(guide), blur(plane)
    slope = (blur(guide * plane) - of_guide * of_plane) / (
        blur(guide * guide) - of_guide * of_guide + np.float32(1e-3)
    )
    return np.asarray(blur(slope) * guide + blur(of_plane - slope * of_guide), np.float32)


def _ask_colours(
    scores: NDArray[np.float32], evidence: NDArray[np.float32], strengths: Sequence[float]
) -> NDArray[np.float32]:
    """Scores of labels with the evidence of colours where two trusted labels meet."""
    by_label = np.array([max(strengths), *strengths], np.float32)
    order = np.argpartition(-scores, 1, axis=0)[:2]  # the two nearest labels of each pixel
    best, second = np.take_along_axis(scores, order, 0)
    weakest = by_label[order].min(0)
    near_border = np.abs(best - second) < 2 * BAND
    pull = np.where(near_border, weakest, np.float32(0))
    return np.asarray(scores / np.float32(SOFTNESS) + pull * evidence, np.float32)


def _choose_strengths(
    picture: RgbArray, labels: LabelArray, regions: Sequence[int], colours: _Colours
) -> dict[int, float]:
    """For each region how far colours are trusted: as they find the keyframe's own border again.

    Its mask is moved a little, and as it is, and mended by colour time and again. Where that does
    not end nearer to what was painted than a mask BAR pixels off, colours are left alone (0).
    """
    window = _find_window(labels)
    truth = labels[window]
    evidence = colours.find_evidence(_encode_colours(picture[window]), _to_grey(picture[window]))
    bar = np.roll(truth, (BAR, BAR), (0, 1))
    best = {index: measure_overlap(bar, truth, [index]) for index in regions}
    strengths = dict.fromkeys(regions, 0.0)
    for strength in STRENGTHS:
        ends = [
            _mend_often(start, evidence, regions, strength)
            for start in (np.roll(truth, (SHIFT, SHIFT), (0, 1)), truth)
        ]
        for index in regions:
            worst = min(measure_overlap(end, truth, [index]) for end in ends)
            if worst > best[index] + GAIN:
                best[index], strengths[index] = worst, strength
    return strengths


def _mend_often(
    start: LabelArray,
    evidence: NDArray[np.float32],
    regions: Sequence[int],
    strength: float,
) -> LabelArray:
    labels = start
    for _ in range(TRIALS):
        stack = np.stack([measure_distance(labels == index) for index in regions])
        scores = _ask_colours(_add_background(stack), evidence, [strength] * len(regions))
        labels = np.array([0, *regions], np.uint8)[scores.argmax(0)]
    return labels
