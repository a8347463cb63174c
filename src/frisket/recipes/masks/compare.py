"""`frisket masks eval`: one folder of masks held against another that is taken for the truth."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, repeat
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from frisket.evaluation.mask_metrics import MaskScores, RegionScore, compare_labels, pool_scores
from frisket.maskgen.base import RgbPicture
from frisket.maskgen.cleanup.clean import compose
from frisket.maskgen.format_base import GREY
from frisket.media.files import MasksNotFound, find
from frisket.media.frames import BadMedia, Media, probe, stream
from frisket.progress import Progress
from frisket.recipes.masks.folder import BadMaskOption, MaskFolder, open_masks
from frisket.registry import suggest

WINDOW = 16  # frames compared at once, so that memory is flat in a clip's length

_FrameLabels = UInt8[Tensor, "H W"]  # of one frame: 0 is background, i is the i-th name
Merge = Mapping[str, Sequence[str]]  # a union to its parts
_ComparedFrame = tuple[
    _FrameLabels, _FrameLabels, RgbPicture | None
]  # prediction, truth and picture of one frame


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two folders, and which of its regions each compared one is the union of."""

    title: str  # prediction or truth
    masks: MaskFolder
    parts: Mapping[str, tuple[str, ...]]

    def find_path(self, name: str) -> Path:
        """The mask of a clip, or the first of several."""
        return next(iter(self.masks.files[name].values()))

    def read_labels(self, name: str, media: Media, names: Sequence[str]) -> Iterator[_FrameLabels]:
        """Frame by frame, in the order of `names`; regions that are not among them are 0."""
        order = tuple(self.parts)
        table = torch.zeros(len(order) + 1, dtype=torch.uint8)
        for label, region in enumerate(names, 1):
            table[order.index(region) + 1] = label
        for frame in self.masks.frames(name, media):
            planes = {region: torch.zeros(media.height, media.width) for region in order}
            for region, parts in self.parts.items():
                for part in parts:
                    if part in frame:
                        planes[region] = torch.maximum(planes[region], frame[part])
            yield table[compose(planes).long()]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two mask folders that share clips, and the regions both have."""

    prediction: Side
    truth: Side
    names: tuple[str, ...]
    clips: Mapping[str, Path]  # by name; empty where no pictures were given


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What the comparison came to.

    Clips that failed, or that only the prediction has, are in no mean; a truth without a
    prediction counts as one that found nothing.
    """

    names: tuple[str, ...]
    scores: dict[str, MaskScores] = field(default_factory=dict)  # by clip
    failed: dict[str, str] = field(default_factory=dict)  # by clip, what is wrong
    unpredicted: tuple[str, ...] = ()  # clips with a truth alone
    unjudged: tuple[str, ...] = ()  # clips with a prediction alone
    notes: tuple[str, ...] = ()


def pair_masks(
    prediction: str,
    truth: str,
    clips: Path | None,
    *,
    legends: tuple[Mapping[str, int], Mapping[str, int]],
    levels: Mapping[str, int],
    merge: Merge,
) -> Pair:
    """Open both folders (see `open_masks`); `legends` are those of prediction and truth.

    Raises MasksNotFound where they share no clip, BadOption where they share no region or `merge`
    names one that neither has.
    """
    if Path(prediction).resolve() == Path(truth).resolve():
        raise BadMaskOption(f"{prediction}: is both prediction and truth; give two folders")
    first, second = (
        open_masks(location, clips, legend=legend, levels=levels)
        for location, legend in zip((prediction, truth), legends, strict=True)
    )
    if first.files.keys().isdisjoint(second.files):
        raise MasksNotFound(
            f"no mask has the same name in both folders: there is {next(iter(first.files))!r} in"
            f" {first.location} and {next(iter(second.files))!r} in {second.location}. A name"
            " is the path without suffix; folders of frames need --clips, a folder a region is"
            " given as face=DIR/face,hair=DIR/hair"
        )
    region_names = first.regions(), second.regions()
    _check_merge(merge, sorted({*region_names[0], *region_names[1]}))
    predicted_side = Side("prediction", first, _merge_regions(region_names[0], merge))
    true_side = Side("truth", second, _merge_regions(region_names[1], merge))
    names = tuple(name for name in true_side.parts if name in predicted_side.parts)
    if not names:
        raise BadMaskOption(
            f"the folders have no region in common: {prediction} has"
            f" {', '.join(predicted_side.parts)}, {truth} has {', '.join(true_side.parts)}; make a"
            f" union of the same name, as in --merge"
            f" {next(iter(true_side.parts))}={','.join(predicted_side.parts)}"
        )
    clip_files = find(clips, masks="none", folders={}).clips if clips else []
    return Pair(predicted_side, true_side, names, {clip.name: clip.clip for clip in clip_files})


def _check_merge(merge: Merge, region_names: list[str]) -> None:
    for target, parts in merge.items():
        for part in parts:
            if part not in region_names:
                raise BadMaskOption(
                    f"--merge {target}: no region is named {part!r}{suggest(part, region_names)}"
                )


