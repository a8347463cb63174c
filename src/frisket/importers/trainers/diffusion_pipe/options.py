"""diffusion-pipe's adapter, optimizer and steps, as sections of a Frisket configuration."""

import re
from collections.abc import Mapping
from typing import Any

from frisket.importers.files import place
from frisket.importers.models import dtype_of, model_of, quantised, whole_blocks, with_v, without
from frisket.importers.optimizers import TECHNICAL, optimizer_of, whole_model
from frisket.importers.options import Table, filled
from frisket.importers.trainers.diffusion_pipe.data import Sets

# What holds the denoiser; one of its own goes before the folder it is taken out of.
WEIGHTS = (
    *("transformer_path", "diffusion_model", "checkpoint_path", "single_file_path"),
    *("diffusers_path", "ckpt_path"),
)
CASTS = {**dict.fromkeys(("bfloat16", "float16", "float32"), ""), "float8*": "float8", "nf4": "nf4"}
ALL = 1000  # checkpoints kept by a trainer that deletes none
WHOLE = 10_000  # a LoKr of such a rank is whole matrices there
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


def model_table(table: Table) -> tuple[dict[str, Any], dict[str, Any]]:
    """[model], and what of [memory] belongs to it."""
    kind = table.text("type")
    given = [(table, name) for name in WEIGHTS]
    model = model_of(table, "type", kind, trainer="diffusion_pipe", weights=given)
    if not model:
        without(table, "v_pred", "transformer_dtype", "diffusion_model_dtype")
        return {}, {}
    if table.flag("v_pred"):
        model = with_v(model, table, "v_pred")
    if kind == "sdxl":
        said = (
            "of SDXL the text encoders are trained too there (text_encoder_1_lr, _2_lr; the rate of"
            " the optimizer without them); here the denoiser alone: that comes later"
        )
        table.say("text_encoder_1_lr", "no equivalent", said)
    own = "diffusion_model_dtype" if "diffusion_model_dtype" in table else "transformer_dtype"
    return model | filled(dtype=dtype_of(table, "dtype")), quantised(table, own, CASTS)


def loss_of(main: Table) -> dict[str, Any]:
    """`losses.denoise` where its error is Huber's or a smooth l1; empty for plain mse."""
    for name, kind in (("huber_delta", "huber"), ("smooth_l1_beta", "smooth_l1")):
        if name in main:
            return {"denoise": {"kind": kind, "delta": main.number(name)}}
    return {}


def adapter_of(main: Table, adapter: Table, model: Mapping[str, Any]) -> dict[str, Any]:
    """[lora]; empty for a run that trains the whole model. `model` is our [model]."""
    if not adapter.values:
        said = (
            "there is no [adapter]: it trains the whole model. Frisket trains an adapter: [lora]"
            " sets its size, and optimizer.lr must be chosen anew for it"
        )
        main.say("adapter", "no equivalent", said)
        return {}
    kind = adapter.choice("type", ("lora", "lokr"), "lora")
    if "alpha" in adapter:
        said = "it stops at this option, for alpha is the rank there: lora.alpha is, here"
        adapter.say("alpha", "no equivalent", said)
    found = filled(source=_source(adapter), exclude=_excluded(adapter)) | _layers(main, model)
    rank = adapter.whole("rank", 16, low=1)
    if kind == "lora":
        dropout = adapter.number("dropout") or None
        return {"kind": kind, "rank": rank, "alpha": rank} | filled(dropout=dropout) | found
    found |= {"factor": adapter.whole("decompose_factor", -1, low=-1)}
    found |= filled(rank_dropout=adapter.number("rank_dropout") or None)
    if "dropout" in adapter:
        adapter.say("dropout", "not needed", "is not read with lokr: rank_dropout is")
    if rank >= WHOLE:
        adapter.say("rank", "mapped", "is lora.full_matrix here: larger than any layer has")
        return {"kind": kind, "full_matrix": True} | found
    return {"kind": kind, "rank": rank, "alpha": rank} | found


def _layers(main: Table, model: Mapping[str, Any]) -> dict[str, Any]:
    """Every linear layer of the blocks; of Z-Image those of the refiners before them too."""
    found: dict[str, Any] = dict(whole_blocks(model))
    if found and (main.values.get("model") or {}).get("type") == "z_image":
        return {"targets": ["/^(layers|noise_refiner|context_refiner)[.]/"]}
    return found


