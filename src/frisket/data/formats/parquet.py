"""Tables as Hugging Face stores them: `.parquet` shards, and `.arrow` files of `save_to_disk`."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from frisket.data.format_base import (
    MIB,
    BadSet,
    Columns,
    File,
    Packed,
    SetContents,
    SetEntry,
    SetPart,
    bytes_of,
    file_at,
    split_shards,
)
from frisket.disk.file_signatures import suffix_of
from frisket.disk.untrusted import show
from frisket.media.foreign import decoding
from frisket.media.manifest import TEXT_KEYS, is_name
from frisket.media.paths import LEGEND, is_media, plain, replacing
from frisket.registry import suggest

TABLES = (".parquet", ".arrow")
CLIPS = (
    *("image", "video", "img", "picture", "jpg", "png", "mp4"),
    *("image_path", "video_path", "path"),
)
TEXTS = (*TEXT_KEYS, "captions", "description")
NAMES = ("name", "key", "__key__")
MASK, REFERENCES, CONTROL = "mask", "references", "control"
ROWS = 16 * MIB  # bytes gathered before they are written as one row group
CELL = 2**31 - 1  # bytes the format holds in one cell
READ = 16  # rows read at a time
UNPACKED = 50  # times its size that a column may unpack to: pictures hardly shrink
SMALL = 64 * MIB  # that any may unpack to
NO_TABLE = "cannot be read as a table ({reason}); copy it again"
_Row = Mapping[str, Any]


class NoArrow(ImportError):
    """The package that reads and writes tables is not installed; says how to get it."""


def _import_arrow(module: str = "pyarrow") -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise NoArrow(
            "parquet and arrow files need pyarrow: pip install 'frisket[parquet]' (or pip install"
            " 'pyarrow>=15')"
        ) from error


def _list_tables(path: Path) -> list[Path]:
    """The tables of a folder and of the folders in it, where the splits of a data set lie."""
    if not path.is_dir():
        return [path]
    paths = (table for pattern in ("*", "*/*") for table in path.glob(pattern))
    return sorted(table for table in paths if table.suffix.lower() in TABLES and table.is_file())


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which columns of a table hold what; an empty name is a column that is not there."""

    clips: tuple[str, ...]
    caption: str
    name: str
    masks: Mapping[str, str]
    references: str
    control: str
    aside: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        singles = (self.caption, self.name, self.references, self.control)
        return [*self.clips, *self.masks.values(), *filter(None, singles)]

    @staticmethod
    def of(table: Path, columns: Columns) -> "_Layout":
        """As asked for, else as the names and types of columns tell; BadSet without clips."""
        fields = _read_types(table)
        _check_columns(table, columns, list(fields))
        files = [name for name, kind in fields.items() if _holds_files(kind)]
        texts = [name for name, kind in fields.items() if _import_arrow().types.is_string(kind)]
        clips = [columns.image] if columns.image else _choose_clips(files, texts)
        if not clips:
            raise BadSet(
                f"{table}: no column of pictures or videos is known; name it with --image"
                f" (there are: {', '.join(fields)})"
            )
        masks = columns.masks or _choose_masks(files, texts)
        caption = columns.caption or next((column for column in TEXTS if column in texts), "")
        name = columns.name or next((column for column in NAMES if column in texts), "")
        references = REFERENCES if REFERENCES in fields else ""
        control = _keep_column(CONTROL, files)
        known = {*clips, *masks.values(), caption, name, references, control}
        aside = tuple(column for column in fields if column not in known)
        return _Layout(tuple(clips), caption, name, masks, references, control, aside)

    def entry(self, row: _Row, table: Path, number: int, name: str) -> SetEntry:
        where, folder = f"{table} row {number}", table.parent
        clips = [row[column] for column in self.clips if not _is_empty(row[column])]
        if len(clips) != 1:
            raise BadSet(f"{where}: has {len(clips)} clips in {', '.join(self.clips)}; keep one")
        text = row[self.caption] if self.caption else ""
        if not isinstance(text, str | None):
            raise BadSet(
                f"{where}: column {self.caption!r} holds {type(text).__name__}; name one of texts"
                " with --caption"
            )
        masks = {
            region: _read_file(row[column], f"{where} {column}", folder)
            for region, column in self.masks.items()
            if not _is_empty(row[column])
        }
        listed = (row[self.references] or []) if self.references else []
        if not isinstance(listed, list):
            raise BadSet(f"{where}: column {self.references!r} holds no list of pictures")
        references = tuple(_read_file(part, f"{where} {REFERENCES}", folder) for part in listed)
        clip = _read_file(clips[0], where, folder)
        cell = row.get(self.control)
        control = None if _is_empty(cell) else _read_file(cell, f"{where} {CONTROL}", folder)
        return SetEntry(name, clip, text or "", masks, references, control)


