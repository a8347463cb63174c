"""`frisket masks --people`: the best parser of people at hand, or a small one that is asked for."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from frisket.maskgen.base import BACKENDS, BackendUnusable
from frisket.maskgen.vision.loading import find_cached

log = logging.getLogger(__name__)

BEST = ("sapiens", "segformer")  # parsers of people, the best first
DETECTOR, COMPOSITION = "grounding_dino", "sapiens-people"  # for several people in a picture
SMALL, SIZE = "segformer", "about 110 MB"  # what is fetched where none is here


@dataclass(frozen=True, slots=True)
class ChosenParser:
    """A backend that parses people, and where its weights lie, by backend; empty: as they are."""

    backend: str
    sources: Mapping[str, str] = field(default_factory=dict)


def choose_parser(
    folder: Path,
    sources: Mapping[str, str],
    ask: Callable[[str], bool] | None,
    *,
    dry: bool = False,
    backend_typed: bool = False,
) -> ChosenParser:
    """The best parser at hand, and its weights where they are in the hub's cache.

    A parser among `sources` (a backend's weights by its name) comes first, then what was downloaded
    before, then a small model: `ask` is put the question before it is fetched (a no takes the
    draft), and where nobody can be asked (None) BackendUnusable names the commands for yes and no.
    `dry` asks nothing. `backend_typed`: whether a backend was typed too, which is refused.
    """
    if backend_typed:
        raise BackendUnusable("--people chooses a backend; give that or --backend, not both")
    parsers = [name for name in BEST if name in sources]
    if sources and not parsers:
        typed = "=".join(filter(None, next(iter(sources.items()))))
        raise BackendUnusable(
            f"--people --source {typed}: name the parser whose weights they are, as in"
            f" {SMALL}=FOLDER ({' or '.join(BEST)})"
        )
    if parsers:
        return ChosenParser(parsers[0])
    for name in BEST:
        weights = find_cached(BACKENDS.load(name).repo)
        if weights is not None:
            return _take_cached(name, str(weights))
    return ChosenParser(SMALL if dry or _ask(folder, ask) else "draft")


def _take_cached(name: str, weights: str) -> ChosenParser:
    detector = find_cached(BACKENDS.load(DETECTOR).repo) if name == "sapiens" else None
    backend, sources = (COMPOSITION if detector else name), {name: weights}
    if detector:
        sources[DETECTOR] = str(detector)
    log.info("people are parsed by %s, which is on this machine: %s", backend, weights)
    return ChosenParser(backend, sources)


def _ask(folder: Path, ask: Callable[[str], bool] | None) -> bool:
    """Whether the small model may be fetched."""
    backend = BACKENDS.load(SMALL)
    offer = f"{backend.repo} ({SIZE}; {backend.licence.weights}. {backend.licence.warning})"
    if ask is None:
        raise BackendUnusable(
            f"no model that parses people is on this machine. `frisket masks {folder} -b {SMALL}`"
            f" fetches {offer} and uses it; `frisket masks {folder}` makes drafts, without one"
        )
    if ask(f"No model that parses people is on this machine. Fetch {offer}?"):
        return True
    log.info("nothing is fetched: the masks are drafts, look at them")
    return False
