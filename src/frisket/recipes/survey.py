"""Looks at a folder of clips for `frisket init`: what belongs together, how large, what masks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np

from frisket.media.captions import BadCaption
from frisket.media.files import Findings, Found, MaskKind, MasksNotFound, TwoFiles, find
from frisket.media.frames import BadMedia, Media, decode_grey, decode_index, probe
from frisket.media.manifest import is_manifest
from frisket.media.paths import LEGEND, is_media
from frisket.recipes.legends import read_legend

CLIP_FOLDERS = ("clips", "images", "image", "img", "videos", "video", "data", "input")
MASK_FOLDERS = ("masks", "mask", "mattes", "matte", "masklabels")
CAPTION_FOLDERS = ("captions", "caption", "txt", "text")
LOOKED_AT = 24  # clips and masks opened; enough to see sizes and kinds
MOST_LEVELS = 6  # more distinct greys than these are soft edges, not named levels


@dataclass(frozen=True, slots=True)
class Masks:
    """Where masks were found, and what is in them."""

    kind: MaskKind = "none"
    folders: Mapping[str, Path] = field(default_factory=dict)
    matched: int = 0
    levels: tuple[int, ...] = ()  # grey values, where there are just a few
    labels: tuple[int, ...] = ()  # palette or label indices
    legend: Mapping[str, int] = field(default_factory=dict)  # that lies beside them


@dataclass(frozen=True, slots=True)
class Survey:
    """What a folder holds; sizes in pixels are medians over the clips looked at."""

    clips: Path
    count: int
    videos: int
    frames: int
    height: int
    width: int
    masks: Masks
    captions: Path | None  # a folder of .txt or a .jsonl, None for beside the clips
    captioned: int
    example: str  # one caption, empty where there is none
    orphans: tuple[Path, ...]


def survey(folder: Path) -> Survey:
    """Look at a folder; raises ClipsNotFound, BadMedia or TwoFiles naming the file and the fix."""
    clips = clip_folder(folder)
    if is_manifest(clips):
        captions, findings = None, find(clips, masks="listed", folders={})
        masks = _listed(findings, clips)
    else:
        if not clips.is_dir():
            find(clips, masks="none", folders={})  # raises, and says why
        masks = masks_of(clips, folder)
        captions, findings = _captions(clips, folder, masks)
    seen = [probe(each.clip) for each in _spread(findings.found)]
    moving = [media for media in seen if media.video]
    return Survey(
        clips=clips,
        count=len(findings.found),
        videos=round(len(findings.found) * len(moving) / len(seen)),
        frames=int(median(media.frames for media in moving)) if moving else 1,
        height=int(median(media.height for media in seen)),
        width=int(median(media.width for media in seen)),
        masks=_read_masks(masks, clips, findings.found, seen),
        captions=captions,
        captioned=sum(bool(each.caption) for each in findings.found),
        example=next((each.caption for each in findings.found if each.caption), ""),
        orphans=tuple(findings.orphans),
    )


def _listed(findings: Findings, manifest: Path) -> Masks:
    """The masks that a manifest lists, as a survey shows them."""
    masks = [each.masks for each in findings.found if each.masks]
    regions = sorted({region for each in masks for region in each})
    places = {region: manifest.parent for region in regions}
    return Masks("listed", places, len(masks)) if masks else Masks()


def clip_folder(folder: Path) -> Path:
    """The folder itself where it holds media, else the sub-folder that is named after clips."""
    if not folder.is_dir() or any(is_media(path) for path in folder.iterdir()):
        return folder  # `find` says what is wrong with a folder that is none
    below = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    return next((below[name] for name in CLIP_FOLDERS if name in below), folder)


def masks_of(clips: Path, folder: Path) -> Masks:
    """The mask source that matches most clips; the first of equals: folders, sidecars, alpha."""
    best = Masks()
    for kind, folders in _candidates(clips, folder):
        try:
            findings = find(clips, masks=kind, folders=folders, caption="-")
        except (MasksNotFound, BadCaption):
            continue
        matched = sum(bool(each.masks) or each.alpha for each in findings.found)
        if matched > best.matched:
            best = Masks(kind, folders, matched)
    return best


def _candidates(clips: Path, folder: Path) -> Iterator[tuple[MaskKind, dict[str, Path]]]:
    for place in _mask_folders(clips, folder):
        yield "folder", {"": place}
        regions = {each.name: each for each in sorted(place.iterdir()) if each.is_dir()}
        if regions:
            yield from _regions(clips, regions)
    yield "sidecar", {}
    yield "alpha", {}


def _regions(clips: Path, regions: dict[str, Path]) -> Iterator[tuple[MaskKind, dict[str, Path]]]:
    """Sub-folders as regions: those that match a clip at all."""
    fitting = {}
    for name, place in regions.items():
        try:
            find(clips, masks="regions", folders={name: place}, caption="-")
        except (MasksNotFound, TwoFiles, BadCaption):
            continue
        fitting[name] = place
    if fitting:
        yield "regions", fitting


def _mask_folders(clips: Path, folder: Path) -> list[Path]:
    ends = [f"{clips.name.lower()}{joint}{name}" for joint in "_- " for name in MASK_FOLDERS]
    places = dict.fromkeys((folder, clips, clips.parent))
    found = [
        path
        for place in places
        for path in sorted(place.iterdir())
        if path.is_dir() and path.name.lower() in (*MASK_FOLDERS, *ends)
    ]
    return list(dict.fromkeys(found))


def _captions(clips: Path, folder: Path, masks: Masks) -> tuple[Path | None, Findings]:
    """The caption source that names most clips, beside the clips first, and all that was found."""
    places = dict.fromkeys((folder, clips, clips.parent))
    choices: list[Path | None] = [None]
    for place in places:
        inside = sorted(place.iterdir())
        choices += [p for p in inside if p.is_dir() and p.name.lower() in CAPTION_FOLDERS]
        choices += [p for p in inside if p.suffix.lower() == ".jsonl"]
    best: tuple[int, Path | None, Findings] | None = None
    for choice in choices:
        try:
            found = find(clips, masks=masks.kind, folders=masks.folders, captions=choice)
        except BadCaption:
            if choice is None:
                raise
            continue
        named = sum(bool(each.caption) for each in found.found)
        if best is None or named > best[0]:
            best = named, choice, found
    assert best is not None  # the first choice either is taken or raises
    return best[1], best[2]


def _spread(found: Sequence[Found]) -> list[Found]:
    """At most LOOKED_AT of them, evenly."""
    return list(found[:: max(1, -(-len(found) // LOOKED_AT))])


def _read_masks(masks: Masks, clips: Path, found: Sequence[Found], seen: Sequence[Media]) -> Masks:
    """Add the legend, or the grey levels or labels, of masks that are one file a clip."""
    one_file = masks.kind == "listed" and set(masks.folders) == {""}
    if not (one_file or masks.kind in ("folder", "sidecar")) or not seen:
        return masks
    beside = masks.folders.get("", clips) / LEGEND
    if beside.is_file():
        return replace(masks, legend=read_legend(beside))
    paths = [path for each in _spread(found) for path in each.masks.values()]
    levels: set[int] = set()
    labels: set[int] = set()
    for path in paths:
        try:
            levels |= {round(255 * value) for value in np.unique(decode_grey(path, [0]).numpy())}
        except BadMedia:  # a palette or colours: not a fault, another way of reading
            labels |= _labels(path)
    few = 2 < len(levels) <= MOST_LEVELS and not labels
    return Masks(
        masks.kind,
        masks.folders,
        masks.matched,
        levels=tuple(sorted(levels)) if few else (),
        labels=tuple(sorted(labels)),
    )


def _labels(path: Path) -> set[int]:
    try:
        return {int(value) for value in np.unique(decode_index(path, [0]).numpy())}
    except BadMedia:  # true colours; `frisket inspect` names the file and the fix
        return set()
