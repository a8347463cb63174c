"""Which keys a file of each format has for an adapter, and whether they can hold it."""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from frisket.adapters.spec import AdapterForm, AdapterKind, AdapterMismatch
from frisket.families.key_map import Names, UnknownLayer

# peft: diffusers' names and peft's words, what `load_lora_weights` reads. sliced: diffusers' names
# and the words of ComfyUI. dotted and flat: the authors' names.
Spelling = Literal["peft", "sliced", "dotted", "flat"]
# What to take where a format cannot hold an adapter.
SLICED = 'take lora.format = "comfyui" (--to comfyui)'
DIFFUSERS = (
    'take lora.format = "diffusers" (--to diffusers), which ComfyUI does not read for this family,'
    " or another lora.kind or lora.targets"
)


def check_form(names: Names, kind: AdapterKind, form: AdapterForm, layers: Iterable[str]) -> None:
    """Raise AdapterMismatch where files of a format cannot hold an adapter; nothing is computed.

    `layers` are the diffusers' names of the adapted layers. The message says why and which format
    to take.
    """
    spelling_of(form, dict.fromkeys(layers, kind), names)


def spelling_of(
    form: AdapterForm, kinds: Mapping[str, AdapterKind], names: Names | None
) -> Spelling:
    """How the keys of a format are written, for the kind of each layer by diffusers' name.

    AdapterMismatch as `check_form`; ValueError where a format needs the family's table and there is
    none.
    """
    if form == "diffusers":
        return "peft"
    if names is None:
        raise ValueError(f"{form} keys need the family's table of names")
    if form in names.unwritten:
        reason = names.unwritten[form]
        raise AdapterMismatch(
            f'lora.format = "{form}" is not written for this family: {reason}; {SLICED}'
        )
    if form == "comfyui" and names.comfyui == "diffusers":
        return "sliced"
    fault = _fault(kinds, names)
    if not fault:
        return "flat" if form == "kohya" or names.comfyui == "kohya" else "dotted"
    sliced = all(re.fullmatch(names.sliced, name) for name in kinds)
    if not sliced:
        raise AdapterMismatch(f"{fault}; {DIFFUSERS}")
    if form != "comfyui":
        raise AdapterMismatch(f"{fault}; {SLICED}")
    return "sliced"


def _fault(kinds: Mapping[str, AdapterKind], names: Names) -> str:
    """Why the authors' names cannot hold an adapter; empty where they can."""
    groups: dict[str, list[AdapterKind]] = {}
    counts: dict[str, int] = {}
    for name, kind in kinds.items():
        try:
            original, _, count = names.original(name)
        except UnknownLayer as error:
            turned = names.find_turned(name)
            if turned is None:
                return str(error)
            original, count = turned, 1
        groups.setdefault(original, []).append(kind)
        counts[original] = count
    for original, part_kinds in groups.items():
        if counts[original] > 1 and (reason := _unfusable(part_kinds, counts[original])):
            return (
                f"{original}: the original model fuses {counts[original]} layers there, and"
                f" {reason} cannot be written for them"
            )
    return ""


def _unfusable(kinds: list[AdapterKind], count: int) -> str:
    """What of a fused layer's parts cannot become one layer, in words."""
    if len(set(kinds)) > 1:
        return f"several kinds at once ({', '.join(sorted(set(kinds)))})"
    if kinds[0] == "dora" and len(kinds) < count:
        return "a dora of some of them only"
    return f"a {kinds[0]}" if kinds[0] in ("loha", "lokr") else ""
