"""A mask folder for a data set that has none, so that its clips can be painted."""

from pathlib import Path

from frisket.maskgen.files.label_maps import extend_legend
from frisket.masks.names import BACKGROUND
from frisket.media.paths import LEGEND
from frisket.studio.documents.base import MaskNotEditable
from frisket.studio.documents.finding import MASKS, read_source
from frisket.studio.regions.table import edit_config
from frisket.studio.workspace import ClipSet


def add_folder(clip_set: ClipSet) -> Path:
    """Write `masks = "masks"` into the configuration, and a legend of its regions into the folder.

    Comments and everything else of the file stay. MaskNotEditable for a set that has masks already,
    and where the folder is there and holds something; ConfigError as `edit_config`.
    """
    config, source = read_source(clip_set)
    if clip_set.config is None or source.source != "none":
        raise MaskNotEditable(f"{clip_set.name}: has masks already ({source.source}); paint those")
    folder = clip_set.config.parent / MASKS
    if folder.exists() and any(path.name != LEGEND for path in folder.iterdir()):
        raise MaskNotEditable(
            f'{folder}: holds something already; write masks = "{MASKS}" into'
            f" {clip_set.config.name} yourself if they are its masks"
        )
    names = [region for region in config.regions if region != BACKGROUND]
    with edit_config(clip_set.config) as document:
        tables = document["data"]
        table = tables[clip_set.index] if isinstance(tables, list) else tables
        table["masks"] = MASKS
    extend_legend(folder / LEGEND, names)
    return folder
