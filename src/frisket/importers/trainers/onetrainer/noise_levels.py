"""OneTrainer's noise levels (23df383): modules/modelSetup/mixin/ModelSetupNoiseMixin.py."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from frisket.importers.noise import PARTS, build_histogram, map_bounds, map_shift, tell_unread
from frisket.importers.options import OptionTable
from frisket.objectives.kinds import ShiftLaw
from frisket.objectives.shift import pull

LAWS_OF: Mapping[str, ShiftLaw] = {  # the models that hand a shift by size over
    "flux": "flux_shift",
    "flux2": "flux2_shift",
    "qwen_image": "qwen_shift",
    "z_image": "flux_shift",
}
SQUEEZED_FIRST = ("UNIFORM", "LOGIT_NORMAL", "HEAVY_TAIL", "BETA")  # squeezed first, shifted then
WEIGHED_LAST = ("COS_MAP", "SIGMOID", "INVERTED_PARABOLA")  # of shifted levels, squeezed last
WEIGHT_AND_BIAS = ("noising_weight", "noising_bias")
LEAST = 1e-4  # of Beta's parameters


def timesteps_of(config: OptionTable, model: Mapping[str, Any], *, flow: bool) -> dict[str, Any]:
    """[timesteps] of our `model`, which is empty where Frisket has none; `flow` is its kind."""
    counts = _read_weighting(config, flow=flow)
    shift = _read_shift(config, model, flow=flow)
    kind = config.text("timestep_distribution", "UNIFORM").upper()
    low = config.number("min_noising_strength")
    high = config.number("max_noising_strength", 1)
    if kind in SQUEEZED_FIRST:
        before = shift != 1 and (low > 0 or high < 1)
        timesteps = _read_density(config, kind) | {"shift": shift}
        timesteps |= map_bounds(low, high, "squeeze_before_shift" if before else "squeeze")
        if before:
            message = 'bounds the draw before the shift: timesteps.bounds = "squeeze_before_shift"'
            for name in ("min_noising_strength", "max_noising_strength"):
                config.say(name, "mapped", message)
    elif kind in WEIGHED_LAST:
        timesteps = (
            _weigh_levels(config, kind, shift) | {"shift": shift} | map_bounds(low, high, "squeeze")
        )
    else:
        message = "there is no such density; the family's own is taken (timesteps.density)"
        config.say("timestep_distribution", "no equivalent", message)
        timesteps = map_bounds(low, high, "squeeze")
    if not flow and timesteps == {"density": "uniform", "shift": 1.0}:
        timesteps = {}  # what models of noise do by themselves
    return timesteps | counts


def _read_density(config: OptionTable, kind: str) -> dict[str, Any]:
    weight, bias = config.number("noising_weight"), config.number("noising_bias")
    if kind == "LOGIT_NORMAL":
        return {"density": "logit_normal", "mean": bias, "std": weight + 1}
    if kind == "HEAVY_TAIL":
        config.say("timestep_distribution", "mapped", 'is timesteps.density = "mode" here')
        config.say("noising_weight", "mapped", "is timesteps.scale here")
        return {"density": "mode", "scale": weight}
    if kind == "BETA":
        config.say("noising_weight", "mapped", "is timesteps.alpha here")
        config.say("noising_bias", "mapped", "is timesteps.beta here")
        return {"density": "beta", "alpha": max(LEAST, weight), "beta": max(LEAST, bias)}
    tell_unread(config, WEIGHT_AND_BIAS, f"is not read with timestep_distribution = {kind}")
    return {"density": "uniform"}


def _weigh_levels(config: OptionTable, kind: str, shift: float | str) -> dict[str, Any]:
    """A density by weights, before the shift: in equal parts where it has no name here."""
    if kind == "COS_MAP":
        tell_unread(config, WEIGHT_AND_BIAS, f"is not read with timestep_distribution = {kind}")
        config.say("timestep_distribution", "mapped", 'is timesteps.density = "cosmap" here')
        return {"density": "cosmap"}
    weight, bias = config.number("noising_weight"), config.number("noising_bias") + 0.5

    def weigh_by_parabola(t: float) -> float:
        return max(0.0, 2 - weight * (t - bias) ** 2)

    def weigh_by_sigmoid(t: float) -> float:
        # It shifts back a second time: what it weighs are the levels of before that.
        level = t if isinstance(shift, str) else pull(t, shift)
        return 1 / (1 + math.exp(min(700.0, -weight * (level - bias))))

    density = build_histogram(
        _average_parts(weigh_by_parabola if kind == "INVERTED_PARABOLA" else weigh_by_sigmoid)
    )
    message = "is timesteps.histogram, its density in equal parts"
    if kind == "SIGMOID" and isinstance(shift, str) and weight:
        message += "; there it depends on the size as well, for the whole run on the first batch's"
        config.say("timestep_distribution", "no equivalent", message)
    config.say("timestep_distribution", "mapped", message)
    return density


def _average_parts(density: Callable[[float], float]) -> list[float]:
    """Means of a density over equal parts of (0, 1), of four points each."""
    fine = [density((n + 0.5) / (4 * PARTS)) for n in range(4 * PARTS)]
    parted = [sum(fine[4 * n : 4 * n + 4]) / 4 for n in range(PARTS)]
    return parted if any(parted) else [1.0] * PARTS


def _read_shift(config: OptionTable, model: Mapping[str, Any], *, flow: bool) -> float | str:
    if not config.flag("dynamic_timestep_shifting"):
        return config.number("timestep_shift", 1)
    law = LAWS_OF.get(str(model.get("family", ""))) if model else "flux_shift"
    if law is None or not flow:
        message = "its setup of this model shifts by timestep_shift alone"
        config.say("dynamic_timestep_shifting", "not needed", message)
        return config.number("timestep_shift", 1)
    if "timestep_shift" in config:
        config.say("timestep_shift", "not needed", "dynamic_timestep_shifting is on")
    shift, message = map_shift(model, law)
    config.say("dynamic_timestep_shifting", "mapped", message)
    return shift


def _read_weighting(config: OptionTable, *, flow: bool) -> dict[str, Any]:
    kind = config.text("loss_weight_fn", "CONSTANT").upper()
    if kind != "MIN_SNR_GAMMA" or flow:
        unread = ("loss_weight_strength",)
        tell_unread(config, unread, f"nothing here reads it with loss_weight_fn = {kind}")
    if kind == "CONSTANT":
        return {}
    if kind == "SIGMA" and flow:
        config.say("loss_weight_fn", "mapped", 'is timesteps.weighting = "sigma" here')
        return {"weighting": "sigma"}
    if kind == "MIN_SNR_GAMMA" and not flow:
        return {"min_snr": config.number("loss_weight_strength", 5)}
    if kind == "DEBIASED_ESTIMATION" and not flow:
        message = 'is timesteps.weighting = "debiased" here'
        if config.flag("force_v_prediction"):
            message += (
                ", which for v is 1 / (snr + 1) as in kohya's, the square of what it is there"
            )
        config.say("loss_weight_fn", "mapped", message)
        return {"weighting": "debiased"}
    if flow:
        message = "it stops there on models that predict a flow; none is taken"
        config.say("loss_weight_fn", "not needed", message)
    else:
        message = "timesteps.weighting has debiased, and timesteps.min_snr; no weight is taken"
        config.say("loss_weight_fn", "no equivalent", message)
    return {}
