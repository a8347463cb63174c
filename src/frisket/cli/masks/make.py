"""`frisket masks make` from its command line to the lines it prints."""

from pathlib import Path
from typing import get_args

from frisket.cli.report.event_file import record_output
from frisket.config.data import PRESETS
from frisket.config.maskgen import MaskRequest
from frisket.maskgen.base import BACKENDS
from frisket.maskgen.files.record import Status
from frisket.maskgen.job import ClipResult
from frisket.maskgen.pipeline import COMPOSITIONS
from frisket.progress import Progress
from frisket.recipes.masks.make import MaskingResult, clips_of, make_masks, place_of
from frisket.recipes.masks.review import review as write_review

CLIPS_NAMED = 12  # clips named at the end; the review page has all


def run(request: MaskRequest, *, progress: Progress) -> tuple[list[str], int]:
    """Make the masks; returns the lines to print and the exit code (1 where a clip failed).

    `--people` has become a backend before (`people_parser.choose_parser`).
    """
    result = make_masks(request, progress=progress)
    lines = [*(_list_planned(result) if request.dry_run else ()), _spell_counts(result)]
    if request.dry_run:
        return [*result.licences, *result.messages, *lines], 0
    if not result.place.beside:
        record_output("masks", result.place.folder)
    lines += _name_clips(result)
    options = request.maskgen
    if request.review:
        lines.append(write_review_page(request.folder, options.output, beside=options.beside)[0])
    return [*lines, *_suggest_config(result, beside=options.beside)], 1 if result.failed else 0


def write_review_page(
    folder: Path,
    output: Path | None,
    *,
    beside: bool = False,
    below: float = 0.5,
    page: Path | None = None,
    progress: Progress = lambda *_: None,
) -> tuple[str, int]:
    """Write the review page of a mask folder; a line that says where, and how many to look at."""
    clips, place = place_of(folder, output, beside=beside)
    out = page or place.folder.with_name(f"{place.folder.name}_review")
    review = write_review(clips_of(clips, place), place, out, below=below, progress=progress)
    fault = f"{review.fault}\n" if review.fault else ""
    record_output("review", review.page)
    count = len(review.look)
    return f"{fault}{count} {'mask' if count == 1 else 'masks'} to look at: {review.page}", count


def _list_planned(result: MaskingResult) -> list[str]:
    """Each region with the phrases it is looked for by, and in how many clips."""
    counts: dict[str, dict[str, int]] = {name: {} for name in result.regions}
    for clip_prompts in result.prompts.values():
        for region, phrases in clip_prompts.items():
            table = counts.setdefault(region, {})
            for phrase in phrases:
                table[phrase] = table.get(phrase, 0) + 1
    return [
        f"{region}: "
        + (", ".join(f"{phrase} ({count})" for phrase, count in table.items()) or "found by itself")
        for region, table in counts.items()
    ]


def _spell_counts(result: MaskingResult) -> str:
    names = (*get_args(Status), *result.counts)  # what was made first, in one order
    counts = ", ".join(
        f"{result.counts[name]} {name}" for name in dict.fromkeys(names) if result.counts[name]
    )
    return f"{result.place.folder}: {counts or 'nothing to do'}"


def _name_clips(result: MaskingResult) -> list[str]:
    rows = [
        f"  failed: {outcome.name}: {outcome.message}" for outcome in result.failed[:CLIPS_NAMED]
    ]
    rows += [_describe_doubt(outcome) for outcome in result.look[: CLIPS_NAMED - len(rows)]]
    more = len(result.failed) + len(result.look) - len(rows)
    return [*rows, *([f"  and {more} more"] if more > 0 else []), *_explain_left_out(result)]


def _describe_doubt(outcome: ClipResult) -> str:
    verdict = (
        outcome.status
        if outcome.status != "done"
        else f"look at it, {outcome.confidence or 0:.0%} sure"
    )
    return f"  {verdict}: {outcome.name}: {outcome.message}"


def _explain_left_out(result: MaskingResult) -> list[str]:
    """What training will make of the clips just named."""
    unmasked_count = sum(not outcome.masked for outcome in (*result.failed, *result.look))
    unsure_count = sum(outcome.masked and outcome.status == "unsure" for outcome in result.look)
    doubtful_count = sum(outcome.masked for outcome in result.look) - unsure_count
    lines = []
    if unmasked_count:
        clips, them, has = (
            ("clip", "it", "has") if unmasked_count == 1 else ("clips", "them", "have")
        )
        lines.append(
            f"{unmasked_count} {clips} {has} no mask, so training leaves {them} out"
            f' (masks.unmasked = "train" brings {them} back, whole): paint a mask, or make one'
            " with another backend."
        )
    if unsure_count:
        subject = "1 mask is" if unsure_count == 1 else f"{unsure_count} masks are"
        lines.append(
            f"{subject} unsure, so training leaves the clip out until its mask is mended, or"
            " accepted as it is (`frisket masks accept`)."
        )
    if doubtful_count:
        subject, them = ("mask is", "it") if doubtful_count == 1 else ("masks are", "them")
        lines.append(
            f"{doubtful_count} {subject} doubtful, and training uses {them} as written: look first"
            " (`frisket masks review`), then paint over or delete what is wrong."
        )
    return lines


def _suggest_config(result: MaskingResult, *, beside: bool) -> list[str]:
    """What to write into a config."""
    if not result.counts["done"] and not result.counts["unsure"]:
        return []
    masks = '"sidecar"' if beside else f'"{result.place.folder.as_posix()}"'
    person = set(result.regions) <= set(PRESETS["person"])
    weights = (
        'regions = "person"'
        if person
        else f"[regions] with {', '.join(f'{name} = 1.0' for name in result.regions)}"
    )
    return [f"In the config: masks = {masks} and {weights} (`frisket init` writes both)."]


def list_backends() -> list[str]:
    """A line for every backend and composition, with its licences."""
    rows = []
    for name in BACKENDS.names():
        backend = BACKENDS.load(name)
        roles = ", ".join(sorted(backend.roles))
        rows.append(f"{name:<15} {backend.summary} [{roles}]")
        extra = f"; needs pip install frisket[{backend.extra}]" if backend.extra else ""
        rows.append(
            f"{'':<15} {backend.repo or 'no download'}; code {backend.licence.code}, weights"
            f" {backend.licence.weights}{extra}"
        )
        if backend.licence.warning:
            rows.append(f"{'':<15} note: {backend.licence.warning}")
    for name, parts in COMPOSITIONS.items():
        then = " -> ".join(part for part in (parts.people, parts.front, parts.segmenter) if part)
        videos = f", videos by {parts.tracker}" if parts.tracker else ""
        rows.append(f"{name:<15} {then}{videos}")
    return rows
