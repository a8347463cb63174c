"""Looks at a folder of clips for `frisket init`: what belongs together, how large, what masks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from frisket.config.label_map import read_legend
from frisket.media.files import ClipFiles, Findings, find
from frisket.media.folders.discovery import (
    CLIP_FOLDERS,
    DiscoveredMasks,
    clip_folder,
    find_captions,
    find_masks,
)
from frisket.media.frames import BadMedia, Media, decode_grey, decode_index, probe
from frisket.media.manifest import is_manifest
from frisket.media.paths import LEGEND

__all__ = [
    "CLIP_FOLDERS",
    "DatasetScan",
    "DiscoveredMasks",
    "clip_folder",
    "find_masks",
    "scan_dataset",
]

LOOKED_AT = 24  # clips and masks opened; enough to see sizes and kinds
MOST_LEVELS = 6  # more distinct greys than these are soft edges, not named levels


@dataclass(frozen=True, slots=True)
class DatasetScan:
    """What a folder holds; sizes in pixels are medians over the clips looked at."""

    clips: Path
    count: int
    videos: int
    frames: int
    height: int
    width: int
    masks: DiscoveredMasks
    captions: Path | None  # a folder of .txt or a .jsonl, None for beside the clips
    captioned: int
    example: str  # one caption, empty where there is none
    orphans: tuple[Path, ...]
    hints: tuple[str, ...] = ()  # what of the folder is not read


def scan_dataset(folder: Path) -> DatasetScan:
    """Look at a folder; raises ClipsNotFound, BadMedia or TwoFiles naming the file and the fix."""
    clips = clip_folder(folder)
    if is_manifest(clips):
        captions, findings = None, find(clips, masks="listed", folders={})
        masks = _list_masks(findings, clips)
    else:
        if not clips.is_dir():
            find(clips, masks="none", folders={})  # raises, and says why
        masks = find_masks(clips, folder)
        captions, findings = find_captions(clips, folder, masks)
    samples = [probe(clip.clip) for clip in _sample_evenly(findings.clips)]
    moving = [media for media in samples if media.video]
    return DatasetScan(
        clips=clips,
        count=len(findings.clips),
        videos=round(len(findings.clips) * len(moving) / len(samples)),
        frames=int(median(media.frames for media in moving)) if moving else 1,
        height=int(median(media.height for media in samples)),
        width=int(median(media.width for media in samples)),
        masks=_read_masks(masks, clips, findings.clips, samples),
        captions=captions,
        captioned=sum(bool(clip.caption) for clip in findings.clips),
        example=next((clip.caption for clip in findings.clips if clip.caption), ""),
        orphans=tuple(findings.orphans),
        hints=tuple(map(str, findings.hints)),
    )


def _list_masks(findings: Findings, manifest: Path) -> DiscoveredMasks:
    """The masks that a manifest lists, as a survey shows them."""
    masks = [clip.masks for clip in findings.clips if clip.masks]
    regions = sorted({region for files in masks for region in files})
    folders = {region: manifest.parent for region in regions}
    return DiscoveredMasks("listed", folders, len(masks)) if masks else DiscoveredMasks()


def _sample_evenly(clips: Sequence[ClipFiles]) -> list[ClipFiles]:
    """At most LOOKED_AT of them, evenly."""
    return list(clips[:: max(1, -(-len(clips) // LOOKED_AT))])


def _read_masks(
    masks: DiscoveredMasks, clips: Path, files: Sequence[ClipFiles], samples: Sequence[Media]
) -> DiscoveredMasks:
    """Add the legend, or the grey levels or labels, of masks that are one file a clip."""
    single = masks.kind == "listed" and set(masks.folders) == {""}
    if not (single or masks.kind in ("folder", "sidecar")) or not samples:
        return masks
    legend = masks.folders.get("", clips) / LEGEND
    if legend.is_file():
        return replace(masks, legend=read_legend(legend))
    levels, labels = _read_values(
        [path for clip in _sample_evenly(files) for path in clip.masks.values()]
    )
    few = 2 < len(levels) <= MOST_LEVELS and not labels
    return DiscoveredMasks(
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
            labels |= _read_labels(path)
    return levels, labels


def _read_labels(path: Path) -> set[int]:
    try:
        return {int(value) for value in np.unique(decode_index(path, [0]).numpy())}
    except BadMedia:  # true colours; `frisket inspect` names the file and the fix
        return set()
