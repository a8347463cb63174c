"""Pictures from prompts: what may be chosen, the command, its results, and where LoRAs may act."""

from typing import Annotated, Any, get_args

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import StringConstraints

from frisket.media.paths import escape
from frisket.studio.generation.history import (
    describe_call,
    find_call,
    list_calls,
    make_folder,
    remove_call,
    restore_call,
    write_settings,
)
from frisket.studio.generation.lora_files import list_loras
from frisket.studio.generation.paintings import (
    LARGEST,
    SMALLEST,
    find_mask,
    read_painting,
    save_painting,
)
from frisket.studio.generation.request import GenerateForm, build_argv, check_model
from frisket.studio.ids import FileToken
from frisket.studio.jobs.spec import JobSpec
from frisket.studio.runs.artefacts import send_artefact
from frisket.studio.runs.commands import PageForm, choose_device, spell_command
from frisket.studio.runs.index import TRAINED, open_index
from frisket.studio.state import OpenStudio, Studio
from frisket.studio.waiting import call_while_wanted
from frisket.studio.workspace import UnknownId, make_id

router = APIRouter()
Number = Annotated[str, Path(pattern=r"^\d{3,6}$")]
PaintingSide = Annotated[int, Query(ge=SMALLEST, le=LARGEST)]
BODY = 80 << 20  # bytes of a deflated painting at most: 8192 x 8192 that cannot be packed


@router.get("/generate/options")
def read_options() -> dict[str, Any]:
    """Methods, and what each option means: the words of the command's own help."""
    from frisket.config.calls import Fuse, GenerateRequest  # noqa: PLC0415 - not at the start

    fields = {**GenerateRequest.model_fields, **Fuse.model_fields}
    return {
        "methods": list(get_args(Fuse.model_fields["method"].annotation)),
        "meanings": {name: info.description or "" for name, info in fields.items()},
    }


@router.get("/generate/models")
def list_models(studio: OpenStudio) -> dict[str, Any]:
    """What may be sampled: the configurations, and the runs by what they were trained with."""
    runs = open_index(studio.workspace).refresh()
    return {
        "configs": [
            {"id": make_id("config", path.name), "name": escape(path.name)}
            for path in studio.workspace.list_configs()
        ],
        "runs": [
            {"id": run.id, "name": escape(run.name), "family": run.family, "variant": run.variant}
            for run in runs
            if (run.folder / TRAINED).is_file()
        ],
    }


@router.get("/generate/defaults")
async def read_defaults(
    studio: OpenStudio, request: Request, config: str | None = None, run: str | None = None
) -> dict[str, Any]:
    """Size, steps and guidance that a model takes where nothing is said, and what it can make."""
    args = {"config": str(_find_source(studio, config, run))}
    reply = await call_while_wanted(request, studio, "sampling.defaults", args)
    return dict(reply.value)


@router.get("/generate/loras")
def read_loras(studio: OpenStudio) -> dict[str, Any]:
    """The LoRAs of the workspace."""
    loras = list_loras(studio.root, open_index(studio.workspace).refresh())
    return {
        "loras": [
            {
                "id": lora.id,
                "name": escape(lora.name),
                "run": lora.run,
                "step": lora.step,
                "family": lora.family,
                "trigger": lora.trigger,
                "focus": lora.focus,
                "modified": lora.modified,
                "is_model": lora.is_model,
            }
            for lora in loras
        ]
    }


def _find_source(studio: Studio, config: str | None, run: str | None) -> Any:
    """The file whose model is sampled; UnknownId."""
    if run is not None:
        return open_index(studio.workspace).get(run).folder / TRAINED
    for path in studio.workspace.list_configs():
        if make_id("config", path.name) == config:
            return path
    raise UnknownId("that configuration is not there any more")


