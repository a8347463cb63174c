"""What starting a run comes to: where it writes, what it goes on from, and whether it may."""

import shutil
from pathlib import Path
from typing import Any

from frisket.config.tree import Config
from frisket.studio.jobs.job import Job
from frisket.studio.runs.results import list_results
from frisket.studio.runs.run_state import find_saved_step, is_running

ROOMY = 5 << 30  # bytes below which a cache and a few checkpoints may not fit


def describe_start(config: Config, jobs: list[Job]) -> dict[str, Any]:
    """Where a configuration would train, what it would go on from, and what stands in the way."""
    output, run = config.run.output, config.run
    saved = find_saved_step(output) if run.resume else 0
    job = find_job(jobs, output)
    return {
        "output": str(output),
        "exists": output.is_dir(),
        "running": is_running(output),
        "job": None if job is None else {"id": job.id, "state": job.state},
        "resume": run.resume,
        "saved_step": saved,
        "finished": saved >= run.steps and not run.epochs,
        "steps": run.steps,
        "epochs": run.epochs,
        "words": _describe_resume(config, saved),
        "disks": [_measure_disk("output", output), _measure_disk("cache", run.cache)],
    }


def find_job(jobs: list[Job], output: Path) -> Job | None:
    """The job that trains, or waits to train, into a folder."""
    for job in jobs:
        writes_there = job.spec.kind == "train" and job.spec.about.get("output") == str(output)
        if writes_there and job.ending is None:
            return job
    return None


def _describe_resume(config: Config, saved: int) -> str:
    run = config.run
    if not saved:
        has_results = bool(list_results(run.output)) or (run.output / "metrics.jsonl").exists()
        note = "; metrics and checkpoints that lie there are kept under other names"
        return "starts at step 0" + (note if has_results else "")
    if run.epochs:
        return f"goes on from step {saved}, to the end of epoch {run.epochs}"
    if saved == run.steps:
        return f"is finished: all {saved} steps are done. Raise run.steps to go on, or start afresh"
    if saved > run.steps:
        return f"has done {saved} steps, more than run.steps = {run.steps}: it would be refused"
    return f"goes on from step {saved} of {run.steps}"


def _measure_disk(name: str, folder: Path) -> dict[str, Any]:
    """The room on the disk of a folder, or of the nearest one above it that is there."""
    place = next((parent for parent in (folder, *folder.parents) if parent.is_dir()), Path("/"))
    free = shutil.disk_usage(place).free
    return {"name": name, "folder": str(folder), "free": free, "low": free < ROOMY}
