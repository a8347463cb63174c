"""What peft says of an adapter outside its tensors: rank and alpha, by layer, and their rule."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from frisket.adapters import metadata as entries
from frisket.adapters.layers import Layer
from frisket.adapters.metadata import is_number, is_whole
from frisket.adapters.spec import DIFFUSERS_RECORD, AdapterMismatch

FILE = "adapter_config.json"
KINDS = {"LORA": ("lora", "dora"), "LOHA": ("loha",), "LOKR": ("lokr",)}
# Ways to begin that change the base's weights: without that change the adapter does another thing.
CHANGING = ("pissa", "corda", "olora", "loftq", "lora_ga", "mica")
QUANTIFIER = re.compile(r"(?<![\\(])[*+?{]")
# Switches and tables that leave what the tensors do as it is; another one may change it.
KNOWN = re.compile(
    r"use_(dora|rslora|effective_conv2d)|(eva|corda|loftq|lora_ga|megatron|runtime|auto_mapping)_config"
)
OTHER = re.compile(
    r"use_.+|.+_config|fan_in_fan_out|lora_bias|layer_replication|target_parameters"
    r"|trainable_token_indices|alora_invocation_tokens"
)


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """Rank and alpha of an adapter's layers, as peft looks them up.

    Patterns are regular expressions for the end of a module's name; the first that fits counts
    (peft.utils.other.get_pattern_key). The scale is alpha / rank, of rslora alpha / sqrt(rank)
    (arXiv:2312.03732).
    """

    where: str  # the file, or the entry of metadata
    kinds: tuple[str, ...]
    rank: int = 0
    alpha: float | None = None
    ranks: Mapping[str, int] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    rslora: bool = False
    whole: bool = False  # peft's own file, which says everything

    def rank_of(self, name: str) -> int:
        """The rank of a layer by its name in peft's model; 0 where nothing says it."""
        return self.ranks.get(_key(self.ranks, name), self.rank)

    def apply(self, layer: Layer, name: str) -> Layer:
        """A layer with the alpha that is said of it; AdapterMismatch where it is another's."""
        if layer.kind not in self.kinds:
            raise AdapterMismatch(
                f"{name} is a {layer.kind}, and {self.where} is of a {self.kinds[0]}"
            )
        rank = self.rank_of(name)
        if rank and layer.rank and rank != layer.rank:
            raise AdapterMismatch(
                f"{name} has rank {layer.rank}, and {self.where} says {rank}: they do not belong"
                " together"
            )
        alpha = self.alphas.get(_key(self.alphas, name), self.alpha)
        if alpha is None and self.whole:
            raise AdapterMismatch(f"{self.where} does not say the alpha of {name}")
        if alpha is None:
            return layer
        if self.rslora and layer.rank:
            alpha = alpha * math.sqrt(layer.rank)
        return replace(layer, alpha=alpha)


def beside(path: Path) -> PeftConfig | None:
    """The configuration in the folder of a file of peft's, None where there is none."""
    file = path.parent / FILE
    if not file.is_file():
        return None
    try:
        settings = entries.config(file)
    except entries.UnreadableMetadata as error:
        raise AdapterMismatch(f"{error}; it says the adapter's alpha") from error
    kind = settings.get("peft_type", "LORA")
    if not isinstance(kind, str) or kind not in KINDS:
        shown = entries.show_text(str(kind), 40)
        raise AdapterMismatch(f"{file} is of a {shown}; Frisket knows peft's {', '.join(KINDS)}")
    return replace(_config(settings, str(file), KINDS[kind]), whole=True)


def in_metadata(metadata: Mapping[str, str], prefix: str) -> PeftConfig | None:
    """The record of diffusers of the denoiser's adapter, None where there is none."""
    try:
        record = entries.entry(metadata, DIFFUSERS_RECORD)
    except entries.UnreadableMetadata as error:
        way_out = f"convert it with --leave-out {DIFFUSERS_RECORD} to take alpha for the rank"
        raise AdapterMismatch(f"{error}; {way_out}") from error
    start = f"{prefix}."
    ours = {
        key.removeprefix(start): value
        for key, value in (record or {}).items()
        if "." not in key or key.startswith(start)
    }
    return _config(ours, f"its metadata entry {DIFFUSERS_RECORD}", KINDS["LORA"]) if ours else None


def _config(settings: Mapping[str, Any], where: str, kinds: tuple[str, ...]) -> PeftConfig:
    begun = settings.get("init_lora_weights", True)
    if isinstance(begun, str) and begun.lower().startswith(CHANGING):
        shown = entries.show_text(begun, 40)
        raise AdapterMismatch(
            f"{where} says init_lora_weights = {shown}, which changes the base's own weights too;"
            " save it with peft's path_initial_model_for_weight_conversion"
        )
    for word, value in settings.items():
        if value and OTHER.fullmatch(word) and not KNOWN.fullmatch(word):
            shown = entries.show_text(word, 60)
            raise AdapterMismatch(f"{where} says {shown}, which Frisket does not know")
    word = "lora_alpha" if "lora" in kinds else "alpha"
    alpha = _value(settings, word, where, is_number)
    alphas = _patterns(settings, "alpha_pattern", where, is_number)
    return PeftConfig(
        where,
        kinds,
        _value(settings, "r", where, is_whole) or 0,
        None if alpha is None else float(alpha),
        _patterns(settings, "rank_pattern", where, is_whole),
        {name: float(value) for name, value in alphas.items()},
        bool(settings.get("use_rslora")),
    )


def _value(settings: Mapping[str, Any], word: str, where: str, fits: Any) -> Any:
    value = settings.get(word)
    if value is not None and not fits(value):
        raise AdapterMismatch(f"{where} says {word} = {entries.show_text(repr(value), 40)}")
    return value


def _patterns(settings: Mapping[str, Any], word: str, where: str, fits: Any) -> dict[str, Any]:
    table = settings.get(word) or {}
    if not isinstance(table, dict) or not all(map(fits, table.values())):
        raise AdapterMismatch(f"{where} says {word} = {entries.show_text(repr(table), 40)}")
    for pattern in table:
        # A stranger's expression must not search for ever: few repeats, none of a group.
        slow = re.search(r"\)[*+?{]", pattern) or len(QUANTIFIER.findall(pattern)) > 3
        try:
            re.compile(_whole(pattern))
        except (re.error, OverflowError, RecursionError) as error:
            raise AdapterMismatch(
                f"{where}: {word} has {entries.show_text(pattern, 60)!r}, no regular expression"
            ) from error
        if slow or len(pattern) > 500:
            raise AdapterMismatch(
                f"{where}: {word} has {entries.show_text(pattern, 60)!r}, an expression that may"
                " search for hours; write the layers' names"
            )
    return dict(table)


def _whole(pattern: str) -> str:
    return rf"(.*\.)?({pattern})$"


def _key(patterns: Mapping[str, Any], name: str) -> str:
    return next((key for key in patterns if re.match(_whole(key), name)), name)
