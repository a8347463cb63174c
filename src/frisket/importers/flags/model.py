"""Which model kohya's trainers train: by script, network module, task, and the names of weights."""

from typing import Any

from frisket.importers.flags.options import Flags
from frisket.importers.flags.run import map_dtype
from frisket.importers.models import (
    ImportedModel,
    describe_missing,
    find_by_checkpoint,
    find_by_weights,
    find_model,
    map_source,
    read_models,
)
from frisket.importers.options import drop_unset

CHECKPOINT = "pretrained_model_name_or_path"
LARGE = 768 * 768  # pixels: from here on a checkpoint that nothing tells is taken for SDXL
HINTS = {"ae": "flux_train_network", "clip_g": "sd3_train_network"}
OWN_OPTIONS = {
    "cache_text_encoder_outputs": "sdxl_train_network"
}  # options that one of them has alone
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
TASK_SWITCHES = {"edit_plus": "edit-2509", "edit": "edit"}  # switches that stand for a task


def map_sd_scripts_model(flags: Flags, script: str, pixels: int) -> dict[str, Any]:
    """`[model]` of sd-scripts; `pixels` of its largest data set, which tell where nothing does."""
    module = flags.text("network_module").rpartition(".")[2]
    if not module and not script and CHECKPOINT not in flags:
        return {}
    if flags.flag("v2"):
        return _note_missing(flags, "v2", "stable_diffusion_2")
    kind = _find_kind(flags, script, module)
    checkpoint = flags.text(CHECKPOINT)
    if kind is None:
        return _note_missing(flags, "network_module", module or script)
    model, guessed = _find_model(kind, checkpoint, pixels)
    if model is None:
        return _note_missing(flags, CHECKPOINT, checkpoint)
    if kind and kind == module:
        message = "is model.family and model.variant here, and lora.kind"
        flags.say("network_module", "mapped", message)
    section = {"family": model.family} | drop_unset(variant=model.variant)
    if flags.flag("v_parameterization"):
        section = _with_v(flags, section)
    return section | _map_source(flags, CHECKPOINT, guessed) | map_dtype(flags)


def _find_model(kind: str, checkpoint: str, pixels: int) -> tuple[ImportedModel | None, str]:
    """The model, None where Frisket has none, and what to say where its size alone tells."""
    if kind:
        return find_model("kohya", kind, [checkpoint]), ""
    model = find_by_checkpoint([checkpoint])
    if model is not None:
        return (None if isinstance(model, str) else model), ""
    variant = "sdxl" if pixels >= LARGE else "sd15"
    return ImportedModel("stable_diffusion", variant), _guess(variant, pixels)


def _find_kind(flags: Flags, script: str, module: str) -> str | None:
    """The row of the table: "" where none tells, None for a model that is not there."""
    rows = read_models()["kohya"]
    stem = script.removesuffix(".py")
    for name in (module, stem):
        if name in rows:
            return name
        if any(part in name for part in ("lumina", "anima", "hunyuan")):
            return None
    hinted = {**HINTS, **OWN_OPTIONS}
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
    message = "of the models here only SDXL has a variant that predicts v"
    flags.say("v_parameterization", "no equivalent", message)
    return model


def _map_source(flags: Flags, option: str, guessed: str = "") -> dict[str, Any]:
    """`model.source`, with a note on the option that names the weights."""
    if option not in flags:
        if guessed:
            flags.say(option, "no equivalent", guessed)
        return {}
    source, kind, message = map_source(flags.at(option), option, hub=True)
    if guessed:
        kind, message = "no equivalent", f"{message}. It {guessed}"
    flags.say(option, kind, message)
    return drop_unset(source=source)


def _note_missing(flags: Flags, option: str, kind: str) -> dict[str, Any]:
    flags.say(option, "no equivalent", describe_missing(kind.replace("\\", "/").rpartition("/")[2]))
    return map_dtype(flags)


def map_musubi_model(flags: Flags, script: str) -> dict[str, Any]:
    """`[model]` of musubi-tuner, by network module, task and the names of its weights."""
    module = flags.text("network_module").rpartition(".")[2]
    if not module and not script and "dit" not in flags:
        return {}
    option, task = _read_task(flags)
    row = _find_row(module, script.removesuffix(".py"), task)
    names = [flags.text("dit"), flags.text("dit_high_noise")]
    row = row or find_by_weights(names)
    if row is None:
        message = (
            "it does not name the model, or one that is not here: set [model] family and variant"
        )
        flags.say("network_module", "no equivalent", message)
        return map_dtype(flags)
    task = task or TASKS.get(row, "")
    kind = f"{row}:{task}" if row in TASKS else row
    model = find_model("musubi", kind, [name for name in names if name])
    if model is None:
        flags.say(option if task else "network_module", "no equivalent", describe_missing(kind))
        return map_dtype(flags)
    section = {"family": model.family} | drop_unset(variant=model.variant)
    if model.variant.endswith("a14b"):
        section |= _map_expert(flags, model)
    _tell_weights(flags)
    return section | map_dtype(flags)


def _read_task(flags: Flags) -> tuple[str, str]:
    for name, task in TASK_SWITCHES.items():
        if flags.flag(name):
            return name, task
    option = "task" if "task" in flags else "model_version"
    return option, flags.text(option)


def _find_row(module: str, script: str, task: str) -> str | None:
    """The network module of the table: LoHa, LoKr and LyCORIS serve every model."""
    modules = {row.partition(":")[0] for row in read_models()["musubi"]}
    if module in modules:
        return module
    if script in SCRIPTS:
        return SCRIPTS[script]
    return next((row for row in TASKS if f"{row}:{task}" in read_models()["musubi"]), None)


def _map_expert(flags: Flags, model: ImportedModel) -> dict[str, Any]:
    """Which of Wan 2.2's two is trained: both, or the one that the name or the noise tells."""
    if "dit_high_noise" in flags:
        return {}
    expert = model.expert or ("high" if flags.number("min_timestep") >= 800 else "low")
    by = "the name of its file" if model.expert else "min_timestep"
    message = f"one expert is trained, by {by} it is model.experts = {expert!r}"
    flags.say("dit", "mapped", f"{message}; its file is not used: set model.source")
    return {"experts": expert}


def _tell_weights(flags: Flags) -> None:
    """Musubi-tuner's weights are in the layouts of their makers, which are not all read here."""
    if "dit" in flags:
        message = "model.source is left empty, which takes the variant's own from the hub"
        flags.say("dit", "no equivalent", f"is a file of the denoiser alone: {message}")
