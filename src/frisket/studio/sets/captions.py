"""Caption files edited whole: read with a revision, written atomically, never another's file."""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frisket.disk.atomic import replacing
from frisket.media.captions import LONGEST, BadCaption, read_text
from frisket.studio.sets.listing import ClipRow

NO_FILE = "none"  # revision of a caption file that is not there
LONGEST_PATTERN = 2000  # characters


class CaptionChanged(ValueError):
    """A caption file that another program changed meanwhile; holds what it says now."""

    def __init__(self, message: str, text: str, revision: str) -> None:
        """Remember what is there."""
        super().__init__(message)
        self.text, self.revision = text, revision


class NotEditable(ValueError):
    """A caption that does not lie in a file of its own."""


@dataclass(frozen=True, slots=True)
class CaptionText:
    """The whole text of a caption file, and its revision."""

    text: str
    revision: str


@dataclass(frozen=True, slots=True)
class CaptionEdit:
    """What is done to captions; `find` of `replace` is plain text or a pattern (`regex`)."""

    action: Literal["replace", "add", "remove"]
    find: str = ""
    replacement: str = ""
    regex: bool = False
    ignore_case: bool = False
    tag: str = ""
    first: bool = False  # a tag is added in front


@dataclass(frozen=True, slots=True)
class CaptionChange:
    """One caption before and after an edit."""

    row: ClipRow
    before: str
    after: str
    revision: str  # of the file before


def read_caption(row: ClipRow) -> CaptionText:
    """A clip's caption file; empty where there is none. BadCaption where it is no text."""
    path = locate_caption(row)
    try:
        raw = path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise BadCaption(f"{path}: cannot be read ({error.strerror})") from error
    if raw is None:
        return CaptionText("", NO_FILE)
    return CaptionText(read_text(path), hashlib.sha256(raw).hexdigest()[:20])


def locate_caption(row: ClipRow) -> Path:
    """Where a clip's caption lies or would lie; NotEditable where it is part of a list."""
    if row.caption is None or row.text is not None:
        raise NotEditable(
            f"the caption of {row.name} stands in a list of captions; edit that list, or give the"
            " set caption files"
        )
    return row.caption


def write_caption(row: ClipRow, text: str, revision: str) -> CaptionText:
    """Write the whole text, atomically; an empty one of a file that was not there writes nothing.

    CaptionChanged where the file is not of `revision` any more; ValueError for a text that could
    not be read again.
    """
    path = locate_caption(row)
    present = read_caption(row)
    if present.revision != revision:
        raise CaptionChanged(
            f"{path.name} was changed by another program or window", present.text, present.revision
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise ValueError(f"{path.name}: a caption holds no zero bytes; take them out")
    body = text.encode("utf-8", "strict")
    if len(body) > LONGEST:
        raise ValueError(f"{path.name}: {len(body)} bytes are no caption, at most {LONGEST} are")
    if not text and present.revision == NO_FILE:
        return present
    if text == present.text:
        return present
    if text and present.text.endswith("\n") and not text.endswith("\n"):
        body += b"\n"  # as the file had it
    with replacing(path) as draft:
        draft.write_bytes(body)
    return read_caption(row)


def plan_changes(rows: Iterable[ClipRow], edit: CaptionEdit) -> list[CaptionChange]:
    """What an edit would change, clips it does not change left out; nothing is written.

    Clips whose caption cannot be read or is part of a list are left out too: the page names them.
    ValueError for an edit that has no meaning.
    """
    change = make_change(edit)
    changes = []
    for row in rows:
        try:
            present = read_caption(row)
        except (BadCaption, NotEditable):
            continue
        after = change(present.text)
        if after != present.text:
            changes.append(CaptionChange(row, present.text, after, present.revision))
    return changes


def digest_changes(changes: Iterable[CaptionChange]) -> str:
    """A hash of a plan: what was shown is what is done."""
    digest = hashlib.sha256()
    for change in changes:
        digest.update(f"{change.row.id} {change.revision} {change.after!r}\n".encode())
    return digest.hexdigest()[:20]


def make_change(edit: CaptionEdit) -> Callable[[str], str]:
    """The edit as a function of one text; ValueError names what is wrong with it."""
    if edit.action == "replace":
        pattern = _compile(edit)
        replacement = edit.replacement if edit.regex else edit.replacement.replace("\\", r"\\")

        def replace(text: str) -> str:
            try:
                return pattern.sub(replacement, text)
            except (re.error, IndexError) as error:
                raise ValueError(f"replace with {edit.replacement!r}: {error}") from error

        return replace
    tag = " ".join(edit.tag.split())
    if not tag or "," in tag:
        raise ValueError(f"tag: {edit.tag!r} is no tag; give words without a comma")
    if edit.action == "add":
        return lambda text: add_tag(text, tag, first=edit.first)
    return lambda text: remove_tag(text, tag)


def _compile(edit: CaptionEdit) -> "re.Pattern[str]":
    if not edit.find:
        raise ValueError("find: give the words to look for")
    if len(edit.find) > LONGEST_PATTERN:
        raise ValueError(f"find: at most {LONGEST_PATTERN} characters can be looked for")
    flags = re.IGNORECASE if edit.ignore_case else re.NOFLAG
    try:
        return re.compile(edit.find if edit.regex else re.escape(edit.find), flags)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"find: {edit.find!r} is no pattern ({error})") from error


def split_tags(text: str) -> list[str]:
    """The comma-separated tags of a caption's first paragraph; an empty one is none."""
    return [tag for part in text.split(",") if (tag := part.strip())]


def add_tag(text: str, tag: str, *, first: bool) -> str:
    """The caption with a tag more, in front or at the end; as it is where the tag is there."""
    body = text.rstrip("\n")
    if tag.casefold() in (present.casefold() for present in split_tags(body)):
        return text
    ending = text[len(body) :]
    if not body.strip():
        return tag + ending
    return f"{tag}, {body.lstrip()}{ending}" if first else f"{body.rstrip(' ,')}, {tag}{ending}"


def remove_tag(text: str, tag: str) -> str:
    """The caption without a tag; nothing else of it is changed where it is not there."""
    removed_tag = tag.casefold()
    parts = text.split(",")
    other_parts = [part for part in parts if part.strip().casefold() != removed_tag]
    if len(other_parts) == len(parts):
        return text
    joined = ",".join(other_parts)
    return joined.lstrip(" ") if parts[0].strip().casefold() == removed_tag else joined
