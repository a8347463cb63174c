"""The masks of a data set, the worst first, by their records alone; loads no model, opens none."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from frisket.maskgen.files import verdicts
from frisket.maskgen.files.record import IMPORTED, BadMaskRecord, MaskRecord, Stamp, load
from frisket.maskgen.files.verdicts import STANDINGS, MaskStanding
from frisket.studio.sets.index import SetIndex
from frisket.studio.sets.listing import ClipRow
from frisket.studio.sets.plan import SetPlan

DOUBT_BELOW = 0.5  # confidence under which a mask is to be looked at


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One clip in the queue; `look` says why a person should look at it."""

    id: str
    name: str
    video: bool
    version: str  # of its clip and mask files, for the addresses of pictures
    status: MaskStanding
    confidence: float | None = None
    look: tuple[str, ...] = ()
    verdict: str = ""  # accepted or rejected
    regions: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    worst: int | None = None  # frame of a video that is least sure
    rejected: bool = False  # the clip is left out of training
    created: str = ""  # when its mask was made

    def dump(self) -> dict[str, Any]:
        """As JSON for the page."""
        return asdict(self)


def list_entries(index: SetIndex, threshold: float = DOUBT_BELOW) -> list[QueueEntry]:
    """Every clip of a set, the worst mask first."""
    entries = [_describe(index.plan, row, threshold) for row in index.rows.values()]
    return sorted(
        entries, key=lambda entry: (STANDINGS.index(entry.status), entry.confidence or 0.0)
    )


def count_entries(entries: Sequence[QueueEntry]) -> dict[str, int]:
    """How many clips are of each standing, how many are to be looked at and how many were."""
    counts = Counter[str](entry.status for entry in entries)
    counts["look"] = sum(bool(entry.look) for entry in entries)
    counts["accepted"] = sum(entry.verdict == "accepted" for entry in entries)
    return {"all": len(entries), **counts}


def place_record(plan: SetPlan, row: ClipRow) -> Path | None:
    """Where the record of a clip's mask lies, or would lie; None where masks are not made so."""
    mask = next(iter(row.masks.values()), None)
    if mask is not None:
        return mask.with_name(mask.name.removesuffix(mask.suffix) + ".json")
    if plan.source == "sidecar":
        return plan.clip_set.clips / f"{row.name}.mask.json"
    folder = plan.folders.get("")
    return None if folder is None else folder / f"{row.name}.json"


def judge_row(
    plan: SetPlan, row: ClipRow, kind: Literal["accepted", "rejected"], *, undo: bool
) -> None:
    """Write a verdict, or take it back. NoVerdict says why it cannot be."""
    path = place_record(plan, row)
    if path is None:
        raise verdicts.NoVerdict(f"{row.name}: its masks are not made by `frisket masks`")
    if undo:
        verdicts.withdraw(path)
    else:
        verdicts.judge(path, list(row.masks.values()), kind)


def _describe(plan: SetPlan, row: ClipRow, threshold: float) -> QueueEntry:
    path = place_record(plan, row)
    version = row.version + _stamp_masks(row)
    base = QueueEntry(row.id, row.name, row.video, version, "unmade", rejected=row.rejected)
    try:
        record = None if path is None else load(path)
    except (BadMaskRecord, OSError) as error:
        return replace(base, status="broken", look=(str(error),))
    if row.masks and (record is None or not _is_unchanged(record, row)):
        return replace(base, status="hand")
    if record is None:
        reason = "it has no mask: training leaves it out where others have one"
        return replace(base, look=(reason,))
    return _describe_record(base, row, record, threshold)


def _describe_record(
    base: QueueEntry, row: ClipRow, record: MaskRecord, threshold: float
) -> QueueEntry:
    confidence = record.confidence
    if confidence is None:
        parts = [part.confidence for part in record.regions.values()]
        confidence = min((part for part in parts if part is not None), default=None)
    look = list(verdicts.list_doubts(record, confidence, threshold))
    if not row.masks and record.status == "done":
        look.append("its mask is gone: make it again, or paint it")
    if record.status != "failed" and not record.clip.holds(row.path):
        look.append("its clip changed since the mask was made")
    return replace(
        base,
        status=record.status,
        confidence=confidence,
        look=tuple(dict.fromkeys(look)),
        verdict=record.verdict.kind if record.verdict else "",
        regions={
            name: {"share": part.share, "confidence": part.confidence}
            for name, part in record.regions.items()
        },
        models=tuple(model.name for model in record.models),
        worst=record.worst,
        created=record.created,
    )


def _is_unchanged(record: MaskRecord, row: ClipRow) -> bool:
    """Whether every mask of the clip is as the record has it; an imported one is somebody's own."""
    if IMPORTED in record.settings:
        return False
    stamps = {Path(stamp.name).name: stamp for stamp in record.masks}
    return all(_holds(stamps.get(mask.name), mask) for mask in row.masks.values())


def _holds(stamp: Stamp | None, mask: Path) -> bool:
    return stamp is not None and stamp.holds(mask)


def _stamp_masks(row: ClipRow) -> str:
    stamps = []
    for mask in row.masks.values():
        try:
            stamps.append(str(mask.stat().st_mtime_ns))
        except OSError:
            stamps.append("gone")
    return "-".join(["", *stamps])
