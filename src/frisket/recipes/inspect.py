"""`frisket inspect`: every clip with its masks and weights, and what looks wrong; no model."""

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from frisket.config.regions import weights_of
from frisket.config.tree import Config
from frisket.data.choosing import SelectedClips, choose
from frisket.data.records import Clipset, Item
from frisket.data.statistics import pick_held
from frisket.evaluation.page import write_whole
from frisket.families.base import FAMILIES, Family, Source
from frisket.inspection.checks.captions import look_at_same_words
from frisket.inspection.checks.files import look_at_links, look_at_orphans
from frisket.inspection.checks.near_duplicates import look_at_twins
from frisket.inspection.checks.outliers import look_at_spread
from frisket.inspection.checks.videos import look_at_moving
from frisket.inspection.findings import Finding, sort_by_severity
from frisket.inspection.pages import Pages
from frisket.inspection.per_clip import STOPS, ClipFacts, Looker, look, look_at
from frisket.inspection.vae_halo import load_encoder, measure_halos
from frisket.masks.weights import RegionWeights
from frisket.media.captions import BadCaption
from frisket.media.files import ClipFiles, Findings, MasksNotFound, TwoFiles, find
from frisket.media.folders.controls import ControlNotFound
from frisket.media.frames import BadMedia
from frisket.media.paths import BadName, collecting, plain
from frisket.media.workers import begin
from frisket.progress import Progress
from frisket.runs.prepare import clipset_of, source_of

__all__ = ["Finding", "inspect"]

