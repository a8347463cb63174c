"""SimpleTuner's optimizers, learning rates and schedules, as [optimizer]."""

import math
from typing import Any

from frisket.importers.optimizers import convert_optimizer
from frisket.importers.options import OptionTable, drop_unset

DEFAULT, RATE = "adamw_bf16", 4e-7  # its own
END, POWER = 4e-7, 0.8  # lr_end, lr_power
PERIOD = 1000  # of its cosine where lr_warmup_steps is 0
FREE = "adamw_schedulefree"  # what its name begins with takes no schedule there
DEEPSPEED = ("adam_beta1", "adam_beta2", "adam_weight_decay", "adam_epsilon")
SHAPES = ("lr_num_cycles", "lr_power", "lr_end")
SCHEDULES = (
    *("linear", "sine", "cosine", "cosine_with_restarts", "polynomial", "constant"),
    "constant_with_warmup",
)


def read_optimizer(trainer: OptionTable, steps: int, *, adapter: bool) -> dict[str, Any]:
    """[optimizer] of a run of `steps`, with its notes.

    Without `adapter` the whole model is trained there, at a rate that is no adapter's.
    """
    name = trainer.text("optimizer", DEFAULT).lower()
    rate = trainer.number("learning_rate", RATE, low=0)
    _tell_adam(trainer)
    optimizer = convert_optimizer(
        trainer,
        "optimizer",
        name,
        trainer="simpletuner",
        rate=rate,
        arguments=_read_arguments(trainer, name),
        rates=[(trainer, "learning_rate")],
    )
    if not adapter and "lr" in optimizer:
        message = (
            "is the rate of a training without an adapter, which would learn next to nothing at it:"
            " left out, set optimizer.lr"
        )
        trainer.say("learning_rate", "no equivalent", message, rate)
        del optimizer["lr"]
    trainer.say("learning_rate", "mapped", "is optimizer.lr here", rate)
    return (
        optimizer
        | _read_schedule(trainer, name, rate, steps)
        | {"clip": _read_clip(trainer)}
        | drop_unset(
            accumulate=trainer.whole("gradient_accumulation_steps", 1, low=1),
            ema=_read_average(trainer),
        )
    )


def _tell_adam(trainer: OptionTable) -> None:
    """Its adam_* go to DeepSpeed's optimizer alone (`determine_optimizer_class_with_config`)."""
    if "deepspeed_config" in trainer:
        message = "DeepSpeed steps there; here the optimizer that stands in optimizer.name does"
        trainer.say("deepspeed_config", "no equivalent", message)
    for name in DEEPSPEED:
        message = (
            "did nothing there: it counts for DeepSpeed alone, optimizer_config for the others"
        )
        trainer.say(name, "not needed", message)


def _read_arguments(trainer: OptionTable, name: str) -> dict[str, Any]:
    """What is given besides the optimizer's own: `a=1,b=true`, and both betas."""
    arguments: dict[str, Any] = {}
    for part in trainer.text("optimizer_config").split(","):
        key, equals, value = part.partition("=")
        if equals:
            arguments[key.strip()] = _parse_value(value.strip())
    if "optimizer_config" in trainer:
        trainer.say("optimizer_config", "mapped", "is optimizer.options here")
    betas = ("optimizer_beta1", "optimizer_beta2")
    if all(option in trainer for option in betas):
        arguments["betas"] = [trainer.number(option) for option in betas]
        for option in betas:
            trainer.say(option, "mapped", "is optimizer.options.betas here")
    if name.startswith(FREE):
        arguments["warmup_steps"] = trainer.whole("lr_warmup_steps")
        trainer.say("lr_warmup_steps", "mapped", "is optimizer.options.warmup_steps here", 0)
    if name != "prodigy":
        trainer.say("prodigy_steps", "not needed", f"{name} does not read it")
    return {key: value for key, value in arguments.items() if value is not None}


