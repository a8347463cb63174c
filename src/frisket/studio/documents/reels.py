"""What the studio keeps of a video's mask besides its files: painted frames, and who made which."""

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from frisket.disk.atomic import replacing
from frisket.disk.untrusted import BadText, parse_json, read_text
from frisket.maskgen.files.drafts import DraftFolder, DraftNote

NOTE = "saved.json"
_locks: defaultdict[Path, threading.RLock] = defaultdict(threading.RLock)
_folders: dict[Path, DraftFolder] = {}
_Frame = Annotated[int, Field(ge=0)]


class SavedFrames(BaseModel):
    """What is known of the frames that are in the mask's file.

    `base` is what revisions of frames begin with since the file was last changed by others;
    `stamp` is the file as it was written here. `installing` counts new files that are whole and
    lie beside the drafts until they are in their places.
    """

    model_config = ConfigDict(extra="forbid")

    base: str = ""
    stamp: str = ""
    revisions: dict[_Frame, str] = {}
    painted: list[_Frame] = []
    tracked: dict[_Frame, float] = {}
    blended: list[_Frame] = []
    shares: dict[int, list[float]] = {}
    installing: int = 0


@dataclass(frozen=True, slots=True)
class PaintedFrames:
    """The painted frames of one clip, and the note on those that are in its file already."""

    folder: Path
    drafts: DraftFolder = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "drafts", _folders.setdefault(self.folder, DraftFolder(self.folder))
        )

    @property
    def lock(self) -> "threading.RLock":
        """Held by whoever reads and then writes."""
        return _locks[self.folder]

    def load_saved(self) -> SavedFrames:
        """The note; a blank one where there is none, or none that can be read: it tells more."""
        try:
            return SavedFrames.model_validate(parse_json(read_text(self.folder / NOTE)))
        except (FileNotFoundError, BadText, ValidationError):
            return SavedFrames()

    def save(self, saved: SavedFrames) -> None:
        """Write the note whole."""
        with replacing(self.folder / NOTE) as draft:
            draft.write_text(saved.model_dump_json(), encoding="utf-8")

    def name_revision(
        self, frame: int, notes: Mapping[int, DraftNote], saved: SavedFrames, stamp: str
    ) -> str:
        """The revision of a frame: of its draft, else of what the file has of it."""
        if frame in notes:
            note = notes[frame]
            return f"{note.number}-{note.stamp[0]:x}"
        if saved.stamp == stamp:
            return saved.revisions.get(frame, f"0-{saved.base}")
        return f"0-{stamp}"

    def list_painted(self, saved: SavedFrames, notes: Mapping[int, DraftNote]) -> set[int]:
        """Frames a hand painted: keyframes, which nothing that is carried takes the place of."""
        other_frames = {frame for frame, note in notes.items() if note.maker != "hand"}
        return ({*saved.painted} | {*notes}) - other_frames


def stamp_files(files: Mapping[str, Path]) -> str:
    """What tells whether the files of a mask are those that were read: their times and sizes."""
    words: list[Any] = []
    for key, path in sorted(files.items()):
        stat = path.stat()
        words.append([key, path.name, stat.st_mtime_ns, stat.st_size])
        if path.is_dir():
            inner = [(entry.name, entry.stat()) for entry in sorted(path.iterdir())]
            words += [[name, stat.st_mtime_ns, stat.st_size] for name, stat in inner]
    if not words:
        return "none"
    return hashlib.blake2b(json.dumps(words).encode(), digest_size=8).hexdigest()
