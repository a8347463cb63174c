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
    files = [output, *(output.parent / manifest for manifest in imported.manifests)]
    for file in files:
        if file.exists() or file.is_symlink():
            raise ConfigError(f"{file} exists and is not overwritten; name another file with -o")
    if bad_names := [
        manifest for manifest in imported.manifests if Path(manifest).name != manifest
    ]:
        source = imported.source
        raise BadImport(f"{source}: would write {show(bad_names[0])}, which is no plain file name")
    model = _choose_model(imported, family, variant)
    text = tomlkit.dumps(_build_document(imported, model, output))
    with _draft(output, text, imported) as todo:
        for manifest, lines in imported.manifests.items():
            _write_manifest(output.parent / manifest, lines)
    return [*_summarise(imported, name, output), *todo]


def _choose_model(imported: Imported, family: str, variant: str) -> dict[str, Any]:
    """`[model]` as imported; a family that is given takes the place of one that was guessed."""
    model = dict(imported.sections.get("model", {}))
    if family:
        model = {key: value for key, value in model.items() if key == "dtype"} | {"family": family}
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
        problems: list[str] = []
        try:
            check(config, origin)
        except ConfigError as error:
            problems += str(error).splitlines()
        problems += [
            f"{origin.where(key)}: {problem}" for key, problem in attention_problems(config)
        ]
        lines = [f"  {line.replace(partial.name, output.name)}" for line in problems]
        yield ["Before it trains:", *lines] if lines else []


def _blame(error: ConfigError, draft: Path, imported: Imported) -> str:
    """What is wrong with a draft, a line each, as of the options that it was made of."""
    sources = _Sources(imported.notes)
    lines = []
    for line in str(error).splitlines():
        message = re.sub(rf"^.*{re.escape(draft.name)}(?: line \d+)?(?:, column \d+)?: ", "", line)
        key = re.search(r"`(\w+)(?:\.\d+)?\.(\w+)", message)
        notes = sources.notes_by_key.get(f"{key[1]}.{key[2]}", []) if key else []
        options = ", ".join(f"{note.option} = {note.value!r:.40}" for note in notes)
        at = f" line {notes[0].line}" if len(notes) == 1 and notes[0].line else ""
        option_note = f": {options} has no place here" if options else ""
        lines.append(f"{imported.source}{at}{option_note}: {message}")
    return "\n".join([*lines, "Nothing was written: change it there, and set ours afterwards"])