def _read_types(table: Path) -> dict[str, Any]:
    """The type of every column by its name."""
    return {field.name: field.type for field in _read_schema(table)}


def _check_columns(table: Path, columns: Columns, known: list[str]) -> None:
    """BadSet for a column that was named and is not there."""
    names = (columns.image, columns.caption, columns.name, *columns.masks.values())
    for name in filter(None, names):
        if name not in known:
            raise BadSet(f"{table}: has no column {name!r}{suggest(name, known)}")


def _choose_clips(files: list[str], texts: list[str]) -> list[str]:
    """Columns of clips, by their usual names: of files, else the first that may name some."""
    columns: list[str] = [name for name in ("image", "video") if name in files]
    return columns or [name for name in CLIPS if name in (*files, *texts)][:1]


def _choose_masks(files: list[str], texts: list[str]) -> dict[str, str]:
    """Columns of masks by region: `mask`, and `mask_REGION` where it holds files."""
    return {
        name.removeprefix(MASK).removeprefix("_"): name
        for name in (*files, *texts)
        if name == MASK or (name.startswith(f"{MASK}_") and name in files)
    }


def _keep_column(name: str, columns: list[str]) -> str:
    return name if name in columns else ""


def _holds_files(kind: Any) -> bool:
    """Whether a column's type is that of bytes, or of bytes and a path together."""
    types = _import_arrow().types
    if types.is_struct(kind):
        return "bytes" in {kind.field(place).name for place in range(kind.num_fields)}
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_empty(value: Any) -> bool:
    return not any(value.values()) if isinstance(value, dict) else not value


def _read_path(value: Any) -> str:
    """The path that a cell names, if it does."""
    if isinstance(value, dict):
        return str(value.get("path") or "")
    return value if isinstance(value, str) else ""


def _read_file(value: Any, where: str, folder: Path) -> File:
    content = value.get("bytes") if isinstance(value, dict) else value
    path = Path(_read_path(value))
    if isinstance(content, bytes):
        suffix = path.suffix if is_media(path) else suffix_of(content)
        if suffix is None:
            raise BadSet(f"{where}: begins like no picture or video ({content[:8]!r}); remove it")
        return bytes_of(content, suffix)
    place = folder / path
    try:
        inside, there = place.resolve().is_relative_to(folder.resolve()), place.is_file()
    except (OSError, RuntimeError, ValueError):  # too long; a loop of links; a zero byte
        inside, there = True, False
    if not inside:
        raise BadSet(
            f"{where}: {show(str(path))} leads out of the folder of the table; bring it there"
        )
    if not is_media(place) or not there:
        raise BadSet(
            f"{where}: {show(str(path))} is no picture or video that is there, in {folder};"
            " correct the table"
        )
    return file_at(place)


