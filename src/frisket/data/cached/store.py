"""The content-addressed store of everything `prepare` makes: latents, text, coverage."""

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from uuid import uuid4

import torch
from safetensors.torch import load, save
from torch import Tensor

from frisket.disk.atomic import CannotWrite, may_write, writing
from frisket.disk.untrusted import cut, parse_json, show

__all__ = ["Cache", "CacheEntry", "CannotWrite", "CorruptEntry", "EntryKind", "digest", "key_of"]

EntryKind = Literal["latents", "text", "coverage", "bank", "reference", "faces", "control"]

log = logging.getLogger(__name__)

LABEL = "frisket"  # the one metadata key: safetensors would write several in any order
FIX = "free some space there, or set run.cache to another folder that you may write to"
ABANDONED = 3600.0  # seconds after which a half-written file has no writer any more


class CorruptEntry(ValueError):
    """An entry that is missing, cut off or changed since it was written; never train on it."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One verified entry: its tensors, and the notes (plain strings) written beside them."""

    tensors: dict[str, Tensor]
    notes: dict[str, str]

    @property
    def size(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def key_of(record: Mapping[str, Any]) -> str:
    """The name of an entry: blake2b-160 of the canonical JSON of everything that made it.

    The record must hold only JSON values (strings, finite numbers, lists, tables); equal records
    give equal keys whatever the order of their tables.
    """
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def digest(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> str:
    """Hash of names, types, shapes and bytes of the tensors, and of the notes."""
    state = hashlib.blake2b(json.dumps(dict(notes), sort_keys=True).encode(), digest_size=20)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        state.update(f"|{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


class Cache:
    """A folder of safetensors named by what made them; safe to share between runs and data sets.

    Files are written under a temporary name in their own folder and renamed, so that a reader sees
    a whole entry or none; each carries a digest that is checked on every load.
    """

    def __init__(self, folder: Path) -> None:
        """Open a store, making its folder; CannotWrite if that is not possible.

        One that cannot be written (read-only, or on a full disk) is fine as long as nothing has to
        be: `need_writable`. So a finished cache can be shared read-only.
        """
        self.folder = Path(folder)
        if not self.folder.is_dir():
            with writing(self.folder, FIX):
                self.folder.mkdir(parents=True, exist_ok=True)
        self.refusal = "" if may_write(self.folder) else "it is read-only"
        if not self.refusal:
            probe = _name_temporary(self.folder / "probe")
            try:
                probe.touch()  # rights do not tell of a disk that is full
                probe.unlink()
            except OSError as error:
                self.refusal = error.strerror or str(error)

    @property
    def writable(self) -> bool:
        """Whether files can be made in it, as far as was known when it was opened."""
        return not self.refusal

    def need_writable(self, kind: EntryKind, key: str) -> None:
        """CannotWrite where the entry would have to be made and the cache cannot be written."""
        if self.refusal:
            raise CannotWrite(
                f"{self.folder}: the cache cannot be written ({self.refusal}), and it lacks"
                f" {kind}/{key}, which this configuration needs; set run.cache to a folder that you"
                " may write to, or let its owner run `frisket prepare` with this configuration"
            )

    def path(self, kind: EntryKind, key: str) -> Path:
        """Where an entry lies (whether or not it is there yet)."""
        return self.folder / kind / key[:2] / f"{key}.safetensors"

    def mark(self, kind: EntryKind, key: str) -> list[int] | None:
        """Size and time of an entry's file, or None if there is none: a cheap sign of change."""
        try:
            state = os.stat(f"{self.folder}/{kind}/{key[:2]}/{key}.safetensors")  # noqa: PTH116 - hot
        except FileNotFoundError:
            return None
        return [state.st_size, state.st_mtime_ns, state.st_ino]

    def store(
        self,
        kind: EntryKind,
        key: str,
        tensors: Mapping[str, Tensor],
        notes: Mapping[str, str] | None = None,
    ) -> None:
        """Write an entry in one rename; OSError names the file, e.g. when the disk is full."""
        path = self.path(kind, key)
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        texts = dict(notes or {})
        label = {"key": f"{kind}/{key}", "notes": texts, "digest": digest(whole, texts)}
        payload = save(whole, metadata={LABEL: json.dumps(label, sort_keys=True)})
        write_atomically(path, payload)

    def load(self, kind: EntryKind, key: str) -> CacheEntry:
        """Read and verify an entry (on the CPU); CorruptEntry names the file and the fix."""
        path = self.path(kind, key)
        try:
            payload = path.read_bytes()
        except FileNotFoundError as error:
            raise CorruptEntry(f"{path} is not there: run `frisket prepare` again") from error
        try:
            head = parse_json(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
            label = parse_json(head["__metadata__"][LABEL])
            written, notes, expected = label["key"], dict(label["notes"]), label["digest"]
            tensors = load(payload)
            actual = digest(tensors, notes)
        except Exception as error:  # foreign parsers raise what they like
            raise CorruptEntry(
                _explain_broken(path, f"it is not whole ({cut(str(error))})")
            ) from error
        if written != f"{kind}/{key}":
            raise CorruptEntry(_explain_broken(path, f"it was written as {show(written)}"))
        if actual != expected:
            raise CorruptEntry(_explain_broken(path, "its bytes changed after it was written"))
        return CacheEntry(tensors, notes)

    def drop(self, kind: EntryKind, key: str) -> None:
        """Delete an entry, if it is there; CannotWrite where that is not allowed."""
        path = self.path(kind, key)
        with writing(path, f"it is corrupt; let its owner delete it, or {FIX}", kept="not removed"):
            path.unlink(missing_ok=True)

    def sweep(self) -> int:
        """Delete half-written files left by killed writers; how many there were.

        Safe beside writers: a file that is renamed or gone by the time it is looked at was theirs.
        """
        old, count = time.time() - ABANDONED, 0
        for kind in get_args(EntryKind):
            for path in (self.folder / kind).glob("*/.*.tmp") if self.writable else ():
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < old:
                        path.unlink()
                        count += 1
        if count:
            log.info("removed %d half-written files from %s", count, self.folder)
        return count


def _explain_broken(path: Path, why: str) -> str:
    return f"cache entry {path} is corrupt: {why}. Delete it and run `frisket prepare` again"


def _name_temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid4().hex[:12]}.tmp")


def write_atomically(path: Path, payload: bytes) -> None:
    """Write a file under a temporary name beside it, then rename: whole or not at all.

    Makes its folder. CannotWrite names the file and the fix, e.g. when the disk is full.
    """
    temporary = _name_temporary(path)
    with writing(path, FIX, "what is finished stays", draft=temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(payload)
            os.replace(temporary, path)  # noqa: PTH105 - the one rename that is atomic by contract
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
