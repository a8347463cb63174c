"""The jobs: what runs, waits and has ended; stop, again, order, throw away."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, Field

from frisket.studio.jobs.job import clean_tree
from frisket.studio.jobs.queue import JobBusy
from frisket.studio.jobs.report_tail import read_last_events, read_last_lines
from frisket.studio.state import OpenStudio

router = APIRouter(prefix="/jobs")
JobId = Annotated[str, Field(max_length=64)]
LineCount = Annotated[int, Query(ge=0, le=1000)]


class StopRequest(BaseModel):
    """How a job is stopped: as Ctrl-C does, or at once."""

    hard: bool = False


class OrderRequest(BaseModel):
    """Ids of waiting jobs, the next one first."""

    ids: list[JobId] = Field(max_length=1000)


@router.get("")
def list_jobs(studio: OpenStudio) -> dict[str, Any]:
    """All jobs: those that run, those that wait in their order, what ended (newest first)."""
    return {"jobs": [studio.jobs.render(job) for job in studio.jobs.list_jobs()]}


@router.get("/{job_id}")
def read_job(
    job_id: JobId, studio: OpenStudio, events: LineCount = 0, lines: LineCount = 200
) -> dict[str, Any]:
    """One job with the last events of its report and the last lines it printed."""
    job = studio.jobs.get(job_id)
    return {
        "job": studio.jobs.render(job),
        "events": clean_tree(read_last_events(job.report.path, events)),
        "lines": read_last_lines(job.print, lines),
    }


@router.post("/order")
def reorder_jobs(order: OrderRequest, studio: OpenStudio) -> dict[str, Any]:
    """Let the waiting jobs run in this order; answers the order it came to."""
    return {"ids": studio.jobs.reorder(order.ids)}


@router.post("/{job_id}/stop")
def stop_job(job_id: JobId, stop: StopRequest, studio: OpenStudio) -> dict[str, Any]:
    """Stop a job as Ctrl-C does, or at once; one that waits is taken out of the queue."""
    try:
        return studio.jobs.render(studio.jobs.stop(job_id, hard=stop.hard))
    except JobBusy as error:
        raise HTTPException(409, str(error)) from error


@router.post("/{job_id}/again")
def run_again(job_id: JobId, studio: OpenStudio) -> dict[str, Any]:
    """The same command as a new job, at the end of the queue."""
    try:
        return studio.jobs.render(studio.jobs.run_again(job_id))
    except JobBusy as error:
        raise HTTPException(409, str(error)) from error


@router.delete("/{job_id}")
def remove_job(job_id: JobId, studio: OpenStudio) -> dict[str, Any]:
    """Move an ended job to the studio's trash; what it wrote elsewhere stays."""
    try:
        studio.jobs.remove(job_id)
    except JobBusy as error:
        raise HTTPException(409, str(error)) from error
    return {"id": job_id, "removed": True}
