"""The optimizer of kohya's trainers, and how its rate goes over the steps."""

import math
from typing import Any

from frisket.importers.flags.network import Network
from frisket.importers.flags.options import Flags, parse_named_values
from frisket.importers.optimizers import convert_optimizer, refuse_other_kind, refuse_whole_model

RATE = 2e-6  # theirs, where none is given
LAST = 1e-7  # where `polynomial` ends in transformers, which neither passes anything else
REX = 0.01  # share of the rate that musubi-tuner's `rex` starts and ends with
SCHEDULES = {
    "constant": "constant",
    "constant_with_warmup": "constant",
    "linear": "linear",
    "cosine": "cosine",
    "cosine_with_restarts": "cosine_with_restarts",
    "cosine_with_min_lr": "cosine",
    "polynomial": "polynomial",
    "inverse_sqrt": "inverse_sqrt",
    "warmup_stable_decay": "warmup_stable_decay",
    "rex": "rex",
}
WITH_LEAST = ("cosine_with_min_lr", "warmup_stable_decay", "rex")
WITH_CYCLES = ("cosine_with_restarts", "cosine_with_min_lr", "warmup_stable_decay")
CYCLES, LEAST, DECAY = "lr_scheduler_num_cycles", "lr_scheduler_min_lr_ratio", "lr_decay_steps"


def map_optimizer(flags: Flags, *, trainer: str, adapter: Network, steps: int) -> dict[str, Any]:
    """`[optimizer]`, all of it that differs from Frisket's own defaults.

    `steps` of the run, 0 where they are not known.
    """
    option = "unet_lr" if "unet_lr" in flags else "learning_rate"
    if option == "unet_lr" and "learning_rate" in flags:
        flags.say("learning_rate", "not needed", "unet_lr goes before it")
    rate = flags.number(option, RATE)
    section = _map_name(flags, trainer, rate, option, adapter)
    if adapter.plus:
        section["lora_plus"] = adapter.plus
    accumulate = "gradient_accumulation_steps"
    if accumulate in flags:
        section["accumulate"] = flags.whole(accumulate, low=1)
    if "max_grad_norm" in flags:
        section["clip"] = flags.number("max_grad_norm", low=0.0)
    return section | _map_schedule(flags, section.get("name", ""), rate, steps)


def _map_name(
    flags: Flags, trainer: str, rate: float, option: str, adapter: Network
) -> dict[str, Any]:
    """Name, rate, decay and options, of the same optimizer or asked for."""
    holder, written = flags.at("optimizer_type"), flags.text("optimizer_type")
    name = "optimizer_type"
    for switch, meant in (("use_8bit_adam", "AdamW8bit"), ("use_lion_optimizer", "Lion")):
        if flags.flag(switch):
            holder, name, written = flags.at(switch), switch, meant
    rates = [(flags.at(option), option)]
    if "optimizer_args" in flags:
        rates.append((flags.at("optimizer_args"), "optimizer_args"))
    if adapter.whole:
        return refuse_whole_model(holder, name, written, rate, rates)
    if adapter.other:
        return refuse_other_kind(holder, name, written, rate, rates, kind=adapter.other)
    return convert_optimizer(
        holder, name, written, trainer=trainer, rate=rate, rates=rates,
        arguments=parse_named_values(flags.at("optimizer_args"), "optimizer_args"),
    )  # fmt: skip


def _map_schedule(flags: Flags, name: str, rate: float, steps: int) -> dict[str, Any]:
    if name.lower().endswith("schedulefree"):
        for option in ("lr_scheduler", "lr_warmup_steps"):
            if option in flags:
                flags.say(option, "not needed", "a schedule-free optimizer has none there")
        return {"schedule": "constant"}
    way = flags.text("lr_scheduler", "constant").lower()
    if "lr_scheduler_type" in flags:
        written = flags.text("lr_scheduler_type")
        return _map_annealing(flags, rate, steps) or _note_unknown(
            flags, "lr_scheduler_type", written
        )
    if way not in SCHEDULES:
        return _note_unknown(flags, "lr_scheduler", way)
    return _map_known_schedule(flags, way, rate)


