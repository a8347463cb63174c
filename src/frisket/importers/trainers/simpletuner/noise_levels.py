"""SimpleTuner's noise levels (bc8e6ab): `sample_flow_sigmas`, and its biased levels of noise."""

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from frisket.importers.noise import (
    PARTS,
    build_histogram,
    describe_beyond_expert,
    map_shift,
    note_without_snr,
    tell_unread,
)
from frisket.importers.options import OptionTable
from frisket.objectives.kinds import ShiftLaw

SHIFT = 3.0  # its default of flow_schedule_shift
STAGED = ("i2v-14b-2.2-high", "i2v-14b-2.2-low")  # flavours that set a shift of their own
STAGE = 5.0
NOISE = ("sd1x", "sd2x", "sdxl", "kolors", "deepfloyd", "pixart_sigma")  # no flows
VIDEO = ("wan", "hunyuan_video")
FAST = [1.0] * 7 + [0.75, 0.5, 0.25]  # of flux_fast_schedule
LEVELS = 1000
BIAS = (
    *("timestep_bias_strategy", "timestep_bias_multiplier", "timestep_bias_portion"),
    *("timestep_bias_begin", "timestep_bias_end", "disable_segmented_timestep_sampling"),
)
CUSTOM = ("flow_custom_timesteps", "flow_timesteps_mode")
CUBIC, EVEN, FAST_ONES = (
    "flow_cubic_schedule_weights",
    "flow_use_uniform_schedule",
    "flux_fast_schedule",
)
BETA = ("flow_use_beta_schedule", "flow_beta_schedule_alpha", "flow_beta_schedule_beta")
SIGMOID = ("flow_sigmoid_scale",)
SHIFTS = ("flow_schedule_shift", "flow_schedule_auto_shift")
FLOW = (*CUSTOM, CUBIC, EVEN, FAST_ONES, *BETA, *SIGMOID, *SHIFTS)
COARSE = (10, 20, 25, 40, 50, 100, 200, 500, LEVELS)  # equal parts, as few as tell it
LEAST = 1e-3


def timesteps_of(trainer: OptionTable, model: Mapping[str, Any]) -> dict[str, Any]:
    """[timesteps] of our `model`, which is empty where Frisket has none."""
    if trainer.text("model_family") in ("", *NOISE):
        shift = trainer.number("flow_schedule_shift") if not model else 0.0
        timesteps = {"min_snr": trainer.number("snr_gamma")} if trainer.number("snr_gamma") else {}
        if model:
            tell_unread(trainer, FLOW, "is for models that predict a flow")
        return timesteps | ({"shift": shift} if shift > 0 else {}) | _read_bias(trainer)
    note_without_snr(trainer, "snr_gamma")
    tell_unread(trainer, BIAS, "is for models that predict epsilon or v; flows do not read it")
    if message := describe_beyond_expert(model, 0.0, 1.0):
        trainer.defect("model_flavour", message)
    if listed := _read_levels(trainer):
        unread = [name for name in FLOW if name not in CUSTOM]
        tell_unread(trainer, unread, "the listed levels go before it")
        return {"density": "levels", "levels": listed, "shift": 1.0}
    return _read_density(trainer) | {"shift": _read_shift(trainer, model)}


def _read_levels(trainer: OptionTable) -> list[float]:
    """The levels that are trained alone; empty where a density is."""
    name = "flow_custom_timesteps"
    values = _read_numbers(trainer, name)
    if values:
        trainer.say(name, "mapped", "is timesteps.levels here, each drawn as often")
        mode = trainer.text("flow_timesteps_mode", "fixed-list").replace("_", "-")
        if mode == "round-robin":
            message = "levels are drawn as often, but by chance: not one after another"
            trainer.say("flow_timesteps_mode", "no equivalent", message)
        scale = 1.0 if max(values) <= 1 else 1000.0
        return [min(1.0, max(LEAST, value / scale)) for value in values]
    options = ("flow_use_uniform_schedule", "flow_use_beta_schedule")
    if not trainer.flag("flux_fast_schedule") or any(trainer.flag(option) for option in options):
        return []
    if _read_numbers(trainer, "flow_cubic_schedule_weights"):
        return []
    trainer.say("flux_fast_schedule", "mapped", "is timesteps.levels here")
    return FAST


def _read_numbers(trainer: OptionTable, name: str) -> list[float]:
    """A list of numbers, as it is written there: `1,2`, `[1, 2]` or one number."""
    value = trainer.values.get(name)
    if isinstance(value, str) and value.strip().lower() not in ("", "none"):
        try:
            value = json.loads(value)
        except ValueError:
            value = [part for part in value.replace(";", ",").split(",") if part.strip()]
    if value in (None, "", "None", "none"):
        return []
    values = value if isinstance(value, list) else [value]
    try:
        numbers = [float(number) for number in values]
    except (TypeError, ValueError):
        raise trainer.bad(name, "a list of numbers is needed") from None
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise trainer.bad(name, "a list of numbers of at least 0 is needed")
    return numbers


def _read_density(trainer: OptionTable) -> dict[str, Any]:
    if knots := _read_numbers(trainer, "flow_cubic_schedule_weights"):
        message = "is timesteps.histogram, its curve in equal parts"
        trainer.say("flow_cubic_schedule_weights", "mapped", message)
        return build_histogram(_interpolate(knots))
    if trainer.flag("flow_use_uniform_schedule"):
        tell_unread(trainer, (*BETA, *SIGMOID), "flow_use_uniform_schedule goes before it")
        return {"density": "uniform"}
    if trainer.flag("flow_use_beta_schedule"):
        trainer.say("flow_use_beta_schedule", "mapped", 'is timesteps.density = "beta" here')
        names = {"alpha": "flow_beta_schedule_alpha", "beta": "flow_beta_schedule_beta"}
        parameters = {key: trainer.number(option, 2.0) for key, option in names.items()}
        for key, option in names.items():
            if option in trainer:
                trainer.say(option, "mapped", f"is timesteps.{key} here")
        tell_unread(trainer, SIGMOID, "flow_use_beta_schedule goes before it")
        return {"density": "beta"} | parameters
    tell_unread(trainer, BETA, "flow_use_beta_schedule is off")
    return {"density": "logit_normal", "std": trainer.number("flow_sigmoid_scale", 1)}


