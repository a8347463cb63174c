"""Masks that were made: the queue, verdicts on it, and the call that makes more."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from frisket.studio.documents.adopting import add_folder
from frisket.studio.ids import EntryId, EntryIds
from frisket.studio.jobs.spec import JobSpec
from frisket.studio.review.making import (
    build_call,
    check_options,
    describe_form,
    name_outputs,
    read_options,
)
from frisket.studio.review.queue import DOUBT_BELOW, count_entries, judge_row, list_entries
from frisket.studio.sets.index import OpenIndexes, SetIndex
from frisket.studio.sets.plan import list_regions
from frisket.studio.settings import read_settings
from frisket.studio.state import OpenStudio, Studio

router = APIRouter()

OptionText = Annotated[str, Field(max_length=400)]
OptionValue = (
    bool
    | int
    | float
    | OptionText
    | Annotated[list[bool | int | float | OptionText], Field(max_length=64)]
)
OptionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){0,2}$")]


class JudgementBody(BaseModel):
    """A verdict on the masks of some clips, or on all that are at least so sure."""

    model_config = ConfigDict(extra="forbid")

    ids: EntryIds | None = None
    above: Annotated[float, Field(ge=0, le=1)] | None = None
    verdict: Literal["accepted", "rejected"]
    undo: bool = False


class Making(BaseModel):
    """Options of `frisket masks make` that differ from the configuration's, by dotted name."""

    model_config = ConfigDict(extra="forbid")

    options: Annotated[dict[OptionName, OptionValue], Field(max_length=100)] = {}
    ids: EntryIds | None = None  # only these clips
    again: bool = False
    overwrite: bool = False
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$")] = "auto"


@router.get("/sets/{set_id}/queue")
def read_queue(
    set_id: EntryId,
    indexes: OpenIndexes,
    below: Annotated[float, Query(ge=0, le=1)] = DOUBT_BELOW,
    anew: bool = False,
) -> dict[str, Any]:
    """All clips of a set, the worst mask first, and how many there are of each standing."""
    index = indexes.open(set_id, anew=anew)
    entries = list_entries(index, below)
    return {
        "entries": [entry.dump() for entry in entries],
        "counts": count_entries(entries),
        "colours": {region.name: region.colour for region in list_regions(index.plan)},
    }


@router.post("/sets/{set_id}/verdicts")
def judge(set_id: EntryId, body: JudgementBody, indexes: OpenIndexes) -> dict[str, Any]:
    """Accept or reject masks; what could not be judged is said by clip."""
    index, rows = indexes.choose(set_id, body.ids)
    if body.above is not None:
        entries = {entry.id: entry for entry in list_entries(index)}
        rows = [
            row
            for row in rows
            if entries[row.id].status in ("done", "unsure")
            and entries[row.id].verdict != body.verdict
            and (entries[row.id].confidence or 0.0) >= body.above
        ]
    elif body.ids is None:
        rows = []
    refused: dict[str, str] = {}
    judged: list[str] = []
    for row in rows:
        try:
            judge_row(index.plan, row, body.verdict, undo=body.undo)
            judged.append(row.id)
        except (ValueError, OSError) as error:
            refused[row.id] = str(error)
    indexes.refresh(set_id)
    return {"judged": judged, "refused": refused}


@router.get("/sets/{set_id}/making")
async def read_form(set_id: EntryId, indexes: OpenIndexes, studio: OpenStudio) -> dict[str, Any]:
    """The form: its fields, and every backend with what is missing for it here."""
    index = await run_in_threadpool(indexes.open, set_id)
    form = describe_form(index.plan)
    args = _describe_models(studio, index)
    reply = await studio.serve.call("making.backends", args)
    return form | reply.value


@router.post("/sets/{set_id}/making/plan")
async def plan_making(
    set_id: EntryId, body: Making, indexes: OpenIndexes, studio: OpenStudio
) -> dict[str, Any]:
    """What a run would look for and how many clips it would do; nothing is written or loaded."""
    index, rows = await run_in_threadpool(indexes.choose, set_id, body.ids)
    only = [row.name for row in rows] if body.ids is not None else []
    call = build_call(index.plan, body.options, only=only, again=body.again)
    reply = await studio.serve.call("making.plan", call.describe())
    return reply.value


@router.post("/sets/{set_id}/making")
async def make_masks(
    set_id: EntryId, body: Making, indexes: OpenIndexes, studio: OpenStudio
) -> dict[str, Any]:
    """Make the masks of a set, or of some clips, as a job.

    A configuration that says `masks = "none"` is first made to read what is coming, with a weight
    of 1 for its regions: a training that looks past masks that were just made would teach all.
    """
    index, rows = await run_in_threadpool(indexes.choose, set_id, body.ids)
    adopted: list[str] = []
    if index.plan.source == "none" and index.plan.clip_set.config is not None:
        call = build_call(index.plan, body.options)
        coming = await studio.serve.call("making.plan", call.describe())
        adopted = list(coming.value["regions"])
        await run_in_threadpool(add_folder, index.plan.clip_set, adopted)
        studio.events.publish("clips", {"set": set_id, "masks": True})
        index, rows = await run_in_threadpool(indexes.choose, set_id, body.ids)
    options = check_options(index.plan, body.options)
    only = [row.name for row in rows] if body.ids is not None else []
    reply = await studio.serve.call("making.backends", _describe_models(studio, index))
    device = _name_device(reply.value, options.backends, body.device)
    call = build_call(
        index.plan,
        body.options,
        only=only,
        again=body.again,
        overwrite=body.overwrite,
        sources=_choose_sources(reply.value, options.backends, options.sources),
    )
    name = rows[0].name if len(only) == 1 else index.plan.clip_set.name
    spec = JobSpec(
        "masks",
        f"Masks of {name}",
        call.spell(None if body.device == "auto" else body.device),
        device=device,
        outputs=name_outputs(index.plan),
        about={"set": set_id, "clips": body.ids},
    )
    job = await run_in_threadpool(studio.jobs.add, spec)
    return {"job": job.id, "adopted": adopted}


def _name_device(value: dict[str, Any], backends: tuple[str, ...], device: str) -> str | None:
    """Where the work is heavy; None for what needs no model."""
    weighted = {backend["name"] for backend in value["backends"] if backend["weights"]}
    if not weighted & {*backends}:
        return None
    return str(value["device"]) if device == "auto" else device


def _choose_sources(
    value: dict[str, Any], backends: tuple[str, ...], configured: dict[str, str]
) -> dict[str, str]:
    """Folders from the studio's settings of what takes part, where the configuration has none."""
    parts = {
        part for backend in value["backends"] if backend["name"] in backends
        for part in backend["parts"]
    }  # fmt: skip
    return {
        name: path
        for name, path in value["folders"].items()
        if name in parts and name not in configured
    }


def _describe_models(studio: Studio, index: SetIndex) -> dict[str, Any]:
    options = read_options(index.plan)
    return {
        "folders": {name: path for name, path in options.sources.items() if name},
        "models": [str(folder) for folder in read_settings(studio.home).models],
    }
