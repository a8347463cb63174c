"""Runs side by side: settings, clips, samples, reports, attention; and the commands for these."""

import time
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field, StringConstraints

from frisket.studio.jobs.spec import JobSpec
from frisket.studio.runs.artefacts import send_artefact
from frisket.studio.runs.commands import (
    PageForm,
    check_text,
    choose_device,
    list_options,
    spell_command,
)
from frisket.studio.runs.index import RunFolder, open_index
from frisket.studio.runs.reports import (
    COMPARISONS,
    describe_report,
    find_report,
    list_reports,
    read_attention,
)
from frisket.studio.runs.samples import collect_samples, list_previews
from frisket.studio.runs.settings import compare_clips, compare_settings
from frisket.studio.state import OpenStudio, Studio
from frisket.studio.workspace import UnknownId

router = APIRouter()
MOST_RUNS = 6
ComparedRun = Annotated[str, StringConstraints(pattern="^[0-9a-f]{18}$")]
ComparedRuns = Annotated[list[ComparedRun], Query(alias="run", min_length=1, max_length=MOST_RUNS)]
ReportWords = Annotated[str, StringConstraints(max_length=2000)]


def pick_runs(studio: Studio, ids: list[str]) -> list[RunFolder]:
    """The runs of some ids, each once, in their order; UnknownId."""
    index = open_index(studio.workspace)
    return [index.get(run_id) for run_id in dict.fromkeys(ids)]


@router.get("/compare/settings")
def read_settings(studio: OpenStudio, ids: ComparedRuns) -> dict[str, Any]:
    """What tells the runs apart: keys of their settings, and their clips and masks."""
    index, runs = open_index(studio.workspace), pick_runs(studio, ids)
    trees = [index.read_settings(run) for run in runs]
    return {
        "runs": [run.id for run in runs],
        "lacking": [run.name for run, tree in zip(runs, trees, strict=True) if not tree],
        "rows": compare_settings(trees),
        "clips": compare_clips(runs),
    }


@router.get("/compare/samples")
def read_samples(studio: OpenStudio, ids: ComparedRuns) -> dict[str, Any]:
    """Pictures of the runs: previews by step, samples, and those of the newest common report."""
    index, runs = open_index(studio.workspace), pick_runs(studio, ids)
    report = find_report(runs, studio.home)
    described = describe_report(report, runs) if report else None
    return {
        "previews": [list_previews(run, index.read_settings(run)) for run in runs],
        "generated": collect_samples(runs, studio.root / "generated"),
        "evaluation": described["samples"] if described else None,
    }


@router.get("/compare/report")
def read_report(studio: OpenStudio, ids: ComparedRuns) -> dict[str, Any]:
    """The newest report that measures these runs together; `report` is null where none does."""
    runs = pick_runs(studio, ids)
    report = find_report(runs, studio.home)
    return {
        "report": describe_report(report, runs) if report else None,
        "without_lora": [run.name for run in runs if run.lora is None],
    }


@router.get("/compare/attention")
def read_attentions(studio: OpenStudio, ids: ComparedRuns) -> dict[str, Any]:
    """Where the words of each run look, of those that `frisket attend` has looked at."""
    return {"runs": [(run.id, read_attention(run)) for run in pick_runs(studio, ids)]}


@router.get("/compare/reports/{report_id}/file/{token}")
def read_report_file(
    studio: OpenStudio,
    report_id: Annotated[ComparedRun, Path()],
    token: Annotated[ComparedRun, Path()],
) -> Response:
    """A picture or page of a report."""
    runs = open_index(studio.workspace).look() or open_index(studio.workspace).refresh()
    for report in list_reports(runs, studio.home):
        if report.id == report_id:
            return send_artefact(report.folder, token)
    raise UnknownId(f"no report here has the id {report_id!r}")


class EvaluateForm(PageForm):
    """Runs to be measured together."""

    runs: Annotated[list[ComparedRun], Field(min_length=1, max_length=MOST_RUNS)]
    seeds: Annotated[int, Field(ge=1, le=64)] = 8
    draws: Annotated[int, Field(ge=1, le=64)] = 4
    prompts: Annotated[list[ReportWords], Field(max_length=32)] = Field(default_factory=list)
    samples: bool = True
    dry: bool = False  # the command alone: nothing is started


class AttendForm(PageForm):
    """A run to be looked into."""

    run: ComparedRun
    phrases: Annotated[list[ReportWords], Field(max_length=16)] = Field(default_factory=list)
    limit: Annotated[int, Field(ge=1, le=64)] = 8
    dry: bool = False


@router.post("/compare/evaluate")
def start_evaluation(studio: OpenStudio, form: EvaluateForm) -> dict[str, Any]:
    """Measure runs together: `frisket evaluate` as a job; its report is found by `/report`."""
    runs = pick_runs(studio, form.runs)
    lacking = [run.name for run in runs if run.lora is None]
    if lacking:
        raise ValueError(f"{lacking[0]} has no LoRA yet: train it to its end first")
    prompts = [check_text("prompt", prompt) for prompt in form.prompts if prompt.strip()]
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:6]}"
    folder = studio.home / COMPARISONS / name
    argv = ["evaluate", *(str(run.folder) for run in runs), f"--output={folder}"]
    argv += [f"--seeds={form.seeds}", f"--draws={form.draws}", *list_options("--prompt", prompts)]
    if not form.samples:
        argv.append("--no-samples")
    title = "Evaluate " + " and ".join(run.name for run in runs)
    return _start(studio, "evaluate", title, argv, runs, dry=form.dry)


@router.post("/compare/attend")
def start_attention(studio: OpenStudio, form: AttendForm) -> dict[str, Any]:
    """Look where the words of one run look: `frisket attend` as a job."""
    (run,) = pick_runs(studio, [form.run])
    phrases = [check_text("phrase", phrase) for phrase in form.phrases if phrase.strip()]
    argv = ["attend", str(run.folder), f"--limit={form.limit}", *list_options("--phrase", phrases)]
    return _start(studio, "attend", f"Attention of {run.name}", argv, [run], dry=form.dry)


def _start(
    studio: Studio, kind: str, title: str, argv: list[str], runs: list[RunFolder], *, dry: bool
) -> dict[str, Any]:
    """Queue a command about runs; with `dry` only say what it is."""
    if dry:
        return {"command": spell_command(argv), "job": None}
    settings = open_index(studio.workspace).read_settings(runs[0])
    about = {"runs": [run.id for run in runs]}
    spec = JobSpec(kind, title, argv, device=choose_device(settings), about=about)
    return {"command": spell_command(argv), "job": studio.jobs.add(spec).id}
