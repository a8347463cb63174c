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
from frisket.recipes.masks.request import Ready, device_of, ready

log = logging.getLogger(__name__)

AHEAD = 2  # groups handed to each worker before one of its own is done
SHARE = 4  # clips in a group where no model wants them in batches
DOUBTED = 0.5  # confidence below which a mask is to be looked at, here and on the review page


@dataclass(slots=True)
class Made:
    """What a run came to. `look` names the clips a person should look at, and why."""

    place: MaskStore
    counts: Counter[str] = field(default_factory=Counter)  # done, unsure, nothing, failed, ...
    failed: list[ClipResult] = field(default_factory=list)
    look: list[ClipResult] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
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
    named = clips.absolute()
    name = named.stem if is_manifest(clips) else named.name
    return clips, MaskStore(named.with_name(f"{name}_masks"))


def clips_of(clips: Path, place: MaskStore, captions: Path | None = None) -> list[ClipFiles]:
    """The clips of a folder with their captions, masks among them left out."""
    if place.beside:
        try:
            return find(clips, masks="sidecar", folders={}, captions=captions).clips
        except MasksNotFound:
            return find(clips, masks="none", folders={}, captions=captions).clips
    there = find(clips, masks="none", folders={}, captions=captions).clips
    return [one for one in there if not one.clip.is_relative_to(place.folder)]


def masks(request: MaskRequest, *, progress: Progress = lambda *_: None) -> Made:
    """Make what is missing or out of date; hand work is left alone unless `request.overwrite`.

    A dry run loads no model and writes nothing: it counts what would be done. Raises before any
    work what is wrong with names, rules, phrases or weights, and Interrupted at Ctrl-C: what is
    done is on disk, and the same command goes on.
    """
    began = time.perf_counter()
    options = request.maskgen
    clips, place = place_of(request.folder, options.output, beside=options.beside)
    found = clips_of(clips, place, options.prompts.captions)
    prepared = ready(options, found, place, dry=request.dry_run, noun_phrases=request.noun_phrases)
    made = Made(place, told=prepared.told, regions=prepared.job.regions)
    made.licences = prepared.licences
    made.prompts = {task.name: task.prompts for task in prepared.tasks}
    todo = list(_todo(request, prepared, made))
    if request.limit:
        made.counts["left for later"] = max(len(todo) - request.limit, 0)
        todo = todo[: request.limit]
    if request.dry_run:
        made.counts["to make"] = len(todo)
        return made
    for line in made.licences if todo else ():
        if line not in prepared.announced:
            log.info("%s", line)
    for line in made.told:
        log.info("%s", line)
    try:
        for count, outcome in enumerate(_outcomes(options, prepared.job, todo), 1):
            _noted(made, outcome)
            spent = time.perf_counter() - began
            progress("masks", count, len(todo), {"clips/s": count / spent})
    except KeyboardInterrupt as stop:
        done = sum(made.counts[name] for name in ("done", "unsure", "nothing"))
        raise Interrupted(
            f"stopped: {done} of {len(todo)} clips done and kept in {place.folder}; the same"
            " command goes on with the others"
        ) from stop
    made.seconds = time.perf_counter() - began
    return made


def _todo(request: MaskRequest, prepared: Ready, made: Made) -> Iterator[Task]:
    """The tasks that are not done already; counts the others."""
    place, job = prepared.job.place, prepared.job
    for task in prepared.tasks:
        try:
            known = record.load(place.record(task.name))
        except ValueError as error:
            if not (request.overwrite and isinstance(error, record.BadMaskRecord)):
                _noted(made, ClipResult(task.name, "failed", None, str(error)))
                continue
            place.record(task.name).unlink()
            known = None
        soft = () if place.beside else job.legend
        there = place.present(task.name, task.clip, soft)
        state = record.state(known, clip=task.clip, masks=there, key=key_of(job, task))
        if state == "hand" and not request.overwrite:
            made.counts["by hand, kept"] += 1
        elif state == "done" and not request.again:
            made.counts["done before"] += 1
        else:
            yield task


def _noted(made: Made, outcome: ClipResult) -> None:
    made.counts[outcome.status] += 1
    if outcome.status == "failed":
        made.failed.append(outcome)
        log.warning("%s: failed: %s", outcome.name, outcome.message)
    elif outcome.status != "done" or (outcome.confidence or 0.0) < DOUBTED:
        made.look.append(outcome)  # named once, at the end


# Work in processes (one a device, or several where no model is asked) or threads


def _outcomes(options: MaskGeneration, job: MaskJob, todo: Sequence[Task]) -> Iterator[ClipResult]:
    size = (
        job.batch
        if _neural(job)
        else min(SHARE, max(len(todo) // max(_workers(options, job), 1), 1))
    )
    groups = [todo[at : at + size] for at in range(0, len(todo), size)]
    with _pools(options, job, len(groups)) as pools:
        yield from _spread(pools, groups)


def _neural(job: MaskJob) -> bool:
    """Whether any backend has weights."""
    names = [name for parts in job.sources for name in backends_of(parts)]
    return any(BACKENDS.load(name).weights for name in names)


def _workers(options: MaskGeneration, job: MaskJob) -> int:
    if options.workers:
        return options.workers
    return 2 if _neural(job) else min(os.cpu_count() or 1, 4)


Pool = tuple[Executor, Callable[[Sequence[Task]], list[ClipResult]], int]


@contextmanager
def _pools(options: MaskGeneration, job: MaskJob, groups: int) -> Iterator[list[Pool]]:
    """Executors with what they run and how many groups each takes at once."""
    workers = min(_workers(options, job), max(groups, 1))
    with ExitStack() as stack:
        if len(options.devices) > 1:
            yield [_process(stack, _on(job, device), 1) for device in options.devices]
        elif _neural(job) or workers == 1:
            maker = MaskGenerator(job)
            stack.callback(maker.close)
            threads = ThreadPoolExecutor(workers)
            stack.callback(threads.shutdown, cancel_futures=True)
            yield [(threads, partial(_made_by, maker), workers)]
        else:
            yield [_process(stack, job, workers)]


def _made_by(maker: MaskGenerator, tasks: Sequence[Task]) -> list[ClipResult]:
    return list(maker.make(tasks))


def _on(job: MaskJob, device: str) -> MaskJob:
    place = device_of(device)
    weights = {name: replace(source, device=place) for name, source in job.weights.items()}
    return replace(job, default=replace(job.default, device=place), weights=weights)


def _process(stack: ExitStack, job: MaskJob, workers: int) -> Pool:
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (job,))
    stack.callback(pool.shutdown, cancel_futures=True)
    return pool, _made_here, workers


_HERE: list[MaskGenerator] = []  # the one maker of a worker process


def _begin(job: MaskJob) -> None:
    begin()
    _HERE.append(MaskGenerator(job))


def _made_here(tasks: Sequence[Task]) -> list[ClipResult]:
    return list(_HERE[0].make(tasks))


def _spread(pools: Sequence[Pool], groups: Sequence[Sequence[Task]]) -> Iterator[ClipResult]:
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
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            pool = running.pop(future)
            fill(pool)
            try:
                yield from future.result()
            except BrokenProcessPool as error:
                raise BackendUnusable(
                    "a worker process was killed, perhaps for memory; what is done is kept, go on"
                    " with fewer --workers or a smaller --longest"
                ) from error
