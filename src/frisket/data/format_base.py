"""The contract of data set formats: entries read one at a time, and written byte for byte."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedIOBase, BytesIO
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from frisket.disk.untrusted import show
from frisket.media.manifest import is_name
from frisket.media.paths import IMAGES, BadMedia, TwoFiles, is_text, plain
from frisket.registry import Shelf

MIB = 2**20


class BadSet(BadMedia):
    """A data set that cannot be read or written so; names the file or clip, and the fix."""


@dataclass(frozen=True, slots=True)
class File:
    """One picture, video or mask of a set; its bytes are copied, never decoded."""

    suffix: str  # as written, with its dot
    size: int  # bytes
    open: Callable[[], BufferedIOBase]
    path: Path | None = None  # where it lies, if it is a file of its own

    @property
    def video(self) -> bool:
        """Whether its suffix is no picture's."""
        return self.suffix.lower() not in IMAGES


@dataclass(frozen=True, slots=True)
class FrameFiles:
    """A clip or mask that is a folder of pictures, by file name."""

    files: Mapping[str, File]
    path: Path


SetPart = File | FrameFiles


@dataclass(frozen=True, slots=True)
class SetEntry:
    """One clip and what belongs to it. What it opens can be read until the next one is taken."""

    name: str  # "/" between folders, without suffix
    clip: SetPart
    caption: str = ""  # as written, line breaks too
    masks: Mapping[str, SetPart] = field(default_factory=dict)  # region, "" for all, to its file
    references: tuple[File, ...] = ()  # pictures an edit model is given
    control: SetPart | None = None  # its structure, for a ControlNet


@dataclass(frozen=True, slots=True)
class Packed:
    """A data set as it is read; `entries` can be gone through several times, alike each time."""

    entries: Callable[[], Iterator[SetEntry]]
    legend: bytes | None = None  # of label maps, as `legend.json` holds it
    notes: tuple[str, ...] = ()  # what a user should know, a sentence each
    outside: tuple[Path, ...] = ()  # files that links bring from outside of the set


