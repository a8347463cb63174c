"""diffusion-pipe's adapter, optimizer and steps, as sections of a Frisket configuration."""

import re
from collections.abc import Mapping
from typing import Any

from frisket.importers.files import locate
from frisket.importers.models import (
    map_dtype,
    map_model,
    map_quantisation,
    map_whole_blocks,
    note_without_model,
    with_v,
)
from frisket.importers.optimizers import TECHNICAL, convert_optimizer, refuse_whole_model
from frisket.importers.options import OptionTable, drop_unset
from frisket.importers.trainers.diffusion_pipe.data import Sets

# What holds the denoiser; one of its own goes before the folder it is taken out of.
WEIGHTS = (
    *("transformer_path", "diffusion_model", "checkpoint_path", "single_file_path"),
    *("diffusers_path", "ckpt_path"),
)
CASTS = {**dict.fromkeys(("bfloat16", "float16", "float32"), ""), "float8*": "float8", "nf4": "nf4"}
ALL = 1000  # checkpoints kept by a trainer that deletes none
FULL_RANK = 10_000  # a LoKr of such a rank is whole matrices there
LEAST = 1e-6  # the rate at which its cosine ends
RATES = {"adamw": 1e-3, "adamw8bit": 1e-3, "adamw8bitkahan": 1e-3, "sgd": 1e-3, "offload": 1e-3}
RATES |= {
    "prodigy": 1.0,
    "lion": 1e-4,
    "automagic": 1e-6,
    "genericoptim": 1e-3,
}  # of their classes, where none is given
ADAM = ("adamw", "adamw8bit", "adamw8bitkahan", "adamw_optimi", "offload")
ADAMS = ("betas", "eps", "weight_decay")
NOT_PASSED = ("type", "lr", "gradient_release", "beta2_half_life")
RENAMED = {"bias_correction": "use_bias_correction", "weight_decouple": "decouple"}  # of Prodigy


def read_model(table: OptionTable) -> tuple[dict[str, Any], dict[str, Any]]:
    """[model], and what of [memory] belongs to it."""
    kind = table.text("type")
    sources = [(table, name) for name in WEIGHTS]
    model = map_model(table, "type", kind, trainer="diffusion_pipe", weights=sources)
    if not model:
        note_without_model(table, "v_pred", "transformer_dtype", "diffusion_model_dtype")
        return {}, {}
    if table.flag("v_pred"):
        model = with_v(model, table, "v_pred")
    if kind == "sdxl":
        message = (
            "of SDXL the text encoders are trained too there (text_encoder_1_lr, _2_lr; the rate of"
            " the optimizer without them); here the denoiser alone: that comes later"
        )
        table.say("text_encoder_1_lr", "no equivalent", message)
    option = "diffusion_model_dtype" if "diffusion_model_dtype" in table else "transformer_dtype"
    return model | drop_unset(dtype=map_dtype(table, "dtype")), map_quantisation(
        table, option, CASTS
    )


def loss_of(main: OptionTable) -> dict[str, Any]:
    """`losses.denoise` where its error is Huber's or a smooth l1; empty for plain mse."""
    for name, kind in (("huber_delta", "huber"), ("smooth_l1_beta", "smooth_l1")):
        if name in main:
            return {"denoise": {"kind": kind, "delta": main.number(name)}}
    return {}


def adapter_of(main: OptionTable, adapter: OptionTable, model: Mapping[str, Any]) -> dict[str, Any]:
    """[lora]; empty for a run that trains the whole model. `model` is our [model]."""
    if not adapter.values:
        message = (
            "there is no [adapter]: it trains the whole model. Frisket trains an adapter: [lora]"
            " sets its size, and optimizer.lr must be chosen anew for it"
        )
        main.say("adapter", "no equivalent", message)
        return {}
    kind = adapter.choice("type", ("lora", "lokr"), "lora")
    if "alpha" in adapter:
        message = "it stops at this option, for alpha is the rank there: lora.alpha is, here"
        adapter.say("alpha", "no equivalent", message)
    lora = drop_unset(
        source=_read_source(adapter), exclude=_read_exclude(adapter)
    ) | _choose_layers(main, model)
    rank = adapter.whole("rank", 16, low=1)
    if kind == "lora":
        dropout = adapter.number("dropout") or None
        return {"kind": kind, "rank": rank, "alpha": rank} | drop_unset(dropout=dropout) | lora
    lora |= {"factor": adapter.whole("decompose_factor", -1, low=-1)}
    lora |= drop_unset(rank_dropout=adapter.number("rank_dropout") or None)
    if "dropout" in adapter:
        adapter.say("dropout", "not needed", "is not read with lokr: rank_dropout is")
    if rank >= FULL_RANK:
        adapter.say("rank", "mapped", "is lora.full_matrix here: larger than any layer has")
        return {"kind": kind, "full_matrix": True} | lora
    return {"kind": kind, "rank": rank, "alpha": rank} | lora


