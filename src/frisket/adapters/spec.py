"""What an adapter is: its form, size and place, and the words that files say it with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["lora", "dora", "loha", "lokr"]
Form = Literal["comfyui", "diffusers", "kohya"]
ADAPTER = "default"  # peft's name of the one adapter
RECORD = "frisket.adapter"  # metadata key of the LoraSpec a file was made with
DIFFUSERS_RECORD = "lora_adapter_metadata"  # where diffusers' loaders look for rank and alpha
EXPERT = "frisket.expert"  # metadata key: which of several denoisers a file is for
EXPERT_RANGE = "frisket.expert_range"  # metadata key: JSON [low, high), the range of t it is for


class AdapterMismatch(ValueError):
    """An adapter file that does not fit the denoiser or the adapter on it."""


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """What an adapter is: its form, size and place.

    `alpha` empty is the rank (scale 1). `dropout` is on the adapter's input for lora and dora, on
    the rank for loha and lokr. `targets`, `exclude` and `dead`: see
    `frisket.adapters.targets.resolve`.
    """

    kind: Kind = "lora"
    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """The numerator of alpha / rank."""
        return float(self.rank if self.alpha is None else self.alpha)


def record_of(metadata: Mapping[str, str]) -> LoraSpec | None:
    """The spec in Frisket's own record, if there is one."""
    if RECORD not in metadata:
        return None
    record = json.loads(metadata[RECORD])
    for name in ("targets", "exclude", "dead"):
        record[name] = tuple(record.get(name, ()))
    return LoraSpec(**record)
