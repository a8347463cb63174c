"""`frisket doctor`, token routing: what it will carry, what that saves, and what it does not."""

from typing import NamedTuple

from frisket.config.tree import Config
from frisket.families.base import FAMILIES, WeightsNotFound
from frisket.families.experts import first
from frisket.media.frames import BadMedia
from frisket.routing.flops import StepCost, UnknownRows, expect_routed, mix_ratios
from frisket.routing.router import find_window
from frisket.runs.memory.estimate import Prediction, Unpredictable, make_source, predict
from frisket.runs.memory.report import MemoryReport, format_gib
from frisket.runs.memory.step_cost import count_training
from frisket.runs.methods.expected_tokens import ExpectedTokens, expect_tokens
from frisket.runs.methods.token_routing import is_routed

SHARES = (0.5, 0.25)  # of the tokens, named where nothing is known of the masks


class UnknownMasks(ValueError):
    """Masks that nothing can be told from yet; the message says why."""


class RoutingForecast(NamedTuple):
    """What routing makes of a step and of a run; `tokens` is None where the masks are not known."""

    cost: StepCost
    tokens: ExpectedTokens | None
    unknown: str  # why they are not


def predict_run(config: Config, *, prepare: bool = True) -> Prediction:
    """What a run takes at its worst step: a full one, unless there is sure to be none.

    Raises as `predict` does.
    """
    largest = 0.0 if may_be_full(config) else _find_largest(config)
    return predict(config, prepare=prepare, kept_share=largest or 1.0)


def may_be_full(config: Config) -> bool:
    """Whether there are full steps whatever the masks are."""
    options = config.routing
    return not is_routed(config) or options.full_step_probability > 0 or options.full_from < 1


def report_routing(config: Config) -> MemoryReport:
    """Expected share of tokens, how much faster that is, and peaks; of a config that is routed."""
    try:
        forecast = predict_routing(config)
        full_peak = predict(config, prepare=False).training
        share = forecast.tokens.largest_share if forecast.tokens else 0.0
        routed_peak = predict(config, prepare=False, kept_share=share).training if share else 0.0
    except WeightsNotFound as error:
        return MemoryReport("note", f"not predicted: {error}", "fetch the weights, then ask again")
    except (Unpredictable, UnknownRows) as error:
        return MemoryReport("note", f"not predicted: {error}", "watch the first steps of the run")
    cost, tokens = forecast.cost, forecast.tokens
    start, end = find_window(config.routing.start, config.routing.end, len(cost.blocks))
    inside = cost.measure_window(start, end)
    window = f"blocks {start} to {end - 1} of {len(cost.blocks)} are {inside:.0%} of a step"
    if tokens is None:
        ratios = [
            f"{cost.predict_ratio(share, start, end):.2f} with {share:.0%} of the tokens"
            for share in SHARES
        ]
        message = (
            f"what it will carry is not known: {forecast.unknown}; {window}: a routed step is"
            f" faster by {', '.join(ratios)}"
        )
        return MemoryReport("note", message, "`frisket inspect` shows what is wrong with the masks")
    if not share:
        message = (
            f"no batch is routed: all {tokens.clip_count} clips looked at have weight in too many"
            " of their tokens (no mask, or a background of weight above 0: everywhere)"
        )
        fix = (
            "leave [routing] out, or give masks; with few tokens lower routing.multiple and"
            " routing.dilate, or raise routing.max_kept"
        )
        return MemoryReport("note", message, fix)
    ratio = cost.predict_ratio(tokens.routed_share, start, end)
    steps = expect_routed(config.routing.full_step_probability, config.routing.full_from)
    steps *= 1 - tokens.whole_share
    message = (
        f"a routed step carries about {tokens.routed_share:.0%} of the image's tokens"
        f" ({tokens.clip_count} clips looked at); {window}: it is {ratio:.2f} times faster, the run"
        f" {mix_ratios(ratio, steps):.2f} times, counted in operations; a routed step peaks at"
        f" {format_gib(routed_peak)}, a full one at {format_gib(full_peak)}"
    )
    if steps < 1:
        message += f"; {steps:.0%} of steps are routed: the full ones set what the run needs"
    return MemoryReport("ok", message, "")


def predict_routing(config: Config) -> RoutingForecast:
    """Cost of a step and what is expected of the masks; raises as `count_training` does."""
    cost = count_training(config)
    try:
        return RoutingForecast(cost, look_at_masks(config), "")
    except UnknownMasks as error:
        return RoutingForecast(cost, None, str(error))


def look_at_masks(config: Config) -> ExpectedTokens:
    """`expect_tokens` of a configuration; UnknownMasks where its masks cannot be read."""
    family = FAMILIES.load(config.model.family)
    routes = family.routes
    if routes is None:
        raise UnknownMasks(f"{family.name} has no tokens that could pass by its blocks")
    patch = routes.find_patch(first(family.load_denoiser(make_source(config, family))))
    try:
        return expect_tokens(config, patch)
    except (BadMedia, OSError, ValueError) as error:
        raise UnknownMasks(str(error)) from error


def _find_largest(config: Config) -> float:
    """The largest share that a step carries; 0 where some step carries all, or nothing is known."""
    try:
        tokens = look_at_masks(config)
    except UnknownMasks:
        return 0.0
    return 0.0 if tokens.whole_share else tokens.largest_share
