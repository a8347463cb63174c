"""The contract of jobs in a foreign form: a command line, a GUI's preset, a file of an old age."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frisket.importers.base import BadImport, Note
from frisket.importers.files import Written
from frisket.registry import Shelf

SourceRole = Literal["training", "data", "both"]


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """One source of a run, in the options of the trainer that it is for.

    `trainer` is a name on the shelf of layouts. `form` says for a reader what it was ("kohya_ss GUI
    preset"). `written.path` is the file as the user named it, relative paths start at its folder;
    `written.tree` holds that trainer's own options (of kohya's trainers: flat names, values typed
    as its parser types them; for the role "data" the tree of a dataset TOML). `script` is the
    training script where one is known, without its folder: it tells the model. `notes` are on
    what the form holds that is no option of the trainer.
    """

    trainer: str
    role: SourceRole
    form: str
    written: Written
    script: str = ""
    notes: tuple[Note, ...] = ()


Sources = tuple[ConfigSource | Path, ...]
"""The sources of one run, the first that sets an option wins; a path is one to be read as such."""


@dataclass(frozen=True, slots=True)
class SourceForm:
    """One file of the shelf.

    `matches` looks at a file and says whether it is in this form, as quickly as may be. `read`
    takes the number (from 1) of the command that is meant, None where nothing was said; it raises
    BadImport, and runs nothing of what it reads.
    """

    summary: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, int | None], Sources]


FORMS: Shelf[SourceForm] = Shelf("frisket.importers.sources", "FORM", "frisket.sources")


def read_source(path: Path, command: int | None = None) -> Sources | None:
    """What a file in a foreign form asks for; None for one that is in no such form.

    Paths among the sources are files that it names, which exist. Raises BadImport for a form that
    is known but cannot be read, or for a command that there is not.
    """
    if not path.is_file():
        return None
    for name in FORMS.names():
        form = FORMS.load(name)
        if form.matches(path):
            return form.read(path, command)
    if command is not None:
        raise BadImport(f"{path}: holds no commands; leave --command out")
    return None