def _interpolate(knots: list[float]) -> list[float]:
    """A monotone cubic through evenly spaced knots (Fritsch & Carlson 1980), in equal parts."""
    if len(knots) < 2:
        return [1.0] * PARTS
    steps = [after - before for before, after in pairwise(knots)]
    slopes = [_find_end_slope(steps)]
    for before, after in pairwise(steps):
        slopes.append(2 * before * after / (before + after) if before * after > 0 else 0.0)
    slopes.append(_find_end_slope(steps[::-1]))
    fine = []
    for point in range(4 * PARTS):
        at = (point + 0.5) / (4 * PARTS) * len(steps)
        n = min(int(at), len(steps) - 1)
        s = at - n
        fine.append(
            (2 * s**3 - 3 * s**2 + 1) * knots[n]
            + (s**3 - 2 * s**2 + s) * slopes[n]
            + (3 * s**2 - 2 * s**3) * knots[n + 1]
            + (s**3 - s**2) * slopes[n + 1]
        )
    return [max(0.0, sum(fine[4 * n : 4 * n + 4]) / 4) for n in range(PARTS)]


def _find_end_slope(steps: list[float]) -> float:
    """The slope at an end, by three points and held so that the curve does not overshoot."""
    if len(steps) == 1:
        return steps[0]
    first, second = steps[:2]
    slope = (3 * first - second) / 2
    if slope * first <= 0:
        return 0.0
    return 3 * first if first * second < 0 and abs(slope) > 3 * abs(first) else slope


def _read_shift(trainer: OptionTable, model: Mapping[str, Any]) -> float | str:
    shift = trainer.number("flow_schedule_shift", SHIFT)
    flavour = trainer.text("model_flavour")
    if flavour in STAGED:
        message = f"the flavour {flavour} sets it to {STAGE:g} whatever is given"
        trainer.say("flow_schedule_shift", "mapped", message, STAGE)
        shift = STAGE
    elif "flow_schedule_shift" not in trainer:
        message = f"is set to {shift:g}, its default there"
        trainer.say("flow_schedule_shift", "mapped", message, shift)
    automatic = trainer.flag("flow_schedule_auto_shift")
    if shift > 0:
        if automatic:
            message = f"flow_schedule_shift = {shift:g} overrides it there; 0 turns that off"
            trainer.say("flow_schedule_auto_shift", "not needed", message)
        return shift
    if not automatic:
        return 1.0
    family = model.get("family", "")
    law: ShiftLaw = "flux_shift_video" if family in VIDEO else "flux_shift"
    size_shift, message = map_shift(model, "qwen_shift" if family == "qwen_image" else law)
    trainer.say("flow_schedule_auto_shift", "mapped", message)
    return size_shift


def _read_bias(trainer: OptionTable) -> dict[str, Any]:
    """A density of levels some of which are drawn more often."""
    way = trainer.text("timestep_bias_strategy", "none")
    factor = trainer.number("timestep_bias_multiplier", 1.0)
    if way not in ("earlier", "later", "range") or factor <= 0:
        tell_unread(trainer, BIAS, f"timestep_bias_strategy is {way}: all levels as often")
        return {}
    share = int(trainer.number("timestep_bias_portion", 0.25) * LEVELS)
    start = trainer.whole("timestep_bias_begin", 0)
    end = trainer.whole("timestep_bias_end", LEVELS)
    first, last = {"earlier": (0, share), "later": (LEVELS - share, LEVELS)}.get(way, (start, end))
    weights = [factor if first <= level < last else 1.0 for level in range(LEVELS)]
    batch = trainer.whole("train_batch_size", 4, low=1)
    if batch > 1 and not trainer.flag("disable_segmented_timestep_sampling"):
        weights = _segment(weights, batch)
        message = (
            f"is timesteps.histogram: a batch of {batch} takes one level of each of as many"
            " segments there, so the bias acts within a segment alone, and so here"
        )
        trainer.defect("timestep_bias_strategy", message)
    trainer.say("timestep_bias_strategy", "mapped", "is timesteps.histogram here")
    return build_histogram(_average_parts(weights)) | {"shift": 1.0}


def _segment(weights: list[float], batch: int) -> list[float]:
    """How often each level is drawn where a batch has one of every segment, from the top."""
    shares = [0.0] * LEVELS
    size = max(LEVELS // batch, 1)
    for number in range(batch):
        top = LEVELS - 1 - number * size
        bottom = 0 if number == batch - 1 else max(top - size, 0)
        total = sum(weights[bottom : top + 1])
        for level in range(bottom, top + 1):
            shares[level] += weights[level] / total
    return shares


def _average_parts(weights: list[float]) -> list[float]:
    """Means over as few equal parts as keep every share of the draws to 0.2 %."""
    for parts in COARSE:
        width = LEVELS // parts
        means = [sum(weights[n * width : (n + 1) * width]) / width for n in range(parts)]
        off, worst, total = 0.0, 0.0, sum(weights)
        for level, weight in enumerate(weights):
            off += (weight - means[level // width]) / total
            worst = max(worst, abs(off))
        if worst < 2e-3:
            return means
    return weights
