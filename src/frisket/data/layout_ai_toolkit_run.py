"""ai-toolkit's optimizer, schedule, steps and samples, as sections of a Frisket configuration."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from frisket.data.layout_files import place
from frisket.data.layout_models import dtype_of
from frisket.data.layout_optimizers import optimizer_of, whole_model
from frisket.data.layout_options import Table, filled

ALL = 1000  # checkpoints kept by a trainer that deletes none
FREE = "adafactor"  # by this very name it is not clipped
CONTROLS = ("ctrl_img_1", "ctrl_img_2", "ctrl_img_3")
LIKE = {  # an option of [sample], which an entry of `samples` may have for itself
    "width": "width",
    "height": "height",
    "sample_steps": "steps",
    "guidance_scale": "guidance",
    "num_frames": "frames",
    "neg": "negative",
}
FLAG = re.compile(r"\s--(\w+)(?: ([^-]\S*))?")


def stride_of(train: Table) -> int:
    """Micro-batches that it counts as steps between two updates (`gradient_accumulation_steps`).

    Run, its loop clears the gradient before every micro-batch, so an update is made of the last one
    alone (hook_train_loop, 27a03a9): nothing is accumulated, and all counts are that much longer.
    """
    name = "gradient_accumulation_steps"
    found = train.number(name, 1)
    if found == -1:
        said = (
            "it updates once an epoch, from the last batch of it alone; here every batch counts:"
            " set run.steps and optimizer.accumulate"
        )
        train.say(name, "no equivalent", said)
        return 1
    stride = train.whole(name, 1, low=1)
    if stride > 1:
        said = (
            f"it counts {stride} batches as {stride} steps and throws {stride - 1} of them away:"
            " the gradient is cleared before each. So run.steps, run.save_every, preview.every and"
            f" optimizer.warmup are a {stride}th here, with optimizer.accumulate = 1; set it to"
            f" {stride} for what was meant"
        )
        train.say(name, "mapped", "is run.steps, run.save_every and preview.every, divided by it")
        train.defect(name, said)
    return stride


def stepping_of(train: Table, stride: int, *, adapted: bool) -> dict[str, Any]:
    """[optimizer]. `adapted`: a LoRA is trained there, too, so that its rate means the same."""
    written = train.text("optimizer", "adamw")
    rate = train.number("lr", 1e-6)
    if "lr" not in train:
        train.say("lr", "mapped" if adapted else "no equivalent", "its default is 1e-06", 1e-6)
    averaged = train.table("ema_config", "ema")
    ema = averaged.number("ema_decay", 0.999) if averaged.flag("use_ema") else None
    averaged.close()
    if adapted:
        arguments = train.values.get("optimizer_params") or {}
        rates = [(train, "lr")]
        found = optimizer_of(
            train,
            "optimizer",
            written,
            trainer="ai_toolkit",
            rate=rate,
            arguments=arguments,
            rates=rates,
        )
    else:
        found = whole_model(train, "optimizer", written, rate, [(train, "lr")])
    return {
        **found,
        **schedule_of(train, rate, stride),
        "clip": clipped(train),
        "accumulate": train.whole("gradient_accumulation", 1, low=1),
        **filled(ema=ema),
    }


def clipped(train: Table) -> float:
    """`optimizer.clip`: its accumulation sums gradients where ours takes the mean."""
    if train.text("optimizer", "adamw") == FREE:
        said = "adafactor is not clipped there, whatever this says: optimizer.clip = 0"
        train.say("max_grad_norm", "mapped", said, 1.0)
        return 0.0
    norm = train.number("max_grad_norm", 1, low=0)
    if norm == 0:
        said = "0 makes every update 0 there, so nothing would be learnt; here 1 is taken"
        train.say("max_grad_norm", "no equivalent", said)
        return 1.0
    several = train.whole("gradient_accumulation", 1, low=1)
    if several > 1:
        said = (
            f"it clips the sum of {several} gradients where Frisket clips their mean, so"
            f" optimizer.clip is max_grad_norm / {several}, which is the same"
        )
        train.defect("gradient_accumulation", said)
    return norm / several


def schedule_of(train: Table, rate: float, stride: int) -> dict[str, Any]:
    """[optimizer] schedule, warmup and final, as its scheduler.py makes them of the names."""
    name = train.text("lr_scheduler", "constant")
    inner = "lr_scheduler_params"
    empty = Table(train.sheet, "scheduler", {}, (*train.where, inner))
    params = train.table(inner, "scheduler") if train.values.get(inner) else empty
    found: dict[str, Any] = {"schedule": "constant"}
    if name in ("cosine", "cosine_with_restarts"):
        found = {"schedule": "cosine", "final": min(params.number("eta_min", low=0) / rate, 1)}
        if name == "cosine_with_restarts":
            said = "its first period is the whole run (T_0 = steps), so it never restarts: cosine"
            train.say("lr_scheduler", "mapped", f"is optimizer.schedule here; {said}")
    elif name == "linear":
        start = params.number("start_factor", 1 / 3)
        end = params.number("end_factor", 1)
        found = _linear(train, params, start, end)
    elif name == "constant_with_warmup":
        steps = params.whole("num_warmup_steps", 1000)
        if "num_warmup_steps" not in params:
            said = "is optimizer.warmup here, its default: 1000 steps"
            params.say("num_warmup_steps", "mapped", said, 1000)
        found["warmup"] = round(steps / stride)
    elif name != "constant":
        said = "it stops at this schedule (its scheduler.py hands on total_iters); constant here"
        train.say("lr_scheduler", "no equivalent", said)
    params.close()
    return found


def _linear(train: Table, params: Table, start: float, end: float) -> dict[str, Any]:
    """Torch's LinearLR, which begins at a third of the rate and ends at all of it."""
    if start == 1 and 0 <= end <= 1:
        return {"schedule": "linear", "final": end}
    if start == end == 1:
        return {"schedule": "constant"}
    said = (
        f"it rises from {start:.3g} to {end:.3g} of the rate over the whole run; optimizer.schedule"
        " falls or stays: constant is taken, optimizer.warmup rises"
    )
    train.say("lr_scheduler", "no equivalent", said)
    for name in ("start_factor", "end_factor"):
        if name in params:
            params.say(name, "no equivalent", said)
    return {"schedule": "constant"}


