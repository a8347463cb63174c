"""The list of clips that are kept in their folder but left out of training: a text file."""

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from frisket.disk.atomic import replacing
from frisket.media.captions import BadCaption, read_text
from frisket.media.folders.left_out import SHOWN, Hint
from frisket.media.paths import plain

ENDING = ".rejected.txt"
LONGEST = 2**26  # bytes of a list
_HEAD = "# Clips left out of training, one name a line (path below the clip folder, no suffix).\n"


class BadRejects(ValueError):
    """A list of rejected clips that cannot be read, or that leaves no clip; names file and fix."""


@dataclass(frozen=True, slots=True)
class Rejects:
    """What a list says of the clips that are there."""

    names: frozenset[str]  # clips that are left out
    strangers: tuple[str, ...]  # lines that name no clip

    def list_hints(self, path: Path | None) -> tuple[Hint, ...]:
        """What is told of it: how many are left out, and which lines name nothing."""
        hints = []
        if self.names:
            verb = "clip is" if len(self.names) == 1 else "clips are"
            hints.append(
                Hint(
                    "rejected",
                    f"{len(self.names)} {verb} rejected by {path} ({_spell(sorted(self.names))})",
                    "Take a line out of that list to train on its clip again",
                    grave=False,
                )
            )
        if self.strangers:
            verb = "line names" if len(self.strangers) == 1 else "lines name"
            hints.append(
                Hint(
                    "rejected",
                    f"{len(self.strangers)} {verb} no clip in {path} ({_spell(self.strangers)})",
                    "Write the clip's path below the clip folder, without suffix, or take it out",
                )
            )
        return tuple(hints)


NONE = Rejects(frozenset(), ())


def list_place(clips: Path) -> Path:
    """Where the list of a clip folder or manifest lies unless the config says another place.

    Beside the folder, never in it: there a `.txt` is a caption.
    """
    absolute = clips.absolute()
    return absolute.with_name(absolute.name + ENDING)


def read_rejects(path: Path | None, clips: Mapping[str, object]) -> Rejects:
    """The clips that a list rejects; `clips` are all there are, by name. None is no list.

    A line is a name, or a name and suffix; blank lines and those that begin with `# ` are passed
    over. Raises BadRejects where the list is not there, no text, or rejects every clip.
    """
    if path is None:
        return NONE
    rejects = match_lines(read_lines(path), clips)
    if clips and len(rejects.names) == len(clips):
        raise BadRejects(
            f"{path}: rejects all {len(clips)} clips, so that nothing is left to train on; take"
            " lines out of it"
        )
    return rejects


def match_lines(lines: Iterable[str], clips: Collection[str]) -> Rejects:
    """What the lines of a list mean for the clips there are, by name."""
    names: set[str] = set()
    strangers: list[str] = []
    for line in lines:
        bare = line if line in clips else os.path.splitext(line)[0]  # noqa: PTH122 -- "a/.b"
        if bare in clips:
            names.add(bare)
        else:
            strangers.append(line)
    return Rejects(frozenset(names), tuple(strangers))


def read_lines(path: Path) -> list[str]:
    """The names in a list as they are written, NFC, each once; BadRejects where it is no list."""
    if not path.is_file():
        raise BadRejects(
            f"{path}: there is no such list of rejected clips; make it (it may be empty), or take"
            " `reject` out of [[data]]"
        )
    try:
        text = read_text(path, LONGEST)
    except BadCaption as error:
        raise BadRejects(str(error)) from error
    lines = [plain(line.strip()).replace("\\", "/") for line in text.splitlines()]
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("# ")))


def write_rejects(path: Path, names: Iterable[str]) -> None:
    """Write a list anew, atomically; names are sorted. ValueError for a name with a line break."""
    lines = sorted({plain(name) for name in names})
    if broken := next((name for name in lines if len(name.splitlines()) != 1), None):
        raise ValueError(f"{path}: {broken!r} cannot stand in a list of lines; rename the clip")
    with replacing(path) as draft:
        draft.write_text(_HEAD + "".join(f"{name}\n" for name in lines), encoding="utf-8")


def _spell(names: Collection[str]) -> str:
    first = [*names][:SHOWN]
    return ", ".join(first) + (", ..." if len(names) > SHOWN else "")
