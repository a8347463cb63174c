"""OneTrainer's optimizers, learning rates and schedules, as [optimizer]."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from frisket.importers.optimizers import convert_optimizer
from frisket.importers.options import OptionTable, drop_unset
from frisket.importers.trainers.onetrainer.words import SCALERS, find_multiplier, word_of

LR = 3e-6  # its defaults
WARMUP = 200.0
WARMING = "learning_rate_warmup_steps"
DEFAULT = "ADAMW"


@dataclass(frozen=True, slots=True)
class OptimizerForm:
    """What OneTrainer gives a class of optimizers (`create_optimizer`).

    `decay`, `betas` and `options` are what it takes where the configuration leaves them out,
    `pairs` options that are made of two, `flags` those that are off then. `still` are read there
    and change no step here.
    """

    decay: float = 0.0
    betas: tuple[float, ...] = ()
    options: Mapping[str, float | int | None] = field(default_factory=dict)
    pairs: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    still: tuple[str, ...] = ()


TWO, THREE = (0.9, 0.999), (0.9, 0.999, 0.9999)
EPS = {"eps": 1e-8}
MOMENTUM = {"momentum": 0.0, "dampening": 0.0}
TORCH = ("foreach", "capturable", "differentiable", "fused", "fused_back_pass")
ROUND = ("stochastic_rounding", "fused_back_pass")
BITS = ("min_8bit_size", "percentile_clipping", "block_wise", "optim_bits", "is_paged")
MIX = OptimizerForm(0.01, THREE, {**EPS, "alpha": 5.0}, still=BITS)
LAMB = OptimizerForm(
    0.0, TWO, {**EPS, "max_unorm": 1.0}, {}, ("bias_correction", "amsgrad", "adam_w_mode"), BITS
)
LARS = OptimizerForm(0.0, (), {**MOMENTUM, "max_unorm": 0.02}, {}, ("nesterov",), BITS)
PROP = OptimizerForm(0.0, (), {**EPS, "alpha": 0.99, "momentum": 0.0}, {}, ("centered",), BITS)
GRAD = OptimizerForm(
    0.0, (), {"eps": 1e-10, "lr_decay": 0.0, "initial_accumulator_value": 0}, still=BITS
)
OPTIMIZER_FORMS: Mapping[str, OptimizerForm] = {
    "ADAM": OptimizerForm(0.0, TWO, EPS, {}, ("amsgrad", "maximize"), (*TORCH, *ROUND)),
    "ADAMW": OptimizerForm(0.01, TWO, EPS, {}, ("amsgrad", "maximize"), (*TORCH, *ROUND)),
    "ADAM_8BIT": OptimizerForm(0.0, TWO, EPS, still=("amsgrad", *BITS)),
    "ADAMW_8BIT": OptimizerForm(0.01, TWO, EPS, still=("amsgrad", *BITS)),
    "ADAGRAD": GRAD,
    "ADAGRAD_8BIT": GRAD,
    "RMSPROP": PROP,
    "RMSPROP_8BIT": PROP,
    "LAMB": LAMB,
    "LAMB_8BIT": LAMB,
    "LARS": LARS,
    "LARS_8BIT": LARS,
    "LION": OptimizerForm(0.0, (0.9, 0.99), still=("use_triton",)),
    "LION_8BIT": OptimizerForm(0.0, TWO, still=BITS),
    "SGD": OptimizerForm(0.0, (), MOMENTUM, {}, ("nesterov", "maximize"), TORCH),
    "SGD_8BIT": OptimizerForm(0.0, (), MOMENTUM, {}, ("nesterov",), BITS),
    "AdEMAMix": MIX,
    "AdEMAMix_8BIT": MIX,
    "ADAFACTOR": OptimizerForm(
        options={"clip_threshold": 1.0, "decay_rate": -0.8, "beta1": None},
        pairs={"eps": 1e-30, "eps2": 1e-3},
        flags=("scale_parameter", "relative_step", "warmup_init"),
        still=ROUND,
    ),
    "CAME": OptimizerForm(0.0, THREE, pairs={"eps": 1e-30, "eps2": 1e-16}, still=ROUND),
    "CAME_8BIT": OptimizerForm(
        0.0, THREE, pairs={"eps": 1e-30, "eps2": 1e-16}, still=(*ROUND, *BITS)
    ),
    "PRODIGY": OptimizerForm(
        0.0,
        TWO,
        {
            **{"beta3": None, "eps": 1e-8, "d0": 1e-6, "d_coef": 1.0},
            **{"growth_rate": math.inf, "slice_p": 1},
        },
        {},
        ("decouple", "use_bias_correction", "safeguard_warmup"),
        ("fsdp_in_use",),
    ),
    "SCHEDULE_FREE_ADAMW": OptimizerForm(
        0.01, TWO, {**EPS, "r": 0.0, "weight_lr_power": 2.0}, still=("foreach",)
    ),
    "SCHEDULE_FREE_SGD": OptimizerForm(
        options={"momentum": 0.0, "r": 0.0, "weight_lr_power": 2.0}, still=("foreach",)
    ),
}
REST = (  # of these nothing is here but the name
    *("ADAMW_ADV", "ADOPT", "ADOPT_ADV", "LION_ADV", "SIGNSGD_ADV", "PRODIGY_ADV", "MUON"),
    *("MUON_ADV", "ADAMUON_ADV", "PRODIGY_PLUS_SCHEDULE_FREE", "ADABELIEF", "TIGER", "AIDA"),
    *("YOGI", "DADAPT_ADA_GRAD", "DADAPT_ADAM", "DADAPT_ADAN", "DADAPT_LION", "DADAPT_SGD"),
)
OFF = ("amsgrad", "maximize", "centered", "nesterov")  # their classes have them off by themselves
FREE = ("SCHEDULE_FREE_ADAMW", "SCHEDULE_FREE_SGD", "PRODIGY_PLUS_SCHEDULE_FREE")
SCHEDULES = {
    "CONSTANT": "constant",
    "LINEAR": "linear",
    "COSINE": "cosine",
    "COSINE_WITH_RESTARTS": "cosine",
    "COSINE_WITH_HARD_RESTARTS": "cosine_with_restarts",
    "REX": "rex",
}


def read_optimizer(config: OptionTable, denoiser: OptionTable, *, adapter: bool) -> dict[str, Any]:
    """[optimizer], with its notes; `denoiser` is the part whose rate goes before the global one.

    Without `adapter` the whole model is trained there, at a rate that is no adapter's.
    """
    table = config.table("optimizer", "optimizer")
    kind = word_of(table, "optimizer", (*OPTIMIZER_FORMS, *REST), DEFAULT)
    accumulate = config.whole("gradient_accumulation_steps", 1, low=1)
    rate, owner = _read_rate(config, denoiser, accumulate)
    arguments = _read_arguments(config, table, kind)
    optimizer = convert_optimizer(
        table,
        "optimizer",
        kind,
        trainer="onetrainer",
        rate=rate,
        arguments=arguments,
        rates=[(owner, "learning_rate")],
    )
    if not adapter and "lr" in optimizer:
        message = (
            "is the rate of a training without an adapter, which would learn next to nothing at it:"
            " left out, set optimizer.lr"
        )
        owner.say("learning_rate", "no equivalent", message, rate)
        del optimizer["lr"]
    owner.say("learning_rate", "mapped", "is optimizer.lr here", rate)
    table.close()
    return (
        optimizer
        | _read_schedule(config, kind, accumulate)
        | {"clip": config.number("clip_grad_norm", _choose_clip(config), low=0)}
        | drop_unset(accumulate=accumulate, ema=_read_average(config))
    )


def _choose_clip(config: OptionTable) -> float:
    """What is meant where no number is given: null is no clipping, its default is 1."""
    return 0.0 if "clip_grad_norm" in config.written else 1.0


def _read_rate(
    config: OptionTable, denoiser: OptionTable, accumulate: int
) -> tuple[float, OptionTable]:
    """The denoiser's rate, its part's own before the global one (`NamedParameterGroup`); where."""
    owner, rate = config, config.number("learning_rate", LR, low=0)
    if "learning_rate" in denoiser:
        owner, rate = denoiser, denoiser.number("learning_rate", low=0)
        config.say("learning_rate", "not needed", "the denoiser has a rate of its own")
    kind = word_of(config, "learning_rate_scaler", SCALERS, "NONE")
    by = find_multiplier(kind, config.whole("batch_size", 1, low=1), accumulate)
    if by != 1:
        message = f"multiplies the rate by the square root of {by}; optimizer.lr is the product"
        config.say("learning_rate_scaler", "mapped", message)
    return float(f"{rate * by**0.5:.9g}"), owner


def _read_arguments(config: OptionTable, table: OptionTable, kind: str) -> dict[str, Any]:
    """What its class is called with; empty for one that is not here."""
    form = OPTIMIZER_FORMS.get(kind)
    if form is None:
        _tell_unknown(table, kind)
        return {}
    arguments: dict[str, Any] = {"weight_decay": table.number("weight_decay", form.decay, low=0)}
    betas = [f"beta{number}" for number in range(1, len(form.betas) + 1)]
    if betas:
        numbers = zip(betas, form.betas, strict=True)
        arguments["betas"] = [table.number(name, default) for name, default in numbers]
    arguments |= _read_options(table, form)
    if kind in ("SCHEDULE_FREE_ADAMW", "SCHEDULE_FREE_SGD"):
        arguments["warmup_steps"] = int(config.number(WARMING, WARMUP, low=0))
        message = "is optimizer.options.warmup_steps here, which is not divided there"
        config.say(WARMING, "mapped", message, WARMUP)
    _answer(table, kind, form, betas)
    return arguments


def _tell_unknown(table: OptionTable, kind: str) -> None:
    """Note the arguments of a class of optimizers that is not here."""
    for name, value in table.values.items():
        if value and name not in ("optimizer", "__version"):
            message = f"an argument of {kind}, which is not here: left out with it"
            table.say(name, "no equivalent", message)


def _read_options(table: OptionTable, form: OptimizerForm) -> dict[str, Any]:
    """The options of a form besides decay and betas; those that its class has by itself go."""
    numbers = {name: _read_number(table, name, default) for name, default in form.options.items()}
    options: dict[str, Any] = {name: n for name, n in numbers.items() if n is not None}
    if form.pairs:
        options["eps"] = [table.number(name, default) for name, default in form.pairs.items()]
    flags = {name: table.flag(name) for name in form.flags}
    return options | {name: on for name, on in flags.items() if on or name not in OFF}


def _read_number(table: OptionTable, name: str, default: float | int | None) -> float | int | None:
    """A number; None for one that is left to its class, and for infinity, which is its default."""
    if table.values.get(name) in ("inf", math.inf):
        return None
    if default is None or default == math.inf:
        return table.number(name) if name in table else None
    number = table.number(name, default)
    return int(number) if isinstance(default, int) else number


def _answer(table: OptionTable, kind: str, form: OptimizerForm, betas: list[str]) -> None:
    read = {*betas, *form.options, *form.flags, *form.pairs}
    for name in table.written:
        if name in read:
            table.say(name, "mapped", "here optimizer.options")
        elif name in form.still:
            table.say(
                name, "not needed", "about memory, speed or rounding: it changes no step here"
            )
        elif name not in ("weight_decay", "optimizer", "__version"):
            table.say(name, "not needed", f"{kind} does not read it there")


def _read_schedule(config: OptionTable, kind: str, accumulate: int) -> dict[str, Any]:
    """Schedule, warm-up and what is left at the end (`create_lr_scheduler`)."""
    if kind in FREE:
        message = f"{kind} goes without a schedule there too"
        for name in ("learning_rate_scheduler", "learning_rate_cycles", "learning_rate_min_factor"):
            config.say(name, "not needed", message)
        return {"schedule": "constant"}
    schedule = word_of(
        config, "learning_rate_scheduler", (*SCHEDULES, "ADAFACTOR", "CUSTOM"), "CONSTANT"
    )
    if schedule not in SCHEDULES:
        message = "no schedule here is the same: optimizer.schedule = constant is taken, set yours"
        config.say("learning_rate_scheduler", "no equivalent", message)
    cycles = config.number("learning_rate_cycles", 1, low=0)
    if schedule == "COSINE_WITH_RESTARTS":
        message = "its wave comes back smoothly: optimizer.cycles counts half waves"
        config.say("learning_rate_cycles", "mapped", message, cycles)
        cycles *= 2
    elif schedule != "COSINE_WITH_HARD_RESTARTS":
        config.say("learning_rate_cycles", "not needed", f"{schedule} does not read it")
        cycles = 0
    final = config.number("learning_rate_min_factor", low=0) if schedule != "CONSTANT" else 0
    warmup = _read_warmup(config, accumulate)
    return drop_unset(
        schedule=SCHEDULES.get(schedule, "constant"),
        warmup=warmup or None,
        cycles=cycles or None,
        final=min(final, 1.0) or None,
    )


def _read_warmup(config: OptionTable, accumulate: int) -> float | int:
    """Its warm-up in steps of the optimizer, or a share of them all."""
    name = WARMING
    warmup = config.number(name, WARMUP)
    if warmup > 1:
        steps = int(warmup / accumulate)
        message = f"is optimizer.warmup = {steps} here"
        message += f": it counts micro-batches, {accumulate} a step" if accumulate > 1 else ""
        config.say(name, "mapped", message, WARMUP)
        return steps
    if 0 < warmup < 1:
        config.say(name, "mapped", "is optimizer.warmup here, a share of all steps")
        return warmup
    if warmup == 1:
        message = "the whole run is warm-up there: optimizer.warmup = 0.999 of all steps stands in"
        config.say(name, "no equivalent", message)
        return 0.999
    config.say(name, "not needed", "there is no warm-up")
    return 0


def _read_average(config: OptionTable) -> float | None:
    """The decay a step: there the average moves every few steps (`EMAModuleWrapper`)."""
    if word_of(config, "ema", ("OFF", "GPU", "CPU"), "OFF") == "OFF":
        for name in ("ema_decay", "ema_update_step_interval"):
            config.say(name, "not needed", "ema is off")
        return None
    decay = config.number("ema_decay", 0.999, low=0)
    interval = config.whole("ema_update_step_interval", 5, low=1)
    if interval > 1:
        message = (
            f"the average moves every {interval} steps there; optimizer.ema is the decay a step"
        )
        config.say("ema_update_step_interval", "mapped", message, 5)
    return round(math.pow(min(decay, 0.999999), 1 / interval), 6)