MANY = 200  # clips from which starting processes is worth it
TASK = 8  # clips handed to a process at a time
AHEAD = 4  # tasks that wait for each process: memory stays flat
NO_CONTROL = "no control at all"  # kind of finding
# One fault, one finding: a mask that is told to be one of these is no outlier besides.
MASK_FAULTS = frozenset({"inverted", "tiny", "full", "empty", "faint", "lost at the grid"})


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is kept of one clip until all were seen."""

    looker: Looker
    clip: ClipFiles
    facts: ClipFacts  # without pictures: those wait on disk
    set: int  # which [[data]] table
    place: int  # of its pictures


@dataclass(frozen=True, slots=True)
class _DataSet:
    """One `[[data]]` table: its clips, how they are looked at, what is wrong with its files."""

    number: int
    looker: Looker
    clips: Sequence[ClipFiles]
    faults: Sequence[Finding]


def inspect(
    config: Config,
    out: Path,
    *,
    progress: Progress = lambda *_: None,
    workers: int | None = None,
    vae: bool = False,
) -> list[Finding]:
    """Look at every clip; writes pages, contact sheets and `findings.json` into `out`.

    Loads no model and touches no cache; with `vae`, the VAE alone, to measure halos. Broken files,
    masks that do not fit and mask sources that match nothing become findings, so that one run shows
    all there is to mend. 200 clips or more are looked at by `workers` processes (default: one a
    core). Returns the findings, gravest first. Raises only what keeps the pages from being written
    (OSError), UnknownPlugin for a family that is not there, and WeightsNotFound for such a VAE.
    """
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    encode = load_encoder(family, source) if vae else None  # first: it may not be there
    weights = weights_of(config)
    set_findings: list[Finding] = []  # of the data set, not of one clip
    entries: list[_Entry] = []
    with Pages(out) as pages:
        for number in range(len(config.data)):
            data_set = _open_set(config, number, family, source, weights)
            clips, faults = _look_at_set(data_set, pages, workers, progress)
            entries += clips
            set_findings += faults
        entries, comparisons = _compare(config, entries)
        set_findings += [
            *comparisons,
            *_find_unused_regions(weights, [entry.facts for entry in entries]),
        ]
        if encode is not None:
            masked = [(entry.looker, entry.clip) for entry in entries if entry.facts.coverage]
            set_findings += measure_halos(encode, masked)
        findings = sort_by_severity(
            [*set_findings, *(fault for entry in entries for fault in entry.facts.findings)]
        )
        _write_pages(config, pages, entries, findings)
    rows = json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False)
    write_whole(out / "findings.json", rows + "\n")
    return findings


def _open_set(
    config: Config, number: int, family: Family, source: Source, weights: RegionWeights
) -> _DataSet:
    """The clips of a `[[data]]` table, how they are looked at, and what is wrong with the files."""
    clipset = clipset_of(config, config.data[number], family, source)
    findings_there, faults = _find(clipset)
    if any(fault.kind == NO_CONTROL for fault in faults):
        clipset = replace(clipset, control=None)  # said once, not of every clip
    selection, more = _choose(clipset, findings_there.clips if findings_there else [])
    looker = Looker(
        *(clipset, family.variants[source.variant].grid, weights),
        swapped=config.swap.rate > 0,
        left=frozenset((*selection.left, *selection.doubted)),
    )
    clips = _list_clips(findings_there.clips if findings_there else [], selection)
    return _DataSet(number, looker, clips, [*faults, *more])


def _look_at_set(
    data_set: _DataSet, pages: Pages, workers: int | None, progress: Progress
) -> tuple[list[_Entry], list[Finding]]:
    """Every clip with what was found on it, its pictures in `pages`; and what no clip shows."""
    entries: list[_Entry] = []
    looker, clips = data_set.looker, data_set.clips
    of_clips = _group_by_clip(data_set.faults)
    facts = _look_at_clips(looker, clips, workers)
    for count, (clip, alone) in enumerate(zip(clips, facts, strict=True), 1):
        clip_facts = _add_faults(alone, of_clips.pop(clip.name, ()))
        place = pages.keep(clip_facts.pictures)
        entries.append(
            _Entry(looker, clip, replace(clip_facts, pictures={}), data_set.number, place)
        )
        progress("clips", count, len(clips))
    faults = [fault for fault in data_set.faults if not fault.clip]
    # What is left is of clips that are not there.
    faults += [fault for clip_faults in of_clips.values() for fault in clip_faults]
    return entries, faults


def _write_pages(
    config: Config, pages: Pages, entries: Sequence[_Entry], findings: Sequence[Finding]
) -> None:
    held_names = {entries[index].clip.name for index in _find_held(config, entries)}
    clips = [(entry.looker, entry.clip, entry.facts, entry.place) for entry in entries]
    pages.write(config, clips, findings, held_names)


def _choose(clipset: Clipset, clips: Sequence[ClipFiles]) -> tuple[SelectedClips, list[Finding]]:
    """The clips that training takes, and what is wrong with a fallback mask."""
    try:
        return choose(clipset.masking, clips), []
    except MasksNotFound as error:
        fix = "Training refuses to start like this: correct the path."
        return SelectedClips(list(clips)), [
            Finding("no mask at all", "error", "", f"{error}.", fix)
        ]


def _list_clips(discovered: Sequence[ClipFiles], selection: SelectedClips) -> list[ClipFiles]:
    """Every clip, those left out too, with the masks it is trained with."""
    clips = {clip.name: clip for clip in selection.clips}
    return [clips.get(clip.name, clip) for clip in discovered]


def _add_faults(facts: ClipFacts, faults: Sequence[Finding]) -> ClipFacts:
    """With the faults of its files; a caption that cannot be read is not missing besides."""
    if any(fault.kind == "caption encoding" for fault in faults):
        kept_findings = tuple(fault for fault in facts.findings if fault.kind != "uncaptioned")
        facts = replace(facts, findings=kept_findings)
    return facts.with_findings(faults)


def _find(clipset: Clipset) -> tuple[Findings | None, list[Finding]]:
    """Clips and masks of a data set, and what is wrong with how they lie there."""
    faults = list[Finding]()
    search = partial(
        find,
        clipset.clips,
        captions=clipset.captions,
        caption=clipset.caption,
        wording=clipset.wording,
        reject=clipset.reject,
    )
    try:
        with collecting() as refusals:
            findings_there = _search_all(clipset, search, refusals, faults)
    except (ValueError, OSError) as error:  # ClipsNotFound, BadMedia and BadCaption among them
        fix = "Mend this first, then inspect again."
        return None, [*faults, Finding("unreadable", "error", "", str(error), fix)]
    faults += [
        _explain_refusal(clip, error) for clip, error in refusals if not isinstance(error, BadMedia)
    ]
    lacking = [clip.name for clip in findings_there.clips if not clip.masks and not clip.alpha]
    orphans = {_name_orphan(path, clipset): path for path in findings_there.orphans}
    linked = look_at_links(findings_there.outside, clipset.clips)
    hints = [
        Finding(
            hint.kind, "warning" if hint.grave else "note", "", f"{hint.message}.", f"{hint.fix}."
        )
        for hint in findings_there.hints
    ]
    return findings_there, [
        *faults,
        *look_at_orphans(orphans, lacking, clipset.clips),
        *linked,
        *hints,
    ]


def _search_all(
    clipset: Clipset,
    search: Callable[..., Findings],
    refusals: list[tuple[str, ValueError]],
    faults: list[Finding],
) -> Findings:
    """All that is found, without the masks or the controls whose folder matches nothing."""
    fix = "Training refuses to start like this: correct the folder or the names."
    places: dict[str, Any] = {
        "masks": clipset.masking.source,
        "folders": clipset.masking.folders,
        "control": clipset.control.folder if clipset.control else None,
    }
    while True:
        try:
            return search(**places)
        except MasksNotFound as error:
            if places["masks"] == "none":
                raise
            faults.append(Finding("no mask at all", "error", "", str(error), fix))
            places |= {"masks": "none", "folders": {}}
        except ControlNotFound as error:
            faults.append(Finding(NO_CONTROL, "error", "", str(error), fix))
            places["control"] = None
        refusals.clear()


def _explain_refusal(clip: str, error: ValueError) -> Finding:
    kinds = {TwoFiles: "ambiguous", BadCaption: "caption encoding", BadName: "name"}
    kind = kinds.get(type(error), "unreadable")
    return Finding(kind, "error", clip, f"{error}.", STOPS)


def _name_orphan(path: Path, clipset: Clipset) -> str:
    """The name of an orphan as a clip would have it."""
    for root in (*clipset.masking.folders.values(), clipset.clips):
        if path.is_relative_to(root):
            relative = path.relative_to(root)
            path_name = relative if path.is_dir() else relative.with_suffix("")
            return plain(path_name.as_posix())
    return plain(path.stem)


def _group_by_clip(faults: Sequence[Finding]) -> dict[str, list[Finding]]:
    by_clip: dict[str, list[Finding]] = {}
    for fault in faults:
        if fault.clip:
            by_clip.setdefault(fault.clip, []).append(fault)
    return by_clip


def _look_at_clips(
    looker: Looker, clips: Sequence[ClipFiles], workers: int | None
) -> Iterator[ClipFacts]:
    """Every clip, in order; in processes where there are many."""
    count = workers or min(os.cpu_count() or 1, 8)
    if len(clips) < MANY or count == 1:
        yield from (look(looker, clip) for clip in clips)
        return
    with ProcessPoolExecutor(count, get_context("spawn"), initializer=begin) as pool:
        running: deque[Future[list[ClipFacts]]] = deque()
        try:
            for start in range(0, len(clips), TASK):
                running.append(pool.submit(look_at, looker, clips[start : start + TASK]))
                if len(running) >= count * AHEAD:
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
        except BrokenProcessPool as error:
            raise OSError(
                "a process that looked at clips was killed, most likely for memory; give"
                " --workers 1"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _compare(config: Config, entries: Sequence[_Entry]) -> tuple[list[_Entry], list[Finding]]:
    """What only shows beside the other clips: outliers, twins, captions that are the same."""
    of_clips: dict[tuple[int, str], list[Finding]] = {}
    set_findings: list[Finding] = []
    for number, finding in (*_compare_within(config, entries), *_compare_looks(config, entries)):
        if finding.clip:
            of_clips.setdefault((number, finding.clip), []).append(finding)
        else:
            set_findings.append(finding)
    compared = [
        replace(
            entry, facts=entry.facts.with_findings(of_clips.get((entry.set, entry.facts.name), ()))
        )
        for entry in entries
    ]
    return compared, set_findings


def _compare_within(config: Config, entries: Sequence[_Entry]) -> Iterator[tuple[int, Finding]]:
    """Faults that a clip shows beside those of its own `[[data]]` table, with its number."""
    for number, data in enumerate(config.data):
        facts = [entry.facts for entry in entries if entry.set == number]
        faults = [
            *_find_outliers(facts),
            *look_at_moving({clip.name: clip.remarks for clip in facts}),
        ]
        if data.caption is None:
            captions = {clip.name: clip.written for clip in facts if clip.written}
            faults += look_at_same_words(captions, data.trigger)
        yield from ((number, fault) for fault in faults)


def _compare_looks(config: Config, entries: Sequence[_Entry]) -> Iterator[tuple[int, Finding]]:
    """Clips that look like another of any table, with the number of their own."""
    sealed = [index for index, entry in enumerate(entries) if entry.facts.seal]
    held_indices = _find_held(config, entries)
    for place, finding in look_at_twins(
        [entries[index].facts.name for index in sealed],
        [seal for index in sealed if (seal := entries[index].facts.seal)],
        [entries[index].set for index in sealed],
        frozenset(count for count, index in enumerate(sealed) if index in held_indices),
    ):
        yield entries[sealed[place]].set, finding


def _find_outliers(facts: Sequence[ClipFacts]) -> Iterator[Finding]:
    sound = [clip for clip in facts if not MASK_FAULTS & {fault.kind for fault in clip.findings}]
    names = list(dict.fromkeys(name for clip in sound for name in clip.coverage))
    for name in names:
        yield from look_at_spread(
            {clip.name: clip.coverage[name] for clip in sound if name in clip.coverage},
            {clip.name: clip.border for clip in sound},
            name if len(names) > 1 else "",
        )


def _find_held(config: Config, entries: Sequence[_Entry]) -> set[int]:
    """Places of the clips that the run holds out for validation, as `prepare` picks them."""
    trained = [
        (index, entry)
        for index, entry in enumerate(entries)
        if entry.clip.name not in entry.looker.left
    ]
    items = [
        Item(
            entry.facts.name,
            str(entry.clip.clip),
            "",
            (),
            "" if entry.facts.masked else None,
            (1, 1, 1),
        )
        for _, entry in trained
    ]
    try:
        held_items = pick_held(items, config.validation.holdout)[1]
    except ValueError:  # training says so
        return set()
    return {trained[position][0] for position in held_items}


def _find_unused_regions(weights: RegionWeights, facts: Sequence[ClipFacts]) -> Iterator[Finding]:
    masked = [clip for clip in facts if clip.coverage]
    for name in weights.regions:
        if masked and not any(clip.coverage.get(name, 0) > 0 for clip in masked):
            yield Finding(
                "unused region",
                "warning",
                "",
                f"No mask of any clip shows the region {name!r} of [regions].",
                "Check `levels`, `legend` or the folder names, or take it out of [regions].",
            )
