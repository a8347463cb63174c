"""`frisket inspect --fix`: mends what can be mended without guessing, and keeps the old files."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import Image

from frisket.config.regions import weights_of
from frisket.config.tree import Config
from frisket.data.records import Clipset
from frisket.disk.atomic import replacing, writing
from frisket.families.base import FAMILIES
from frisket.inspection.checks.files import LOSSY, match_ignoring_case
from frisket.inspection.fix_turned import turn_file, turn_for
from frisket.inspection.per_clip import Looker
from frisket.media.files import ClipFiles, Findings, MasksNotFound, find
from frisket.media.frames import BadMedia, decode_grey, probe
from frisket.media.images import open_image
from frisket.media.paths import collecting, plain
from frisket.media.stills.orientation import DESCRIPTIONS, upright
from frisket.runs.prepare import clipset_of, source_of


@dataclass(frozen=True, slots=True)
class Fixed:
    """One thing that was done: the file as it was, where it is kept, and what is there now."""

    path: Path
    kept: Path
    now: Path
    note: str


def fix(config: Config, out: Path) -> list[Fixed]:
    """Mend what is safe to mend in all data sets; pictures and captions are never touched.

    - A mask whose name differs from that of one clip without a mask in capitals only is renamed.
    - A still mask that was made on the picture as it is stored, or lies mirrored or turned against
      it, is turned: where sizes and EXIF say so, or where it surely fits no other way.
    - A grey mask saved as JPEG or AVIF becomes a PNG that reads the same to the last level.
    - A grey mask of the values 0 and 1 alone, of any depth, becomes 0 and 255.

    Every file that is replaced or renamed is first copied below `out`/before-TIME, its path kept.
    Label maps (`legend`) are left alone. OSError where something cannot be written.
    """
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    grid = family.variants[source.variant].grid
    backup = out / f"before-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    fixes: list[Fixed] = []
    for data in config.data:
        clipset = clipset_of(config, data, family, source)
        fixes += _fix_clipset(Looker(clipset, grid, weights_of(config)), backup)
    return fixes


def _fix_clipset(looker: Looker, backup: Path) -> Iterator[Fixed]:
    """Mend the masks of one data set, in the order of `fix`; each is done when it is yielded."""
    clipset = looker.clipset
    findings = _find_files(clipset)
    if findings is None:
        return
    yield from _rename_masks(clipset, findings, backup)
    if clipset.masking.source == "listed":
        return
    for clip in findings.clips:
        yield from _turn_masks(looker, clip, backup)
    findings = _find_files(clipset) or findings  # a turned JPEG is a PNG now
    if not clipset.masking.legend:
        for path in sorted({path for clip in findings.clips for path in clip.masks.values()}):
            yield from _resave(path, backup)


def _find_files(clipset: Clipset) -> Findings | None:
    """What `find` finds; None where it cannot, which is for the inspection to tell."""
    how = clipset.masking
    if how.source == "none":
        return None
    try:
        with collecting():
            return find(
                clipset.clips,
                masks=how.source,
                folders=how.folders,
                captions=clipset.captions,
                caption=clipset.caption,
                reject=clipset.reject,
            )
    except (MasksNotFound, BadMedia, ValueError):
        return None


def _rename_masks(clipset: Clipset, findings: Findings, backup: Path) -> Iterator[Fixed]:
    for folder in clipset.masking.folders.values():
        orphans = {
            plain(path.relative_to(folder).with_suffix("").as_posix()): path
            for path in findings.orphans
            if path.is_relative_to(folder) and path.is_file()
        }
        lacking = [clip.name for clip in findings.clips if not clip.masks]
        for name, clip in match_ignoring_case(orphans, lacking).items():
            old = orphans[name]
            now = folder / f"{clip}{old.suffix}"
            if now.exists() and not now.samefile(old):
                continue
            copy = _keep_copy(old, backup)
            with writing(now):
                now.parent.mkdir(parents=True, exist_ok=True)
                old.rename(now)
            yield Fixed(old, copy, now, "renamed like its clip")


def _turn_masks(looker: Looker, clip: ClipFiles, backup: Path) -> Iterator[Fixed]:
    orientation = turn_for(looker, clip) if clip.masks else None
    if orientation is None:
        return
    for path in clip.masks.values():
        image, now = turn_file(path, orientation)
        if now != path and now.exists():
            continue
        copy = _keep_copy(path, backup)
        with replacing(now) as draft:
            image.save(draft, format="PNG")
        if now != path:
            path.unlink()
        yield Fixed(path, copy, now, f"turned like its clip ({DESCRIPTIONS[orientation]})")


def _resave(path: Path, backup: Path) -> Iterator[Fixed]:
    if path.is_dir():
        return
    try:
        if probe(path).video:
            return
        ones = _read_ones(path)
        grey = decode_grey(path)[0].numpy()
    except BadMedia:
        return  # the inspection names the file and the fault
    now = path.with_suffix(".png")
    if now != path and now.exists():
        return
    if ones is not None:
        yield _write_levels(
            path, now, ones * np.uint8(255), backup, "0 and 1 stretched to 0 and 255"
        )
    elif path.suffix.lower() in LOSSY and grey.any():  # else its levels are too faint to be read
        levels = np.rint(grey * 255).astype(np.uint8)
        yield _write_levels(path, now, levels, backup, "saved without loss")


def _read_ones(path: Path) -> np.ndarray | None:
    """The pixels of a mask of the values 0 and 1 alone, of any depth; None of any other."""
    with open_image(path) as image:
        image.load()
        if image.mode not in ("L", "I", "RGB") and not image.mode.startswith("I;16"):
            return None
        values = np.asarray(upright(image))
    if values.ndim == 3:  # WebP has no grey
        values = values.max(-1) if (values.max(-1) == values.min(-1)).all() else values[:0, :, 0]
    if not values.any():
        return None
    return values.astype(np.uint8) if int(values.max()) == 1 and int(values.min()) == 0 else None


def _write_levels(path: Path, now: Path, levels: np.ndarray, backup: Path, note: str) -> Fixed:
    copy = _keep_copy(path, backup)
    with replacing(now) as draft:
        Image.fromarray(levels).save(draft, format="PNG")
    if now != path:
        path.unlink()
    return Fixed(path, copy, now, note)


def _keep_copy(path: Path, backup: Path) -> Path:
    absolute = path.absolute()
    copy = backup / absolute.relative_to(absolute.anchor)
    with replacing(copy, kept=f"{path} is as it was") as draft:
        shutil.copy2(path, draft)
    return copy
