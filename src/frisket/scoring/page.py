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
from frisket.evaluation.measured import INSIDE, METRICS, Measured, Metric, compute_gains
from frisket.evaluation.metrics import OUTSIDE
from frisket.evaluation.page import render, thumbnail, write_whole
from frisket.evaluation.verdict import Verdict
from frisket.inference.generate import Picture
from frisket.scoring.clips import Yardstick
from frisket.scoring.errors import Errors, Levels
from frisket.scoring.prompts import OF_CAPTIONS, Asked
from frisket.scoring.runner import BASE
from frisket.scoring.runs import Run
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

    runs: Sequence[Run]
    measured: Sequence[Measured]
    verdict: Verdict
    measured_on: Yardstick
    asked: Asked | None
    likeness: Likeness
    pictures: Mapping[str, Sequence[Picture]]  # by run and for the base, in the order of the shots
    levels: Levels
    taught: int  # training pictures looked at

    def notes(self) -> tuple[str, ...]:
        """What a reader must know to take the numbers for what they are."""
        said = []
        clips = len(self.measured_on.batches)
        if self.measured_on.kind == "training":
            said.append(
                "No clip was held out, so errors were measured on training clips: they show what"
                " was learnt by heart. Set validation.holdout, or give --clips."
            )
        if clips == 1:
            said.append("One clip alone has no spread: nothing is claimed of errors.")
        said += [f"Not measured on {each}." for each in self.measured_on.left_out]
        said += [
            f"{run.name}: data or settings changed since it was trained; what is held out now may"
            " have been trained on."
            for run in self.runs
            if run.changed
        ]
        if self.asked and self.asked.said_by == OF_CAPTIONS:
            said.append(
                "Prompts are captions of the training clips: a background that they name was asked"
                " for, and is no leak. Give --prompt, or set a trigger word."
            )
        said += [f"No {metric}: {why}." for metric, why in self.likeness.lacking.items()]
        said.append(
            "Intervals (95 %) are over clips, pictures or prompts. Each run is one training run:"
            " how much another training seed would change is not in them."
        )
        return tuple(said)


def measured_of(run: Run, errors: Errors, drift: Sequence[float], likeness: Likeness) -> Measured:
    """The values of one run under the names of METRICS."""
    values: dict[str, Sequence[float]] = {
        **{f"gain/{region}": compute_gains(errors, region) for region in (INSIDE, OUTSIDE)},
        f"moved/{OUTSIDE}": errors[f"moved/{OUTSIDE}"],
        **likeness.values.get(run.name, {}),
    }
    if drift:
        values["drift"] = drift
    return Measured(run.name, run.masked, errors, values, likeness.lacking)


def write_page(found: Evaluation, output: Path) -> Path:
    """Write report.html and report.json, each whole or not at all; returns the page."""
    metrics = [
        metric for metric in METRICS if any(metric.key in one.values for one in found.measured)
    ]
    page = render(
        "evaluate.html.j2",
        verdict=found.verdict,
        notes=found.notes(),
        metrics=metrics,
        rows=[_row(one, metrics) for one in found.measured],
        errors=_errors(found),
        likeness=_likeness(found.likeness),
        columns=list(found.pictures),
        shots=_shots(found),
        prompts_from=found.asked.said_by if found.asked else "",
        clips=f"{len(found.measured_on.batches)} {KINDS[found.measured_on.kind]}",
        masks_of=found.measured_on.said_by,
        footer=_footer(found),
    )
    data = json.dumps(_data(found), indent=1, ensure_ascii=False, allow_nan=False, default=str)
    write_whole(output / "report.json", data + "\n")
    write_whole(output / "report.html", page)
    return output / "report.html"


def _row(one: Measured, metrics: Sequence[Metric]) -> dict[str, Any]:
    cells = []
    for metric in metrics:
        values = one.values.get(metric.key)
        cells.append(_cell(values, metric) if values else {"mean": "not measured", "spread": ""})
    return {
        "name": one.name,
        "note": "with masks" if one.masked else "without masks",
        "cells": cells,
        "selectivity": _selectivity(one.selectivity()),
    }


def _cell(values: Sequence[float], metric: Metric) -> dict[str, str]:
    told = estimate(values)
    units = f"{told.count} {metric.unit}{'s' if told.count > 1 else ''}"
    if told.low is None or told.high is None:
        return {"mean": format(told.mean, metric.form), "spread": f"no spread ({units})"}
    low, high = (format(end, metric.form) for end in (told.low, told.high))
    return {"mean": format(told.mean, metric.form), "spread": f"{low} to {high} ({units})"}


