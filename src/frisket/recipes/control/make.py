"""`frisket control make`: control pictures for a folder of clips; a bad clip stops no other."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import torch

from frisket.config.calls import ControlMakeRequest
from frisket.control.base import (
    KINDS,
    ControlKind,
    Drawer,
    DrawRequest,
    KindUnusable,
    fill_options,
    load_drawer,
    spell_licence,
)
from frisket.control.making import list_controls, make_control, name_control, remove_others
from frisket.control.record import (
    BadControlRecord,
    ControlRecord,
    FileStamp,
    find_state,
    hash_settings,
    load_record,
    save_record,
)
from frisket.disk.atomic import CannotWrite
from frisket.inspection.dataset_scan import clip_folder
from frisket.media.files import ClipFiles, find
from frisket.media.frames import probe
from frisket.progress import Progress

log = logging.getLogger(__name__)


class ControlStopped(KeyboardInterrupt):
    """Ctrl-C; the message says what was done and how to go on."""


@dataclass(slots=True)
class ControlResult:
    """What a run came to: counts of made, done, by hand, failed; the failures with their clips."""

    counts: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)
    handwork: list[str] = field(
        default_factory=list
    )  # clips whose picture is hand work, left alone


def make_controls(
    request: ControlMakeRequest, *, progress: Progress = lambda *_: None
) -> ControlResult:
    """Draw what is missing or out of date; hand work is left alone unless `request.overwrite`.

    A clip that cannot be used is one entry of `failed`, and the others are drawn. A dry run
    writes nothing. Raises before any work UnknownPlugin, KindUnusable,
    ControlModelNotFound, and as `media.files.find`; CannotWrite; ControlStopped at Ctrl-C.
    """
    clips = clip_folder(request.folder)
    _check_output(clips, request.output)
    fill_options(request.kind, request.options)
    kind = KINDS.load(request.kind)
    output = request.output.resolve()
    files = [
        clip
        for clip in find(clips, masks="none", folders={}).clips
        if not clip.clip.resolve().is_relative_to(output)
    ]
    device = _choose_device(request.device)
    drawer = load_drawer(
        request.kind, DrawRequest(request.options, request.source, device, request.detector)
    )
    parents = frozenset(str(parent) for clip in files for parent in PurePath(clip.name).parents)
    work = _Work(request, kind, drawer.fingerprint, parents)
    tasks = [clip for clip in files if work.decide(clip)]
    if request.dry_run:
        work.result.counts["to make"] = len(tasks)
        return work.result
    if tasks and kind.files:
        log.info("%s", spell_licence(kind))
    try:
        for count, clip in enumerate(tasks, 1):
            try:
                work.make(clip, drawer)
            except CannotWrite:
                raise
            # BadMedia, KindUnusable; RuntimeError: a card without memory for one large frame.
            except (ValueError, OSError, RuntimeError) as error:
                work.fail(clip, error)
            progress("control", count, len(tasks))
    except KeyboardInterrupt as stop:
        raise ControlStopped(
            f"stopped: {work.result.counts['made']} of {len(tasks)} control pictures made and kept"
            f" in {request.output}; the same command goes on with the others"
        ) from stop
    return work.result


@dataclass(slots=True)
class _Work:
    """One call on its way through the clips."""

    request: ControlMakeRequest
    kind: ControlKind
    fingerprint: str
    parents: frozenset[str] = frozenset()  # folders of clips, by name
    result: ControlResult = field(default_factory=ControlResult)

    @property
    def key(self) -> str:
        options = fill_options(self.request.kind, self.request.options)
        return hash_settings(self.request.kind, self.kind.rule, options, self.fingerprint)

    def decide(self, clip: ClipFiles) -> bool:
        """Whether its control is to be made; counts those that are not."""
        controls = list_controls(self.request.output, clip.name, self.parents)
        try:
            record = load_record(self._record(clip))
        except BadControlRecord as error:
            if not self.request.overwrite:
                self.fail(clip, error)
                return False
            record = None
        state = find_state(record, clip=clip.clip, controls=controls, key=self.key)
        if state == "done":
            self.result.counts["done already"] += 1
        if state == "hand" and not self.request.overwrite:
            self.result.counts["by hand"] += 1
            self.result.handwork.append(clip.name)
        return state in ("fresh", "stale") or (state == "hand" and self.request.overwrite)

    def make(self, clip: ClipFiles, drawer: Drawer) -> None:
        """Draw a clip's control and write down how; stopped between the two it is not there.

        Raises as `make_control`, and CannotWrite.
        """
        output = self.request.output
        path, stamp = name_control(output, clip.name, probe(clip.clip)), FileStamp.read(clip.clip)
        if self.request.overwrite:
            remove_others(output, clip.name, path, self.parents)
        make_control(clip.clip, drawer, path)
        try:  # a picture without a record would count as hand work
            self.note(clip, stamp, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        remove_others(output, clip.name, path, self.parents)

    def note(self, clip: ClipFiles, stamp: FileStamp, path: Path) -> None:
        """Write down how a control was made."""
        licence = self.kind.licence
        record = ControlRecord(
            stamp,
            FileStamp.read(path),
            self.request.kind,
            self.key,
            fill_options(self.request.kind, self.request.options),
            self.request.source,
            self.fingerprint,
            licence.code,
            licence.weights,
        )
        save_record(record, self._record(clip))
        self.result.counts["made"] += 1

    def fail(self, clip: ClipFiles, error: Exception) -> None:
        """Count a clip that could not be drawn, and why."""
        self.result.counts["failed"] += 1
        self.result.failed.append((clip.name, str(error)))

    def _record(self, clip: ClipFiles) -> Path:
        return self.request.output / f"{clip.name}.json"


def _check_output(clips: Path, output: Path) -> None:
    if output.resolve() == clips.resolve():
        raise KindUnusable(
            f"-o {output} is the clip folder itself, where control pictures would take the place of"
            " clips; name another folder, such as control beside it"
        )
    if output.is_file():
        raise KindUnusable(f"-o {output} is a file; name a folder")


def _choose_device(name: str) -> str:
    """KindUnusable for a device that torch does not know, or does not see here."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise KindUnusable(
            f"--device {name}: torch knows no such device; cpu, cuda, cuda:0"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise KindUnusable(
            f"--device {name}: torch sees {torch.cuda.device_count()} cards; take --device cpu"
        )
    return name


def list_kinds() -> list[str]:
    """Lines on every kind: what it draws, what it needs, its options and licence."""
    lines: list[str] = []
    for name in KINDS.names():
        kind = KINDS.load(name)
        lines.append(f"{name:<8} {kind.summary}")
        needs = f"needs --source, {kind.files}, such as {kind.published}; " if kind.files else ""
        options = _spell_options(kind)
        lines.append(f"{'':<8} {needs}{options}code {kind.licence.code}" + _spell_weights(kind))
    return lines


def _spell_options(kind: ControlKind) -> str:
    pairs: Sequence[str] = [f"{option}={value:g}" for option, value in kind.options.items()]
    return f"options {', '.join(pairs)}; " if pairs else ""


def _spell_weights(kind: ControlKind) -> str:
    weights = f", weights {kind.licence.weights}" if kind.licence.weights else ", no weights"
    return f"{weights}. {kind.licence.warning}" if kind.licence.warning else weights
