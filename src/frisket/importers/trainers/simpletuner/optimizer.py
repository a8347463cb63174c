"""SimpleTuner's optimizers, learning rates and schedules, as [optimizer]."""

import math
from typing import Any

from frisket.importers.optimizers import optimizer_of
from frisket.importers.options import Table, filled

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


def optimizer_section(trainer: Table, steps: int, *, adapter: bool) -> dict[str, Any]:
    """[optimizer] of a run of `steps`, with its notes.

    Without `adapter` the whole model is trained there, at a rate that is no adapter's.
    """
    name = trainer.text("optimizer", DEFAULT).lower()
    rate = trainer.number("learning_rate", RATE, low=0)
    _tell_adam(trainer)
    found = optimizer_of(
        trainer,
        "optimizer",
        name,
        trainer="simpletuner",
        rate=rate,
        arguments=_arguments(trainer, name),
        rates=[(trainer, "learning_rate")],
    )
    if not adapter and "lr" in found:
        said = (
            "is the rate of a training without an adapter, which would learn next to nothing at it:"
            " left out, set optimizer.lr"
        )
        trainer.say("learning_rate", "no equivalent", said, rate)
        del found["lr"]
    trainer.say("learning_rate", "mapped", "is optimizer.lr here", rate)
    return (
        found
        | _scheduled(trainer, name, rate, steps)
        | {"clip": _clip(trainer)}
        | filled(
            accumulate=trainer.whole("gradient_accumulation_steps", 1, low=1),
            ema=_average(trainer),
        )
    )


def _tell_adam(trainer: Table) -> None:
    """Its adam_* go to DeepSpeed's optimizer alone (`determine_optimizer_class_with_config`)."""
    if "deepspeed_config" in trainer:
        said = "DeepSpeed steps there; here the optimizer that stands in optimizer.name does"
        trainer.say("deepspeed_config", "no equivalent", said)
    for name in DEEPSPEED:
        said = "did nothing there: it counts for DeepSpeed alone, optimizer_config for the others"
        trainer.say(name, "not needed", said)


def _arguments(trainer: Table, name: str) -> dict[str, Any]:
    """What is given besides the optimizer's own: `a=1,b=true`, and both betas."""
    given: dict[str, Any] = {}
    for part in trainer.text("optimizer_config").split(","):
        key, equals, value = part.partition("=")
        if equals:
            given[key.strip()] = _value(value.strip())
    if "optimizer_config" in trainer:
        trainer.say("optimizer_config", "mapped", "is optimizer.options here")
    betas = ("optimizer_beta1", "optimizer_beta2")
    if all(each in trainer for each in betas):
        given["betas"] = [trainer.number(each) for each in betas]
        for each in betas:
            trainer.say(each, "mapped", "is optimizer.options.betas here")
    if name.startswith(FREE):
        given["warmup_steps"] = trainer.whole("lr_warmup_steps")
        trainer.say("lr_warmup_steps", "mapped", "is optimizer.options.warmup_steps here", 0)
    if name != "prodigy":
        trainer.say("prodigy_steps", "not needed", f"{name} does not read it")
    return {key: value for key, value in given.items() if value is not None}


def _value(text: str) -> Any:
    """As `convert_arg_to_parameters` reads it."""
    plain = {"true": True, "false": False, "none": None}
    if text.lower() in plain:
        return plain[text.lower()]
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        return text


def _clip(trainer: Table) -> float:
    """The largest norm; each value for itself, its default, is no clipping of the norm."""
    largest = trainer.number("max_grad_norm", 2, low=0)
    if trainer.choice("grad_clip_method", ("value", "norm"), "value") == "norm":
        trainer.say("grad_clip_method", "mapped", "is optimizer.clip here")
        return largest
    said = (
        f"every value of a gradient is cut at {largest:g} there, not its norm: optimizer.clip = 0"
        " cuts nothing, 1 is usual"
    )
    trainer.say("grad_clip_method", "no equivalent", said, "value")
    trainer.say("max_grad_norm", "no equivalent", said, largest)
    return 0.0


