"""Reports of runs: what `frisket evaluate` and `frisket attend` left, read without torch."""

import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frisket.disk.untrusted import BadText, cut, parse_json, read_text
from frisket.studio.runs.artefacts import VIDEO, make_address
from frisket.studio.runs.index import RunFolder

if TYPE_CHECKING:
    from frisket.evaluation.measured import Measured, Metric

COMPARISONS = "comparisons"  # below the studio's own folder: reports of several runs
EVALUATION, ATTENTION = "evaluation", "attention"
LARGEST = 64 << 20  # bytes of a report
MOST_SHEETS = 96  # heat maps of one run that are listed


@dataclass(frozen=True, slots=True)
class Report:
    """A report.json and the folder it lies in; `base` is the address its files are served below."""

    id: str
    folder: Path
    base: str
    written_at: float  # seconds since 1970
    content: Mapping[str, Any]

    @property
    def folders(self) -> list[Path]:
        """The folders of the runs it is about, as it names them."""
        return [Path(str(run.get("folder", ""))) for run in self.runs]

    @property
    def runs(self) -> list[Mapping[str, Any]]:
        """What it says of each run."""
        runs = self.content.get("runs")
        return [run for run in runs if isinstance(run, dict)] if isinstance(runs, list) else []


def name_report(folder: Path) -> str:
    """The id of a report by its folder."""
    raw = os.fsencode(folder)
    return hashlib.blake2b(raw, digest_size=9, person=b"frisket.report").hexdigest()


def list_reports(runs: Sequence[RunFolder], home: Path) -> Iterator[Report]:
    """Reports in the runs' own folders, and those that the studio had made; no order."""
    folders = [run.folder / EVALUATION for run in runs]
    folders += sorted((home / COMPARISONS).glob("*")) if (home / COMPARISONS).is_dir() else []
    for folder in folders:
        report = read_report(folder)
        if report is not None:
            yield report


def read_report(folder: Path) -> Report | None:
    """The report in a folder; None where there is none that can be read."""
    path = folder / "report.json"
    try:
        written_at = path.stat().st_mtime
        content = parse_json(read_text(path, LARGEST))
    except (OSError, BadText):
        return None
    if not isinstance(content, dict):
        return None
    report_id = name_report(folder)
    return Report(report_id, folder, f"/api/compare/reports/{report_id}", written_at, content)


def find_report(runs: Sequence[RunFolder], home: Path) -> Report | None:
    """The newest report that measures all of `runs` together; None where there is none.

    One that measures just these goes before one that measures others too.
    """
    run_folders = {run.folder.resolve() for run in runs}
    fitting = [
        (len(folders) == len(run_folders), report.written_at, report)
        for report in list_reports(runs, home)
        if run_folders <= (folders := {folder.resolve() for folder in report.folders})
    ]
    return max(fitting, key=lambda entry: entry[:2], default=(False, 0.0, None))[2]


def describe_report(report: Report, runs: Sequence[RunFolder]) -> dict[str, Any]:
    """What the page shows of a report: numbers by metric, the verdicts, the samples.

    `stale` names the runs whose LoRA is newer than the report.
    """
    # Here, for numpy would make the server's start wait.
    from frisket.evaluation.comparison import compare_runs, read_measured  # noqa: PLC0415
    from frisket.evaluation.measured import METRICS  # noqa: PLC0415

    measured_runs = {entry.name: entry for entry in read_measured(report.content)}
    rows = _match_runs(report, runs, measured_runs)
    present = {key for _, values, _ in rows for key in values.values}
    comparison = compare_runs([values for _, values, _ in rows]) if len(rows) > 1 else None
    return {
        "id": report.id,
        "written": report.written_at,
        "page": make_address(report.base, report.folder, "report.html"),
        "verdict": str(report.content.get("verdict", "")),
        "of_others": len(report.runs) > len(rows),
        "claims": _read_claims(report.content),
        "notes": [str(note) for note in _read_list(report.content, "notes")],
        "comparison": asdict(comparison) if comparison else None,
        "stale": [run.name for run, *_ in rows if _is_newer(run.lora, report.written_at)],
        "metrics": [_describe_metric(metric) for metric in METRICS if metric.key in present],
        "runs": [_describe_measured(*entry) for entry in rows],
        "samples": list_samples(report, [(run, values.name) for run, values, _ in rows]),
    }


def _match_runs(
    report: Report, runs: Sequence[RunFolder], measured_runs: Mapping[str, "Measured"]
) -> list[tuple[RunFolder, "Measured", Mapping[str, Any]]]:
    """The report's entries of some runs, in the runs' order; runs it does not know are left out."""
    by_folder = {run.folder.resolve(): run for run in runs}
    rows = [
        (run, measured_runs[str(entry["name"])], entry)
        for entry, folder in zip(report.runs, report.folders, strict=True)
        if (run := by_folder.get(folder.resolve())) is not None
    ]
    places = {run.id: place for place, run in enumerate(runs)}
    return sorted(rows, key=lambda row: places[row[0].id])


