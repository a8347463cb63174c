"""The contract of other trainers' configurations: what reading one gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from frisket.registry import Shelf

NoteKind = Literal["mapped", "no equivalent", "defect", "not needed"]


class BadImport(ValueError):
    """A configuration of another trainer that cannot be read; names file, line, value and fix."""


@dataclass(frozen=True, slots=True)
class Note:
    """What became of one option.

    `option` as it is written there, with its section ("subsets[0].alpha_mask"); `message` is a
    sentence for the user: to which Frisket key it went, what to do where there is none, or, for a
    defect, what that trainer really did with it.
    """

    option: str
    value: Any
    kind: NoteKind
    message: str
    line: int | None = None  # counted from 1, where the format tells


@dataclass(frozen=True, slots=True)
class Imported:
    """A configuration in Frisket's own keys.

    `data`: a `[[data]]` table each. `sections`: the other tables, such as {"losses": {...}}. Paths
    are absolute, or relative to the folder of `source`. `manifests`: lists of clips to be written
    beside the new configuration, by file name; `clips` names them so. A line is what
    `media.manifest` reads, its paths absolute. `model`: the base model as that trainer calls it,
    known here or not; empty where the configuration names none.
    """

    source: Path
    trainer: str
    data: tuple[Mapping[str, Any], ...]
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    manifests: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    model: str = ""


@dataclass(frozen=True, slots=True)
class ImportFormat:
    """One file of the shelf.

    `matches` looks at a file or folder and says whether it is this trainer's, as quickly as may be;
    `read` raises BadImport. `read_written` does the same for a `files.Written` that stands
    for a file, `read_sources` for several files of one run (`source_base.Source`), where a trainer
    has either; what counts first goes first.
    """

    summary: str
    matches: Callable[[Path], bool]
    read: Callable[[Path], Imported]
    read_written: Callable[..., Imported] | None = None
    read_sources: Callable[..., Imported] | None = None


IMPORT_FORMATS: Shelf[ImportFormat] = Shelf(
    "frisket.importers.trainers", "FORMAT", "frisket.layouts"
)
