"""WebDataset: tar files in which all that belongs to a clip follows each other under one key."""

import gzip
import json
import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BufferedIOBase, BufferedReader, RawIOBase
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from frisket.data.format_base import (
    MIB,
    BadSet,
    Columns,
    File,
    Packed,
    SetContents,
    SetEntry,
    SetPart,
    bytes_of,
    split_shards,
)
from frisket.disk.untrusted import parse_json, show
from frisket.media.foreign import decoding
from frisket.media.manifest import NAME, TEXT_KEYS, is_name
from frisket.media.paths import IMAGES, LEGEND, VIDEOS, plain, replacing

TARS = (".tar", ".tar.gz", ".tgz")
TEXTS = (".txt", ".caption", ".text")
LONGEST_TEXT = MIB  # bytes of a caption or a JSON
UNPACKED = 50  # times its size that a packed shard may unpack to: pictures hardly shrink
SMALL = 64 * MIB  # that any may unpack to
MEMORY = 16 * MIB  # of a member of a packed shard; a larger one waits in a nameless file
MASK = re.compile(r"\.(?:(?P<region>.+)\.)?mask(?P<suffix>\.[^.]+)")
REFERENCE = re.compile(r"\.reference\.(?P<number>\d+)(?P<suffix>\.[^.]+)")
CONTROL = re.compile(r"\.control\.[^.]+")


