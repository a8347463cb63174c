"""The page of an evaluation and its JSON: numbers with their spread, pictures side by side."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from PIL import Image

from frisket.evaluation.bootstrap import Ratio, estimate
from frisket.evaluation.comparison import Comparison, compare_runs
from frisket.evaluation.measured import (
    INSIDE,
    METRICS,
    OUTSIDE,
    Measured,
    Metric,
    compute_gains,
)
from frisket.evaluation.page import render, thumbnail, write_whole
from frisket.evaluation.verdict import Verdict
from frisket.evaluation.word_alignment import MEASURES
from frisket.inference.generate import Picture
from frisket.scoring.attention.page import NAMES, build_rows, describe_numbers
from frisket.scoring.attention.phrases import RegionPhrase
from frisket.scoring.attention.reading import ModelReading
from frisket.scoring.clips import EvalSet
from frisket.scoring.errors import ErrorLevels, Errors
from frisket.scoring.identity import IDENTITY_COLUMNS
from frisket.scoring.prompts import OF_CAPTIONS, EvalPrompts
from frisket.scoring.runner import BASE
from frisket.scoring.runs import ScoredRun
from frisket.scoring.similarity import COPY, Likeness
from frisket.shapes import Frames

SIDE = 224  # pixels, of a picture on the page at most
SMALL = 96  # pixels a side up to which pictures are enlarged with hard pixels
KINDS = {
    "held out": "held-out clips",
    "training": "training clips (none was held out)",
    "other": "other clips",
}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that was measured and sampled."""

    runs: Sequence[ScoredRun]
    measured: Sequence[Measured]
    verdict: Verdict
    measured_on: EvalSet
    prompts: EvalPrompts | None
    likeness: Likeness
    pictures: Mapping[str, Sequence[Picture]]  # by run and for the base, in the order of the shots
    levels: ErrorLevels
    taught: int  # training pictures looked at
    phrases: Sequence[RegionPhrase] = ()
    attention: Sequence[ModelReading] = ()  # of the base and every run, where regions have phrases

    @property
    def comparison(self) -> Comparison | None:
        """The runs held against each other; None for one alone."""
        return compare_runs(self.measured) if len(self.measured) > 1 else None

    def notes(self) -> tuple[str, ...]:
        """What a reader must know to take the numbers for what they are."""
        notes = []
        clips = len(self.measured_on.batches)
        if self.measured_on.kind == "training":
            notes.append(
                "No clip was held out, so errors were measured on training clips: they show what"
                " was learnt by heart. Set validation.holdout, or give --clips."
            )
        if clips == 1:
            notes.append("One clip alone has no spread: nothing is claimed of errors.")
        notes += [f"Not measured on {reason}." for reason in self.measured_on.left_out]
        notes += [
            f"{run.name}: data or settings changed since it was trained; what is held out now may"
            " have been trained on."
            for run in self.runs
            if run.changed
        ]
        if self.prompts and self.prompts.origin == OF_CAPTIONS:
            notes.append(
                "Prompts are captions of the training clips: a background that they name was asked"
                " for, and is no leak. Give --prompt, or set a trigger word."
            )
        notes += [f"No {metric}: {why}." for metric, why in self.likeness.lacking.items()]
        notes.append(
            "Intervals (95 %) are over clips, pictures or prompts. Each run is one training run:"
            " how much another training seed would change is not in them."
        )
        return tuple(notes)


def collect_values(
    run: ScoredRun, errors: Errors, drift: Sequence[float], likeness: Likeness
) -> Measured:
    """The values of one run under the names of METRICS."""
    values: dict[str, Sequence[float]] = {
        **{f"gain/{region}": compute_gains(errors, region) for region in (INSIDE, OUTSIDE)},
        f"moved/{OUTSIDE}": errors[f"moved/{OUTSIDE}"],
        **likeness.values.get(run.name, {}),
    }
    if drift:
        values["drift"] = drift
    return Measured(run.name, run.masked, errors, values, likeness.lacking)


