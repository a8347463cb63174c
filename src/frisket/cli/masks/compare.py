"""`frisket masks eval` from its command line to the lines it prints and the JSON it writes."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

from frisket.cli.masks.make import CLIPS_NAMED
from frisket.config.label_map import read_legend
from frisket.evaluation.mask_metrics import MaskScores, pool_scores
from frisket.inspection.dataset_scan import clip_folder
from frisket.media.files import MasksNotFound
from frisket.media.paths import replacing
from frisket.progress import Progress
from frisket.recipes.masks.compare import Evaluated, evaluate, pair_masks
from frisket.recipes.masks.folder import BadMaskOption, parse_whole_table

WORST = 5  # clips named
LEVEL = {"iou": "IoU", "boundary": "boundary F", "dice": "dice"}
STEADY = {
    "temporal": "temporal IoU",
    "compensated": "compensated",
    "truth_compensated": "truth's",
}


def run(
    prediction: str,
    truth: str,
    *,
    clips: Path | None = None,
    legend_pred: str = "",
    legend_gt: str = "",
    levels: str = "",
    merge: Sequence[str] = (),
    output: Path | None = None,
    progress: Progress = lambda *_: None,
) -> tuple[list[str], int]:
    """Compare two mask folders; the lines to print, and the exit code: 1 where nothing compares.

    Options are as typed; `output` gets every number as JSON. Raises BadOption for one that cannot
    be read, and what `pair_masks` raises, but for masks that match nothing: that is told.
    """
    try:
        pair = pair_masks(
            prediction,
            truth,
            clip_folder(clips) if clips else None,
            legends=(
                _parse_legend(legend_pred, "--legend-pred"),
                _parse_legend(legend_gt, "--legend-gt"),
            ),
            levels=parse_whole_table(levels, "--levels"),
            merge=dict(map(_parse_union, merge)),
        )
    except MasksNotFound as error:
        return [str(error)], 1
    evaluated = evaluate(pair, progress)
    if output:
        with replacing(output) as draft:
            text = json.dumps(report(evaluated), indent=1, ensure_ascii=False, allow_nan=False)
            draft.write_text(text + "\n", encoding="utf-8")
    return list(render_lines(evaluated)), 0 if evaluated.scores else 1


def _parse_legend(text: str, option: str) -> dict[str, int]:
    path = Path(text).expanduser()
    return read_legend(path) if path.suffix == ".json" else parse_whole_table(text, option)


def _parse_union(text: str) -> tuple[str, tuple[str, ...]]:
    target, _, parts = text.partition("=")
    names = tuple(part.strip() for part in parts.split(",") if part.strip())
    if not target or not names:
        raise BadMaskOption(f"--merge: {text!r} should be like person=face,hair,body")
    return target.strip(), names


def report(evaluated: Evaluated) -> dict[str, Any]:
    """Every number, for scripts: shares and scores in [0, 1], confusion[truth][prediction]."""
    pooled_scores = pool_scores(list(evaluated.scores.values())) if evaluated.scores else None
    return {
        "regions": list(evaluated.names),
        "whole": _collect_numbers(pooled_scores) if pooled_scores else None,
        "mean_over_clips": {key: _average_clips(evaluated, key) for key in (*LEVEL, *STEADY)},
        "clips": {name: _collect_numbers(scores) for name, scores in evaluated.scores.items()},
        "failed": evaluated.failed,
        "unpredicted": list(evaluated.unpredicted),
        "unjudged": list(evaluated.unjudged),
        "notes": list(evaluated.notes),
    }


def _collect_numbers(scores: MaskScores) -> dict[str, Any]:
    table = scores.confusion.tolist()
    return {
        "frames": scores.frames,
        "mean_iou": scores.mean_iou,
        "accuracy": scores.accuracy,
        "regions": {
            name: asdict(score)
            | dict(zip(("predicted", "true"), _measure_areas(scores, name), strict=True))
            for name, score in scores.regions.items()
        },
        "confusion": {
            name: dict(zip(scores.names, row, strict=True))
            for name, row in zip(scores.names, table, strict=True)
        },
    }


def _measure_areas(scores: MaskScores, name: str) -> tuple[float, float]:
    """Shares of all pixels that prediction and truth give to a region."""
    at = scores.names.index(name)
    return float(scores.confusion[:, at].sum()), float(scores.confusion[at].sum())


def _average_clips(evaluated: Evaluated, key: str) -> float | None:
    """Mean over the clips of the mean over the regions each holds."""
    means = []
    for scores in evaluated.scores.values():
        scores_held = [getattr(score, key) for score in scores.regions.values() if score.frames]
        if values := [value for value in scores_held if value is not None]:
            means.append(mean(values))
    return mean(means) if means else None


def render_lines(evaluated: Evaluated) -> Iterator[str]:
    """The tables, the worst clips, and what was left out."""
    if evaluated.scores:
        pooled_scores = pool_scores(list(evaluated.scores.values()))
        frames = (
            ""
            if pooled_scores.frames == len(evaluated.scores)
            else f", {pooled_scores.frames} frames"
        )
        yield f"{_spell_clips(len(evaluated.scores))}{frames}"
        yield ""
        yield from _render_scores(evaluated, pooled_scores)
        yield ""
        yield "Where the truth's pixels went (rows: truth, columns: prediction)"
        yield from _render_confusion(pooled_scores)
        yield ""
        yield f"Worst, by mean IoU of the regions: {', '.join(_list_worst(evaluated))}"
    else:
        yield "No clip could be compared."
    yield from evaluated.notes
    yield from _list_left_out(evaluated)


def _render_scores(evaluated: Evaluated, pooled_scores: MaskScores) -> Iterator[str]:
    moving = [key for key in STEADY if _average_clips(evaluated, key) is not None]
    keys = [*LEVEL, *moving]
    heads = ["region", *LEVEL.values(), "area", "true area", *(STEADY[key] for key in moving)]
    rows = []
    for name, score in pooled_scores.regions.items():
        if score.frames:
            values = [_spell_decimal(getattr(score, key)) for key in keys]
        else:  # neither folder shows it anywhere: nothing was scored
            values = ["-"] * len(keys)
        areas = [f"{share:.1%}" for share in _measure_areas(pooled_scores, name)]
        rows.append([name, *values[: len(LEVEL)], *areas, *values[len(LEVEL) :]])
    means = [_spell_decimal(_average_clips(evaluated, key)) for key in keys]
    rows.append(["mean over clips", *means[: len(LEVEL)], "", "", *means[len(LEVEL) :]])
    yield from _align_columns([heads, *rows])


def _spell_decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _render_confusion(pooled_scores: MaskScores) -> Iterator[str]:
    rows = []
    for name, row in zip(pooled_scores.names, pooled_scores.confusion.tolist(), strict=True):
        total = sum(row)
        rows.append([name, *(f"{share / total:.1%}" if total else "-" for share in row)])
    yield from _align_columns([["", *pooled_scores.names], *rows])


def _align_columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as their widest cell, the first to the left, numbers to the right."""
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *cells in rows:
        padded = (f"{cell:>{width}}" for cell, width in zip(cells, wide[1:], strict=True))
        yield "  ".join((f"{first:<{wide[0]}}", *padded)).rstrip()


def _list_worst(evaluated: Evaluated) -> list[str]:
    ranked = sorted(evaluated.scores, key=lambda name: evaluated.scores[name].mean_iou)
    return [f"{name} ({evaluated.scores[name].mean_iou:.3f})" for name in ranked[:WORST]]


def _spell_clips(count: int) -> str:
    return f"{count} {'clip' if count == 1 else 'clips'}"


def _list_left_out(evaluated: Evaluated) -> Iterator[str]:
    for names, reason in (
        (evaluated.unpredicted, "with a truth but no prediction, counted as empty"),
        (evaluated.unjudged, "with a prediction but no truth"),
    ):
        if names:
            more = ", ..." if len(names) > CLIPS_NAMED else ""
            yield f"{_spell_clips(len(names))} {reason}: {', '.join(names[:CLIPS_NAMED])}{more}"
    if evaluated.failed:
        yield f"{_spell_clips(len(evaluated.failed))} could not be compared:"
        yield from (
            f"  {name}: {message}" for name, message in list(evaluated.failed.items())[:CLIPS_NAMED]
        )
        if len(evaluated.failed) > CLIPS_NAMED:
            yield f"  and {len(evaluated.failed) - CLIPS_NAMED} more"
