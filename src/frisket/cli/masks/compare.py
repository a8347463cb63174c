"""`frisket masks eval` from its command line to the lines it prints and the JSON it writes."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

from frisket.cli.masks.make import SHOWN
from frisket.config.label_map import read_legend
from frisket.evaluation.mask_metrics import MaskScores, pool_scores
from frisket.inspection.dataset_scan import clip_folder
from frisket.media.files import MasksNotFound
from frisket.media.paths import replacing
from frisket.progress import Progress
from frisket.recipes.masks.compare import Evaluated, evaluate, paired
from frisket.recipes.masks.folder import BadOption, whole_table_of

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
    be read, and what `paired` raises, but for masks that match nothing: that is told.
    """
    try:
        pair = paired(
            prediction,
            truth,
            clip_folder(clips) if clips else None,
            legends=(_legend(legend_pred, "--legend-pred"), _legend(legend_gt, "--legend-gt")),
            levels=whole_table_of(levels, "--levels"),
            merge=dict(map(_union, merge)),
        )
    except MasksNotFound as error:
        return [str(error)], 1
    done = evaluate(pair, progress)
    if output:
        with replacing(output) as draft:
            text = json.dumps(report(done), indent=1, ensure_ascii=False, allow_nan=False)
            draft.write_text(text + "\n", encoding="utf-8")
    return list(told(done)), 0 if done.scores else 1


def _legend(text: str, option: str) -> dict[str, int]:
    path = Path(text).expanduser()
    return read_legend(path) if path.suffix == ".json" else whole_table_of(text, option)


def _union(text: str) -> tuple[str, tuple[str, ...]]:
    target, _, parts = text.partition("=")
    names = tuple(part.strip() for part in parts.split(",") if part.strip())
    if not target or not names:
        raise BadOption(f"--merge: {text!r} should be like person=face,hair,body")
    return target.strip(), names


def report(done: Evaluated) -> dict[str, Any]:
    """Every number, for scripts: shares and scores in [0, 1], confusion[truth][prediction]."""
    whole = pool_scores(list(done.scores.values())) if done.scores else None
    return {
        "regions": list(done.names),
        "whole": _numbers(whole) if whole else None,
        "mean_over_clips": {key: _over_clips(done, key) for key in (*LEVEL, *STEADY)},
        "clips": {name: _numbers(scores) for name, scores in done.scores.items()},
        "failed": done.failed,
        "unpredicted": list(done.unpredicted),
        "unjudged": list(done.unjudged),
        "notes": list(done.notes),
    }


def _numbers(scores: MaskScores) -> dict[str, Any]:
    table = scores.confusion.tolist()
    return {
        "frames": scores.frames,
        "mean_iou": scores.mean_iou,
        "accuracy": scores.accuracy,
        "regions": {
            name: asdict(score)
            | dict(zip(("predicted", "true"), _areas(scores, name), strict=True))
            for name, score in scores.regions.items()
        },
        "confusion": {
            name: dict(zip(scores.names, row, strict=True))
            for name, row in zip(scores.names, table, strict=True)
        },
    }


def _areas(scores: MaskScores, name: str) -> tuple[float, float]:
    """Shares of all pixels that prediction and truth give to a region."""
    at = scores.names.index(name)
    return float(scores.confusion[:, at].sum()), float(scores.confusion[at].sum())


def _over_clips(done: Evaluated, key: str) -> float | None:
    """Mean over the clips of the mean over the regions each holds."""
    means = []
    for scores in done.scores.values():
        held = [getattr(score, key) for score in scores.regions.values() if score.frames]
        if known := [value for value in held if value is not None]:
            means.append(mean(known))
    return mean(means) if means else None


def told(done: Evaluated) -> Iterator[str]:
    """The tables, the worst clips, and what was left out."""
    if done.scores:
        whole = pool_scores(list(done.scores.values()))
        frames = "" if whole.frames == len(done.scores) else f", {whole.frames} frames"
        yield f"{_clips(len(done.scores))}{frames}"
        yield ""
        yield from _scores_table(done, whole)
        yield ""
        yield "Where the truth's pixels went (rows: truth, columns: prediction)"
        yield from _confusion_table(whole)
        yield ""
        yield f"Worst, by mean IoU of the regions: {', '.join(_worst(done))}"
    else:
        yield "No clip could be compared."
    yield from done.notes
    yield from _left_out(done)


def _scores_table(done: Evaluated, whole: MaskScores) -> Iterator[str]:
    moving = [key for key in STEADY if _over_clips(done, key) is not None]
    keys = [*LEVEL, *moving]
    heads = ["region", *LEVEL.values(), "area", "true area", *(STEADY[key] for key in moving)]
    rows = []
    for name, score in whole.regions.items():
        if score.frames:
            values = [_decimal(getattr(score, key)) for key in keys]
        else:  # neither folder shows it anywhere: nothing was scored
            values = ["-"] * len(keys)
        areas = [f"{share:.1%}" for share in _areas(whole, name)]
        rows.append([name, *values[: len(LEVEL)], *areas, *values[len(LEVEL) :]])
    means = [_decimal(_over_clips(done, key)) for key in keys]
    rows.append(["mean over clips", *means[: len(LEVEL)], "", "", *means[len(LEVEL) :]])
    yield from _aligned([heads, *rows])


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _confusion_table(whole: MaskScores) -> Iterator[str]:
    rows = []
    for name, row in zip(whole.names, whole.confusion.tolist(), strict=True):
        total = sum(row)
        rows.append([name, *(f"{share / total:.1%}" if total else "-" for share in row)])
    yield from _aligned([["", *whole.names], *rows])


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as their widest cell, the first to the left, numbers to the right."""
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *cells in rows:
        padded = (f"{cell:>{width}}" for cell, width in zip(cells, wide[1:], strict=True))
        yield "  ".join((f"{first:<{wide[0]}}", *padded)).rstrip()


def _worst(done: Evaluated) -> list[str]:
    ranked = sorted(done.scores, key=lambda name: done.scores[name].mean_iou)
    return [f"{name} ({done.scores[name].mean_iou:.3f})" for name in ranked[:WORST]]


def _clips(count: int) -> str:
    return f"{count} {'clip' if count == 1 else 'clips'}"


def _left_out(done: Evaluated) -> Iterator[str]:
    for names, what in (
        (done.unpredicted, "with a truth but no prediction, counted as empty"),
        (done.unjudged, "with a prediction but no truth"),
    ):
        if names:
            more = ", ..." if len(names) > SHOWN else ""
            yield f"{_clips(len(names))} {what}: {', '.join(names[:SHOWN])}{more}"
    if done.failed:
        yield f"{_clips(len(done.failed))} could not be compared:"
        yield from (f"  {name}: {said}" for name, said in list(done.failed.items())[:SHOWN])
        if len(done.failed) > SHOWN:
            yield f"  and {len(done.failed) - SHOWN} more"
