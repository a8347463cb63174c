"""Lists the clips of a folder and matches masks to them by name; nothing is opened."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from frisket.media.folders.left_out import Leftovers
from frisket.media.folders.walk import ClipsNotFound, walk_media
from frisket.media.paths import (
    IMAGES,
    LEGEND,
    SOFT,
    VIDEOS,
    TwoFiles,
    is_media,
    plain,
    refuse,
)

_SIDECARS = (".mask", "-masklabel")
_ASIDE_ENDS = (*_SIDECARS, "-condlabel")  # OneTrainer keeps inpainting pictures beside its clips


class MasksNotFound(ValueError):
    """A configured mask source that matches no clip; names it and an example of either side."""


def name_of(path: Path, root: Path) -> str:
    """The path below `root` without suffix; a folder has none, whatever dots are in its name."""
    relative = path.relative_to(root)
    return plain((relative if path.is_dir() else relative.with_suffix("")).as_posix())


def is_sidecar(folder: Path) -> bool:
    """Whether a folder holds the frames of a mask that lies beside its clip."""
    return folder.name.endswith(".mask")


def is_aside(path: Path) -> bool:
    """Whether something in a folder of clips is a mask or condition of another clip."""
    return path.is_dir() or path.stem.endswith(_ASIDE_ENDS)


def _index_names(paths: Iterable[Path], name: Callable[[Path], str], kind: str) -> dict[str, Path]:
    """Paths by name; TwoFiles where two have the same."""
    paths_by_name: dict[str, Path] = {}
    for path in paths:
        other = paths_by_name.setdefault(name(path), path)
        if other is not path:
            refuse(
                name(path),
                TwoFiles(
                    f"two {kind} have the name {name(path)!r}: {other} and {path}; rename or remove"
                    " one"
                ),
            )
    return paths_by_name


def list_clips(root: Path, media: list[Path], left: Leftovers) -> dict[str, Path]:
    """Clips by name, sorted, of what a walk gave; ClipsNotFound where none is, TwoFiles."""
    clips = _index_names(
        (p for p in media if not is_aside(p)), lambda path: name_of(path, root), "clips"
    )
    if not clips:
        passed = "".join(f". {hint}" for hint in left.hints(root, {}, ""))
        raise ClipsNotFound(
            f"{root}: holds no clip, sub-folders included; looked for images"
            f" ({' '.join(IMAGES)}) and videos ({' '.join(VIDEOS)}){passed}"
        )
    return dict(sorted(clips.items()))


def check_folder(folder: Path) -> None:
    """Raise ClipsNotFound where there is no such folder."""
    if not folder.exists():
        raise ClipsNotFound(f"{folder}: there is no such folder of clips; check `clips`")
    if not folder.is_dir():
        raise ClipsNotFound(f"{folder}: is a file; `clips` names the folder it lies in")


def _match_masks(
    clips: Mapping[str, Path], masks: Mapping[str, Path], label: str
) -> tuple[dict[str, Path], list[Path]]:
    """Masks that have a clip, and those that do not; MasksNotFound where none has one."""
    matches = {name: path for name, path in masks.items() if name in clips}
    if not matches:
        example = f"a mask there is {next(iter(masks))!r}" if masks else "no mask is there"
        raise MasksNotFound(
            f"{label}: no mask matches any of the {len(clips)} clips; a clip is"
            f" {next(iter(clips))!r}, {example}; a mask needs its clip's name and sub-folder, with"
            " any image or video suffix"
        )
    return matches, [path for name, path in masks.items() if name not in clips]


def match_folder_masks(
    clips: Mapping[str, Path], root: Path, folder: Path, region: str, left: Leftovers
) -> tuple[dict[str, Path], list[Path]]:
    """Masks below `folder` by the clip of the same name, and those without a clip."""
    label = f"masks {folder}" + (f" (region {region!r})" if region else "")
    if not folder.is_dir():
        raise MasksNotFound(
            f"{label}: there is no such folder; a clip is {next(iter(clips))!r}, its mask would be"
            f" {folder / next(iter(clips))}.png"
        )
    if folder.resolve() == root.resolve():
        raise MasksNotFound(
            f"{label}: is the clip folder itself, so every clip would be its own mask; give a"
            ' folder of masks, or masks = "sidecar" for name.mask.png files beside the clips'
        )
    skip = {root.resolve()}
    if (folder / LEGEND).is_file() and SOFT not in _list_parents(clips):
        skip.add((folder / SOFT).resolve())  # `frisket masks` keeps the same regions there, soft
    masks = list_named_alike(clips, folder, left, skip=frozenset(skip), kind="masks")
    return _match_masks(clips, masks, label)


def list_named_alike(
    clips: Mapping[str, Path],
    folder: Path,
    left: Leftovers,
    *,
    skip: frozenset[Path],
    kind: str,
) -> dict[str, Path]:
    """Pictures, videos and folders of frames below `folder` by their names, as clips have them.

    `kind` is what errors call them; folders of `skip` are passed by. TwoFiles where two have one
    name.
    """
    parents = _list_parents(clips)

    def is_leaf(path: Path) -> bool:
        # A folder with the name of a clip holds its frames, one with the name of a folder of clips
        # mirrors it; any other with images belongs to nothing: one orphan instead of hundreds.
        name = name_of(path, folder)
        return name not in parents and (name in clips or any(map(is_media, path.iterdir())))

    media = list(walk_media(folder, skip=skip, leaf=is_leaf, left=left))
    return _index_names(media, lambda path: name_of(path, folder), kind)


def _list_parents(clips: Mapping[str, Path]) -> set[str]:
    return {parent.as_posix() for name in clips for parent in Path(name).parents}


def match_sidecar_masks(
    clips: Mapping[str, Path], root: Path, media: list[Path]
) -> tuple[dict[str, Path], list[Path]]:
    """Masks that lie beside their clips by the clip's name, and those without a clip."""

    def name(path: Path) -> str:
        path_name = plain(path.relative_to(root).as_posix())
        path_name = path_name if path.is_dir() else path_name.removesuffix(plain(path.suffix))
        return next(
            (path_name.removesuffix(end) for end in _SIDECARS if path_name.endswith(end)), ""
        )

    masks = _index_names((p for p in media if name(p)), name, "masks")
    label = f"{root}: masks beside clips (name.mask.png, name-masklabel.png, folder name.mask)"
    return _match_masks(clips, masks, label)
