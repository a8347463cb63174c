"""Takes files dropped into a data set: names cleaned, nothing overwritten, whole or not."""

import contextlib
import os
import re
import shutil
import unicodedata
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from starlette.concurrency import run_in_threadpool

from frisket.disk.atomic import draft_name
from frisket.media.paths import IMAGES, VIDEOS, is_media
from frisket.studio.sets.plan import SetPlan

Kind = Literal["clip", "caption", "mask"]
LARGEST = 8 << 30  # bytes of a video or picture
LARGEST_CAPTION = 1 << 20
SPARE = 256 << 20  # bytes of a disk that are left free
LONGEST_NAME = 180  # bytes, so that endings still fit in the 255 of a file system
# Names of devices on Windows, whatever their suffix.
RESERVED = re.compile(r"(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])")
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')


class BadUpload(ValueError):
    """A file that is not taken; says why and what would be."""


class TooLarge(BadUpload):
    """A file over the limit, or over what the disk has room for."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file that was taken, and the name it has now."""

    path: Path
    kind: Kind


def clean_name(name: str) -> str:
    """A file's own name as it can stand on every system; BadUpload where nothing of it can.

    Only what follows the last slash or backslash counts; control and other forbidden characters
    become `-`, dots and blanks at the ends go, and a device's name gets a `-`.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    # Letters that show nothing or turn the text round would make two names look like one.
    visible = "".join(c for c in last if unicodedata.category(c) not in ("Cf", "Cs", "Co", "Cn"))
    bare_name = _FORBIDDEN.sub("-", visible).strip(" .")
    stem, dot, suffix = bare_name.rpartition(".")
    if not dot or not stem.strip(" ."):
        raise BadUpload(f"{name[:80]!r}: a file needs a name and a suffix, such as a.jpg")
    stem = stem.rstrip(" .")
    if RESERVED.fullmatch(stem.split(".")[0]):
        stem += "-"
    while len(f"{stem}.{suffix}".encode()) > LONGEST_NAME and stem:
        stem = stem[:-1]
    if not stem:
        raise BadUpload(f"{name[:80]!r}: its suffix is too long to be one")
    return f"{stem}.{suffix}"


def choose_kind(plan: SetPlan, name: str) -> Kind:
    """What a file is by its name; BadUpload for what is neither clip, mask nor caption."""
    if name.lower().endswith(plan.wording.suffix.lower()):
        return "caption"
    if not is_media(Path(name)):
        suffixes = " ".join((*IMAGES[:8], *VIDEOS[:5]))
        raise BadUpload(
            f"{name}: is no picture, video or caption ({plan.wording.suffix}); taken are {suffixes}"
            " and the other suffixes of docs/data-sets"
        )
    return "mask" if is_sidecar_name(name) else "clip"


def is_sidecar_name(name: str) -> bool:
    """Whether a file's name is that of a mask beside a clip."""
    stem = name.rpartition(".")[0]
    return stem.endswith((".mask", "-masklabel"))


def strip_sidecar(name: str) -> str:
    """The clip's own stem in the name of a mask beside it."""
    stem = name.rpartition(".")[0]
    return stem.removesuffix(".mask").removesuffix("-masklabel")


def choose_place(plan: SetPlan, kind: Kind, name: str, clip_names: Collection[str]) -> Path:
    """Where a file goes; `clip_names` are the names of the set's clips. BadUpload where it cannot.

    A clip whose name another has becomes name-2, name-3, ...; a caption or mask belongs to the
    clip of its name, and never takes the place of another.
    """
    root = plan.clip_set.clips
    stem, _, suffix = name.rpartition(".")
    if kind == "clip":
        used = {clip.casefold() for clip in clip_names}
        return root / f"{_choose_free(root, stem, suffix, used)}.{suffix}"
    if kind == "caption":
        return _place_caption(plan, name[: -len(plan.wording.suffix)], clip_names)
    return _place_mask(plan, name, clip_names)


def _choose_free(root: Path, stem: str, suffix: str, used: Collection[str]) -> str:
    choices = (stem if n == 1 else f"{stem}-{n}" for n in range(1, 100_000))
    return next(
        c for c in choices if c.casefold() not in used and not (root / f"{c}.{suffix}").exists()
    )


