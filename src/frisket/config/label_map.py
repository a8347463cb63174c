"""Reads the legend that `frisket masks` left beside its label maps, where a config names none."""

from pathlib import Path
from typing import Any

from frisket.config.data import Data
from frisket.config.provenance import ConfigError, Key, Origin
from frisket.config.tree import Config
from frisket.disk.untrusted import parse_json, read_text
from frisket.media.paths import LEGEND


def read_legend(path: Path) -> dict[str, int]:
    """Region to label index, as a `legend.json` holds it; ConfigError names what is wrong in it."""
    try:
        table = parse_json(read_text(path))
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); restore it, or write `legend` into the config"
        ) from error
    fine = isinstance(table, dict) and all(
        type(index) is int and 0 <= index <= 255 for index in table.values()
    )
    if not fine:
        raise ConfigError(
            f'{path}: should be a table of region to index from 0 to 255, such as {{"face": 1}}'
        )
    return {str(name): index for name, index in table.items()}


def with_legends(config: Config, origin: Origin) -> Config:
    """The configuration with every legend filled in that lies beside the masks it is for.

    Only where masks are a folder, sidecars or listed, and the config says neither how grey levels
    nor how labels are read. Raises ConfigError where a legend names a region that [regions] does
    not weigh.
    """
    changed: dict[str, Any] = {}
    data = _fill_legends(config.data, ("data",), config, origin)
    if data != config.data:
        changed["data"] = data
    measured = _fill_legends(config.validation.data, ("validation", "data"), config, origin)
    if measured != config.validation.data:
        changed["validation"] = config.validation.model_copy(update={"data": measured})
    return config.model_copy(update=changed) if changed else config


def _fill_legends(
    sets: tuple[Data, ...], key: Key, config: Config, origin: Origin
) -> tuple[Data, ...]:
    return tuple(
        _fill_legend(data, (*key, number), config, origin) for number, data in enumerate(sets)
    )


def _fill_legend(data: Data, key: Key, config: Config, origin: Origin) -> Data:
    masks = data.masks
    places = {"folder": masks.path, "sidecar": data.clips, "listed": data.clips.parent}
    folder = places.get(masks.source)
    if folder is None or masks.legend or masks.levels or masks.invert:
        return data
    path = folder / LEGEND
    if not path.is_file():
        return data
    legend = read_legend(path)
    unknown = sorted(set(legend) - set(config.regions) - {"background"})
    if unknown:
        table = ", ".join(f"{name} = 1.0" for name in unknown)
        raise origin.refuse(
            (*key, "masks"),
            f"{path} has the regions {', '.join(sorted(legend))}, but [regions] gives"
            f" {', '.join(unknown)} no weight; add"
            f" {table} there (0 teaches nothing)",
        )
    return data.model_copy(update={"masks": masks.model_copy(update={"legend": legend})})
