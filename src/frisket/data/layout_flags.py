"""Training options that kohya's trainers share, as sections of a Frisket configuration."""

import ast
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from frisket.data.layout_base import Kind
from frisket.data.layout_files import place
from frisket.data.layout_noise import LAWS, OTHER, by_size
from frisket.data.layout_options import Rules, Sheet, Table, rules_of
from frisket.media.captions import BadCaption, read_text

Sections = dict[str, dict[str, Any]]

OPTIMIZERS = {
    "": "adamw",
    "adamw": "adamw",
    "adamw8bit": "adamw8bit",
    "pagedadamw": "adamw",
    "pagedadamw8bit": "adamw8bit",
    "adamwschedulefree": "schedulefree",
    "adafactor": "adafactor",
    "came": "came",
    "lion": "lion",
    "lion8bit": "lion",
    "prodigy": "prodigyopt.Prodigy",  # the alias has defaults of its own
    "sgdnesterov": "sgd",
}
SCHEDULES = {
    "constant": "constant",
    "constant_with_warmup": "constant",
    "linear": "linear",
    "cosine": "cosine",
    "cosine_with_min_lr": "cosine",
}
PRECISIONS = {"no": "float32", "fp16": "float16", "bf16": "bfloat16"}
ATTENTION = {
    "flash_attn": "flash",
    "flash3": "_flash_3",
    "sage_attn": "sage",
    "xformers": "xformers",
}
SWITCHES: dict[str, dict[str, Any]] = {
    "gradient_checkpointing": {"checkpointing": True},
    "gradient_checkpointing_cpu_offload": {"checkpointing": True},
    "vae_tiling": {"tile_vae": True},
    "compile": {"compile": True},
    "torch_compile": {"compile": True},
    "fp8_base": {"storage": "float8"},
    "fp8_scaled": {"storage": "same", "quantise": "fp8"},
    **{name: {"attention": backend} for name, backend in ATTENTION.items()},
}
TRACKERS = {"tensorboard": ["tensorboard"], "wandb": ["wandb"], "all": ["tensorboard", "wandb"]}


def rules_with_flags(trainer: str, *, data: bool = False) -> Rules:
    """The rules of a trainer, and of the training options that all of kohya's have.

    `data`: its options of data may stand among them, for all data sets.
    """
    own, both = rules_of(trainer), rules_of("kohya_flags")
    common = own.sections["data"] if data else {}
    flags = {"flags": {**common, **both.sections["flags"], **own.sections["flags"]}}
    zeros = {**own.zeros, "flags": own.zeros["flags"] | both.zeros["flags"]}
    return replace(own, sections={**own.sections, **flags}, zeros=zeros)


class Flags:
    """Training options, in whichever table of the file they stand: its names mean nothing there."""

    def __init__(self, sheet: Sheet) -> None:
        """Open the file of `sheet`; BadLayout where it holds no table."""
        top = sheet.top("flags")
        plain = {name: value for name, value in top.written.items() if not isinstance(value, dict)}
        inner = [name for name in top.written if name not in plain]
        self.tables = [Table(sheet, "flags", plain, ())]
        self.tables += [top.table(name, "flags") for name in inner]
        self.sheet = sheet

    def __contains__(self, name: str) -> bool:
        """Whether the option is given anywhere."""
        return any(name in table for table in self.tables)

    def at(self, name: str) -> Table:
        """The table an option stands in; the outermost for one that is not given."""
        return next((table for table in self.tables if name in table), self.tables[0])

    def text(self, name: str, default: str = "") -> str:
        """An option that is text."""
        return self.at(name).text(name, default)

    def texts(self, name: str) -> list[str]:
        """An option that is a list of text."""
        return self.at(name).texts(name)

    def flag(self, name: str) -> bool:
        """An option that is true or false; false where it is not given."""
        return self.at(name).flag(name)

    def number(self, name: str, default: float = 0.0, *, low: float = -math.inf) -> float:
        """An option that is a number."""
        return self.at(name).number(name, default, low=low)

    def whole(self, name: str, default: int = 0, *, low: int = 0) -> int:
        """An option that is a whole number."""
        return self.at(name).whole(name, default, low=low)

    def say(self, name: str, kind: Kind, said: str) -> None:
        """Note what became of an option here, in place of what the rules say."""
        self.at(name).say(name, kind, said)

    def close(self) -> None:
        """Note what the rules say of all that nothing was said of."""
        for table in self.tables:
            table.close()