def _parse_value(text: str) -> Any:
    """As `convert_arg_to_parameters` reads it."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        return text


def _read_clip(trainer: OptionTable) -> float:
    """The largest norm; each value for itself, its default, is no clipping of the norm."""
    largest = trainer.number("max_grad_norm", 2, low=0)
    if trainer.choice("grad_clip_method", ("value", "norm"), "value") == "norm":
        trainer.say("grad_clip_method", "mapped", "is optimizer.clip here")
        return largest
    message = (
        f"every value of a gradient is cut at {largest:g} there, not its norm: optimizer.clip = 0"
        " cuts nothing, 1 is usual"
    )
    trainer.say("grad_clip_method", "no equivalent", message, "value")
    trainer.say("max_grad_norm", "no equivalent", message, largest)
    return 0.0


def _read_average(trainer: OptionTable) -> float | None:
    names = ("ema_decay", "ema_update_interval")
    if not trainer.flag("use_ema"):
        for name in names:
            trainer.say(name, "not needed", "use_ema is off")
        return None
    interval = trainer.whole("ema_update_interval", 1, low=1)
    message = "is optimizer.ema here, the decay a step"
    trainer.say("ema_update_interval", "mapped", message, 1)
    decay = min(trainer.number("ema_decay", 0.995, low=0), 0.999999)
    return round(math.pow(decay, 1 / interval), 6)


def _read_schedule(trainer: OptionTable, name: str, rate: float, steps: int) -> dict[str, Any]:
    """Schedule, warm-up and what is left at the end (`get_lr_scheduler`)."""
    if name.startswith(FREE):
        for option in ("lr_scheduler", *SHAPES):
            trainer.say(option, "not needed", f"{name} goes without a schedule there too")
        return {"schedule": "constant"}
    text = trainer.text("lr_scheduler", "constant_with_warmup").lower()
    kind = {"cosine_with_warmup": "cosine"}.get(text, text)
    if kind not in SCHEDULES:
        message = (
            "SimpleTuner knows no such schedule, and stops: optimizer.schedule = constant stands"
        )
        trainer.say("lr_scheduler", "no equivalent", message)
        kind = "constant"
    if kind in ("cosine", "sine", "cosine_with_restarts"):
        return _read_wave(trainer, kind, rate, steps)
    warmup = trainer.whole("lr_warmup_steps")
    trainer.say("lr_num_cycles", "not needed", f"{kind} does not read it")
    if kind == "polynomial":
        final = min(trainer.number("lr_end", END, low=0) / rate, 1.0) if rate else 0.0
        trainer.say("lr_end", "mapped", "is optimizer.final here, a share of the rate", END)
        power = trainer.number("lr_power", POWER, low=0)
        trainer.say("lr_power", "mapped", "is optimizer.power here", POWER)
        return drop_unset(
            schedule=kind, warmup=warmup or None, power=power, final=_round_share(final)
        )
    for option in ("lr_power", "lr_end"):
        trainer.say(option, "not needed", f"{kind} does not read it")
    return drop_unset(schedule="linear" if kind == "linear" else "constant", warmup=warmup or None)


def _round_share(final: float) -> float | None:
    return float(f"{final:.6g}") or None


def _read_wave(trainer: OptionTable, kind: str, rate: float, steps: int) -> dict[str, Any]:
    """Its waves: lr_warmup_steps is half their length, and nothing warms up."""
    for option in ("lr_num_cycles", "lr_power"):
        trainer.say(option, "not needed", f"{kind} does not read it")
    half = trainer.whole("lr_warmup_steps") or PERIOD
    final = min(trainer.number("lr_end", END, low=0) / rate, 1.0) if rate else 0.0
    if kind == "cosine":
        message = f"half a wave of its cosine takes {half} steps, and there is no warm-up"
        trainer.say("lr_warmup_steps", "mapped", f"is optimizer.cycles here: {message}", 0)
        trainer.say("lr_end", "mapped", "is optimizer.final here, a share of the rate", END)
        cycles = float(f"{steps / half:.6g}")
        return drop_unset(schedule="cosine", cycles=cycles, final=_round_share(final))
    reasons = {
        "sine": "is a sine that begins half way up there; optimizer.schedule = constant stands",
        "cosine_with_restarts": "stays at the full rate there, whatever its name says",
    }
    mapped = kind == "cosine_with_restarts"
    trainer.say("lr_scheduler", "mapped" if mapped else "no equivalent", reasons[kind])
    if mapped:
        message = "the rate never falls there; optimizer.schedule = constant does the same"
        trainer.defect("lr_scheduler", message)
    for option in ("lr_warmup_steps", "lr_end"):
        trainer.say(option, "not needed", f"{kind} warms up nothing")
    return {"schedule": "constant"}
