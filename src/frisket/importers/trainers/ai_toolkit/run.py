"""ai-toolkit's optimizer, schedule, steps and samples, as sections of a Frisket configuration."""

import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from frisket.importers.models import map_dtype
from frisket.importers.optimizers import convert_optimizer, refuse_whole_model
from frisket.importers.options import OptionTable, drop_unset

ALL = 1000  # checkpoints kept by a trainer that deletes none
FREE = "adafactor"  # by this very name it is not clipped


def stride_of(train: OptionTable) -> int:
    """Micro-batches that it counts as steps between two updates (`gradient_accumulation_steps`).

    Run, its loop clears the gradient before every micro-batch, so an update is made of the last one
    alone (hook_train_loop, 27a03a9): nothing is accumulated, and all counts are that much longer.
    """
    name = "gradient_accumulation_steps"
    number = train.number(name, 1)
    if number == -1:
        message = (
            "it updates once an epoch, from the last batch of it alone; here every batch counts:"
            " set run.steps and optimizer.accumulate"
        )
        train.say(name, "no equivalent", message)
        return 1
    stride = train.whole(name, 1, low=1)
    if stride > 1:
        message = (
            f"it counts {stride} batches as {stride} steps and throws {stride - 1} of them away:"
            " the gradient is cleared before each. So run.steps, run.save_every, preview.every and"
            f" optimizer.warmup are divided by {stride} here, with optimizer.accumulate = 1; set it"
            f" to {stride} for what was meant"
        )
        train.say(name, "mapped", "is run.steps, run.save_every and preview.every, divided by it")
        train.defect(name, message)
    return stride


def stepping_of(train: OptionTable, stride: int, *, adapted: bool) -> dict[str, Any]:
    """[optimizer]. `adapted`: a LoRA is trained there, too, so that its rate means the same."""
    name = train.text("optimizer", "adamw")
    rate = train.number("lr", 1e-6)
    if "lr" not in train:
        train.say("lr", "mapped" if adapted else "no equivalent", "its default is 1e-06", 1e-6)
    averaged = train.table("ema_config", "ema")
    ema = averaged.number("ema_decay", 0.999) if averaged.flag("use_ema") else None
    averaged.close()
    if adapted:
        arguments = train.values.get("optimizer_params") or {}
        rates = [(train, "lr")]
        optimizer = convert_optimizer(
            train,
            "optimizer",
            name,
            trainer="ai_toolkit",
            rate=rate,
            arguments=arguments,
            rates=rates,
        )
    else:
        optimizer = refuse_whole_model(train, "optimizer", name, rate, [(train, "lr")])
    return {
        **optimizer,
        **schedule_of(train, optimizer.get("lr", rate), stride),
        "clip": read_clip(train),
        "accumulate": train.whole("gradient_accumulation", 1, low=1),
        **drop_unset(ema=ema),
    }


def read_clip(train: OptionTable) -> float:
    """`optimizer.clip`: its accumulation sums gradients where ours takes the mean."""
    if train.text("optimizer", "adamw") == FREE:
        message = "adafactor is not clipped there, whatever this says: optimizer.clip = 0"
        train.say("max_grad_norm", "mapped", message, 1.0)
        return 0.0
    norm = train.number("max_grad_norm", 1, low=0)
    if norm == 0:
        message = "0 makes every update 0 there, so nothing would be learnt; here 1 is taken"
        train.say("max_grad_norm", "no equivalent", message)
        return 1.0
    micro_batches = train.whole("gradient_accumulation", 1, low=1)
    if micro_batches > 1:
        message = (
            f"it clips the sum of {micro_batches} gradients where Frisket clips their mean, so"
            f" optimizer.clip is max_grad_norm / {micro_batches}, which is the same"
        )
        train.defect("gradient_accumulation", message)
    return norm / micro_batches


