"""`frisket masks export`, `import` and `layouts` from their options to the lines they print."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from frisket.cli.masks.make import SHOWN
from frisket.maskgen.format_base import EXCHANGES, GREY
from frisket.progress import Progress
from frisket.recipes.masks.exchange import Carried, Missing, bring, export, weights_of
from frisket.recipes.masks.folder import BadOption, table_of, whole_table_of
from frisket.registry import suggest

# How a config takes the grey files of a layout as they are, where it is not masks = "FOLDER".
AS_THEY_ARE = {"onetrainer": 'masks = "sidecar"', "alpha": 'clips = "{}" and masks = "alpha"'}


def run_export(
    folder: Path,
    to: str,
    output: Path,
    *,
    masks: str = "",
    config: Path | None = None,
    regions: str = "",
    weights: str = "",
    levels: str = "",
    missing: str = "skip",
    overwrite: bool = False,
    progress: Progress = lambda *_: None,
) -> tuple[list[str], int]:
    """Export, options as typed; the lines to print and the exit code: 1 where a clip failed."""
    known: tuple[Missing, ...] = get_args(Missing)
    chosen = next((each for each in known if each == missing), None)
    if chosen is None:
        raise BadOption(f"--missing: {missing!r}{suggest(missing, list(known))}")
    carried = export(
        folder,
        to,
        output,
        masks=masks,
        weights=weights_of(config, regions, table_of(weights, "--weights")),
        levels=whole_table_of(levels, "--levels"),
        missing=chosen,
        overwrite=overwrite,
        progress=progress,
    )
    lines = [f"{carried.to}: {len(carried.done)} masks of {', '.join(carried.regions)}"]
    if carried.unmasked:
        what = "are written as all white" if chosen == "white" else "are left out"
        lines.append(f"{_clips(carried.unmasked)} without a mask {what}. {carried.layout.missing}")
    if carried.unsure:
        lines.append(f"{_clips(carried.unsure)} with a mask that is unsure, look at it first")
    return [*lines, *_failed(carried), carried.layout.lossy], _code(carried)


def run_import(
    source: Path,
    layout: str,
    clips: Path,
    output: Path | None = None,
    *,
    levels: str = "",
    overwrite: bool = False,
    progress: Progress = lambda *_: None,
) -> tuple[list[str], int]:
    """Import, options as typed; the lines to print and the exit code: 1 where a clip failed."""
    cuts = whole_table_of(levels, "--levels")
    carried = bring(
        source, layout, clips, output, levels=cuts, overwrite=overwrite, progress=progress
    )
    lines = [
        f"{carried.to}: {len(carried.done)} masks of {', '.join(carried.regions) or 'nothing'}"
    ]
    if carried.kept:
        lines.append(
            f"{_clips(carried.kept)} with a mask painted by hand or imported before kept it;"
            " --overwrite replaces it"
        )
    if carried.grey and not cuts:
        use = AS_THEY_ARE.get(layout, 'masks = "{}"').format(source.as_posix())
        lines.append(
            f"{_clips(carried.grey)} with grey levels: {GREY} is what is at least half white, the"
            f" levels are lost. To train with them write {use} in the config instead; to cut them"
            " into regions give --levels face=255,body=128"
        )
    if carried.empty:
        lines.append(f"{_clips(carried.empty)} with an empty mask: it teaches nothing")
    return [*lines, *_failed(carried)], _code(carried)


def layouts() -> list[str]:
    """Every layout, what it is, and what it loses."""
    lines = []
    for name in EXCHANGES.names():
        layout = EXCHANGES.load(name)
        videos = ", videos too" if layout.video else ""
        lines += [f"{name:<11} {layout.summary}{videos}", f"{'':<11} {layout.lossy}"]
    return lines


def _clips(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"{len(names)} {'clip' if len(names) == 1 else 'clips'} ({shown})"


def _failed(carried: Carried) -> Iterator[str]:
    if carried.failed:
        yield f"{len(carried.failed)} failed:"
        yield from (f"  {name}: {said}" for name, said in list(carried.failed.items())[:SHOWN])
        if len(carried.failed) > SHOWN:
            yield f"  and {len(carried.failed) - SHOWN} more"


def _code(carried: Carried) -> int:
    return 1 if carried.failed or not (carried.done or carried.kept) else 0
