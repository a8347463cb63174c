"""Training options that kohya's trainers share, as sections of a Frisket configuration."""

from collections.abc import Mapping
from typing import Any

from frisket.data.flags.memory import memory
from frisket.data.flags.network import network
from frisket.data.flags.noise import noise
from frisket.data.flags.optimizer import optimizer
from frisket.data.flags.options import Flags
from frisket.data.flags.preview import preview
from frisket.data.flags.run import Epoch, run, steps_of
from frisket.data.layout_noise import LAWS, OTHER, by_size

Sections = dict[str, dict[str, Any]]


def training(
    flags: Flags, *, trainer: str, epoch: Epoch, model: Mapping[str, Any], shift: float | None
) -> Sections:
    """The sections that follow from training options, and a note for each of them.

    Defaults that differ from ours are written out: 1600 steps, a learning rate of 2e-6, rank 4 with
    alpha 1, all checkpoints kept. `model` is the section. Flow models get their noise levels, with
    `shift` where the options leave it open; None for other models.
    """
    adapter = network(flags, model)
    return {
        "optimizer": optimizer(
            flags, trainer=trainer, adapter=adapter, steps=steps_of(flags, epoch)
        ),
        "run": run(flags, epoch),
        "lora": adapter.section,
        "memory": memory(flags),
        "timesteps": _timesteps(flags, model, shift),
        "noise": noise(flags, model, trainer=trainer),
        "preview": preview(flags, epoch, trainer=trainer),
    }


def _timesteps(flags: Flags, model: Mapping[str, Any], shift: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option, key in (("min_timestep", "low"), ("max_timestep", "high")):
        if option in flags:
            found[key] = min(1.0, flags.number(option, low=0.0) / 1000)
    if flags.number("min_snr_gamma"):
        found["min_snr"] = flags.number("min_snr_gamma")
    return found if shift is None else found | _density(flags, model, shift)


def _density(flags: Flags, model: Mapping[str, Any], shift: float) -> dict[str, Any]:
    """Noise levels of flow models: the ways of drawing them that both have."""
    table = flags.at("timestep_sampling")
    way = table.text("timestep_sampling", "sigma")
    weighting = flags.text("weighting_scheme", "none")
    option = "training_shift" if "training_shift" in flags else "discrete_flow_shift"
    shifted = {"shift": flags.number(option, shift)}
    spread = {
        "density": "logit_normal",
        "std": flags.number("sigmoid_scale", 1.0),
    }
    counts = {"weighting": weighting} if weighting in ("sigma_sqrt", "cosmap") else {}
    if way == "uniform":
        return {"density": "uniform", "shift": 1.0} | counts
    if way == "sigmoid":
        return spread | {"shift": 1.0} | counts
    if way == "shift":
        return spread | shifted | counts
    if way.endswith("_shift"):
        same, said = by_size(model, LAWS[way]) if way in LAWS else (False, OTHER)
        table.say("timestep_sampling", "mapped" if same else "no equivalent", said)
        return spread | {"shift": "auto"} | counts
    if way != "sigma":
        said = "there is no such density; the variant's own stands in (timesteps.density)"
        table.say("timestep_sampling", "no equivalent", said)
        return counts
    if weighting == "logit_normal":
        drawn = {
            "density": "logit_normal",
            "mean": flags.number("logit_mean"),
            "std": flags.number("logit_std", 1.0),
        }
    elif weighting == "mode":
        drawn = {"density": "mode", "scale": flags.number("mode_scale", 1.29)}
    else:
        drawn = {"density": "uniform"}
    return drawn | shifted | counts


def merged(*several: Mapping[str, Mapping[str, Any]]) -> Sections:
    """Sections laid over each other, the later ones last; empty ones left out."""
    found: Sections = {}
    for sections in several:
        for name, table in sections.items():
            found[name] = found.get(name, {}) | dict(table)
    return {name: table for name, table in found.items() if table}
