"""`frisket masks --people`: the best parser of people at hand, or a small one that is asked for."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from frisket.maskgen.base import BACKENDS, BackendUnusable
from frisket.maskgen.vision.loading import cached

log = logging.getLogger(__name__)

BEST = ("sapiens", "segformer")  # parsers of people, the best first
DETECTOR, ONE_BY_ONE = "grounding_dino", "sapiens-people"  # for several people in a picture
SMALL, SIZE = "segformer", "about 110 MB"  # what is fetched where none is here


def with_parser(
    given: Mapping[str, Any], ask: Callable[[str], bool] | None, *, dry: bool = False
) -> dict[str, Any]:
    """The options with a backend in them, and its weights where they are in the hub's cache.

    A `--source NAME=FOLDER` of a parser comes first, then what was downloaded before, then a small
    model: `ask` is put the question before it is fetched (a no takes the draft), and where nobody
    can be asked (None) BackendUnusable names the commands for yes and no. `dry` asks nothing.
    """
    if given["backend"]:
        raise BackendUnusable("--people chooses a backend; give that or --backend, not both")
    sources = list(given["source"] or ())
    told = [name for name in BEST if any(each.startswith(f"{name}=") for each in sources)]
    if sources and not told:
        raise BackendUnusable(
            f"--people --source {sources[0]}: name the parser whose weights they are, as in"
            f" {SMALL}=FOLDER ({' or '.join(BEST)})"
        )
    if told:
        return {**given, "backend": [told[0]]}
    for name in BEST:
        folder = cached(BACKENDS.load(name).repo)
        if folder is not None:
            return _from_cache(given, name, str(folder))
    return {**given, "backend": [SMALL if dry or _agreed(given, ask) else "draft"]}


def _from_cache(given: Mapping[str, Any], name: str, folder: str) -> dict[str, Any]:
    found = cached(BACKENDS.load(DETECTOR).repo) if name == "sapiens" else None
    backend, sources = (ONE_BY_ONE if found else name), [f"{name}={folder}"]
    if found:
        sources.append(f"{DETECTOR}={found}")
    log.info("people are parsed by %s, which is on this machine: %s", backend, folder)
    return {**given, "backend": [backend], "source": sources}


def _agreed(given: Mapping[str, Any], ask: Callable[[str], bool] | None) -> bool:
    """Whether the small model may be fetched."""
    backend = BACKENDS.load(SMALL)
    offer = f"{backend.repo} ({SIZE}; {backend.licence.weights}. {backend.licence.warning})"
    if ask is None:
        folder = given["folder"]
        raise BackendUnusable(
            f"no model that parses people is on this machine. `frisket masks {folder} -b {SMALL}`"
            f" fetches {offer} and uses it; `frisket masks {folder}` makes drafts, without one"
        )
    if ask(f"No model that parses people is on this machine. Fetch {offer}?"):
        return True
    log.info("nothing is fetched: the masks are drafts, look at them")
    return False
