"""OneTrainer's options of training, as sections of a Frisket configuration."""

from collections.abc import Mapping
from typing import Any

from frisket.importers.models import map_dtype, map_model, map_quantisation, with_v
from frisket.importers.options import OptionTable, drop_unset
from frisket.importers.prompt_reading import map_onetrainer_reading
from frisket.importers.trainers.onetrainer.adapter import adapter_of, is_adapter
from frisket.importers.trainers.onetrainer.noise_levels import timesteps_of
from frisket.importers.trainers.onetrainer.optimizer import read_optimizer
from frisket.importers.trainers.onetrainer.run import RunLength, run_of, validation_of
from frisket.importers.trainers.onetrainer.words import (
    DENSITIES,
    SCALERS,
    WEIGHTINGS,
    find_multiplier,
    settle,
    word_of,
)

FLOOR = 0.1  # its default of unmasked_weight
MODEL = "STABLE_DIFFUSION_15"  # its default
DIFFUSION = ("STABLE_DIFFUSION_1", "STABLE_DIFFUSION_2", "STABLE_DIFFUSION_XL", "WUERSTCHEN")
FILLING = (  # models that are shown the mask: of them no loss is masked
    *("STABLE_DIFFUSION_15_INPAINTING", "STABLE_DIFFUSION_20_INPAINTING"),
    *("STABLE_DIFFUSION_XL_10_BASE_INPAINTING", "FLUX_FILL_DEV_1"),
)
QUANTISED = {
    **dict.fromkeys(("", "none", "bfloat_16", "float_16", "float_32", "tfloat_32"), ""),
    **{"float_8": "fp8", "float_w8a8*": "fp8", "int_8": "int8", "int_w8a8*": "int8"},
    "nfloat_4": "nf4",
}
MASKED = (
    *("unmasked_weight", "unmasked_probability", "normalize_masked_area_loss"),
    "masked_prior_preservation_weight",
)
STRENGTHS = {
    "mse": "mse_strength",
    "l1": "mae_strength",
    "huber": "huber_strength",
    "log_cosh": "log_cosh_strength",
}


def sections_of(
    config: OptionTable,
    parts: Mapping[str, OptionTable],
    span: RunLength,
    model: Mapping[str, Any],
    *,
    masked: bool,
    video: bool,
) -> dict[str, Mapping[str, Any]]:
    """What follows from the configuration besides `model`, `parts` of which are given by name."""
    kind = config.text("model_type", MODEL).upper()
    part = parts["unet" if kind.startswith(DIFFUSION) else "transformer"]
    denoise = _read_loss(config)
    settle(config, "timestep_distribution", DENSITIES, DENSITIES[0])
    settle(config, "loss_weight_fn", WEIGHTINGS, WEIGHTINGS[0])
    sections: dict[str, dict[str, Any]] = {
        "losses": drop_unset(denoise=denoise),
        "timesteps": timesteps_of(config, model, flow=not kind.startswith(DIFFUSION)),
        "noise": _read_noise(config),
        "lora": adapter_of(config, kind),
        "memory": _read_memory(config, part),
        "optimizer": read_optimizer(config, part, adapter=is_adapter(config)),
        "validation": validation_of(config, span),
        "run": run_of(config, span),
    }
    if masked and kind not in FILLING:
        losses, curve = _read_masking(config, denoise, video=video)
        sections["losses"] = losses | sections["losses"]
        sections["curve"] = curve
    else:
        message = "masked_training is off"
        if masked:
            message = "of a model that is shown the mask no loss is masked"
            config.say("masked_training", "no equivalent", f"{message} there: masks are left out")
        for name in MASKED:
            config.say(name, "not needed", message)
    _tell_parts(parts, part)
    return {name: section for name, section in sections.items() if section}


def _tell_parts(parts: Mapping[str, OptionTable], denoiser: OptionTable) -> None:
    """What is trained there besides the denoiser, also where it is left out (true there)."""
    for name, part in parts.items():
        if name.startswith("text_encoder") and part.written and part.flag("train", default=True):
            message = (
                "its adapter is not trained: Frisket trains the denoiser's alone, a text encoder's"
                " comes later"
            )
            part.say("train", "no equivalent", message, True)
        if not name.startswith("text_encoder"):
            message = "captions are dropped by the text encoders' alone"
            part.say("dropout_probability", "not needed", message)
    if not denoiser.flag("train", default=True):
        message = "the denoiser is not trained there; Frisket trains nothing else"
        denoiser.say("train", "no equivalent", message)
    unit = denoiser.text("stop_training_after_unit", "NEVER").upper()
    if unit != "NEVER" and denoiser.whole("stop_training_after"):
        message = "training of the denoiser ends before the run there; here with it: run.steps"
        denoiser.say("stop_training_after", "no equivalent", message)
        denoiser.say("stop_training_after_unit", "no equivalent", message)


def _read_memory(config: OptionTable, part: OptionTable) -> dict[str, Any]:
    """Checkpointing, which is on by default there, and what else is like it."""
    old = str(config.values.get("gradient_checkpointing", "ON")).upper()
    on = part.flag("gradient_checkpointing", default=old not in ("OFF", "FALSE"))
    message = "is memory.checkpointing here"
    if "gradient_checkpointing" in config:
        config.say("gradient_checkpointing", "mapped", message)
        if old == "CPU_OFFLOADED":
            message = f"{message}; what it moves to the CPU stays: memory.swap_blocks moves blocks"
            config.say("gradient_checkpointing", "no equivalent", message)
    else:
        part.say("gradient_checkpointing", "mapped", message, True)
    if part.number("offload_fraction", low=0):
        message = "memory.swap_blocks counts the blocks that wait on the CPU: set it"
        part.say("offload_fraction", "no equivalent", message)
    return drop_unset(checkpointing=on, compile=config.flag("compile"))