def training(
    flags: Flags, *, clips: int, batch: int, model: Mapping[str, Any], shift: float | None
) -> Sections:
    """The sections that follow from training options, and a note for each of them.

    Defaults that differ from ours are written out: 1600 steps, a learning rate of 2e-6, rank 4 with
    alpha 1. `clips` are those of an epoch, repeats counted; `model` is the section. Flow models get
    their noise levels, with `shift` where the options leave it open; None for other models.
    """
    steps = _steps(flags, math.ceil(clips / batch))
    return {
        "optimizer": _optimizer(flags, steps),
        "run": _run(flags, steps),
        "lora": _lora(flags),
        "memory": _memory(flags),
        "timesteps": _timesteps(flags, model, shift),
        "preview": _preview(flags),
    }


def _steps(flags: Flags, batches: int) -> int:
    epochs = flags.whole("max_train_epochs")
    if not epochs:
        return flags.whole("max_train_steps", 1600, low=1)
    if not batches:
        said = "how many clips an epoch has is not known before the videos are cut: set run.steps"
        flags.say("max_train_epochs", "no equivalent", said)
        return flags.whole("max_train_steps", 1600, low=1)
    if "max_train_steps" in flags:
        said = "max_train_epochs overrides it"
        flags.say("max_train_steps", "not needed", said)
    accumulate = flags.whole("gradient_accumulation_steps", 1, low=1)
    return epochs * math.ceil(batches / accumulate)


def _optimizer(flags: Flags, steps: int) -> dict[str, Any]:
    rate = "unet_lr" if "unet_lr" in flags else "learning_rate"
    if rate == "unet_lr" and "learning_rate" in flags:
        flags.say("learning_rate", "not needed", "unet_lr goes before it")
    found: dict[str, Any] = {"name": _name(flags), "lr": flags.number(rate, 2e-6)}
    options = _arguments(flags)
    if "weight_decay" in options:
        found["weight_decay"] = options.pop("weight_decay")
    if options:
        found["options"] = options
    accumulate = "gradient_accumulation_steps"
    if accumulate in flags:
        found["accumulate"] = flags.whole(accumulate, low=1)
    if "max_grad_norm" in flags:
        found["clip"] = flags.number("max_grad_norm", low=0.0)
    schedule = flags.text("lr_scheduler", "constant")
    if schedule in SCHEDULES:
        found["schedule"] = SCHEDULES[schedule]
    else:
        found["schedule"] = "cosine" if "cosine" in schedule else "linear"
        said = f"there is no such schedule; optimizer.schedule = {found['schedule']!r} stands in"
        flags.say("lr_scheduler", "no equivalent", said)
    warmup = flags.number("lr_warmup_steps", low=0.0)
    if warmup and schedule != "constant":
        found["warmup"] = round(warmup * steps) if warmup < 1 else int(warmup)
    elif warmup:
        said = 'lr_scheduler = "constant" does not warm up there: optimizer.warmup stays 0'
        flags.say("lr_warmup_steps", "not needed", said)
    least = "lr_scheduler_min_lr_ratio"
    if least in flags and found["schedule"] != "constant":
        found["final"] = flags.number(least, low=0.0)
    return found


def _name(flags: Flags) -> str:
    for option, name in (("use_8bit_adam", "adamw8bit"), ("use_lion_optimizer", "lion")):
        if flags.flag(option):
            return name
    table = flags.at("optimizer_type")
    written = table.text("optimizer_type")
    if "." in written:
        return written
    if written.lower() in OPTIMIZERS:
        return OPTIMIZERS[written.lower()]
    said = "there is no such optimizer; adamw stands in, optimizer.name takes any import path"
    table.say("optimizer_type", "no equivalent", said)
    return "adamw"


def _arguments(flags: Flags) -> dict[str, Any]:
    """`["betas=0.9,0.99", "weight_decay=0.1"]` as values."""
    table = flags.at("optimizer_args")
    found: dict[str, Any] = {}
    for each in table.texts("optimizer_args"):
        name, equals, value = each.partition("=")
        if not equals:
            raise table.bad("optimizer_args", f"{each!r} should be name=value")
        try:
            parsed = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            parsed = value
        found[name.strip()] = list(parsed) if isinstance(parsed, tuple) else parsed
    return found


