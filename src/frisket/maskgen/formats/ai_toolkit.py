"""ai-toolkit's `mask_path`: a folder of grey pictures with the stems of the clips; white trains."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from frisket.maskgen.format_base import (
    BAKED,
    Exchange,
    Masked,
    check_free,
    get_still,
    read_grey,
    write_grey,
)
from frisket.media.files import find


def write(
    folder: Path,
    items: Iterable[Masked],
    weights: Mapping[str, float],
    *,
    overwrite: bool = False,
) -> Iterator[Path]:
    """name.png, sub-folders mirrored; BadExchange for a video, whose mask the tool would freeze."""
    for item in items:
        path = check_free(folder / f"{item.name}.png", overwrite=overwrite)
        write_grey(path, replace(item, frames=[get_still(item, "ai-toolkit")]), weights)
        yield path


def read(source: Path, clips: Path) -> Iterator[Masked]:
    """Grey masks by name, of any image suffix."""
    yield from read_grey(find(clips, masks="folder", folders={"": source}).clips)


EXCHANGE = Exchange(
    summary="ai-toolkit `mask_path`",
    lossy=BAKED,
    write=write,
    read=read,
    missing="ai-toolkit lets a picture without a mask teach nothing in a batch with masks, and"
    " everywhere in one without.",
    grey=True,
)
