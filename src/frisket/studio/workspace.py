"""The opened folder: its configurations, data sets and clips, each known by an id.

The page names things by id; the path behind an id is never the page's word.
"""

import hashlib
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frisket.media.paths import VIDEOS, is_media, natural


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
class Clip:
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
    _clips: dict[str, Clip] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self.root.resolve()

    def configs(self) -> list[Path]:
        """The configurations in the folder itself, by name."""
        return [path for path in sorted(self.root.glob("*.toml")) if _read_data(path) is not None]

    def sets(self) -> list[ClipSet]:
        """The data sets of all configurations; without one, the folder's own pictures."""
        sets = [
            self._describe(config, index, entry)
            for config in self.configs()
            for index, entry in enumerate(_read_data(config) or [])
        ]
        return sets or [self._describe_bare()]

    def get_set(self, set_id: str) -> ClipSet:
        """A data set by its id; UnknownId where there is none."""
        for each in self.sets():
            if each.id == set_id:
                return each
        raise UnknownId(f"no data set has the id {set_id!r}")

    def list_clips(self, clip_set: ClipSet) -> list[Clip]:
        """The clips of a set, in their order; none where its folder is missing."""
        folder = clip_set.clips
        if not folder.is_dir():
            return []
        names = [path for path in folder.rglob("*") if _is_shown(path, folder) and is_media(path)]
        clips = [self._make_clip(clip_set, path) for path in sorted(names, key=natural)]
        self._clips.update((clip.id, clip) for clip in clips)
        return clips

    def get_clip(self, clip_id: str) -> Clip:
        """A clip by its id; UnknownId where there is none, or its file has gone."""
        if clip_id not in self._clips:
            for each in self.sets():
                self.list_clips(each)
        clip = self._clips.get(clip_id)
        if clip is None or not clip.path.exists():
            raise UnknownId(f"no clip has the id {clip_id!r}")
        return clip

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
        clips = self.root / "clips" if (self.root / "clips").is_dir() else self.root
        return ClipSet(make_id("", "0"), clips.name, clips, self.root / "masks", None, 0)

    def _make_clip(self, clip_set: ClipSet, path: Path) -> Clip:
        name = path.relative_to(clip_set.clips).with_suffix("").as_posix()
        clip_id = make_id(clip_set.id, os.fsencode(path.relative_to(clip_set.clips)).hex())
        return Clip(clip_id, clip_set.id, name, path, path.suffix.lower() in VIDEOS)


def make_id(*parts: str) -> str:
    """A short id of what these words name: the same as long as they are."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _is_shown(path: Path, folder: Path) -> bool:
    return not any(part.startswith(".") for part in path.relative_to(folder).parts)


def _read_data(path: Path) -> list[dict[str, Any]] | None:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8")).get("data")
    except (OSError, ValueError):
        return None
    tables = [data] if isinstance(data, dict) else data
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        return None
    return tables
