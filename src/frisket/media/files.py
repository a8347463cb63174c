"""Find the clip, caption and masks that belong together."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from frisket.media.captions import (
    PLAIN,
    Shortening,
    Tidy,
    Wording,
    find_texts,
    read_captions,
    read_text,
)
from frisket.media.folders.left_out import Hint, Leftovers, look_alike_hints
from frisket.media.folders.links import find_outside
from frisket.media.folders.walk import ClipsNotFound, walk_media
from frisket.media.frames import BadMedia, probe
from frisket.media.manifest import ManifestLine, is_manifest, read_manifest
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

__all__ = [
    "ClipFiles",
    "ClipsNotFound",
    "Findings",
    "MaskKind",
    "MasksNotFound",
    "TwoFiles",
    "find",
]

_log = logging.getLogger(__name__)

MaskKind = Literal["none", "folder", "sidecar", "alpha", "regions", "listed"]
_SIDECARS = (".mask", "-masklabel")
_ASIDE = (*_SIDECARS, "-condlabel")  # OneTrainer keeps inpainting pictures beside its clips


class MasksNotFound(ValueError):
    """A configured mask source that matches no clip; names it and an example of either side."""


@dataclass(frozen=True, slots=True)
class ClipFiles:
    """One clip and what belongs to it."""

    name: str  # path below the clip folder, "/" between folders, without suffix, NFC
    clip: Path
    caption: str
    masks: Mapping[str, Path]  # region -> file or folder of frames; "" one file for all regions
    alpha: bool  # the mask is the clip's own alpha channel
    references: tuple[Path, ...] = ()  # pictures a manifest lists for an edit model


@dataclass(frozen=True, slots=True)
class Findings:
    """All clips of a data set in a fixed order, and what is left over."""

    clips: list[ClipFiles]
    orphans: list[Path]  # masks, or whole folders of them, without a clip
    uncaptioned: list[str]  # names of clips whose caption is empty
    outside: tuple[Path, ...] = ()  # clips, masks, captions that links bring from elsewhere
    hints: tuple[Hint, ...] = ()  # what of the folder is not read, or read only in part


def _name(path: Path, root: Path) -> str:
    """The path below `root` without suffix; a folder has none, whatever dots are in its name."""
    relative = path.relative_to(root)
    return plain((relative if path.is_dir() else relative.with_suffix("")).as_posix())


def _is_sidecar(folder: Path) -> bool:
    return folder.name.endswith(".mask")


def _is_aside(path: Path) -> bool:
    return path.is_dir() or path.stem.endswith(_ASIDE)


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


def _list_clips(root: Path, media: list[Path], left: Leftovers) -> dict[str, Path]:
    clips = _index_names(
        (p for p in media if not _is_aside(p)), lambda path: _name(path, root), "clips"
    )
    if not clips:
        passed = "".join(f". {hint}" for hint in left.hints(root, {}, ""))
        raise ClipsNotFound(
            f"{root}: holds no clip, sub-folders included; looked for images"
            f" ({' '.join(IMAGES)}) and videos ({' '.join(VIDEOS)}){passed}"
        )
    return dict(sorted(clips.items()))


def _check_folder(folder: Path) -> None:
    if not folder.exists():
        raise ClipsNotFound(f"{folder}: there is no such folder of clips; check `clips`")
    if not folder.is_dir():
        raise ClipsNotFound(f"{folder}: is a file; `clips` names the folder it lies in")


def _match_masks(
    clips: Mapping[str, Path], masks: Mapping[str, Path], where: str
) -> tuple[dict[str, Path], list[Path]]:
    """Masks that have a clip, and those that do not; MasksNotFound where none has one."""
    matches = {name: path for name, path in masks.items() if name in clips}
    if not matches:
        example = f"a mask there is {next(iter(masks))!r}" if masks else "no mask is there"
        raise MasksNotFound(
            f"{where}: no mask matches any of the {len(clips)} clips; a clip is"
            f" {next(iter(clips))!r}, {example}; a mask needs its clip's name and sub-folder, with"
            " any image or video suffix"
        )
    return matches, [path for name, path in masks.items() if name not in clips]


def _find_folder_masks(
    clips: Mapping[str, Path], root: Path, folder: Path, region: str, left: Leftovers
) -> tuple[dict[str, Path], list[Path]]:
    where = f"masks {folder}" + (f" (region {region!r})" if region else "")
    if not folder.is_dir():
        raise MasksNotFound(
            f"{where}: there is no such folder; a clip is {next(iter(clips))!r}, its mask would be"
            f" {folder / next(iter(clips))}.png"
        )
    if folder.resolve() == root.resolve():
        raise MasksNotFound(
            f"{where}: is the clip folder itself, so every clip would be its own mask; give a"
            ' folder of masks, or masks = "sidecar" for name.mask.png files beside the clips'
        )
    parents = {parent.as_posix() for name in clips for parent in Path(name).parents}

    def leaf(path: Path) -> bool:
        # A folder with the name of a clip holds its frames, one with the name of a folder of clips
        # mirrors it; any other with images belongs to nothing: one orphan instead of hundreds.
        name = _name(path, folder)
        return name not in parents and (name in clips or any(map(is_media, path.iterdir())))

    skip = {root.resolve()}
    if (folder / LEGEND).is_file() and SOFT not in parents:
        skip.add((folder / SOFT).resolve())  # `frisket masks` keeps the same regions there, soft
    media = list(walk_media(folder, skip=frozenset(skip), leaf=leaf, left=left))
    masks = _index_names(media, lambda path: _name(path, folder), "masks")
    return _match_masks(clips, masks, where)


def _find_sidecar_masks(
    clips: Mapping[str, Path], root: Path, media: list[Path]
) -> tuple[dict[str, Path], list[Path]]:
    def name(path: Path) -> str:
        whole = plain(path.relative_to(root).as_posix())
        whole = whole if path.is_dir() else whole.removesuffix(plain(path.suffix))
        return next((whole.removesuffix(end) for end in _SIDECARS if whole.endswith(end)), "")

    masks = _index_names((p for p in media if name(p)), name, "masks")
    where = f"{root}: masks beside clips (name.mask.png, name-masklabel.png, folder name.mask)"
    return _match_masks(clips, masks, where)


def _find_alpha_clips(clips: Mapping[str, Path], root: Path) -> set[str]:
    names = {name for name, path in clips.items() if _see_through(name, path)}
    if not names:
        raise MasksNotFound(
            f'{root}: masks = "alpha", but none of the {len(clips)} clips (such as'
            f" {next(iter(clips.values())).name}) has an alpha channel; save them with transparency"
            " (PNG, WebP), or give a mask folder"
        )
    return names


def _see_through(name: str, path: Path) -> bool:
    try:
        return probe(path).alpha
    except BadMedia as error:
        refuse(name, error)
        return False


def _masks(
    kind: MaskKind,
    clips: Mapping[str, Path],
    root: Path,
    media: list[Path],
    folders: Mapping[str, Path],
) -> tuple[dict[str, dict[str, Path]], list[Path], list[Hint]]:
    """Masks by clip and region, orphans, and what of the folders is not read."""
    hints: list[Hint] = []
    by_clip: dict[str, dict[str, Path]] = {name: {} for name in clips}
    orphans: list[Path] = []
    if kind in ("folder", "regions"):
        matches = []
        for region, folder in folders.items():
            left = Leftovers((".json",))  # `frisket masks` notes there how masks were made
            matches.append((region, _find_folder_masks(clips, root, folder, region, left)))
            hints += left.hints(folder, {}, "")
    elif kind == "sidecar":
        matches = [("", _find_sidecar_masks(clips, root, media))]
    else:
        matches = []
    for region, (paths, without) in matches:
        orphans += without
        for name, path in paths.items():
            by_clip[name][region] = path
    return by_clip, orphans, hints


def _from_manifest(
    manifest: Path,
    kind: MaskKind,
    folders: Mapping[str, Path],
    captions: Path | None,
    caption: str | None,
    tidy: Shortening,
    wording: Wording,
) -> Findings:
    lines = read_manifest(manifest)
    named = {line.name: line.clip for line in lines}
    if kind == "sidecar":
        raise MasksNotFound(
            f'{manifest}: masks = "sidecar" looks beside the clips of a folder; give each line of'
            " the manifest its `mask`"
        )
    by_clip, orphans, hints = _masks(kind, named, manifest, [], folders)
    _say_listed(manifest, kind, lines)
    if kind == "listed":
        by_clip = {line.name: dict(line.masks) for line in lines}
    with_alpha = _find_alpha_clips(named, manifest) if kind == "alpha" else set()
    if captions is None:
        texts = _read_listed_texts(lines, tidy, wording)
    else:
        texts = read_captions(named, manifest.parent, captions, tidy, wording.suffix)
    clips = [
        ClipFiles(
            line.name,
            line.clip,
            texts.get(line.name) or caption or "",
            by_clip[line.name],
            line.name in with_alpha,
            line.references,
        )
        for line in lines
    ]
    places = _locate_texts(named, manifest.parent, captions, wording)
    outside = _find_links(manifest.parent, clips, folders, captions, places)
    uncaptioned = [clip.name for clip in clips if not clip.caption]
    return Findings(clips, orphans, uncaptioned, outside, (*hints, *tidy.hints(texts)))


def _find_links(
    root: Path,
    clips: list[ClipFiles],
    folders: Mapping[str, Path],
    captions: Path | None,
    texts: Mapping[str, Path],
) -> tuple[Path, ...]:
    files = [path for clip in clips for path in (clip.clip, *clip.references)]
    own = [texts[clip.name] for clip in clips if clip.name in texts]
    return find_outside(
        root, files, [clip.masks for clip in clips], folders, (captions or root, own)
    )


def _read_listed_texts(
    lines: list[ManifestLine], tidy: Shortening, wording: Wording
) -> dict[str, str]:
    """Captions that lines hold; for the other clips those beside them."""
    texts = {line.name: tidy(line.caption) for line in lines if line.caption is not None}
    silent = {line.name: line.clip for line in lines if line.name not in texts}
    return texts | _read_beside(silent, tidy, wording)


def _locate_texts(
    clips: Mapping[str, Path], root: Path, captions: Path | None, wording: Wording
) -> dict[str, Path]:
    """Where the caption file of each clip of a manifest lies, or would lie."""
    if captions is None:
        return {name: wording.beside(clip) for name, clip in clips.items()}
    return find_texts(clips, root, captions, wording.suffix)


def _read_beside(clips: Mapping[str, Path], tidy: Tidy, wording: Wording) -> dict[str, str]:
    """`name.txt` beside each clip, wherever it lies."""
    paths = {name: wording.beside(clip) for name, clip in clips.items() if not clip.is_dir()}
    return {name: tidy(read_text(text)) for name, text in paths.items() if text.is_file()}


def _check_source(masks: str, folders: Mapping[str, Path]) -> None:
    if masks not in get_args(MaskKind):
        raise ValueError(f"no mask source {masks!r}; there are: {', '.join(get_args(MaskKind))}")
    if masks in ("folder", "regions") and not folders:
        raise ValueError(f'masks = "{masks}" needs a folder')


def _warn_of_unused(clips: Path, media: Iterable[Path]) -> None:
    count = sum(_is_aside(path) for path in media)
    if count:
        _log.warning(
            '%s: %d masks lie beside the clips and are not used; masks = "sidecar" takes them',
            clips,
            count,
        )


def _say_listed(manifest: Path, kind: MaskKind, lines: list[ManifestLine]) -> None:
    masked = sum(bool(line.masks) for line in lines)
    if kind == "listed":
        _log.info("%s: lists masks for %d of %d clips", manifest, masked, len(lines))
    elif masked:
        message = "%s: lists %d masks that are not used, for the config says masks = %r"
        _log.warning(message, manifest, masked, kind)


def find(
    clips: Path,
    *,
    masks: MaskKind,
    folders: Mapping[str, Path],
    captions: Path | None = None,
    caption: str | None = None,
    wording: Wording = PLAIN,
    paragraph: bool = True,
) -> Findings:
    """Find every clip of a folder (sub-folders included) with its caption and masks.

    `clips` may be a manifest instead (see `read_manifest`): masks = "listed" takes the masks it
    lists, and a clip whose line has no caption takes `name.txt` beside it.

    `masks`: "folder" and "regions" match the names below each of `folders` ({"": path}, or region
    to path) with those below `clips`; "sidecar" takes `name.mask.*`, `name-masklabel.*` and frame
    folders `name.mask` beside the clips; "alpha" marks clips with an alpha channel. A mask is an
    image, a video or a folder of frames. Captions come from `captions` (see `read_captions`), else
    are `caption`, else empty and listed; `wording` says how caption files end and what of them is
    read, `paragraph` False leaves captions as they are written. The order is that of the names.

    Raises ClipsNotFound, MasksNotFound (a mask source that matches nothing), TwoFiles, BadName,
    BadCaption, BadManifest.
    """
    _check_source(masks, folders)
    short = Shortening(wording if paragraph else None)
    if is_manifest(clips):
        return _from_manifest(clips, masks, folders, captions, caption, short, wording)
    _check_folder(clips)
    if masks == "listed":
        raise MasksNotFound(f'{clips}: masks = "listed" is for a .jsonl manifest, this is a folder')
    own = frozenset(folder.resolve() for folder in folders.values()) - {clips.resolve()}
    left = Leftovers((wording.suffix.lower(),))
    media = list(walk_media(clips, skip=own, leaf=_is_sidecar, left=left))
    named = _list_clips(clips, media, left)
    by_clip, orphans, passed = _masks(masks, named, clips, media, folders)
    with_alpha = _find_alpha_clips(named, clips) if masks == "alpha" else set()
    if masks == "none":
        _warn_of_unused(clips, media)
    texts = read_captions(named, clips, captions, short, wording.suffix)
    files = [
        ClipFiles(name, path, texts.get(name, caption or ""), by_clip[name], name in with_alpha)
        for name, path in named.items()
    ]
    texts_at = find_texts(named, clips, captions, wording.suffix)
    outside = _find_links(clips, files, folders, captions, texts_at)
    if captions is not None:
        left.files = [path for path in left.files if path != captions]
    hints = (
        *left.hints(clips, named, wording.suffix),
        *passed,
        *look_alike_hints(clips, named),
        *short.hints(texts),
    )
    uncaptioned = [clip.name for clip in files if not clip.caption]
    return Findings(files, orphans, uncaptioned, outside, hints)