def _run(flags: Flags, steps: int) -> dict[str, Any]:
    saved = flags.whole("save_every_n_steps")
    found: dict[str, Any] = {"steps": steps, "save_every": saved}
    if "seed" in flags:
        found["seed"] = flags.whole("seed")
    precision = _precision(flags)
    if precision != "float32":
        found["precision"] = precision
    if saved and "save_last_n_steps" in flags:
        found["keep"] = max(1, flags.whole("save_last_n_steps") // saved)
    folder = flags.text("output_dir")
    name = flags.text("output_name")
    if folder or name:
        found["output"] = "/".join(part for part in (folder.replace("\\", "/"), name) if part)
    tracker = flags.text("log_with")
    if tracker in TRACKERS:
        found["trackers"] = TRACKERS[tracker]
    return found


def _precision(flags: Flags) -> str:
    return PRECISIONS[
        flags.at("mixed_precision").choice("mixed_precision", tuple(PRECISIONS), "no")
    ]


def dtype_of(flags: Flags) -> dict[str, Any]:
    """`model.dtype`: these trainers hold the frozen model in the precision they compute in."""
    precision = _precision(flags)
    return {} if precision == "float32" else {"dtype": precision}


def _lora(flags: Flags) -> dict[str, Any]:
    module = flags.text("network_module")
    arguments = flags.texts("network_args")
    algorithms = [each.partition("=")[2] for each in arguments if each.startswith("algo=")]
    named = [*algorithms, module.rsplit(".", 1)[-1]]
    kind = next((kind for kind in ("loha", "lokr") if kind in named), "lora")
    found: dict[str, Any] = {} if kind == "lora" else {"kind": kind}
    found["rank"] = flags.whole("network_dim", 4, low=1)
    found["alpha"] = flags.number("network_alpha", 1.0) or float(found["rank"])
    dropout = flags.number("network_dropout", low=0.0)
    if dropout:
        found["dropout"] = dropout
    source = flags.text("network_weights")
    if source:
        there = place(source, flags.sheet.written.path.absolute().parent)[0]
        found["source"] = str(there or source)
    return found


def _memory(flags: Flags) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option, keys in SWITCHES.items():
        if flags.flag(option):
            found |= keys
    if "blocks_to_swap" in flags:
        found["swap_blocks"] = flags.whole("blocks_to_swap")
    return {name: value for name, value in found.items() if value != "same"}


def _timesteps(flags: Flags, model: Mapping[str, Any], shift: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option, key in (("min_timestep", "low"), ("max_timestep", "high")):
        if option in flags:
            found[key] = min(1.0, flags.number(option, low=0.0) / 1000)
    if flags.number("min_snr_gamma"):
        found["min_snr"] = flags.number("min_snr_gamma")
    return found if shift is None else found | _density(flags, model, shift)


def _density(flags: Flags, model: Mapping[str, Any], shift: float) -> dict[str, Any]:
    """Noise levels of flow models: the ways of drawing them that both have."""
    table = flags.at("timestep_sampling")
    way = table.text("timestep_sampling", "sigma")
    weighting = flags.text("weighting_scheme", "none")
    option = "training_shift" if "training_shift" in flags else "discrete_flow_shift"
    shifted = {"shift": flags.number(option, shift)}
    spread = {
        "density": "logit_normal",
        "std": flags.number("sigmoid_scale", 1.0),
    }
    counts = {"weighting": weighting} if weighting in ("sigma_sqrt", "cosmap") else {}
    if way == "uniform":
        return {"density": "uniform", "shift": 1.0} | counts
    if way == "sigmoid":
        return spread | {"shift": 1.0} | counts
    if way == "shift":
        return spread | shifted | counts
    if way.endswith("_shift"):
        same, said = by_size(model, LAWS[way]) if way in LAWS else (False, OTHER)
        table.say("timestep_sampling", "mapped" if same else "no equivalent", said)
        return spread | {"shift": "auto"} | counts
    if way != "sigma":
        said = "there is no such density; the variant's own stands in (timesteps.density)"
        table.say("timestep_sampling", "no equivalent", said)
        return counts
    if weighting == "logit_normal":
        drawn = {
            "density": "logit_normal",
            "mean": flags.number("logit_mean"),
            "std": flags.number("logit_std", 1.0),
        }
    elif weighting == "mode":
        drawn = {"density": "mode", "scale": flags.number("mode_scale", 1.29)}
    else:
        drawn = {"density": "uniform"}
    return drawn | shifted | counts


def _preview(flags: Flags) -> dict[str, Any]:
    every = flags.whole("sample_every_n_steps")
    table = flags.at("sample_prompts")
    written = table.text("sample_prompts")
    if not written:
        return {}
    found = place(written, flags.sheet.written.path.absolute().parent)[0]
    prompts = _prompts(found) if found and found.suffix == ".txt" else []
    if not prompts:
        said = f"{written} is no .txt with prompts that is there; write them into preview.prompts"
        table.say("sample_prompts", "no equivalent", said)
        return {}
    return {"every": every, "prompts": prompts}


def _prompts(file: Path) -> list[str]:
    """The prompts of a file, one a line, without the options that follow ` --`."""
    try:
        lines = [line.strip() for line in read_text(file).splitlines()]
    except BadCaption:
        return []
    return [line.split(" --")[0].strip() for line in lines if line and not line.startswith("#")]


def merged(*several: Mapping[str, Mapping[str, Any]]) -> Sections:
    """Sections laid over each other, the later ones last; empty ones left out."""
    found: Sections = {}
    for sections in several:
        for name, table in sections.items():
            found[name] = found.get(name, {}) | dict(table)
    return {name: table for name, table in found.items() if table}
