"""diffusion-pipe's noise levels (8f83dbf): `prepare_inputs` of each file in models/."""

from collections.abc import Mapping
from typing import Any

from frisket.importers.noise import (
    describe_beyond_expert,
    map_bounds,
    map_shift,
    note_without_snr,
    tell_unread,
)
from frisket.importers.options import OptionTable

IDLE = "its sampler does not read it for this model"
FLOW = ("timestep_sample_method", "sigmoid_scale", "shift", "flux_shift", "min_t", "max_t")


def timesteps_of(model: OptionTable, base: Mapping[str, Any]) -> dict[str, Any]:
    """[timesteps]; `base` is our [model], empty where Frisket has none."""
    kind = model.text("type")
    if kind == "sdxl":
        return _read_sdxl(model)
    note_without_snr(model, "min_snr_gamma")
    ways = ("logit_normal", "uniform")
    density = model.choice("timestep_sample_method", ways, "logit_normal")
    timesteps: dict[str, Any] = {"density": density}
    if density == "logit_normal":
        timesteps["std"] = model.number("sigmoid_scale", 1)
    else:
        tell_unread(model, ("sigmoid_scale",), "is for logit_normal")
    tell_unread(model, ("debiased_estimation_loss",), IDLE)
    timesteps["shift"] = _read_shift(model, base, kind)
    if kind == "wan":
        low, high = model.number("min_t"), model.number("max_t", 1)
        timesteps |= map_bounds(low, high, "cut")
        if message := describe_beyond_expert(base, low, high):
            model.say("min_t" if "min_t" in model else "max_t", "no equivalent", message)
        return timesteps
    tell_unread(model, ("min_t", "max_t"), IDLE)
    return timesteps


def _read_shift(model: OptionTable, base: Mapping[str, Any], kind: str) -> float | str:
    """Its number, else by size, else none: 1."""
    if model.number("shift"):
        tell_unread(model, ("flux_shift",), "shift goes before it")
        return model.number("shift")
    if not model.flag("flux_shift"):
        return 1.0
    if kind == "hunyuan-video":
        model.say("flux_shift", "not needed", IDLE)
        return 1.0
    # FLUX.1's numbers for every model, on tokens of two latent cells.
    shift, message = map_shift(base, "flux_shift")
    model.say("flux_shift", "mapped", message)
    return shift


def _read_sdxl(model: OptionTable) -> dict[str, Any]:
    """Every level as often, whatever is set."""
    tell_unread(model, FLOW, IDLE)
    if model.number("min_snr_gamma"):
        return {"min_snr": model.number("min_snr_gamma")}
    if model.flag("debiased_estimation_loss"):
        model.say("debiased_estimation_loss", "mapped", 'is timesteps.weighting = "debiased" here')
        return {"weighting": "debiased"}
    return {}