def _list_shards(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(shard for shard in path.iterdir() if shard.name.lower().endswith(TARS))


@dataclass(slots=True)
class _Sample:
    """What one key holds, so far."""

    key: str
    shard: Path
    clips: list[File] = field(default_factory=list)
    masks: dict[str, File] = field(default_factory=dict)
    references: dict[int, File] = field(default_factory=dict)
    control: File | None = None
    text: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def add(self, suffix: str, file: File) -> None:
        lower = suffix.lower()
        if lower == ".json":
            self._tell(file)
        elif lower in TEXTS:
            self.text = self._text(file, suffix)
        elif match := REFERENCE.fullmatch(suffix):
            self.references[int(match["number"])] = file
        elif CONTROL.fullmatch(suffix):
            self.control = file
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
            metadata = parse_json(self._text(file, ".json"))
        except BadSet:
            raise
        except ValueError as error:
            raise self._bad(f".json is not JSON ({error})") from error
        if not isinstance(metadata, dict):
            raise self._bad(".json is no object")
        self.metadata = metadata

    def _bad(self, message: str) -> BadSet:
        return BadSet(f"{self.shard}: sample {self.key!r}: {message}; mend the shard")

    def entry(self) -> SetEntry:
        if len(self.clips) != 1:
            kinds = ", ".join(sorted(clip.suffix for clip in self.clips)) or "none"
            raise self._bad(f"should have one picture or video, it has {kinds}")
        captions = [self.text, *(self.metadata.get(key) for key in TEXT_KEYS)]
        name = self.metadata.get(NAME)
        return SetEntry(
            plain(name if isinstance(name, str) else self.key),
            self.clips[0],
            next((text for text in captions if isinstance(text, str)), ""),
            self.masks,
            tuple(self.references[number] for number in sorted(self.references)),
            self.control,
        )


def _classify(suffix: str) -> str | None:
    """Whether a member is read; by its suffix alone."""
    last = PurePosixPath(f"x{suffix}").suffix.lower()
    if suffix.lower() in (".json", *TEXTS):
        return "text"
    patterns = (MASK, REFERENCE, CONTROL)
    alone = suffix.count(".") == 1 or any(pattern.fullmatch(suffix) for pattern in patterns)
    return "media" if alone and last in (*IMAGES, *VIDEOS) else None


def _read_entries(shard: Path) -> Iterator[SetEntry]:
    with _open_shard(shard) as tar, ExitStack() as held:
        sample: _Sample | None = None
        for key, suffix, member in _list_members(tar, shard):
            if sample is not None and key != sample.key:
                yield sample.entry()
                held.close()
                sample = None
            if _classify(suffix) is not None:
                sample = sample or _Sample(key, shard)
                sample.add(suffix, _read_file(tar, member, shard, held))
        if sample is not None:
            yield sample.entry()


def _list_members(tar: tarfile.TarFile, shard: Path) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Key, suffix and header of every regular member, in order; nothing is unpacked."""
    limit = _limit(shard)
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined] # it keeps all that passed, for nobody
        if member.offset_data + member.size > limit:
            raise _refuse_large(shard)
        leaf = PurePosixPath(member.name).name
        if not member.isreg() or leaf.startswith("."):
            continue  # links lead elsewhere, and hidden files are notes of other systems
        stem, dot, rest = leaf.partition(".")
        key = f"{member.name.removesuffix(leaf).removeprefix('./')}{stem}"
        if not is_name(key):
            raise BadSet(
                f"{shard}: member {show(member.name)} leads out of its folder, is hidden in it,"
                " or is not UTF-8; pack the shard anew"
            )
        yield key, f"{dot}{rest}", member


def _is_packed(shard: Path) -> bool:
    return not shard.name.lower().endswith(".tar")


def _limit(shard: Path) -> int:
    """Bytes that a shard may unpack to."""
    return max(UNPACKED * shard.stat().st_size, SMALL)


def _refuse_large(shard: Path) -> BadSet:
    return BadSet(
        f"{shard}: has {shard.stat().st_size} bytes and unpacks to more than"
        f" {_limit(shard) // MIB} MiB, which no set of pictures does; unpack it yourself if you"
        " trust it"
    )


@contextmanager
def _open_shard(shard: Path) -> Iterator[tarfile.TarFile]:
    """A tar file, to go through once; a packed one is unpacked as it is read, nowhere else."""
    with decoding(shard, "is no whole tar file ({reason}); copy it again", BadSet):
        if not _is_packed(shard):
            with tarfile.open(shard, "r:", errorlevel=2) as tar:
                yield tar
            return
        with gzip.open(shard) as unpacked:
            stream = cast(IO[bytes], _Counted(unpacked, shard))
            with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as tar:
                yield tar
            while stream.read(MIB):  # its checksum lies at the end
                pass


class _Counted:
    """What is unpacked of a shard, up to its limit."""

    def __init__(self, unpacked: gzip.GzipFile, shard: Path) -> None:
        self._unpacked, self._shard = unpacked, shard
        self._left = _limit(shard)

    def read(self, size: int) -> bytes:
        chunk = self._unpacked.read(size)
        self._left -= len(chunk)
        if self._left < 0:
            raise _refuse_large(self._shard)
        return chunk


def _read_file(tar: tarfile.TarFile, member: tarfile.TarInfo, shard: Path, held: ExitStack) -> File:
    """A member; of a packed shard a copy, for there is no way back to it, until `held` closes."""
    suffix = PurePosixPath(member.name).suffix

    def open_member() -> BufferedIOBase:
        return cast(BufferedIOBase, tar.extractfile(member))  # None is for members without content

    if not _is_packed(shard):
        return File(suffix, member.size, open_member)
    copy = _copy_member(open_member(), shard, held)
    return File(suffix, member.size, lambda: BufferedReader(_Again(copy)))


def _copy_member(source: BufferedIOBase, shard: Path, held: ExitStack) -> IO[bytes]:
    copy: IO[bytes] = tempfile.SpooledTemporaryFile(MEMORY)  # noqa: SIM115 - `held` closes it
    held.callback(copy.close)
    while chunk := source.read(MIB):
        try:
            copy.write(chunk)
        except OSError as error:
            raise BadSet(
                f"{shard}: a member of it does not fit into {tempfile.gettempdir()}"
                f" ({error.strerror}); free some space there, or set TMPDIR to another folder"
            ) from error
    return copy


class _Again(RawIOBase):
    """A copy from its start; closing this leaves the copy to be read again."""

    def __init__(self, copy: IO[bytes]) -> None:
        self._copy = copy
        copy.seek(0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._copy.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _lay_members(entry: SetEntry) -> Iterator[tuple[str, File]]:
    """The members of one entry, by name."""
    folder, slash, leaf = entry.name.rpartition("/")
    key = f"{folder}{slash}{leaf.replace('%', '%25').replace('.', '%2E')}"
    parts: list[tuple[str, SetPart]] = [(key, entry.clip)]
    parts += [
        (f"{key}{'.' * bool(region)}{region}.mask", part) for region, part in entry.masks.items()
    ]
    parts += [(f"{key}.reference.{place}", part) for place, part in enumerate(entry.references)]
    if entry.control is not None:
        parts.append((f"{key}.control", entry.control))
    if entry.caption:
        parts.append((key, bytes_of(entry.caption.encode(), ".txt")))
    if key != entry.name:
        text = json.dumps({NAME: entry.name}, ensure_ascii=False)
        parts.append((key, bytes_of(text.encode(), ".json")))
    for name, part in parts:
        assert isinstance(part, File)  # `frames` of the format is False
        yield f"{name}{part.suffix}", part


def _add(tar: tarfile.TarFile, name: str, file: File) -> None:
    member = tarfile.TarInfo(name)
    member.size = file.size
    with file.open() as source:
        tar.addfile(member, source)


class WebDataset:
    """The shelf's entry for tar shards."""

    summary = "WebDataset shards (.tar)"
    legend = LEGEND
    frames, mixed = False, True

    def matches(self, path: Path) -> bool:
        """A tar file, or a folder of some."""
        return path.name.lower().endswith(TARS) or (path.is_dir() and bool(_list_shards(path)))

    def read(self, path: Path, columns: Columns) -> Packed:
        """Every shard after the other; members of other kinds, pickles too, are never opened."""
        legend = (path if path.is_dir() else path.parent) / LEGEND
        shards = _list_shards(path)
        aside: Counter[str] = Counter()
        for shard in shards:
            with _open_shard(shard) as tar:
                aside.update(
                    end for _, end, _ in _list_members(tar, shard) if _classify(end) is None
                )
        notes = [
            f"{count} members {suffix} are not read" for suffix, count in sorted(aside.items())
        ]

        def entries() -> Iterator[SetEntry]:
            for shard in shards:
                yield from _read_entries(shard)

        return Packed(entries, legend.read_bytes() if legend.is_file() else None, tuple(notes))

    def write(
        self, folder: Path, entries: Iterable[SetEntry], contents: SetContents, shard: int
    ) -> None:
        """`shard-000000.tar`, ...: `key.jpg`, `key.txt`, `key.mask.png` or `key.face.mask.png`, ...

        A key holds no dot, so a name that has one stands whole in `key.json`.
        """
        for number, part in enumerate(split_shards(entries, shard)):
            with (
                replacing(folder / f"shard-{number:06d}.tar") as draft,
                tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as tar,
            ):
                for entry in part:
                    for name, file in _lay_members(entry):
                        _add(tar, name, file)
                    tar.members = []  # type: ignore[attr-defined]


FORMAT = WebDataset()
