"""OneTrainer's masks: name-masklabel.png beside each picture."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from frisket.maskgen.format_base import (
    BAKED,
    BadExchange,
    Exchange,
    Masked,
    check_free,
    get_still,
    read_grey,
    write_grey,
)
from frisket.masks.read import WHOLE
from frisket.media.files import find

END = "-masklabel.png"


def write(
    folder: Path,
    items: Iterable[Masked],
    weights: Mapping[str, float],
    *,
    overwrite: bool = False,
) -> Iterator[Path]:
    """Give the clip folder itself as `folder`; BadExchange for a video."""
    for item in items:
        path = check_free(folder / f"{item.name}{END}", overwrite=overwrite)
        write_grey(path, replace(item, frames=[get_still(item, "OneTrainer")]), weights)
        yield path


def read(source: Path, clips: Path) -> Iterator[Masked]:
    """Masks in `source`, which is the clip folder where OneTrainer made them."""
    clip_files = find(clips, masks="none", folders={}).clips
    with_mask = [
        replace(files, masks={WHOLE: path})
        for files in clip_files
        if (path := source / f"{files.name}{END}").is_file()
    ]
    if not with_mask:
        raise BadExchange(
            f"{source}: holds no {clip_files[0].name}{END}, nor one of another clip of {clips}"
        )
    yield from read_grey(with_mask)


EXCHANGE = Exchange(
    summary="OneTrainer `-masklabel.png` beside the pictures",
    lossy=BAKED,
    write=write,
    read=read,
    missing="OneTrainer takes a missing mask as all white: the whole picture teaches.",
    grey=True,
)
