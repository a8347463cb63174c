"""SimpleTuner's options of training, as sections of a Frisket configuration."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from frisket.disk.toml_lines import Key
from frisket.importers.files import Written, peek, read_config
from frisket.importers.models import (
    map_dtype,
    map_model,
    map_quantisation,
    note_without_model,
    with_v,
)
from frisket.importers.noise import is_flow
from frisket.importers.options import OptionTable, Sheet, drop_unset
from frisket.importers.shells.simpletuner_env import read_environment
from frisket.importers.trainers.simpletuner.adapter import adapter_of, is_adapter
from frisket.importers.trainers.simpletuner.noise_levels import timesteps_of
from frisket.importers.trainers.simpletuner.optimizer import read_optimizer
from frisket.importers.trainers.simpletuner.run import length_of, preview_of, run_of, steps_of

POINTER = "data_backend_config"
QUANTISED = {
    "no_change": "",
    "nf4-bnb": "nf4",
    **dict.fromkeys(("int8-quanto", "int8-torchao", "int8dq-torchao", "int8-sdnq"), "int8"),
    "fp8-int4-*": "nf4",
    "fp8*": "fp8",
}
WEIGHTS = (  # what holds the denoiser, one of its own first
    *("pretrained_transformer_model_name_or_path", "pretrained_unet_model_name_or_path"),
    "pretrained_model_name_or_path",
)
ERRORS = {"l2": "mse", "mse": "mse", "huber": "huber", "smooth_l1": "smooth_l1"}


def strip_dashes(document: Written) -> Written:
    """Options as they are named, without the dashes of a command line."""
    if not isinstance(document.tree, dict):
        return document
    tree = {_normalise_name(name): value for name, value in document.tree.items()}
    lines: dict[Key, int] = {
        (_normalise_name(str(key[0])), *key[1:]): line for key, line in document.lines.items()
    }
    return Written(document.path, tree, lines)


def _normalise_name(name: str) -> str:
    return name.removeprefix("--").replace("-", "_")


def read_settings(path: Path) -> Written:
    """The settings of the trainer that lie beside a list of data sets; empty where none do."""
    config, env = path.with_name("config.json"), path.with_name("config.env")
    tree = peek(config)
    if isinstance(tree, dict) and {POINTER, f"--{POINTER}"} & set(tree):
        return strip_dashes(read_config(config))
    if not env.is_file():
        return Written(path, {}, {})
    return read_environment(env)


def cut_of(kinds: Collection[str]) -> dict[str, Any]:
    """[curve] of segmentation masks, of which whatever is not black teaches fully."""
    return {"threshold": 0.0} if set(kinds) == {"segmentation"} else {}


def sections_of(
    trainer: OptionTable, kinds: Collection[str], epoch_clips: float, pass_clips: float
) -> tuple[dict[str, Mapping[str, Any]], Sheet | None]:
    """What follows from config.json, and the sheet of a file of LyCORIS' options it names.

    `kinds` of masks are used; `epoch_clips` clips go by in an epoch there, `pass_clips` in a pass
    here.
    """
    model, bits = _read_model(trainer)
    length = length_of(trainer, epoch_clips, pass_clips)
    lora, sheet = adapter_of(trainer)
    sections: dict[str, dict[str, Any]] = {
        "model": model,
        "losses": _read_loss(trainer, masked=bool(kinds)),
        "curve": _read_curve(trainer, kinds),
        "timesteps": timesteps_of(trainer, model),
        "noise": _read_noise(trainer, model),
        "lora": lora,
        "optimizer": read_optimizer(
            trainer, steps_of(trainer, length), adapter=is_adapter(trainer)
        ),
        "memory": _read_memory(trainer) | bits,
        "preview": preview_of(trainer),
        "run": run_of(trainer, length),
    }
    return {name: section for name, section in sections.items() if section}, sheet


def _read_memory(trainer: OptionTable) -> dict[str, Any]:
    """Checkpointing, which is on by default there, and what is compiled."""
    on = trainer.flag("gradient_checkpointing", default=True)
    trainer.say("gradient_checkpointing", "mapped", "is memory.checkpointing here", True)
    compiled = trainer.text("dynamo_backend", "no").lower() not in ("", "no")
    return drop_unset(checkpointing=on, compile=compiled)


def _read_noise(trainer: OptionTable, model: Mapping[str, Any]) -> dict[str, Any]:
    """Its offset, which models of flow do not get, and by default a quarter of the steps."""
    names = ("noise_offset", "noise_offset_probability")
    if not trainer.flag("offset_noise") or (model and is_flow(model)):
        message = "models of flow get none there" if trainer.flag("offset_noise") else "is off"
        for name in ("offset_noise", *names):
            trainer.say(name, "not needed", message)
        return {}
    share = trainer.number("noise_offset_probability", 0.25, low=0)
    if share < 1:
        message = f"is laid over in {share:.0%} of the steps there; noise.offset is in all: set it"
        for name in ("offset_noise", *names):
            trainer.say(name, "no equivalent", message)
        return {}
    for name in ("offset_noise", *names):
        trainer.say(name, "mapped", "is noise.offset here")
    return {"offset": trainer.number("noise_offset", 0.1, low=0)}


def _read_model(trainer: OptionTable) -> tuple[dict[str, Any], dict[str, Any]]:
    """[model], and what of [memory] belongs to it."""
    family, flavour = trainer.text("model_family"), trainer.text("model_flavour")
    if not family:
        for name in (name for name in WEIGHTS if name in trainer):
            message = "there is no model_family to tell which model it is: set [model]"
            trainer.say(name, "no equivalent", f"{message} (`frisket families`)")
        return {}, {}
    kind = f"{family}:{flavour}" if flavour else family
    model = map_model(
        trainer,
        "model_family",
        kind,
        trainer="simpletuner",
        weights=[(trainer, name) for name in WEIGHTS],
    )
    if not model:
        note_without_model(trainer, "model_flavour", "revision", "base_model_precision")
        return {}, {}
    if trainer.text("prediction_type") == "v_prediction":
        model = with_v(model, trainer, "prediction_type")
    bits = map_quantisation(trainer, "base_model_precision", QUANTISED)
    dtype, revision = map_dtype(trainer, "mixed_precision", "bf16"), trainer.text("revision")
    return model | drop_unset(revision=revision, dtype=dtype), bits


def _read_loss(trainer: OptionTable, *, masked: bool) -> dict[str, Any]:
    error = trainer.text("loss_type", "l2").lower()
    kind = ERRORS.get(error, "mse")
    losses: dict[str, Any] = {"compat": "simpletuner"} if masked else {}
    if error not in ERRORS or (masked and kind != "mse"):
        message = f"the masked loss of {trainer.sheet.rules.title} is taken with mse here"
        trainer.say("loss_type", "no equivalent", message if masked else "mse is taken")
    elif kind != "mse":
        losses["denoise"] = {"kind": kind, "delta": trainer.number("huber_c", 0.1)}
    return losses


def _read_curve(trainer: OptionTable, kinds: Collection[str]) -> dict[str, Any]:
    share = trainer.number("masked_loss_probability", 1, low=0)
    if not kinds:
        trainer.say("masked_loss_probability", "not needed", "there are no masks")
        return {}
    if share < 1 and "segmentation" not in kinds:
        message = (
            "it counts for segmentation masks alone and did nothing; here it counts for every mask."
            " Set curve.unmasked_probability = 0 for what your runs really did"
        )
        trainer.defect("masked_loss_probability", message)
    return cut_of(kinds) | drop_unset(unmasked_probability=1 - min(share, 1) if share < 1 else None)
