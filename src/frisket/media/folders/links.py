"""Links that make files of a data set lie elsewhere: they are followed, and told."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def find_outside(
    root: Path,
    files: Iterable[Path],
    masks: Sequence[Mapping[str, Path]],
    folders: Mapping[str, Path],
    captions: tuple[Path, Iterable[Path]],
) -> tuple[Path, ...]:
    """What of a data set links bring from outside of the folders that were named for it.

    `files` (clips, references) lie below `root`, the `masks` of each clip below the `folders` of
    their regions, captions below the first of `captions`. A path that is not below its folder was
    named by a manifest, and is no link.
    """
    parts = [(_normalise(root), list(files)), (_normalise(captions[0]), list(captions[1]))]
    for region in dict.fromkeys(region for regions in masks for region in regions):
        own_masks = [regions[region] for regions in masks if region in regions]
        parts.append((_normalise(folders.get(region, root)), own_masks))
    return tuple(
        path
        for top, paths in parts
        for path in find_links(
            top, (file for file in paths if _normalise(file).is_relative_to(top))
        )
    )


def _normalise(path: Path) -> Path:
    return Path(os.path.normpath(path))


def find_links(root: Path, paths: Iterable[Path]) -> list[Path]:
    """Those of `paths` below `root` that a link, of theirs or of a folder, makes lie elsewhere.

    `root` may be a link itself: it was named on purpose. The pictures of a folder of frames count.
    """
    real, parents, outside = root.resolve(), dict[Path, bool](), list[Path]()

    def leaves(path: Path) -> bool:
        folder = path.parent
        if folder not in parents:
            parents[folder] = not folder.resolve().is_relative_to(real)
        return parents[folder] or (path.is_symlink() and not path.resolve().is_relative_to(real))

    for path in paths:
        if leaves(path):
            outside.append(path)
        elif path.is_dir():
            outside += [frame for frame in sorted(path.iterdir()) if leaves(frame)]
    return outside
