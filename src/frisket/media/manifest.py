"""Read a data set listed in a `.jsonl` file: a line names a clip and what belongs to it."""

import codecs
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from frisket.disk.untrusted import BadText, decode, parse_json, show
from frisket.media.paths import BadMedia, TwoFiles, is_media, is_text, plain

_log = logging.getLogger(__name__)

SUFFIX = ".jsonl"
PATH_KEYS = ("path", "image", "video", "image_path", "video_path", "file_name", "file")
TEXT_KEYS = ("caption", "text", "prompt")
MASK, REFERENCES, CONTROL, NAME = "mask", "references", "control", "name"
LONGEST = 2**20  # bytes of a line: captions are shorter, and files are named here, not held


class BadManifest(BadMedia):
    """A manifest that cannot be read; names the file, the line, what is wrong and the fix."""


@dataclass(frozen=True, slots=True)
class ManifestLine:
    """One clip of a manifest; every path is there."""

    number: int  # counted from 1
    name: str  # as given, or path below the manifest's folder, without suffix, NFC
    clip: Path  # file, or folder of frames
    caption: str | None  # as written; None where the line says nothing
    masks: Mapping[str, Path]  # region -> file or folder of frames; "" one file for all regions
    references: tuple[Path, ...]  # pictures an edit model is given
    control: Path | None = None  # picture, video or folder of frames for a ControlNet


def is_manifest(path: Path) -> bool:
    """Whether `clips` names a manifest, not a folder."""
    return path.suffix.lower() == SUFFIX and not path.is_dir()


def read_manifest(path: Path) -> list[ManifestLine]:
    """The clips of a manifest, in order of their names.

    Each line that is not blank holds one JSON object in UTF-8: the clip under one of PATH_KEYS;
    optionally its caption under one of TEXT_KEYS, `mask` (a path, or a table region = path),
    `references` (a path or a list of them), `control` (a path) and `name`. Relative paths start at
    the manifest's folder. A clip that lies outside of it and has no `name` gets a short one, that
    of its file and a hash of the path as written. Other keys are left aside, and named once.

    Raises BadManifest; TwoFiles where two lines list the same clip or give the same name.
    """
    lines: list[ManifestLine] = []
    unread_keys: set[str] = set()
    names: dict[str, ManifestLine] = {}
    clips: dict[Path, ManifestLine] = {}
    for number, entry in _read_entries(path):
        line = _Reader(path, number, entry).line()
        unread_keys |= set(entry) - {*PATH_KEYS, *TEXT_KEYS, MASK, REFERENCES, CONTROL, NAME}
        earlier = clips.setdefault(line.clip.resolve(), line)
        if earlier is not line:
            raise TwoFiles(
                f"{path}: lines {earlier.number} and {number} list the same clip, {line.clip};"
                " remove one"
            )
        earlier = names.setdefault(line.name, line)
        if earlier is not line:
            raise TwoFiles(
                f"{path}: lines {earlier.number} and {number} have the name {show(line.name)},"
                f" {earlier.clip} and {line.clip}; rename one, or give it a `{NAME}`"
            )
        lines.append(line)
    if not lines:
        raise BadManifest(f'{path}: lists no clip; write a line such as {{"path": "clips/a.png"}}')
    if unread_keys:
        _log.info("%s: keys that are not read: %s", path, ", ".join(sorted(unread_keys)))
    return sorted(lines, key=lambda line: line.name)