def _place_caption(plan: SetPlan, stem: str, clip_names: Collection[str]) -> Path:
    clip = _match(stem, clip_names)
    folder = plan.clip_set.clips if plan.captions is None else plan.captions
    if plan.captions is not None and not folder.is_dir():
        raise BadUpload(f"{stem}: captions of this set are a list ({folder.name}); add it there")
    path = folder / f"{clip}{plan.wording.suffix}"
    if path.exists() and path.stat().st_size:
        raise BadUpload(f"{path.name}: the clip has a caption; change it beside its picture")
    return path


def _place_mask(plan: SetPlan, name: str, clip_names: Collection[str]) -> Path:
    sidecar = is_sidecar_name(name)
    clip = _match(strip_sidecar(name) if sidecar else name.rpartition(".")[0], clip_names)
    suffix = name.rpartition(".")[2]
    if plan.source == "sidecar" or (plan.source == "none" and sidecar):
        path = plan.clip_set.clips / f"{clip}.mask.{suffix}"
    elif plan.source == "folder":
        path = plan.folders[""] / f"{clip}.{suffix}"
    elif plan.source == "none":
        path = plan.clip_set.clips.parent / "masks" / f"{clip}.{suffix}"
    else:
        raise BadUpload(
            f"{name}: masks of this set are {plan.source}, which one file cannot tell; copy it into"
            " the folder it belongs in"
        )
    stems = [path.with_suffix(ending) for ending in (*IMAGES, ".mkv")]
    if other := next((stem for stem in stems if stem.exists()), None):
        raise BadUpload(f"{name}: the clip has the mask {other.name}; remove or repaint that one")
    return path


def _match(stem: str, clip_names: Collection[str]) -> str:
    """The clip of a name: exactly, by its last part, or (one alone) but for capitals."""
    if stem in clip_names:
        return stem
    last = [clip for clip in clip_names if clip.rpartition("/")[2].casefold() == stem.casefold()]
    if len(last) == 1:
        return last[0]
    if last:
        raise BadUpload(f"{stem}: {len(last)} clips have this name in sub-folders; copy it there")
    raise BadUpload(f"{stem}: no clip has this name; drop the clip first, or rename the file")


async def receive(path: Path, stream: AsyncIterator[bytes], kind: Kind) -> None:
    """Write what a stream brings under a new name, whole or not at all, and never over a file.

    TooLarge over the limit of its kind, or where the disk would be full; FileExistsError where
    another took the name meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    limit = LARGEST_CAPTION if kind == "caption" else LARGEST
    room = shutil.disk_usage(path.parent).free - SPARE
    draft = path.with_name(draft_name())
    size = 0
    try:
        with draft.open("xb") as file:
            async for chunk in stream:
                size += len(chunk)
                if size > limit:
                    raise TooLarge(
                        f"{path.name}: is over {limit >> 20} MiB, the most that is taken here; copy"
                        " it into the folder yourself"
                    )
                if size > room:
                    raise TooLarge(f"{path.name}: the disk has no room for it; free some space")
                file.write(chunk)
        if not size:
            raise BadUpload(f"{path.name}: is empty (0 bytes); nothing was kept")
        await run_in_threadpool(_settle, draft, path, kind)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def _settle(draft: Path, path: Path, kind: Kind) -> None:
    check_content(draft, path, kind)
    try:
        os.link(draft, path)  # unlike a rename, never over a file that came meanwhile
    except FileExistsError:
        raise
    except OSError as error:  # a file system without links
        if path.exists():
            raise FileExistsError(f"{path}: another file took this name; drop it again") from error
        draft.rename(path)


def check_content(draft: Path, path: Path, kind: Kind) -> None:
    """BadUpload where a picture is none, or a caption no text; videos are looked at later."""
    # Pictures are opened by NumPy, OpenCV and Pillow, which are no part of the start.
    from frisket.media.captions import read_text  # noqa: PLC0415
    from frisket.media.images import open_image  # noqa: PLC0415

    try:
        if kind == "caption":
            read_text(draft)
        elif path.suffix.lower() in IMAGES:
            with open_image(draft) as image:
                image.load()
    except ValueError as error:
        raise BadUpload(str(error).replace(str(draft), path.name)) from error
