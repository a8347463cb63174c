"""Which form a mask file has, by the tables of a configuration or the legend beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from frisket.config.data import MaskSource
from frisket.config.tree import Config
from frisket.evaluation.contact_sheet import REGION_COLOURS
from frisket.maskgen.files.label_maps import read_legend
from frisket.masks.names import BACKGROUND, WHOLE
from frisket.media.paths import LEGEND
from frisket.studio.documents.base import PaintRegion
from frisket.studio.documents.forms import ColourForm, LabelForm, LevelForm, PaintForm, SoftForm


def choose_form(
    config: Config, source: MaskSource, folder: Path, *, bare: bool, fresh: bool
) -> PaintForm:
    """How one file is read: by the config's tables, else the folder's legend, else as grey.

    `bare`: there is no config. `fresh`: nor any mask in the folder, which may become what is best.
    """
    # A bare folder has no table of regions: its legend alone says which there are.
    has_legend = bare and (folder / LEGEND).is_file()
    weights = {} if has_legend else config.region_weights
    names = [region for region in weights if region != BACKGROUND]
    if source.levels:
        return _make_level_form(source.levels, weights)
    if any(isinstance(value, tuple) for value in source.legend.values()):
        return _make_colour_form(source.legend, weights)
    if source.legend:
        return _make_label_form(_as_indices(source.legend), weights, None)
    return _choose_untold(source, folder / LEGEND, names, weights, fresh=fresh)


def _choose_untold(
    source: MaskSource,
    legend_file: Path,
    names: Sequence[str],
    weights: Mapping[str, float],
    *,
    fresh: bool,
) -> PaintForm:
    """The form of a file of which the configuration says nothing."""
    if not source.invert and (legend_file.is_file() or len(names) > 1 or fresh):
        legend = read_legend(legend_file)
        for name in names:
            legend.setdefault(name, max(legend.values(), default=0) + 1)
        return _make_label_form(legend, weights, legend_file)
    name = names[0] if names else "subject"
    region = PaintRegion(1, name, _choose_colour(1), weights.get(name))
    return SoftForm((region,), {WHOLE: 1}, invert=source.invert)


def _as_indices(legend: Mapping[str, int | tuple[int, int, int]]) -> dict[str, int]:
    return {name: value for name, value in legend.items() if isinstance(value, int)}


def _make_label_form(
    legend: Mapping[str, int], weights: Mapping[str, float], legend_file: Path | None
) -> LabelForm:
    regions = tuple(
        PaintRegion(index, name, _choose_colour(index), weights.get(name))
        for name, index in sorted(legend.items(), key=lambda pair: pair[1])
        if index <= 255
    )
    return LabelForm(regions, legend.get(BACKGROUND, 0), legend_file)


def _make_level_form(levels: Mapping[str, int], weights: Mapping[str, float]) -> LevelForm:
    regions = number_regions([name for name in levels if name != BACKGROUND], weights)
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
    codes = {region.id: _pack_colour(colours[region.name]) for region in regions}
    if BACKGROUND in colours:
        codes[0] = _pack_colour(colours[BACKGROUND])
    return ColourForm(regions, codes)


def _pack_colour(colour: tuple[int, int, int]) -> int:
    return (colour[0] << 16) + (colour[1] << 8) + colour[2]


def _choose_colour(number: int) -> tuple[int, int, int]:
    return REGION_COLOURS[(number - 1) % len(REGION_COLOURS)]


def number_regions(names: Sequence[str], weights: Mapping[str, float]) -> tuple[PaintRegion, ...]:
    """Regions numbered from 1 in their order, for files that hold no numbers themselves."""
    return tuple(
        PaintRegion(number, name, _choose_colour(number), weights.get(name))
        for number, name in enumerate(names, start=1)
    )
