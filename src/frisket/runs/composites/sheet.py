"""A contact sheet of the mixes of a run, so that somebody looks at them before it trains."""

import logging
from pathlib import Path

import numpy as np

from frisket.data.cached.store import CannotWrite, key_of
from frisket.data.records import Prepared
from frisket.disk.atomic import replacing
from frisket.evaluation.contact_sheet import Card, contact_sheet

log = logging.getLogger(__name__)


def write_mix_sheet(prepared: Prepared) -> Path | None:
    """A contact sheet of some mixes in the cache, made once for the same mixes; None without any.

    A cache that cannot be written goes without, with a warning in the log.
    """
    keys = [
        mix.latents + mix.coverage + repr(mix.layers)
        for item in prepared.items
        for mix in item.mixes
    ]
    if prepared.draw_mixes is None or not keys:
        return None
    path = prepared.cache.folder / "mixes" / f"{key_of({'mixes': keys})}.png"
    if path.is_file():
        return path
    if not prepared.cache.writable:
        log.warning("%s: no contact sheet of the mixes, the cache is read-only", path)
        return None
    cards = [
        Card(
            name=f"{mix.name}: {mix.caption}",
            frames=np.asarray(mix.frames),
            planes={name: np.asarray(plane) for name, plane in mix.planes.items()},
            coverage={name: float(plane.mean()) for name, plane in mix.planes.items()},
        )
        for mix in prepared.draw_mixes()
    ]
    try:
        with replacing(path) as draft:
            contact_sheet(cards, title="Mixes", shown=("clip", "regions")).save(draft, format="PNG")
    except CannotWrite as error:
        log.warning("no contact sheet of the mixes: %s", error)
        return None
    return path
