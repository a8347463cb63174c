"""LoRA files of the workspace, known by ids: those of runs, of their checkpoints, and others.

A run that trained all weights has its model where another has its LoRA.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frisket.disk.untrusted import BadText, cut, parse_json, read_text
from frisket.studio.runs.index import RunFolder
from frisket.studio.runs.results import RECORD, find_model

HEADER = 16 << 20  # bytes of a header at most: an adapter of the largest model has 1 or 2
MARKS = ("lora", "lokr_", "hada_", "dora_scale", "diff_b")  # in the names of an adapter's tensors
DEEPEST = 8  # folders below the root that are searched
PASSED = frozenset({"node_modules", "__pycache__", "generated", "trash"})
FILES = 20_000  # looked at in one search: a folder of more is no project


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA the page may choose; `path` is as the command takes it (two experts' common name)."""

    id: str
    name: str
    path: Path
    run: str | None  # the id of the run whose end it is, or whose checkpoint
    step: int | None  # of a checkpoint, or of the run
    family: str
    trigger: str
    focus: str  # the one word of the text that it acts on
    modified: float  # seconds since 1970
    is_model: bool = False  # a model whose weights were all trained: it acts alone, at strength 1


def list_loras(root: Path, runs: Sequence[RunFolder]) -> list[LoraFile]:
    """The LoRAs of the runs, with their checkpoints, then other files below the root.

    A file is a LoRA by the names of its tensors; what cannot be read is left out (the command that
    is given it says why).
    """
    loras: dict[Path, LoraFile] = {}
    for run in runs:
        for lora in _list_of_run(run):
            loras.setdefault(lora.path, lora)
    known_files = {file for path in loras for file in list_parts(path)}
    for path in _walk(root):
        if path in known_files or path in loras:
            continue
        other = _describe(path, path.relative_to(root).as_posix(), None, None)
        if other is not None:
            loras[path] = other
    return list(loras.values())


def _list_of_run(run: RunFolder) -> Iterator[LoraFile]:
    """The model of a run or its LoRA, and those of its checkpoints."""
    model = _describe_model(run)
    if model is not None:
        yield model
    for folder, step in _list_run_folders(run):
        for path in _list_common_names(folder):
            lora = _describe(path, _name_of_run(run, step), run, step or run.steps)
            if lora is not None:
                yield lora


def _list_run_folders(run: RunFolder) -> Iterator[tuple[Path, int | None]]:
    yield run.folder, None
    for folder in sorted((run.folder / "checkpoints").glob("step-*"), reverse=True):
        step = folder.name.removeprefix("step-")
        if step.isdecimal():
            yield folder, int(step)


def _name_of_run(run: RunFolder, step: int | None) -> str:
    return run.name if step is None else f"{run.name}, step {step}"


def _list_common_names(folder: Path) -> list[Path]:
    """lora.safetensors of a folder, whether it is one file or one an expert."""
    common = folder / "lora.safetensors"
    return [common] if list_parts(common) else []


def list_parts(path: Path) -> list[Path]:
    """The files behind a LoRA's name, as `runs.sampling.sampler` finds them; [] if none is."""
    if path.is_file():
        return [path]
    return sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"))


def _walk(root: Path) -> Iterator[Path]:
    folders, count = [(root, 0)], 0
    while folders:
        folder, depth = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            count += 1
            if entry.name.startswith(".") or count > FILES:
                continue
            if entry.is_file(follow_symlinks=False) and entry.name.endswith(".safetensors"):
                yield Path(entry.path)
            elif (
                depth < DEEPEST and entry.name not in PASSED and entry.is_dir(follow_symlinks=False)
            ):
                folders.append((Path(entry.path), depth + 1))


_headers: dict[Path, tuple[tuple[int, int], tuple[bool, dict[str, str]]]] = {}


def _look(file: Path) -> tuple[bool, dict[str, str]]:
    """Whether a file is an adapter, and its metadata; read once as long as it does not change.

    OSError, and BadText for a file that is none of safetensors.
    """
    about = file.stat()
    stamp = (about.st_mtime_ns, about.st_size)
    header = _headers.get(file)
    if header is None or header[0] != stamp:
        keys, metadata = read_header(file)
        is_adapter = any(mark in key.lower() for key in keys for mark in MARKS)
        header = _headers[file] = (stamp, (is_adapter, metadata))
    return header[1]


def _describe(path: Path, name: str, run: RunFolder | None, step: int | None) -> LoraFile | None:
    try:
        file = list_parts(path)[0]
        is_adapter, metadata = _look(file)
        modified = file.stat().st_mtime
    except (OSError, BadText, IndexError):
        return None
    if not is_adapter:
        return None
    record = _read_entry(metadata, "frisket.adapter")
    return LoraFile(
        id=name_lora(path),
        name=name,
        path=path,
        run=run.id if run else None,
        step=step,
        family=_read_family(metadata),
        trigger=_read_trigger(metadata),
        focus=cut(str(record.get("focus") or ""), 200),
        modified=modified,
    )


def _describe_model(run: RunFolder) -> LoraFile | None:
    """The model of a run that trained all weights; None for a run of a LoRA, and before its end."""
    path = find_model(run.folder)
    if path is None:
        return None
    try:
        file = run.folder / RECORD
        tree = parse_json(read_text(file, HEADER))
        modified = file.stat().st_mtime
    except (OSError, BadText):
        return None
    pairs = tree.items() if isinstance(tree, dict) else ()
    metadata = {str(key): str(value) for key, value in pairs}
    return LoraFile(
        id=name_lora(path),
        name=f"{run.name}, all weights",
        path=path,
        run=run.id,
        step=run.steps,
        family=_read_family(metadata),
        trigger=_read_trigger(metadata),
        focus="",
        modified=modified,
        is_model=True,
    )


def _read_family(metadata: Mapping[str, str]) -> str:
    return str(_read_entry(metadata, "frisket.base").get("family", ""))


def _read_trigger(metadata: Mapping[str, str]) -> str:
    return cut(metadata.get("modelspec.trigger_phrase", ""), 200)


def _read_entry(metadata: Mapping[str, str], name: str) -> Mapping[str, Any]:
    try:
        tree = parse_json(metadata.get(name, "{}"))
    except BadText:
        return {}
    return tree if isinstance(tree, dict) else {}


def read_header(path: Path) -> tuple[list[str], dict[str, str]]:
    """Names of tensors and metadata of a safetensors file, without reading a tensor.

    BadText for a file that is none.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= HEADER:
            raise BadText(f"{path}: is no safetensors file; its header would be {size} bytes")
        raw = file.read(size)
    if len(raw) != size:
        raise BadText(f"{path}: is cut short")
    try:
        tree = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadText(f"{path}: its header is damaged") from error
    if not isinstance(tree, dict):
        raise BadText(f"{path}: its header is damaged")
    metadata = tree.pop("__metadata__", {})
    pairs = metadata.items() if isinstance(metadata, dict) else ()
    return list(tree), {str(key): str(value) for key, value in pairs}


def name_lora(path: Path) -> str:
    """The id of a LoRA: what the page names it by."""
    raw = os.fsencode(path)
    return hashlib.blake2b(raw, digest_size=9, person=b"frisket.adapter").hexdigest()
