"""`frisket inspect --fix`: mends what can be mended without guessing, and keeps the old files."""

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
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
from frisket.registry import suggest
from frisket.runs.prepare import clipset_of, source_of


@dataclass(frozen=True, slots=True)
class Fixed:
    """One thing that was done: the file as it was, where it is kept, and what is there now."""

    path: Path
    kept: Path
    now: Path
    note: str


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing that can be done: nothing is changed until `mend` is called."""

    clip: str  # name of the clip whose mask it is
    path: Path
    now: Path
    note: str
    mend: Callable[[], None]  # after a copy of `path` was kept


class UnknownClip(ValueError):
    """A name that no clip of the data sets has."""


def fix(config: Config, out: Path, *, only: Collection[str] | None = None) -> list[Fixed]:
    """Mend what is safe to mend in all data sets; pictures and captions are never touched.

    - A mask whose name differs from that of one clip without a mask in capitals only is renamed.
    - A still mask that was made on the picture as it is stored, or lies mirrored or turned against
      it, is turned: where sizes and EXIF say so, or where it surely fits no other way.
    - A grey mask saved as JPEG or AVIF becomes a PNG that reads the same to the last level.
    - A grey mask of the values 0 and 1 alone, of any depth, becomes 0 and 255.

    `only` names the clips whose masks may be mended, None means all. Every file that is replaced or
    renamed is first copied below `out`/before-TIME, its path kept. Label maps (`legend`) are left
    alone. OSError where something cannot be written, UnknownClip for a name no clip has.
    """
    backup = out / f"before-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    return [_apply(repair, backup) for repair in _list_repairs(config, only)]


def plan_fixes(config: Config, *, only: Collection[str] | None = None) -> list[Repair]:
    """What `fix` would do to the files as they are now, one repair a file; nothing is changed.

    A mask that is renamed first may need another repair after it, which shows in the next plan.
    """
    plans: dict[Path, Repair] = {}
    for repair in _list_repairs(config, only):
        plans.setdefault(repair.path, repair)
    return list(plans.values())


def _apply(repair: Repair, backup: Path) -> Fixed:
    copy = _keep_copy(repair.path, backup)
    repair.mend()
    return Fixed(repair.path, copy, repair.now, repair.note)


def _list_repairs(config: Config, only: Collection[str] | None) -> Iterator[Repair]:
    """Repairs of all data sets; the next is looked for when the last was done (or passed over)."""
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    grid = family.variants[source.variant].grid
    clipsets = [clipset_of(config, data, family, source) for data in config.data]
    if only is not None:
        _check_names(clipsets, only)
    for clipset in clipsets:
        for repair in _list_set_repairs(Looker(clipset, grid, weights_of(config))):
            if only is None or repair.clip in only:
                yield repair


def _check_names(clipsets: Sequence[Clipset], only: Collection[str]) -> None:
    listings = [_find_files(clipset) for clipset in clipsets]
    clip_names = {clip.name for findings in listings if findings for clip in findings.clips}
    for name in only:
        if name not in clip_names:
            raise UnknownClip(f"no clip with masks is named {name!r}{suggest(name, [*clip_names])}")


def _list_set_repairs(looker: Looker) -> Iterator[Repair]:
    """The masks of one data set, in the order of `fix`."""
    clipset = looker.clipset
    findings = _find_files(clipset)
    if findings is None:
        return
    yield from _rename_masks(clipset, findings)
    if clipset.masking.source == "listed":
        return
    for clip in findings.clips:
        yield from _turn_masks(looker, clip)
    findings = _find_files(clipset) or findings  # a turned JPEG is a PNG now
    if not clipset.masking.legend:
        owners = {path: clip.name for clip in findings.clips for path in clip.masks.values()}
        for path in sorted(owners):
            yield from _resave(path, owners[path])


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


def _rename_masks(clipset: Clipset, findings: Findings) -> Iterator[Repair]:
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
            yield Repair(clip, old, now, "renamed like its clip", partial(_rename, old, now))


def _rename(old: Path, now: Path) -> None:
    with writing(now):
        now.parent.mkdir(parents=True, exist_ok=True)
        old.rename(now)


def _turn_masks(looker: Looker, clip: ClipFiles) -> Iterator[Repair]:
    orientation = turn_for(looker, clip) if clip.masks else None
    if orientation is None:
        return
    for path in clip.masks.values():
        image, now = turn_file(path, orientation)
        if now != path and now.exists():
            continue
        note = f"turned like its clip ({DESCRIPTIONS[orientation]})"
        yield Repair(clip.name, path, now, note, partial(_replace, path, now, image))


def _resave(path: Path, clip: str) -> Iterator[Repair]:
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
        levels, note = ones * np.uint8(255), "0 and 1 stretched to 0 and 255"
    elif path.suffix.lower() in LOSSY and grey.any():  # else its levels are too faint to be read
        levels, note = np.rint(grey * 255).astype(np.uint8), "saved without loss"
    else:
        return
    yield Repair(clip, path, now, note, partial(_replace, path, now, Image.fromarray(levels)))


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


def _replace(path: Path, now: Path, image: Image.Image) -> None:
    with replacing(now) as draft:
        image.save(draft, format="PNG")
    if now != path:
        path.unlink()


def _keep_copy(path: Path, backup: Path) -> Path:
    absolute = path.absolute()
    copy = backup / absolute.relative_to(absolute.anchor)
    with replacing(copy, kept=f"{path} is as it was") as draft:
        shutil.copy2(path, draft)
    return copy
