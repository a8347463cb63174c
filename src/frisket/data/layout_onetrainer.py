"""OneTrainer's options of training, as sections of a Frisket configuration."""

from collections.abc import Mapping
from typing import Any

from frisket.data.layout_folders import stepped
from frisket.data.layout_models import dtype_of, model_of, quantised, with_v
from frisket.data.layout_noise import by_size, law_of
from frisket.data.layout_options import Table, filled
from frisket.data.layout_reading import onetrainer_reading
from frisket.objectives.shift import FLUX

FLOOR, UNMASKED = 0.1, 0.1  # its defaults of unmasked_weight and, where it works, _probability
MODEL = "STABLE_DIFFUSION_15"  # its default
DIFFUSION = ("STABLE_DIFFUSION_1", "STABLE_DIFFUSION_2", "STABLE_DIFFUSION_XL", "WUERSTCHEN")
FILLING = (  # models that are given the mask: there unmasked_probability works
    *("STABLE_DIFFUSION_15_INPAINTING", "STABLE_DIFFUSION_20_INPAINTING"),
    *("STABLE_DIFFUSION_XL_10_BASE_INPAINTING", "FLUX_FILL_DEV_1"),
)
OPTIMIZERS = {
    "ADAMW": "adamw",
    "ADAMW_8BIT": "adamw8bit",
    "ADAFACTOR": "adafactor",
    "CAME": "came",
    "LION": "lion",
    "MUON": "muon",
    "PRODIGY": "prodigy",
    "SCHEDULE_FREE_ADAMW": "schedulefree",
    "SGD": "sgd",
}
QUANTISED = {
    **dict.fromkeys(("", "none", "bfloat_16", "float_16", "float_32", "tfloat_32"), ""),
    **{"float_8": "fp8", "float_w8a8*": "fp8", "int_8": "int8", "int_w8a8*": "int8"},
    "nfloat_4": "nf4",
}
KINDS = {"LORA": "lora", "LOHA": "loha", "LOKR": "lokr"}


def sections_of(
    config: Table, seen: float, model: Mapping[str, Any], *, masked: bool, video: bool
) -> dict[str, Mapping[str, Any]]:
    """What follows from the configuration besides `model`; `seen` clips go by in an epoch."""
    sections: dict[str, dict[str, Any]] = {
        "losses": _loss(config),
        "timesteps": _timesteps(config, model),
        "lora": _lora(config),
        "optimizer": _optimizer(config),
        "run": _run(config, seen),
    }
    if masked:
        losses, curve = _masking(config, video=video)
        sections["losses"] = losses | sections["losses"]
        sections["curve"] = curve
    else:
        for name in ("unmasked_weight", "unmasked_probability", "normalize_masked_area_loss"):
            config.say(name, "not needed", "masked_training is off")
        config.say("masked_prior_preservation_weight", "not needed", "masked_training is off")
    return {name: section for name, section in sections.items() if section}


