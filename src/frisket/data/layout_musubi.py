"""Training options that only musubi-tuner and its forks have: the model, the masked loss."""

from collections.abc import Mapping
from typing import Any

from frisket.data.layout_flags import Flags, dtype_of
from frisket.data.layout_options import filled

MODELS: dict[str, tuple[str, Mapping[str, str]]] = {  # network module -> family, task -> variant
    "lora_wan": (
        "wan",
        {
            "t2v-1.3B": "2.1-t2v-1.3b",
            "t2v-14B": "2.1-t2v-14b",
            "t2i-14B": "2.1-t2v-14b",
            "i2v-14B": "2.1-i2v-14b-480p",
            "t2v-A14B": "2.2-t2v-a14b",
            "i2v-A14B": "2.2-i2v-a14b",
        },
    ),
    "lora": ("hunyuan_video", {"": "t2v"}),
    "lora_hv_1_5": ("hunyuan_video", {"t2v": "1.5-720p-t2v", "i2v": "1.5-720p-i2v"}),
    "lora_flux": ("flux", {"": "kontext"}),
    "lora_flux_2": (
        "flux2",
        {name: name for name in ("dev", "klein-4b", "klein-base-4b", "klein-9b", "klein-base-9b")},
    ),
    "lora_qwen_image": (
        "qwen_image",
        {"": "image", "original": "image", "edit": "edit", "edit_plus": "edit-2509"}
        | {name: name for name in ("edit-2509", "edit-2511")},
    ),
    "lora_zimage": ("z_image", {"": "base"}),
}


def mask_loss(flags: Flags, *, masked: bool) -> dict[str, dict[str, Any]]:
    """The masked loss of DustyL's fork, where the data have masks."""
    used = flags.at("use_mask_loss")
    if not masked:
        if used.flag("use_mask_loss"):
            said = "no data set has masks, so it stops; here all of a clip teaches"
            used.defect("use_mask_loss", said)
        return {}
    _tell_unmasked(flags)
    gamma, floor = flags.number("mask_gamma", 1.0), flags.number("mask_min_weight")
    losses: dict[str, Any] = filled(
        normalise="sample" if flags.flag("normalize_per_sample") else None,
        beta=flags.number("mask_area_scale_beta") or None,
    )
    if flags.text("loss_type", "mse") == "huber":
        delta = flags.number("loss_delta", 1.0)
        losses["denoise"] = {"strength": 1.0, "kind": "huber", "delta": delta}
    prior = _prior(flags)
    if prior:
        losses["prior"] = prior
    ema = flags.number("prior_teacher_ema_decay", 0.999) if "teacher" in prior else None
    return {
        "losses": losses,
        "curve": filled(
            gamma=gamma if gamma != 1 else None,
            floor=floor or None,
        ),
        "optimizer": filled(ema=ema),
    }


def pixel_curve(flags: Flags) -> dict[str, Any]:
    """What bends the masks' pixels while they are cached, as options of a set's masks.

    Not `mask_gamma` and `mask_min_weight`, which bend the cells as it trains: after their mean.
    """
    gamma, floor = flags.number("cache_mask_gamma", 1.0), flags.number("cache_mask_min_weight")
    return filled(pixel_gamma=gamma if gamma != 1 else None, pixel_floor=floor or None)


def _prior(flags: Flags) -> dict[str, Any]:
    strength = flags.number("prior_preservation_weight")
    if not strength:
        return {}
    return {"strength": strength} | filled(
        threshold=flags.number("prior_mask_threshold") or None,
        t_min=flags.number("prior_preservation_timestep_threshold") / 1000 or None,
        warmup=flags.number("prior_decay_warmup_ratio") or None,
        teacher="ema" if flags.text("prior_teacher_mode") == "ema" else None,
    )


def _tell_unmasked(flags: Flags) -> None:
    """What trains without masks there although the data have some."""
    if not flags.flag("use_mask_loss"):
        said = (
            'is off, so the masks of the data were not used; here they are: give masks = "none" if'
        )
        flags.at("use_mask_loss").defect("use_mask_loss", f"{said} that was meant", value=False)
    if flags.number("mask_loss_scale", 1.0) != 1:
        said = "later versions refuse it: it cancels, the loss was never scaled by it"
        flags.at("mask_loss_scale").defect("mask_loss_scale", said)
    if flags.flag("one_frame"):
        said = (
            "its latents are cached without masks (January 2026), so it trained unmasked, silently"
        )
        flags.at("one_frame").defect("one_frame", said)
    if flags.text("network_module").rpartition(".")[2] == "lora":
        said = (
            "HunyuanVideo's latents are cached without masks, so it trained unmasked; not so here"
        )
        flags.at("network_module").defect("network_module", said)


def model_of(flags: Flags) -> dict[str, Any]:
    """`[model]`, by network module and task."""
    module = flags.text("network_module").rpartition(".")[2]
    if not module:
        return {}
    task = _task(flags)
    if module not in MODELS and task in MODELS["lora_wan"][1]:
        module = "lora_wan"  # LoHa, LoKr and LyCORIS serve every model; these tasks are Wan's
    if module not in MODELS:
        said = "it does not name the model, or one that is not here: set [model] family and variant"
        flags.say("network_module", "no equivalent", said)
        return dtype_of(flags)
    family, variants = MODELS[module]
    found = {"family": family} | filled(variant=variants.get(task))
    if task and task not in variants:
        name = "task" if "task" in flags else "model_version"
        flags.say(name, "no equivalent", f"{family} has no such variant here: set model.variant")
    if task.endswith("A14B") and "dit_high_noise" not in flags:
        low = flags.number("min_timestep") < 800
        found["experts"] = "low" if low else "high"
        said = "one expert is trained; by min_timestep it is model.experts = "
        flags.say(
            "dit", "mapped", f"{said}{found['experts']}; its file is not used: set model.source"
        )
    return found | dtype_of(flags)


def _task(flags: Flags) -> str:
    for name in ("edit_plus", "edit"):
        if flags.flag(name):
            return name
    return flags.text("task") or flags.text("model_version")
