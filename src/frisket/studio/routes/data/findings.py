"""The doctor of a data set: `frisket inspect` as a job, what it found, and its repairs."""

from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from frisket.studio.ids import EntryId
from frisket.studio.jobs.spec import JobSpec
from frisket.studio.sets.findings import read_inspection
from frisket.studio.sets.index import OpenIndexes, SetIndexes
from frisket.studio.state import OpenStudio, Studio
from frisket.studio.workspace import UnknownId, make_id

router = APIRouter()


class RepairBody(BaseModel):
    """Clips (ids of one set) whose masks are mended; None means all of the configuration."""

    set: Annotated[str, Field(max_length=64)] = ""
    ids: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=500)] | None = None


@router.get("/configs/{config_id}/findings")
def read_findings(config_id: EntryId, studio: OpenStudio) -> dict[str, Any]:
    """When `frisket inspect` last looked at a configuration, and how much it found."""
    inspection = read_inspection(_find_config(studio, config_id))
    if inspection is None:
        return {"at": None, "counts": {}}
    counts: dict[str, int] = {}
    for trouble in inspection.troubles:
        counts[trouble.severity] = counts.get(trouble.severity, 0) + 1
    return {"at": inspection.at, "counts": counts}


@router.post("/configs/{config_id}/inspect")
def inspect(config_id: EntryId, studio: OpenStudio) -> dict[str, Any]:
    """Have `frisket inspect` look at every clip."""
    config = _find_config(studio, config_id)
    job = studio.jobs.add(
        JobSpec(
            kind="inspect",
            title=f"Look at {config.stem}",
            argv=["inspect", str(config)],
            about={"config": config_id},
        )
    )
    return {"job": job.id}


@router.post("/configs/{config_id}/repairs/plan")
async def plan_repairs(
    config_id: EntryId, body: RepairBody, studio: OpenStudio, indexes: OpenIndexes
) -> dict[str, Any]:
    """What `frisket inspect --fix` would do to the masks; nothing is changed."""
    config = _find_config(studio, config_id)
    names = _name_clips(indexes, body)
    reply = await studio.serve.call("inspect.plan", {"config": str(config), "only": names})
    return reply.value


@router.post("/configs/{config_id}/repairs")
def repair(
    config_id: EntryId, body: RepairBody, studio: OpenStudio, indexes: OpenIndexes
) -> dict[str, Any]:
    """Have the masks mended by `frisket inspect --fix`, which keeps the old files."""
    config = _find_config(studio, config_id)
    names = _name_clips(indexes, body)
    only = [f"--only={name}" for name in names or ()]
    job = studio.jobs.add(
        JobSpec(
            kind="inspect",
            title=f"Mend masks of {config.stem}",
            argv=["inspect", str(config), "--fix", *only],
            about={"config": config_id, "fix": True},
        )
    )
    return {"job": job.id}


def _name_clips(indexes: SetIndexes, body: RepairBody) -> list[str] | None:
    if body.ids is None:
        return None
    return [row.name for row in indexes.choose(body.set, body.ids)[1]]


def _find_config(studio: Studio, config_id: str) -> FilePath:
    for path in studio.workspace.list_configs():
        if make_id("config", path.name) == config_id:
            return path
    raise UnknownId(f"no configuration has the id {config_id!r}")
