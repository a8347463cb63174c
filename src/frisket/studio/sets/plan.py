"""How one data set is read: what its `[[data]]` table says, without opening any picture."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from frisket.config.data import Data, list_weights
from frisket.config.label_map import read_legend
from frisket.config.load import ConfigError, load
from frisket.config.tree import Config
from frisket.media.captions import Wording
from frisket.media.folders.rejecting import list_place
from frisket.media.paths import LEGEND
from frisket.studio.workspace import ClipSet

MaskOrigin = Literal["none", "folder", "sidecar", "alpha", "regions", "listed"]
BACKGROUND = "background"
SUBJECT = "subject"  # the one region of a mask that names none


@dataclass(frozen=True, slots=True)
class SetRegion:
    """A region as the page shows it; `colour` as #rrggbb."""

    id: int  # index of the label map, or place among the regions; 1 to 255
    name: str
    colour: str
    weight: float


@dataclass(frozen=True, slots=True)
class SetPlan:
    """What is known of a data set before its folder is listed."""

    clip_set: ClipSet
    source: MaskOrigin = "none"
    folders: Mapping[str, Path] = field(default_factory=dict)  # "" = all regions
    levels: Mapping[str, int] = field(default_factory=dict)
    legend: Mapping[str, int | tuple[int, int, int]] = field(default_factory=dict)
    invert: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)
    captions: Path | None = None
    caption: str | None = None
    wording: Wording = field(default_factory=Wording)
    reject: Path | None = None  # as the configuration names it
    repeats: int = 1
    resolution: int | tuple[int, int] | None = None
    fault: str = ""  # why the configuration cannot be read

    @property
    def rejects(self) -> Path:
        """Where the list of rejected clips lies, or would lie."""
        return self.reject or list_place(self.clip_set.clips)

    @property
    def obeyed(self) -> bool:
        """Whether a run reads that list."""
        return self.reject is not None


def plan_of(clip_set: ClipSet) -> SetPlan:
    """The plan of a data set; one whose configuration is wrong is read by its folders alone."""
    if clip_set.config is None:
        return _plan_bare(clip_set, "")
    try:
        config = _load(clip_set.config, _stamp_sources(clip_set.config, clip_set))
        data = config.data[clip_set.index]
    except (ConfigError, OSError, IndexError) as error:
        return _plan_bare(clip_set, str(error))
    return _plan_configured(clip_set, config, data)


def _stamp_sources(config: Path, clip_set: ClipSet) -> tuple[tuple[int, int], ...]:
    """Time and size of what a configuration is read from: itself, and legends it takes up."""
    places = [config, clip_set.clips / LEGEND, clip_set.clips.with_name(LEGEND)]
    if clip_set.masks is not None:
        places.append(clip_set.masks / LEGEND)
    stats = [path.stat() if path.is_file() else None for path in places]
    return tuple((stat.st_mtime_ns, stat.st_size) if stat else (0, 0) for stat in stats)


@lru_cache(maxsize=32)
def _load(path: Path, stamps: tuple[tuple[int, int], ...]) -> Config:  # noqa: ARG001 -- of the key
    """The configuration; the stamps are part of the key, so that a changed file is read."""
    return load(path)


def _plan_configured(clip_set: ClipSet, config: Config, data: Data) -> SetPlan:
    masks = data.masks
    folders = {"": masks.path} if masks.source == "folder" and masks.path else dict(masks.regions)
    return SetPlan(
        clip_set,
        source=masks.source,
        folders=folders,
        levels=masks.levels,
        legend=masks.legend,
        invert=masks.invert,
        weights={BACKGROUND: 0.0, **list_weights(config.regions)},
        captions=data.captions,
        caption=data.caption,
        wording=Wording(data.caption_extension, data.caption_part),
        reject=data.reject,
        repeats=data.repeats,
        resolution=data.resolution,
    )


def _plan_bare(clip_set: ClipSet, fault: str) -> SetPlan:
    masks = clip_set.masks
    if masks is None or not masks.is_dir() or masks == clip_set.clips:
        return SetPlan(clip_set, fault=fault)
    try:
        legend = read_legend(masks / LEGEND) if (masks / LEGEND).is_file() else {}
    except ConfigError as error:
        return SetPlan(clip_set, source="folder", folders={"": masks}, fault=fault or str(error))
    return SetPlan(clip_set, source="folder", folders={"": masks}, legend=legend, fault=fault)


def list_regions(plan: SetPlan) -> list[SetRegion]:
    """The regions of a set in the order of their ids, with the colours of label maps and reports.

    Ids are those of the legend where it names indices below 256; else places in the order of the
    levels, colours, folders or weights.
    """
    ids = _number_regions(plan)
    return [
        SetRegion(
            number,
            name,
            pick_colour(number, plan.legend.get(name)),
            plan.weights.get(name, 1.0),
        )
        for name, number in sorted(ids.items(), key=lambda pair: pair[1])
    ]


def _number_regions(plan: SetPlan) -> dict[str, int]:
    labels = {name: value for name, value in plan.legend.items() if isinstance(value, int)}
    if labels and all(value <= 255 for value in labels.values()):
        return {name: value for name, value in labels.items() if name != BACKGROUND and value}
    names = [name for name in _list_marked(plan) if name not in (BACKGROUND, "")] or [SUBJECT]
    return {name: number for number, name in enumerate(names[:255], 1)}


def _list_marked(plan: SetPlan) -> list[str]:
    """The names that the masks of a set can mark, background and "" among them."""
    marked_names = [*plan.legend] or [*plan.levels]
    if not marked_names and plan.source in ("regions", "listed"):
        marked_names = [name for name in plan.folders if name]
    return marked_names or [*plan.weights]


def pick_colour(number: int, own_colour: object = None) -> str:
    """The colour of a region's id, as its label map and the reports have it, or the mask's own."""
    colour = own_colour if isinstance(own_colour, tuple) else COLOURS[(number - 1) % len(COLOURS)]
    red, green, blue = colour
    return f"#{red:02x}{green:02x}{blue:02x}"


# As evaluation.contact_sheet.REGION_COLOURS (a test compares): that module draws, and would bring
# NumPy and Pillow to the start of the server.
COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (240, 228, 66),
    (0, 114, 178),
)