def schedule_of(train: OptionTable, rate: float, stride: int) -> dict[str, Any]:
    """[optimizer] schedule, warmup and final, as its scheduler.py makes them of the names."""
    name = train.text("lr_scheduler", "constant")
    inner = "lr_scheduler_params"
    empty = OptionTable(train.sheet, "scheduler", {}, (*train.where, inner))
    params = train.table(inner, "scheduler") if train.values.get(inner) else empty
    schedule: dict[str, Any] = {"schedule": "constant"}
    if name in ("cosine", "cosine_with_restarts"):
        schedule = {"schedule": "cosine", "final": min(params.number("eta_min", low=0) / rate, 1)}
        if name == "cosine_with_restarts":
            message = (
                "its first period is the whole run (T_0 = steps), so it never restarts: cosine"
            )
            train.say("lr_scheduler", "mapped", f"is optimizer.schedule here; {message}")
    elif name == "linear":
        start = params.number("start_factor", 1 / 3)
        end = params.number("end_factor", 1)
        schedule = _read_linear(train, params, start, end)
    elif name == "constant_with_warmup":
        steps = params.whole("num_warmup_steps", 1000)
        if "num_warmup_steps" not in params:
            message = "is optimizer.warmup here, its default: 1000 steps"
            params.say("num_warmup_steps", "mapped", message, 1000)
        schedule["warmup"] = round(steps / stride)
    elif name != "constant":
        message = "it stops at this schedule (its scheduler.py hands on total_iters); constant here"
        train.say("lr_scheduler", "no equivalent", message)
    params.close()
    return schedule


def _read_linear(
    train: OptionTable, params: OptionTable, start: float, end: float
) -> dict[str, Any]:
    """Torch's LinearLR, which begins at a third of the rate and ends at all of it."""
    if start == 1 and 0 <= end <= 1:
        return {"schedule": "linear", "final": end}
    if start == end == 1:
        return {"schedule": "constant"}
    message = (
        f"it rises from {start:.3g} to {end:.3g} of the rate over the whole run; optimizer.schedule"
        " falls or stays: constant is taken, optimizer.warmup rises"
    )
    train.say("lr_scheduler", "no equivalent", message)
    for name in ("start_factor", "end_factor"):
        if name in params:
            params.say(name, "no equivalent", message)
    return {"schedule": "constant"}


def run_of(
    process: OptionTable, train: OptionTable, save: OptionTable, stride: int, job: str
) -> dict[str, Any]:
    """[run]; its defaults are written out."""
    run: dict[str, Any] = _choose_output(process, job)
    if "training_seed" in process:
        run["seed"] = process.whole("training_seed")
    if not train.values:
        return run | (_read_saves(save, stride) if save.values else {})
    run |= {
        "steps": max(train.whole("steps", 1000, low=1) // stride, 1),
        "batch": train.whole("batch_size", 1, low=1),
        "precision": map_dtype(train, "dtype", "fp32"),
    }
    return {key: value for key, value in run.items() if value != ""} | _read_saves(save, stride)


def _choose_output(process: OptionTable, job: str) -> dict[str, Any]:
    """`run.output`: the folder and the name it would save under; a foreign one is left out."""
    folder = process.text("training_folder")
    name = re.sub(r"[^\w.-]+", "-", process.text("name", job)).strip(".-")
    if not folder or not name:
        return {}
    pure = PureWindowsPath(folder) if re.match(r"[A-Za-z]:|\\\\", folder) else PurePosixPath(folder)
    usable = not pure.is_absolute() or Path(folder).is_dir()
    if usable and ".." not in pure.parts:
        process.say("training_folder", "mapped", "is run.output here, with the name of the job")
        return {"output": (pure / name).as_posix()}
    message = f"is a folder of another machine: run.output = runs/{name}"
    process.say("training_folder", "mapped", message)
    return {"output": f"runs/{name}"}


def _read_saves(save: OptionTable, stride: int) -> dict[str, Any]:
    save_every = every_of(save, "save_every", 1000, stride)
    keep = save.whole("max_step_saves_to_keep", 5, low=0)
    if not keep:
        save.say("max_step_saves_to_keep", "mapped", f"0 keeps all: run.keep = {ALL}")
    return {"save_every": save_every, "keep": keep or ALL}


def every_of(table: OptionTable, name: str, default: int, stride: int) -> int:
    """A number of steps between two; null, "" and 0 are never."""
    if name in table.written and name not in table:
        table.say(name, "mapped", "is 0 here too: never", 0)
        return 0
    steps = table.whole(name, default)
    return max(round(steps / stride), 1) if steps else 0
