"""Runs of the workspace, and the pictures and reports that lie in their folders."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response

from frisket.media.paths import escape
from frisket.studio.ids import FileToken, RunId
from frisket.studio.runs.artefacts import make_address, send_artefact
from frisket.studio.runs.index import RunFolder, open_index
from frisket.studio.runs.watch import watch_runs
from frisket.studio.state import OpenStudio

router = APIRouter()


@router.get("/runs")
def list_runs(studio: OpenStudio) -> dict[str, Any]:
    """All runs, the newest first."""
    watch_runs(studio)
    return {"runs": [describe_run(run) for run in open_index(studio.workspace).refresh()]}


@router.get("/runs/{run_id}")
def read_run(studio: OpenStudio, run_id: RunId) -> dict[str, Any]:
    """One run, with the settings it was trained with."""
    index = open_index(studio.workspace)
    run = index.get(run_id)
    return describe_run(run) | {"settings": index.read_settings(run)}


@router.get("/runs/{run_id}/file/{token}")
def read_file(studio: OpenStudio, run_id: RunId, token: FileToken) -> Response:
    """A picture, clip or report of a run."""
    return send_artefact(open_index(studio.workspace).get(run_id).folder, token)


def describe_run(run: RunFolder) -> dict[str, Any]:
    """A run as the page knows it: places are text to read, addresses are to fetch."""
    base = f"/api/runs/{run.id}"
    pages = {kind: make_address(base, run.folder, place) for kind, place in run.pages.items()}
    return {
        "id": run.id,
        "name": escape(run.name),
        "folder": escape(run.folder),
        "config": escape(run.config.name) if run.config else None,
        "state": run.state,
        "started": run.started,
        "steps": run.steps,
        "of_steps": run.of_steps,
        "seconds": run.seconds,
        "best": asdict(run.best) if run.best else None,
        "lora": run.lora.name if run.lora else None,
        "family": run.family,
        "variant": run.variant,
        "pages": {kind: address for kind, address in pages.items() if address},
    }
