"""Training options that kohya's trainers share, as sections of a Frisket configuration."""

from collections.abc import Mapping
from typing import Any

from frisket.importers.flags import kohya_noise_levels, musubi_noise_levels
from frisket.importers.flags.memory import memory
from frisket.importers.flags.network import network
from frisket.importers.flags.noise import noise
from frisket.importers.flags.optimizer import optimizer
from frisket.importers.flags.options import Flags
from frisket.importers.flags.preview import preview
from frisket.importers.flags.run import Epoch, run, steps_of

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
    if flags.sheet.rules.title == "musubi-tuner":
        return musubi_noise_levels.timesteps_of(flags, model)
    return kohya_noise_levels.timesteps_of(flags, model, shift)


def merged(*several: Mapping[str, Mapping[str, Any]]) -> Sections:
    """Sections laid over each other, the later ones last; empty ones left out."""
    found: Sections = {}
    for sections in several:
        for name, table in sections.items():
            found[name] = found.get(name, {}) | dict(table)
    return {name: table for name, table in found.items() if table}
