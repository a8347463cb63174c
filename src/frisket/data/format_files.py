"""Entries as files in folders: `clips`, `masks`, `references`, `control`, and copying there."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from frisket.data.format_base import BadSet, File, FrameFiles, Packed, SetEntry, SetPart, part_at
from frisket.media.files import ClipFiles, Findings
from frisket.media.folders.links import find_links
from frisket.media.paths import TwoFiles, replacing

CLIPS, MASKS, REFERENCES, CONTROL = "clips", "masks", "references", "control"


def pack_findings(findings: Findings, legend: Path, notes: tuple[str, ...] = ()) -> Packed:
    """A set whose files were found; `legend` may be there or not."""
    if findings.orphans:
        first = findings.orphans[0]
        notes = (*notes, f"{len(findings.orphans)} masks have no clip and stay behind: {first}")

    def entries() -> Iterator[SetEntry]:
        return map(_make_entry, findings.clips)

    there = legend.is_file()
    outside = (*findings.outside, *find_links(legend.parent, [legend] if there else []))
    return Packed(entries, legend.read_bytes() if there else None, notes, outside)


def _make_entry(clip: ClipFiles) -> SetEntry:
    return SetEntry(
        clip.name,
        part_at(clip.clip),
        clip.caption,
        {region: part_at(path) for region, path in clip.masks.items()},
        tuple(file for path in clip.references if isinstance(file := part_at(path), File)),
        None if clip.control is None else part_at(clip.control),
    )


def lay(folder: Path, entry: SetEntry) -> SetEntry:
    """Copy the files of an entry below a folder; the entry as it lies there."""
    masks = {
        region: _copy_part(mask, folder / MASKS / region / entry.name)
        for region, mask in entry.masks.items()
    }
    several = len(entry.references) > 1
    references = [
        _copy_part(
            reference, folder / REFERENCES / (f"{entry.name}_{number}" if several else entry.name)
        )
        for number, reference in enumerate(entry.references)
    ]
    pictures = tuple(reference for reference in references if isinstance(reference, File))
    return SetEntry(
        entry.name,
        _copy_part(entry.clip, folder / CLIPS / entry.name),
        entry.caption,
        masks,
        pictures,
        None if entry.control is None else _copy_part(entry.control, folder / CONTROL / entry.name),
    )


def _copy_part(part: SetPart, place: Path) -> SetPart:
    if isinstance(part, FrameFiles):
        for name, file in part.files.items():
            _write(file, place / name)
        return part_at(place)
    path = place.with_name(f"{place.name}{part.suffix}")
    _write(part, path)
    return part_at(path)


def _write(file: File, path: Path) -> None:
    if path.exists():
        raise TwoFiles(f"two files of the set would be {path}; rename a clip or a region")
    with replacing(path) as draft, draft.open("wb") as target, file.open() as source:
        shutil.copyfileobj(source, target)


def write_text(path: Path, text: str) -> None:
    """A text in UTF-8, line breaks as they are."""
    if path.exists():
        raise TwoFiles(f"two files of the set would be {path}; rename a clip")
    with replacing(path) as draft:
        draft.write_bytes(text.encode())


def path_of(part: SetPart, name: str) -> Path:
    """Where a part lies; BadSet where it lies inside of another file."""
    if part.path is None:
        raise BadSet(
            f"clip {name!r} lies inside of another file, so a manifest alone cannot name it; give a"
            " folder with -o, into which the files are copied"
        )
    return part.path
