"""musubi-tuner's noise levels (30c658c) and blissful-tuner's (e6393cd), of the same function."""

from collections.abc import Mapping
from typing import Any

from frisket.importers.flags.kohya_noise_levels import (
    SPREAD,
    map_sampling,
    map_scheme,
    map_weighting,
)
from frisket.importers.noise import (
    NoiseOptions,
    describe_beyond_expert,
    map_bounds,
    map_shift,
    tell_unread,
)

SHIFTS = ("flux_shift", "flux2_shift", "qwen_shift", "krea2_shift")
QINGLONG = {  # the law of most draws, and of two more parts the share of all draws
    "qinglong_flux": ("flux_shift", 0.11, 0.10),
    "qinglong_qwen": ("qwen_shift", 0.0, 0.05),
}
BLISSFUL = (0.075, 0.125)  # blissful-tuner's shares, of both
LOGSNR = (5.36, 1.0)  # mean and std of the last part
ENDS = (("min_timestep", 0.0), ("max_timestep", 1000.0))


def map_timesteps(flags: NoiseOptions, model: Mapping[str, Any]) -> dict[str, Any]:
    """[timesteps] of our `model`."""
    way = flags.text("timestep_sampling", "sigma")
    low, high = (min(1.0, flags.number(name, end, low=0.0) / 1000) for name, end in ENDS)
    tell_unread(flags, ("min_snr_gamma",), "all of its models predict a flow")
    section = _map_sampling(flags, model, way) | map_weighting(flags)
    if way == "sigma":
        section |= _mirror_bounds(flags, low, high)
        low, high = 1 - high, 1 - low
    elif flags.flag("preserve_distribution_shape"):
        section |= map_bounds(low, high, "cut")
        flags.say("preserve_distribution_shape", "mapped", 'is timesteps.bounds = "cut" here')
    else:
        section |= map_bounds(low, high, "squeeze")
    if message := describe_beyond_expert(model, low, high):
        flags.say("min_timestep", "no equivalent", message)
    _tell(flags, model)
    return section


def _mirror_bounds(flags: NoiseOptions, low: float, high: float) -> dict[str, Any]:
    """With sigma the bounds count from the noisy end, and squeeze whatever is asked for."""
    for name, value in (("min_timestep", 1 - low), ("max_timestep", 1 - high)):
        if name in flags:
            key = "high" if name.startswith("min") else "low"
            message = f"counts from the noisy end with timestep_sampling = sigma: timesteps.{key}"
            flags.say(name, "mapped", f"{message} = {value:g}")
    if flags.flag("preserve_distribution_shape"):
        message = "does nothing there with timestep_sampling = sigma"
        flags.say("preserve_distribution_shape", "not needed", message)
    return map_bounds(1 - high, 1 - low, "squeeze")


def _map_sampling(flags: NoiseOptions, model: Mapping[str, Any], way: str) -> dict[str, Any]:
    if way == "sigma":
        if flags.number("discrete_flow_shift", 1.0) != 1:
            message = (
                "its sampler shifts with timestep_sampling = shift alone; the levels of sigma are"
                " even ones: timesteps.shift = 1"
            )
            flags.say("discrete_flow_shift", "not needed", message)
        tell_unread(flags, SPREAD, "is not read with timestep_sampling = sigma")
        return map_scheme(flags, turned=True) | {"shift": 1.0}
    if way == "logsnr":
        unread = (*SPREAD, "mode_scale", "discrete_flow_shift")
        tell_unread(flags, unread, f"is not read with timestep_sampling = {way}")
        flags.say("timestep_sampling", "mapped", _describe_logsnr("a logit_normal"))
        return {"density": "logit_normal", "shift": 1.0} | _convert_logsnr(flags)
    if way in QINGLONG:
        return _map_qinglong(flags, model, way)
    shift = flags.number("discrete_flow_shift", 1.0)
    return map_sampling(flags, model, way, shift, SHIFTS)


def _convert_logsnr(flags: NoiseOptions) -> dict[str, Any]:
    """A normal log SNR as a logit-normal: t = sigmoid(-logsnr / 2)."""
    mean, std = flags.number("logit_mean"), flags.number("logit_std", 1.0)
    return {"mean": -mean / 2 if mean else 0.0, "std": std / 2}


def _describe_logsnr(density: str) -> str:
    return f"is {density} here: a normal log SNR, t = sigmoid(-logsnr / 2)"


def _map_qinglong(flags: NoiseOptions, model: Mapping[str, Any], way: str) -> dict[str, Any]:
    """Most draws by size, the rest in one or two further logit-normals."""
    law, middle, last = QINGLONG[way]
    if "use_mask_loss" in flags:  # the fork with masks is of before those shares
        middle, last = BLISSFUL
    shift, _ = map_shift(model, law)  # type: ignore[arg-type]
    normal = _convert_logsnr(flags)
    parts = [[middle, normal["mean"], normal["std"]]] if middle else []
    parts.append([last, -LOGSNR[0] / 2, LOGSNR[1] / 2])
    flags.say("timestep_sampling", "mapped", "is timesteps.shift by size, with timesteps.parts")
    unread = ("mode_scale", "discrete_flow_shift")
    tell_unread(flags, unread, f"is not read with timestep_sampling = {way}")
    spread = {"density": "logit_normal", "std": flags.number("sigmoid_scale", 1.0)}
    return spread | {"shift": shift, "parts": parts}


def _tell(flags: NoiseOptions, model: Mapping[str, Any]) -> None:
    boundary = {"2.2-t2v-a14b": 0.875, "2.2-i2v-a14b": 0.9}.get(model.get("variant", ""))
    edge = flags.number("timestep_boundary")
    edge = edge / 1000 if edge > 1 else edge
    if edge and boundary and edge != boundary:
        message = (
            f"here the experts part at {boundary:g}, where the variant's own sampler changes them"
        )
        flags.say("timestep_boundary", "no equivalent", message)
