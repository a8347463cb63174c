"""What the record of a video's mask says once a hand was at its frames. Needs no torch."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from frisket.maskgen.files.record import BadMaskRecord, MaskRecord, Stamp, load, save

HAND = "edited by hand"  # how the note begins


def note_frames(
    path: Path,
    clip: Path,
    size: tuple[int, int, int],
    *,
    painted: Iterable[int],
    tracked: Mapping[int, float],
    legend: Mapping[str, int],
) -> MaskRecord:
    """Write into a record which frames were painted, and which were carried from those.

    `size` is frames, height, width. The stamps of the mask are let go: a mask that no record
    stands for is hand work, which `frisket masks` leaves alone, and nobody calls it unsure. A
    record that cannot be read is left as it is (BadMaskRecord). Returns what was written.
    """
    earlier_record = load(path)
    if earlier_record is None:
        frames, height, width = size
        earlier_record = MaskRecord(Stamp.of(clip), frames, height, width, "done", {}, "")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    other_notes = tuple(note for note in earlier_record.notes if not note.startswith(HAND))
    full_legend = dict(legend) or dict(earlier_record.legend)
    noted = replace(
        earlier_record,
        status="done",
        masks=(),
        legend=full_legend,
        painted=tuple(sorted(painted)),
        tracked=tuple(sorted(tracked.items())),
        notes=(*other_notes, f"{HAND}, {now}"),
    )
    save(noted, path)
    return noted


def read_frames_noted(path: Path) -> MaskRecord | None:
    """The record of a mask, None where there is none or it cannot be read: it only tells more."""
    try:
        return load(path)
    except (BadMaskRecord, OSError):
        return None
