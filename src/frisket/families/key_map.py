"""What a family's own release calls the layers that diffusers calls otherwise: a table."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal


class UnknownLayer(KeyError):
    """A layer name that is not in a family's table; the message names it."""

    def __str__(self) -> str:
        """The message as it was given (KeyError would quote it)."""
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Names:
    """Layer names of the authors' checkpoint (of ComfyUI and kohya's trainers too) and diffusers'.

    `rows` maps an original layer name to the diffusers name, or to several where the original fuses
    them along its output rows, in that order (`img_attn.qkv` <- to_q, to_k, to_v). `{}` stands for
    a number (of a block), the same on both sides and in the same order. An empty table says that
    both sides call everything alike. `comfyui` is how the files that ComfyUI reads without
    conversion write their keys: `dotted` (`diffusion_model.<original>.lora_A.weight`), `kohya`
    (`lora_unet_<original, dots as _>.lora_down.weight`) or `diffusers`
    (`transformer.<diffusers>.lora_A.weight`). `kohya` is the prefix of the second. `sliced` is
    an expression for the diffusers' names that ComfyUI reads as well, the parts of a fused layer as
    slices of it; so they hold what cannot be fused. `unwritten` are formats that are not written,
    each with the reason. `also` has further names that programs write for the same layers; they are
    read, never written. `turned` are layers, original to diffusers, that are more than a name
    apart: where one has twice as many outputs as inputs the original computes shift then scale,
    diffusers scale then shift.
    """

    rows: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    comfyui: Literal["dotted", "kohya", "diffusers"] = "dotted"
    sliced: str = ""
    unwritten: Mapping[str, str] = field(default_factory=dict)
    dotted: str = "diffusion_model"
    kohya: str = "lora_unet"
    also: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    turned: Mapping[str, str] = field(default_factory=dict)

    def original(self, name: str) -> tuple[str, int, int]:
        """Original name of a diffusers layer, its place among the layers fused there, how many.

        UnknownLayer where the table does not have it.
        """
        if not self.rows:
            return name, 0, 1
        for pattern, template, place, count in _forward(self._key):
            if match := pattern.fullmatch(name):
                return template.format(*match.groups()), place, count
        raise UnknownLayer(f"{name} is no layer in this family's table of names")

    def find_turned(self, name: str) -> str | None:
        """Original name of a layer that is more than a name apart; None for the others."""
        for original, ours in self.turned.items():
            if match := _pattern(ours).fullmatch(name):
                return original.format(*match.groups())
        return None

    def diffusers(self, original: str) -> tuple[str, ...]:
        """Diffusers names of an original layer: one, or those it fuses; UnknownLayer if none."""
        if not self.rows:
            return (original,)
        for pattern, templates in _backward(self._key):
            if match := pattern.fullmatch(original):
                return tuple(template.format(*match.groups()) for template in templates)
        raise UnknownLayer(f"{original} is no original layer in this family's table of names")

    @property
    def _key(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return tuple((key, _names(value)) for key, value in self.rows.items())


def _names(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(r"(\d+)".join(re.escape(part) for part in template.split("{}")))


@cache
def _forward(
    rows: tuple[tuple[str, tuple[str, ...]], ...],
) -> tuple[tuple[re.Pattern[str], str, int, int], ...]:
    return tuple(
        (_pattern(name), original, place, len(names))
        for original, names in rows
        for place, name in enumerate(names)
    )


@cache
def _backward(
    rows: tuple[tuple[str, tuple[str, ...]], ...],
) -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
    return tuple((_pattern(original), names) for original, names in rows)
