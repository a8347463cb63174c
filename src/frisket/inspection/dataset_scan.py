"""Looks at a folder of clips for `frisket init`: what belongs together, how large, what masks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from frisket.config.label_map import read_legend
from frisket.media.files import Findings, Found, find
from frisket.media.folders.discovery import CLIP_FOLDERS, Masks, captioned, clip_folder, masks_of
from frisket.media.frames import BadMedia, Media, decode_grey, decode_index, probe
from frisket.media.manifest import is_manifest
from frisket.media.paths import LEGEND

__all__ = ["CLIP_FOLDERS", "Masks", "Survey", "clip_folder", "masks_of", "survey"]

LOOKED_AT = 24  # clips and masks opened; enough to see sizes and kinds
MOST_LEVELS = 6  # more distinct greys than these are soft edges, not named levels


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
    hints: tuple[str, ...] = ()  # what of the folder is not read


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
        captions, findings = captioned(clips, folder, masks)
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
        hints=tuple(map(str, findings.hints)),
    )


def _listed(findings: Findings, manifest: Path) -> Masks:
    """The masks that a manifest lists, as a survey shows them."""
    masks = [clip.masks for clip in findings.found if clip.masks]
    regions = sorted({region for files in masks for region in files})
    folders = {region: manifest.parent for region in regions}
    return Masks("listed", folders, len(masks)) if masks else Masks()


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
    levels, labels = _read_values([path for each in _spread(found) for path in each.masks.values()])
    few = 2 < len(levels) <= MOST_LEVELS and not labels
    return Masks(
        masks.kind,
        masks.folders,
        masks.matched,
        levels=tuple(sorted(levels)) if few else (),
        labels=tuple(sorted(labels)),
    )


def _read_values(paths: Sequence[Path]) -> tuple[set[int], set[int]]:
    """Grey levels (0 to 255) of the masks that are grey, label numbers of the others."""
    levels: set[int] = set()
    labels: set[int] = set()
    for path in paths:
        try:
            levels |= {round(255 * value) for value in np.unique(decode_grey(path, [0]).numpy())}
        except BadMedia:  # a palette or colours: not a fault, another way of reading
            labels |= _labels(path)
    return levels, labels


def _labels(path: Path) -> set[int]:
    try:
        return {int(value) for value in np.unique(decode_index(path, [0]).numpy())}
    except BadMedia:  # true colours; `frisket inspect` names the file and the fix
        return set()