def _choose_layers(main: OptionTable, model: Mapping[str, Any]) -> dict[str, Any]:
    """Every linear layer of the blocks; of Z-Image those of the refiners before them too."""
    layers: dict[str, Any] = dict(map_whole_blocks(model))
    if layers and (main.values.get("model") or {}).get("type") == "z_image":
        return {"targets": ["/^(layers|noise_refiner|context_refiner)[.]/"]}
    return layers


def _read_source(adapter: OptionTable) -> str:
    """`lora.source`: it names the folder of a saved LoRA, Frisket the file in it."""
    folder = adapter.text("init_from_existing").rstrip("/\\")
    if not folder:
        return ""
    path = locate(folder, adapter.sheet.written.path.absolute().parent)[0]
    return f"{path.absolute() if path else folder}/adapter_model.safetensors"


def _read_exclude(adapter: OptionTable) -> list[str]:
    """`lora.exclude` of peft's `exclude_modules`: endings, or one expression for a whole name."""
    modules = adapter.values.get("exclude_modules")
    if isinstance(modules, str):
        try:
            re.compile(modules)
        except re.error as error:
            raise adapter.bad("exclude_modules", f"is no regular expression: {error}") from error
        return [f"/^(?:{modules})$/"]
    return adapter.texts("exclude_modules")


def stepping_of(
    main: OptionTable,
    table: OptionTable,
    model: OptionTable,
    *,
    adapted: bool,
    horizon: float,
    steps: float,
) -> dict[str, Any]:
    """[optimizer]. Its schedules run over `horizon` steps, whatever `steps` it stops after."""
    kind = table.text("type")
    constant = "force_constant_lr" in main
    rate, rates = _read_rate(main, table, model, kind.lower(), constant=constant)
    if not adapted:
        optimizer = refuse_whole_model(table, "type", kind, rate, rates)
    else:
        optimizer = convert_optimizer(
            table,
            "type",
            kind,
            trainer="diffusion_pipe",
            rate=rate,
            arguments=_read_arguments(main, table, kind.lower()),
            rates=rates,
        )
    warmup = 0 if constant else main.whole("warmup_steps")
    released = table.flag("gradient_release")
    if released:
        message = "it updates at every micro-batch and cannot clip; here once a step, clipped"
        table.say("gradient_release", "no equivalent", message)
    clip = main.number("gradient_clipping", 1.0, low=0)
    if "gradient_clipping" in main.written and "gradient_clipping" not in main:
        clip = 0.0
    if constant and main.whole("warmup_steps"):
        main.say("warmup_steps", "not needed", "force_constant_lr goes before it, there and here")
    return {
        **optimizer,
        **_read_schedule(main, rate, warmup, horizon, steps, constant=constant),
        "clip": clip,
        "accumulate": main.whole("gradient_accumulation_steps", 1, low=1),
    }


def _read_rate(
    main: OptionTable, table: OptionTable, model: OptionTable, kind: str, *, constant: bool
) -> tuple[float, list[tuple[OptionTable, str]]]:
    """The rate of the denoiser, and the options it comes from."""
    if constant:
        return main.number("force_constant_lr"), [(main, "force_constant_lr")]
    if "unet_lr" in model and model.text("type") == "sdxl":
        model.say("unet_lr", "mapped", "is optimizer.lr here")
        return model.number("unet_lr"), [(model, "unet_lr")]
    if "lr" not in table:
        rate = RATES.get(kind, 0.0)
        table.say("lr", "mapped", "is optimizer.lr here, the default of its class", rate)
        return rate, [(table, "lr")]
    return table.number("lr"), [(table, "lr")]


def _read_arguments(main: OptionTable, table: OptionTable, kind: str) -> dict[str, Any]:
    """What the class of the optimizer is given."""
    arguments = {name: value for name, value in table.values.items() if name not in NOT_PASSED}
    if "beta2_half_life" in table and "betas" in table:
        batch = main.whole("gradient_accumulation_steps", 1, low=1) * _read_batch(main)
        half = table.number("beta2_half_life", low=1)
        betas = [*table.values["betas"][:1], 0.5 ** (batch / half)]
        message = (
            f"is optimizer.options.betas here, its second {betas[1]:g} for {batch} clips a step"
        )
        table.say("beta2_half_life", "mapped", message)
        arguments["betas"] = betas
    if kind == "adamw8bitkahan" and arguments.pop("stabilize", False):
        message = "the rate is not lowered where a gradient is larger than those before"
        table.say("stabilize", "no equivalent", message)
    if kind == "prodigy":
        arguments = {RENAMED.get(name, name): value for name, value in arguments.items()}
    if kind in ADAM:  # whose class is another here, with other arguments
        arguments = {
            name: value for name, value in arguments.items() if name in (*TECHNICAL, *ADAMS)
        }
    for name in arguments:
        if name not in (*ADAMS, *TECHNICAL):
            table.say(name, "mapped", f"is optimizer.options.{name} here")
    return arguments


