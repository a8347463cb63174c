"""Which file a clip's mask is, by its data set, and which form it has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from frisket.config.data import MaskSource
from frisket.config.load import read_layers
from frisket.config.tree import Config
from frisket.evaluation.contact_sheet import REGION_COLOURS
from frisket.maskgen.files.label_maps import read_legend
from frisket.maskgen.files.places import MaskStore
from frisket.masks.names import BACKGROUND, WHOLE
from frisket.media.paths import LEGEND, SOFT, VIDEOS, is_media, plain
from frisket.studio.documents.base import PaintRegion
from frisket.studio.documents.forms import ColourForm, Form, LabelForm, LevelForm, SoftForm
from frisket.studio.workspace import Clip, ClipSet

SIDECARS = (".mask", "-masklabel")
MASKS = "masks"  # the folder offered where a data set has none


@dataclass(frozen=True, slots=True)
class MaskPlace:
    """Where the mask of a clip is, or would be written.

    Keys are WHOLE or region names. Without a form `why` says what cannot be painted, and `offer`
    what could be done about it. `store` and `name` are how `frisket masks` knows the clip.
    """

    form: Form | None
    files: Mapping[str, Path] = field(default_factory=dict)  # that are there
    targets: Mapping[str, Path] = field(default_factory=dict)  # that are written
    store: MaskStore | None = None
    name: str = ""
    why: str = ""
    offer: str = ""


def find_mask(clip: Clip, clip_set: ClipSet) -> MaskPlace:
    """The mask of a clip as its data set's configuration has it, or as a bare folder would.

    Raises ConfigError and BadLegend for what cannot be read.
    """
    config, source = _read_source(clip_set)
    name = plain(clip.name)
    match source.source:
        case "alpha":
            why = 'its mask is the clip\'s own transparency (masks = "alpha"), which is not painted'
            return MaskPlace(None, why=why, offer=MASKS)
        case "none":
            return MaskPlace(None, why="its data set has no masks", offer=MASKS)
        case "listed":
            why = "its mask is named by a manifest; paint it in a data set with a mask folder"
            return MaskPlace(None, why=why)
        case "regions":
            return _find_planes(name, config, source)
    beside = source.source == "sidecar"
    folder = clip_set.clips if beside else source.path
    assert folder is not None  # MaskSource refuses source = "folder" without a path
    store = MaskStore(folder, beside)
    found = list(_list_masks(folder, name, beside=beside))
    if len(found) > 1:
        paths = " and ".join(path.name for path in found[:2])
        return MaskPlace(None, why=f"two masks have its name: {paths}; remove or rename one")
    moving = clip.video or clip.path.is_dir()
    if found and not moving and (found[0].is_dir() or found[0].suffix.lower() in VIDEOS):
        return MaskPlace(None, why=f"it is one picture, and its mask {found[0].name} has frames")
    files = {WHOLE: found[0]} if found else {}
    form = _choose_form(folder, config, source, bare=clip_set.config is None, files=files)
    target = files.get(WHOLE) or store.labels(name, video=False)
    return MaskPlace(form, files, {WHOLE: _as_png(target)}, store, name)


def _as_png(path: Path) -> Path:
    """The path with its name ending in .png; what is after another dot in the name stays."""
    if path.suffix.lower() == ".png" or path.is_dir():
        return path
    return path.with_name(path.name.removesuffix(path.suffix) + ".png")


def _find_planes(name: str, config: Config, source: MaskSource) -> MaskPlace:
    weights = config.region_weights
    names = [region for region in source.regions if region != BACKGROUND]
    regions = tuple(
        PaintRegion(number, region, _colour(number), weights.get(region))
        for number, region in enumerate(names, start=1)
    )
    files, targets = {}, {}
    for region in names:
        folder = source.regions[region]
        found = list(_list_masks(folder, name, beside=False))
        if len(found) > 1:
            paths = " and ".join(path.name for path in found[:2])
            return MaskPlace(None, why=f"two masks of {region} have its name: {paths}; remove one")
        if found:
            files[region] = found[0]
        target = found[0] if found else folder / f"{name}.png"
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
    named = all(source.regions[region].name == region for region in names)
    if named and folder.name == SOFT and (folder.parent / LEGEND).is_file():
        return MaskStore(folder.parent)
    return None


def _choose_form(
    folder: Path, config: Config, source: MaskSource, *, bare: bool, files: Mapping[str, Path]
) -> Form:
    """How one file is read: by the config's tables, else the folder's legend, else as grey."""
    # A bare folder has no table of regions: its legend alone says which there are.
    named = bare and (folder / LEGEND).is_file()
    weights = {} if named else config.region_weights
    names = [region for region in weights if region != BACKGROUND]
    if source.levels:
        return _make_level_form(source.levels, weights)
    if any(isinstance(value, tuple) for value in source.legend.values()):
        return _make_colour_form(source.legend, weights)
    if source.legend:
        return _make_label_form(_as_indices(source.legend), weights, None)
    legend_file = folder / LEGEND
    if not source.invert and (
        legend_file.is_file() or len(names) > 1 or (bare and not files and not _has_masks(folder))
    ):
        legend = read_legend(legend_file)
        for name in names:
            legend.setdefault(name, max(legend.values(), default=0) + 1)
        return _make_label_form(legend, weights, legend_file)
    name = names[0] if names else "subject"
    region = PaintRegion(1, name, _colour(1), weights.get(name))
    return SoftForm((region,), {WHOLE: 1}, invert=source.invert)


def _has_masks(folder: Path) -> bool:
    return folder.is_dir() and any(is_media(path) for path in folder.iterdir())


def _as_indices(legend: Mapping[str, int | tuple[int, int, int]]) -> dict[str, int]:
    return {name: value for name, value in legend.items() if isinstance(value, int)}


def _make_label_form(
    legend: Mapping[str, int], weights: Mapping[str, float], legend_file: Path | None
) -> LabelForm:
    regions = tuple(
        PaintRegion(index, name, _colour(index), weights.get(name))
        for name, index in sorted(legend.items(), key=lambda pair: pair[1])
        if index <= 255
    )
    return LabelForm(regions, legend.get(BACKGROUND, 0), legend_file)


def _make_level_form(levels: Mapping[str, int], weights: Mapping[str, float]) -> LevelForm:
    names = [name for name in levels if name != BACKGROUND]
    regions = tuple(
        PaintRegion(number, name, _colour(number), weights.get(name))
        for number, name in enumerate(names, start=1)
    )
    numbers = {region.id: levels[region.name] for region in regions}
    if BACKGROUND in levels or 0 not in levels.values():
        numbers[0] = levels.get(BACKGROUND, 0)
    return LevelForm(regions, numbers)


def _make_colour_form(
    legend: Mapping[str, int | tuple[int, int, int]], weights: Mapping[str, float]
) -> ColourForm:
    colours = {name: value for name, value in legend.items() if isinstance(value, tuple)}
    names = [name for name in colours if name != BACKGROUND]
    regions = tuple(
        PaintRegion(number, name, colours[name], weights.get(name))
        for number, name in enumerate(names, start=1)
    )
    codes = {region.id: _code(colours[region.name]) for region in regions}
    if BACKGROUND in colours:
        codes[0] = _code(colours[BACKGROUND])
    return ColourForm(regions, codes)


def _code(colour: tuple[int, int, int]) -> int:
    return (colour[0] << 16) + (colour[1] << 8) + colour[2]


def _colour(number: int) -> tuple[int, int, int]:
    return REGION_COLOURS[(number - 1) % len(REGION_COLOURS)]


def _list_masks(folder: Path, name: str, *, beside: bool) -> Iterator[Path]:
    """Files, and folders of frames, whose name is a clip's in any Unicode form."""
    path = PurePosixPath(name)
    for parent in _list_folders(folder, path.parent.parts):
        for entry in sorted(parent.iterdir()):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                stem = plain(entry.name)
                if stem == path.name + (".mask" if beside else "") and _holds_frames(entry):
                    yield entry
                continue
            stem = plain(entry.name.removesuffix(entry.suffix))
            stems = [path.name + end for end in SIDECARS] if beside else [path.name]
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


def _read_source(clip_set: ClipSet) -> tuple[Config, MaskSource]:
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
