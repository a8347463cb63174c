"""The mask of a picture: read from its files, changed, and written back as the same form."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from frisket.disk.atomic import replacing
from frisket.disk.untrusted import BadText, read_bytes
from frisket.maskgen.files.edits import HAND, RESTORE, EditLog, LoggedSave, note_hand
from frisket.media.foreign import PIXELS
from frisket.media.images import open_image, size_of
from frisket.studio.documents.base import (
    Conflict,
    Description,
    Levels,
    MaskContent,
    MaskNotEditable,
    MaskPatch,
    Snapshot,
    derive_ids,
)
from frisket.studio.documents.finding import MaskPlace
from frisket.studio.documents.forms import PaintForm, fits, resize
from frisket.studio.documents.history import History, Version, digest_of

AS_IT_WAS = "as it was before the studio"
OUTSIDE = "changed outside the studio"
_locks: dict[Path, threading.RLock] = {}


@dataclass(frozen=True, slots=True)
class StillDocument:
    """One picture's mask. `place` says where it lies; what the studio keeps of it lies in `home`.

    A change is safe when `write` returns: see History for how. Two at once wait for one another.
    """

    clip: Path
    place: MaskPlace
    history: History
    log: EditLog

    @property
    def _lock(self) -> threading.RLock:
        return _locks.setdefault(self.history.folder, threading.RLock())

    def read(self, frame: int) -> Snapshot:
        """The mask as it is now; ValueError for a frame other than 0, BadMedia for a bad file."""
        _check_frame(frame)
        with self._lock:
            form = self.place.form
            if form is None:
                return self._show_blank(self.place.reason, self.place.offer)
            files = self._settle()
            try:
                content = self._decode(form, files)
            except MaskNotEditable as error:
                return self._show_blank(str(error), "")
            return Snapshot(self._describe(form, content, self._name_revision(files)), content)

    def write(self, frame: int, patch: MaskPatch, revision: str) -> str:
        """Change the mask; see `MaskDocument.write`."""
        _check_frame(frame)
        with self._lock:
            form, files = self._open(revision)
            before = self._decode(form, files)
            content = before.copy()
            patch.apply(content)
            if form.truth == "soft":
                content.ids = derive_ids(content.soft, content.ids.shape, form.background)
            return self._write(form, files, form.encode(content, before, list(files)), patch.edits)

    def restore(self, number: int, revision: str) -> str:
        """Bring an earlier version back, as a new one; ValueError for one of another form."""
        with self._lock:
            form, files = self._open(revision)
            version = self.history.load(number)
            if version.form != form.name:
                raise ValueError(
                    f"version {number} is a mask of {version.form}, and now the data set has"
                    f" {form.name}; it lies in {self.history.folder}"
                )
            edit = {"op": RESTORE, "number": number}
            return self._write(form, files, dict(version.files), (edit,))

    def list_versions(self) -> list[dict[str, Any]]:
        """What can be brought back, newest first."""
        with self._lock:
            return [version.describe() for version in self.history.list_versions()]

    def _open(self, revision: str) -> tuple[PaintForm, dict[str, bytes]]:
        """The form and files of a mask that may be written; MaskNotEditable, Conflict."""
        if self.place.form is None:
            raise MaskNotEditable(self.place.reason)
        files = self._settle()
        if (newest := self._name_revision(files)) != revision:
            raise Conflict(newest)
        return self.place.form, files

    def _show_blank(self, reason: str, offer: str) -> Snapshot:
        height, width = _read_size(self.clip)
        described = Description(
            width, height, "0-none", "none", editable=False, reason=reason, offer=offer
        )
        return Snapshot(described, MaskContent(_make_blank(height, width)))

    def _describe(self, form: PaintForm, content: MaskContent, revision: str) -> Description:
        height, width = content.ids.shape
        notes = []
        path = next(iter(self._list_paths().values()), None)
        target = next(iter(self.place.targets.values()))
        if path is not None and path.name != target.name:
            notes.append(f"{path.name} will be saved as {target.name}; it is kept as a version")
        mask_size = _read_size(path) if path else (height, width)
        if mask_size != (height, width):
            notes.append(
                f"the mask is {mask_size[1]} x {mask_size[0]} pixels and is shown, and saved, at"
                f" the picture's {width} x {height} (nearest pixel)"
            )
        return Description(
            width,
            height,
            revision,
            form.name,
            form.regions,
            form.background,
            form.truth,
            tuple(content.soft),
            notes=tuple(notes),
        )

    def _decode(self, form: PaintForm, files: Mapping[str, bytes]) -> MaskContent:
        shape = _read_size(self.clip)
        paths = self._list_paths()
        content = form.decode({key: paths[key] for key in files}, shape)
        height, width = content.ids.shape
        if (height, width) == shape:
            return content
        if not fits((height, width), shape):
            raise MaskNotEditable(
                f"the mask is {width} x {height} pixels and the picture {shape[1]} x"
                f" {shape[0]}, which is another shape; make the mask again, or cut it to fit"
            )
        return resize(content, shape)

    def _list_paths(self) -> dict[str, Path]:
        """Where the files of the mask are now: what was written goes before what was found."""
        paths = {**self.place.files, **{k: p for k, p in self.place.targets.items() if p.is_file()}}
        return {key: path for key, path in paths.items() if path.is_file()}

    def _read_files(self) -> dict[str, bytes]:
        """The files of the mask as they are now, by key."""
        files = {}
        for key, path in self._list_paths().items():
            try:
                files[key] = read_bytes(path, PIXELS * 4)
            except BadText as error:
                raise ValueError(f"{path}: {error}") from error
        return files

    def _name_revision(self, files: Mapping[str, bytes]) -> str:
        newest = self.history.find_newest()
        return f"{newest.number if newest else 0}-{digest_of(files)}"

    def _settle(self) -> dict[str, bytes]:
        """The files after a change that was cut off is finished, or put away where it is late."""
        files = self._read_files()
        pending = self.history.find_pending()
        if pending is None:
            return files
        digest, halfway = digest_of(files), self._is_halfway(files, pending)
        names_match = pending.files.keys() <= self.place.targets.keys()
        if names_match and (halfway or digest in (pending.before, pending.digest)):
            self._finish(pending, again=True)
            return dict(pending.files)
        self.history.finish(replace(pending, note="cut off, and the mask was changed before it"))
        return files

    def _is_halfway(self, files: Mapping[str, bytes], pending: Version) -> bool:
        """Whether some files are the pending ones already, which is only so after a crash."""
        return len(pending.files) > 1 and any(
            files.get(key) == content for key, content in pending.files.items()
        )

    def _write(
        self,
        form: PaintForm,
        files: Mapping[str, bytes],
        changed: dict[str, bytes],
        edits: tuple[dict[str, Any], ...],
    ) -> str:
        newest, digest = self.history.find_newest(), digest_of(files)
        number = newest.number if newest else -1
        if files and (newest is None or newest.digest != digest):
            number += 1
            note = OUTSIDE if newest else AS_IT_WAS
            self.history.add(Version(number, digest, form.name, note, files=files))
        version = Version(
            max(number, 0) + 1, digest_of(changed), form.name, HAND, digest, files=changed,
            edits=edits,
        )  # fmt: skip
        self.history.begin(version)
        self._finish(version, again=False)
        return version.revision

    def _finish(self, version: Version, *, again: bool) -> None:
        """Put a pending version in its place: mask, record, log, and its number last."""
        for key, content in version.files.items():
            target = self.place.targets[key]
            with replacing(target) as draft:
                draft.write_bytes(content)
            former = self.place.files.get(key)
            if former is not None and former != target:
                former.unlink(missing_ok=True)
        if self.place.store is not None:
            note_hand(self.place.store, self.place.name, version.when)
        self.log.append(self._log_save(version), again=again)
        self.history.finish(version)

    def _log_save(self, version: Version) -> LoggedSave:
        form = self.place.form
        assert form is not None  # nothing is written without one
        height, width = _read_size(self.clip)
        before = f"{max(version.number - 1, 0)}-{version.before}"
        legend = {region.name: region.id for region in form.regions}
        return LoggedSave(
            name=self.place.name,
            width=width,
            height=height,
            before=before,
            after=version.revision,
            when=version.when,
            legend=legend,
            edits=version.edits,
        )


def _check_frame(frame: int) -> None:
    if frame != 0:
        raise ValueError(f"a picture has one frame, there is no frame {frame}")


def _make_blank(height: int, width: int) -> Levels:
    return derive_ids({}, (height, width), 0)


def _read_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture as seen, by its header; BadMedia for what is none."""
    stat = path.stat()
    return _read_header(path, (stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=512)
def _read_header(path: Path, stamp: tuple[int, int]) -> tuple[int, int]:
    del stamp  # of the key alone: a file that was changed is read again
    with open_image(path) as image:
        return size_of(image)
