"""Folders: `clips` with captions in `.txt` files, `masks` of the same names, or one a region."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from frisket.data.format_base import Columns, Packed, SetContents, SetEntry
from frisket.data.format_files import (
    CLIPS,
    CONTROL,
    MASKS,
    REFERENCES,
    lay,
    pack_findings,
    write_text,
)
from frisket.media.files import Findings, find
from frisket.media.folders.controls import find_outside_controls, match_controls
from frisket.media.folders.discovery import clip_folder, find_captions, find_masks
from frisket.media.folders.references import find_references
from frisket.media.paths import LEGEND


def _with_references(findings: Findings, folder: Path) -> Findings:
    pictures = find_references(folder, [clip.name for clip in findings.clips], required=False)
    clips = [replace(clip, references=pictures.get(clip.name, ())) for clip in findings.clips]
    return replace(findings, clips=clips)


def _with_controls(findings: Findings, clips: Path, folder: Path) -> Findings:
    controls, hints = match_controls(
        {clip.name: clip.clip for clip in findings.clips}, clips, folder
    )
    return replace(
        findings,
        clips=[replace(clip, control=controls.get(clip.name)) for clip in findings.clips],
        outside=(*findings.outside, *find_outside_controls(folder, controls)),
        hints=(*findings.hints, *hints),
    )


class Folder:
    """The shelf's entry for clips, masks and captions that are files of their own."""

    summary = "clips, captions (.txt) and masks as files"
    legend = f"{MASKS}/{LEGEND}"
    frames = True
    mixed = False

    def matches(self, path: Path) -> bool:
        """Whether `path` is a folder, whatever lies in it."""
        return path.is_dir()

    def read(self, path: Path, columns: Columns) -> Packed:
        """Masks and captions as `frisket init` finds them; `references` and `control` besides."""
        clips = clip_folder(path)
        if not clips.is_dir():
            find(clips, masks="none", folders={})  # raises, and says why
        masks = find_masks(clips, path, alpha=False)
        _, findings = find_captions(clips, path, masks, paragraph=False)
        pictures = path / REFERENCES
        if clips != path and pictures.is_dir():
            findings = _with_references(findings, pictures)
        if clips != path and (path / CONTROL).is_dir():
            findings = _with_controls(findings, clips, path / CONTROL)
        beside = masks.folders.get("", clips) / LEGEND
        where = ", ".join(map(str, masks.folders.values())) or "beside the clips"
        none = "no masks lie beside the clips; transparency stays in them"
        return pack_findings(findings, beside, (f"masks: {where}" if masks.matched else none,))

    def write(
        self, folder: Path, entries: Iterable[SetEntry], contents: SetContents, shard: int
    ) -> None:
        """One file a clip, a caption, a mask, a reference picture and a control."""
        for entry in entries:
            lay(folder, entry)
            if entry.caption:
                write_text(folder / CLIPS / f"{entry.name}.txt", entry.caption)


FORMAT = Folder()