def _map_known_schedule(flags: Flags, way: str, rate: float) -> dict[str, Any]:
    section: dict[str, Any] = {"schedule": SCHEDULES[way]}
    section |= _map_warmup(flags, way)
    cycles = flags.number(CYCLES, 1.0, low=0.0) if way in WITH_CYCLES else 1.0
    if cycles != 1:
        section["cycles"] = cycles
    if way == "polynomial":
        section |= {"power": flags.number("lr_scheduler_power", 1.0)} if _has_power(flags) else {}
        section["final"] = min(1.0, LAST / rate) if rate > 0 else 0.0
    if way in WITH_LEAST:
        least = flags.number(LEAST, REX if way == "rex" else 0.0, low=0.0)
        section |= {"final": least} if least else {}
    if way == "warmup_stable_decay":
        section["decay"] = flags.number(DECAY, low=0.0)
    return section | _note_unread(flags, way)


def _map_annealing(flags: Flags, rate: float, steps: int) -> dict[str, Any]:
    """CosineAnnealingLR of torch, half a wave of which takes T_max steps; empty for any other."""
    table = flags.at("lr_scheduler_args")
    arguments = parse_named_values(table, "lr_scheduler_args")
    half, least = arguments.get("T_max"), arguments.get("eta_min", 0.0)
    numbers = all(isinstance(value, int | float) for value in (half, least))
    is_annealing = flags.text("lr_scheduler_type").rpartition(".")[2] == "CosineAnnealingLR"
    if not is_annealing or not numbers or not steps or not half or least > rate:
        return {}
    message = (
        f"is optimizer.schedule = 'cosine' here: half a wave of it takes {half} of {steps} steps"
    )
    flags.say("lr_scheduler_type", "mapped", f"{message}, so optimizer.cycles is {steps / half:g}")
    table.say("lr_scheduler_args", "mapped", "is optimizer.cycles and optimizer.final here")
    for option in ("lr_scheduler", "lr_warmup_steps"):
        if option in flags:
            flags.say(option, "not needed", "lr_scheduler_type goes before it")
    section = {"schedule": "cosine", "cycles": steps / half, "final": least / rate if rate else 0.0}
    return {key: value for key, value in section.items() if value not in (0.0, 1.0)}


def _has_power(flags: Flags) -> bool:
    return flags.number("lr_scheduler_power", 1.0) != 1


def _map_warmup(flags: Flags, way: str) -> dict[str, Any]:
    """Steps, or a share of them as a number below 1."""
    warmup = flags.number("lr_warmup_steps", low=0.0)
    if not warmup:
        return {}
    if way == "constant":
        message = 'lr_scheduler = "constant" does not warm up there: optimizer.warmup stays 0'
        flags.say("lr_warmup_steps", "not needed", message)
        return {}
    return {"warmup": warmup if warmup < 1 else math.floor(warmup)}


def _note_unread(flags: Flags, way: str) -> dict[str, Any]:
    """Tell the options of a schedule that this one does not look at; nothing to write."""
    heeded = {
        CYCLES: WITH_CYCLES,
        LEAST: WITH_LEAST,
        DECAY: ("warmup_stable_decay",),
        "lr_scheduler_power": ("polynomial",),
        "lr_scheduler_timescale": ("inverse_sqrt",),
    }
    for option, ways in heeded.items():
        if option in flags and way not in ways:
            flags.say(option, "not needed", f"lr_scheduler = {way!r} does not look at it")
    if "lr_scheduler_timescale" in flags and way == "inverse_sqrt":
        message = "the rate falls from the end of optimizer.warmup on; there is no other time scale"
        flags.say("lr_scheduler_timescale", "no equivalent", message)
    return {}


def _note_unknown(flags: Flags, option: str, way: str) -> dict[str, Any]:
    message = (
        f"there is no schedule {way!r} here: optimizer.schedule is left constant, at the full rate"
        f" to the end; there are {', '.join(dict.fromkeys(SCHEDULES.values()))}"
    )
    flags.say(option, "no equivalent", message)
    if option == "lr_scheduler_type" and "lr_scheduler" in flags:
        flags.say("lr_scheduler", "not needed", "lr_scheduler_type goes before it")
    return {"schedule": "constant"}
