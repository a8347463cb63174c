"""Lists the clips of a data set as the trainer finds them; nothing is opened but lists."""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR

from frisket.media.captions import find_texts
from frisket.media.folders.left_out import Leftovers
from frisket.media.folders.listing import (
    MasksNotFound,
    check_folder,
    is_sidecar,
    list_clips,
    match_folder_masks,
    match_sidecar_masks,
)
from frisket.media.folders.rejecting import BadRejects, match_lines, read_lines
from frisket.media.folders.walk import ClipsNotFound, walk_media
from frisket.media.manifest import is_manifest, read_manifest
from frisket.media.paths import VIDEOS, collecting
from frisket.studio.sets.plan import SetPlan
from frisket.studio.workspace import make_clip_id


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong, of a clip or ("") of the set; as a finding of `frisket inspect`."""

    kind: str
    severity: str
    clip: str
    sentence: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class ClipRow:
    """A clip and what belongs to it, by its files alone."""

    id: str
    name: str
    path: Path
    video: bool
    bytes: int
    mtime_ns: int
    masks: Mapping[str, Path]
    caption: Path | None  # its caption file, where there is one or one could be written
    captioned: bool  # and it is there
    text: str | None  # its caption, where a list or manifest has it
    rejected: bool

    @property
    def version(self) -> str:
        """Changes with the clip's file: part of the addresses of its pictures."""
        return shorten(f"{self.mtime_ns} {self.bytes}")