def _read_names(layouts: Mapping[Path, _Layout]) -> tuple[list[str], bool]:
    """The name of every row, and whether these are mere numbers."""
    names: list[str] = []
    for table, layout in layouts.items():
        if layout.name:
            names += [plain(str(row[layout.name])) for row in _read_rows(table, [layout.name])]
            continue
        for row in _read_rows(table, list(layout.clips), paths=True):
            path = Path(next(filter(None, map(_read_path, row.values())), ""))
            below = path.with_suffix("").as_posix() if path.name else ""
            names.append(plain(below if is_name(below) else path.stem))
    named = any(layout.name for layout in layouts.values())
    if named or (all(names) and len(set(names)) == len(names)):
        return names, False
    return [f"{number:08d}" for number in range(len(names))], True


def _read_schema(table: Path) -> Any:
    _import_arrow()  # says how to get it where it is missing; that is no fault of the file
    with decoding(table, NO_TABLE, BadSet):
        if table.suffix.lower() == ".parquet":
            schema = _import_arrow("pyarrow.parquet").read_schema(table)
        else:
            with _import_arrow().memory_map(str(table)) as source:
                schema = _open_reader(source).schema
        return schema


def _read_layout(table: Path, columns: Columns) -> _Layout:
    with decoding(table, NO_TABLE, BadSet):  # names that are not UTF-8 show only when they are used
        return _Layout.of(table, columns)


def _open_reader(source: Any) -> Any:
    """`save_to_disk` writes streams; other programs write files with an index at the end."""
    ipc = _import_arrow("pyarrow.ipc")
    try:
        return ipc.open_stream(source)
    except _import_arrow().ArrowInvalid:
        source.seek(0)
        return ipc.open_file(source)


def _read_rows(table: Path, columns: list[str], *, paths: bool = False) -> Iterator[_Row]:
    """Rows with these columns only, or only the paths in them; one at a time in memory."""
    with decoding(table, NO_TABLE, BadSet):
        for batch in _read_batches(table, columns, paths=paths):
            for place in range(batch.num_rows):
                yield {name: batch.column(name)[place].as_py() for name in batch.schema.names}


def _read_batches(table: Path, columns: list[str], *, paths: bool) -> Iterator[Any]:
    arrow = _import_arrow()
    if table.suffix.lower() == ".parquet":
        with _import_arrow("pyarrow.parquet").ParquetFile(table) as file:
            _check_unpacked(table, file.metadata)
            kinds = file.schema_arrow
            wanted = [
                f"{name}.path" if paths and arrow.types.is_struct(kinds.field(name).type) else name
                for name in columns
            ]
            yield from file.iter_batches(READ, columns=wanted, use_threads=False)
        return
    with arrow.memory_map(str(table)) as source:
        reader = _open_reader(source)
        batches = (
            reader
            if hasattr(reader, "read_next_batch")
            else map(reader.get_batch, range(reader.num_record_batches))
        )
        for batch in batches:
            batch.validate(full=True)  # a damaged file may point outside of its own buffers
            yield batch.select(columns)