def write_page(evaluation: Evaluation, output: Path) -> Path:
    """Write report.html and report.json, each whole or not at all; returns the page."""
    metrics = [
        metric
        for metric in METRICS
        if any(metric.key in measured.values for measured in evaluation.measured)
    ]
    page = render(
        "evaluate.html.j2",
        verdict=evaluation.verdict,
        comparison=evaluation.comparison,
        notes=evaluation.notes(),
        metrics=metrics,
        rows=[_build_row(measured, metrics) for measured in evaluation.measured],
        attention=build_rows(evaluation.phrases, evaluation.attention),
        attention_heads=list(NAMES.values()),
        attention_meanings=[(NAMES[name], meaning) for name, meaning in MEASURES.items()],
        identity=identity.build_rows() if (identity := evaluation.likeness.identity) else [],
        identity_meanings=IDENTITY_COLUMNS,
        errors=_build_errors(evaluation),
        likeness=_build_likeness(evaluation.likeness),
        columns=list(evaluation.pictures),
        shots=_build_shots(evaluation),
        prompts_from=evaluation.prompts.origin if evaluation.prompts else "",
        clips=f"{len(evaluation.measured_on.batches)} {KINDS[evaluation.measured_on.kind]}",
        masks_of=evaluation.measured_on.origin,
        footer=_build_footer(evaluation),
    )
    data = json.dumps(
        _build_data(evaluation), indent=1, ensure_ascii=False, allow_nan=False, default=str
    )
    write_whole(output / "report.json", data + "\n")
    write_whole(output / "report.html", page)
    return output / "report.html"


def _build_row(measured: Measured, metrics: Sequence[Metric]) -> dict[str, Any]:
    cells = []
    for metric in metrics:
        values = measured.values.get(metric.key)
        cells.append(
            _build_cell(values, metric) if values else {"mean": "not measured", "spread": ""}
        )
    return {
        "name": measured.name,
        "note": "with masks" if measured.masked else "without masks",
        "cells": cells,
        "selectivity": _describe_selectivity(measured.selectivity()),
    }


def _build_cell(values: Sequence[float], metric: Metric) -> dict[str, str]:
    interval = estimate(values)
    units = f"{interval.count} {metric.unit}{'s' if interval.count > 1 else ''}"
    if interval.low is None or interval.high is None:
        return {"mean": format(interval.mean, metric.form), "spread": f"no spread ({units})"}
    low, high = (format(end, metric.form) for end in (interval.low, interval.high))
    return {"mean": format(interval.mean, metric.form), "spread": f"{low} to {high} ({units})"}


def _describe_selectivity(ratio: Ratio | None) -> dict[str, str]:
    if ratio is None or (ratio.value is None and ratio.least is None):
        return {"mean": "not told", "spread": "too little was learnt inside"}
    if ratio.value is None:
        return {"mean": f"> {ratio.least:.1f}", "spread": "it hardly moved outside"}
    return {"mean": f"{ratio.value:.1f}", "spread": f"{ratio.least:.1f} to {ratio.most:.1f}"}


def _build_errors(evaluation: Evaluation) -> dict[str, Any]:
    """Mean errors of every region: base, then each run, and how far each run moved there."""
    first = evaluation.measured[0].errors
    regions = [name.removeprefix("base/") for name in first if name.startswith("base/")]
    if len(evaluation.measured_on.regions) == 1:  # it is the inside
        regions = [INSIDE, OUTSIDE]
    rows = [(BASE, "error", [fmean(first[f"base/{region}"]) for region in regions])]
    for measured in evaluation.measured:
        rows += [
            (measured.name, what, [fmean(measured.errors[f"{key}/{region}"]) for region in regions])
            for what, key in (("error", "tuned"), ("moved from the base", "moved"))
        ]
    return {"regions": regions, "rows": rows}


def _build_likeness(likeness: Likeness) -> dict[str, Any]:
    names = list(dict.fromkeys(name for column in likeness.raw.values() for name in column))
    ordered = [name for name in names if name != COPY] + [COPY] * (COPY in names)
    rows = [(name, [column.get(name) for column in likeness.raw.values()]) for name in ordered]
    return {"columns": list(likeness.raw), "rows": rows}


def _build_shots(evaluation: Evaluation) -> list[dict[str, Any]]:
    if evaluation.prompts is None:
        return []
    return [
        {
            "prompt": shot.prompt,
            "seed": shot.seed,
            "unrelated": index >= len(evaluation.prompts.subject),
            "cells": [_encode_picture(some[index].frames) for some in evaluation.pictures.values()],
        }
        for index, shot in enumerate(evaluation.prompts.all)
    ]


