"""ai-toolkit's noise levels (27a03a91): BaseSDTrainProcess.process_general_training_batch."""

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

from frisket.importers.noise import is_flow, map_shift, tell_unread
from frisket.importers.options import OptionTable
from frisket.objectives.kinds import ShiftLaw
from frisket.objectives.shift import push

DENSITIES = {"linear": "uniform", "weighted": "uniform", "sigmoid": "logit_normal"}
SHIFTED = ("shift", "flux_shift", "lumina2_shift")  # one way, whatever the model
# How far its training scheduler of an architecture shifts, where not by size. That of SD3 is made
# without its number, so it does not shift.
SHIFTS = {
    **dict.fromkeys(("wan21", "wan21_i2v", "zimage"), 3.0),
    **dict.fromkeys(("wan22_14b", "wan22_14b_i2v", "wan22_5b"), 5.0),
    "sd3": 1.0,
}
LAWS_OF: Mapping[str, ShiftLaw] = {
    "flux": "flux_shift",
    "flux_kontext": "flux2_shift",  # counts every cell as a token
    **dict.fromkeys(("flux2", "flux2_klein_4b", "flux2_klein_9b"), "flux2_shift"),
    **dict.fromkeys(("qwen_image", "qwen_image_edit", "qwen_image_edit_plus"), "qwen_shift"),
}
TERMINAL = 0.02  # Qwen-Image's scheduler stretches its levels to end there
STEPS = {  # places among 1000 levels from the noisy end
    "one_step": (0,),
    "two_step": (0, 499),
    "four_step": (0, 250, 500, 750),
    "eight_step": tuple(range(0, 1000, 125)),
}
ENDS = ("min_denoising_steps", "max_denoising_steps")
TOP = 999  # its default of max_denoising_steps
BOUNDARY = 0.875  # between the experts, image-to-video's too


def timesteps_of(train: OptionTable, model: Mapping[str, Any], arch: str) -> dict[str, Any]:
    """[timesteps] of our `model`, which is empty where Frisket has none; `arch` is what it is."""
    if not train.values:
        return {}
    flowing = train.text("noise_scheduler", "ddpm") == "flowmatch"
    if not (is_flow(model) if model else flowing):
        if flowing:
            message = "trains this model as a flow; here it predicts what it was made to predict"
            train.say("noise_scheduler", "no equivalent", message)
        return _narrow(train, {"density": "uniform", "shift": 1.0}, flow=False) | _read_snr(
            train, model
        )
    for name in ("snr_gamma", "min_snr_gamma"):
        if train.number(name):
            message = "is for models that predict epsilon or v; this one predicts a flow"
            train.say(name, "not needed", message)
    kind = train.text("timestep_type", "sigmoid").lower()
    timesteps = _read_density(train, model, arch.partition(":")[0], kind)
    names = ("content_or_style", *ENDS)
    if timesteps.get("density") == "levels":
        tell_unread(train, names, f"is not read with timestep_type = {kind}")
    elif str(model.get("variant", "")).endswith("a14b"):
        tell_unread(train, ENDS, "the experts' own boundary goes before it")
        timesteps = _narrow(train, timesteps, flow=True, full_range=True)
    else:
        timesteps = _narrow(train, timesteps, flow=True)
    return timesteps | _read_weighting(train, kind) | _read_experts(train, model)


def _read_density(
    train: OptionTable, model: Mapping[str, Any], arch: str, kind: str
) -> dict[str, Any]:
    """Density and shift; the options that set linear levels go before timestep_type."""
    if kind in STEPS:
        train.say("timestep_type", "mapped", "is timesteps.levels here")
        return {
            "density": "levels",
            "levels": [(1000 - place) / 1000 for place in STEPS[kind]],
            "shift": 1.0,
        }
    if kind == "next_sample":
        return _list_sampler_levels(train, model, arch)
    if train.flag("linear_timesteps") or train.flag("linear_timesteps2"):
        return {"density": "uniform", "shift": 1.0}
    if train.text("noise_scheduler", "ddpm") != "flowmatch" and arch in SHIFTS:
        message = "its flow scheduler spaces levels as timestep_type = shift with any but flowmatch"
        train.say("noise_scheduler", "mapped", message)
        kind = "shift"
    if kind in SHIFTED:
        return {"density": "uniform"} | _read_shift(train, model, arch)
    if kind in DENSITIES:
        return {"density": DENSITIES[kind], "shift": 1.0}
    message = "there is no such density; the family's is taken (timesteps.density)"
    train.say("timestep_type", "no equivalent", message)
    return {}


def _read_shift(train: OptionTable, model: Mapping[str, Any], arch: str) -> dict[str, Any]:
    if arch in SHIFTS:
        shift = SHIFTS[arch]
        message = f"the shift of its scheduler is {shift:g}: density uniform, shift {shift:g}"
        train.say("timestep_type", "mapped", message)
        # Its least level is a shifted one before it shifts them all.
        least = {"low": round(push(push(1e-3, shift), shift), 6), "bounds": "cut"}
        return {"shift": shift} | (least if shift != 1 else {})
    if arch not in LAWS_OF:
        message = (
            'the shift of its scheduler is not known here; "auto" is what the model samples with'
        )
        train.say("timestep_type", "no equivalent", message)
        return {"shift": "auto"}
    law, message = map_shift(model, LAWS_OF[arch])
    train.say("timestep_type", "mapped", message)
    return {"shift": law} | ({"low": TERMINAL} if LAWS_OF[arch] == "qwen_shift" else {})


