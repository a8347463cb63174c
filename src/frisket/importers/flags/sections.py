"""Training options that kohya's trainers share, as sections of a Frisket configuration."""

from collections.abc import Mapping
from typing import Any

from frisket.importers.flags import kohya_noise_levels, musubi_noise_levels
from frisket.importers.flags.memory import map_memory
from frisket.importers.flags.network import map_network
from frisket.importers.flags.noise import map_noise
from frisket.importers.flags.optimizer import map_optimizer
from frisket.importers.flags.options import Flags
from frisket.importers.flags.preview import map_preview
from frisket.importers.flags.run import Epoch, count_steps, map_run

Sections = dict[str, dict[str, Any]]


def map_training(
    flags: Flags, *, trainer: str, epoch: Epoch, model: Mapping[str, Any], shift: float | None
) -> Sections:
    """The sections that follow from training options, and a note for each of them.

    Defaults that differ from ours are written out: 1600 steps, a learning rate of 2e-6, rank 4 with
    alpha 1, all checkpoints kept. `model` is the section. Flow models get their noise levels, with
    `shift` where the options leave it open; None for other models.
    """
    adapter = map_network(flags, model)
    return {
        "optimizer": map_optimizer(
            flags, trainer=trainer, adapter=adapter, steps=count_steps(flags, epoch)
        ),
        "run": map_run(flags, epoch),
        "lora": adapter.section,
        "memory": map_memory(flags),
        "timesteps": _map_timesteps(flags, model, shift),
        "noise": map_noise(flags, model, trainer=trainer),
        "preview": map_preview(flags, epoch, trainer=trainer),
    }


def _map_timesteps(flags: Flags, model: Mapping[str, Any], shift: float | None) -> dict[str, Any]:
    if flags.sheet.rules.title == "musubi-tuner":
        return musubi_noise_levels.map_timesteps(flags, model)
    return kohya_noise_levels.map_timesteps(flags, model, shift)


def merge_sections(*parts: Mapping[str, Mapping[str, Any]]) -> Sections:
    """Sections laid over each other, the later ones last; empty ones left out."""
    merged: Sections = {}
    for sections in parts:
        for name, table in sections.items():
            merged[name] = merged.get(name, {}) | dict(table)
    return {name: table for name, table in merged.items() if table}
