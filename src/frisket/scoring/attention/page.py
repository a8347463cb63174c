"""What was read as one page, its sheets of heat maps and its JSON: every number with its spread."""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from frisket.disk.untrusted import BadText, read_table
from frisket.evaluation.bootstrap import Estimate, difference, estimate
from frisket.evaluation.heat_maps import draw_heat_maps, draw_plain, lay_sheet
from frisket.evaluation.page import render, thumbnail, write_whole
from frisket.evaluation.word_alignment import MEASURES, WordAlignment, estimate_alignments
from frisket.runs.sampling.samples import slug
from frisket.scoring.attention.phrases import RegionPhrase
from frisket.scoring.attention.reading import AttentionReading, ModelReading

HEAT_MAPS_SHOWN = (
    24  # heat maps of one phrase and one model on the page at most; the sheets have all
)
NAMES = {
    "pointing": "pointing",
    "mass": "mass inside",
    "iou": "IoU, best cut",
    "iou_half": "IoU, half cut",
    "area": "area",
}

_Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class AttentionReport:
    """All that was read of one or two models, and what it was read with."""

    phrases: Sequence[RegionPhrase]
    readings: Sequence[ModelReading]  # base first
    how: AttentionReading
    kind: str  # what the scenes are: "held-out clips", "samples", ...
    about: Mapping[str, Any]  # the model, as the JSON and the footer name it
    notes: Sequence[str] = ()

    @property
    def aligned(self) -> list[int]:
        """The phrases that were held against a mask somewhere."""
        return [
            number
            for number in range(len(self.phrases))
            if any(reading.align(number) for reading in self.readings)
        ]

    def summarise(self) -> str:
        """A sentence a phrase: how much of its attention lies inside, and against the base."""
        if not self.aligned:
            words = ", ".join(f"“{entry.phrase}”" for entry in self.phrases)
            verb = "look" if len(self.phrases) > 1 else "looks"
            return f"Where {words} {verb}. There is no mask here to hold that against."
        return " ".join(self._summarise_phrase(number) for number in self.aligned)

    def _summarise_phrase(self, number: int) -> str:
        entry, last = self.phrases[number], self.readings[-1]
        alignments = last.align(number)
        mass = estimate([alignment.mass for alignment in alignments.values()])
        area = estimate([alignment.area for alignment in alignments.values()])
        sentence = (
            f"“{entry.phrase}” has {_spell_share(mass)} of its attention inside {entry.region};"
            f" looking everywhere alike it would be {area.mean:.0%}."
        )
        if len(self.readings) == 1:
            return sentence
        base = self.readings[0].align(number)
        shared = [name for name in alignments if name in base]
        change = difference(
            [alignments[name].mass for name in shared], [base[name].mass for name in shared]
        )
        before = estimate([base[name].mass for name in shared])
        relation = "not told apart from"
        if change.above or change.below:
            relation = "more than" if change.above else "less than"
        return f"{sentence} That is {relation} the base's {before.mean:.0%}."


def _spell_share(value: Estimate) -> str:
    if value.low is None or value.high is None:
        return f"{value.mean:.0%} (one clip: no spread)"
    return f"{value.mean:.0%} ({value.low:.0%} to {value.high:.0%})"