def _average(trainer: Table) -> float | None:
    names = ("ema_decay", "ema_update_interval")
    if not trainer.flag("use_ema"):
        for name in names:
            trainer.say(name, "not needed", "use_ema is off")
        return None
    every = trainer.whole("ema_update_interval", 1, low=1)
    said = "is optimizer.ema here, the decay a step"
    trainer.say("ema_update_interval", "mapped", said, 1)
    decay = min(trainer.number("ema_decay", 0.995, low=0), 0.999999)
    return round(math.pow(decay, 1 / every), 6)


def _scheduled(trainer: Table, name: str, rate: float, steps: int) -> dict[str, Any]:
    """Schedule, warm-up and what is left at the end (`get_lr_scheduler`)."""
    if name.startswith(FREE):
        for each in ("lr_scheduler", *SHAPES):
            trainer.say(each, "not needed", f"{name} goes without a schedule there too")
        return {"schedule": "constant"}
    written = trainer.text("lr_scheduler", "constant_with_warmup").lower()
    kind = {"cosine_with_warmup": "cosine"}.get(written, written)
    if kind not in SCHEDULES:
        said = "SimpleTuner knows no such schedule, and stops: optimizer.schedule = constant stands"
        trainer.say("lr_scheduler", "no equivalent", said)
        kind = "constant"
    if kind in ("cosine", "sine", "cosine_with_restarts"):
        return _waved(trainer, kind, rate, steps)
    warmup = trainer.whole("lr_warmup_steps")
    trainer.say("lr_num_cycles", "not needed", f"{kind} does not read it")
    if kind == "polynomial":
        final = min(trainer.number("lr_end", END, low=0) / rate, 1.0) if rate else 0.0
        trainer.say("lr_end", "mapped", "is optimizer.final here, a share of the rate", END)
        power = trainer.number("lr_power", POWER, low=0)
        trainer.say("lr_power", "mapped", "is optimizer.power here", POWER)
        return filled(schedule=kind, warmup=warmup or None, power=power, final=_share(final))
    for each in ("lr_power", "lr_end"):
        trainer.say(each, "not needed", f"{kind} does not read it")
    return filled(schedule="linear" if kind == "linear" else "constant", warmup=warmup or None)


def _share(final: float) -> float | None:
    return float(f"{final:.6g}") or None


def _waved(trainer: Table, kind: str, rate: float, steps: int) -> dict[str, Any]:
    """Its waves: lr_warmup_steps is half their length, and nothing warms up."""
    for each in ("lr_num_cycles", "lr_power"):
        trainer.say(each, "not needed", f"{kind} does not read it")
    half = trainer.whole("lr_warmup_steps") or PERIOD
    final = min(trainer.number("lr_end", END, low=0) / rate, 1.0) if rate else 0.0
    if kind == "cosine":
        said = f"half a wave of its cosine takes {half} steps, and there is no warm-up"
        trainer.say("lr_warmup_steps", "mapped", f"is optimizer.cycles here: {said}", 0)
        trainer.say("lr_end", "mapped", "is optimizer.final here, a share of the rate", END)
        cycles = float(f"{steps / half:.6g}")
        return filled(schedule="cosine", cycles=cycles, final=_share(final))
    told = {
        "sine": "is a sine that begins half way up there; optimizer.schedule = constant stands",
        "cosine_with_restarts": "stays at the full rate there, whatever its name says",
    }
    mapped = kind == "cosine_with_restarts"
    trainer.say("lr_scheduler", "mapped" if mapped else "no equivalent", told[kind])
    if mapped:
        said = "the rate never falls there; optimizer.schedule = constant does the same"
        trainer.defect("lr_scheduler", said)
    for each in ("lr_warmup_steps", "lr_end"):
        trainer.say(each, "not needed", f"{kind} warms up nothing")
    return {"schedule": "constant"}
