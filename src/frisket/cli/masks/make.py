"""`frisket masks make` from its command line to the lines it prints."""

from pathlib import Path
from typing import get_args

from frisket.config.data import PRESETS
from frisket.config.maskgen import MaskRequest
from frisket.maskgen.base import BACKENDS
from frisket.maskgen.files.record import Status
from frisket.maskgen.job import ClipResult
from frisket.maskgen.pipeline import COMPOSITIONS
from frisket.progress import Progress
from frisket.recipes.masks.make import Made, clips_of, masks, place_of
from frisket.recipes.masks.review import review as write_review

SHOWN = 12  # clips named at the end; the review page has all


def run(request: MaskRequest, *, progress: Progress) -> tuple[list[str], int]:
    """Make the masks; returns the lines to print and the exit code (1 where a clip failed).

    `--people` has become a backend before (`people_parser.choose_parser`).
    """
    made = masks(request, progress=progress)
    lines = [*(_planned(made) if request.dry_run else ()), _counts(made)]
    if request.dry_run:
        return [*made.licences, *made.told, *lines], 0
    lines += _named(made)
    options = request.maskgen
    if request.review:
        lines.append(reviewed(request.folder, options.output, beside=options.beside)[0])
    return [*lines, *_next(made, beside=options.beside)], 1 if made.failed else 0


def reviewed(
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
    told = write_review(clips_of(clips, place), place, out, below=below, progress=progress)
    fault = f"{told.fault}\n" if told.fault else ""
    count = len(told.look)
    return f"{fault}{count} {'mask' if count == 1 else 'masks'} to look at: {told.page}", count


def _planned(made: Made) -> list[str]:
    """Each region with the phrases it is looked for by, and in how many clips."""
    counts: dict[str, dict[str, int]] = {name: {} for name in made.regions}
    for each in made.prompts.values():
        for region, phrases in each.items():
            table = counts.setdefault(region, {})
            for phrase in phrases:
                table[phrase] = table.get(phrase, 0) + 1
    return [
        f"{region}: "
        + (", ".join(f"{phrase} ({count})" for phrase, count in table.items()) or "found by itself")
        for region, table in counts.items()
    ]


def _counts(made: Made) -> str:
    names = (*get_args(Status), *made.counts)  # what was made first, in one order
    told = ", ".join(
        f"{made.counts[name]} {name}" for name in dict.fromkeys(names) if made.counts[name]
    )
    return f"{made.place.folder}: {told or 'nothing to do'}"


def _named(made: Made) -> list[str]:
    rows = [f"  failed: {one.name}: {one.message}" for one in made.failed[:SHOWN]]
    rows += [_doubted(one) for one in made.look[: SHOWN - len(rows)]]
    more = len(made.failed) + len(made.look) - len(rows)
    return [*rows, *([f"  and {more} more"] if more > 0 else []), *_left_out(made)]


def _doubted(one: ClipResult) -> str:
    said = one.status if one.status != "done" else f"look at it, {one.confidence or 0:.0%} sure"
    return f"  {said}: {one.name}: {one.message}"


def _left_out(made: Made) -> list[str]:
    """What training will make of the clips just named."""
    without = sum(not one.masked for one in (*made.failed, *made.look))
    unsure = sum(one.masked and one.status == "unsure" for one in made.look)
    doubted = sum(one.masked for one in made.look) - unsure
    lines = []
    if without:
        clips, them, has = ("clip", "it", "has") if without == 1 else ("clips", "them", "have")
        lines.append(
            f"{without} {clips} {has} no mask, so training leaves {them} out (masks.unmasked ="
            f' "train" brings {them} back, whole): paint a mask, or make one with another backend.'
        )
    if unsure:
        masks = "1 mask is" if unsure == 1 else f"{unsure} masks are"
        lines.append(
            f"{masks} unsure, so training leaves the clip out until its mask is mended, or the"
            " .json beside it deleted to take it as it is."
        )
    if doubted:
        masks, them = ("mask is", "it") if doubted == 1 else ("masks are", "them")
        lines.append(
            f"{doubted} {masks} doubtful, and training uses {them} as written: look first"
            " (`frisket masks review`), then paint over or delete what is wrong."
        )
    return lines


def _next(made: Made, *, beside: bool) -> list[str]:
    """What to write into a config."""
    if not made.counts["done"] and not made.counts["unsure"]:
        return []
    masks = '"sidecar"' if beside else f'"{made.place.folder.as_posix()}"'
    person = set(made.regions) <= set(PRESETS["person"])
    weights = (
        'regions = "person"'
        if person
        else f"[regions] with {', '.join(f'{name} = 1.0' for name in made.regions)}"
    )
    return [f"In the config: masks = {masks} and {weights} (`frisket init` writes both)."]


def backends() -> list[str]:
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