def _selectivity(told: Ratio | None) -> dict[str, str]:
    if told is None or (told.value is None and told.least is None):
        return {"mean": "not told", "spread": "too little was learnt inside"}
    if told.value is None:
        return {"mean": f"> {told.least:.1f}", "spread": "it hardly moved outside"}
    return {"mean": f"{told.value:.1f}", "spread": f"{told.least:.1f} to {told.most:.1f}"}


def _errors(found: Evaluation) -> dict[str, Any]:
    """Mean errors of every region: base, then each run, and how far each run moved there."""
    first = found.measured[0].errors
    regions = [name.removeprefix("base/") for name in first if name.startswith("base/")]
    if len(found.measured_on.regions) == 1:  # it is the inside
        regions = [INSIDE, OUTSIDE]
    rows = [(BASE, "error", [fmean(first[f"base/{region}"]) for region in regions])]
    for one in found.measured:
        rows += [
            (one.name, what, [fmean(one.errors[f"{key}/{region}"]) for region in regions])
            for what, key in (("error", "tuned"), ("moved from the base", "moved"))
        ]
    return {"regions": regions, "rows": rows}


def _likeness(likeness: Likeness) -> dict[str, Any]:
    names = list(dict.fromkeys(name for told in likeness.raw.values() for name in told))
    ordered = [name for name in names if name != COPY] + [COPY] * (COPY in names)
    rows = [(name, [told.get(name) for told in likeness.raw.values()]) for name in ordered]
    return {"columns": list(likeness.raw), "rows": rows}


def _shots(found: Evaluation) -> list[dict[str, Any]]:
    if found.asked is None:
        return []
    return [
        {
            "prompt": shot.prompt,
            "seed": shot.seed,
            "unrelated": index >= len(found.asked.subject),
            "cells": [_shown(some[index].frames) for some in found.pictures.values()],
        }
        for index, shot in enumerate(found.asked.all)
    ]


def _shown(frames: Frames) -> str:
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


def _footer(found: Evaluation) -> dict[str, str]:
    run = found.runs[0]
    levels = ", ".join(f"{level:g}" for level in found.levels.t)
    said = {
        "frisket": version("frisket"),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {platform.system()}, {found.levels.device}",
        "base": " ".join(
            filter(
                None, (run.config.model.family, run.config.model.variant, run.config.model.source)
            )
        ),
        "errors": f"{found.levels.draws} noises at each of t = {levels}",
        "clips": ", ".join(batch.names[0] for batch in found.measured_on.batches),
    }
    if found.asked:
        said["prompts"] = found.asked.said_by
        said["training pictures looked at"] = str(found.taught)
    return said | {each.name: f"{each.lora}, {each.steps} steps" for each in found.runs}


def _data(found: Evaluation) -> dict[str, Any]:
    """Everything as JSON: what the page says and every single value behind it."""
    units = {metric.key: metric.unit for metric in METRICS}
    return {
        "verdict": found.verdict.sentence,
        "claims": [asdict(claim) for claim in found.verdict.claims],
        "notes": found.notes(),
        "runs": [
            _describe_run(run, measured, units)
            for run, measured in zip(found.runs, found.measured, strict=True)
        ],
        "base": _describe_values(found.likeness.values.get(BASE, {}), units),
        "likeness": found.likeness.raw,
        "lacking": found.likeness.lacking,
        "measured": _describe_settings(found),
    }


def _describe_run(run: Run, measured: Measured, units: Mapping[str, str]) -> dict[str, Any]:
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


def _describe_settings(found: Evaluation) -> dict[str, Any]:
    """On what, and how, was measured."""
    clips, prompts = found.measured_on, found.asked
    return {
        "kind": clips.kind,
        "clips": [batch.names[0] for batch in clips.batches],
        "regions": clips.regions,
        "taught": [clips.regions[index] for index in clips.taught],
        "masks of": clips.said_by,
        "t": found.levels.t,
        "draws": found.levels.draws,
        "seed": found.levels.seed,
        "subject": [asdict(shot) for shot in prompts.subject] if prompts else [],
        "unrelated": [asdict(shot) for shot in prompts.unrelated] if prompts else [],
    }
