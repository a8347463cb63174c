"""Which masks `frisket masks` itself was unsure of, by the records it leaves beside them."""

from pathlib import Path

from frisket.maskgen.files.record import BadMaskRecord, load
from frisket.media.files import ClipFiles


def is_unsure(files: ClipFiles) -> bool:
    """Whether a clip's mask was made, called unsure, and is as it was made.

    A mask that was changed since, or whose record was deleted, is somebody's own word. So is one
    whose record cannot be read: `frisket masks` says that.
    """
    return any(_is_unsure(path) for path in files.masks.values() if path.is_file())


def _is_unsure(mask: Path) -> bool:
    # Beside name.png lies name.json, beside name.mask.png name.mask.json.
    path = mask.with_name(mask.name.removesuffix(mask.suffix) + ".json")
    try:
        record = load(path)
    except (BadMaskRecord, OSError):
        return False
    if record is None:
        return False
    stamps = [stamp for stamp in record.masks if Path(stamp.name).name == mask.name]
    return record.status == "unsure" and any(stamp.holds(mask) for stamp in stamps)