def model_sections(
    config: Table, parts: Mapping[str, Table]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """[model], and what of [memory] and [run] belongs to it; `parts` of the model by name."""
    kind = config.text("model_type", MODEL).upper()
    denoiser = parts["unet" if kind.startswith(DIFFUSION) else "transformer"]
    given = [(denoiser, "model_name"), (config, "base_model_name")]
    model = model_of(config, "model_type", kind, trainer="onetrainer", weights=given)
    precision = dtype_of(config, "train_dtype")
    if precision:
        config.say("train_dtype", "mapped", "is run.precision here")
    if not model:
        return {}, {}, filled(precision=precision)
    if config.flag("force_v_prediction"):
        model = with_v(model, config, "force_v_prediction")
    own = denoiser.text("weight_dtype", "NONE").upper() != "NONE"
    owner = denoiser if own else config
    model = model | onetrainer_reading(config, model)
    dtype = dtype_of(owner, "weight_dtype")
    if dtype:
        owner.say("weight_dtype", "mapped", "is model.dtype here")
    bits = quantised(owner, "weight_dtype", QUANTISED)
    return model | filled(dtype=dtype or precision), bits, filled(precision=precision)


def _masking(config: Table, *, video: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """[losses] and [curve] of masked training, with what it does otherwise than it says."""
    floor = config.number("unmasked_weight", FLOOR, low=0)
    share = _unmasked(config)
    normalised = config.flag("normalize_masked_area_loss")
    prior = config.number("masked_prior_preservation_weight", low=0)
    config.defect(
        "masked_training",
        "its cache does not know masks: edited ones, or masks that come later, need"
        " clear_cache_before_training; here they are known by content",
    )
    if video:
        said = "a video without a mask stops it, and masks stand still; here neither is so"
        config.defect("masked_training", said)
    if normalised:
        said = (
            "on latents with a frame axis (Qwen, HunyuanVideo) it divides every column by that"
            " column's mean, and an empty mask gives NaN; here every sample is divided by its mean"
        )
        config.defect("normalize_masked_area_loss", said)
    if prior:
        said = (
            "with normalize_masked_area_loss a full mask makes it NaN, and validation leaves it"
            " out; here it is 0 under a full mask"
        )
        config.defect("masked_prior_preservation_weight", said)
    if "unmasked_weight" not in config:
        config.say("unmasked_weight", "mapped", f"is set to {floor:g}, its default there", floor)
    losses = {"compat": "onetrainer", "normalise": "sample" if normalised else "none"}
    # Above 1 its clamp gives 1 as well.
    curve = {"floor": min(floor, 1.0)} | filled(unmasked_probability=share or None)
    return losses | ({"prior": prior} if prior else {}), curve


def _unmasked(config: Table) -> float:
    """The share of draws that trained without the mask there: none but on inpainting models."""
    name = "unmasked_probability"
    if config.text("model_type").upper() in FILLING:
        return min(config.number(name, UNMASKED, low=0), 1.0)
    if config.number(name, low=0):
        said = (
            "it does nothing there but on inpainting models, whatever its help says, so nothing is"
            " set here; curve.unmasked_probability draws on every model"
        )
        config.say(name, "not needed", "it did nothing there")
        config.defect(name, said)
    return 0.0


def _loss(config: Table) -> dict[str, Any]:
    strengths = {
        "mse": config.number("mse_strength", 1),
        "l1": config.number("mae_strength"),
        "huber": config.number("huber_strength"),
    }
    names = dict(zip(strengths, ("mse_strength", "mae_strength", "huber_strength"), strict=True))
    kind = max(strengths, key=lambda name: strengths[name])
    for other, strength in strengths.items():
        if other != kind and strength:
            said = f"only one kind of error is taken: {kind}, the strongest"
            config.say(names[other], "no equivalent", said)
    if kind == "mse" and strengths[kind] == 1:
        return {}
    delta = config.number("huber_delta", 1) if kind == "huber" else None
    return {"denoise": filled(kind=kind, strength=strengths[kind], delta=delta)}


def _timesteps(config: Table, model: Mapping[str, Any]) -> dict[str, Any]:
    low, high = config.number("min_noising_strength"), config.number("max_noising_strength", 1)
    found = filled(low=low or None, high=high if high != 1 else None)
    weighting = config.text("loss_weight_fn", "CONSTANT").upper()
    if weighting == "MIN_SNR_GAMMA":
        found["min_snr"] = config.number("loss_weight_strength", 5)
    elif weighting != "CONSTANT":
        said = "only MIN_SNR_GAMMA is known here; timesteps.weighting has others for flow models"
        config.say("loss_weight_fn", "no equivalent", said)
    if config.text("model_type", MODEL).upper().startswith(DIFFUSION):
        return found
    density = _density(config, model)
    return density | found | _bounded(config, found, density.get("shift", 1.0))


def _bounded(config: Table, found: Mapping[str, Any], shift: float | str) -> dict[str, float]:
    """Bounds as they lie after the shift: there they cut before it, here after."""
    moved: dict[str, float] = {}
    for name, option in (("low", "min_noising_strength"), ("high", "max_noising_strength")):
        if name not in found or shift == 1:
            continue
        if isinstance(shift, str):
            said = f"cuts before the shift there, which follows the size; timesteps.{name} after it"
            config.say(option, "no equivalent", said)
            continue
        moved[name] = round(shift * found[name] / (1 + (shift - 1) * found[name]), 4)
        said = f"cuts before the shift there; after it that is timesteps.{name} = {moved[name]:g}"
        config.say(option, "mapped", said)
    return moved


def _density(config: Table, model: Mapping[str, Any]) -> dict[str, Any]:
    """Which t a flow model is trained at."""
    density = config.text("timestep_distribution", "UNIFORM").upper()
    ways = {"UNIFORM": "uniform", "LOGIT_NORMAL": "logit_normal"}
    if density not in ways:
        said = "timesteps.density has uniform, logit_normal and mode; the family's own is taken"
        config.say("timestep_distribution", "no equivalent", said)
        return {}
    found: dict[str, Any] = {"density": ways[density]}
    if density == "LOGIT_NORMAL":
        found["mean"] = config.number("noising_bias")
        found["std"] = config.number("noising_weight") + 1
    if not config.flag("dynamic_timestep_shifting"):
        found["shift"] = config.number("timestep_shift", 1)
        return found
    # From the numbers in the model's scheduler, which are FLUX.1's where it has none of its own.
    same, said = by_size(model, law_of(model) or FLUX)
    config.say("dynamic_timestep_shifting", "mapped" if same else "no equivalent", said)
    if "timestep_shift" in config:
        config.say("timestep_shift", "not needed", "dynamic_timestep_shifting is on")
    return found | {"shift": "auto"}


def _lora(config: Table) -> dict[str, Any]:
    method = config.text("training_method", "FINE_TUNE").upper()
    if method != "LORA":
        said = "Frisket trains an adapter: [lora] sets its size"
        config.say("training_method", "no equivalent", said)
        return {}
    config.say("embedding", "not needed", "no embedding is trained")
    peft = config.text("peft_type", "LORA").upper()
    kind = KINDS.get(peft, "lora")
    if peft not in KINDS:
        said = "this kind of adapter is not known here: a plain LoRA is trained"
        config.say("peft_type", "no equivalent", said)
    dora = kind == "lora" and config.flag("lora_decompose")
    rank = "lokr_dim" if kind == "lokr" and "lokr_dim" in config else "lora_rank"
    return filled(
        kind="dora" if dora else kind,
        rank=config.whole(rank, 16, low=1),
        alpha=config.number("lora_alpha", 1),
        dropout=config.number("dropout_probability") or None,
        source=config.text("lora_model_name"),
    )


def _optimizer(config: Table) -> dict[str, Any]:
    table = config.table("optimizer", "optimizer")
    kind = table.text("optimizer", "ADAMW").upper()
    if kind not in OPTIMIZERS:
        said = "no alias of it here: set optimizer.name to the import path of its class"
        table.say("optimizer", "no equivalent", said)
    options: dict[str, Any] = {"eps": table.number("eps")} if "eps" in table else {}
    if "beta1" in table and "beta2" in table:
        options["betas"] = [table.number("beta1"), table.number("beta2")]
    schedule = config.text("learning_rate_scheduler", "CONSTANT").lower()
    if schedule not in ("constant", "linear", "cosine"):
        said = "optimizer.schedule has constant, linear and cosine; constant is taken"
        config.say("learning_rate_scheduler", "no equivalent", said)
        schedule = "constant"
    warmup = config.number("learning_rate_warmup_steps", 200, low=0)
    decay = table.number("weight_decay") if "weight_decay" in table else None
    average = config.text("ema", "OFF").upper() != "OFF"
    table.close()
    return filled(
        name=OPTIMIZERS.get(kind),
        lr=config.number("learning_rate", 3e-6),
        weight_decay=decay,
        options=options,
        schedule=schedule,
        warmup=int(warmup) if warmup > 1 else None,
        final=config.number("learning_rate_min_factor") or None,
        clip=config.number("clip_grad_norm", 0 if "clip_grad_norm" in config.written else 1),
        accumulate=config.whole("gradient_accumulation_steps", 1, low=1),
        ema=config.number("ema_decay", 0.999) if average else None,
    )


def _run(config: Table, seen: float) -> dict[str, Any]:
    batch = config.whole("batch_size", 1, low=1)
    accumulate = config.whole("gradient_accumulation_steps", 1, low=1)
    steps = stepped(config, "epochs", seen, batch * accumulate) if "epochs" in config else None
    saved = config.text("save_every_unit").upper() == "STEP"
    trackers = ["tensorboard"] if config.flag("tensorboard") else []
    if saved:
        config.say("save_every", "mapped", "is run.save_every here")
    every = config.whole("save_every") or None if saved else None
    return filled(batch=batch, steps=steps, save_every=every, trackers=trackers)
