"""Noise that is more than Gaussian: offset and pyramids."""

from collections.abc import Mapping
from typing import Any

from frisket.importers.flags.options import Flags
from frisket.importers.noise import is_flow

OPTIONS = (
    "noise_offset", "noise_offset_random_strength", "multires_noise_iterations",
    "multires_noise_discount", "adaptive_noise_scale", "zero_terminal_snr",
)  # fmt: skip


def map_noise(flags: Flags, model: Mapping[str, Any], *, trainer: str) -> dict[str, Any]:
    """`[noise]`; of sd-scripts only what trains Stable Diffusion reads these options.

    A fork of musubi-tuner (Sarania's blissful-tuner) reads them whatever it trains.
    """
    if trainer == "kohya" and is_flow(model):
        for option in OPTIONS:
            if option in flags:
                message = "its trainers of flow models do not read it; so it is here"
                flags.say(option, "not needed", message)
        return {}
    section: dict[str, Any] = {}
    if offset := flags.number("noise_offset", low=0.0):
        section["offset"] = offset
        if flags.flag("noise_offset_random_strength"):
            section["offset_random"] = True
    if rounds := flags.whole("multires_noise_iterations"):
        section["multires_iterations"] = rounds
        section["multires_discount"] = flags.number("multires_noise_discount", 0.3)
    for option, other in (
        ("noise_offset_random_strength", "noise_offset"),
        ("multires_noise_discount", "multires_noise_iterations"),
    ):
        if option in flags and not flags.number(other):
            flags.say(option, "not needed", f"without {other} it does nothing")
    return section