def _source(adapter: Table) -> str:
    """`lora.source`: it names the folder of a saved LoRA, Frisket the file in it."""
    given = adapter.text("init_from_existing").rstrip("/\\")
    if not given:
        return ""
    there = place(given, adapter.sheet.written.path.absolute().parent)[0]
    return f"{there.absolute() if there else given}/adapter_model.safetensors"


def _excluded(adapter: Table) -> list[str]:
    """`lora.exclude` of peft's `exclude_modules`: endings, or one expression for a whole name."""
    given = adapter.values.get("exclude_modules")
    if isinstance(given, str):
        try:
            re.compile(given)
        except re.error as error:
            raise adapter.bad("exclude_modules", f"is no regular expression: {error}") from error
        return [f"/^(?:{given})$/"]
    return adapter.texts("exclude_modules")


def stepping_of(
    main: Table, table: Table, model: Table, *, adapted: bool, horizon: float, steps: float
) -> dict[str, Any]:
    """[optimizer]. Its schedules run over `horizon` steps, whatever `steps` it stops after."""
    written = table.text("type")
    constant = "force_constant_lr" in main
    rate, rates = _rate(main, table, model, written.lower(), constant=constant)
    if not adapted:
        found = whole_model(table, "type", written, rate, rates)
    else:
        found = optimizer_of(
            table,
            "type",
            written,
            trainer="diffusion_pipe",
            rate=rate,
            arguments=_arguments(main, table, written.lower()),
            rates=rates,
        )
    warmup = 0 if constant else main.whole("warmup_steps")
    released = table.flag("gradient_release")
    if released:
        said = "it updates at every micro-batch and cannot clip; here once a step, clipped"
        table.say("gradient_release", "no equivalent", said)
    clip = main.number("gradient_clipping", 1.0, low=0)
    if "gradient_clipping" in main.written and "gradient_clipping" not in main:
        clip = 0.0
    if constant and main.whole("warmup_steps"):
        main.say("warmup_steps", "not needed", "force_constant_lr goes before it, there and here")
    return {
        **found,
        **_schedule(main, rate, warmup, horizon, steps, constant=constant),
        "clip": clip,
        "accumulate": main.whole("gradient_accumulation_steps", 1, low=1),
    }


def _rate(
    main: Table, table: Table, model: Table, kind: str, *, constant: bool
) -> tuple[float, list[tuple[Table, str]]]:
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


def _arguments(main: Table, table: Table, kind: str) -> dict[str, Any]:
    """What the class of the optimizer is given."""
    given = {name: each for name, each in table.values.items() if name not in NOT_PASSED}
    if "beta2_half_life" in table and "betas" in table:
        batch = main.whole("gradient_accumulation_steps", 1, low=1) * _batch(main)
        half = table.number("beta2_half_life", low=1)
        betas = [*table.values["betas"][:1], 0.5 ** (batch / half)]
        said = f"is optimizer.options.betas here, its second {betas[1]:g} for {batch} clips a step"
        table.say("beta2_half_life", "mapped", said)
        given["betas"] = betas
    if kind == "adamw8bitkahan" and given.pop("stabilize", False):
        said = "the rate is not lowered where a gradient is larger than those before"
        table.say("stabilize", "no equivalent", said)
    if kind == "prodigy":
        given = {RENAMED.get(name, name): each for name, each in given.items()}
    if kind in ADAM:  # whose class is another here, with other arguments
        given = {name: each for name, each in given.items() if name in (*TECHNICAL, *ADAMS)}
    for name in given:
        if name not in (*ADAMS, *TECHNICAL):
            table.say(name, "mapped", f"is optimizer.options.{name} here")
    return given


def _schedule(
    main: Table, rate: float, warmup: int, horizon: float, steps: float, *, constant: bool
) -> dict[str, Any]:
    """schedule, warmup and final; its curves begin after the warm-up and end so much later."""
    name = "constant" if constant else main.text("lr_scheduler", "constant")
    found: dict[str, Any] = {"schedule": name, "warmup": warmup}
    done = min(max(steps - warmup, 0) / max(horizon, 1), 1)
    if name == "linear":
        found["final"] = round(1 - done, 6)
    elif name == "cosine":
        found["final"] = min(LEAST / rate, 1.0) if rate else 0.0
        if done < 1:  # as much of its half wave as the run goes through
            found["cycles"] = max(round(done, 6), 1e-6)
    elif name != "constant":
        said = "it knows constant, linear and cosine, and stops at this one; constant here"
        main.say("lr_scheduler", "no equivalent", said)
        found["schedule"] = "constant"
    return found


