"""A mask folder for a data set that has none: to paint into, to make masks into, or to take up."""

from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

from frisket.maskgen.files.label_maps import extend_legend, read_legend
from frisket.masks.names import BACKGROUND
from frisket.media.paths import LEGEND
from frisket.studio.documents.base import MaskNotEditable
from frisket.studio.documents.finding import MASKS, read_source
from frisket.studio.regions.table import edit_config, find_data_table, open_table
from frisket.studio.workspace import ClipSet

SUBJECT = "subject"  # the region `frisket init` writes where it finds no masks
WEIGHT = 1.0  # of a region that is new


def add_folder(clip_set: ClipSet, coming: Sequence[str] = ()) -> Path:
    """Write `masks = "masks"` into the configuration, and a weight of 1 for regions it lacks.

    The regions are those of masks that are `coming`, or of the legend that lies in the folder
    (masks `frisket masks` made there before); without either the configuration's own, which then
    get a legend. Where others are named, the `subject` of `frisket init`, which no mask shows,
    goes. Comments and everything else of the file stay. MaskNotEditable for a set that has masks
    already, and where the folder holds something that is no label maps of ours; ConfigError as
    `edit_config`.
    """
    config, source = read_source(clip_set)
    if clip_set.config is None or source.source != "none":
        raise MaskNotEditable(f"{clip_set.name}: has masks already ({source.source}); paint those")
    folder = clip_set.config.parent / MASKS
    legend = read_legend(folder / LEGEND)
    if not legend and folder.exists() and any(folder.iterdir()):
        raise MaskNotEditable(
            f'{folder}: holds something already; write masks = "{MASKS}" into'
            f" {clip_set.config.name} yourself if they are its masks"
        )
    regions_there = list(dict.fromkeys([*legend, *coming]))
    with edit_config(clip_set.config) as document:
        table = find_data_table(document, clip_set.index)
        table["masks"] = MASKS
        table["masks"].comment("label maps, as `frisket masks` and the studio write them")
        if regions_there:
            _name_regions(open_table(document), regions_there)
    if not regions_there:
        extend_legend(
            folder / LEGEND, [region for region in config.regions if region != BACKGROUND]
        )
    return folder


def _name_regions(table: MutableMapping[str, Any], names: Sequence[str]) -> None:
    if SUBJECT not in names and set(table) <= {SUBJECT, BACKGROUND}:
        table.pop(SUBJECT, None)
    for name in names:
        if name not in table and name != BACKGROUND:
            table[name] = WEIGHT
