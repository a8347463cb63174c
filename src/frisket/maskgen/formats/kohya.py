"""kohya's conditioning folder: one grey file a clip, same stem; mask videos for its forks."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from frisket.maskgen.format_base import BAKED, Exchange, Masked, check_free, read_grey, write_grey
from frisket.media.files import find


def write(
    folder: Path,
    items: Iterable[Masked],
    weights: Mapping[str, float],
    *,
    overwrite: bool = False,
) -> Iterator[Path]:
    """name.png (sd-scripts reads its R channel), name.mkv for a video; sub-folders mirrored."""
    for item in items:
        suffix = ".mkv" if item.clip.video else ".png"
        path = check_free(folder / f"{item.name}{suffix}", overwrite=overwrite)
        write_grey(path, item, weights)
        yield path


def read(source: Path, clips: Path) -> Iterator[Masked]:
    """Grey masks by name, of any image or video suffix."""
    yield from read_grey(find(clips, masks="folder", folders={"": source}).clips)


EXCHANGE = Exchange(
    summary="kohya sd-scripts `conditioning_data_dir`, and `mask_directory` of musubi forks",
    lossy=f"{BAKED} sd-scripts reads no sub-folders (one dataset each) and no videos.",
    write=write,
    read=read,
    missing="sd-scripts stops at a picture without a mask; musubi forks train it everywhere.",
    grey=True,
    video=True,
)