@dataclass(frozen=True, slots=True)
class SetContents:
    """What a set holds, known before it is written."""

    prints: Mapping[str, bytes]  # name -> everything of the entry but the bytes of its files
    regions: tuple[str, ...]
    images: bool  # some clips are pictures
    videos: bool
    moving: frozenset[str]  # regions with masks that are videos
    references: bool
    size: int  # bytes of all files
    controls: bool = False  # some clips have a control picture
    moving_controls: bool = False  # some of these are videos


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns of a table; empty ones are found by themselves."""

    image: str = ""
    caption: str = ""
    name: str = ""
    masks: Mapping[str, str] = field(default_factory=dict)  # region -> column


@runtime_checkable
class Format(Protocol):
    """One file of the shelf."""

    summary: str
    legend: str  # where `legend.json` lies in a set
    frames: bool  # it can hold Frames
    mixed: bool  # some clips may have one mask, and others a mask a region

    def matches(self, path: Path) -> bool:
        """Look at a file or folder, quickly: whether it is stored so."""
        ...

    def read(self, path: Path, columns: Columns) -> Packed:
        """A set; raises BadSet and the errors of `media.files.find`."""
        ...

    def write(
        self, folder: Path, entries: Iterable[SetEntry], contents: SetContents, shard: int
    ) -> None:
        """Fill a new folder; a file of many entries ends after about `shard` bytes."""
        ...


@runtime_checkable
class Naming(Format, Protocol):
    """A format of which one file can name the files of a set where they are."""

    def name(self, manifest: Path, entries: Iterable[SetEntry]) -> None:
        """Write that file alone; BadSet for entries that are no files of their own."""
        ...


FORMATS: Shelf[Format] = Shelf("frisket.data.formats", "FORMAT", "frisket.formats")


def file_at(path: Path) -> File:
    """A file on disk."""
    return File(path.suffix, path.stat().st_size, lambda: path.open("rb"), path)


def part_at(path: Path) -> SetPart:
    """A file on disk, or a folder of frames: every picture of it, under its own name."""
    if not path.is_dir():
        return file_at(path)
    inside = sorted(picture for picture in path.iterdir() if picture.suffix.lower() in IMAGES)
    frames = {
        picture.name: file_at(picture) for picture in inside if not picture.name.startswith(".")
    }
    return FrameFiles(frames, path)


def bytes_of(content: bytes, suffix: str) -> File:
    """A file held in memory."""
    return File(suffix, len(content), lambda: BytesIO(content))


def look(packed: Packed, progress: Callable[[int], None] = lambda _: None) -> SetContents:
    """Go through a set once: what it holds, and whether all names and files can be laid apart.

    Raises TwoFiles where two clips have one name, BadSet where a name or region leads elsewhere.
    """
    prints: dict[str, bytes] = {}
    regions: dict[str, None] = {}
    moving: set[str] = set()
    images = videos = references = False
    control_kinds: set[str] = set()
    size = 0
    for entry in packed.entries():
        _check_names(entry)
        if entry.name in prints:
            raise TwoFiles(f"two clips have the name {entry.name!r}; rename or remove one")
        prints[entry.name] = _print(entry)
        progress(len(prints))
        for region, mask in entry.masks.items():
            regions[region] = None
            moving |= {region} if isinstance(mask, File) and mask.video else set()
        still = isinstance(entry.clip, File) and not entry.clip.video
        images, videos = images or still, videos or not still
        references = references or bool(entry.references)
        control_kinds.add(_classify_control(entry))
        size += sum(file.size for file in files_of(entry))
    if not prints:
        raise BadSet("the data set holds no clip")
    return SetContents(
        prints,
        tuple(sorted(regions)),
        images,
        videos,
        frozenset(moving),
        references,
        size,
        controls=bool(control_kinds - {""}),
        moving_controls="moving" in control_kinds,
    )


def _classify_control(entry: SetEntry) -> str:
    if entry.control is None:
        return ""
    return "moving" if isinstance(entry.control, File) and entry.control.video else "still"


def split_shards(entries: Iterable[SetEntry], size: int) -> Iterator[Iterator[SetEntry]]:
    """Runs of entries of about `size` bytes, each gone through before the next is taken."""
    waiting = iter(entries)
    for first in waiting:
        yield _fill_shard(first, waiting, size)


def _fill_shard(first: SetEntry, waiting: Iterator[SetEntry], size: int) -> Iterator[SetEntry]:
    taken = sum(file.size for file in files_of(first))
    yield first
    while taken < size and (entry := next(waiting, None)) is not None:
        taken += sum(file.size for file in files_of(entry))
        yield entry


def list_parts(entry: SetEntry) -> list[SetPart]:
    """What of an entry may be a folder of frames: its clip, masks and control."""
    control = () if entry.control is None else (entry.control,)
    return [entry.clip, *entry.masks.values(), *control]


def files_of(entry: SetEntry) -> Iterator[File]:
    """Every file of an entry."""
    for part in (*list_parts(entry), *entry.references):
        yield from part.files.values() if isinstance(part, FrameFiles) else (part,)


def _check_names(entry: SetEntry) -> None:
    if not is_name(entry.name) or plain(entry.name) != entry.name:
        raise BadSet(
            f"{show(entry.name)} is no name for a clip: it should be a path below a folder,"
            " without hidden parts, in NFC and UTF-8; rename it"
        )
    if not is_text(entry.caption):
        raise BadSet(f"clip {entry.name!r}: its caption holds half a character; mend it")
    for region in entry.masks:
        if region and (not is_name(region) or len(PurePosixPath(region).parts) > 1):
            raise BadSet(
                f"clip {entry.name!r}: the region {region!r} cannot be a folder's name; rename it"
            )


def _print(entry: SetEntry) -> bytes:
    def describe(part: SetPart) -> object:
        if isinstance(part, FrameFiles):
            return {name: file.size for name, file in part.files.items()}
        return [part.suffix, part.size]

    facts = [
        describe(entry.clip),
        entry.caption,
        {region: describe(mask) for region, mask in entry.masks.items()},
        [describe(reference) for reference in entry.references],
        *([] if entry.control is None else [describe(entry.control)]),
    ]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).digest()
