"""`frisket pack`: a data set from one way of storing it into another, byte for byte."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from frisket.data.format_base import (
    FORMATS,
    MIB,
    BadSet,
    Columns,
    Format,
    FrameFiles,
    Naming,
    Packed,
    SetContents,
    SetEntry,
    list_parts,
    look,
)
from frisket.media.manifest import is_manifest
from frisket.media.paths import replacing
from frisket.progress import Progress
from frisket.registry import suggest

TABLES = "parquet"
ANY = "folder"  # suits every folder, so it is what is left when nothing else suits


@dataclass(frozen=True, slots=True)
class PackOptions:
    """What the command line says. `kind` empty: found out; `shard` in MiB."""

    source: Path
    output: Path
    to: str
    kind: str = ""
    columns: Columns = field(default_factory=Columns)
    shard: int = 512
    follow_links: bool = False  # pack what links bring from outside of the set


def pack(options: PackOptions, progress: Progress = lambda *_: None) -> list[str]:
    """Write the set anew; returns what a user should know, a line each.

    What was written is read again, and compared but for the bytes, before it gets its name: there
    is a whole set under `asked.output`, or none. Raises BadSet, also for links that lead out of the
    set unless `asked.follow_links`, and the errors of reading.
    """
    source, output = _expand_path(options.source), _expand_path(options.output)
    target = _load_format(options.to, "--to")
    kind = options.kind or _find_kind(source)
    _check_places(source, output)
    if options.columns != Columns() and kind != TABLES:
        raise BadSet(f"{source}: is read as {kind}, which has no columns; leave their names out")
    read = _load_format(kind, "--from").read(source, options.columns)
    _check_links(read, follow=options.follow_links)
    contents = look(read, lambda count: progress("look", count, count))
    _check_fits(read, contents, target, options.to)
    lines = [f"{source}: read as {kind}, {len(contents.prints)} clips", *read.notes]
    entries = _count_entries(read, len(contents.prints), progress)
    if is_manifest(output):
        _name(output, target, entries)
        return [*lines, f"{output} names the files where they are"]
    with _draft_folder(output) as draft:
        _check_room(draft, contents)
        target.write(draft, entries, contents, options.shard * MIB)
        if read.legend is not None:
            with replacing(draft / target.legend) as legend:
                legend.write_bytes(read.legend)
        _check_same(contents, look(target.read(draft, Columns())), options.to)
    return [*lines, f"{output}: {target.summary}, {contents.size / MIB:.1f} MiB of files"]


def _load_format(name: str, option: str) -> Format:
    if name not in FORMATS.names():
        raise BadSet(f"{option} {name!r} is no way to store a set{suggest(name, FORMATS.names())}")
    return FORMATS.load(name)


def _find_kind(source: Path) -> str:
    """How a set is stored; BadSet where that is not clear."""
    if not source.exists():
        raise BadSet(f"{source}: there is no such file or folder")
    fitting = [name for name in FORMATS.names() if FORMATS.load(name).matches(source)]
    fitting = [name for name in fitting if name != ANY] or fitting
    if not fitting:
        kinds = ", ".join(f"{kind}: {FORMATS.load(kind).summary}" for kind in FORMATS.names())
        raise BadSet(f"{source}: is stored in no known way ({kinds}); name a folder or such a file")
    if len(fitting) > 1:
        raise BadSet(
            f"{source}: may be read as {' or as '.join(fitting)}; say which with --from, or name"
            " the files"
        )
    return fitting[0]


def _expand_path(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:  # ~name of nobody
        raise BadSet(f"{path}: {error}; write the path out") from error


def _check_links(read: Packed, *, follow: bool) -> None:
    """Refuse to copy what a link of the set names elsewhere, such as a key in a home folder."""
    if read.outside and not follow:
        first = read.outside[0]
        more = f" ({len(read.outside)} such files in all)" if len(read.outside) > 1 else ""
        raise BadSet(
            f"{first}: a link brings it from {first.resolve()}, outside of the set{more}; give"
            " --follow-links if it is meant, or remove it"
        )


def _check_places(source: Path, output: Path) -> None:
    if output.is_dir() and not any(output.iterdir()):
        output.rmdir()
    if output.exists() or output.is_symlink():
        raise BadSet(f"{output} exists and is not overwritten; name another with -o, or remove it")
    inside = output.resolve().is_relative_to(source.resolve())
    if source.is_dir() and inside and not is_manifest(output):
        raise BadSet(
            f"{output} lies in {source}, where it would be read as part of it; move it out"
        )


def _check_fits(read: Packed, contents: SetContents, target: Format, to: str) -> None:
    """Whether the target can hold what there is."""
    if "" in contents.regions and len(contents.regions) > 1 and not target.mixed:
        raise BadSet(
            f"some clips have one mask and others a mask a region ({', '.join(contents.regions)}),"
            f" which {to} cannot tell apart; use --to jsonl"
        )
    if target.frames:
        return
    for entry in read.entries():
        if any(isinstance(part, FrameFiles) for part in list_parts(entry)):
            raise BadSet(
                f"clip {entry.name!r}, its mask or its control is a folder of frames, which {to}"
                " does not hold; make it a video (masks: lossless, FFV1 in .mkv), or use --to"
                " folder or jsonl"
            )


def _check_room(draft: Path, contents: SetContents) -> None:
    free = shutil.disk_usage(draft).free
    if free < contents.size:
        raise BadSet(
            f"{draft.parent} has {free / MIB:.0f} MiB free, the set has {contents.size / MIB:.0f}"
            " MiB; free some, or choose another disk"
        )


def _check_same(before: SetContents, after: SetContents, to: str) -> None:
    names = before.prints.keys() | after.prints.keys()
    lost_names = sorted(name for name in names if before.prints.get(name) != after.prints.get(name))
    if lost_names:
        raise BadSet(
            f"clip {lost_names[0]!r} does not come back from {to} as it was ({len(lost_names)} in"
            " all), for a file of its name means something else there; rename it"
        )


def _count_entries(read: Packed, count: int, progress: Progress) -> Iterator[SetEntry]:
    for number, entry in enumerate(read.entries(), 1):
        yield entry
        progress("pack", number, count)


def _name(output: Path, target: Format, entries: Iterator[SetEntry]) -> None:
    if not isinstance(target, Naming):
        raise BadSet(f"-o {output} is a manifest, so it goes with --to jsonl; else name a folder")
    target.name(output, entries)


@contextmanager
def _draft_folder(output: Path) -> Iterator[Path]:
    """A new folder that becomes `output` when the block ends well; what a killed run left goes."""
    draft = output.absolute().with_name(f".{output.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        draft.rename(output)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
