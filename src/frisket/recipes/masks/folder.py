"""A folder of masks of any kind, as the commands that read one take it: regions frame by frame."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from frisket.config.label_map import read_legend
from frisket.maskgen.base import SoftMask
from frisket.maskgen.files.store import read_frames, read_png_legend
from frisket.maskgen.format_base import GREY
from frisket.masks.read import BACKGROUND, WHOLE, by_level
from frisket.media.files import Findings, MasksNotFound, find
from frisket.media.frames import BadMedia, Media
from frisket.media.paths import LEGEND, SOFT

FAINT = 16 / 255  # a mask that nowhere reaches this holds label numbers rather than grey levels


class BadMaskOption(ValueError):
    """An option that cannot be read, or that fits nothing; names it and what to write."""


@dataclass(frozen=True, slots=True)
class MaskFolder:
    """Masks by the name of their clip, and how they become regions.

    One file a clip is cut by `legend`, else by the legend the PNG itself carries, else by `levels`,
    else it is the grey region `subject`. One file a region is a grey plane each.
    """

    location: str  # as it was asked for
    files: Mapping[str, Mapping[str, Path]]  # as `media.files.ClipFiles.masks`, without empty ones
    orphans: tuple[Path, ...]  # masks whose name is no clip's
    legend: Mapping[str, int]
    levels: Mapping[str, int]

    def regions(self) -> tuple[str, ...]:
        """Every region there can be, without the background; opens PNGs that may have a legend."""
        names: dict[str, None] = {}
        for masks in self.files.values():
            names |= dict.fromkeys(self._name_regions(masks[WHOLE]) if WHOLE in masks else masks)
        return tuple(name for name in names if name != BACKGROUND)

    def _name_regions(self, path: Path) -> Iterable[str]:
        try:
            return self._find_legend(path) or self.levels or (GREY,)
        except BadMedia:  # it names no region; `frames` raises it for its clip alone
            return ()

    def _find_legend(self, path: Path) -> Mapping[str, int]:
        """Of one label map; {} of a grey mask."""
        may = path.suffix.lower() == ".png" and path.is_file()
        return self.legend or (read_png_legend(path) if may else {})

    def frames(self, name: str, clip: Media) -> Iterator[dict[str, SoftMask]]:
        """The regions of each frame of a clip, H W in [0, 1], one frame at a time.

        BadMedia where the masks do not fit `clip`, or are not what they are taken for.
        """
        masks = self.files[name]
        if WHOLE not in masks:
            yield from read_frames(masks, clip, {})
            return
        path = masks[WHOLE]
        if legend := self._find_legend(path):
            for frame in read_frames(masks, clip, legend):
                yield {region: mask for region, mask in frame.items() if region != BACKGROUND}
            return
        for frame in read_frames({GREY: path}, clip, {}):
            _refuse_faint(path, frame[GREY])
            yield cut(frame[GREY], self.levels) if self.levels else frame


def cut(grey: SoftMask, levels: Mapping[str, int]) -> dict[str, SoftMask]:
    """The regions of one grey frame, by the nearest level, as for training."""
    return {name: planes[0] for name, planes in by_level(grey[None], levels).items()}


def _refuse_faint(path: Path, mask: SoftMask) -> None:
    top = float(mask.max())
    if 0 < top < FAINT:
        raise BadMedia(
            f"{path}: no level is above {top * 255:.0f} of 255, so it holds label numbers, not grey"
            f' levels; put a {LEGEND} beside the masks, like {{"face": 1, "hair": 2}}'
        )


def open_masks(
    location: str,
    clips: Path | None,
    *,
    legend: Mapping[str, int] | None = None,
    levels: Mapping[str, int] | None = None,
) -> MaskFolder:
    """The masks of a folder, by the names of clips; without `clips` every mask has its own name.

    `location` is a folder of masks, the clip folder itself (masks beside the clips), or a folder a
    region as `face=DIR/face,hair=DIR/hair`; where the sub-folders of a folder match the clips, and
    nothing else in it does, each is a region. A legend.json in the folder holds where no `legend`
    is given. Folders of frames are seen only with `clips`. Raises BadOption, MasksNotFound where
    nothing matches, ClipsNotFound, TwoFiles, ConfigError for a bad legend.
    """
    folders = _list_folders(location)
    legend = legend or _read_kept_legend(folders)
    if clips is None:
        files: dict[str, dict[str, Path]] = {}
        for region, folder in folders.items():
            for clip in find(folder, masks="none", folders={}).clips:
                if not (legend and clip.name.startswith(f"{SOFT}/")):
                    files.setdefault(clip.name, {})[region] = clip.clip
        return MaskFolder(location, files, (), legend, levels or {})
    findings = _find_masks(clips, folders)
    files = {clip.name: dict(clip.masks) for clip in findings.clips if clip.masks}
    return MaskFolder(location, files, tuple(findings.orphans), legend, levels or {})


def _list_folders(location: str) -> dict[str, Path]:
    """Region to folder; {"": folder} for a folder of whole masks."""
    if "=" not in location or Path(location).is_dir():
        folders = {WHOLE: Path(location).expanduser()}
    else:
        parts = [part.partition("=") for part in location.split(",")]
        folders = {name.strip(): Path(path.strip()).expanduser() for name, _, path in parts}
    for folder in folders.values():
        if not folder.is_dir():
            raise BadMaskOption(
                f"{folder}: there is no such folder of masks; give one, or a folder a region as"
                " face=DIR/face,hair=DIR/hair"
            )
    return folders


def _read_kept_legend(folders: Mapping[str, Path]) -> dict[str, int]:
    path = folders.get(WHOLE, Path()) / LEGEND
    return read_legend(path) if WHOLE in folders and path.is_file() else {}


def _find_masks(clips: Path, folders: Mapping[str, Path]) -> Findings:
    if WHOLE not in folders:
        return find(clips, masks="regions", folders=folders)
    folder = folders[WHOLE]
    if folder.resolve() == clips.resolve():
        return find(clips, masks="sidecar", folders={})
    try:
        return find(clips, masks="folder", folders=folders)
    except MasksNotFound:
        regions = {
            region_folder.name: region_folder
            for region_folder in sorted(folder.iterdir())
            if _matches(clips, region_folder)
        }
        if not regions:
            raise
        return find(clips, masks="regions", folders=regions)


def _matches(clips: Path, folder: Path) -> bool:
    if not folder.is_dir() or folder.name.startswith("."):
        return False
    try:
        find(clips, masks="regions", folders={folder.name: folder})
    except MasksNotFound:
        return False
    return True


def parse_table(text: str, option: str) -> dict[str, float]:
    """`face=1,hair=0.3` as a table; BadOption names the option and the part that is none."""
    table: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            table[name.strip()] = float(value)
        except ValueError:
            raise BadMaskOption(
                f"{option}: {part!r} is not region=number; write it like face=1,hair=0.3"
            ) from None
    return table


def parse_whole_table(text: str, option: str) -> dict[str, int]:
    """`face=255,hair=80`: whole numbers from 0 to 255, each once; BadOption for others."""
    table = parse_table(text, option)
    fine = all(value in range(256) for value in table.values())
    if not fine or len(set(table.values())) < len(table):
        raise BadMaskOption(
            f"{option}: {text!r} should give each region a whole number of its own, from 0 to 255"
        )
    return {name: int(value) for name, value in table.items()}
