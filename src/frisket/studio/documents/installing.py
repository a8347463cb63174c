"""New mask files of a video put into their places, what stood there into the history."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from frisket.disk.atomic import replacing
from frisket.masks.names import WHOLE
from frisket.studio.documents.finding import MaskPlace
from frisket.studio.documents.forms import SoftForm
from frisket.studio.documents.reels import PaintedFrames

FILES_KEPT = 5  # earlier files of one mask


def list_keys(place: MaskPlace) -> list[str]:
    """The files a mask consists of, by key, in one order."""
    return list(place.form.files) if isinstance(place.form, SoftForm) else [WHOLE]


def locate_targets(place: MaskPlace) -> dict[str, Path]:
    """Where the video of each key is written: in the place of the file that is there."""
    return {
        key: path.with_name(path.name.removesuffix(path.suffix) + ".mkv")
        for key, path in place.targets.items()
    }


def locate_new(reel: PaintedFrames, place: MaskPlace) -> dict[str, Path]:
    """Where new files lie until they are installed."""
    return {key: reel.folder / f"new-{at}.mkv" for at, key in enumerate(list_keys(place))}


def install_files(
    home: Path, clip_id: str, place: MaskPlace, reel: PaintedFrames
) -> dict[str, Path]:
    """Put whole new files where masks are read; done again after a crash it comes to the same.

    Files of another form that stood there go to the history first: two masks of one name would be
    refused by whoever reads them. Returns where the new ones are.
    """
    saved = reel.load_saved()
    targets, new = locate_targets(place), locate_new(reel, place)
    history = home / "history" / clip_id / "files"
    if place.form is not None:
        for key, target in targets.items():
            if key in new and new[key].is_file():
                _install(history, place.files.get(key), new[key], target)
    reel.save(saved.model_copy(update={"installing": 0}))
    for path in new.values():
        path.unlink(missing_ok=True)
    return targets


def _install(history: Path, old: Path | None, new: Path, target: Path) -> None:
    if old is not None and old.exists():
        _keep(history, old, move=old != target)
    with replacing(target) as draft:
        shutil.copyfile(new, draft)


def _keep(folder: Path, path: Path, *, move: bool) -> None:
    """Keep a file under the next number, and let go of the oldest."""
    folder.mkdir(parents=True, exist_ok=True)
    kept_files = _list_kept(folder)
    place = folder / f"{max(kept_files, default=0) + 1:08}-{path.name}"
    if move:
        shutil.move(path, place)
    else:
        with replacing(place) as draft:
            shutil.copyfile(path, draft)
    for number in sorted(kept_files)[: -(FILES_KEPT - 1)]:
        old = kept_files[number]
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink()


def _list_kept(folder: Path) -> Mapping[int, Path]:
    parts = ((entry.name.partition("-")[0], entry) for entry in folder.iterdir())
    return {int(number): entry for number, entry in parts if number.isdecimal()}
