"""`frisket masks export`, `import` and `layouts` from their options to the lines they print."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from frisket.cli.masks.make import CLIPS_NAMED
from frisket.maskgen.format_base import EXCHANGES, GREY
from frisket.progress import Progress
from frisket.recipes.masks.exchange import Carried, Missing, export, import_masks, read_weights
from frisket.recipes.masks.folder import BadMaskOption, parse_table, parse_whole_table
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
    choices: tuple[Missing, ...] = get_args(Missing)
    missing_choice = next((choice for choice in choices if choice == missing), None)
    if missing_choice is None:
        raise BadMaskOption(f"--missing: {missing!r}{suggest(missing, list(choices))}")
    carried = export(
        folder,
        to,
        output,
        masks=masks,
        weights=read_weights(config, regions, parse_table(weights, "--weights")),
        levels=parse_whole_table(levels, "--levels"),
        missing=missing_choice,
        overwrite=overwrite,
        progress=progress,
    )
    lines = [f"{carried.to}: {len(carried.done)} masks of {', '.join(carried.regions)}"]
    if carried.unmasked:
        treatment = "are written as all white" if missing_choice == "white" else "are left out"
        lines.append(
            f"{_name_clips(carried.unmasked)} without a mask {treatment}. {carried.layout.missing}"
        )
    if carried.unsure:
        lines.append(f"{_name_clips(carried.unsure)} with a mask that is unsure, look at it first")
    return [*lines, *_list_failed(carried), carried.layout.lossy], _get_exit_code(carried)


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
    cuts = parse_whole_table(levels, "--levels")
    carried = import_masks(
        source, layout, clips, output, levels=cuts, overwrite=overwrite, progress=progress
    )
    lines = [
        f"{carried.to}: {len(carried.done)} masks of {', '.join(carried.regions) or 'nothing'}"
    ]
    if carried.kept:
        lines.append(
            f"{_name_clips(carried.kept)} with a mask painted by hand or imported before kept it;"
            " --overwrite replaces it"
        )
    if carried.grey and not cuts:
        use = AS_THEY_ARE.get(layout, 'masks = "{}"').format(source.as_posix())
        lines.append(
            f"{_name_clips(carried.grey)} with grey levels: {GREY} is what is at least half white,"
            f" the levels are lost. To train with them write {use} in the config instead; to cut"
            " them into regions give --levels face=255,body=128"
        )
    if carried.empty:
        lines.append(f"{_name_clips(carried.empty)} with an empty mask: it teaches nothing")
    return [*lines, *_list_failed(carried)], _get_exit_code(carried)


def list_layouts() -> list[str]:
    """Every layout, what it is, and what it loses."""
    lines = []
    for name in EXCHANGES.names():
        layout = EXCHANGES.load(name)
        videos = ", videos too" if layout.video else ""
        lines += [f"{name:<11} {layout.summary}{videos}", f"{'':<11} {layout.lossy}"]
    return lines


def _name_clips(names: Sequence[str]) -> str:
    names_text = ", ".join(names[:CLIPS_NAMED]) + (", ..." if len(names) > CLIPS_NAMED else "")
    return f"{len(names)} {'clip' if len(names) == 1 else 'clips'} ({names_text})"


def _list_failed(carried: Carried) -> Iterator[str]:
    if carried.failed:
        yield f"{len(carried.failed)} failed:"
        yield from (
            f"  {name}: {message}" for name, message in list(carried.failed.items())[:CLIPS_NAMED]
        )
        if len(carried.failed) > CLIPS_NAMED:
            yield f"  and {len(carried.failed) - CLIPS_NAMED} more"


def _get_exit_code(carried: Carried) -> int:
    return 1 if carried.failed or not (carried.done or carried.kept) else 0
