"""sd-scripts' noise levels (48d368f): its `get_noisy_model_input_and_timesteps` and kin."""

from collections.abc import Mapping
from typing import Any

from frisket.importers.noise import NoiseOptions, map_bounds, map_shift, tell_unread

SHIFTS = ("flux_shift",)
SPREAD = ("sigmoid_scale",)
SCHEME = ("logit_mean", "logit_std", "mode_scale")
ENDS = ("min_timestep", "max_timestep")
NOISE = (
    "min_snr_gamma",
    "debiased_estimation_loss",
    "scale_v_pred_loss_like_noise_pred",
    "v_pred_like_loss",
)
FLOW = (
    *("timestep_sampling", "weighting_scheme", "discrete_flow_shift", "training_shift"),
    *(*SPREAD, *SCHEME),
)


def map_timesteps(
    flags: NoiseOptions, model: Mapping[str, Any], shift: float | None
) -> dict[str, Any]:
    """[timesteps] of our `model`; `shift` is what it takes where none is set, None without flow."""
    low, high = (
        flags.number(name, end) / 1000 for name, end in zip(ENDS, (0.0, 1000.0), strict=True)
    )
    if shift is None:
        tell_unread(flags, FLOW, "is for models that predict a flow")
        return map_bounds(max(0.0, low), min(1.0, high), "squeeze") | _map_noise_weights(flags)
    tell_unread(flags, NOISE, "does nothing there on models that predict a flow")
    if model.get("family") == "sd3":
        return _map_sd3(flags, shift) | map_bounds(max(0.0, low), min(1.0, high), "squeeze")
    tell_unread(flags, ENDS, "its sampler of FLUX does not read it")
    return _map_flux(flags, model, shift)


def _map_noise_weights(flags: NoiseOptions) -> dict[str, Any]:
    """What counts for models of noise: kohya multiplies all that is set."""
    section: dict[str, Any] = {}
    if flags.number("min_snr_gamma"):
        section["min_snr"] = flags.number("min_snr_gamma")
    for name, weighting in (
        ("debiased_estimation_loss", "debiased"),
        ("scale_v_pred_loss_like_noise_pred", "noise_like"),
    ):
        if flags.flag(name) and "weighting" not in section:
            section["weighting"] = weighting
            flags.say(name, "mapped", f'is timesteps.weighting = "{weighting}" here')
        elif flags.flag(name):
            message = f"timesteps.weighting is one: {section['weighting']} is taken"
            flags.say(name, "no equivalent", message)
    return section


def map_scheme(flags: NoiseOptions, *, turned: bool) -> dict[str, Any]:
    """The density of weighting_scheme; `turned` where its u counts from the noisy end.

    logit_normal mirrors its mean then; the others are the same either way.
    """
    scheme = flags.text("weighting_scheme", "none")
    read = {"logit_normal": SCHEME[:2], "mode": SCHEME[2:]}.get(scheme, ())
    unread = [name for name in SCHEME if name not in read]
    tell_unread(flags, unread, f"is not read with weighting_scheme = {scheme}")
    if scheme == "logit_normal":
        mean = flags.number("logit_mean")
        if turned and mean:
            message = f"counts from the noisy end there: timesteps.mean = {-mean:g}"
            flags.say("logit_mean", "mapped", message)
        return {
            "density": "logit_normal",
            "mean": -mean if turned and mean else mean,
            "std": flags.number("logit_std", 1.0),
        }
    if scheme == "mode":
        return {"density": "mode", "scale": flags.number("mode_scale", 1.29)}
    return {"density": "uniform"}


def map_weighting(flags: NoiseOptions) -> dict[str, Any]:
    """The loss weight of weighting_scheme."""
    scheme = flags.text("weighting_scheme", "none")
    return {"weighting": scheme} if scheme in ("sigma_sqrt", "cosmap") else {}


def _map_sd3(flags: NoiseOptions, shift: float) -> dict[str, Any]:
    unread = ("timestep_sampling", "discrete_flow_shift", "sigmoid_scale")
    tell_unread(flags, unread, "sd-scripts does not read it for SD3")
    section = map_scheme(flags, turned=False) | map_weighting(flags)
    return section | {"shift": flags.number("training_shift", shift)}


def _map_flux(flags: NoiseOptions, model: Mapping[str, Any], shift: float) -> dict[str, Any]:
    way = flags.text("timestep_sampling", "sigma")
    tell_unread(flags, ("training_shift",), "is SD3's there; FLUX takes discrete_flow_shift")
    counts = map_weighting(flags)
    if counts and flags.text("model_prediction_type", "sigma_scaled") != "sigma_scaled":
        message = "weighs the loss there with model_prediction_type = sigma_scaled alone"
        flags.say("weighting_scheme", "not needed", message)
        counts = {}
    return (
        map_sampling(flags, model, way, flags.number("discrete_flow_shift", shift), SHIFTS) | counts
    )


def map_sampling(
    flags: NoiseOptions,
    model: Mapping[str, Any],
    way: str,
    shift: float,
    laws: tuple[str, ...],
) -> dict[str, Any]:
    """Density and shift of a timestep_sampling; `shift` is the number it would take."""
    spread = {"density": "logit_normal", "std": flags.number("sigmoid_scale", 1.0)}
    reason = f"is not read with timestep_sampling = {way}"
    tell_unread(flags, () if way == "sigma" else SCHEME, reason)
    tell_unread(flags, SPREAD if way in ("uniform", "sigma") else (), reason)
    tell_unread(flags, ("discrete_flow_shift",) if way not in ("shift", "sigma") else (), reason)
    if way == "uniform":
        return {"density": "uniform", "shift": 1.0}
    if way == "sigmoid":
        return spread | {"shift": 1.0}
    if way == "shift":
        return spread | {"shift": shift}
    if way in laws:
        law, message = map_shift(model, way)  # type: ignore[arg-type]
        flags.say("timestep_sampling", "mapped", message)
        return spread | {"shift": law}
    if way != "sigma":
        message = "there is no such density; the variant's own stands in (timesteps.density)"
        flags.say("timestep_sampling", "no equivalent", message)
        return {}
    return map_scheme(flags, turned=True) | {"shift": shift}
