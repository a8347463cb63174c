"""Foretells what a run takes of its card, part by part, and what each switch saves."""

from pathlib import Path
from typing import Any

from frisket.config.load import load, read
from frisket.config.tree import Config
from frisket.families.base import WeightsNotFound
from frisket.recipes.serve.session import Answer, Session
from frisket.runs.memory.estimate import Prediction, Unpredictable, predict
from frisket.runs.memory.report import (
    CARDS,
    CONTEXT,
    SLACK,
    card,
    describe,
    estimate_need,
    fits,
    format_change,
    list_switches,
    with_change,
)
from frisket.training.memory.plan import MemoryPlan, check

PARTS = ("weights", "adapter", "optimizer", "gradients", "activations")


def estimate_memory(session: Session, args: dict[str, Any]) -> Answer:
    """The parts of a `text` at `path` in MiB, and which switches make it fit `room_mib`.

    `measured` {config, peak_mib} is an earlier run of the same model on a card: `factor` is what it
    took of what was foretold for it. `unknown` says why nothing is foretold.
    """
    config, _ = read(Path(str(args["path"])), text=str(args["text"]))
    check(MemoryPlan(**config.memory.model_dump()), adapter=config.lora.kind)
    session.report_progress("rehearsing a step on shapes", 0, 1)
    try:
        prediction = predict(config)
    except (WeightsNotFound, Unpredictable) as error:
        return Answer({"unknown": str(error)})
    factor = _measure_factor(args.get("measured"))
    value = describe_prediction(prediction) | {"factor": factor, "unknown": ""}
    room = args.get("room_mib")
    if room is not None:
        # The room is held against the plain prediction: a factor above 1 makes it smaller.
        changes = fits(config, float(room) / (factor or 1.0), predict)
        value["changes"] = [_describe_change(change, cost) for cost, change in changes if change]
        value["enough"] = not changes or bool(changes[-1][1])
    return Answer(value)


def describe_prediction(prediction: Prediction) -> dict[str, Any]:
    """A prediction as JSON, in MiB."""
    return {
        "parts": {name: getattr(prediction, name) for name in PARTS},
        "training": prediction.training,
        "vae": prediction.vae,
        "text": prediction.text,
        "waiting": prediction.waiting,
        "total": prediction.total,
        "need": estimate_need(prediction),
        "context": CONTEXT,
        "slack": SLACK,
        "latents": list(prediction.latents),
        "words": describe(prediction),
        "card": card(prediction),
        "cards": list(CARDS),
    }


def _describe_change(change: dict[str, Any], cost: str) -> dict[str, Any]:
    return {
        "changes": [{"key": name.split("."), "value": value} for name, value in change.items()],
        "words": format_change(change).replace("--set ", ""),
        "cost": cost,
    }


def _measure_factor(measurement: Any) -> float | None:
    """Measured peak over foretold peak of an earlier run; None where either is not known."""
    if not measurement:
        return None
    try:
        foretold = predict(load(Path(str(measurement["config"])))).total
    except (ValueError, OSError, ImportError, WeightsNotFound, Unpredictable):
        return None
    return float(measurement["peak_mib"]) / (foretold * SLACK) if foretold > 0 else None


def list_savings(session: Session, args: dict[str, Any]) -> Answer:
    """What each switch alone would save of a `text` at `path`, in MiB, and what it costs."""
    config, _ = read(Path(str(args["path"])), text=str(args["text"]))
    now = predict(config)
    switches = {  # one that comes twice is foretold once
        format_change(change): (cost, change)
        for cost, change in reversed(list(list_switches(config, now)))
        if with_change(config, change) != config
    }
    rows = []
    for number, (cost, change) in enumerate(reversed(switches.values())):
        session.report_progress("rehearsing each switch", number, len(switches))
        saved = _measure_saving(config, change, now)
        if saved is not None:
            rows.append(_describe_change(change, cost) | {"saves": saved})
    return Answer({"switches": rows, "need": estimate_need(now)})


def _measure_saving(config: Config, change: dict[str, Any], now: Prediction) -> float | None:
    try:
        changed = with_change(config, change)
        check(MemoryPlan(**changed.memory.model_dump()), adapter=changed.lora.kind)
        return estimate_need(now) - estimate_need(predict(changed))
    except (ValueError, ImportError, Unpredictable, WeightsNotFound):
        return None  # a switch that this model or machine does not have saves nothing


OPS = {"memory.estimate": estimate_memory, "memory.savings": list_savings}