def write_attention_page(report: AttentionReport, output: Path) -> tuple[Path, tuple[Path, ...]]:
    """Write attend.html, attend.json and a sheet a phrase and scene; returns page and sheets."""
    folder = output / "heat-maps"
    _remove_earlier(output / "attend.json", folder)
    sheets = tuple(_write_sheets(report, folder))
    page = render(
        "attend.html.j2",
        summary=report.summarise(),
        kind=report.kind,
        notes=report.notes,
        meanings=[(NAMES[name], meaning) for name, meaning in MEASURES.items()],
        tables=list(_build_tables(report)),
        phrases=[_build_phrase(report, number) for number in range(len(report.phrases))],
        sheets=[
            (path.stem, thumbnail(Image.open(path)) if len(sheets) <= HEAT_MAPS_SHOWN else "")
            for path in sheets
        ],
        footer=_build_footer(report),
    )
    described = {**describe_report(report), "sheets": [path.name for path in sheets]}
    data = json.dumps(described, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(output / "attend.json", data + "\n")
    write_whole(output / "attend.html", page)
    return output / "attend.html", sheets


def _remove_earlier(record: Path, folder: Path) -> None:
    """Remove the sheets that an earlier record here lists, so that none stays beside the new."""
    try:
        sheets = read_table(record).get("sheets")
    except (BadText, OSError):
        return
    for name in sheets if isinstance(sheets, list) else ():
        if isinstance(name, str) and name == Path(name).name and name.endswith(".png"):
            (folder / name).unlink(missing_ok=True)


def _write_sheets(report: AttentionReport, folder: Path) -> Iterator[Path]:
    """One a scene and phrase: a row a layer, a column a model and level."""
    folder.mkdir(parents=True, exist_ok=True)
    first = report.readings[0]
    columns = [
        (reading, level) for reading in report.readings for level in ("picture", *reading.levels)
    ]
    titles = [f"{reading.model}, {level}" for reading, level in columns]
    for index, scene in enumerate(first.scenes):
        for number, entry in enumerate(report.phrases):
            if not scene.positions[number]:
                continue
            rows = [
                (
                    layer,
                    [
                        _draw(reading, index, level, layer, entry, number)
                        for reading, level in columns
                    ],
                )
                for layer in first.layers
            ]
            path = folder / f"{index:03d}-{slug(scene.name)}-{slug(entry.phrase)}.png"
            Image.fromarray(lay_sheet(titles, rows)).save(path, optimize=True)
            yield path


def _draw(
    reading: ModelReading, index: int, level: str, layer: str, entry: RegionPhrase, number: int
) -> _Image:
    scene = reading.scenes[index]
    assert scene.frames is not None
    read = reading.find(index, level, layer)
    if read is None:  # the picture's own column; or an expert's own layers, of other levels
        return draw_plain(scene.frames, len(reading.maps[index][0].maps[number]))
    return draw_heat_maps(scene.frames, read.maps[number], scene.coverage.get(entry.region))


def build_rows(
    phrases: Sequence[RegionPhrase], readings: Sequence[ModelReading]
) -> list[tuple[str, str, list[dict[str, str]]]]:
    """Of every phrase that was held against a mask, a row a model: name, model, cells of NAMES."""
    return [
        (_name_row(entry), reading.model, _build_cells(reading.align(number)))
        for number, entry in enumerate(phrases)
        if any(reading.align(number) for reading in readings)
        for reading in readings
    ]


def _build_tables(report: AttentionReport) -> Iterator[dict[str, Any]]:
    """All layers and levels; then by layer, and by level, the mass and the pointing alone."""
    if not report.aligned:
        return
    rows = build_rows(report.phrases, report.readings)
    yield {"title": "", "heads": list(NAMES.values()), "rows": rows}
    first = report.readings[0]
    for title, names in (("By layer", first.layers), ("By noise level", first.levels)):
        if len(names) < 2:
            continue
        key = "layer" if title == "By layer" else "level"
        yield {
            "title": title,
            "heads": list(NAMES.values()),
            "rows": [
                (
                    f"{_name_row(report.phrases[number])}: {name}",
                    reading.model,
                    _build_cells(reading.align(number, **{key: name})),
                )
                for number in report.aligned
                for name in names
                for reading in report.readings
            ],
        }


def _name_row(entry: RegionPhrase) -> str:
    return f"“{entry.phrase}” in {entry.region}"


def _build_cells(alignments: Mapping[str, WordAlignment]) -> list[dict[str, str]]:
    if not alignments:
        return [{"mean": "not measured", "spread": ""} for _ in NAMES]
    return [
        {"mean": f"{value.mean:.0%}" if name != "iou" else f"{value.mean:.2f}", "spread": spread}
        for name, value, spread in (
            (name, value, _spell_spread(value))
            for name, value in estimate_alignments(list(alignments.values())).items()
        )
    ]


def _spell_spread(value: Estimate) -> str:
    if value.low is None or value.high is None:
        return "one clip: no spread"
    return f"{value.low:.2f} to {value.high:.2f}"


def _build_phrase(report: AttentionReport, number: int) -> dict[str, Any]:
    """The rows of one phrase: a scene each, plain, then every level of every model."""
    entry = report.phrases[number]
    rows: list[dict[str, Any]] = []
    heads = [
        f"{reading.model}, {name}"
        for reading in report.readings
        for name in ("picture", *reading.levels)
    ]
    layer = report.readings[0].layers[0]
    for index, scene in enumerate(report.readings[0].scenes):
        if not scene.positions[number] or len(rows) * len(heads) >= HEAT_MAPS_SHOWN * len(
            report.readings
        ):
            continue
        cells = [
            thumbnail(Image.fromarray(_draw(reading, index, level, layer, entry, number)))
            for reading in report.readings
            for level in ("picture", *reading.levels)
        ]
        rows.append({"name": scene.name, "prompt": scene.prompt, "cells": cells})
    return {"phrase": entry.phrase, "region": entry.region, "heads": heads, "rows": rows}


def _build_footer(report: AttentionReport) -> dict[str, str]:
    how = report.how
    levels = ", ".join(f"{t:g}" for t in how.levels.t)
    return {
        "frisket": version("frisket"),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {platform.system()}, {how.levels.device}",
        **{name: str(value) for name, value in report.about.items()},
        "layers": ", ".join(report.readings[0].layers),
        "form": f"{how.form}, softmax over {how.softmax}",
        "levels": f"{how.levels.draws} noises at each of t = {levels}",
    }


def describe_report(report: AttentionReport) -> dict[str, Any]:
    """Everything as JSON: settings, scenes, and every number of every layer, level and scene."""
    how = report.how
    return {
        "summary": report.summarise(),
        "notes": list(report.notes),
        "model": dict(report.about),
        "read": {
            "layers": list(how.layers),
            "form": how.form,
            "softmax": how.softmax,
            "t": list(how.levels.t),
            "draws": how.levels.draws,
            "seed": how.levels.seed,
            "kind": report.kind,
        },
        "phrases": [asdict(entry) for entry in report.phrases],
        "scenes": [
            {
                "name": scene.name,
                "prompt": scene.prompt,
                "positions": [list(positions) for positions in scene.positions],
            }
            for scene in report.readings[0].scenes
        ],
        "numbers": [
            describe_numbers(report.phrases[number], number, reading, layer, level)
            for number in report.aligned
            for reading in report.readings
            for layer in reading.layers
            for level in (None, *reading.levels)
        ],
    }


def describe_numbers(
    entry: RegionPhrase,
    number: int,
    reading: ModelReading,
    layer: str | None = None,
    level: str | None = None,
) -> dict[str, Any]:
    """One phrase of one model as JSON: every clip's alignment, and their means with intervals."""
    layer = layer or reading.layers[0]
    alignments = reading.align(number, layer=layer, level=level)
    return {
        "model": reading.model,
        "phrase": entry.phrase,
        "region": entry.region,
        "layer": layer,
        "level": level or "all levels",
        "clips": {name: asdict(alignment) for name, alignment in alignments.items()},
        "estimates": {
            name: asdict(value)
            for name, value in (
                estimate_alignments(list(alignments.values())) if alignments else {}
            ).items()
        },
    }
