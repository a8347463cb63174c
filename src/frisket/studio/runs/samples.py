"""Pictures of runs side by side: previews by step, and samples of `frisket generate`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frisket.disk.untrusted import BadText, cut, parse_json, read_text
from frisket.studio.runs.artefacts import VIDEO, make_address
from frisket.studio.runs.index import Run

RECORD = "generate.json"  # as `runs.gallery`
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


def list_previews(run: Run, settings: Mapping[str, Any]) -> dict[str, Any]:
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


def collect_samples(runs: Sequence[Run]) -> dict[str, Any]:
    """Samples of `frisket generate` in the runs' own folders: a row a shot, a column a run.

    Of a shot that a run has several times the newest counts. The base's column is of whichever run
    sampled it: with equal models it is the same picture. Rows that more runs have come first.
    """
    rows: dict[SampleKey, dict[str, dict[str, Any]]] = {}
    titles: dict[str, dict[str, str]] = {}
    for run in runs:
        for shot, version, cell in _list_samples(run):
            column = f"base:{run.family}:{run.variant}" if version == "base" else run.id
            titles.setdefault(
                column, {"id": column, "title": "base" if version == "base" else run.name}
            )
            rows.setdefault(shot, {})[column] = cell
    return lay_table(rows, list(titles.values()))


def lay_table(
    rows: Mapping[SampleKey, Mapping[str, dict[str, Any]]], columns: Sequence[dict[str, str]]
) -> dict[str, Any]:
    """Rows and columns as the page lays them out; the base's column first."""
    ordered = sorted(columns, key=lambda column: not column["id"].startswith("base"))
    shots = sorted(rows, key=lambda shot: -len(rows[shot]))
    return {
        "columns": ordered,
        "rows": [
            {
                "prompt": cut(shot.prompt, 2000),
                "seed": shot.seed,
                "size": f"{shot.width} x {shot.height}"
                + (f", {shot.frames} frames" if shot.frames > 1 else ""),
                "cells": [rows[shot].get(column["id"]) for column in ordered],
            }
            for shot in shots[:MOST]
        ],
        "left_out": max(0, len(shots) - MOST),
    }


def _list_samples(run: Run) -> Iterator[tuple[SampleKey, str, dict[str, Any]]]:
    """Every sample in a run's folder, the oldest call first: shot, "base" or "lora", cell."""
    base = f"/api/runs/{run.id}"
    for record in sorted(run.folder.glob(f"samples/*/{RECORD}")):
        content = read_record(record)
        for shot, picture in list_pictures(content):
            place = f"samples/{record.parent.name}/{picture['file']}"
            address = make_address(base, run.folder, place)
            if address:
                version = "lora" if picture.get("lora") else "base"
                yield (
                    shot,
                    version,
                    {
                        "url": address,
                        "video": place.endswith(VIDEO),
                        "note": _describe(content, picture, record.parent.name),
                    },
                )


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
    parts = [f"samples/{folder}", f"{picture.get('steps')} steps"]
    if isinstance(picture.get("guidance"), int | float):
        parts.append(f"guidance {picture['guidance']:g}")
    if picture.get("lora") and strengths:
        parts.append(f"strength {', '.join(strengths)}")
    return " · ".join(parts)