@router.post("/generate")
def start(studio: OpenStudio, form: GenerateForm) -> dict[str, Any]:
    """Sample: `frisket generate` as a job, or with `dry` only its command."""
    config = _find_source(studio, form.config, form.run)
    runs = open_index(studio.workspace).refresh()
    loras = {lora.id: lora for lora in list_loras(studio.root, runs)}
    missing = next((choice for choice in form.loras if choice.lora not in loras), None)
    if missing is not None:
        raise UnknownId("a chosen LoRA is not there any more; choose again")
    chosen_loras = [loras[choice.lora] for choice in form.loras]
    check_model(form, [lora.name for lora in chosen_loras if lora.is_model])
    folder = studio.root / "generated" / "NNN" if form.dry else make_folder(studio.root)
    try:
        argv, lines = build_argv(
            form,
            config,
            folder,
            find_lora=lambda lora_id: loras[lora_id].path,
            find_mask=lambda number: find_mask(studio.home, form.painting or "", number),
        )
        if form.dry:
            return {"command": spell_command(argv), "job": None, "call": None}
        if lines is not None:
            (folder / "prompts.txt").write_text(lines, encoding="utf-8")
        title = f"Generate {form.prompts[0].prompt[:60]}"
        about = {"generated": folder.name}
        spec = JobSpec("generate", title, argv, device=_find_device(config), about=about)
        settings: dict[str, Any] = {"form": form.model_dump(mode="json", exclude={"dry"})}
        settings["command"] = spell_command(argv)
        write_settings(folder, settings)
        job = studio.jobs.add(spec)
    except BaseException:
        if not form.dry:
            _clear(folder)
        raise
    write_settings(folder, {**settings, "job": job.id})
    return {"command": settings["command"], "job": job.id, "call": folder.name}


def _clear(folder: Any) -> None:
    """Take back a folder whose call was refused: what we wrote, and nothing else."""
    for name in ("prompts.txt", "studio.json"):
        (folder / name).unlink(missing_ok=True)
    folder.rmdir()


def _find_device(config: Any) -> str:
    from frisket.config.load import load  # noqa: PLC0415 - the server's start need not wait for it

    return choose_device({"model": {"device": load(config).model.device}})


@router.get("/generated")
def list_generated(studio: OpenStudio) -> dict[str, Any]:
    """Everything that was sampled here, the newest first."""
    return {"calls": [describe_call(call) for call in list_calls(studio.root)]}


@router.get("/generated/{call_id}")
def read_generated(studio: OpenStudio, call_id: Number) -> dict[str, Any]:
    """One call, as far as it is."""
    return describe_call(find_call(studio.root, call_id))


@router.get("/generated/{call_id}/file/{token}")
def read_generated_file(studio: OpenStudio, call_id: Number, token: FileToken) -> Response:
    """A picture or clip of a call."""
    return send_artefact(find_call(studio.root, call_id).folder, token)


@router.delete("/generated/{call_id}")
def remove_generated(studio: OpenStudio, call_id: Number) -> dict[str, str]:
    """Move the pictures of a call to the trash."""
    return {"trash": remove_call(studio.root, studio.home, call_id)}


class RestoreForm(PageForm):
    """What the trash knows a removed call by."""

    trash: Annotated[str, StringConstraints(pattern=r"^\d{3,6}-[0-9a-f]{1,20}$")]


@router.post("/generated/restore")
def restore_generated(studio: OpenStudio, form: RestoreForm) -> dict[str, str]:
    """Bring removed pictures back."""
    return {"call": restore_call(studio.root, studio.home, form.trash)}


@router.post("/generate/paintings")
async def keep_painting(
    studio: OpenStudio, request: Request, width: PaintingSide, height: PaintingSide
) -> dict[str, Any]:
    """Keep where each LoRA may act: the body are deflated numbers, 1 for the first LoRA."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY:
            raise ValueError("this painting is larger than any that can be; send it again")
    painting = await run_in_threadpool(save_painting, studio.home, width, height, bytes(body))
    return {"id": painting.id, "shares": painting.shares}


@router.get("/generate/paintings/{painting_id}")
def send_painting(studio: OpenStudio, painting_id: FileToken) -> Response:
    """The numbers of a painting, deflated, with its size."""
    width, height, deflated = read_painting(studio.home, painting_id)
    headers = {"x-frisket-size": f"{width} {height}"}
    return Response(deflated, media_type="application/octet-stream", headers=headers)
