"""`frisket import`: another trainer's configuration as a commented one of ours."""

import json
import os
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Item, Table

from frisket.config.load import ConfigError, check, read
from frisket.config.tree import FAMILY, Config
from frisket.config.variant_checks import attention_problems
from frisket.disk.untrusted import show
from frisket.importers.base import BadImport, Imported, Note, NoteKind
from frisket.importers.gather import gather
from frisket.media.paths import replacing

SHOWN = 12  # notes printed; the file has all
WIDE = 96
SECRET = ("_token", "api_key", "password")
PATHS = ("clips", "captions", "references", "path")
HEAD = """Imported from {source} ({trainer}) by `frisket import`.
Behind each key: the option it was. Below: what has no place here, what {trainer} really did
with some options, and where all others went. Every key: docs/reference/config.md.
Look at the masks first: frisket inspect {name}"""
BLOCKS: dict[NoteKind, str] = {
    "no equivalent": "No equivalent, and what to do",
    "defect": "What {trainer} really did",
    "mapped": "Mapped",
    "not needed": "Not needed",
}


def run(
    sources: Path | Sequence[Path],
    output: Path,
    *,
    trainer: str = "",
    family: str = "",
    variant: str = "",
    command: int | None = None,
) -> list[str]:
    """Write `output` (and manifests beside it, where needed) from `sources`; returns a summary.

    `sources` are the files of one run, in any order. `trainer` is a name on the shelf of layouts,
    empty looks which one suits. `family` and `variant` are for sources that name no model;
    `command` is the number (from 1) of the command that is meant, of a script that holds several.
    Raises BadImport for a source that cannot be read; ConfigError where no trainer suits, or
    several do, or a file would be overwritten.
    """
    paths = [sources] if isinstance(sources, Path) else sources
    name, imported = gather(paths, trainer=trainer, command=command)
    files = [output, *(output.parent / each for each in imported.manifests)]
    for file in files:
        if file.exists() or file.is_symlink():
            raise ConfigError(f"{file} exists and is not overwritten; name another file with -o")
    if odd := [each for each in imported.manifests if Path(each).name != each]:
        source = imported.source
        raise BadImport(f"{source}: would write {show(odd[0])}, which is no plain file name")
    model = _model_of(imported, family, variant)
    text = tomlkit.dumps(_document(imported, model, output))
    with _draft(output, text, imported) as todo:
        for each, lines in imported.manifests.items():
            _manifest(output.parent / each, lines)
    return [*_summary(imported, name, output), *todo]


def _model_of(imported: Imported, family: str, variant: str) -> dict[str, Any]:
    """`[model]` as imported; a family that is given takes the place of one that was guessed."""
    model = dict(imported.sections.get("model", {}))
    if family:
        model = {key: each for key, each in model.items() if key == "dtype"} | {"family": family}
    return model | ({"variant": variant} if variant else {})


@contextmanager
def _draft(output: Path, text: str, imported: Imported) -> Iterator[list[str]]:
    """A draft that is read back, and takes its name when the block ends well; what is to do.

    ConfigError, which names the option there, for a value that has no place here.
    """
    with replacing(output) as partial:
        partial.write_text(text, encoding="utf-8")
        try:
            config, origin = read(partial)
        except ConfigError as error:
            raise ConfigError(_blame(error, partial, imported)) from error
        told: list[str] = []
        try:
            check(config, origin)
        except ConfigError as error:
            told += str(error).splitlines()
        told += [f"{origin.where(key)}: {said}" for key, said in attention_problems(config)]
        lines = [f"  {line.replace(partial.name, output.name)}" for line in told]
        yield ["Before it trains:", *lines] if lines else []


def _blame(error: ConfigError, draft: Path, imported: Imported) -> str:
    """What is wrong with a draft, a line each, as of the options that it was made of."""
    sources = _Sources(imported.notes)
    lines = []
    for said in str(error).splitlines():
        plain = re.sub(rf"^.*{re.escape(draft.name)}(?: line \d+)?(?:, column \d+)?: ", "", said)
        key = re.search(r"`(\w+)(?:\.\d+)?\.(\w+)", plain)
        notes = sources.found.get(f"{key[1]}.{key[2]}", []) if key else []
        options = ", ".join(f"{note.option} = {note.value!r:.40}" for note in notes)
        at = f" line {notes[0].line}" if len(notes) == 1 and notes[0].line else ""
        named = f": {options} has no place here" if options else ""
        lines.append(f"{imported.source}{at}{named}: {plain}")
    return "\n".join([*lines, "Nothing was written: change it there, and set ours afterwards"])


