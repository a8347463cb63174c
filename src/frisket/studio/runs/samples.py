"""Pictures of runs side by side: previews by step, and samples of `frisket generate`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frisket.disk.untrusted import BadText, cut, parse_json, read_text
from frisket.studio.runs.artefacts import VIDEO, make_address
from frisket.studio.runs.index import RunFolder

RECORD = "generate.json"  # as `runs.sampling.gallery`
PREVIEW = re.compile(r"step-(\d{1,9})\.(png|mp4)")
MOST = 400  # rows of samples that are sent; the rest is counted


@dataclass(frozen=True, slots=True)
class SampleKey:
    """What a row of samples shares: equal in two runs, it is the same noise and the same words."""

    prompt: str
    seed: int
    width: int
    height: int
    frames: int
    negative: str = ""


def list_previews(run: RunFolder, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The preview grids of a run by step: a row a prompt, a column a seed."""
    preview = settings.get("preview")
    preview = preview if isinstance(preview, dict) else {}
    base = f"/api/runs/{run.id}"
    steps = []
    for path in sorted((run.folder / "previews").glob("step-*.*")):
        match = PREVIEW.fullmatch(path.name)
        address = make_address(base, run.folder, f"previews/{path.name}")
        if match and address:
            steps.append({"step": int(match[1]), "url": address, "video": path.suffix == VIDEO})
    return {
        "run": run.id,
        "prompts": [cut(str(prompt), 2000) for prompt in _list_values(preview, "prompts")],
        "seeds": [seed for seed in _list_values(preview, "seeds") if isinstance(seed, int)],
        "steps": steps,
    }


def _list_values(table: Mapping[str, Any], name: str) -> list[Any]:
    values = table.get(name)
    return values if isinstance(values, list) else []


def collect_samples(runs: Sequence[RunFolder], generated: Path | None = None) -> dict[str, Any]:
    """Samples of `frisket generate`: a row a prompt and seed, a column a run, one for the base.

    Those in the runs' own folders, and of the folder `generated` those of one run's LoRA alone, at
    work everywhere. Of what a run has several times the newest counts. The base has a column for
    each model that was sampled. Rows that more runs have come first.
    """
    rows: dict[SampleKey, dict[str, dict[str, Any]]] = {}
    titles: dict[str, dict[str, str]] = {}
    for run, record, base in _list_records(runs, generated):
        content = read_record(record)
        if record.parent.parent == generated and not _is_of_run(content, run):
            continue
        for key, picture in list_pictures(content):
            if picture.get("methods"):  # neither the run's LoRA alone nor its base
                continue
            cell = _make_cell(content, picture, record, base)
            if cell is None:
                continue
            tuned = bool(picture.get("lora"))
            column = run.id if tuned else f"base {content.get('model')!r}"
            titles.setdefault(column, {"id": column, "title": run.name if tuned else "base"})
            rows.setdefault(key, {})[column] = cell
    return lay_table(rows, list(titles.values()))


def _list_records(
    runs: Sequence[RunFolder], generated: Path | None
) -> Iterator[tuple[RunFolder, Path, tuple[str, Path]]]:
    """Records with the run they may be of, the oldest first, and where their files are served."""
    for run in runs:
        for record in sorted(run.folder.glob(f"samples/*/{RECORD}")):
            yield run, record, (f"/api/runs/{run.id}", run.folder)
    for record in sorted(generated.glob(f"*/{RECORD}")) if generated else ():
        for run in runs:
            yield run, record, (f"/api/generated/{record.parent.name}", record.parent)


def _is_of_run(content: Mapping[str, Any], run: RunFolder) -> bool:
    """Whether a record is of the LoRA of a run's end alone, at work everywhere."""
    loras = content.get("lora")
    if not isinstance(loras, list) or len(loras) != 1 or not isinstance(loras[0], dict):
        return False
    path = Path(str(loras[0].get("path", "")))
    return "mask" not in loras[0] and path.parent == run.folder


def _make_cell(
    content: Mapping[str, Any], picture: Mapping[str, Any], record: Path, base: tuple[str, Path]
) -> dict[str, Any] | None:
    """A picture as the page takes it; None where its file has gone."""
    served, folder = base
    place = (record.parent / picture["file"]).relative_to(folder).as_posix()
    address = make_address(served, folder, place)
    if address is None:
        return None
    note = _describe(content, picture, f"{record.parent.parent.name}/{record.parent.name}")
    return {"url": address, "video": place.endswith(VIDEO), "note": note}


def lay_table(
    rows: Mapping[SampleKey, Mapping[str, dict[str, Any]]], columns: Sequence[dict[str, str]]
) -> dict[str, Any]:
    """Rows and columns as the page lays them out; the base's column first."""
    ordered = sorted(columns, key=lambda column: not column["id"].startswith("base"))
    keys = sorted(rows, key=lambda key: -len(rows[key]))
    return {
        "columns": ordered,
        "rows": [
            {
                "prompt": cut(key.prompt, 2000),
                "seed": key.seed,
                "size": f"{key.width} x {key.height}"
                + (f", {key.frames} frames" if key.frames > 1 else ""),
                "cells": [rows[key].get(column["id"]) for column in ordered],
            }
            for key in keys[:MOST]
        ],
        "left_out": max(0, len(keys) - MOST),
    }


def read_record(path: Path) -> dict[str, Any]:
    """A generate.json; {} for one that is none of ours."""
    try:
        content = parse_json(read_text(path, 16 << 20))
    except (BadText, OSError):
        return {}
    return content if isinstance(content, dict) else {}


def list_pictures(content: Mapping[str, Any]) -> Iterator[tuple[SampleKey, dict[str, Any]]]:
    """The pictures of a record with what they were made from; what is none of ours is left out."""
    pictures = content.get("pictures")
    for picture in pictures if isinstance(pictures, list) else ():
        try:
            file = str(picture["file"])
            shot = SampleKey(
                prompt=str(picture["prompt"]),
                seed=int(picture["seed"]),
                width=int(picture["width"]),
                height=int(picture["height"]),
                frames=int(picture["frames"]),
                negative=str(picture.get("negative", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        if file == Path(file).name and not file.startswith("."):
            yield shot, picture


def _describe(content: Mapping[str, Any], picture: Mapping[str, Any], folder: str) -> str:
    """The settings a sample was made with, in words."""
    loras = content.get("lora")
    strengths = [
        f"{float(lora['strength']):g}"
        for lora in (loras if isinstance(loras, list) else ())
        if isinstance(lora, dict) and isinstance(lora.get("strength"), int | float)
    ]
    parts = [folder, f"{picture.get('steps')} steps"]
    if isinstance(picture.get("guidance"), int | float):
        parts.append(f"guidance {picture['guidance']:g}")
    if picture.get("lora") and strengths:
        parts.append(f"strength {', '.join(strengths)}")
    return " · ".join(parts)