def _read_entries(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and object of every line that is not blank."""
    try:
        with path.open("rb") as file:
            number = 0
            while raw := file.readline(LONGEST + 1):
                number += 1
                if len(raw) > LONGEST:
                    raise BadManifest(
                        f"{path} line {number}: longer than {LONGEST} bytes; write one object a"
                        " line, and name files instead of holding them"
                    )
                if number == 1:
                    raw = raw.removeprefix(codecs.BOM_UTF8)
                if raw.strip():
                    yield number, _parse(raw, f"{path} line {number}")
    except FileNotFoundError as error:
        raise BadManifest(f"{path}: there is no such manifest; check `clips`") from error
    except OSError as error:
        raise BadManifest(f"{path}: cannot be read ({error.strerror})") from error


def _parse(raw: bytes, location: str) -> dict[str, Any]:
    def refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise BadManifest(f"{location}: has the key {show(twice)} twice; keep one")
        return table

    try:
        text = decode(raw)
    except BadText as error:
        raise BadManifest(f"{location}: {error.message}") from error
    try:
        entry = parse_json(text, object_pairs_hook=refuse_twice)
    except BadText as error:
        hint = "; of an array, jq -c '.[]' makes lines" if raw.lstrip().startswith(b"[") else ""
        raise BadManifest(
            f"{location}: not JSON ({error}); write one object a line{hint}"
        ) from error
    if not isinstance(entry, dict):
        start = text.strip()[:40]
        raise BadManifest(
            f'{location}: is {start}; write an object such as {{"path": "clips/a.png"}}'
        )
    return entry


@dataclass(frozen=True, slots=True)
class _Reader:
    """One line of a manifest on its way."""

    manifest: Path
    number: int
    entry: Mapping[str, Any]

    def line(self) -> ManifestLine:
        key, path_text = self._read_text(PATH_KEYS, "a clip")
        if path_text is None:
            keys_held = ", ".join(map(show, [*self.entry][:10])) or "nothing"
            raise self._make_error(
                f"names no clip; give one of {', '.join(PATH_KEYS)} (it has {keys_held})"
            )
        clip = self._locate_media(key, path_text)
        _, caption = self._read_text(TEXT_KEYS, "a caption")
        masks = self._read_masks(self.entry.get(MASK))
        references = self._read_references(self.entry.get(REFERENCES))
        control = self.entry.get(CONTROL)
        return ManifestLine(
            self.number,
            self._name(path_text, clip),
            clip,
            caption,
            masks,
            references,
            None if control is None else self._locate_media(CONTROL, control),
        )

    def _make_error(self, message: str) -> BadManifest:
        return BadManifest(f"{self.manifest} line {self.number}: {message}")

    def _read_text(self, keys: Sequence[str], kind: str) -> tuple[str, str | None]:
        """The one of `keys` that the line has, and its text; null counts as absent."""
        present = [key for key in keys if self.entry.get(key) is not None]
        if len(present) > 1:
            raise self._make_error(f"gives {kind} twice, as {' and '.join(present)}; keep one")
        if not present:
            return "", None
        value = self.entry[present[0]]
        if not isinstance(value, str):
            raise self._make_error(f"`{present[0]}` is {show(value)}; it should be text in quotes")
        return present[0], value

    def _read_masks(self, entry: Any) -> dict[str, Path]:
        if entry is None:
            return {}
        if not isinstance(entry, dict):
            return {"": self._locate_media(MASK, entry)}
        if "" in entry:
            raise self._make_error(f"`{MASK}` has a region without a name; name it")
        paths = {region: text for region, text in entry.items() if text is not None}
        return {
            region: self._locate_media(f"{MASK}.{region}", text) for region, text in paths.items()
        }

    def _read_references(self, entry: Any) -> tuple[Path, ...]:
        listed = entry if isinstance(entry, list) else [entry]
        return tuple(self._locate_media(REFERENCES, text) for text in listed if text is not None)

    def _locate_media(self, key: str, path_text: Any) -> Path:
        if not isinstance(path_text, str) or not path_text:
            raise self._make_error(f"`{key}` is {show(path_text)}; it should be a path in quotes")
        path, is_there = self._place(path_text)
        if not is_there:
            foreign = "\\" in path_text and os.sep == "/"
            hint = "write / instead of \\" if foreign else "correct the path or remove the line"
            raise self._make_error(f"`{key}` {path} does not exist; {hint}")
        if not path.is_dir() and not is_media(path):
            raise self._make_error(f"`{key}` {path} is no image or video by its suffix; correct it")
        return path

    def _place(self, path_text: str) -> tuple[Path, bool]:
        """A path, and whether it is there; one that no file can have is not."""
        path = self.manifest.parent / path_text
        try:
            path = self.manifest.parent / Path(path_text).expanduser()
            return path, path.exists()
        except (OSError, RuntimeError, ValueError):  # too long; no such user; a zero byte
            return path, False

    def _name(self, path_text: str, clip: Path) -> str:
        name = self.entry.get(NAME)
        if name is not None:
            if not isinstance(name, str) or not is_name(plain(name)):
                raise self._make_error(
                    f"`{NAME}` is {show(name)}; it should be a path below a folder, such as"
                    " set/clip"
                )
            return plain(name)
        full_path, folder = (
            Path(os.path.normpath(p.absolute())) for p in (clip, self.manifest.parent)
        )
        bare = full_path if clip.is_dir() else full_path.with_suffix("")
        if bare.is_relative_to(folder):
            path_below = plain(bare.relative_to(folder).as_posix())
            if is_name(path_below):
                return path_below
        short = hashlib.blake2b(plain(path_text).encode(), digest_size=4).hexdigest()
        return f"{plain(bare.name)}-{short}"


def is_name(name: str) -> bool:
    """Whether a clip may be called so: text, a path that stays below the folder it is laid in."""
    path = PurePosixPath(name)
    fine = path.as_posix() == name and bool(path.name) and not path.is_absolute()
    hidden = any(part.startswith(".") for part in path.parts)
    return fine and not hidden and "\0" not in name and is_text(name)