def _encode_picture(frames: Frames) -> str:
    """A picture, or the first, middle and last frame of a clip, as a `data:` address."""
    places = sorted({0, len(frames) // 2, len(frames) - 1}) if len(frames) > 1 else [0]
    images = []
    for place in places:
        image = Image.fromarray(frames[place].numpy())
        if max(image.size) <= SMALL:
            scale = SIDE // max(image.size)
            size = (image.width * scale, image.height * scale)
            image = image.resize(size, Image.Resampling.NEAREST)
        else:
            image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        images.append(np.asarray(image))
    return thumbnail(Image.fromarray(np.concatenate(images, 1)))


def _build_footer(evaluation: Evaluation) -> dict[str, str]:
    run = evaluation.runs[0]
    levels = ", ".join(f"{level:g}" for level in evaluation.levels.t)
    rows = {
        "frisket": version("frisket"),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {platform.system()}, {evaluation.levels.device}",
        "base": " ".join(
            filter(
                None, (run.config.model.family, run.config.model.variant, run.config.model.source)
            )
        ),
        "errors": f"{evaluation.levels.draws} noises at each of t = {levels}",
        "clips": ", ".join(batch.names[0] for batch in evaluation.measured_on.batches),
    }
    if evaluation.prompts:
        rows["prompts"] = evaluation.prompts.origin
        rows["training pictures looked at"] = str(evaluation.taught)
    return rows | {entry.name: f"{entry.lora}, {entry.steps} steps" for entry in evaluation.runs}


def _build_data(evaluation: Evaluation) -> dict[str, Any]:
    """Everything as JSON: what the page says and every single value behind it."""
    units = {metric.key: metric.unit for metric in METRICS}
    return {
        "verdict": evaluation.verdict.sentence,
        "claims": [asdict(claim) for claim in evaluation.verdict.claims],
        "comparison": asdict(evaluation.comparison) if evaluation.comparison else None,
        "notes": evaluation.notes(),
        "runs": [
            _describe_run(run, measured, units)
            for run, measured in zip(evaluation.runs, evaluation.measured, strict=True)
        ],
        "base": _describe_values(evaluation.likeness.values.get(BASE, {}), units),
        "likeness": evaluation.likeness.raw,
        "identity": identity.as_record() if (identity := evaluation.likeness.identity) else {},
        "attention": [
            describe_numbers(entry, number, reading)
            for number, entry in enumerate(evaluation.phrases)
            for reading in evaluation.attention
        ],
        "lacking": evaluation.likeness.lacking,
        "measured": _describe_settings(evaluation),
    }


def _describe_run(run: ScoredRun, measured: Measured, units: Mapping[str, str]) -> dict[str, Any]:
    """One run: where it lies, how it was trained, its metrics and the errors behind them."""
    selectivity = measured.selectivity()
    return {
        "name": run.name,
        "folder": str(run.config.run.output),
        "lora": str(run.lora),
        "steps": run.steps,
        "masked": run.masked,
        "metrics": _describe_values(measured.values, units),
        "selectivity": asdict(selectivity) if selectivity else None,
        "errors": {name: list(values) for name, values in measured.errors.items()},
    }


def _describe_values(
    values: Mapping[str, Sequence[float]], units: Mapping[str, str]
) -> dict[str, Any]:
    """Metrics by key: mean and interval, unit, and every value."""
    return {
        key: {**asdict(estimate(numbers)), "unit": units[key], "values": list(numbers)}
        for key, numbers in values.items()
    }


def _describe_settings(evaluation: Evaluation) -> dict[str, Any]:
    """On what, and how, was measured."""
    clips, prompts = evaluation.measured_on, evaluation.prompts
    return {
        "kind": clips.kind,
        "clips": [batch.names[0] for batch in clips.batches],
        "regions": clips.regions,
        "taught": [clips.regions[index] for index in clips.taught],
        "masks of": clips.origin,
        "t": evaluation.levels.t,
        "draws": evaluation.levels.draws,
        "seed": evaluation.levels.seed,
        "subject": [asdict(shot) for shot in prompts.subject] if prompts else [],
        "unrelated": [asdict(shot) for shot in prompts.unrelated] if prompts else [],
    }
