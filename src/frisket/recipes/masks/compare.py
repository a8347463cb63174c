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
from frisket.recipes.masks.folder import BadOption, MaskFolder, open_masks
from frisket.registry import suggest

WINDOW = 16  # frames compared at once, so that memory is flat in a clip's length

Labels = UInt8[Tensor, "H W"]  # of one frame: 0 is background, i is the i-th name
Merge = Mapping[str, Sequence[str]]  # a union to its parts
Shot = tuple[Labels, Labels, RgbPicture | None]  # prediction, truth and picture of one frame


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two folders, and which of its regions each compared one is the union of."""

    what: str  # prediction or truth
    masks: MaskFolder
    parts: Mapping[str, tuple[str, ...]]

    def path(self, name: str) -> Path:
        """The mask of a clip, or the first of several."""
        return next(iter(self.masks.files[name].values()))

    def labels(self, name: str, media: Media, names: Sequence[str]) -> Iterator[Labels]:
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

    told: Side
    true: Side
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


def paired(
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
        raise BadOption(f"{prediction}: is both prediction and truth; give two folders")
    first, second = (
        open_masks(where, clips, legend=legend, levels=levels)
        for where, legend in zip((prediction, truth), legends, strict=True)
    )
    if first.files.keys().isdisjoint(second.files):
        raise MasksNotFound(
            f"no mask has the same name in both folders: there is {next(iter(first.files))!r} in"
            f" {first.where} and {next(iter(second.files))!r} in {second.where}. A name is the path"
            " without suffix; folders of frames need --clips, a folder a region is given as"
            " face=DIR/face,hair=DIR/hair"
        )
    held = first.regions(), second.regions()
    _check_merge(merge, sorted({*held[0], *held[1]}))
    told = Side("prediction", first, _merged(held[0], merge))
    true = Side("truth", second, _merged(held[1], merge))
    names = tuple(name for name in true.parts if name in told.parts)
    if not names:
        raise BadOption(
            f"the folders have no region in common: {prediction} has {', '.join(told.parts)},"
            f" {truth} has {', '.join(true.parts)}; make a union of the same name, as in --merge"
            f" {next(iter(true.parts))}={','.join(told.parts)}"
        )
    found = find(clips, masks="none", folders={}).clips if clips else []
    return Pair(told, true, names, {one.name: one.clip for one in found})


def _check_merge(merge: Merge, known: list[str]) -> None:
    for target, parts in merge.items():
        for part in parts:
            if part not in known:
                raise BadOption(
                    f"--merge {target}: no region is named {part!r}{suggest(part, known)}"
                )


def _merged(regions: Iterable[str], merge: Merge) -> dict[str, tuple[str, ...]]:
    """What each region is made of; those that went into a union stand no longer by themselves."""
    made: dict[str, tuple[str, ...]] = {name: (name,) for name in regions}
    for target, parts in merge.items():
        held = [name for name in dict.fromkeys((target, *parts)) if name in made]
        if held:
            made[target] = tuple(part for name in held for part in made.pop(name))
    return made


def evaluate(pair: Pair, progress: Progress = lambda *_: None) -> Evaluated:
    """Compare clip by clip; one that does not fit is told and stops no other."""
    told, true = pair.told.masks.files, pair.true.masks.files
    done = Evaluated(
        pair.names,
        unpredicted=tuple(name for name in true if name not in told),
        unjudged=tuple(name for name in told if name not in true),
        notes=tuple(note for side in (pair.told, pair.true) for note in _notes(side, pair.names)),
    )
    for count, name in enumerate(true, 1):
        try:
            done.scores[name] = _compared(pair, name)
        except ValueError as error:  # BadMedia and BadLegend among them
            done.failed[name] = str(error)
        progress("eval", count, len(true))
    return done


def _notes(side: Side, names: Sequence[str]) -> Iterator[str]:
    if others := [name for name in side.parts if name not in names]:
        yield f"only the {side.what} has {', '.join(others)}: left out, background in both"
    if GREY in side.parts and not side.masks.legend:
        yield (
            f"the {side.what} has grey masks: {GREY} is what is at least half white (--levels cuts"
            " them into regions)"
        )
    if orphans := side.masks.orphans:
        yield f"{len(orphans)} masks of the {side.what} have no clip, {orphans[0]} among them"


def _compared(pair: Pair, name: str) -> MaskScores:
    predicted = name in pair.told.masks.files
    media = (
        _reference(pair.told.path(name), pair.true.path(name))
        if predicted
        else probe(pair.true.path(name))
    )
    pictures: Iterator[RgbPicture | None] = repeat(None)
    if clip := pair.clips.get(name):
        media = probe(clip)
        pictures = stream(clip) if media.video else pictures
    true = pair.true.labels(name, media, pair.names)
    nothing = repeat(torch.zeros((media.height, media.width), dtype=torch.uint8))
    told = pair.told.labels(name, media, pair.names) if predicted else nothing
    # The true labels come first: zip asks the others for no frame that those do not have.
    shots = ((mine, yours, shown) for yours, mine, shown in zip(true, told, pictures, strict=False))
    return _scored_by_window(shots, pair.names)


def _reference(told: Path, true: Path) -> Media:
    """What both masks should be like; BadMedia where they differ. A still stands for all frames."""
    first, second = probe(told), probe(true)
    sizes = [f"{one.width} x {one.height}" for one in (first, second)]
    if sizes[0] != sizes[1]:
        raise BadMedia(f"sizes differ: {told} is {sizes[0]}, {true} is {sizes[1]} (width x height)")
    if first.video and second.video and first.frames != second.frames:
        raise BadMedia(
            f"frame counts differ: {told} has {first.frames}, {true} has {second.frames}"
        )
    return second if second.video else first


def _scored_by_window(shots: Iterator[Shot], names: Sequence[str]) -> MaskScores:
    """One clip. Steadiness is of pairs of frames: a pair across two windows is a window more."""
    windows: list[MaskScores] = []
    seams: list[MaskScores] = []
    last: list[Shot] = []
    while window := list(islice(shots, WINDOW)):
        windows.append(_scored(window, names))
        if last:
            seams.append(_scored([*last, window[0]], names))
        last = window[-1:]
    whole = pool_scores(windows)
    regions = {
        name: _with_steadiness(score, name, [*windows, *seams])
        for name, score in whole.regions.items()
    }
    return replace(whole, regions=regions)


def _scored(shots: Sequence[Shot], names: Sequence[str]) -> MaskScores:
    told, true, pictures = zip(*shots, strict=True)
    frames = None if pictures[0] is None else torch.stack(pictures)
    return compare_labels(torch.stack(told), torch.stack(true), names, frames)


def _with_steadiness(score: RegionScore, name: str, windows: Sequence[MaskScores]) -> RegionScore:
    """The score with its steadiness as the mean over all pairs of frames of the windows."""

    def mean(key: str) -> float | None:
        told = [(getattr(each.regions[name], key), each.frames - 1) for each in windows]
        known = [(value, pairs) for value, pairs in told if value is not None]
        total = sum(pairs for _, pairs in known)
        return sum(value * pairs for value, pairs in known) / total if total else None

    return replace(
        score,
        temporal=mean("temporal"),
        compensated=mean("compensated"),
        truth_compensated=mean("truth_compensated"),
    )
