"""`frisket masks replay`: what was painted in the studio, painted again on masks made anew."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frisket.disk.atomic import replacing
from frisket.maskgen.files import record
from frisket.maskgen.files.edits import EditLog, find_gaps, list_edits, note_hand
from frisket.maskgen.files.label_maps import (
    extend_legend,
    find_stranger,
    read_legend,
    save_labels,
)
from frisket.maskgen.files.places import MaskStore
from frisket.masks.painting.strokes import IDS, Edit, apply, net, read_edit, renumber
from frisket.media.images import open_image, read
from frisket.progress import Progress
from frisket.recipes.masks.make import place_of

LOGS = ".frisket-studio/edits"  # below the folder that the studio was opened on


class NoEdits(ValueError):
    """A folder in which nothing was painted; names it."""


class _LeftOut(ValueError):
    """Why one clip's edits were not done again."""


@dataclass(slots=True)
class Replayed:
    """What became of each log, by the name of its clip."""

    masks: Path
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)  # with the reason
    notes: list[str] = field(default_factory=list)


def replay(
    folder: Path,
    output: Path | None = None,
    *,
    logs: Path | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Progress = lambda *_: None,
) -> Replayed:
    """Do the edits of every log again, on label maps of the same size.

    `folder` is what the studio was opened on; masks go by default where `frisket masks` puts them.
    A mask that somebody changed since it was made holds these edits, or others, already: it is
    left alone unless `overwrite`. What is left out is named, and the others go on. NoEdits where
    there is no log.
    """
    place = place_of(folder, output)[1]
    log_folder = logs or folder / LOGS
    paths = sorted(log_folder.glob("*.jsonl")) if log_folder.is_dir() else []
    if not paths:
        raise NoEdits(
            f"{log_folder}: no edits are logged there; --edits names another folder of logs"
        )
    result = Replayed(place.folder)
    for count, path in enumerate(paths):
        progress("replay", count, len(paths))
        name = path.stem
        try:
            saves = EditLog(path).read()
            if not saves:
                continue
            name = saves[-1].name
            if gaps := find_gaps(saves):
                result.notes.append(
                    f"{name}: {len(gaps)} times the mask was changed by something that is not in"
                    " its log"
                )
            edits = [
                (legend, read_edit(edit, saves[-1].width * saves[-1].height))
                for legend, edit in list_edits(saves)
            ]
            size = (saves[-1].height, saves[-1].width)
            changed = _replay_clip(place, name, size, edits, overwrite=overwrite, dry_run=dry_run)
            (result.changed if changed else result.unchanged).append(name)
        except (ValueError, OSError) as error:
            result.left[name] = str(error)
    progress("replay", len(paths), len(paths))
    return result


def _replay_clip(
    place: MaskStore,
    name: str,
    size: tuple[int, int],
    edits: list[tuple[Mapping[str, int], Edit]],
    *,
    overwrite: bool,
    dry_run: bool,
) -> bool:
    """Do one clip's edits again; whether they change its mask. _LeftOut says why they cannot be."""
    path = _find_mask(place, name, overwrite=overwrite)
    before = _read_labels(path, size)
    if any(edit.plane != IDS for _, edit in edits):
        raise _LeftOut("soft planes were painted, and only label maps are painted again")
    ids = before.copy()
    legend = _extend_legend(place, edits)
    for edit in net(
        renumber(edit, _match_numbers(their_legend, legend)) for their_legend, edit in edits
    ):
        apply(edit, ids)
    if np.array_equal(ids, before):
        return False
    if (stranger := find_stranger(ids, legend)) is not None:
        raise _LeftOut(f"the mask would hold the index {stranger}, which {place.legend} lacks")
    if not dry_run:
        with replacing(path) as draft:
            save_labels(draft, ids, legend)
        note_hand(place, name, datetime.now(UTC).isoformat(timespec="seconds"))
    return True


def _find_mask(place: MaskStore, name: str, *, overwrite: bool) -> Path:
    """The label map that edits are done on."""
    path = place.labels(name, video=False)
    if place.labels(name, video=True).exists():
        raise _LeftOut("its mask is a video; edits of single frames are not done again")
    if not path.is_file():
        raise _LeftOut(f"there is no mask {path}; make it first (frisket masks)")
    if not overwrite and not _is_untouched(place, name, path):
        raise _LeftOut(
            "its mask was changed since it was made, so it may hold these edits already; make it"
            " anew (frisket masks make --overwrite), or paint on it as it is (--overwrite)"
        )
    return path


def _is_untouched(place: MaskStore, name: str, path: Path) -> bool:
    """Whether a mask is as `frisket masks` made it."""
    mask_record = record.load(place.record(name))
    path_below = place.below(path)
    return mask_record is not None and any(
        stamp.name == path_below and stamp.holds(path) for stamp in mask_record.masks
    )


def _read_labels(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    with open_image(path) as image:
        labels = read(image, path, "index")
    if labels.shape != size:
        raise _LeftOut(
            f"{path} is {labels.shape[1]} x {labels.shape[0]} pixels, and what was painted on had"
            f" {size[1]} x {size[0]}"
        )
    if labels.size and int(labels.max()) > 255:
        raise _LeftOut(f"{path} holds the index {int(labels.max())}; 255 is the highest")
    return labels.astype(np.uint8)


def _extend_legend(place: MaskStore, edits: list[tuple[Mapping[str, int], Edit]]) -> dict[str, int]:
    """The legend of the masks with the regions that edits paint and it lacks."""
    legend = read_legend(place.legend)
    painted: dict[str, None] = {}
    for their_legend, edit in edits:
        used = {*edit.values} if edit.kind == "pixels" else {edit.id}
        painted |= dict.fromkeys(
            name for name, number in their_legend.items() if number in used - {0}
        )
    if painted.keys() - legend.keys():
        legend = extend_legend(place.legend, painted)
    return legend


def _match_numbers(their_legend: Mapping[str, int], legend: Mapping[str, int]) -> dict[int, int]:
    """The numbers that edits have to those of the masks now, by the names of regions."""
    return {0: 0} | {
        number: legend[name] for name, number in their_legend.items() if number and name in legend
    }
