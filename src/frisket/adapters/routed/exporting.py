"""What other programs make of an adapter that acts by noise level, and plain LoRAs made of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from frisket.adapters.spec import RECORD, AdapterMismatch, LoraSpec, record_of


def drop_schedule(metadata: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The metadata of a file as a plain LoRA's, whose ranks all act always; and what is lost.

    The tensors are a plain LoRA's already: at no noise the two are one.
    """
    record = record_of(metadata)
    if record is None or record.ranks is None:
        return dict(metadata), []
    plain_spec = replace(
        record, rank_schedule="", rank_min=1, rank_power=1.0, rank_quantiles=(), rank_pairs=False
    )
    note = (
        f"dropped its schedule ({describe_schedule(record)}): all ranks act at every noise level,"
        " which is what it was trained as at t = 0 only"
    )
    return {**metadata, RECORD: json.dumps(plain_spec.record(), sort_keys=True)}, [note]


def list_schedule(metadata: Mapping[str, str]) -> list[str]:
    """What a file's record says of when and where it acts, in lines."""
    record = record_of(metadata)
    if record is None:
        return []
    lines = []
    if record.ranks is not None:
        lines.append(
            f"its ranks act by noise level ({describe_schedule(record)}): Frisket does so, other"
            " programs apply all of them always"
        )
    if record.confine is not None:
        lines.append(
            f"trained confined to its masks, grown by {record.confine} cells; it is sampled"
            " everywhere unless --lora-mask says where"
        )
    return lines


def check_fixed(files: Sequence[Mapping[str, str]], doing: str) -> None:
    """AdapterMismatch for what cannot be done to ranks that act by noise level (`doing`)."""
    for record in map(record_of, files):
        if record is None or record.ranks is None:
            continue
        raise AdapterMismatch(
            f"its ranks act by noise level ({describe_schedule(record)}), and {doing} would mix or"
            " fix them: no weight can hold what depends on t. Sample with the file as it is, or add"
            " --drop-schedule to take it for a plain LoRA, all of whose ranks act always"
        )


def describe_schedule(record: LoraSpec) -> str:
    """A schedule in words."""
    rank = record.rank // 2 if record.rank_pairs else record.rank
    by = ", by quantile" if record.rank_quantiles else ""
    start = ", orthogonal start" if record.rank_pairs else ""
    power = f", power {record.rank_power:g}" if record.rank_power != 1 else ""
    return f"{record.rank_schedule}, {record.rank_min} to {rank} ranks{power}{by}{start}"
