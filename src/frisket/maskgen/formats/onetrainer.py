"""OneTrainer's masks: name-masklabel.png beside each picture."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from frisket.maskgen.format_base import (
    BAKED,
    BadExchange,
    Exchange,
    Masked,
    free,
    read_grey,
    still,
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
        path = free(folder / f"{item.name}{END}", overwrite=overwrite)
        write_grey(path, replace(item, frames=[still(item, "OneTrainer")]), weights)
        yield path


def read(source: Path, clips: Path) -> Iterator[Masked]:
    """Masks in `source`, which is the clip folder where OneTrainer made them."""
    found = find(clips, masks="none", folders={}).clips
    with_mask = [
        replace(one, masks={WHOLE: path})
        for one in found
        if (path := source / f"{one.name}{END}").is_file()
    ]
    if not with_mask:
        raise BadExchange(
            f"{source}: holds no {found[0].name}{END}, nor one of another clip of {clips}"
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
