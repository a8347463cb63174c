"""Which file a clip's mask is, by its data set, and which form it has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from frisket.config.data import MaskSource
from frisket.config.load import read_layers
from frisket.config.tree import Config
from frisket.maskgen.files.places import MaskStore
from frisket.masks.names import BACKGROUND, WHOLE
from frisket.media.manifest import read_manifest
from frisket.media.paths import LEGEND, SOFT, VIDEOS, is_media, plain
from frisket.studio.documents.choosing import choose_form, number_regions
from frisket.studio.documents.forms import PaintForm, SoftForm
from frisket.studio.workspace import ClipSet, WorkspaceClip

SIDECARS = (".mask", "-masklabel")
MASKS = "masks"  # the folder offered where a data set has none
UNPAINTED = {
    "alpha": (
        'its mask is the clip\'s own transparency (masks = "alpha"), which is not painted; bring it'
        " into a folder first: frisket masks import CLIPS --from alpha --clips CLIPS -o masks"
    ),
    "none": "its data set has no masks",
}


@dataclass(frozen=True, slots=True)
class MaskPlace:
    """Where the mask of a clip is, or would be written.

    Keys are WHOLE or region names. Without a form `reason` says what cannot be painted, and `offer`
    what could be done about it. `store` and `name` are how `frisket masks` knows the clip.
    """

    form: PaintForm | None
    files: Mapping[str, Path] = field(default_factory=dict)  # that are there
    targets: Mapping[str, Path] = field(default_factory=dict)  # that are written
    store: MaskStore | None = None
    name: str = ""
    reason: str = ""
    offer: str = ""


def find_mask(clip: WorkspaceClip, clip_set: ClipSet) -> MaskPlace:
    """The mask of a clip as its data set's configuration has it, or as a bare folder would.

    Raises ConfigError, BadManifest and BadLegend for what cannot be read.
    """
    config, source = read_source(clip_set)
    name = plain(clip.name)
    if source.source in UNPAINTED:
        return MaskPlace(None, name=name, reason=UNPAINTED[source.source], offer=MASKS)
    if source.source == "regions":
        return _find_planes(name, config, source)
    if source.source == "listed":
        place = _find_listed(name, clip_set, config, source)
    else:
        place = _find_file(name, clip_set, config, source)
    path = place.files.get(WHOLE)
    moving = clip.video or clip.path.is_dir()
    if path is not None and not moving and (path.is_dir() or path.suffix.lower() in VIDEOS):
        reason = f"it is one picture, and its mask {path.name} has frames"
        return MaskPlace(None, name=name, reason=reason)
    return place


def _find_file(name: str, clip_set: ClipSet, config: Config, source: MaskSource) -> MaskPlace:
    """One file in a mask folder, or beside the clip."""
    is_beside = source.source == "sidecar"
    folder = clip_set.clips if is_beside else source.path
    assert folder is not None  # MaskSource refuses source = "folder" without a path
    store = MaskStore(folder, is_beside)
    paths_there = list(_list_masks(folder, name, is_beside=is_beside))
    if len(paths_there) > 1:
        twins = " and ".join(path.name for path in paths_there[:2])
        reason = f"two masks have its name: {twins}; remove or rename one"
        return MaskPlace(None, name=name, reason=reason)
    files = {WHOLE: paths_there[0]} if paths_there else {}
    fresh = clip_set.config is None and not paths_there and not _has_masks(folder)
    form = choose_form(config, source, folder, bare=clip_set.config is None, fresh=fresh)
    target = files.get(WHOLE) or store.labels(name, video=False)
    return MaskPlace(form, files, {WHOLE: _as_png(target)}, store, name)


def _find_listed(name: str, clip_set: ClipSet, config: Config, source: MaskSource) -> MaskPlace:
    """The files that a manifest names; only those, and by their names."""
    lines = read_manifest(clip_set.clips)
    masks = next((dict(line.masks) for line in lines if line.name == name), {})
    if not masks:
        reason = f"its line in {clip_set.clips.name} names no mask; add one to paint it"
        return MaskPlace(None, name=name, reason=reason)
    if odd_names := [path.name for path in masks.values() if path.suffix.lower() != ".png"]:
        reason = (
            f"masks are saved as .png, and {clip_set.clips.name} names {odd_names[0]}; convert it"
        )
        return MaskPlace(None, name=name, reason=reason)
    files = {key: path for key, path in masks.items() if path.exists()}
    if WHOLE in masks:
        form = choose_form(config, source, clip_set.clips.parent, bare=False, fresh=False)
    else:
        regions = number_regions(list(masks), config.region_weights)
        numbers = {region.name: region.id for region in regions}
        form = SoftForm(regions, numbers, invert=source.invert, name="regions")
    return MaskPlace(form, files, masks, None, name)


def _as_png(path: Path) -> Path:
    """The path with its name ending in .png; what is after another dot in the name stays."""
    if path.suffix.lower() == ".png" or path.is_dir():
        return path
    return path.with_name(path.name.removesuffix(path.suffix) + ".png")


def _find_planes(name: str, config: Config, source: MaskSource) -> MaskPlace:
    names = [region for region in source.regions if region != BACKGROUND]
    regions = number_regions(names, config.region_weights)
    files, targets = {}, {}
    for region in names:
        folder = source.regions[region]
        paths_there = list(_list_masks(folder, name, is_beside=False))
        if len(paths_there) > 1:
            twins = " and ".join(path.name for path in paths_there[:2])
            reason = f"two masks of {region} have its name: {twins}; remove one"
            return MaskPlace(None, name=name, reason=reason)
        if paths_there:
            files[region] = paths_there[0]
        target = paths_there[0] if paths_there else folder / f"{name}.png"
        targets[region] = _as_png(target)
    numbers = {region.name: region.id for region in regions}
    form = SoftForm(regions, numbers, invert=source.invert, name="regions")
    return MaskPlace(form, files, targets, _find_soft_store(source, names), name)


def _find_soft_store(source: MaskSource, names: list[str]) -> MaskStore | None:
    """The mask folder whose soft planes these are: MASKS/soft/REGION of `frisket masks --soft`."""
    folders = {source.regions[region].parent for region in names}
    if len(folders) != 1:
        return None
    (folder,) = folders
    names_match = all(source.regions[region].name == region for region in names)
    if names_match and folder.name == SOFT and (folder.parent / LEGEND).is_file():
        return MaskStore(folder.parent)
    return None


def _has_masks(folder: Path) -> bool:
    return folder.is_dir() and any(is_media(path) for path in folder.iterdir())


def _list_masks(folder: Path, name: str, *, is_beside: bool) -> Iterator[Path]:
    """Files, and folders of frames, whose name is a clip's in any Unicode form."""
    path = PurePosixPath(name)
    for parent in _list_folders(folder, path.parent.parts):
        for entry in sorted(parent.iterdir()):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                stem = plain(entry.name)
                if stem == path.name + (".mask" if is_beside else "") and _holds_frames(entry):
                    yield entry
                continue
            stem = plain(entry.name.removesuffix(entry.suffix))
            stems = [path.name + end for end in SIDECARS] if is_beside else [path.name]
            if stem in stems and is_media(entry):
                yield entry


def _holds_frames(folder: Path) -> bool:
    return any(is_media(path) for path in folder.iterdir())


def _list_folders(folder: Path, parts: tuple[str, ...]) -> list[Path]:
    """Every folder of these names below another, whatever form of Unicode they are written in."""
    folders = [folder] if folder.is_dir() else []
    for part in parts:
        folders = [
            entry
            for parent in folders
            for entry in parent.iterdir()
            if entry.is_dir() and plain(entry.name) == part
        ]
    return folders


def read_source(clip_set: ClipSet) -> tuple[Config, MaskSource]:
    """The configuration of a data set and how it has masks; a bare folder has `masks` beside."""
    if clip_set.config is None:
        path = clip_set.masks or clip_set.clips.parent / MASKS
        return Config(), MaskSource(source="folder", path=path)
    stat = clip_set.config.stat()
    config = _read_config(clip_set.config, (stat.st_mtime_ns, stat.st_size))
    return config, config.data[clip_set.index].masks


@lru_cache(maxsize=32)
def _read_config(path: Path, stamp: tuple[int, int]) -> Config:
    """The configuration as its file was at that time, without what folders add to it."""
    del stamp  # of the key alone: a file that was changed is read again
    return read_layers(path)[0]