def _read_schedule(
    main: OptionTable, rate: float, warmup: int, horizon: float, steps: float, *, constant: bool
) -> dict[str, Any]:
    """schedule, warmup and final; its curves begin after the warm-up and end so much later."""
    name = "constant" if constant else main.text("lr_scheduler", "constant")
    schedule: dict[str, Any] = {"schedule": name, "warmup": warmup}
    share = min(max(steps - warmup, 0) / max(horizon, 1), 1)
    if name == "linear":
        schedule["final"] = round(1 - share, 6)
    elif name == "cosine":
        schedule["final"] = min(LEAST / rate, 1.0) if rate else 0.0
        if share < 1:  # as much of its half wave as the run goes through
            schedule["cycles"] = max(round(share, 6), 1e-6)
    elif name != "constant":
        message = "it knows constant, linear and cosine, and stops at this one; constant here"
        main.say("lr_scheduler", "no equivalent", message)
        schedule["schedule"] = "constant"
    return schedule


def _read_batch(main: OptionTable, sets: Sets | None = None) -> int:
    """`run.batch`: that of pictures where there are only pictures."""
    name = "micro_batch_size_per_gpu"
    image_option = "image_micro_batch_size_per_gpu"
    if image_option in main and sets is not None and sets.still:
        main.say(image_option, "mapped", "is run.batch here: there are only pictures")
        if name in main:
            main.say(name, "not needed", f"{image_option} goes before it for pictures")
        name = image_option
    value = main.values.get(name, 1)
    if not isinstance(value, list):
        return main.whole(name, 1, low=1)
    message = "is run.batch, one for all resolutions: the smallest is taken"
    main.say(name, "no equivalent", message)
    sizes = [row[-1] for row in value if isinstance(row, list) and row]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise main.bad(name, "a list of [resolution, batch] is needed")
    return min(sizes, default=1)


def length_of(main: OptionTable, sets: Sets) -> tuple[float, float]:
    """Steps in all its epochs, and those after which it stops (max_steps, where that is sooner)."""
    accumulate = main.whole("gradient_accumulation_steps", 1, low=1)
    horizon = (
        main.number("epochs", low=0) * sets.epoch_clips / (_read_batch(main, sets) * accumulate)
    )
    most = main.whole("max_steps")
    return horizon, float(min(most, horizon or most)) if most else horizon


def run_of(main: OptionTable, sets: Sets) -> dict[str, Any]:
    """[run]: epochs count where max_steps does not end it sooner; every checkpoint is kept."""
    batch = _read_batch(main, sets)
    accumulate = main.whole("gradient_accumulation_steps", 1, low=1)
    horizon, steps = length_of(main, sets)
    run: dict[str, Any] = {"batch": batch}
    if steps and "max_steps" in main and steps == main.whole("max_steps"):
        run["steps"] = int(steps)
    elif horizon:
        run |= _read_epochs(main, "epochs", "epochs", "steps", sets, horizon)
        if "max_steps" in main:
            main.say("max_steps", "not needed", "its epochs end before")
    save = main.whole("save_every_n_steps")
    if "save_every_n_examples" in main:
        save = max(main.whole("save_every_n_examples") // (batch * accumulate), 1)
        message = f"is run.save_every = {save} here: {batch * accumulate} examples a step"
        main.say("save_every_n_examples", "mapped", message)
    run |= {"save_every": save, "keep": ALL}
    if "save_every_n_epochs" in main:
        an_epoch = sets.epoch_clips / (batch * accumulate)
        steps = main.number("save_every_n_epochs", low=0) * an_epoch
        keys = ("save_every_epochs", "save_every")
        run |= _read_epochs(main, "save_every_n_epochs", *keys, sets, steps)
    return run


def _read_epochs(
    main: OptionTable, name: str, key: str, step_key: str, sets: Sets, steps: float
) -> dict[str, int]:
    """A number of its epochs in ours; in steps where an epoch of ours is another whole of them."""
    epochs = main.number(name, low=0) / sets.stretch
    if abs(epochs - round(epochs)) < 1e-6:
        message = f"is run.{key} = {round(epochs)} here"
        longer = f"; an epoch is {sets.stretch:g} of its own" if sets.stretch != 1 else ""
        main.say(name, "mapped", message + longer)
        return {key: round(epochs)}
    count = max(int(steps), 1)
    message = f"is run.{step_key} = {count} here, of {sets.epoch_clips:g} clips an epoch there"
    main.say(name, "mapped", message)
    return {step_key: count}


def validation_of(main: OptionTable, sets: Sets, data: list[Mapping[str, Any]]) -> dict[str, Any]:
    """[validation] of its evaluation sets."""
    if not data:
        for name in main.values:
            if name.startswith("eval_every"):
                main.say(name, "not needed", "there are no eval_datasets")
        return {}
    step = _read_batch(main, sets) * main.whole("gradient_accumulation_steps", 1, low=1)
    interval = main.whole("eval_every_n_steps")
    if "eval_every_n_examples" in main:
        interval = max(main.whole("eval_every_n_examples") // step, 1)
        main.say("eval_every_n_examples", "mapped", f"is validation.every = {interval} here")
    validation: dict[str, Any] = {"every": interval}
    epochs = main.number("eval_every_n_epochs", low=0) / sets.stretch
    if epochs:
        validation["every_epochs"] = max(round(epochs), 1)
        message = f"is validation.every_epochs = {validation['every_epochs']} here"
        main.say("eval_every_n_epochs", "mapped", message)
    return validation | {"data": data}
