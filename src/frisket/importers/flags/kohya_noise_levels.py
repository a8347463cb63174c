"""sd-scripts' noise levels (48d368f): its `get_noisy_model_input_and_timesteps` and kin."""

from collections.abc import Mapping
from typing import Any

from frisket.importers.noise import Options, bounded, by_size, tell_unread

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


def timesteps_of(flags: Options, model: Mapping[str, Any], shift: float | None) -> dict[str, Any]:
    """[timesteps] of our `model`; `shift` is what it takes where none is set, None without flow."""
    low, high = (
        flags.number(name, end) / 1000 for name, end in zip(ENDS, (0.0, 1000.0), strict=True)
    )
    if shift is None:
        tell_unread(flags, FLOW, "is for models that predict a flow")
        return bounded(max(0.0, low), min(1.0, high), "squeeze") | _weights(flags)
    tell_unread(flags, NOISE, "does nothing there on models that predict a flow")
    if model.get("family") == "sd3":
        return _of_sd3(flags, shift) | bounded(max(0.0, low), min(1.0, high), "squeeze")
    tell_unread(flags, ENDS, "its sampler of FLUX does not read it")
    return _of_flux(flags, model, shift)


def _weights(flags: Options) -> dict[str, Any]:
    """What counts for models of noise: kohya multiplies all that is set."""
    found: dict[str, Any] = {}
    if flags.number("min_snr_gamma"):
        found["min_snr"] = flags.number("min_snr_gamma")
    for name, weighting in (
        ("debiased_estimation_loss", "debiased"),
        ("scale_v_pred_loss_like_noise_pred", "noise_like"),
    ):
        if flags.flag(name) and "weighting" not in found:
            found["weighting"] = weighting
            flags.say(name, "mapped", f'is timesteps.weighting = "{weighting}" here')
        elif flags.flag(name):
            said = f"timesteps.weighting is one: {found['weighting']} is taken"
            flags.say(name, "no equivalent", said)
    return found


def scheme_of(flags: Options, *, turned: bool) -> dict[str, Any]:
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
            said = f"counts from the noisy end there: timesteps.mean = {-mean:g}"
            flags.say("logit_mean", "mapped", said)
        return {
            "density": "logit_normal",
            "mean": -mean if turned and mean else mean,
            "std": flags.number("logit_std", 1.0),
        }
    if scheme == "mode":
        return {"density": "mode", "scale": flags.number("mode_scale", 1.29)}
    return {"density": "uniform"}


def weighting_of(flags: Options) -> dict[str, Any]:
    """The loss weight of weighting_scheme."""
    scheme = flags.text("weighting_scheme", "none")
    return {"weighting": scheme} if scheme in ("sigma_sqrt", "cosmap") else {}


def _of_sd3(flags: Options, shift: float) -> dict[str, Any]:
    unread = ("timestep_sampling", "discrete_flow_shift", "sigmoid_scale")
    tell_unread(flags, unread, "sd-scripts does not read it for SD3")
    found = scheme_of(flags, turned=False) | weighting_of(flags)
    return found | {"shift": flags.number("training_shift", shift)}


def _of_flux(flags: Options, model: Mapping[str, Any], shift: float) -> dict[str, Any]:
    way = flags.text("timestep_sampling", "sigma")
    tell_unread(flags, ("training_shift",), "is SD3's there; FLUX takes discrete_flow_shift")
    counts = weighting_of(flags)
    if counts and flags.text("model_prediction_type", "sigma_scaled") != "sigma_scaled":
        said = "weighs the loss there with model_prediction_type = sigma_scaled alone"
        flags.say("weighting_scheme", "not needed", said)
        counts = {}
    return drawn(flags, model, way, flags.number("discrete_flow_shift", shift), SHIFTS) | counts


def drawn(
    flags: Options,
    model: Mapping[str, Any],
    way: str,
    shift: float,
    known: tuple[str, ...],
) -> dict[str, Any]:
    """Density and shift of a timestep_sampling; `shift` is the number it would take."""
    spread = {"density": "logit_normal", "std": flags.number("sigmoid_scale", 1.0)}
    why = f"is not read with timestep_sampling = {way}"
    tell_unread(flags, () if way == "sigma" else SCHEME, why)
    tell_unread(flags, SPREAD if way in ("uniform", "sigma") else (), why)
    tell_unread(flags, ("discrete_flow_shift",) if way not in ("shift", "sigma") else (), why)
    if way == "uniform":
        return {"density": "uniform", "shift": 1.0}
    if way == "sigmoid":
        return spread | {"shift": 1.0}
    if way == "shift":
        return spread | {"shift": shift}
    if way in known:
        law, said = by_size(model, way)  # type: ignore[arg-type]
        flags.say("timestep_sampling", "mapped", said)
        return spread | {"shift": law}
    if way != "sigma":
        said = "there is no such density; the variant's own stands in (timesteps.density)"
        flags.say("timestep_sampling", "no equivalent", said)
        return {}
    return scheme_of(flags, turned=True) | {"shift": shift}
