"""What an adapter is: its form, size and place, and the words that files say it with."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from frisket.adapters import metadata as entries
from frisket.adapters.routed.schedule import RankSchedule

AdapterKind = Literal["lora", "dora", "loha", "lokr"]
AdapterForm = Literal["comfyui", "diffusers", "kohya"]
ADAPTER = "default"  # peft's name of the one adapter
RECORD = "frisket.adapter"  # metadata key of the LoraSpec a file was made with
DIFFUSERS_RECORD = "lora_adapter_metadata"  # where diffusers' loaders look for rank and alpha
ALWAYS = ("kind", "rank", "alpha", "dropout", "targets", "exclude", "dead")  # in a record
EXPERT = "frisket.expert"  # metadata key: which of several denoisers a file is for
EXPERT_RANGE = "frisket.expert_range"  # metadata key: JSON [low, high), the range of t it is for


class AdapterMismatch(ValueError):
    """An adapter file that does not fit the denoiser or the adapter on it."""


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """What an adapter is: its form, size and place.

    `alpha` empty is the rank (scale 1). `conv_rank` and `conv_alpha` are those of convolutions
    larger than 1 x 1; 0 gives them what all have. `factor` bounds the smaller factor of a lokr (-1:
    the two nearest to each other), `full_matrix` leaves its larger one whole, at a scale of 1.
    `dropout` is on the adapter's input for lora and dora, on the rows of the update for loha and
    lokr, as is their `rank_dropout`; a lora's leaves ranks out, drawn for each sample.
    `module_dropout` leaves out the whole layer. `targets`, `exclude` and `dead`: see
    `frisket.adapters.targets.resolve`.

    `rank_schedule` says how many ranks act at which noise level, by the options after it (see
    `frisket.adapters.routed.schedule.RankSchedule`); an `orthogonal` one starts as
    `frisket.adapters.routed.orthogonal` says, and is in files as a lora of twice the rank whose
    ranks come in `rank_pairs`. `confine`: it was trained with its update confined to the coverage
    grown by as many cells (None: everywhere). `focus`: on the text it acted on this word alone.
    """

    kind: AdapterKind = "lora"
    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()
    conv_rank: int = 0
    conv_alpha: float | None = None
    factor: int = -1
    full_matrix: bool = False
    rank_dropout: float = 0.0
    module_dropout: float = 0.0
    rank_schedule: Literal["", "t-lora"] = ""
    rank_min: int = 1
    rank_power: float = 1.0
    rank_quantiles: tuple[float, ...] = ()
    rank_pairs: bool = False
    orthogonal: bool = False
    confine: int | None = None
    focus: str = ""

    @property
    def ranks(self) -> RankSchedule | None:
        """The schedule of its ranks, None where all of them act always."""
        if not self.rank_schedule:
            return None
        return RankSchedule(self.rank_min, self.rank_power, self.rank_pairs, self.rank_quantiles)

    @property
    def scale(self) -> float:
        """The numerator of alpha / rank."""
        return float(self.rank if self.alpha is None else self.alpha)

    def as_layer(self, *, spatial: bool) -> "LoraSpec":
        """The spec of one layer alone: `spatial` for a convolution larger than 1 x 1."""
        if self.full_matrix:
            return replace(self, alpha=None, conv_rank=0, conv_alpha=None)
        if not self.conv_rank:
            return self
        rank, alpha = (self.conv_rank, self.conv_alpha) if spatial else (self.rank, self.alpha)
        return replace(self, rank=rank, alpha=alpha, conv_rank=0, conv_alpha=None)

    def record(self) -> dict[str, Any]:
        """What a file says of it: its form, size and place, and of the rest what is no default."""
        default, options = LoraSpec(), asdict(self)
        return {
            name: value
            for name, value in options.items()
            if name in ALWAYS or value != getattr(default, name)
        }


def record_of(metadata: Mapping[str, str]) -> LoraSpec | None:
    """The spec in Frisket's own record, if there is one.

    AdapterMismatch where it is damaged, and where a later Frisket wrote more into it than this one
    knows: what it does not know may change what the adapter does.
    """
    way_out = f"; convert it with --leave-out {RECORD} to go by its tensors alone"
    try:
        record = entries.entry(metadata, RECORD)
    except entries.UnreadableMetadata as error:
        raise AdapterMismatch(f"{error}{way_out}") from error
    if record is None:
        return None
    _check_record(record, way_out)
    for name in ("alpha", "conv_alpha", "dropout", "rank_dropout", "module_dropout", "rank_power"):
        if record.get(name) is not None:
            record[name] = float(record[name])
    options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
    return LoraSpec(**options)


def _check_record(record: Mapping[str, Any], way_out: str) -> None:
    """AdapterMismatch, which ends with `way_out`, for what is no record of a LoraSpec."""
    later = sorted(record.keys() - {field.name for field in fields(LoraSpec)})
    if later:
        raise AdapterMismatch(
            f"its record ({RECORD}) says {entries.show_text(later[0])}, which this Frisket does not"
            f" know: a later one wrote it. Update Frisket{way_out}"
        )
    lost = next((name for name in ("kind", "rank") if name not in record), None)
    if lost is not None:
        raise AdapterMismatch(f"its record ({RECORD}) does not say its {lost}{way_out}")
    wrong = next((name for name, value in record.items() if not _fits(name, value)), None)
    if wrong is not None:
        value = entries.show_text(repr(record[wrong]), 60)
        raise AdapterMismatch(f"its record ({RECORD}) says {wrong} = {value}{way_out}")


def range_of(metadata: Mapping[str, str]) -> tuple[float, float]:
    """The range of t that an expert's file is for, all of it where it does not say one."""
    try:
        return entries.span(metadata, EXPERT_RANGE) or (0.0, 1.0)
    except entries.UnreadableMetadata as error:
        way_out = f"convert it with --expert, or --leave-out {EXPERT_RANGE}"
        raise AdapterMismatch(f"{error}; {way_out}") from error


def _fits(name: str, value: Any) -> bool:
    return FITTING.get(name, _are_names)(value)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_share(value: Any) -> bool:
    return entries.is_number(value) and 0 <= value < 1


FITTING: Mapping[str, Callable[[Any], bool]] = {
    "kind": lambda value: value in get_args(AdapterKind),
    "rank": entries.is_whole,
    "alpha": lambda value: value is None or entries.is_number(value),
    "conv_rank": entries.is_whole,
    "conv_alpha": lambda value: value is None or entries.is_number(value),
    "factor": entries.is_whole,
    "full_matrix": lambda value: value is True or value is False,
    "dropout": _is_share,
    "rank_dropout": _is_share,
    "module_dropout": _is_share,
    "rank_schedule": lambda value: value in ("", "t-lora"),
    "rank_min": entries.is_whole,
    "rank_power": lambda value: entries.is_number(value) and value > 0,
    "rank_quantiles": lambda value: isinstance(value, list) and all(map(entries.is_number, value)),
    "rank_pairs": lambda value: value is True or value is False,
    "orthogonal": lambda value: value is True or value is False,
    "confine": lambda value: value in (None, 0) or entries.is_whole(value),
    "focus": lambda value: isinstance(value, str),
}  # of the rest each is a list of names
