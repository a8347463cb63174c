"""WebDataset: tar files in which all that belongs to a clip follows each other under one key."""

import gzip
import json
import re
import shutil
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import Any, cast

from frisket.data.format_base import (
    MIB,
    BadSet,
    Columns,
    Contents,
    Entry,
    File,
    Packed,
    Part,
    bytes_of,
    shards,
)
from frisket.media.manifest import NAME, TEXT_KEYS, is_name
from frisket.media.paths import IMAGES, LEGEND, VIDEOS, plain, replacing

TARS = (".tar", ".tar.gz", ".tgz")
TEXTS = (".txt", ".caption", ".text")
LONGEST_TEXT = MIB  # bytes of a caption or a JSON
MASK = re.compile(r"\.(?:(?P<region>.+)\.)?mask(?P<suffix>\.[^.]+)")
REFERENCE = re.compile(r"\.reference\.(?P<number>\d+)(?P<suffix>\.[^.]+)")


def _shards(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.iterdir() if each.name.lower().endswith(TARS))


@dataclass(slots=True)
class _Sample:
    """What one key holds, so far."""

    key: str
    shard: Path
    clips: list[File] = field(default_factory=list)
    masks: dict[str, File] = field(default_factory=dict)
    references: dict[int, File] = field(default_factory=dict)
    text: str | None = None
    told: dict[str, Any] = field(default_factory=dict)

    def add(self, suffix: str, file: File) -> None:
        lower = suffix.lower()
        if lower == ".json":
            self._tell(file)
        elif lower in TEXTS:
            self.text = self._text(file, suffix)
        elif match := REFERENCE.fullmatch(suffix):
            self.references[int(match["number"])] = file
        elif match := MASK.fullmatch(suffix):
            self.masks[plain(match["region"] or "")] = file
        else:
            self.clips.append(file)

    def _text(self, file: File, suffix: str) -> str:
        if file.size > LONGEST_TEXT:
            raise self._bad(f"{suffix} has {file.size} bytes, more than a caption can have")
        with file.open() as stream:
            try:
                return stream.read().decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise self._bad(f"{suffix} is not UTF-8 ({error.reason})") from error

    def _tell(self, file: File) -> None:
        try:
            told = json.loads(self._text(file, ".json"))
        except (json.JSONDecodeError, RecursionError) as error:
            raise self._bad(f".json is not JSON ({error})") from error
        if not isinstance(told, dict):
            raise self._bad(".json is no object")
        self.told = told

    def _bad(self, said: str) -> BadSet:
        return BadSet(f"{self.shard}: sample {self.key!r}: {said}; mend the shard")

    def entry(self) -> Entry:
        if len(self.clips) != 1:
            kinds = ", ".join(sorted(clip.suffix for clip in self.clips)) or "none"
            raise self._bad(f"should have one picture or video, it has {kinds}")
        captions = [self.text, *(self.told.get(key) for key in TEXT_KEYS)]
        name = self.told.get(NAME)
        return Entry(
            plain(name if isinstance(name, str) else self.key),
            self.clips[0],
            next((text for text in captions if isinstance(text, str)), ""),
            self.masks,
            tuple(self.references[number] for number in sorted(self.references)),
        )


def _kind(suffix: str) -> str | None:
    """Whether a member is read; by its suffix alone."""
    last = PurePosixPath(f"x{suffix}").suffix.lower()
    if suffix.lower() in (".json", *TEXTS):
        return "text"
    alone = suffix.count(".") == 1 or MASK.fullmatch(suffix) or REFERENCE.fullmatch(suffix)
    return "media" if alone and last in (*IMAGES, *VIDEOS) else None


def _entries(shard: Path) -> Iterator[Entry]:
    with _opened(shard) as tar:
        sample: _Sample | None = None
        for key, suffix, member in _members(tar, shard):
            if sample is not None and key != sample.key:
                yield sample.entry()
                sample = None
            if _kind(suffix) is not None:
                sample = sample or _Sample(key, shard)
                sample.add(suffix, _file(tar, member))
        if sample is not None:
            yield sample.entry()


