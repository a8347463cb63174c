"""Training: presets, memory against the card, what would be refused, start."""

import asyncio
from collections.abc import Coroutine
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from frisket.config.provenance import Problem
from frisket.disk.untrusted import CONFIG, parse_json
from frisket.studio.configs.check import check_text, describe_problem
from frisket.studio.configs.edit import CannotEdit
from frisket.studio.configs.files import ChangedMeanwhile, find_config, hash_text, read_config
from frisket.studio.configs.starting import describe_start, find_job
from frisket.studio.jobs.spec import JobSpec
from frisket.studio.live.graphics_cards import list_cards
from frisket.studio.live.runs import LiveRuns, get_live
from frisket.studio.runs.commands import choose_device, spell_command
from frisket.studio.runs.index import RunFolder, open_index
from frisket.studio.serve_pool import Reply
from frisket.studio.state import OpenStudio, Studio
from frisket.studio.workspace import make_id

router = APIRouter(prefix="/train")
ConfigId = Annotated[str, Field(max_length=64)]
ModelName = Annotated[str, Field(max_length=100)]
RECIPES = "frisket.recipes.init"  # whose table is read, not its code: that loads torch


class LookRequest(BaseModel):
    """A text of a configuration, to be looked at with what the shelves know."""

    config: ConfigId
    text: Annotated[str, Field(max_length=CONFIG)]


class MemoryRequest(LookRequest):
    """And the room of a card in MiB; None: no card is meant."""

    room_mib: Annotated[float, Field(gt=0, le=1e7)] | None = None


class PresetRequest(BaseModel):
    """A model, and the card it is to fit, in GB as cards are sold; 0: none in particular."""

    family: ModelName
    variant: ModelName
    card: Annotated[int, Field(ge=0, le=1000)] = 0
    sets: Annotated[int, Field(ge=0, le=200)] = 1


class StartRequest(BaseModel):
    """A saved configuration to train; `fresh` begins at step 0 whatever is there."""

    config: ConfigId
    revision: Annotated[str, Field(max_length=64)]
    fresh: bool = False


@router.get("/presets")
def list_presets() -> dict[str, Any]:
    """Models on cards, as `frisket init` knows them."""
    text = (resources.files(RECIPES) / "recipe_table.json").read_text("utf-8")
    return {"presets": parse_json(text)}


@router.get("/choices")
async def list_choices(studio: OpenStudio) -> dict[str, Any]:
    """Names that the shelves know: families, loss terms, optimizers."""
    return (await studio.serve.call("config.choices", {})).value


@router.post("/preset")
async def plan_preset(request: PresetRequest, studio: OpenStudio) -> dict[str, Any]:
    """The changes that make a configuration one for this model and card."""
    return (await studio.serve.call("config.preset", request.model_dump())).value


@router.get("/cards")
def read_cards(studio: OpenStudio) -> dict[str, Any]:
    """The cards of this machine now, and what trains on each."""
    cards = [
        {
            **asdict(card),
            "jobs": [job.spec.title for job in studio.jobs.find_running(f"cuda:{card.index}")],
        }
        for card in list_cards()
    ]
    return {"cards": cards}


@router.post("/look")
async def look(request: LookRequest, studio: OpenStudio, app: Request) -> dict[str, Any]:
    """All that `frisket train` would refuse, and its first lines; takes a second or two."""
    path = await run_in_threadpool(find_config, studio.root, request.config)
    question = {"text": request.text, "path": str(path)}
    reply = await _ask_newest(app, "look", studio.serve.call("config.check", question))
    problems = [
        describe_problem(Problem(tuple(row["key"]), row["message"], row["line"]))
        for row in reply.value["problems"]
    ]
    return {**reply.value, "problems": problems}


@router.post("/memory")
async def estimate_memory(
    request: MemoryRequest,
    studio: OpenStudio,
    live: Annotated[LiveRuns, Depends(get_live)],
    app: Request,
) -> dict[str, Any]:
    """What a text takes of a card, part by part, corrected by what a run of its model took."""
    path = await run_in_threadpool(find_config, studio.root, request.config)
    measurement = await run_in_threadpool(_find_measured, studio, live, request.text, path)
    question = {"text": request.text, "path": str(path), "room_mib": request.room_mib}
    call = studio.serve.call("memory.estimate", question | {"measured": measurement}, lane="plan")
    reply = await _ask_newest(app, "memory", call)
    return {**reply.value, "measured": measurement}


