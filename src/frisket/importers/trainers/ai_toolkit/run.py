"""ai-toolkit's optimizer, schedule, steps and samples, as sections of a Frisket configuration."""

import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from frisket.importers.models import dtype_of
from frisket.importers.optimizers import optimizer_of, whole_model
from frisket.importers.options import Table, filled

ALL = 1000  # checkpoints kept by a trainer that deletes none
FREE = "adafactor"  # by this very name it is not clipped


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
            f" optimizer.warmup are divided by {stride} here, with optimizer.accumulate = 1; set it"
            f" to {stride} for what was meant"
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
        **schedule_of(train, found.get("lr", rate), stride),
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
    every = every_of(save, "save_every", 1000, stride)
    kept = save.whole("max_step_saves_to_keep", 5, low=0)
    if not kept:
        save.say("max_step_saves_to_keep", "mapped", f"0 keeps all: run.keep = {ALL}")
    return {"save_every": every, "keep": kept or ALL}


def every_of(table: Table, name: str, default: int, stride: int) -> int:
    """A number of steps between two; null, "" and 0 are never."""
    if name in table.written and name not in table:
        table.say(name, "mapped", "is 0 here too: never", 0)
        return 0
    steps = table.whole(name, default)
    return max(round(steps / stride), 1) if steps else 0
