"""What is known of one clip beside its name: caption, state of its mask, coverage, faults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from frisket.maskgen.files.record import IMPORTED, BadMaskRecord, MaskRecord, load
from frisket.media.captions import BadCaption, read_text
from frisket.studio.sets.listing import ClipRow, Trouble, shorten
from frisket.studio.sets.plan import SetPlan

MaskStatus = Literal["none", "made", "accepted", "unsure", "nothing", "failed", "hand", "alpha"]


@dataclass(frozen=True, slots=True)
class Measure:
    """What opening a clip and its mask tells."""

    width: int = 0
    height: int = 0
    frames: int = 1
    coverage: Mapping[str, float] | None = None  # region to share of the picture, where masked
    fault: str = ""  # why the clip cannot be opened
    mask_fault: str = ""  # why its mask cannot


@dataclass(frozen=True, slots=True)
class RowFacts:
    """The facts of a clip; `measure` is None until it was opened."""

    id: str
    stamp: str  # of every file that was looked at
    caption: str
    status: MaskStatus
    confidence: float | None = None
    notes: tuple[str, ...] = ()  # of the mask's record
    measure: Measure | None = None
    troubles: tuple[Trouble, ...] = field(default=())

    def dump(self, findings: tuple[Trouble, ...] = ()) -> dict[str, Any]:
        """As JSON for the page; `findings` are those of `frisket inspect`."""
        measure = self.measure
        troubles = [*self.troubles, *findings]
        if measure is not None and measure.fault:
            troubles.append(Trouble("unreadable", "error", "", measure.fault))
        if measure is not None and measure.mask_fault:
            troubles.append(Trouble("unreadable", "error", "", measure.mask_fault))
        return {
            "id": self.id,
            "v": shorten(self.stamp),
            "caption": self.caption,
            "status": self.status,
            "confidence": self.confidence,
            "notes": list(self.notes),
            "size": [measure.width, measure.height] if measure and measure.width else None,
            "frames": measure.frames if measure else None,
            "coverage": dict(measure.coverage) if measure and measure.coverage else None,
            "measured": measure is not None,
            "findings": [
                {"kind": t.kind, "severity": t.severity, "sentence": t.sentence, "fix": t.fix}
                for t in troubles
            ],
        }


def stamp_of(row: ClipRow) -> str:
    """Changes whenever a file that the facts come from does."""
    paths = [path for path in (*row.masks.values(), _place_record(row), row.caption) if path]
    stamps = [f"{row.path}:{row.mtime_ns}:{row.bytes}:{row.text}"]
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            continue
        stamps.append(f"{path}:{stat.st_mtime_ns}:{stat.st_size}")
    return "|".join(stamps)


def read_facts(plan: SetPlan, row: ClipRow, stamp: str) -> RowFacts:
    """Caption and record of a clip; what is wrong with either is a trouble."""
    troubles: list[Trouble] = []
    caption = _read_caption(row, troubles)
    status, record = _read_status(plan, row, troubles)
    return RowFacts(
        row.id,
        stamp,
        caption,
        status,
        None if record is None else record.confidence,
        () if record is None else record.notes,
        None,
        tuple(troubles),
    )


def measure_by_record(row: ClipRow) -> Measure | None:
    """Size and coverage as the mask's record has them, where clip and mask are as they were."""
    record = _load_record(row)
    if record is None or not record.height or IMPORTED in record.settings:
        return None
    clip = record.clip
    if (clip.bytes, clip.mtime_ns) != (row.bytes, row.mtime_ns) or len(row.masks) != 1:
        return None
    (mask,) = row.masks.values()
    if not _is_unchanged(record, mask):
        return None
    shares = {name: region.share for name, region in record.regions.items()}
    return Measure(record.width, record.height, record.frames, shares)


def _read_caption(row: ClipRow, troubles: list[Trouble]) -> str:
    if row.text is not None:
        return row.text
    if not row.captioned or row.caption is None:
        return ""
    try:
        return read_text(row.caption)
    except BadCaption as error:
        troubles.append(Trouble("caption encoding", "error", "", str(error)))
        return ""


def _read_status(
    plan: SetPlan, row: ClipRow, troubles: list[Trouble]
) -> tuple[MaskStatus, MaskRecord | None]:
    """The state of a clip's mask, as `maskgen.files.record.state` tells them apart."""
    if plan.source == "alpha":
        return "alpha", None
    try:
        record = _load_record(row, strict=True)
    except BadMaskRecord as error:
        troubles.append(Trouble("mask record", "warning", "", str(error)))
        return ("hand" if row.masks else "none"), None
    if not row.masks:
        return ("none" if record is None else _spell_lacking(record)), record
    files = [path for path in row.masks.values() if path.is_file()]
    if record is None or not files or IMPORTED in record.settings:
        return "hand", record
    unchanged = all(_is_unchanged(record, file) for file in files)
    return (_spell_status(record) if unchanged else "hand"), record


def _spell_lacking(record: MaskRecord) -> MaskStatus:
    """The state of a clip that has a record and no mask file."""
    return _spell_status(record) if record.status in ("nothing", "failed", "unsure") else "none"


def _spell_status(record: MaskRecord) -> MaskStatus:
    if record.status != "done":
        return record.status
    judged = record.verdict is not None and record.verdict.kind == "accepted"
    return "accepted" if judged else "made"


def _is_unchanged(record: MaskRecord, mask: Path) -> bool:
    stamps = [stamp for stamp in record.masks if Path(stamp.name).name == mask.name]
    return any(stamp.holds(mask) for stamp in stamps)


def _place_record(row: ClipRow) -> Path | None:
    mask = next(iter(row.masks.values()), None)
    # As maskgen.files.unsure: beside name.png lies name.json, beside name.mask.png name.mask.json.
    return None if mask is None else mask.with_name(mask.name.removesuffix(mask.suffix) + ".json")


def _load_record(row: ClipRow, *, strict: bool = False) -> MaskRecord | None:
    path = _place_record(row)
    try:
        return None if path is None else load(path)
    except (BadMaskRecord, OSError):
        if strict:
            raise
        return None
