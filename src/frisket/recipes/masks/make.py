"""`frisket masks`: region masks for a folder of clips; resumable, a bad clip stops no other."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from frisket.config.maskgen import MaskGeneration, MaskRequest
from frisket.inspection.dataset_scan import CLIP_FOLDERS, clip_folder
from frisket.maskgen.base import BACKENDS, BackendUnusable
from frisket.maskgen.files import record
from frisket.maskgen.files.recording import key_of
from frisket.maskgen.files.store import MaskStore
from frisket.maskgen.generator import MaskGenerator
from frisket.maskgen.job import ClipResult, MaskJob, Task
from frisket.maskgen.pipeline import backends_of
from frisket.media.files import ClipFiles, MasksNotFound, find
from frisket.media.manifest import is_manifest
from frisket.media.workers import begin
from frisket.progress import Progress
from frisket.recipes.masks.request import PreparedJob, device_of, prepare_job
from frisket.registry import suggest

log = logging.getLogger(__name__)

AHEAD = 2  # groups handed to each worker before one of its own is done
SHARE = 4  # clips in a group where no model wants them in batches
DOUBTFUL_BELOW = (
    0.5  # confidence below which a mask is to be looked at, here and on the review page
)


@dataclass(slots=True)
class MaskingResult:
    """What a run came to. `look` names the clips a person should look at, and why."""

    place: MaskStore
    counts: Counter[str] = field(default_factory=Counter)  # done, unsure, nothing, failed, ...
    failed: list[ClipResult] = field(default_factory=list)
    look: list[ClipResult] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    licences: list[str] = field(default_factory=list)
    regions: tuple[str, ...] = ()
    prompts: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    seconds: float = 0.0


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the message says what was done and how to go on."""


def place_of(folder: Path, output: Path | None, *, beside: bool = False) -> tuple[Path, MaskStore]:
    """The clip folder, and where its masks go.

    By default a folder `masks` beside a clip folder called so (clips, images, ...), else a folder
    of the clips' name with `_masks`: both are found by `frisket init`, and other trainers do not
    take masks there for pictures.
    """
    clips = clip_folder(folder)
    if beside:
        return clips, MaskStore(clips, beside=True)
    if output is not None:
        return clips, MaskStore(output)
    if clips.name.lower() in CLIP_FOLDERS:
        return clips, MaskStore(clips.parent / "masks")
    absolute = clips.absolute()
    name = absolute.stem if is_manifest(clips) else absolute.name
    return clips, MaskStore(absolute.with_name(f"{name}_masks"))


def clips_of(clips: Path, place: MaskStore, captions: Path | None = None) -> list[ClipFiles]:
    """The clips of a folder with their captions, masks among them left out."""
    if place.beside:
        try:
            return find(clips, masks="sidecar", folders={}, captions=captions).clips
        except MasksNotFound:
            return find(clips, masks="none", folders={}, captions=captions).clips
    clip_files = find(clips, masks="none", folders={}, captions=captions).clips
    return [clip for clip in clip_files if not clip.clip.is_relative_to(place.folder)]


def make_masks(request: MaskRequest, *, progress: Progress = lambda *_: None) -> MaskingResult:
    """Make what is missing or out of date; hand work is left alone unless `request.overwrite`.

    A dry run loads no model and writes nothing: it counts what would be done. Raises before any
    work what is wrong with names, rules, phrases or weights, and Interrupted at Ctrl-C: what is
    done is on disk, and the same command goes on.
    """
    began = time.perf_counter()
    options = request.maskgen
    clips, place = place_of(request.folder, options.output, beside=options.beside)
    clip_files = _choose_clips(request.only, clips_of(clips, place, options.prompts.captions))
    prepared = prepare_job(
        options, clip_files, place, dry=request.dry_run, noun_phrases=request.noun_phrases
    )
    result = MaskingResult(place, messages=prepared.messages, regions=prepared.job.regions)
    result.licences = prepared.licences
    result.prompts = {task.name: task.prompts for task in prepared.tasks}
    tasks = list(_list_tasks(request, prepared, result))
    if request.limit:
        result.counts["left for later"] = max(len(tasks) - request.limit, 0)
        tasks = tasks[: request.limit]
    if request.dry_run:
        result.counts["to make"] = len(tasks)
        return result
    for line in result.licences if tasks else ():
        if line not in prepared.announced:
            log.info("%s", line)
    for line in result.messages:
        log.info("%s", line)
    try:
        for count, outcome in enumerate(_run_tasks(options, prepared.job, tasks), 1):
            _note_result(result, outcome)
            spent = time.perf_counter() - began
            progress("masks", count, len(tasks), {"clips/s": count / spent})
    except KeyboardInterrupt as stop:
        finished = sum(result.counts[name] for name in ("done", "unsure", "nothing"))
        raise Interrupted(
            f"stopped: {finished} of {len(tasks)} clips done and kept in {place.folder}; the same"
            " command goes on with the others"
        ) from stop
    result.seconds = time.perf_counter() - began
    return result


