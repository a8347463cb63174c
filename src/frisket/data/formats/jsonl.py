"""A manifest, `set.jsonl`, and the files it names; or a manifest alone, of files where they are."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from frisket.data.format_base import BadSet, Columns, Packed, SetContents, SetEntry
from frisket.data.format_files import lay, pack_findings, path_of
from frisket.media.files import find
from frisket.media.manifest import (
    CONTROL,
    MASK,
    NAME,
    PATH_KEYS,
    REFERENCES,
    TEXT_KEYS,
    is_manifest,
)
from frisket.media.paths import LEGEND, escape, is_text, replacing

FILE = "set.jsonl"


def _line(entry: SetEntry, folder: Path) -> dict[str, Any]:
    def relative(path: Path) -> str:
        if not is_text(path):
            raise BadSet(
                f"{escape(path)}: its path is not UTF-8, so no manifest can name it; rename it, or"
                " copy the set with --to folder"
            )
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()

    masks = {region: relative(path_of(part, entry.name)) for region, part in entry.masks.items()}
    line: dict[str, Any] = {
        PATH_KEYS[0]: relative(path_of(entry.clip, entry.name)),
        NAME: entry.name,
        TEXT_KEYS[0]: entry.caption,
    }
    if masks:
        line[MASK] = masks.get("", masks)
    if entry.references:
        line[REFERENCES] = [relative(path_of(part, entry.name)) for part in entry.references]
    if entry.control is not None:
        line[CONTROL] = relative(path_of(entry.control, entry.name))
    return line


class Manifest:
    """A manifest and its files."""

    summary = "a manifest and the files it names"
    legend = LEGEND
    frames = mixed = True

    def matches(self, path: Path) -> bool:
        """A manifest, or the folder of one called `set.jsonl`."""
        return is_manifest(path) or (path / FILE).is_file()

    def read(self, path: Path, columns: Columns) -> Packed:
        """All that the manifest lists."""
        manifest = path / FILE if path.is_dir() else path
        findings = find(manifest, masks="listed", folders={}, paragraph=False)
        return pack_findings(findings, manifest.parent / LEGEND)

    def write(
        self, folder: Path, entries: Iterable[SetEntry], contents: SetContents, shard: int
    ) -> None:
        """The files as in a folder, and the manifest instead of caption files."""
        self.name(folder / FILE, (lay(folder, entry) for entry in entries))

    def name(self, manifest: Path, entries: Iterable[SetEntry]) -> None:
        """The manifest alone; BadSet for entries that are no files of their own."""
        with replacing(manifest) as draft, draft.open("w", encoding="utf-8", newline="\n") as lines:
            for entry in entries:
                json.dump(_line(entry, manifest.parent), lines, ensure_ascii=False)
                lines.write("\n")


FORMAT = Manifest()