def _write_manifest(file: Path, lines: tuple[Mapping[str, Any], ...]) -> None:
    base = file.absolute().parent
    with replacing(file) as draft:
        rows = (json.dumps(_move_paths(line, base), ensure_ascii=False) for line in lines)
        draft.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def _move_paths(line: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """A line of a manifest with its paths as seen from the manifest."""
    moved_line = dict(line)
    for key in ("path", "mask"):
        if isinstance(line.get(key), str):
            moved_line[key] = _make_relative(Path(line[key]), base)
    if "references" in line:
        moved_line["references"] = [
            _make_relative(Path(reference), base) for reference in line["references"]
        ]
    return moved_line


def _make_relative(path: Path, base: Path) -> str:
    """As seen from a folder; absolute where that would climb far, or to another drive."""
    try:
        relative = Path(os.path.relpath(path, base))
    except ValueError:
        return path.as_posix()
    return (path if relative.parts.count("..") > 2 else relative).as_posix()


def _build_document(
    imported: Imported, model: Mapping[str, Any], output: Path
) -> tomlkit.TOMLDocument:
    document = tomlkit.document()
    head = HEAD.format(source=imported.source.name, trainer=imported.trainer, name=output.name)
    for line in head.splitlines():
        document.add(tomlkit.comment(_clean_text(line)))
    sources = _Sources(imported.notes)
    document["model"] = _build_model_table(model, imported.model, sources)
    data = tomlkit.aot()
    for values in imported.data:
        data.append(
            _build_table("data", _place_paths(_keep_unmasked(values), imported, output), sources)
        )
    document["data"] = data
    for name in Config.model_fields:
        if name in imported.sections and name not in ("model", "data"):
            document[name] = _build_table(name, imported.sections[name], sources)
    for kind, title in BLOCKS.items():
        notes = [note for note in imported.notes if note.kind == kind]
        if notes:
            document.add(tomlkit.nl())
            document.add(tomlkit.comment(f"--- {title.format(trainer=imported.trainer)}"))
        for note in notes:
            for line in textwrap.wrap(_describe_note(note), WIDE, subsequent_indent="    "):
                document.add(tomlkit.comment(line))
    return document


def _build_model_table(model: Mapping[str, Any], there_name: str, sources: "_Sources") -> Table:
    """`[model]`; a toy where no family came of it, and why: `there_name` is not here."""
    if model.get("family"):
        return _build_table("model", model, sources)
    reason = (
        f"The model there ({there_name}) is not here" if there_name else "No model is named there"
    )
    table = tomlkit.table()
    table.add(
        tomlkit.comment(_clean_text(f"{reason}; this is a toy, set yours: `frisket families`"))
    )
    table.update(_build_table("model", {"family": FAMILY, **model}, sources))
    return table


def _keep_unmasked(values: Mapping[str, Any]) -> dict[str, Any]:
    """A `[[data]]` table in which clips without a mask are trained on whole, as they were there.

    So does every trainer that does not stop at such a clip; Frisket leaves it out if not told.
    """
    masks = values.get("masks", "none")
    if isinstance(masks, str):
        is_source = masks in ("alpha", "sidecar", "listed", "none")
        masks = {"source": masks} if is_source else {"source": "folder", "path": masks}
    own_keys = {"require", "fallback", "unmasked"} & set(masks)
    if masks.get("source") == "none" or own_keys:
        return dict(values)
    return {**values, "masks": {**masks, "unmasked": "train"}}


def _place_paths(values: Mapping[str, Any], imported: Imported, output: Path) -> dict[str, Any]:
    """A `[[data]]` table with its paths as seen from the new file."""
    base, source_folder = output.absolute().parent, imported.source.absolute()
    source_folder = source_folder if source_folder.is_dir() else source_folder.parent

    def place_value(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            inner = "path" if name == "regions" else ""
            return {key: place_value(inner or key, entry) for key, entry in value.items()}
        is_path = name in PATHS or (name == "masks" and value not in ("alpha", "sidecar", "none"))
        if not is_path or not isinstance(value, str) or value in imported.manifests:
            return value
        return _make_relative(source_folder / value, base)

    return {name: place_value(name, value) for name, value in values.items()}


def _build_table(section: str, values: Mapping[str, Any], sources: "_Sources") -> Table:
    table = tomlkit.table()
    for key, value in values.items():
        item = _convert_value(value)
        if comment := sources.name_options(f"{section}.{key}"):
            item.comment(comment)
        table.add(key, item)
    return table


def _convert_value(value: Any) -> Item:
    """A value as TOML: tables in a line, lists in a line."""
    if isinstance(value, Mapping):
        inline = tomlkit.inline_table()
        inline.update({key: _convert_value(entry) for key, entry in value.items()})
        return inline
    if isinstance(value, list | tuple):
        array = tomlkit.array()
        array.extend(_convert_value(entry) for entry in value)
        return array
    item: Item = tomlkit.item(value)
    return item


class _Sources:
    """Which options each key came from."""

    def __init__(self, notes: tuple[Note, ...]) -> None:
        self.notes_by_key: dict[str, list[Note]] = {}
        for note in notes:
            if note.kind == "mapped":
                for key in re.findall(r"\b[a-z]+\.[a-z_]+", note.message):
                    self.notes_by_key.setdefault(key, []).append(note)

    def name_options(self, key: str) -> str:
        """Its options by name, and the line where it is one."""
        notes = self.notes_by_key.get(key, [])
        names = list(dict.fromkeys(_clean_text(note.option.rpartition(".")[2]) for note in notes))
        line_note = f", line {notes[0].line}" if len(notes) == 1 and notes[0].line else ""
        return f"{', '.join(names)}{line_note}" if names else ""


def _describe_note(note: Note) -> str:
    """A note on one line: option, value, line, what became of it."""
    hidden = note.option.endswith(SECRET) and note.value
    value = "..." if hidden else textwrap.shorten(f"{note.value!r}", 60, placeholder="...")
    line_note = f" (line {note.line})" if note.line else ""
    return _clean_text(f"{note.option} = {value}{line_note}: {note.message}")


def _clean_text(text: str) -> str:
    """Text that fits a comment: one line, nothing that TOML forbids there."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _count_noun(count: int, word: str) -> str:
    return f"{count} {word}" + "s" * (count != 1)


def _summarise(imported: Imported, name: str, output: Path) -> list[str]:
    counts = {kind: sum(note.kind == kind for note in imported.notes) for kind in BLOCKS}
    lists = (
        f", {_count_noun(len(imported.manifests), 'list')} of clips" if imported.manifests else ""
    )
    lines = [
        f"{imported.source}: {name}, {_count_noun(len(imported.data), 'data set')}{lists}",
        f"{counts['mapped']} options mapped, {counts['not needed']} not needed,"
        f" {counts['no equivalent']} without equivalent, {_count_noun(counts['defect'], 'defect')}",
    ]
    telling = [note for kind in ("no equivalent", "defect") for note in imported.notes
               if note.kind == kind]  # fmt: skip
    lines += [f"  {note.kind}: {_describe_note(note)}" for note in telling[:SHOWN]]
    if len(telling) > SHOWN:
        lines.append(f"  and {len(telling) - SHOWN} more, all in the file")
    return [*lines, f"Wrote {output}. Look at the masks next: frisket inspect {output}"]
