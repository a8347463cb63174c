"""The runs of a workspace: run folders below it, and those that its configurations write to."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frisket.disk.untrusted import BadText, parse_toml, read_text
from frisket.studio.runs.metrics_tail import Best, StepTail
from frisket.studio.runs.results import list_results
from frisket.studio.runs.run_state import RunState, is_running, read_started, read_state
from frisket.studio.workspace import UnknownId, Workspace

TRAINED = "trained.toml"  # as `config.run_config`
MARKS = frozenset({TRAINED, "metrics.jsonl"})
DEEPEST = 8  # folders below the root that are walked
PASSED = frozenset({"checkpoints", "samples", "previews", "cache", "node_modules", "__pycache__"})
PAGES: Mapping[str, str] = {
    "run": "index.html",
    "report": "evaluation/report.html",
    "attention": "attention/attend.html",
    "samples": "samples/index.html",
    "mixes": "mixes.png",
}


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run folder, as it stands."""

    id: str  # a hash of the folder
    name: str  # the folder as seen from the workspace
    folder: Path
    config: Path | None  # the configuration of the workspace that writes here
    state: RunState
    started: float | None  # seconds since 1970
    steps: int
    of_steps: int | None  # None before the run has counted them
    seconds: float  # of wall time, resumes included
    best: Best | None
    lora: Path | None  # the LoRA of the end, or the first of several experts'; or the model
    family: str
    variant: str
    pages: Mapping[str, str]  # kind to its place in the folder, of those that are there


@dataclass(slots=True)
class _Folder:
    """What is remembered of a run folder between two looks."""

    tail: StepTail
    settings: dict[str, Any] = field(default_factory=dict)
    settings_time: int = -1


class RunIndex:
    """Finds runs and follows them; what has not changed is not read again. Safe over threads."""

    def __init__(self, root: Path, list_configs: Callable[[], Iterable[Path]]) -> None:
        """`list_configs` gives the configurations of the workspace as they are now."""
        self.root = root.resolve()
        self._list_configs = list_configs
        self._folders: dict[Path, _Folder] = {}
        self._outputs: dict[Path, tuple[int, Path | None]] = {}  # by config: when read, its output
        self._lock = threading.Lock()

    def refresh(self) -> list[RunFolder]:
        """All runs as they are now, the newest first."""
        with self._lock:
            outputs = self._read_outputs()
            folders = dict.fromkeys(walk_runs(self.root))
            folders |= dict.fromkeys(
                folder for folder in outputs if has_mark(folder) or is_running(folder)
            )
            for lost_folder in set(self._folders) - set(folders):
                del self._folders[lost_folder]
            runs = [self._read_run(folder, outputs.get(folder)) for folder in folders]
        return _sort(runs)

    def look(self) -> list[RunFolder]:
        """The runs that are known, as they are now: no folder is searched for others."""
        with self._lock:
            outputs = self._read_outputs()
            runs = [self._read_run(folder, outputs.get(folder)) for folder in self._folders]
        return _sort(runs)

    def get(self, run_id: str) -> RunFolder:
        """One run, as it is now; UnknownId."""
        with self._lock:
            for folder in self._folders:
                if name_id(folder) == run_id:
                    return self._read_run(folder, self._read_outputs().get(folder))
        run = next((run for run in self.refresh() if run.id == run_id), None)
        if run is None:
            raise UnknownId(f"there is no run {run_id[:40]!r} here; its folder may have moved")
        return run

    def read_settings(self, run: RunFolder) -> dict[str, Any]:
        """What the run was trained with, as the tree of its trained.toml; {} before it is there."""
        with self._lock:
            return self._remember(run.folder).settings

    def _read_run(self, folder: Path, config: Path | None) -> RunFolder:
        entry = self._remember(folder)
        entry.tail.refresh()
        options, model = (_read_section(entry.settings, name) for name in ("run", "model"))
        of_steps = options.get("steps")
        of_steps = of_steps if isinstance(of_steps, int) else None
        results = list_results(folder)
        return RunFolder(
            id=name_id(folder),
            name=_name(folder, self.root),
            folder=folder,
            config=config,
            state=read_state(folder, entry.tail.step, of_steps),
            started=read_started(folder),
            steps=entry.tail.step,
            of_steps=of_steps,
            seconds=entry.tail.seconds,
            best=entry.tail.best,
            lora=results[0] if results else None,
            family=str(model.get("family", "")),
            variant=str(model.get("variant", "")),
            pages={kind: path for kind, path in PAGES.items() if (folder / path).is_file()},
        )

    def _remember(self, folder: Path) -> _Folder:
        entry = self._folders.get(folder)
        if entry is None:
            entry = self._folders[folder] = _Folder(StepTail(folder / "metrics.jsonl"))
        try:
            mtime_ns = (folder / TRAINED).stat().st_mtime_ns
        except OSError:
            entry.settings, entry.settings_time = {}, -1
            return entry
        if mtime_ns != entry.settings_time:
            try:
                entry.settings = parse_toml(read_text(folder / TRAINED))
            except (BadText, OSError):  # `frisket evaluate` refuses it by name
                entry.settings = {}
            entry.settings_time = mtime_ns
        return entry

    def _read_outputs(self) -> dict[Path, Path]:
        """Where the configurations of the workspace write to."""
        outputs: dict[Path, Path] = {}
        for config in self._list_configs():
            try:
                mtime_ns = config.stat().st_mtime_ns
            except OSError:
                continue
            output = self._outputs.get(config)
            if output is None or output[0] != mtime_ns:
                output = self._outputs[config] = (mtime_ns, read_output(config))
            if output[1] is not None:
                outputs.setdefault(output[1], config)
        return outputs


