"""Find the clip, caption and masks that belong together."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from frisket.media.captions import (
    PLAIN,
    Shortening,
    Tidy,
    Wording,
    find_texts,
    read_captions,
    read_text,
)
from frisket.media.folders.controls import find_outside_controls, match_controls
from frisket.media.folders.left_out import Hint, Leftovers, look_alike_hints
from frisket.media.folders.links import find_outside
from frisket.media.folders.listing import (
    MasksNotFound,
    check_folder,
    is_aside,
    is_sidecar,
    list_clips,
    match_folder_masks,
    match_sidecar_masks,
)
from frisket.media.folders.rejecting import read_rejects
from frisket.media.folders.walk import ClipsNotFound, walk_media
from frisket.media.frames import BadMedia, probe
from frisket.media.manifest import ManifestLine, is_manifest, read_manifest
from frisket.media.paths import TwoFiles, refuse

__all__ = [
    "ClipFiles",
    "ClipsNotFound",
    "Findings",
    "MaskKind",
    "MasksNotFound",
    "TwoFiles",
    "find",
]

_log = logging.getLogger(__name__)

MaskKind = Literal["none", "folder", "sidecar", "alpha", "regions", "listed"]


@dataclass(frozen=True, slots=True)
class ClipFiles:
    """One clip and what belongs to it."""

    name: str  # path below the clip folder, "/" between folders, without suffix, NFC
    clip: Path
    caption: str
    masks: Mapping[str, Path]  # region -> file or folder of frames; "" one file for all regions
    alpha: bool  # the mask is the clip's own alpha channel
    references: tuple[Path, ...] = ()  # pictures a manifest lists for an edit model
    control: Path | None = None  # what structure it has, for a ControlNet: file, folder of frames


@dataclass(frozen=True, slots=True)
class Findings:
    """All clips of a data set in a fixed order, and what is left over."""

    clips: list[ClipFiles]
    orphans: list[Path]  # masks, or whole folders of them, without a clip
    uncaptioned: list[str]  # names of clips whose caption is empty
    outside: tuple[Path, ...] = ()  # clips, masks, captions that links bring from elsewhere
    hints: tuple[Hint, ...] = ()  # what of the folder is not read, or read only in part
    rejected: tuple[str, ...] = ()  # names of clips that a list leaves out; in no other field


def _find_alpha_clips(clips: Mapping[str, Path], root: Path) -> set[str]:
    names = {name for name, path in clips.items() if _see_through(name, path)}
    if not names:
        raise MasksNotFound(
            f'{root}: masks = "alpha", but none of the {len(clips)} clips (such as'
            f" {next(iter(clips.values())).name}) has an alpha channel; save them with transparency"
            " (PNG, WebP), or give a mask folder"
        )
    return names


def _see_through(name: str, path: Path) -> bool:
    try:
        return probe(path).alpha
    except BadMedia as error:
        refuse(name, error)
        return False


def _match_masks(
    kind: MaskKind,
    clips: Mapping[str, Path],
    root: Path,
    media: list[Path],
    folders: Mapping[str, Path],
) -> tuple[dict[str, dict[str, Path]], list[Path], list[Hint]]:
    """Masks by clip and region, orphans, and what of the folders is not read."""
    hints: list[Hint] = []
    by_clip: dict[str, dict[str, Path]] = {name: {} for name in clips}
    orphans: list[Path] = []
    if kind in ("folder", "regions"):
        matches = []
        for region, folder in folders.items():
            left = Leftovers((".json",))  # `frisket masks` notes there how masks were made
            matches.append((region, match_folder_masks(clips, root, folder, region, left)))
            hints += left.hints(folder, {}, "")
    elif kind == "sidecar":
        matches = [("", match_sidecar_masks(clips, root, media))]
    else:
        matches = []
    for region, (paths, without) in matches:
        orphans += without
        for name, path in paths.items():
            by_clip[name][region] = path
    return by_clip, orphans, hints


def _from_manifest(
    manifest: Path,
    kind: MaskKind,
    folders: Mapping[str, Path],
    captions: Path | None,
    caption: str | None,
    tidy: Shortening,
    wording: Wording,
    reject: Path | None,
    control: Path | None,
) -> Findings:
    lines = read_manifest(manifest)
    rejects = read_rejects(reject, {line.name: None for line in lines})
    listed_clips = {line.name: line.clip for line in lines}
    if kind == "sidecar":
        raise MasksNotFound(
            f'{manifest}: masks = "sidecar" looks beside the clips of a folder; give each line of'
            " the manifest its `mask`"
        )
    by_clip, orphans, hints = _match_masks(kind, listed_clips, manifest, [], folders)
    controls, passed = _match_listed_controls(lines, manifest, control)
    lines = [line for line in lines if line.name not in rejects.names]
    listed_clips = {line.name: line.clip for line in lines}
    _say_listed(manifest, kind, lines)
    if kind == "listed":
        by_clip = {line.name: dict(line.masks) for line in lines}
    with_alpha = _find_alpha_clips(listed_clips, manifest) if kind == "alpha" else set()
    texts = _read_listed_texts(lines, manifest, captions, tidy, wording)
    clips = [
        ClipFiles(
            line.name,
            line.clip,
            texts.get(line.name) or caption or "",
            by_clip[line.name],
            line.name in with_alpha,
            line.references,
            controls.get(line.name),
        )
        for line in lines
    ]
    places = _locate_texts(listed_clips, manifest.parent, captions, wording)
    outside = _find_links(manifest.parent, clips, folders, captions, places, control)
    uncaptioned = _list_uncaptioned(clips)
    all_hints = (*hints, *passed, *rejects.list_hints(reject), *tidy.hints(texts))
    return Findings(clips, orphans, uncaptioned, outside, all_hints, tuple(sorted(rejects.names)))


def _find_links(
    root: Path,
    clips: list[ClipFiles],
    folders: Mapping[str, Path],
    captions: Path | None,
    texts: Mapping[str, Path],
    control: Path | None,
) -> tuple[Path, ...]:
    files = [path for clip in clips for path in (clip.clip, *clip.references)]
    own_captions = [texts[clip.name] for clip in clips if clip.name in texts]
    controls = {clip.name: clip.control for clip in clips if clip.control is not None}
    outside = find_outside(
        root, files, [clip.masks for clip in clips], folders, (captions or root, own_captions)
    )
    return (*outside, *find_outside_controls(control, controls))


def _match_listed_controls(
    lines: list[ManifestLine], manifest: Path, folder: Path | None
) -> tuple[dict[str, Path], list[Hint]]:
    """Those of a folder; without one those the lines of a manifest name."""
    if folder is not None:
        return match_controls({line.name: line.clip for line in lines}, manifest, folder)
    return {line.name: line.control for line in lines if line.control is not None}, []


def _match_controls(
    clips: Mapping[str, Path], root: Path, folder: Path | None
) -> tuple[dict[str, Path], list[Hint]]:
    return ({}, []) if folder is None else match_controls(clips, root, folder)


def _read_texts(
    everything: Mapping[str, Path],
    named_clips: Mapping[str, Path],
    root: Path,
    captions: Path | None,
    tidy: Shortening,
    wording: Wording,
) -> dict[str, str]:
    """Captions of `named_clips`, from a list that may name rejected ones of `everything` too."""
    listed = captions is not None and not captions.is_dir()
    texts = read_captions(
        everything if listed else named_clips, root, captions, tidy, wording.suffix
    )
    return {name: text for name, text in texts.items() if name in named_clips}


def _list_uncaptioned(clips: list[ClipFiles]) -> list[str]:
    return [clip.name for clip in clips if not clip.caption]


def _read_listed_texts(
    lines: list[ManifestLine],
    manifest: Path,
    captions: Path | None,
    tidy: Shortening,
    wording: Wording,
) -> dict[str, str]:
    """Those of `captions`; else those that lines hold, for other clips those beside them."""
    if captions is not None:
        clips = {line.name: line.clip for line in lines}
        return read_captions(clips, manifest.parent, captions, tidy, wording.suffix)
    texts = {line.name: tidy(line.caption) for line in lines if line.caption is not None}
    silent = {line.name: line.clip for line in lines if line.name not in texts}
    return texts | _read_beside(silent, tidy, wording)


def _locate_texts(
    clips: Mapping[str, Path], root: Path, captions: Path | None, wording: Wording
) -> dict[str, Path]:
    """Where the caption file of each clip of a manifest lies, or would lie."""
    if captions is None:
        return {name: wording.beside(clip) for name, clip in clips.items()}
    return find_texts(clips, root, captions, wording.suffix)


def _read_beside(clips: Mapping[str, Path], tidy: Tidy, wording: Wording) -> dict[str, str]:
    """`name.txt` beside each clip, wherever it lies."""
    paths = {name: wording.beside(clip) for name, clip in clips.items() if not clip.is_dir()}
    return {name: tidy(read_text(text)) for name, text in paths.items() if text.is_file()}


def _check_source(masks: str, folders: Mapping[str, Path]) -> None:
    if masks not in get_args(MaskKind):
        raise ValueError(f"no mask source {masks!r}; there are: {', '.join(get_args(MaskKind))}")
    if masks in ("folder", "regions") and not folders:
        raise ValueError(f'masks = "{masks}" needs a folder')


def _warn_of_unused(clips: Path, media: Iterable[Path]) -> None:
    count = sum(is_aside(path) for path in media)
    if count:
        _log.warning(
            '%s: %d masks lie beside the clips and are not used; masks = "sidecar" takes them',
            clips,
            count,
        )


def _say_listed(manifest: Path, kind: MaskKind, lines: list[ManifestLine]) -> None:
    masked = sum(bool(line.masks) for line in lines)
    if kind == "listed":
        _log.info("%s: lists masks for %d of %d clips", manifest, masked, len(lines))
    elif masked:
        message = "%s: lists %d masks that are not used, for the config says masks = %r"
        _log.warning(message, manifest, masked, kind)


def find(
    clips: Path,
    *,
    masks: MaskKind,
    folders: Mapping[str, Path],
    captions: Path | None = None,
    caption: str | None = None,
    wording: Wording = PLAIN,
    paragraph: bool = True,
    reject: Path | None = None,
    control: Path | None = None,
) -> Findings:
    """Find every clip of a folder (sub-folders included) with its caption and masks.

    `clips` may be a manifest instead (see `read_manifest`): masks = "listed" takes the masks it
    lists, and a clip whose line has no caption takes `name.txt` beside it.

    `masks`: "folder" and "regions" match the names below each of `folders` ({"": path}, or region
    to path) with those below `clips`; "sidecar" takes `name.mask.*`, `name-masklabel.*` and frame
    folders `name.mask` beside the clips; "alpha" marks clips with an alpha channel. A mask is an
    image, a video or a folder of frames. Captions come from `captions` (see `read_captions`), else
    are `caption`, else empty and listed; `wording` says how caption files end and what of them is
    read, `paragraph` False leaves captions as they are written. Clips that the list `reject` names
    (see `read_rejects`) are left out, of their captions and masks nothing is said. `control` is the
    folder of control pictures (see `match_controls`); without one those a manifest lists are there.
    The order is that of the names.

    Raises ClipsNotFound, MasksNotFound (a mask source that matches nothing), ControlNotFound,
    TwoFiles, BadName, BadCaption, BadManifest, BadRejects.
    """
    _check_source(masks, folders)
    short = Shortening(wording if paragraph else None)
    if is_manifest(clips):
        return _from_manifest(
            clips, masks, folders, captions, caption, short, wording, reject, control
        )
    check_folder(clips)
    if masks == "listed":
        raise MasksNotFound(f'{clips}: masks = "listed" is for a .jsonl manifest, this is a folder')
    passed_folders = [*folders.values(), *([] if control is None else [control])]
    skip = frozenset(folder.resolve() for folder in passed_folders) - {clips.resolve()}
    left = Leftovers((wording.suffix.lower(),))
    media = list(walk_media(clips, skip=skip, leaf=is_sidecar, left=left))
    everything = list_clips(clips, media, left)
    rejects = read_rejects(reject, everything)
    by_clip, orphans, passed = _match_masks(masks, everything, clips, media, folders)
    controls, unread = _match_controls(everything, clips, control)
    named_clips = {name: path for name, path in everything.items() if name not in rejects.names}
    with_alpha = _find_alpha_clips(named_clips, clips) if masks == "alpha" else set()
    if masks == "none":
        _warn_of_unused(clips, media)
    texts = _read_texts(everything, named_clips, clips, captions, short, wording)
    files = [
        ClipFiles(
            name,
            path,
            texts.get(name, caption or ""),
            by_clip[name],
            name in with_alpha,
            control=controls.get(name),
        )
        for name, path in named_clips.items()
    ]
    texts_at = find_texts(named_clips, clips, captions, wording.suffix)
    outside = _find_links(clips, files, folders, captions, texts_at, control)
    left.files = [path for path in left.files if path != captions]
    hints = (
        *left.hints(clips, everything, wording.suffix),
        *rejects.list_hints(reject),
        *passed,
        *unread,
        *look_alike_hints(clips, named_clips),
        *short.hints(texts),
    )
    uncaptioned = _list_uncaptioned(files)
    return Findings(files, orphans, uncaptioned, outside, hints, tuple(sorted(rejects.names)))
