"""Which model kohya's trainers train: by script, network module, task, and the names of weights."""

from typing import Any

from frisket.importers.flags.options import Flags
from frisket.importers.flags.run import dtype_of
from frisket.importers.models import (
    Model,
    by_checkpoint,
    by_weights,
    find,
    missing,
    models,
    source_of,
)
from frisket.importers.options import filled

CHECKPOINT = "pretrained_model_name_or_path"
LARGE = 768 * 768  # pixels: from here on a checkpoint that nothing tells is taken for SDXL
HINTS = {"ae": "flux_train_network", "clip_g": "sd3_train_network"}
OWN = {"cache_text_encoder_outputs": "sdxl_train_network"}  # options that one of them has alone
SCRIPTS = {  # of musubi-tuner, and their network modules
    "wan_train_network": "lora_wan",
    "hv_train_network": "lora",
    "hv_1_5_train_network": "lora_hv_1_5",
    "flux_kontext_train_network": "lora_flux",
    "flux_2_train_network": "lora_flux_2",
    "qwen_image_train_network": "lora_qwen_image",
    "zimage_train_network": "lora_zimage",
}
TASKS = {  # what counts where no task is named
    "lora_wan": "t2v-14B",
    "lora_hv_1_5": "t2v",
    "lora_flux_2": "dev",
    "lora_qwen_image": "original",
}
ASKED = {"edit_plus": "edit-2509", "edit": "edit"}  # switches that stand for a task


def of_sd_scripts(flags: Flags, script: str, pixels: int) -> dict[str, Any]:
    """`[model]` of sd-scripts; `pixels` of its largest data set, which tell where nothing does."""
    module = flags.text("network_module").rpartition(".")[2]
    if not module and not script and CHECKPOINT not in flags:
        return {}
    if flags.flag("v2"):
        return _none(flags, "v2", "stable_diffusion_2")
    kind = _kind_of(flags, script, module)
    written = flags.text(CHECKPOINT)
    if kind is None:
        return _none(flags, "network_module", module or script)
    model, guessed = _find_model(kind, written, pixels)
    if model is None:
        return _none(flags, CHECKPOINT, written)
    if kind and kind == module:
        said = "is model.family and model.variant here, and lora.kind"
        flags.say("network_module", "mapped", said)
    found = {"family": model.family} | filled(variant=model.variant)
    if flags.flag("v_parameterization"):
        found = _with_v(flags, found)
    return found | _source(flags, CHECKPOINT, guessed) | dtype_of(flags)


def _find_model(kind: str, checkpoint: str, pixels: int) -> tuple[Model | None, str]:
    """The model, None where Frisket has none, and what to say where its size alone tells."""
    if kind:
        return find("kohya", kind, [checkpoint]), ""
    model = by_checkpoint([checkpoint])
    if model is not None:
        return (None if isinstance(model, str) else model), ""
    variant = "sdxl" if pixels >= LARGE else "sd15"
    return Model("stable_diffusion", variant), _guess(variant, pixels)


def _kind_of(flags: Flags, script: str, module: str) -> str | None:
    """The row of the table: "" where none tells, None for a model that is not there."""
    rows = models()["kohya"]
    stem = script.removesuffix(".py")
    for name in (module, stem):
        if name in rows:
            return name
        if any(part in name for part in ("lumina", "anima", "hunyuan")):
            return None
    hinted = {**HINTS, **OWN}
    return next((row for option, row in hinted.items() if option in flags), "")


def _guess(variant: str, pixels: int) -> str:
    side = round(pixels**0.5)
    return (
        f"cannot be told from the name: {variant} is taken, as it trains at {side} x {side} pixels;"
        " if it is another, say --variant (sd15, sdxl, sdxl-v)"
    )


def _with_v(flags: Flags, model: dict[str, Any]) -> dict[str, Any]:
    if model.get("variant", "").startswith("sdxl"):
        flags.say("v_parameterization", "mapped", "is model.variant = sdxl-v here")
        return {**model, "variant": "sdxl-v"}
    said = "of the models here only SDXL has a variant that predicts v"
    flags.say("v_parameterization", "no equivalent", said)
    return model


def _source(flags: Flags, option: str, guessed: str = "") -> dict[str, Any]:
    """`model.source`, with a note on the option that names the weights."""
    if option not in flags:
        if guessed:
            flags.say(option, "no equivalent", guessed)
        return {}
    source, kind, said = source_of(flags.at(option), option, hub=True)
    if guessed:
        kind, said = "no equivalent", f"{said}. It {guessed}"
    flags.say(option, kind, said)
    return filled(source=source)


def _none(flags: Flags, option: str, kind: str) -> dict[str, Any]:
    flags.say(option, "no equivalent", missing(kind.replace("\\", "/").rpartition("/")[2]))
    return dtype_of(flags)


def of_musubi(flags: Flags, script: str) -> dict[str, Any]:
    """`[model]` of musubi-tuner, by network module, task and the names of its weights."""
    module = flags.text("network_module").rpartition(".")[2]
    if not module and not script and "dit" not in flags:
        return {}
    option, task = _task(flags)
    row = _row(module, script.removesuffix(".py"), task)
    names = [flags.text("dit"), flags.text("dit_high_noise")]
    row = row or by_weights(names)
    if row is None:
        said = "it does not name the model, or one that is not here: set [model] family and variant"
        flags.say("network_module", "no equivalent", said)
        return dtype_of(flags)
    task = task or TASKS.get(row, "")
    kind = f"{row}:{task}" if row in TASKS else row
    model = find("musubi", kind, [name for name in names if name])
    if model is None:
        flags.say(option if task else "network_module", "no equivalent", missing(kind))
        return dtype_of(flags)
    found = {"family": model.family} | filled(variant=model.variant)
    if model.variant.endswith("a14b"):
        found |= _expert(flags, model)
    _tell_weights(flags)
    return found | dtype_of(flags)


def _task(flags: Flags) -> tuple[str, str]:
    for name, task in ASKED.items():
        if flags.flag(name):
            return name, task
    option = "task" if "task" in flags else "model_version"
    return option, flags.text(option)


def _row(module: str, script: str, task: str) -> str | None:
    """The network module of the table: LoHa, LoKr and LyCORIS serve every model."""
    known = {row.partition(":")[0] for row in models()["musubi"]}
    if module in known:
        return module
    if script in SCRIPTS:
        return SCRIPTS[script]
    return next((row for row in TASKS if f"{row}:{task}" in models()["musubi"]), None)


def _expert(flags: Flags, model: Model) -> dict[str, Any]:
    """Which of Wan 2.2's two is trained: both, or the one that the name or the noise tells."""
    if "dit_high_noise" in flags:
        return {}
    expert = model.expert or ("high" if flags.number("min_timestep") >= 800 else "low")
    by = "the name of its file" if model.expert else "min_timestep"
    said = f"one expert is trained, by {by} it is model.experts = {expert!r}"
    flags.say("dit", "mapped", f"{said}; its file is not used: set model.source")
    return {"experts": expert}


def _tell_weights(flags: Flags) -> None:
    """Musubi-tuner's weights are in the layouts of their makers, which are not all read here."""
    if "dit" in flags:
        said = "model.source is left empty, which takes the variant's own from the hub"
        flags.say("dit", "no equivalent", f"is a file of the denoiser alone: {said}")
