"""What lies around a folder of clips: the masks and captions that fit it best."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from frisket.media.captions import BadCaption
from frisket.media.files import Findings, MaskKind, MasksNotFound, TwoFiles, find
from frisket.media.paths import is_media

CLIP_FOLDERS = ("clips", "images", "image", "img", "videos", "video", "data", "input")
MASK_FOLDERS = ("masks", "mask", "mattes", "matte", "masklabels")
CAPTION_FOLDERS = ("captions", "caption", "txt", "text")


@dataclass(frozen=True, slots=True)
class DiscoveredMasks:
    """Where masks were found, and what is in them."""

    kind: MaskKind = "none"
    folders: Mapping[str, Path] = field(default_factory=dict)
    matched: int = 0
    levels: tuple[int, ...] = ()  # grey values, where there are just a few
    labels: tuple[int, ...] = ()  # palette or label indices
    legend: Mapping[str, int] = field(default_factory=dict)  # that lies beside them


def clip_folder(folder: Path) -> Path:
    """The folder itself where it holds media, else the sub-folder that is named after clips."""
    if not folder.is_dir() or any(is_media(path) for path in folder.iterdir()):
        return folder  # `find` says what is wrong with a folder that is none
    folders = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    return next((folders[name] for name in CLIP_FOLDERS if name in folders), folder)


def find_masks(clips: Path, folder: Path, *, alpha: bool = True) -> DiscoveredMasks:
    """The mask source that matches most clips; the first of equals: folders, sidecars, alpha.

    Only for `alpha` are the clips opened.
    """
    best = DiscoveredMasks()
    for kind, folders in _list_candidates(clips, folder):
        if kind == "alpha" and not alpha:
            continue
        try:
            findings = find(clips, masks=kind, folders=folders, caption="-")
        except (MasksNotFound, BadCaption):
            continue
        matched = sum(bool(clip.masks) or clip.alpha for clip in findings.clips)
        if matched > best.matched:
            best = DiscoveredMasks(kind, folders, matched)
    return best


def _list_candidates(clips: Path, folder: Path) -> Iterator[tuple[MaskKind, dict[str, Path]]]:
    for place in _list_mask_folders(clips, folder):
        yield "folder", {"": place}
        regions = {path.name: path for path in sorted(place.iterdir()) if path.is_dir()}
        if regions:
            yield from _match_regions(clips, regions)
    yield "sidecar", {}
    yield "alpha", {}


def _match_regions(
    clips: Path, regions: dict[str, Path]
) -> Iterator[tuple[MaskKind, dict[str, Path]]]:
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


def _list_mask_folders(clips: Path, folder: Path) -> list[Path]:
    ends = [f"{clips.name.lower()}{joint}{name}" for joint in "_- " for name in MASK_FOLDERS]
    places = dict.fromkeys((folder, clips, clips.parent))
    paths = [
        path
        for place in places
        for path in sorted(place.iterdir())
        if path.is_dir() and path.name.lower() in (*MASK_FOLDERS, *ends)
    ]
    return list(dict.fromkeys(paths))


def find_captions(
    clips: Path, folder: Path, masks: DiscoveredMasks, *, paragraph: bool = True
) -> tuple[Path | None, Findings]:
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
            findings = find(
                clips,
                masks=masks.kind,
                folders=masks.folders,
                captions=choice,
                paragraph=paragraph,
            )
        except BadCaption:
            if choice is None:
                raise
            continue
        count = sum(bool(clip.caption) for clip in findings.clips)
        if best is None or count > best[0]:
            best = count, choice, findings
    assert best is not None  # the first choice either is taken or raises
    return best[1], best[2]