def _read_noise(config: OptionTable) -> dict[str, Any]:
    return drop_unset(offset=config.number("offset_noise_weight", low=0) or None)


def read_model(
    config: OptionTable, parts: Mapping[str, OptionTable]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """[model], and what of [memory] and [run] belongs to it; `parts` of the model by name."""
    kind = config.text("model_type", MODEL).upper()
    denoiser = parts["unet" if kind.startswith(DIFFUSION) else "transformer"]
    sources = [(denoiser, "model_name"), (config, "base_model_name")]
    model = map_model(config, "model_type", kind, trainer="onetrainer", weights=sources)
    precision = map_dtype(config, "train_dtype", "FLOAT_16")
    if precision:
        config.say("train_dtype", "mapped", "is run.precision here", "FLOAT_16")
    else:
        precision = "float16"
        config.say("train_dtype", "no equivalent", f"nothing trains in it: {precision} is taken")
    if not model:
        return {}, {}, {"precision": precision}
    if config.flag("force_v_prediction"):
        model = with_v(model, config, "force_v_prediction")
    has_dtype = denoiser.text("weight_dtype", "NONE").upper() != "NONE"
    owner = denoiser if has_dtype else config
    model = model | map_onetrainer_reading(config, model)
    dtype = map_dtype(owner, "weight_dtype", "FLOAT_32")
    if dtype:
        owner.say("weight_dtype", "mapped", "is model.dtype here", "FLOAT_32")
    bits = map_quantisation(owner, "weight_dtype", QUANTISED)
    return model | {"dtype": dtype or precision}, bits, {"precision": precision}


def _read_masking(
    config: OptionTable, denoise: Mapping[str, Any], *, video: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """[losses] and [curve] of masked training, with what it does otherwise than it says."""
    floor = config.number("unmasked_weight", FLOOR, low=0)
    _tell_unmasked(config)
    normalised = config.flag("normalize_masked_area_loss")
    prior = config.number("masked_prior_preservation_weight", low=0)
    config.defect(
        "masked_training",
        "its cache does not know masks: edited ones, or masks that come later, need"
        " clear_cache_before_training; here they are known by content",
    )
    if video:
        message = "a video without a mask stops it, and masks stand still; here neither is so"
        config.defect("masked_training", message)
    if normalised:
        message = (
            "on latents with a frame axis (Qwen, HunyuanVideo) it divides every column by that"
            " column's mean, and an empty mask gives NaN; here every sample is divided by its mean"
        )
        config.defect("normalize_masked_area_loss", message)
    if prior:
        message = (
            "with normalize_masked_area_loss a full mask makes it NaN, and validation leaves it"
            " out; here it is 0 under a full mask"
        )
        config.defect("masked_prior_preservation_weight", message)
    if "unmasked_weight" not in config:
        config.say("unmasked_weight", "mapped", f"is set to {floor:g}, its default there", floor)
    losses = {"compat": "onetrainer", "normalise": "sample" if normalised else "none"}
    # Above 1 its clamp gives 1 as well.
    curve = {"floor": min(floor, 1.0)}
    return losses | drop_unset(prior=_scale_prior(prior, denoise)), curve


def _scale_prior(weight: float, denoise: Mapping[str, Any]) -> float | dict[str, Any] | None:
    """The prior's strength and error: those of the loss go for it, too."""
    if not weight or not denoise:
        return weight or None
    return {**denoise, "strength": weight * denoise["strength"]}


def _tell_unmasked(config: OptionTable) -> None:
    """What the draws without a mask did there: nothing, on a model that is not shown it."""
    name = "unmasked_probability"
    if config.number(name, low=0):
        message = (
            "it does nothing there but on inpainting models, whatever its help says, so nothing is"
            " set here; curve.unmasked_probability draws on every model"
        )
        config.say(name, "not needed", "it did nothing there")
        config.defect(name, message)


def _read_loss(config: OptionTable) -> dict[str, Any]:
    """The strongest of its errors, multiplied as its loss_scaler does; empty for plain mse."""
    strengths = {
        kind: config.number(name, 1 if kind == "mse" else 0) for kind, name in STRENGTHS.items()
    }
    kind = max(strengths, key=lambda name: strengths[name])
    for other, strength in strengths.items():
        if other != kind and strength:
            message = f"only one kind of error is taken: {kind}, the strongest"
            config.say(STRENGTHS[other], "no equivalent", message)
    delta = config.number("huber_delta", 1) if kind == "huber" else None
    strength = strengths[kind]
    if kind == "log_cosh":
        message = (
            'is losses.denoise, kind = "huber", delta = 1 here: as steep near zero and far from it'
        )
        config.say(STRENGTHS[kind], "no equivalent", message)
        kind, delta = "huber", 1.0
    if kind != "huber":
        config.say("huber_delta", "not needed", f"the error is {kind}")
    by = _read_loss_scale(config)
    if kind == "mse" and strength * by == 1:
        return {}
    return drop_unset(kind=kind, strength=strength * by, delta=delta)


def _read_loss_scale(config: OptionTable) -> int:
    scaler = word_of(config, "loss_scaler", SCALERS, "NONE")
    batch, steps = config.whole("batch_size", 1), config.whole("gradient_accumulation_steps", 1)
    by = find_multiplier(scaler, batch, steps)
    if by != 1:
        config.say("loss_scaler", "mapped", f"is losses.denoise.strength here, {by} times as much")
    return by