def _members(tar: tarfile.TarFile, shard: Path) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Key, suffix and header of every regular member, in order; nothing is unpacked."""
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined] # it keeps all that passed, for nobody
        leaf = PurePosixPath(member.name).name
        if not member.isreg() or leaf.startswith("."):
            continue  # links lead elsewhere, and hidden files are notes of other systems
        stem, dot, rest = leaf.partition(".")
        key = f"{member.name.removesuffix(leaf).removeprefix('./')}{stem}"
        if not is_name(key):
            raise BadSet(
                f"{shard}: member {member.name!r} leads out of its folder, or is hidden in it; pack"
                " the shard anew"
            )
        yield key, f"{dot}{rest}", member


@contextmanager
def _opened(shard: Path) -> Iterator[tarfile.TarFile]:
    """A tar file; a compressed one is unpacked into a nameless file, to go back and forth in."""
    try:
        if shard.name.lower().endswith(".tar"):
            with tarfile.open(shard, "r:", errorlevel=2) as tar:
                yield tar
            return
        with tempfile.TemporaryFile() as whole:
            with gzip.open(shard) as packed:
                shutil.copyfileobj(packed, whole)
            whole.seek(0)
            with tarfile.open(fileobj=whole, mode="r:", errorlevel=2) as tar:
                yield tar
    except (tarfile.TarError, zlib.error, OSError, EOFError) as error:
        raise BadSet(f"{shard}: is no whole tar file ({error}); copy it again") from error


def _file(tar: tarfile.TarFile, member: tarfile.TarInfo) -> File:
    def opened() -> BufferedIOBase:
        return cast(BufferedIOBase, tar.extractfile(member))  # None is for members without content

    return File(PurePosixPath(member.name).suffix, member.size, opened)


def _laid(entry: Entry) -> Iterator[tuple[str, File]]:
    """The members of one entry, by name."""
    folder, slash, leaf = entry.name.rpartition("/")
    key = f"{folder}{slash}{leaf.replace('%', '%25').replace('.', '%2E')}"
    parts: list[tuple[str, Part]] = [(key, entry.clip)]
    parts += [
        (f"{key}{'.' * bool(region)}{region}.mask", each) for region, each in entry.masks.items()
    ]
    parts += [(f"{key}.reference.{place}", each) for place, each in enumerate(entry.references)]
    if entry.caption:
        parts.append((key, bytes_of(entry.caption.encode(), ".txt")))
    if key != entry.name:
        told = json.dumps({NAME: entry.name}, ensure_ascii=False)
        parts.append((key, bytes_of(told.encode(), ".json")))
    for name, part in parts:
        assert isinstance(part, File)  # `frames` of the format is False
        yield f"{name}{part.suffix}", part


def _add(tar: tarfile.TarFile, name: str, file: File) -> None:
    member = tarfile.TarInfo(name)
    member.size = file.size
    with file.open() as source:
        tar.addfile(member, source)


class WebDataset:
    """Tar shards."""

    summary = "WebDataset shards (.tar)"
    legend = LEGEND
    frames, mixed = False, True

    def suits(self, path: Path) -> bool:
        """A tar file, or a folder of some."""
        return path.name.lower().endswith(TARS) or (path.is_dir() and bool(_shards(path)))

    def read(self, path: Path, columns: Columns) -> Packed:
        """Every shard after the other; members of other kinds, pickles too, are never opened."""
        legend = (path if path.is_dir() else path.parent) / LEGEND
        shards = _shards(path)
        aside: Counter[str] = Counter()
        for shard in shards:
            with _opened(shard) as tar:
                aside.update(end for _, end, _ in _members(tar, shard) if _kind(end) is None)
        notes = [
            f"{count} members {suffix} are not read" for suffix, count in sorted(aside.items())
        ]

        def entries() -> Iterator[Entry]:
            for shard in shards:
                yield from _entries(shard)

        return Packed(entries, legend.read_bytes() if legend.is_file() else None, tuple(notes))

    def write(self, folder: Path, entries: Iterable[Entry], contents: Contents, shard: int) -> None:
        """`shard-000000.tar`, ...: `key.jpg`, `key.txt`, `key.mask.png` or `key.face.mask.png`, ...

        A key holds no dot, so a name that has one stands whole in `key.json`.
        """
        for number, part in enumerate(shards(entries, shard)):
            with (
                replacing(folder / f"shard-{number:06d}.tar") as draft,
                tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as tar,
            ):
                for entry in part:
                    for name, file in _laid(entry):
                        _add(tar, name, file)
                    tar.members = []  # type: ignore[attr-defined]


FORMAT = WebDataset()