def _merge_regions(regions: Iterable[str], merge: Merge) -> dict[str, tuple[str, ...]]:
    """What each region is made of; those that went into a union stand no longer by themselves."""
    unions: dict[str, tuple[str, ...]] = {name: (name,) for name in regions}
    for target, parts in merge.items():
        names = [name for name in dict.fromkeys((target, *parts)) if name in unions]
        if names:
            unions[target] = tuple(part for name in names for part in unions.pop(name))
    return unions


def evaluate(pair: Pair, progress: Progress = lambda *_: None) -> Evaluated:
    """Compare clip by clip; one that does not fit is told and stops no other."""
    predicted, true = pair.prediction.masks.files, pair.truth.masks.files
    evaluated = Evaluated(
        pair.names,
        unpredicted=tuple(name for name in true if name not in predicted),
        unjudged=tuple(name for name in predicted if name not in true),
        notes=tuple(
            note for side in (pair.prediction, pair.truth) for note in _list_notes(side, pair.names)
        ),
    )
    for count, name in enumerate(true, 1):
        try:
            evaluated.scores[name] = _compare_clip(pair, name)
        except ValueError as error:  # BadMedia and BadLegend among them
            evaluated.failed[name] = str(error)
        progress("eval", count, len(true))
    return evaluated


def _list_notes(side: Side, names: Sequence[str]) -> Iterator[str]:
    if left_out := [name for name in side.parts if name not in names]:
        yield f"only the {side.title} has {', '.join(left_out)}: left out, background in both"
    if GREY in side.parts and not side.masks.legend:
        yield (
            f"the {side.title} has grey masks: {GREY} is what is at least half white (--levels cuts"
            " them into regions)"
        )
    if orphans := side.masks.orphans:
        yield f"{len(orphans)} masks of the {side.title} have no clip, {orphans[0]} among them"


def _compare_clip(pair: Pair, name: str) -> MaskScores:
    has_prediction = name in pair.prediction.masks.files
    media = (
        _probe_both(pair.prediction.find_path(name), pair.truth.find_path(name))
        if has_prediction
        else probe(pair.truth.find_path(name))
    )
    pictures: Iterator[RgbPicture | None] = repeat(None)
    if clip := pair.clips.get(name):
        media = probe(clip)
        pictures = stream(clip) if media.video else pictures
    true_labels = pair.truth.read_labels(name, media, pair.names)
    nothing = repeat(torch.zeros((media.height, media.width), dtype=torch.uint8))
    predicted_labels = (
        pair.prediction.read_labels(name, media, pair.names) if has_prediction else nothing
    )
    # The true labels come first: zip asks the others for no frame that those do not have.
    compared_frames = (
        (predicted_frame, true_frame, picture)
        for true_frame, predicted_frame, picture in zip(
            true_labels, predicted_labels, pictures, strict=False
        )
    )
    return _score_by_window(compared_frames, pair.names)


def _probe_both(predicted: Path, true: Path) -> Media:
    """What both masks should be like; BadMedia where they differ. A still stands for all frames."""
    first, second = probe(predicted), probe(true)
    sizes = [f"{media.width} x {media.height}" for media in (first, second)]
    if sizes[0] != sizes[1]:
        raise BadMedia(
            f"sizes differ: {predicted} is {sizes[0]}, {true} is {sizes[1]} (width x height)"
        )
    if first.video and second.video and first.frames != second.frames:
        raise BadMedia(
            f"frame counts differ: {predicted} has {first.frames}, {true} has {second.frames}"
        )
    return second if second.video else first


def _score_by_window(compared_frames: Iterator[_ComparedFrame], names: Sequence[str]) -> MaskScores:
    """One clip. Steadiness is of pairs of frames: a pair across two windows is a window more."""
    windows: list[MaskScores] = []
    seams: list[MaskScores] = []
    last: list[_ComparedFrame] = []
    while window := list(islice(compared_frames, WINDOW)):
        windows.append(_score_window(window, names))
        if last:
            seams.append(_score_window([*last, window[0]], names))
        last = window[-1:]
    pooled_scores = pool_scores(windows)
    regions = {
        name: _with_steadiness(score, name, [*windows, *seams])
        for name, score in pooled_scores.regions.items()
    }
    return replace(pooled_scores, regions=regions)


def _score_window(compared_frames: Sequence[_ComparedFrame], names: Sequence[str]) -> MaskScores:
    predicted, true, pictures = zip(*compared_frames, strict=True)
    frames = None if pictures[0] is None else torch.stack(pictures)
    return compare_labels(torch.stack(predicted), torch.stack(true), names, frames)


def _with_steadiness(score: RegionScore, name: str, windows: Sequence[MaskScores]) -> RegionScore:
    """The score with its steadiness as the mean over all pairs of frames of the windows."""

    def average(key: str) -> float | None:
        values = [(getattr(window.regions[name], key), window.frames - 1) for window in windows]
        scored = [(value, pairs) for value, pairs in values if value is not None]
        total = sum(pairs for _, pairs in scored)
        return sum(value * pairs for value, pairs in scored) / total if total else None

    return replace(
        score,
        temporal=average("temporal"),
        compensated=average("compensated"),
        truth_compensated=average("truth_compensated"),
    )
