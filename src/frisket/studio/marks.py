"""How the mask of each clip stands, by the record beside it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from frisket.maskgen.files.record import BadMaskRecord, MaskRecord, load
from frisket.media.paths import IMAGES, VIDEOS
from frisket.studio.workspace import Clip, ClipSet

Mark = Literal["none", "done", "unsure", "hand", "failed"]


def find_mark(clip_set: ClipSet, clip: Clip) -> Mark:
    """One clip's mark.

    none: nothing is there; hand: no record, or changed since the record was written; failed and
    unsure: as the record says; done: made, and sure.
    """
    mask = find_mask(clip_set, clip)
    record = _load_record(clip_set, clip)
    if mask is None:
        return "failed" if record is not None and record.status == "failed" else "none"
    if record is None or not _is_recorded(record, mask):
        return "hand"
    return "unsure" if record.status in ("unsure", "nothing") else "done"


def list_marks(clip_set: ClipSet, clips: Iterable[Clip]) -> dict[str, Mark]:
    """The marks of many clips, by id."""
    return {clip.id: find_mark(clip_set, clip) for clip in clips}


def find_mask(clip_set: ClipSet, clip: Clip) -> Path | None:
    """The label map of a clip, in the mask folder or beside it; None where there is none."""
    for stem in _list_stems(clip_set, clip):
        for suffix in (".png", ".mkv", *IMAGES, *VIDEOS):
            path = stem.with_name(stem.name + suffix)
            if path.is_file() and path != clip.path:
                return path
    return None


def _list_stems(clip_set: ClipSet, clip: Clip) -> list[Path]:
    beside = clip_set.clips / f"{clip.name}.mask"
    return [clip_set.masks / clip.name, beside] if clip_set.masks else [beside]


def _load_record(clip_set: ClipSet, clip: Clip) -> MaskRecord | None:
    for stem in _list_stems(clip_set, clip):
        try:
            record = load(stem.with_name(stem.name + ".json"))
        except (BadMaskRecord, OSError):
            continue  # the mask then counts as painted by hand, as `frisket masks` has it
        if record is not None:
            return record
    return None


def _is_recorded(record: MaskRecord, mask: Path) -> bool:
    stamps = [stamp for stamp in record.masks if Path(stamp.name).name == mask.name]
    return any(stamp.holds(mask) for stamp in stamps)