def _describe_metric(metric: "Metric") -> dict[str, Any]:
    return {
        "key": metric.key,
        "title": metric.title,
        "better": metric.better,
        "percent": metric.form.endswith("%"),
        "digits": int(metric.form[1]) if metric.form[1:2].isdecimal() else 2,
        "meaning": metric.meaning,
        "unit": metric.unit,
    }


def _describe_measured(
    run: RunFolder, values: "Measured", entry: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": values.name,
        "masked": values.masked,
        "steps": entry.get("steps"),
        "metrics": _read_metrics(entry),
        "selectivity": entry.get("selectivity"),
    }


def _read_list(content: Mapping[str, Any], name: str) -> list[Any]:
    values = content.get(name)
    return values if isinstance(values, list) else []


def _read_claims(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "sentence": str(claim.get("sentence", "")),
            "measured": str(claim.get("measured", "")),
            "met": bool(claim.get("met")),
        }
        for claim in _read_list(content, "claims")
        if isinstance(claim, dict)
    ]


def _read_metrics(entry: Mapping[str, Any]) -> dict[str, Any]:
    metrics = entry.get("metrics")
    return {
        str(key): {name: _read_number(value.get(name)) for name in ("mean", "low", "high", "count")}
        for key, value in (metrics.items() if isinstance(metrics, dict) else ())
        if isinstance(value, dict)
    }


def _read_number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _is_newer(path: Path | None, written_at: float) -> bool:
    try:
        return path is not None and path.stat().st_mtime > written_at
    except OSError:
        return False


def list_samples(report: Report, runs: Sequence[tuple[RunFolder, str]]) -> dict[str, Any]:
    """The samples of a report: a row a prompt and seed, the base's column, and one a run."""
    settings = report.content.get("measured")
    settings = settings if isinstance(settings, dict) else {}
    shots = [*_read_list(settings, "subject"), *_read_list(settings, "unrelated")]
    columns = [{"id": "base", "title": "base"}]
    columns += [{"id": run.id, "title": name} for run, name in runs]
    files = [_list_files(report, column["title"]) for column in columns]
    unrelated = len(_read_list(settings, "subject"))
    return {
        "columns": columns,
        "rows": [
            {
                "prompt": cut(str(shot.get("prompt", "")), 2000),
                "seed": shot.get("seed", 0),
                "size": f"{shot.get('width')} x {shot.get('height')}",
                "unrelated": index >= unrelated,
                "cells": [listing.get(index) for listing in files],
            }
            for index, shot in enumerate(shots)
            if isinstance(shot, dict)
        ],
        "left_out": 0,
    }


def _list_files(report: Report, name: str) -> dict[int, dict[str, Any]]:
    """The samples of one run by their number, as `scoring.runner` names them."""
    sample_folder = f"samples/{name.replace('/', '-')}"
    cells: dict[int, dict[str, Any]] = {}
    for path in sorted((report.folder / sample_folder).glob("[0-9][0-9][0-9]-*")):
        address = make_address(report.base, report.folder, f"{sample_folder}/{path.name}")
        if address:
            cells[int(path.name[:3])] = {
                "url": address,
                "video": path.suffix == VIDEO,
                "note": f"evaluation of {name}",
            }
    return cells


def read_attention(run: RunFolder) -> dict[str, Any] | None:
    """What `frisket attend` left in a run's folder: its numbers and sheets; None where nothing."""
    folder = run.folder / ATTENTION
    try:
        content = parse_json(read_text(folder / "attend.json", LARGEST))
        written_at = (folder / "attend.json").stat().st_mtime
    except (OSError, BadText):
        return None
    if not isinstance(content, dict):
        return None
    base = f"/api/runs/{run.id}"
    sheets = []
    for name in _read_list(content, "sheets")[:MOST_SHEETS]:
        if isinstance(name, str) and name == Path(name).name:
            address = make_address(base, run.folder, f"{ATTENTION}/heat-maps/{name}")
            if address:
                sheets.append({"name": Path(name).stem, "url": address})
    return {
        "run": run.id,
        "written": written_at,
        "stale": _is_newer(run.lora, written_at),
        "page": make_address(base, run.folder, f"{ATTENTION}/attend.html"),
        "summary": str(content.get("summary", "")),
        "notes": [str(note) for note in _read_list(content, "notes")],
        "phrases": [entry for entry in _read_list(content, "phrases") if isinstance(entry, dict)],
        "numbers": list(_list_alignments(content)),
        "sheets": sheets,
    }


def _list_alignments(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """How well each phrase fits its region, of the base and the run: all layers and levels."""
    listed = set()
    for entry in _read_list(content, "numbers"):
        if not isinstance(entry, dict) or entry.get("level") != "all levels":
            continue
        key = (str(entry.get("phrase")), str(entry.get("model")))
        estimates = entry.get("estimates")
        if key in listed or not isinstance(estimates, dict):  # the first layer is all of them
            continue
        listed.add(key)
        yield {
            "phrase": key[0],
            "model": key[1],
            "region": str(entry.get("region")),
            "estimates": {
                str(name): {end: _read_number(value.get(end)) for end in ("mean", "low", "high")}
                for name, value in estimates.items()
                if isinstance(value, dict)
            },
        }