def _list_tasks(
    request: MaskRequest, prepared: PreparedJob, result: MaskingResult
) -> Iterator[Task]:
    """The tasks that are not done already; counts the others."""
    place, job = prepared.job.place, prepared.job
    for task in prepared.tasks:
        try:
            mask_record = record.load(place.record(task.name))
        except ValueError as error:
            if not (request.overwrite and isinstance(error, record.BadMaskRecord)):
                _note_result(result, ClipResult(task.name, "failed", None, str(error)))
                continue
            place.record(task.name).unlink()
            mask_record = None
        soft = () if place.beside else job.legend
        mask_paths = place.present(task.name, task.clip, soft)
        state = record.state(mask_record, clip=task.clip, masks=mask_paths, key=key_of(job, task))
        if state == "hand" and not request.overwrite:
            result.counts["by hand, kept"] += 1
        elif mask_paths and _is_kept(mask_record, request):
            result.counts["accepted, kept"] += 1
        elif state == "done" and not request.again:
            result.counts["done before"] += 1
        else:
            yield task


def _is_kept(mask_record: record.MaskRecord | None, request: MaskRequest) -> bool:
    return _is_accepted(mask_record) and not request.overwrite


def _is_accepted(mask_record: record.MaskRecord | None) -> bool:
    """Whether a person has looked at the mask and taken it."""
    verdict = mask_record.verdict if mask_record else None
    return verdict is not None and verdict.kind == "accepted"


def _choose_clips(only: Sequence[str], clip_files: Sequence[ClipFiles]) -> list[ClipFiles]:
    """The clips named; all where none is. BackendUnusable for a name that is not there."""
    names = [clip.name for clip in clip_files]
    for name in only:
        if name not in names:
            raise BackendUnusable(f"--only {name}: no clip is named so{suggest(name, names)}")
    return [clip for clip in clip_files if not only or clip.name in only]


def _note_result(result: MaskingResult, outcome: ClipResult) -> None:
    result.counts[outcome.status] += 1
    if outcome.status == "failed":
        result.failed.append(outcome)
        log.warning("%s: failed: %s", outcome.name, outcome.message)
    elif outcome.status != "done" or (outcome.confidence or 0.0) < DOUBTFUL_BELOW:
        result.look.append(outcome)  # named once, at the end


# Work in processes (one a device, or several where no model is asked) or threads


def _run_tasks(
    options: MaskGeneration, job: MaskJob, tasks: Sequence[Task]
) -> Iterator[ClipResult]:
    size = (
        job.batch
        if _has_weights(job)
        else min(SHARE, max(len(tasks) // max(_count_workers(options, job), 1), 1))
    )
    groups = [tasks[at : at + size] for at in range(0, len(tasks), size)]
    with _open_pools(options, job, len(groups)) as pools:
        yield from _run_groups(pools, groups)


def _has_weights(job: MaskJob) -> bool:
    """Whether any backend has weights."""
    names = [name for parts in job.sources for name in backends_of(parts)]
    return any(BACKENDS.load(name).weights for name in names)


def _count_workers(options: MaskGeneration, job: MaskJob) -> int:
    if options.workers:
        return options.workers
    return 2 if _has_weights(job) else min(os.cpu_count() or 1, 4)


Pool = tuple[Executor, Callable[[Sequence[Task]], list[ClipResult]], int]


@contextmanager
def _open_pools(options: MaskGeneration, job: MaskJob, groups: int) -> Iterator[list[Pool]]:
    """Executors with what they run and how many groups each takes at once."""
    workers = min(_count_workers(options, job), max(groups, 1))
    with ExitStack() as stack:
        if len(options.devices) > 1:
            yield [_start_processes(stack, _move_to(job, device), 1) for device in options.devices]
        elif _has_weights(job) or workers == 1:
            maker = MaskGenerator(job)
            stack.callback(maker.close)
            threads = ThreadPoolExecutor(workers)
            stack.callback(threads.shutdown, cancel_futures=True)
            yield [(threads, partial(_make_with, maker), workers)]
        else:
            yield [_start_processes(stack, job, workers)]


def _make_with(maker: MaskGenerator, tasks: Sequence[Task]) -> list[ClipResult]:
    return list(maker.make(tasks))


def _move_to(job: MaskJob, device: str) -> MaskJob:
    place = device_of(device)
    weights = {name: replace(source, device=place) for name, source in job.weights.items()}
    return replace(job, default=replace(job.default, device=place), weights=weights)


def _start_processes(stack: ExitStack, job: MaskJob, workers: int) -> Pool:
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin_worker, (job,))
    stack.callback(pool.shutdown, cancel_futures=True)
    return pool, _make_here, workers


_GENERATORS: list[MaskGenerator] = []  # the one maker of a worker process


def _begin_worker(job: MaskJob) -> None:
    begin()
    _GENERATORS.append(MaskGenerator(job))


def _make_here(tasks: Sequence[Task]) -> list[ClipResult]:
    return list(_GENERATORS[0].make(tasks))


def _run_groups(pools: Sequence[Pool], groups: Sequence[Sequence[Task]]) -> Iterator[ClipResult]:
    """Hand out groups a few at a time, so that memory does not grow with their number."""
    waiting = iter(groups)
    running: dict[Future[list[ClipResult]], Pool] = {}

    def fill(pool: Pool) -> None:
        executor, run, _ = pool
        group = next(waiting, None)
        if group is not None:
            running[executor.submit(run, group)] = pool

    for pool in pools:
        for _ in range(pool[2] * AHEAD):
            fill(pool)
    while running:
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            pool = running.pop(future)
            fill(pool)
            try:
                yield from future.result()
            except BrokenProcessPool as error:
                raise BackendUnusable(
                    "a worker process was killed, perhaps for memory; what is done is kept, go on"
                    " with fewer --workers or a smaller --longest"
                ) from error
