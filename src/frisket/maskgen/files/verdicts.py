"""What a person says of a mask that was made: accepted or rejected, written into its record."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from frisket.maskgen.files.record import MaskRecord, MaskVerdict, Status, VerdictKind, load, save

MaskStanding = Literal["broken", "failed", "unsure", "nothing", "done", "unmade", "hand"]

STANDINGS: tuple[MaskStanding, ...] = get_args(MaskStanding)  # the worst first, as they are listed
PLAIN_REASONS: Mapping[str, str] = {
    "failed": "no mask could be made",
    "unsure": "what was found is not to be trusted",
    "nothing": "no region was found",
}


class NoVerdict(ValueError):
    """A mask that cannot be judged; the message says why and what to do."""


def judge(record_path: Path, masks: Sequence[Path], kind: VerdictKind) -> MaskRecord:
    """Write a verdict into the record of a mask, and return it.

    An accepted mask counts as done, whatever it was called when it was made: training uses it, and
    `frisket masks` with other settings keeps it. A rejected one counts as unsure: training leaves
    its clip out. `masks` are the files of the clip that are there. NoVerdict where nothing was
    made, or the mask is somebody's own work; BadMaskRecord where the record is damaged.
    """
    record = load(record_path)
    if not masks:
        raise NoVerdict(f"{record_path.stem}: there is no mask to be {kind}; make one, or paint it")
    unchanged = record is not None and all(_is_unchanged(record, mask) for mask in masks)
    if record is None or not unchanged:
        fix = (
            "it counts as accepted already"
            if kind == "accepted"
            else "leave the clip out of training instead, or delete the mask"
        )
        raise NoVerdict(f"{masks[0]}: was painted or changed by hand; {fix}")
    was = record.verdict.was if record.verdict else record.status
    verdict = MaskVerdict(kind, datetime.now(UTC).isoformat(timespec="seconds"), was)
    status: Status = "done" if kind == "accepted" else "unsure"
    judged = replace(record, status=status, verdict=verdict)
    save(judged, record_path)
    return judged


def withdraw(record_path: Path) -> MaskRecord:
    """Take the verdict of a mask back: it counts as it was made. NoVerdict where there is none."""
    record = load(record_path)
    if record is None or record.verdict is None:
        raise NoVerdict(f"{record_path.stem}: nobody has judged its mask")
    before = replace(record, status=record.verdict.was, verdict=None)
    save(before, record_path)
    return before


def _is_unchanged(record: MaskRecord, mask: Path) -> bool:
    stamps = [stamp for stamp in record.masks if Path(stamp.name).name == mask.name]
    return any(stamp.holds(mask) for stamp in stamps)


def list_doubts(
    mask_record: MaskRecord, confidence: float | None, threshold: float
) -> Iterator[str]:
    """Why a made mask should be looked at; nothing where it is done and sure, or was accepted."""
    if mask_record.verdict is not None and mask_record.verdict.kind == "accepted":
        return
    if mask_record.verdict is not None:
        yield "a person rejected it"
    if mask_record.status != "done":
        yield from mask_record.notes or (PLAIN_REASONS[mask_record.status],)
    elif confidence is None:
        yield "how sure it is was not told"
    elif confidence < threshold:
        yield f"its confidence {confidence:.2f} is below {threshold:g}"
        yield from mask_record.notes
    else:
        return
    for name, region in mask_record.regions.items():
        if region.confidence is not None and region.confidence < threshold:
            yield ": ".join([f"{name} {region.confidence:.2f}", *region.notes])
