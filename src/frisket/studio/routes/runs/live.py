"""A run as it trains: curves, spikes and the clips that made them, banner, previews."""

import math
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi import Path as FromPath

from frisket.studio.ids import RunId
from frisket.studio.live.curves import Axis, measure_axis, reduce_curves
from frisket.studio.live.runs import LiveRuns, get_live, measure_epoch, read_banner
from frisket.studio.live.spikes import find_spikes, list_step_clips, rank_clips
from frisket.studio.runs.index import RunFolder, open_index
from frisket.studio.runs.run_state import find_saved_step
from frisket.studio.runs.samples import list_previews
from frisket.studio.state import OpenStudio, Studio
from frisket.studio.workspace import UnknownId

router = APIRouter(prefix="/runs/{run_id}")
Live = Annotated[LiveRuns, Depends(get_live)]
Buckets = Annotated[int, Query(ge=10, le=4000)]
SeriesName = Annotated[str, Query(max_length=200)]


@router.get("/metrics")
def read_metrics(
    run_id: RunId, studio: OpenStudio, live: Live, x: Axis = "step", buckets: Buckets = 400
) -> dict[str, Any]:
    """Every number of the run over steps, epochs or minutes, in at most so many buckets."""
    run, settings = _find(studio, run_id)
    with live.read(run.folder) as tail:
        places = measure_axis(tail, x, measure_epoch(run.folder, settings))
        curves = reduce_curves(tail, places, buckets)
        last = {name: column.values[-1] for name, column in tail.series.items()}
        about = {
            "lines": len(tail.steps),
            "steps": max(tail.steps, default=0),
            "seconds": tail.seconds[-1] if len(tail.seconds) else 0.0,
            "bad_lines": tail.bad,
        }
    clean = {name: value for name, value in last.items() if math.isfinite(value)}
    return {**curves, **about, "last": clean, "state": run.state, "of_steps": run.of_steps}


@router.get("/spikes")
def read_spikes(
    run_id: RunId, studio: OpenStudio, live: Live, name: SeriesName = "loss"
) -> dict[str, Any]:
    """Steps whose number stands out, the farthest first, with the clips that they drew."""
    run, _ = _find(studio, run_id)
    with live.read(run.folder) as tail:
        spikes = find_spikes(tail, name)
        has_clips = bool(len(tail.clips.rows))
    for spike in spikes:
        spike["clips"] = [_place_clip(studio, live, run, clip) for clip in spike["clips"]]
    return {"spikes": spikes, "named": has_clips}


@router.get("/hard-clips")
def read_hard_clips(run_id: RunId, studio: OpenStudio, live: Live) -> dict[str, Any]:
    """Each clip by how many times the usual error at its noise levels it has."""
    run, _ = _find(studio, run_id)
    with live.read(run.folder) as tail:
        clips = rank_clips(tail)
    return {"clips": [_place_clip(studio, live, run, clip) for clip in clips]}


@router.get("/steps/{step}")
def read_step(
    run_id: RunId, step: Annotated[int, FromPath(ge=0)], studio: OpenStudio, live: Live
) -> dict[str, Any]:
    """One step: its numbers, and the clips it drew; UnknownId for one that is not recorded."""
    run, _ = _find(studio, run_id)
    with live.read(run.folder) as tail:
        rows = [row for row, row_step in enumerate(tail.steps) if row_step == step]
        if not rows:
            raise UnknownId(f"{run.name} has no step {step} on record")
        values = {
            name: value
            for name, column in tail.series.items()
            for row, value in zip(column.rows, column.values, strict=True)
            if row == rows[0] and math.isfinite(value)
        }
        clips = [clip for row in rows for clip in list_step_clips(tail, row)]
    placed_clips = [_place_clip(studio, live, run, clip) for clip in clips]
    return {"step": step, "values": values, "clips": placed_clips}


@router.get("/watch")
def read_watch(run_id: RunId, studio: OpenStudio) -> dict[str, Any]:
    """What the run teaches and warned of, its previews, and where it would go on from."""
    run, settings = _find(studio, run_id)
    return {
        "banner": read_banner(run.folder),
        "previews": list_previews(run, settings),
        "saved_step": find_saved_step(run.folder),
    }


def _find(studio: Studio, run_id: str) -> tuple[RunFolder, dict[str, Any]]:
    index = open_index(studio.workspace)
    run = index.get(run_id)
    return run, index.read_settings(run)


def _place_clip(
    studio: Studio, live: LiveRuns, run: RunFolder, clip: dict[str, Any]
) -> dict[str, Any]:
    """A clip of a step with its frames, crop and, where it is in this folder, its id."""
    clips, item = live.read_clips(run.folder), clip["item"]
    entry = clips[item] if 0 <= item < len(clips) else {}
    if entry.get("name") != clip["name"]:
        entry = {}
    path = str(entry.get("clip", ""))
    clip_here = live.find_clip(studio.workspace, run, Path(path)) if path else None
    return {
        **clip,
        "id": clip_here and clip_here.id,
        "set": clip_here and clip_here.set_id,
        "video": bool(clip_here and clip_here.video),
        "frames": entry.get("frames"),
        "crop": entry.get("crop"),
        "flip": bool(entry.get("flip")),
        "masked": entry.get("coverage") is not None if entry else None,
        "weight": entry.get("weight"),
    }