def run_of(process: Table, train: Table, save: Table, stride: int, job: str) -> dict[str, Any]:
    """[run]; its defaults are written out."""
    found: dict[str, Any] = _output(process, job)
    if "training_seed" in process:
        found["seed"] = process.whole("training_seed")
    if not train.values:
        return found | (_saved(save, stride) if save.values else {})
    found |= {
        "steps": max(train.whole("steps", 1000, low=1) // stride, 1),
        "batch": train.whole("batch_size", 1, low=1),
        "precision": dtype_of(train, "dtype", "fp32"),
    }
    return {key: each for key, each in found.items() if each != ""} | _saved(save, stride)


def _output(process: Table, job: str) -> dict[str, Any]:
    """`run.output`: the folder and the name it would save under; a foreign one is left out."""
    folder = process.text("training_folder")
    name = re.sub(r"[^\w.-]+", "-", process.text("name", job)).strip(".-")
    if not folder or not name:
        return {}
    pure = PureWindowsPath(folder) if re.match(r"[A-Za-z]:|\\\\", folder) else PurePosixPath(folder)
    known = not pure.is_absolute() or Path(folder).is_dir()
    if known and ".." not in pure.parts:
        process.say("training_folder", "mapped", "is run.output here, with the name of the job")
        return {"output": (pure / name).as_posix()}
    said = f"is a folder of another machine: run.output = runs/{name}"
    process.say("training_folder", "mapped", said)
    return {"output": f"runs/{name}"}


def _saved(save: Table, stride: int) -> dict[str, Any]:
    every = _every(save, "save_every", 1000, stride)
    kept = save.whole("max_step_saves_to_keep", 5, low=0)
    if not kept:
        save.say("max_step_saves_to_keep", "mapped", f"0 keeps all: run.keep = {ALL}")
    return {"save_every": every, "keep": kept or ALL}


def _every(table: Table, name: str, default: int, stride: int) -> int:
    """A number of steps between two; null, "" and 0 are never."""
    if name in table.written and name not in table:
        table.say(name, "mapped", "is 0 here too: never", 0)
        return 0
    steps = table.whole(name, default)
    return max(round(steps / stride), 1) if steps else 0


def preview_of(sample: Table, train: Table, trigger: str, stride: int) -> dict[str, Any]:
    """[preview]: one size, seed and setting for all; what an entry has for itself is told."""
    rows = _rows(sample, trigger)
    if not rows:
        return {}
    found: dict[str, Any] = {
        "every": _every(sample, "sample_every", 100, stride),
        "prompts": [row["prompt"] for row in rows],
        "seeds": [_seed(sample, rows)],
        **_settings(sample, rows),
    }
    if train.flag("disable_sampling"):
        train.say("disable_sampling", "mapped", "is preview.every = 0 here")
        found["every"] = 0
    return found | _pictures(sample, rows)


def _rows(sample: Table, trigger: str) -> list[dict[str, Any]]:
    """The samples with a prompt, `[trigger]` filled in; `samples` goes before `prompts`."""
    given = sample.values.get("samples")
    if given is None:
        found = [{"prompt": prompt} for prompt in sample.texts("prompts")]
    elif isinstance(given, list) and all(isinstance(row, dict) for row in given):
        if "prompts" in sample:
            sample.say("prompts", "not needed", "samples goes before it, there and here")
        found = [dict(row) for row in given if isinstance(row.get("prompt"), str)]
    else:
        raise sample.bad("samples", "a list of tables is needed, each with a prompt")
    option = "prompts" if given is None else "samples"
    for row in found:
        words = row["prompt"].replace("[trigger]", trigger).replace("[name]", trigger)
        if FLAG.search(words):
            said = "what stands behind -- in a prompt sets size, seed or steps there; it is cut off"
            sample.say(option, "no equivalent", f"{said} here: set [preview]")
        row["prompt"] = FLAG.split(words)[0].strip()
    return found


def _settings(sample: Table, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Size and the like: those of the first entry."""
    whole = {"width": 512, "height": 512, "sample_steps": 20, "num_frames": 1}
    shared = {name: sample.whole(name, default, low=1) for name, default in whole.items()}
    first: dict[str, Any] = shared | {
        "guidance_scale": sample.number("guidance_scale", 7),
        "neg": sample.values.get("neg") or "",
    }
    odd = [name for name in LIKE if len({str(row.get(name, first[name])) for row in rows}) > 1]
    if odd:
        said = f"[preview] has one {', '.join(odd)} for all: that of the first entry is taken"
        sample.say("samples", "no equivalent", said)
    first |= {name: rows[0][name] for name in LIKE if rows[0].get(name) is not None}
    return filled(**{ours: first[theirs] or None for theirs, ours in LIKE.items()})


def _seed(sample: Table, rows: list[dict[str, Any]]) -> int:
    seed = sample.whole("seed", low=-1)
    own = {row["seed"] for row in rows if isinstance(row.get("seed"), int)}
    if own and own != {seed}:
        said = "preview.seeds are for all prompts: those of entries are not taken"
        sample.say("samples", "no equivalent", said)
    if sample.flag("walk_seed") and len(rows) > 1:
        said = "there each prompt has the next seed; preview.seeds are for all prompts"
        sample.say("walk_seed", "no equivalent", said)
    if seed == -1:
        sample.say("seed", "no equivalent", "there a new one each time; preview.seeds = [0] here")
    return max(seed, 0)


def _pictures(sample: Table, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """`preview.images`: what the samples of an edit or image-to-video model start from.

    Previews that lack theirs are switched off and told: training would stop at them.
    """
    sets = [_controls(row) for row in rows]
    if not any(sets):
        return {}
    here = sample.sheet.written.path.absolute().parent
    first = next(filter(None, sets))
    if any(each != first for each in sets):
        said = "preview.images are for all prompts: those of the first entry with some are taken"
        sample.say("samples", "no equivalent", said)
    there = [place(name, here)[0] for name in first]
    lost = [name for name, path in zip(first, there, strict=True) if path is None]
    if lost:
        said = (
            f"{lost[0]} is not there, so nothing is sampled while training (preview.every = 0):"
            " name such pictures in preview.images, then set preview.every"
        )
        sample.say("samples", "no equivalent", said)
        return {"every": 0}
    sample.say("samples", "mapped", "is preview.prompts and preview.images here")
    return {"images": [str(path.absolute()) for path in there if path]}


def _controls(row: Mapping[str, Any]) -> list[str]:
    given = [row.get("ctrl_img_1", row.get("ctrl_img")), *(row.get(name) for name in CONTROLS[1:])]
    return [each for each in given if isinstance(each, str) and each]