@dataclass(frozen=True, slots=True)
class SetListing:
    """All clips of a set in the trainer's order, and what is wrong with how they lie there."""

    rows: tuple[ClipRow, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    orphans: tuple[Path, ...] = ()
    left: tuple[str, ...] = field(default=())  # what of the folder is not read, a sentence each


def list_set(plan: SetPlan) -> SetListing:
    """The clips as `media.files.find` gives them; a fault becomes a trouble, never an error."""
    troubles: list[Trouble] = []
    if plan.fault:
        fix = "Mend the configuration; until then clips and masks are shown by their folders."
        troubles.append(Trouble("config", "error", "", plan.fault, fix))
    clips_path = plan.clip_set.clips
    try:
        with collecting() as refusals:
            contents = _list_manifest(plan) if is_manifest(clips_path) else _list_folder(plan)
    except (ValueError, OSError) as error:
        unconfigured = plan.clip_set.config is None
        if isinstance(error, ClipsNotFound) and (clips_path.is_dir() or unconfigured):
            return SetListing(troubles=tuple(troubles))  # an empty folder is where one begins
        return SetListing(troubles=(*troubles, Trouble("unreadable", "error", "", str(error))))
    clips, masks, orphans, left, faults = contents
    troubles += faults
    troubles += [Trouble("ambiguous", "error", clip, str(error)) for clip, error in refusals]
    return SetListing(
        tuple(_make_rows(plan, clips, masks, troubles)), tuple(troubles), tuple(orphans), left
    )


_Contents = tuple[
    dict[str, Path], dict[str, dict[str, Path]], list[Path], tuple[str, ...], list[Trouble]
]


def _list_folder(plan: SetPlan) -> _Contents:
    root = plan.clip_set.clips
    check_folder(root)
    mask_folders = frozenset(folder.resolve() for folder in plan.folders.values()) - {
        root.resolve()
    }
    left = Leftovers((plan.wording.suffix.lower(),))
    media = list(walk_media(root, skip=mask_folders, leaf=is_sidecar, left=left))
    clips = list_clips(root, media, left)
    masks: dict[str, dict[str, Path]] = {name: {} for name in clips}
    orphans: list[Path] = []
    faults: list[Trouble] = []
    for region, folder in _list_mask_places(plan):
        passed = Leftovers((".json",))
        try:
            if folder is None:
                matches, without = match_sidecar_masks(clips, root, media)
            else:
                matches, without = match_folder_masks(clips, root, folder, region, passed)
        except MasksNotFound as error:
            faults.append(_explain_no_masks(folder, error))
            continue
        orphans += without
        for name, path in matches.items():
            masks[name][region] = path
    hints = tuple(str(hint) for hint in left.hints(root, clips, plan.wording.suffix) if hint.grave)
    return clips, masks, orphans, hints, faults


def _explain_no_masks(folder: Path | None, error: MasksNotFound) -> Trouble:
    """A folder that is empty or not there yet is where masks will be made, and no fault so far."""
    with suppress(OSError):
        if folder is not None and not (folder.is_dir() and any(folder.iterdir())):
            sentence = f"{folder} holds no mask yet: training refuses to start like this."
            return Trouble("no mask at all", "warning", "", sentence, "Make masks, or paint some.")
    return Trouble("no mask at all", "error", "", str(error), "Correct the folder or the names.")


def _list_mask_places(plan: SetPlan) -> list[tuple[str, Path | None]]:
    if plan.source in ("folder", "regions"):
        return list(plan.folders.items())
    return [("", None)] if plan.source == "sidecar" else []


def _list_manifest(plan: SetPlan) -> _Contents:
    lines = read_manifest(plan.clip_set.clips)
    clips = {line.name: line.clip for line in lines}
    masks = {line.name: dict(line.masks) if plan.source == "listed" else {} for line in lines}
    return clips, masks, [], (), []


def _make_rows(
    plan: SetPlan,
    clips: Mapping[str, Path],
    masks: Mapping[str, Mapping[str, Path]],
    troubles: list[Trouble],
) -> list[ClipRow]:
    rejected = _read_rejected(plan, clips, troubles)
    texts, listed = _find_captions(plan, clips, troubles)
    set_id, root = plan.clip_set.id, f"{plan.clip_set.clips}{os.sep}"
    rows = []
    for name, path in clips.items():
        try:
            stat = path.stat()
        except OSError as error:
            troubles.append(Trouble("unreadable", "error", name, f"{path}: {error.strerror}"))
            continue
        caption_path = texts.get(name)
        rows.append(
            ClipRow(
                id=make_clip_id(set_id, _place(path, root, name)),
                name=name,
                path=path,
                video=S_ISDIR(stat.st_mode) or path.suffix.lower() in VIDEOS,
                bytes=stat.st_size,
                mtime_ns=stat.st_mtime_ns,
                masks=masks.get(name, {}),
                caption=caption_path or _place_caption(plan, name, path),
                captioned=caption_path is not None,
                text=listed.get(name),
                rejected=name in rejected,
            )
        )
    return rows


def _place(path: Path, root: str, name: str) -> str:
    """Where a clip lies below the set's folder; its name, where a manifest brings it from afar."""
    text = str(path)
    return text[len(root) :] if text.startswith(root) else name


def _read_rejected(
    plan: SetPlan, clips: Mapping[str, Path], troubles: list[Trouble]
) -> frozenset[str]:
    if not plan.rejects.is_file() and not plan.obeyed:
        return frozenset()
    try:
        rejects = match_lines(read_lines(plan.rejects), clips)
    except BadRejects as error:
        troubles.append(Trouble("rejected", "error", "", str(error)))
        return frozenset()
    if rejects.strangers:
        first = ", ".join(rejects.strangers[:3])
        sentence = f"{plan.rejects}: {len(rejects.strangers)} lines name no clip ({first})."
        troubles.append(Trouble("rejected", "warning", "", sentence, "Take them out of the list."))
    if clips and len(rejects.names) == len(clips):
        sentence = f"All {len(clips)} clips are rejected: training refuses to start."
        troubles.append(Trouble("rejected", "error", "", sentence, "Keep some of them."))
    return rejects.names


def _find_captions(
    plan: SetPlan, clips: Mapping[str, Path], troubles: list[Trouble]
) -> tuple[dict[str, Path], dict[str, str]]:
    """Caption files by clip, and captions that a list or manifest holds."""
    root, source = plan.clip_set.clips, plan.captions
    if is_manifest(root):
        lines = {line.name: line.caption for line in read_manifest(root)}
        listed = {name: text for name, text in lines.items() if text is not None}
        caption_files = {name: plan.wording.beside(path) for name, path in clips.items()}
        return {n: p for n, p in caption_files.items() if n not in listed and p.is_file()}, listed
    if source is not None and not source.is_dir():
        sentence = f"{source}: captions of this set are one list, and are edited there."
        troubles.append(Trouble("captions", "note", "", sentence))
        return {}, {}
    return find_texts(clips, root, source, plan.wording.suffix), {}


def _place_caption(plan: SetPlan, name: str, path: Path) -> Path | None:
    """Where a new caption file would lie; None where captions are a list."""
    source = plan.captions
    if source is None:
        return None if path.is_dir() else plan.wording.beside(path)
    return source / f"{name}{plan.wording.suffix}" if source.is_dir() else None


def shorten(text: str) -> str:
    """A few letters that change when a text does."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]