def _manifest(file: Path, lines: tuple[Mapping[str, Any], ...]) -> None:
    base = file.absolute().parent
    with replacing(file) as draft:
        rows = (json.dumps(_moved(line, base), ensure_ascii=False) for line in lines)
        draft.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def _moved(line: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """A line of a manifest with its paths as seen from the manifest."""
    moved = dict(line)
    for key in ("path", "mask"):
        if isinstance(line.get(key), str):
            moved[key] = _relative(Path(line[key]), base)
    if "references" in line:
        moved["references"] = [_relative(Path(each), base) for each in line["references"]]
    return moved


def _relative(path: Path, base: Path) -> str:
    """As seen from a folder; absolute where that would climb far, or to another drive."""
    try:
        relative = Path(os.path.relpath(path, base))
    except ValueError:
        return path.as_posix()
    return (path if relative.parts.count("..") > 2 else relative).as_posix()


def _document(imported: Imported, model: Mapping[str, Any], output: Path) -> tomlkit.TOMLDocument:
    document = tomlkit.document()
    head = HEAD.format(source=imported.source.name, trainer=imported.trainer, name=output.name)
    for line in head.splitlines():
        document.add(tomlkit.comment(_plain(line)))
    sources = _Sources(imported.notes)
    document["model"] = _model(model, imported.model, sources)
    data = tomlkit.aot()
    for values in imported.data:
        data.append(_table("data", _placed(_whole(values), imported, output), sources))
    document["data"] = data
    for name in Config.model_fields:
        if name in imported.sections and name not in ("model", "data"):
            document[name] = _table(name, imported.sections[name], sources)
    for kind, title in BLOCKS.items():
        notes = [note for note in imported.notes if note.kind == kind]
        if notes:
            document.add(tomlkit.nl())
            document.add(tomlkit.comment(f"--- {title.format(trainer=imported.trainer)}"))
        for note in notes:
            for line in textwrap.wrap(_told(note), WIDE, subsequent_indent="    "):
                document.add(tomlkit.comment(line))
    return document


def _model(model: Mapping[str, Any], named: str, sources: "_Sources") -> Table:
    """`[model]`; a toy where no family came of it, and why: what is `named` there is not here."""
    if model.get("family"):
        return _table("model", model, sources)
    why = f"The model there ({named}) is not here" if named else "No model is named there"
    table = tomlkit.table()
    table.add(tomlkit.comment(_plain(f"{why}; this is a toy, set yours: `frisket families`")))
    table.update(_table("model", {"family": FAMILY, **model}, sources))
    return table


def _whole(values: Mapping[str, Any]) -> dict[str, Any]:
    """A `[[data]]` table in which clips without a mask are trained on whole, as they were there.

    So does every trainer that does not stop at such a clip; Frisket leaves it out if not told.
    """
    masks = values.get("masks", "none")
    if isinstance(masks, str):
        named = masks in ("alpha", "sidecar", "listed", "none")
        masks = {"source": masks} if named else {"source": "folder", "path": masks}
    told = {"require", "fallback", "unmasked"} & set(masks)
    if masks.get("source") == "none" or told:
        return dict(values)
    return {**values, "masks": {**masks, "unmasked": "train"}}


def _placed(values: Mapping[str, Any], imported: Imported, output: Path) -> dict[str, Any]:
    """A `[[data]]` table with its paths as seen from the new file."""
    base, here = output.absolute().parent, imported.source.absolute()
    here = here if here.is_dir() else here.parent

    def placed(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            inner = "path" if name == "regions" else ""
            return {key: placed(inner or key, each) for key, each in value.items()}
        plain = name in PATHS or (name == "masks" and value not in ("alpha", "sidecar", "none"))
        if not plain or not isinstance(value, str) or value in imported.manifests:
            return value
        return _relative(here / value, base)

    return {name: placed(name, value) for name, value in values.items()}


def _table(section: str, values: Mapping[str, Any], sources: "_Sources") -> Table:
    table = tomlkit.table()
    for key, value in values.items():
        item = _item(value)
        if said := sources.of(f"{section}.{key}"):
            item.comment(said)
        table.add(key, item)
    return table


def _item(value: Any) -> Item:
    """A value as TOML: tables in a line, lists in a line."""
    if isinstance(value, Mapping):
        inline = tomlkit.inline_table()
        inline.update({key: _item(each) for key, each in value.items()})
        return inline
    if isinstance(value, list | tuple):
        array = tomlkit.array()
        array.extend(_item(each) for each in value)
        return array
    found: Item = tomlkit.item(value)
    return found


class _Sources:
    """Which options each key came from."""

    def __init__(self, notes: tuple[Note, ...]) -> None:
        self.found: dict[str, list[Note]] = {}
        for note in notes:
            if note.kind == "mapped":
                for key in re.findall(r"\b[a-z]+\.[a-z_]+", note.message):
                    self.found.setdefault(key, []).append(note)

    def of(self, key: str) -> str:
        """Its options by name, and the line where it is one."""
        notes = self.found.get(key, [])
        names = list(dict.fromkeys(_plain(note.option.rpartition(".")[2]) for note in notes))
        where = f", line {notes[0].line}" if len(notes) == 1 and notes[0].line else ""
        return f"{', '.join(names)}{where}" if names else ""


def _told(note: Note) -> str:
    """A note on one line: option, value, line, what became of it."""
    hidden = note.option.endswith(SECRET) and note.value
    value = "..." if hidden else textwrap.shorten(f"{note.value!r}", 60, placeholder="...")
    where = f" (line {note.line})" if note.line else ""
    return _plain(f"{note.option} = {value}{where}: {note.message}")


def _plain(text: str) -> str:
    """Text that fits a comment: one line, nothing that TOML forbids there."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _many(count: int, word: str) -> str:
    return f"{count} {word}" + "s" * (count != 1)


def _summary(imported: Imported, name: str, output: Path) -> list[str]:
    counts = {kind: sum(note.kind == kind for note in imported.notes) for kind in BLOCKS}
    lists = f", {_many(len(imported.manifests), 'list')} of clips" if imported.manifests else ""
    lines = [
        f"{imported.source}: {name}, {_many(len(imported.data), 'data set')}{lists}",
        f"{counts['mapped']} options mapped, {counts['not needed']} not needed,"
        f" {counts['no equivalent']} without equivalent, {_many(counts['defect'], 'defect')}",
    ]
    telling = [note for kind in ("no equivalent", "defect") for note in imported.notes
               if note.kind == kind]  # fmt: skip
    lines += [f"  {note.kind}: {_told(note)}" for note in telling[:SHOWN]]
    if len(telling) > SHOWN:
        lines.append(f"  and {len(telling) - SHOWN} more, all in the file")
    return [*lines, f"Wrote {output}. Look at the masks next: frisket inspect {output}"]
