"""SimpleTuner's options of training, as sections of a Frisket configuration."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from frisket.data.layout_files import Written, peek, read_config
from frisket.data.layout_folders import stepped
from frisket.data.layout_models import dtype_of, model_of, quantised, with_v, without
from frisket.data.layout_options import Table, filled
from frisket.data.noise_levels.simpletuner import timesteps_of
from frisket.data.shells.simpletuner_env import read_environment
from frisket.data.toml_lines import Key

POINTER = "data_backend_config"
OPTIMIZERS = {
    "adamw_bf16": "adamw",
    "optimi-adamw": "adamw",
    "adafactor": "adafactor",
    "prodigy": "prodigy",
    "adamw_schedulefree": "schedulefree",
    "optimi-lion": "lion",
    "bnb-lion": "lion",
    "optimi-sgd": "sgd",
}
QUANTISED = {
    "no_change": "",
    "nf4-bnb": "nf4",
    **dict.fromkeys(("int8-quanto", "int8-torchao", "int8dq-torchao", "int8-sdnq"), "int8"),
    "fp8-int4-*": "nf4",
    "fp8*": "fp8",
}
SCHEDULES = {
    "constant": "constant",
    "constant_with_warmup": "constant",
    "linear": "linear",
    "cosine": "cosine",
}
WEIGHTS = (  # what holds the denoiser, one of its own first
    *("pretrained_transformer_model_name_or_path", "pretrained_unet_model_name_or_path"),
    "pretrained_model_name_or_path",
)
ERRORS = {"l2": "mse", "mse": "mse", "huber": "huber", "smooth_l1": "smooth_l1"}


def without_dashes(written: Written) -> Written:
    """Options as they are named, without the dashes of a command line."""
    if not isinstance(written.tree, dict):
        return written
    tree = {_bare(name): value for name, value in written.tree.items()}
    lines: dict[Key, int] = {
        (_bare(str(key[0])), *key[1:]): line for key, line in written.lines.items()
    }
    return Written(written.path, tree, lines)


def _bare(name: str) -> str:
    return name.removeprefix("--").replace("-", "_")


def settings_beside(path: Path) -> Written:
    """The settings of the trainer that lie beside a list of data sets; empty where none do."""
    config, env = path.with_name("config.json"), path.with_name("config.env")
    tree = peek(config)
    if isinstance(tree, dict) and {POINTER, f"--{POINTER}"} & set(tree):
        return without_dashes(read_config(config))
    if not env.is_file():
        return Written(path, {}, {})
    return read_environment(env)


def cut_of(kinds: Collection[str]) -> dict[str, Any]:
    """[curve] of segmentation masks, of which whatever is not black teaches fully."""
    return {"threshold": 0.0} if set(kinds) == {"segmentation"} else {}


def sections_of(
    trainer: Table, kinds: Collection[str], seen: float
) -> dict[str, Mapping[str, Any]]:
    """What follows from config.json; `kinds` of masks are used, `seen` clips an epoch."""
    model, bits = _model(trainer)
    sections: dict[str, dict[str, Any]] = {
        "model": model,
        "losses": _loss(trainer, masked=bool(kinds)),
        "curve": _curve(trainer, kinds),
        "timesteps": timesteps_of(trainer, model),
        "lora": _lora(trainer),
        "optimizer": _optimizer(trainer),
        "memory": filled(checkpointing=trainer.flag("gradient_checkpointing")) | bits,
        "run": _run(trainer, seen),
    }
    return {name: section for name, section in sections.items() if section}


def _model(trainer: Table) -> tuple[dict[str, Any], dict[str, Any]]:
    """[model], and what of [memory] belongs to it."""
    if trainer.text("model_type", "lora") != "lora":
        said = "Frisket trains an adapter: [lora] sets its size"
        trainer.say("model_type", "no equivalent", said)
    family, flavour = trainer.text("model_family"), trainer.text("model_flavour")
    if not family:
        for name in (name for name in WEIGHTS if name in trainer):
            said = "there is no model_family to tell which model it is: set [model]"
            trainer.say(name, "no equivalent", f"{said} (`frisket families`)")
        return {}, {}
    kind = f"{family}:{flavour}" if flavour else family
    model = model_of(
        trainer,
        "model_family",
        kind,
        trainer="simpletuner",
        weights=[(trainer, name) for name in WEIGHTS],
    )
    if not model:
        without(trainer, "model_flavour", "revision", "base_model_precision")
        return {}, {}
    if trainer.text("prediction_type") == "v_prediction":
        model = with_v(model, trainer, "prediction_type")
    bits = quantised(trainer, "base_model_precision", QUANTISED)
    dtype, revision = dtype_of(trainer, "mixed_precision", "bf16"), trainer.text("revision")
    return model | filled(revision=revision, dtype=dtype), bits


def _loss(trainer: Table, *, masked: bool) -> dict[str, Any]:
    written = trainer.text("loss_type", "l2").lower()
    kind = ERRORS.get(written, "mse")
    losses: dict[str, Any] = {"compat": "simpletuner"} if masked else {}
    if written not in ERRORS or (masked and kind != "mse"):
        said = f"the masked loss of {trainer.sheet.rules.title} is taken with mse here"
        trainer.say("loss_type", "no equivalent", said if masked else "mse is taken")
    elif kind != "mse":
        losses["denoise"] = {"kind": kind, "delta": trainer.number("huber_c", 0.1)}
    return losses


def _curve(trainer: Table, kinds: Collection[str]) -> dict[str, Any]:
    share = trainer.number("masked_loss_probability", 1, low=0)
    if not kinds:
        trainer.say("masked_loss_probability", "not needed", "there are no masks")
        return {}
    if share < 1 and "segmentation" not in kinds:
        said = (
            "it counts for segmentation masks alone and did nothing; here it counts for every mask."
            " Set curve.unmasked_probability = 0 for what your runs really did"
        )
        trainer.defect("masked_loss_probability", said)
    return cut_of(kinds) | filled(unmasked_probability=1 - min(share, 1) if share < 1 else None)


def _lora(trainer: Table) -> dict[str, Any]:
    kind = trainer.text("lora_type", "standard").lower()
    if kind != "standard":
        said = "a plain LoRA is trained: set lora.kind (lora, dora, loha, lokr) and its rank"
        trainer.say("lora_type", "no equivalent", said)
        return {}
    rank = trainer.whole("lora_rank", 16, low=1)
    return filled(
        kind="dora" if trainer.flag("use_dora") else None,
        rank=rank,
        alpha=trainer.number("lora_alpha") or rank,
        dropout=trainer.number("lora_dropout", 0.1),
        source=trainer.text("init_lora"),
    )


def _optimizer(trainer: Table) -> dict[str, Any]:
    written = trainer.text("optimizer").lower()
    name = OPTIMIZERS.get(written) or ("adamw8bit" if "adamw8bit" in written else None)
    if written and name is None:
        said = "no alias of it here: set optimizer.name to an alias or the import path of its class"
        trainer.say("optimizer", "no equivalent", said)
    schedule = trainer.text("lr_scheduler", "constant").lower()
    if schedule not in SCHEDULES:
        said = "optimizer.schedule has constant, linear and cosine: linear is nearest to it"
        trainer.say("lr_scheduler", "no equivalent", said)
    decay = trainer.number("adam_weight_decay") if "adam_weight_decay" in trainer else None
    return filled(
        name=name,
        lr=trainer.number("learning_rate", 4e-7),
        weight_decay=decay,
        schedule=SCHEDULES.get(schedule, "linear"),
        warmup=trainer.whole("lr_warmup_steps"),
        clip=trainer.number("max_grad_norm", 2, low=0),
        accumulate=trainer.whole("gradient_accumulation_steps", 1, low=1),
        ema=trainer.number("ema_decay", 0.995) if trainer.flag("use_ema") else None,
    )


def _run(trainer: Table, seen: float) -> dict[str, Any]:
    batch = trainer.whole("train_batch_size", 4, low=1)
    accumulate = trainer.whole("gradient_accumulation_steps", 1, low=1)
    steps = trainer.whole("max_train_steps")
    if not steps and trainer.number("num_train_epochs"):
        steps = stepped(trainer, "num_train_epochs", seen, batch * accumulate)
    named = "checkpoint_step_interval" in trainer
    saves = trainer.whole("checkpoint_step_interval" if named else "checkpointing_steps", 500)
    return filled(
        batch=batch,
        steps=steps or None,
        seed=trainer.whole("seed") if "seed" in trainer else None,
        save_every=saves,
        keep=trainer.whole("checkpoints_total_limit") or None,
        precision=dtype_of(trainer, "mixed_precision", "bf16"),
    )