def _list_sampler_levels(train: OptionTable, model: Mapping[str, Any], arch: str) -> dict[str, Any]:
    """The levels of a sampler of so many steps but its last two."""
    train.say("timestep_type", "mapped", "is timesteps.levels here")
    shift = {"shift": _read_shift(train, model, arch)["shift"]}
    if LAWS_OF.get(arch) == "qwen_shift":
        shift["low"] = TERMINAL
    count = train.whole("next_sample_timesteps", 8, low=3)
    fixed = shift["shift"] if isinstance(shift["shift"], float) else 1.0
    step = (1 - push(1e-3, fixed)) / (count - 1)
    levels = [round(1 - place * step, 6) for place in range(count - 2)]
    return {"density": "levels", "levels": levels} | shift


def _narrow(
    train: OptionTable, timesteps: dict[str, Any], *, flow: bool, full_range: bool = False
) -> dict[str, Any]:
    """Which part of the levels, by rank from the noisy end, and which end of it more often."""
    kind = train.text("content_or_style", "balanced")
    more = {"emphasis": kind} if kind in ("content", "style") else {}
    if more:
        train.say("content_or_style", "mapped", "is timesteps.emphasis here")
    first = train.whole("min_denoising_steps", 0)
    last = min(train.whole("max_denoising_steps", TOP), TOP)
    bounds: dict[str, Any] = {}
    if not full_range and (first > 0 or last < TOP):
        bounds = _cut(train, timesteps, first, last)
    if flow or more or bounds:
        return timesteps | more | bounds
    return {}  # what models of noise do by themselves


def _cut(train: OptionTable, timesteps: Mapping[str, Any], first: int, last: int) -> dict[str, Any]:
    shift = timesteps.get("shift", "auto")
    if isinstance(shift, str) or first >= last:
        for name in ENDS:
            if name in train:
                message = (
                    "counts among levels that follow the size: timesteps.low and high are fixed"
                )
                train.say(name, "no equivalent", message)
        return {}
    least = push(1e-3, shift) if shift != 1 else 0.0
    ranks = (1 - last / 1000, 1 - first / 1000)
    levels = [least + (1 - least) * _find_level(timesteps["density"], rank) for rank in ranks]
    low, high = (push(level, shift) for level in levels)
    for name, key in zip(ENDS, ("high", "low"), strict=True):
        if name in train:
            message = f"counts levels from the noisy end: timesteps.{key}, which cuts"
            train.say(name, "mapped", message)
    return {"low": round(low, 6), "high": round(high, 6), "bounds": "cut"}


def _find_level(density: str, rank: float) -> float:
    """The level below which a share of the draws lies."""
    if density == "uniform" or rank in (0.0, 1.0):
        return rank
    return 1 / (1 + math.exp(-NormalDist().inv_cdf(rank)))


def _read_weighting(train: OptionTable, kind: str) -> dict[str, Any]:
    if kind == "weighted":
        message = 'is density uniform with timesteps.weighting = "flex", its weights to 0.5 %'
        train.say("timestep_type", "mapped", message)
        return {"weighting": "flex"}
    for name, weighting in (("linear_timesteps2", "half_bell"), ("linear_timesteps", "bell")):
        if train.flag(name):
            message = f'is density uniform with timesteps.weighting = "{weighting}" here'
            train.say(name, "mapped", message)
            return {"weighting": weighting}
    return {}


def _read_snr(train: OptionTable, model: Mapping[str, Any]) -> dict[str, Any]:
    if train.number("snr_gamma"):
        message = (
            "weighs by gamma / SNR without a ceiling there; timesteps.min_snr, with 1 as the"
            " ceiling, stands in"
        )
        train.say("snr_gamma", "no equivalent", message)
        return {"min_snr": train.number("snr_gamma")}
    if not train.number("min_snr_gamma"):
        return {}
    if model.get("variant") == "sdxl-v":
        message = "is timesteps.min_snr, which for v divides by SNR + 1; it divides by SNR there"
        train.say("min_snr_gamma", "no equivalent", message)
    return {"min_snr": train.number("min_snr_gamma")}


def _read_experts(train: OptionTable, model: Mapping[str, Any]) -> dict[str, Any]:
    """Both experts of Wan 2.2 take turns there, however rare the levels of one are."""
    variant = str(model.get("variant", ""))
    if not variant.endswith("a14b"):
        return {}
    if "i2v" in variant:
        message = f"its experts part at {BOUNDARY:g} for image-to-video too; here at 0.9"
        train.say("switch_boundary_every", "no equivalent", message, BOUNDARY)
    if model.get("experts") in ("high", "low"):
        return {}
    message = (
        'both experts are trained as often: timesteps.experts = "even", turn by turn by chance'
    )
    train.say("switch_boundary_every", "mapped", message, 1)
    return {"experts": "even"}