@router.post("/savings")
async def list_savings(request: LookRequest, studio: OpenStudio, app: Request) -> dict[str, Any]:
    """What each switch alone would save; every one of them is rehearsed, which takes a while."""
    path = await run_in_threadpool(find_config, studio.root, request.config)
    question = {"text": request.text, "path": str(path)}
    call = studio.serve.call("memory.savings", question, lane="plan")
    return (await _ask_newest(app, "savings", call)).value


@router.get("/state/{config_id}")
def read_state(config_id: ConfigId, studio: OpenStudio) -> dict[str, Any]:
    """What starting the saved file comes to."""
    path = find_config(studio.root, config_id)
    text, revision = read_config(path)
    checked = check_text(text, path)
    command = spell_command(["train", path.name])
    if checked.config is None:
        return {"revision": revision, "command": command, "ready": False}
    start = describe_start(checked.config, studio.jobs.list_jobs())
    return {"revision": revision, "command": command, "ready": True, **start}


@router.post("")
async def start(request: StartRequest, studio: OpenStudio) -> dict[str, Any]:
    """Train a saved configuration, as a job in the queue of its device.

    Frames of videos that are painted and not in their file yet are written first.
    """
    # With it come readers of masks, which a server that only starts has no use for.
    from frisket.studio.footage.saving import write_drafts  # noqa: PLC0415

    await write_drafts(studio)
    return await run_in_threadpool(_start, request, studio)


def _start(request: StartRequest, studio: Studio) -> dict[str, Any]:
    path = find_config(studio.root, request.config)
    text, revision = read_config(path)
    if revision != request.revision:
        raise HTTPException(409, str(ChangedMeanwhile(path, text)))
    checked = check_text(text, path)
    config = checked.config
    if config is None:
        raise CannotEdit("\n".join(problem.message for problem in checked.problems))
    output = config.run.output
    other = find_job(studio.jobs.list_jobs(), output)
    if other is not None:
        raise HTTPException(
            409, f"{other.spec.title} already trains, or waits to, into {output}; stop it first"
        )
    argv = ["train", str(path)]
    if request.fresh:
        argv += ["--set", "run.resume=false"]
    about = {
        "config": make_id("config", path.name),
        "output": str(output),
        "steps": config.run.steps,
        "revision": hash_text(text),
    }
    spec = JobSpec(
        "train",
        f"Train {path.stem}",
        argv,
        device=choose_device(config.model_dump(mode="json")),
        outputs={"run": str(output)},
        about=about,
    )
    return studio.jobs.render(studio.jobs.add(spec))


def _find_measured(studio: Studio, live: LiveRuns, text: str, path: Path) -> dict[str, Any] | None:
    """The newest run of the same model that noted what it held of a card."""
    config = check_text(text, path).config
    if config is None:
        return None
    for run in open_index(studio.workspace).refresh():
        if run.family == config.model.family and run.variant == config.model.variant:
            peak = _read_peak(live, run)
            if peak is not None:
                place = str(run.folder / "trained.toml")
                return {"config": place, "peak_mib": peak, "run": run.name}
    return None


def _read_peak(live: LiveRuns, run: RunFolder) -> float | None:
    with live.read(run.folder) as tail:
        column = tail.series.get("device_mib")
        return max(column.values) if column and len(column.values) else None


async def _ask_newest(app: Request, kind: str, call: Coroutine[Any, Any, Reply]) -> Reply:
    """Ask, and let go of what was asked before and is not answered: only the newest text counts."""
    state = app.app.state
    if not hasattr(state, "newest_calls"):
        state.newest_calls = {}
    calls: dict[str, asyncio.Task[Reply]] = state.newest_calls
    earlier = calls.get(kind)
    if earlier is not None and not earlier.done():
        earlier.cancel()
    task = calls[kind] = asyncio.create_task(call)
    try:
        return await task
    except asyncio.CancelledError as error:
        if task.cancelled() and calls.get(kind) is not task:
            raise HTTPException(409, "a newer text was asked about meanwhile") from error
        task.cancel()
        raise
