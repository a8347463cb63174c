"""ai-toolkit's options of training, as sections of a Frisket configuration."""

from collections.abc import Mapping
from typing import Any

from frisket.data.layout_models import dtype_of, model_of, quantised, with_v, without
from frisket.data.layout_options import Table, filled
from frisket.data.noise_levels.ai_toolkit import timesteps_of

OPTIMIZERS = {
    "adamw": "adamw",
    "adam": "adamw",
    "adamw8bit": "adamw8bit",
    "adam8bit": "adamw8bit",
    "adafactor": "adafactor",
    "lion": "lion",
    "lion8bit": "lion",
    "prodigy": "prodigy",
    "prodigy8bit": "prodigy",
    "sgd": "sgd",
}
FLAGS = {  # which told the model before `arch` did; the first that is set counts
    **{"is_v2": "sd2", "is_v3": "sd3", "is_xl": "sdxl", "is_pixart": "pixart"},
    **{"is_pixart_sigma": "pixart_sigma", "is_auraflow": "auraflow", "is_flux": "flux"},
    **{"is_lumina2": "lumina2", "is_vega": "vega", "is_ssd": "ssd"},
}
QUANTISED = {
    **dict.fromkeys(("qfloat8", "float8"), "fp8"),
    **dict.fromkeys(("qint8", "int8", "uint8"), "int8"),
}
PRIOR = 0.5  # its default of inverted_mask_prior_multiplier


def sections_of(process: Table, *, masked: bool, trigger: str) -> dict[str, Mapping[str, Any]]:
    """What follows from a process besides its data sets; `trigger` fills its prompts."""
    train, network = process.table("train", "train"), process.table("network", "network")
    save, sample = process.table("save", "save"), process.table("sample", "sample")
    model = process.table("model", "model")
    base, bits = _model(model, train)
    sections: dict[str, dict[str, Any]] = {
        "model": base,
        "losses": _loss(train, masked=masked),
        "timesteps": timesteps_of(train, base, kind_of(model)[1]),
        "lora": _lora(process, network),
        "optimizer": _optimizer(train) if train.values else {},
        "memory": filled(
            checkpointing=train.flag("gradient_checkpointing", default=bool(train.values)),
            compile=model.flag("compile"),
        )
        | bits,
        "preview": _preview(sample, trigger),
        "run": _run(process, train, save),
    }
    for table in (train, network, save, sample, model):
        table.close()
    return {name: section for name, section in sections.items() if section}


def kind_of(model: Table) -> tuple[str, str]:
    """The option that tells which model it is, and its architecture; "" where none is named."""
    if "arch" in model or not model.values:
        return "arch", model.text("arch")
    return next(((name, arch) for name, arch in FLAGS.items() if model.flag(name)), ("arch", "sd1"))


def _model(table: Table, train: Table) -> tuple[dict[str, Any], dict[str, Any]]:
    """[model], and what of [memory] belongs to it."""
    option, kind = kind_of(table)
    if not kind:
        return {}, {}
    given = [(table, "unet_path"), (table, "name_or_path")]
    model = model_of(table, option, kind, trainer="ai_toolkit", weights=given)
    if not model:
        without(table, "quantize", "qtype", "model_kwargs")
        return {}, {}
    if table.flag("is_v_pred"):
        model = with_v(model, table, "is_v_pred")
    extra = table.values.get("model_kwargs") or {}
    trained = [name for name in ("high", "low") if extra.get(f"train_{name}_noise", True)]
    if len(trained) == 1 and model.get("variant", "").endswith("a14b"):
        model["experts"] = trained[0]
    bits: dict[str, Any] = {}
    if table.flag("quantize"):
        bits = quantised(table, "qtype", QUANTISED, "qfloat8")
    elif "qtype" in table:
        table.say("qtype", "not needed", "quantize is off")
    # Its own dtype is overwritten by that of the training.
    return model | filled(dtype=dtype_of(train, "dtype", "fp32")), bits


