"""Earlier versions of a mask: its files' bytes, one archive a version, and what is being written.

A change is written here first, as `pending.zip`; then the mask's files are replaced, then the
archive gets its number. Whoever finds a pending one finishes it: a crash leaves the old mask or
the new one, also where a mask is several files.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from frisket.disk.atomic import replacing
from frisket.disk.untrusted import BadText, parse_json
from frisket.media.foreign import PIXELS

VERSIONS_KEPT = 20  # versions, besides the first
PENDING = "pending.zip"
META = "meta.json"
_NAME = re.compile(r"(\d{8})\.zip")


@dataclass(frozen=True, slots=True)
class Version:
    """The files of a mask as they were, by key (WHOLE or a region)."""

    number: int
    digest: str
    form: str
    note: str = ""
    before: str = ""  # the digest that was there before
    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    files: Mapping[str, bytes] = field(default_factory=dict)
    edits: tuple[dict[str, Any], ...] = ()  # for the log, until it has them

    @property
    def revision(self) -> str:
        """How the page knows it: the number, and a hash of the content."""
        return f"{self.number}-{self.digest}"

    def describe(self) -> dict[str, Any]:
        """As JSON for the page."""
        return {
            "number": self.number,
            "revision": self.revision,
            "when": self.when,
            "note": self.note,
            "bytes": sum(map(len, self.files.values())),
        }


def digest_of(files: Mapping[str, bytes]) -> str:
    """A hash of the files of a mask; "none" where there is none."""
    if not files:
        return "none"
    digest = hashlib.blake2b(digest_size=8)
    for key, content in sorted(files.items()):
        digest.update(f"{len(key.encode())}:{len(content)}:{key}".encode())
        digest.update(content)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class History:
    """The versions of one mask, in a folder of their own."""

    folder: Path

    def list_versions(self) -> list[Version]:
        """All versions without their files' bytes beyond their size, newest first."""
        return [self.load(number) for number in reversed(self._list_numbers())]

    def find_newest(self) -> Version | None:
        """The newest version, None where there is none."""
        numbers = self._list_numbers()
        return self.load(numbers[-1]) if numbers else None

    def load(self, number: int) -> Version:
        """One version; ValueError where there is none."""
        path = self.folder / f"{number:08}.zip"
        if not path.is_file():
            raise ValueError(f"the mask has no version {number}; it keeps the last {VERSIONS_KEPT}")
        return _read(path)

    def find_pending(self) -> Version | None:
        """A change whose writing was cut off; None where there is none, or no more of it."""
        path = self.folder / PENDING
        return _read(path) if path.is_file() else None

    def begin(self, version: Version) -> None:
        """Write down what is about to be written."""
        _write(self.folder / PENDING, version)

    def finish(self, version: Version) -> None:
        """Give the pending version its number, and let go of the oldest."""
        (self.folder / PENDING).replace(self.folder / f"{version.number:08}.zip")
        numbers = self._list_numbers()
        for number in numbers[1:-VERSIONS_KEPT]:
            (self.folder / f"{number:08}.zip").unlink(missing_ok=True)

    def add(self, version: Version) -> None:
        """Keep a version that is in its place already."""
        _write(self.folder / f"{version.number:08}.zip", version)

    def _list_numbers(self) -> list[int]:
        return sorted(self._iterate_numbers())

    def _iterate_numbers(self) -> Iterator[int]:
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if match := _NAME.fullmatch(path.name):
                    yield int(match[1])


def _write(path: Path, version: Version) -> None:
    meta = {
        "number": version.number,
        "digest": version.digest,
        "form": version.form,
        "note": version.note,
        "before": version.before,
        "when": version.when,
        "keys": list(version.files),
        "edits": list(version.edits),
    }
    with replacing(path) as draft, zipfile.ZipFile(draft, "w") as archive:
        archive.writestr(META, json.dumps(meta, ensure_ascii=False))
        for index, content in enumerate(version.files.values()):
            archive.writestr(str(index), content)


def _read(path: Path) -> Version:
    """ValueError for an archive that the studio did not write."""
    try:
        with zipfile.ZipFile(path) as archive:
            if any(info.file_size > PIXELS * 4 for info in archive.infolist()):
                raise ValueError("too large")
            meta = parse_json(archive.read(META))
            files = {str(key): archive.read(str(at)) for at, key in enumerate(meta["keys"])}
        return Version(
            int(meta["number"]),
            str(meta["digest"]),
            str(meta["form"]),
            str(meta["note"]),
            str(meta["before"]),
            str(meta["when"]),
            files,
            tuple(dict(edit) for edit in meta["edits"]),
        )
    except (zipfile.BadZipFile, BadText, KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(
            f"{path}: a version of a mask that cannot be read ({error}); remove it"
        ) from error