def _sort(runs: list[RunFolder]) -> list[RunFolder]:
    return sorted(runs, key=lambda run: (run.started or 0.0, run.name), reverse=True)


def read_output(config: Path) -> Path | None:
    """The folder a configuration writes to; None where it cannot be read."""
    from frisket.config.load import load  # noqa: PLC0415 - the server's start need not wait for it

    try:
        return load(config).run.output.resolve()
    except (OSError, ValueError):  # ConfigError, BadText: the training page says what is wrong
        return None


def walk_runs(root: Path) -> Iterator[Path]:
    """Folders below `root` that hold a run, itself included; hidden ones and links are left out."""
    folders = [(root, 0)]
    while folders:
        folder, depth = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        names = {entry.name for entry in entries}
        if names & MARKS or (".frisket.lock" in names and is_running(folder)):
            yield folder
        if depth < DEEPEST:
            folders += [
                (Path(entry.path), depth + 1)
                for entry in entries
                if not entry.name.startswith(".")
                and entry.name not in PASSED
                and entry.is_dir(follow_symlinks=False)
            ]


def has_mark(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return any((folder / name).is_file() for name in MARKS)


def name_id(folder: Path) -> str:
    """The id of a run: what the page names it by."""
    raw = os.fsencode(folder)
    return hashlib.blake2b(raw, digest_size=9, person=b"frisket.run").hexdigest()


def _name(folder: Path, root: Path) -> str:
    if folder == root:
        return folder.name
    place_below = folder.relative_to(root) if folder.is_relative_to(root) else None
    return place_below.as_posix() if place_below else "/".join(folder.parts[-2:])


def _read_section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = settings.get(name)
    return section if isinstance(section, dict) else {}


_INDEXES: dict[Path, RunIndex] = {}
_INDEXES_LOCK = threading.Lock()


def open_index(workspace: Workspace) -> RunIndex:
    """The index of a workspace: one a folder, kept as long as the server lives."""
    with _INDEXES_LOCK:
        index = _INDEXES.get(workspace.root)
        if index is None:
            index = _INDEXES[workspace.root] = RunIndex(workspace.root, workspace.list_configs)
        return index


def find_runs(workspace: Workspace) -> list[RunFolder]:
    """All runs of a workspace, the newest first."""
    return open_index(workspace).refresh()