def _loss(train: Table, *, masked: bool) -> dict[str, Any]:
    losses: dict[str, Any] = {"compat": "ai-toolkit"} if masked else {}
    kind = train.text("loss_type", "mse").lower()
    if kind == "mae":
        losses["denoise"] = {"kind": "l1"}
    elif kind != "mse":
        said = "losses.denoise has mse, l1, huber and smooth_l1; mse is taken"
        train.say("loss_type", "no equivalent", said)
    multiplier = train.number("inverted_mask_prior_multiplier", PRIOR, low=0)
    if not train.flag("inverted_mask_prior"):
        said = "inverted_mask_prior is off"
        if "inverted_mask_prior_multiplier" in train:
            train.say("inverted_mask_prior_multiplier", "not needed", said)
        return losses
    if not masked:
        said = "there are no masks, so it does nothing"
        train.say("inverted_mask_prior", "not needed", said)
        return losses
    said = (
        "it lays the first clip's mask on the whole batch, and a value that is not finite drops the"
        " term (27a03a91, August 2026). Here each clip has its own mask"
    )
    train.defect("inverted_mask_prior", said)
    return losses | filled(prior=multiplier)


def _lora(process: Table, network: Table) -> dict[str, Any]:
    if not network.values:
        said = "there is no network, it trains the whole model; Frisket trains an adapter"
        process.say("network", "no equivalent", f"{said}: [lora] sets its size")
        return {}
    kind = network.text("type", "lora").lower()
    if kind not in ("lora", "lokr"):
        said = "this kind of adapter is not known here: a plain LoRA is trained"
        network.say("type", "no equivalent", said)
    rank = network.whole("linear", network.whole("rank", 4, low=1), low=1)
    return filled(
        kind=kind if kind == "lokr" else None,
        rank=rank,
        alpha=network.number("linear_alpha", network.number("alpha", 1)),
        dropout=network.number("dropout") or None,
        source=network.text("pretrained_lora_path"),
    )


def _optimizer(train: Table) -> dict[str, Any]:
    written = train.text("optimizer", "adamw").lower()
    if written not in OPTIMIZERS:
        said = "no alias of it here: set optimizer.name to the import path of its class"
        train.say("optimizer", "no equivalent", said)
    options = dict(train.values.get("optimizer_params") or {})
    decay = options.pop("weight_decay", None)
    schedule = train.text("lr_scheduler", "constant").lower()
    if schedule not in ("constant", "linear", "cosine"):
        said = "optimizer.schedule has constant, linear and cosine; constant is taken"
        train.say("lr_scheduler", "no equivalent", said)
        schedule = "constant"
    averaged = train.table("ema_config", "ema")
    ema = averaged.number("ema_decay", 0.999) if averaged.flag("use_ema") else None
    averaged.close()
    return filled(
        name=OPTIMIZERS.get(written),
        lr=train.number("unet_lr", train.number("lr", 1e-6)),
        weight_decay=float(decay) if decay is not None else None,
        options=options,
        schedule=schedule,
        clip=train.number("max_grad_norm", 1, low=0),
        accumulate=_accumulated(train),
        ema=ema,
    )


def _accumulated(train: Table) -> int:
    names = ("gradient_accumulation", "gradient_accumulation_steps")
    return max(train.whole(name, 1, low=1) for name in names)


def _preview(sample: Table, trigger: str) -> dict[str, Any]:
    if not sample.values:
        return {}
    prompts = sample.texts("prompts")
    rows = sample.values.get("samples")
    if isinstance(rows, list):
        prompts += [str(row["prompt"]) for row in rows if isinstance(row, dict) and "prompt" in row]
    return filled(
        every=sample.whole("sample_every", 100),
        prompts=[prompt.replace("[trigger]", trigger) for prompt in prompts],
        seeds=[sample.whole("seed")],
        negative=sample.values.get("neg") or None,
        width=sample.whole("width", 512, low=1),
        height=sample.whole("height", 512, low=1),
        steps=sample.whole("sample_steps", 20, low=1),
        guidance=sample.number("guidance_scale", 7),
        frames=sample.whole("num_frames", 1, low=1),
    )


def _run(process: Table, train: Table, save: Table) -> dict[str, Any]:
    found: dict[str, Any] = filled(
        seed=process.whole("training_seed") if "training_seed" in process else None
    )
    if train.values:
        found |= filled(
            steps=train.whole("steps", 1000, low=1),
            batch=train.whole("batch_size", 1, low=1),
            precision=dtype_of(train, "dtype", "fp32"),
        )
    if save.values:
        found["save_every"] = save.whole("save_every", 1000)
        found |= filled(keep=save.whole("max_step_saves_to_keep", 5) or None)
    return found