def _batch(main: Table, sets: Sets | None = None) -> int:
    """`run.batch`: that of pictures where there are only pictures."""
    name = "micro_batch_size_per_gpu"
    own = "image_micro_batch_size_per_gpu"
    if own in main and sets is not None and sets.still:
        main.say(own, "mapped", "is run.batch here: there are only pictures")
        if name in main:
            main.say(name, "not needed", f"{own} goes before it for pictures")
        name = own
    value = main.values.get(name, 1)
    if not isinstance(value, list):
        return main.whole(name, 1, low=1)
    said = "is run.batch, one for all resolutions: the smallest is taken"
    main.say(name, "no equivalent", said)
    sizes = [row[-1] for row in value if isinstance(row, list) and row]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise main.bad(name, "a list of [resolution, batch] is needed")
    return min(sizes, default=1)


def length_of(main: Table, sets: Sets) -> tuple[float, float]:
    """Steps in all its epochs, and those after which it stops (max_steps, where that is sooner)."""
    accumulate = main.whole("gradient_accumulation_steps", 1, low=1)
    horizon = main.number("epochs", low=0) * sets.seen / (_batch(main, sets) * accumulate)
    most = main.whole("max_steps")
    return horizon, float(min(most, horizon or most)) if most else horizon


def run_of(main: Table, sets: Sets) -> dict[str, Any]:
    """[run]: epochs count where max_steps does not end it sooner; every checkpoint is kept."""
    batch = _batch(main, sets)
    accumulate = main.whole("gradient_accumulation_steps", 1, low=1)
    horizon, steps = length_of(main, sets)
    found: dict[str, Any] = {"batch": batch}
    if steps and "max_steps" in main and steps == main.whole("max_steps"):
        found["steps"] = int(steps)
    elif horizon:
        found |= _epochs(main, "epochs", "epochs", "steps", sets, horizon)
        if "max_steps" in main:
            main.say("max_steps", "not needed", "its epochs end before")
    save = main.whole("save_every_n_steps")
    if "save_every_n_examples" in main:
        save = max(main.whole("save_every_n_examples") // (batch * accumulate), 1)
        said = f"is run.save_every = {save} here: {batch * accumulate} examples a step"
        main.say("save_every_n_examples", "mapped", said)
    found |= {"save_every": save, "keep": ALL}
    if "save_every_n_epochs" in main:
        an_epoch = sets.seen / (batch * accumulate)
        steps = main.number("save_every_n_epochs", low=0) * an_epoch
        keys = ("save_every_epochs", "save_every")
        found |= _epochs(main, "save_every_n_epochs", *keys, sets, steps)
    return found


def _epochs(
    main: Table, name: str, key: str, instead: str, sets: Sets, steps: float
) -> dict[str, int]:
    """A number of its epochs in ours; in steps where an epoch of ours is another whole of them."""
    ours = main.number(name, low=0) / sets.stretch
    if abs(ours - round(ours)) < 1e-6:
        said = f"is run.{key} = {round(ours)} here"
        longer = f"; an epoch is {sets.stretch:g} of its own" if sets.stretch != 1 else ""
        main.say(name, "mapped", said + longer)
        return {key: round(ours)}
    counted = max(int(steps), 1)
    said = f"is run.{instead} = {counted} here, of {sets.seen:g} clips an epoch there"
    main.say(name, "mapped", said)
    return {instead: counted}


def validation_of(main: Table, sets: Sets, data: list[Mapping[str, Any]]) -> dict[str, Any]:
    """[validation] of its evaluation sets."""
    if not data:
        for name in main.values:
            if name.startswith("eval_every"):
                main.say(name, "not needed", "there are no eval_datasets")
        return {}
    step = _batch(main, sets) * main.whole("gradient_accumulation_steps", 1, low=1)
    every = main.whole("eval_every_n_steps")
    if "eval_every_n_examples" in main:
        every = max(main.whole("eval_every_n_examples") // step, 1)
        main.say("eval_every_n_examples", "mapped", f"is validation.every = {every} here")
    found: dict[str, Any] = {"every": every}
    epochs = main.number("eval_every_n_epochs", low=0) / sets.stretch
    if epochs:
        found["every_epochs"] = max(round(epochs), 1)
        said = f"is validation.every_epochs = {found['every_epochs']} here"
        main.say("eval_every_n_epochs", "mapped", said)
    return found | {"data": data}