def _check_unpacked(table: Path, metadata: Any) -> None:
    """BadSet for a table whose columns unpack to what no pictures do, as its end tells."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            size, packed = column.total_uncompressed_size, column.total_compressed_size
            if size > max(UNPACKED * packed, SMALL):
                raise BadSet(
                    f"{table}: column {column.path_in_schema!r} unpacks from {packed} to {size}"
                    f" bytes, more than {UNPACKED} times, which no column of pictures does; write"
                    " it anew if you trust it"
                )


def _make_row(entry: SetEntry, names: list[str]) -> _Row:
    clip = _make_cell(entry.clip, entry.name)
    row: dict[str, Any] = {
        "name": entry.name,
        "video" if isinstance(entry.clip, File) and entry.clip.video else "image": clip,
        "caption": entry.caption,
        REFERENCES: [_make_cell(picture, entry.name) for picture in entry.references],
        CONTROL: entry.control and _make_cell(entry.control, entry.name),
    }
    row |= {
        _name_column(region): _make_cell(mask, entry.name) for region, mask in entry.masks.items()
    }
    return {name: row.get(name) for name in names}


def _name_column(region: str) -> str:
    return f"{MASK}_{region}" if region else MASK


def _make_cell(part: SetPart, name: str) -> dict[str, Any]:
    assert isinstance(part, File)  # `frames` of the format is False
    if part.size > CELL:
        raise BadSet(
            f"clip {name!r}: a file of {part.size} bytes; a table holds less than 2 GiB in a cell,"
            " so use --to webdataset"
        )
    with part.open() as stream:
        return {"bytes": stream.read(), "path": f"{name}{part.suffix}"}


def _build_schema(contents: SetContents) -> Any:
    """Columns of a set, with what `datasets` wants to know of them."""
    arrow = _import_arrow()
    text, file = arrow.string(), arrow.struct({"bytes": arrow.binary(), "path": arrow.string()})
    words = {"dtype": "string", "_type": "Value"}
    picture, other = {"_type": "Image"}, {"bytes": {**words, "dtype": "binary"}, "path": words}
    columns: dict[str, tuple[Any, Any]] = {"name": (text, words)}
    columns |= {"image": (file, picture)} if contents.images else {}
    columns |= {"video": (file, {"_type": "Video"})} if contents.videos else {}
    columns["caption"] = (text, words)
    for region in contents.regions:
        columns[_name_column(region)] = (file, other if region in contents.moving else picture)
    columns |= {REFERENCES: (arrow.list_(file), [picture])} if contents.references else {}
    if contents.controls:
        columns[CONTROL] = (file, other if contents.moving_controls else picture)
    metadata = {"info": {"features": {name: feature for name, (_, feature) in columns.items()}}}
    schema = arrow.schema([(name, kind) for name, (kind, _) in columns.items()])
    return schema.with_metadata({"huggingface": json.dumps(metadata)})


class Tables:
    """Tables of bytes and words."""

    summary = "Hugging Face tables (.parquet, .arrow)"
    legend = LEGEND
    frames, mixed = False, True

    def matches(self, path: Path) -> bool:
        """A table, or a folder of some."""
        return path.suffix.lower() in TABLES or (path.is_dir() and bool(_list_tables(path)))

    def read(self, path: Path, columns: Columns) -> Packed:
        """All tables, one after the other; a file that a cell only names must lie below them."""
        tables = _list_tables(path)
        layouts = {table: _read_layout(table, columns) for table in tables}
        names, numbered = _read_names(layouts)
        aside = sorted({column for layout in layouts.values() for column in layout.aside})
        notes = [f"columns that are not read: {', '.join(aside)}"] if aside else []
        if numbered:
            notes.append("the table names no clip, or two alike, so clips are named by their row")
        legend = (path if path.is_dir() else path.parent) / LEGEND

        def entries() -> Iterator[SetEntry]:
            known = iter(names)
            for table, layout in layouts.items():
                for number, row in enumerate(_read_rows(table, layout.columns)):
                    yield layout.entry(row, table, number, next(known))

        return Packed(entries, legend.read_bytes() if legend.is_file() else None, tuple(notes))

    def write(
        self, folder: Path, entries: Iterable[SetEntry], contents: SetContents, shard: int
    ) -> None:
        """`train-00000.parquet`, ...: name, image or video, caption, mask or mask_face, ...

        Files are structs of bytes and path, and the schema tells `datasets` which are pictures.
        """
        schema = _build_schema(contents)
        writer = _import_arrow("pyarrow.parquet").ParquetWriter
        for number, part in enumerate(split_shards(entries, shard)):
            with (
                replacing(folder / f"train-{number:05d}.parquet") as draft,
                writer(draft, schema, use_dictionary=False, write_statistics=False) as table,
            ):
                for group in split_shards(part, ROWS):
                    rows = [_make_row(entry, schema.names) for entry in group]
                    table.write_table(_import_arrow().Table.from_pylist(rows, schema))


FORMAT = Tables()
