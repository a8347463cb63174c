"""Training options that only musubi-tuner and its forks have: the model, the masked loss."""

from typing import Any

from frisket.importers.flags.options import Flags
from frisket.importers.options import drop_unset


def read_mask_loss(flags: Flags, *, masked: bool) -> dict[str, dict[str, Any]]:
    """The masked loss of DustyL's fork, where the data have masks."""
    used = flags.at("use_mask_loss")
    if not masked:
        if used.flag("use_mask_loss"):
            message = "no data set has masks, so it stops; here all of a clip teaches"
            used.defect("use_mask_loss", message)
        return {}
    _tell_unmasked(flags)
    gamma, floor = flags.number("mask_gamma", 1.0), flags.number("mask_min_weight")
    losses: dict[str, Any] = drop_unset(
        normalise="sample" if flags.flag("normalize_per_sample") else None,
        beta=flags.number("mask_area_scale_beta") or None,
    )
    if flags.text("loss_type", "mse") == "huber":
        delta = flags.number("loss_delta", 1.0)
        losses["denoise"] = {"strength": 1.0, "kind": "huber", "delta": delta}
    prior = _read_prior(flags)
    if prior:
        losses["prior"] = prior
    ema = flags.number("prior_teacher_ema_decay", 0.999) if "teacher" in prior else None
    return {
        "losses": losses,
        "curve": drop_unset(
            gamma=gamma if gamma != 1 else None,
            floor=floor or None,
        ),
        "optimizer": drop_unset(ema=ema),
    }


def read_pixel_curve(flags: Flags) -> dict[str, Any]:
    """What bends the masks' pixels while they are cached, as options of a set's masks.

    Not `mask_gamma` and `mask_min_weight`, which bend the cells as it trains: after their mean.
    """
    gamma, floor = flags.number("cache_mask_gamma", 1.0), flags.number("cache_mask_min_weight")
    return drop_unset(pixel_gamma=gamma if gamma != 1 else None, pixel_floor=floor or None)


def _read_prior(flags: Flags) -> dict[str, Any]:
    strength = flags.number("prior_preservation_weight")
    if not strength:
        return {}
    return {"strength": strength} | drop_unset(
        threshold=flags.number("prior_mask_threshold") or None,
        t_min=flags.number("prior_preservation_timestep_threshold") / 1000 or None,
        warmup=flags.number("prior_decay_warmup_ratio") or None,
        teacher="ema" if flags.text("prior_teacher_mode") == "ema" else None,
    )


def _tell_unmasked(flags: Flags) -> None:
    """What trains without masks there although the data have some."""
    if not flags.flag("use_mask_loss"):
        message = (
            'is off, so the masks of the data were not used; here they are: give masks = "none" if'
        )
        flags.at("use_mask_loss").defect("use_mask_loss", f"{message} that was meant", value=False)
    if flags.number("mask_loss_scale", 1.0) != 1:
        message = "later versions refuse it: it cancels, the loss was never scaled by it"
        flags.at("mask_loss_scale").defect("mask_loss_scale", message)
    if flags.flag("one_frame"):
        message = (
            "its latents are cached without masks (January 2026), so it trained unmasked, silently"
        )
        flags.at("one_frame").defect("one_frame", message)
    if flags.text("network_module").rpartition(".")[2] == "lora":
        message = (
            "HunyuanVideo's latents are cached without masks, so it trained unmasked; not so here"
        )
        flags.at("network_module").defect("network_module", message)
