"""The opened folder: its configurations, data sets and clips, each known by an id.

The page names things by id; the path behind an id is never the page's word.
"""

import hashlib
import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frisket.media.folders.left_out import Leftovers
from frisket.media.folders.listing import is_sidecar, list_clips
from frisket.media.folders.walk import ClipsNotFound, walk_media
from frisket.media.manifest import is_manifest, read_manifest
from frisket.media.paths import VIDEOS, collecting, is_media


class UnknownId(LookupError):
    """An id that nothing in the opened folder has."""


@dataclass(frozen=True, slots=True)
class ClipSet:
    """A data set: one `[[data]]` of a configuration, or the opened folder where there is none."""

    id: str
    name: str
    clips: Path
    masks: Path | None
    config: Path | None
    index: int


@dataclass(frozen=True, slots=True)
class WorkspaceClip:
    """A picture or video; `name` is its path below the clip folder without suffix."""

    id: str
    set_id: str
    name: str
    path: Path
    video: bool


@dataclass(slots=True)
class Workspace:
    """What lies in one folder; looked at anew when it is listed."""

    root: Path
    _clips: dict[str, WorkspaceClip] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self.root.resolve()

    def list_configs(self) -> list[Path]:
        """The configurations in the folder itself, by name."""
        return [path for path in sorted(self.root.glob("*.toml")) if _read_data(path) is not None]

    def list_sets(self) -> list[ClipSet]:
        """The data sets of all configurations; without one, the folder's own pictures."""
        sets = [
            self._describe(config, index, entry)
            for config in self.list_configs()
            for index, entry in enumerate(_read_data(config) or [])
        ]
        return sets or [self._describe_bare()]

    def get_set(self, set_id: str) -> ClipSet:
        """A data set by its id; UnknownId where there is none."""
        for clip_set in self.list_sets():
            if clip_set.id == set_id:
                return clip_set
        raise UnknownId(f"no data set has the id {set_id!r}")

    def list_clips(self, clip_set: ClipSet) -> list[WorkspaceClip]:
        """The clips of a set in the trainer's order; none where its folder is missing or empty."""
        folder = clip_set.clips
        if is_manifest(folder):
            return self._list_manifest(clip_set)
        if not folder.is_dir():
            return []
        mask_folders = {clip_set.masks.resolve()} if clip_set.masks else set()
        left = Leftovers()
        try:
            with collecting():
                media = walk_media(
                    folder, skip=frozenset(mask_folders - {folder}), leaf=is_sidecar, left=left
                )
                paths = list_clips(folder, list(media), left)
        except ClipsNotFound:
            return []
        clips = [self._make_clip(clip_set, path, name) for name, path in paths.items()]
        self.remember(clips)
        return clips

    def remember(self, clips: Iterable[WorkspaceClip]) -> None:
        """Know clips that were listed elsewhere, those of manifests among them."""
        self._clips.update((clip.id, clip) for clip in clips)

    def get_clip(self, clip_id: str) -> WorkspaceClip:
        """A clip by its id; UnknownId where there is none, or its file has gone."""
        if clip_id not in self._clips:
            for clip_set in self.list_sets():
                self.list_clips(clip_set)
        clip = self._clips.get(clip_id)
        if clip is None or not clip.path.exists():
            raise UnknownId(f"no clip has the id {clip_id!r}")
        return clip

    def _list_manifest(self, clip_set: ClipSet) -> list[WorkspaceClip]:
        try:
            lines = read_manifest(clip_set.clips)
        except (ValueError, OSError):  # the data page says what is wrong with it
            return []
        clips = [self._make_clip(clip_set, line.clip, line.name) for line in lines]
        self.remember(clips)
        return clips

    def _describe(self, config: Path, index: int, entry: dict[str, Any]) -> ClipSet:
        base = config.parent
        clips = (base / str(entry.get("clips", "."))).resolve()
        masks = entry.get("masks")
        place = masks.get("path") if isinstance(masks, dict) else masks
        folder = (base / place).resolve() if isinstance(place, str) else None
        if place in ("sidecar", "alpha", "none"):
            folder = None
        return ClipSet(make_id(config.name, str(index)), clips.name, clips, folder, config, index)

    def _describe_bare(self) -> ClipSet:
        inner = self.root / "clips"
        clips = inner if inner.is_dir() or not _has_media(self.root) else self.root
        return ClipSet(make_id("", "0"), clips.name, clips, self.root / "masks", None, 0)

    def _make_clip(self, clip_set: ClipSet, path: Path, name: str) -> WorkspaceClip:
        video = path.is_dir() or path.suffix.lower() in VIDEOS
        below_clips = path.is_relative_to(clip_set.clips)
        place = path.relative_to(clip_set.clips) if below_clips else Path(name)
        return WorkspaceClip(make_clip_id(clip_set.id, place), clip_set.id, name, path, video)


def _has_media(folder: Path) -> bool:
    """Whether pictures or videos lie in a folder, or in those right in it."""
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    inside = (file for path in entries if path.is_dir() for file in path.iterdir())
    try:
        return any(map(is_media, entries)) or any(map(is_media, inside))
    except OSError:  # one of them cannot be listed
        return True


def make_clip_id(set_id: str, place: str | Path) -> str:
    """The id of a clip by its set and its place in it."""
    return make_id(set_id, os.fsencode(place).hex())


def make_id(*parts: str) -> str:
    """A short id of what these words name: the same as long as they are."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _read_data(path: Path) -> list[dict[str, Any]] | None:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8")).get("data")
    except (OSError, ValueError):
        return None
    tables = [data] if isinstance(data, dict) else data
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return None
    return tables
