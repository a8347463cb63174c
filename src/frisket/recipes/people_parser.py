"""`frisket masks --people`: the best parser of people at hand, or a small one that is asked for."""

import logging
from collections.abc import Callable, Mapping

from frisket.maskgen.base import BACKENDS, BackendUnusable
from frisket.maskgen.loading import cached
from frisket.recipes.config_maskgen import MaskRequest

log = logging.getLogger(__name__)

BEST = ("sapiens", "segformer")  # parsers of people, the best first
DETECTOR, ONE_BY_ONE = "grounding_dino", "sapiens-people"  # for several people in a picture
SMALL, SIZE = "segformer", "about 110 MB"  # what is fetched where none is here


def with_parser(
    request: MaskRequest, ask: Callable[[str], bool] | None, *, named: bool = False
) -> MaskRequest:
    """The request with a backend in it, and its weights where they are in the hub's cache.

    A `--source NAME=FOLDER` of a parser comes first, then what was downloaded before, then a small
    model: `ask` is put the question before it is fetched (a no takes the draft), and where nobody
    can be asked (None) BackendUnusable names the commands for yes and no. A dry run asks nothing.
    `named`: whether a backend was typed too, which is refused.
    """
    if named:
        raise BackendUnusable("--people chooses a backend; give that or --backend, not both")
    sources = request.maskgen.sources
    parsers = [name for name in BEST if name in sources]
    if sources and not parsers:
        typed = "=".join(filter(None, next(iter(sources.items()))))
        raise BackendUnusable(
            f"--people --source {typed}: name the parser whose weights they are, as in"
            f" {SMALL}=FOLDER ({' or '.join(BEST)})"
        )
    if parsers:
        return _with_backend(request, parsers[0])
    for name in BEST:
        folder = cached(BACKENDS.load(name).repo)
        if folder is not None:
            return _from_cache(request, name, str(folder))
    return _with_backend(request, SMALL if request.dry_run or _agreed(request, ask) else "draft")


def _with_backend(
    request: MaskRequest, name: str, sources: Mapping[str, str] | None = None
) -> MaskRequest:
    changed = {"backends": (name,)} | ({"sources": dict(sources)} if sources else {})
    return request.model_copy(update={"maskgen": request.maskgen.model_copy(update=changed)})


def _from_cache(request: MaskRequest, name: str, folder: str) -> MaskRequest:
    detector = cached(BACKENDS.load(DETECTOR).repo) if name == "sapiens" else None
    backend, sources = (ONE_BY_ONE if detector else name), {name: folder}
    if detector:
        sources[DETECTOR] = str(detector)
    log.info("people are parsed by %s, which is on this machine: %s", backend, folder)
    return _with_backend(request, backend, sources)


def _agreed(request: MaskRequest, ask: Callable[[str], bool] | None) -> bool:
    """Whether the small model may be fetched."""
    backend = BACKENDS.load(SMALL)
    offer = f"{backend.repo} ({SIZE}; {backend.licence.weights}. {backend.licence.warning})"
    if ask is None:
        folder = request.folder
        raise BackendUnusable(
            f"no model that parses people is on this machine. `frisket masks {folder} -b {SMALL}`"
            f" fetches {offer} and uses it; `frisket masks {folder}` makes drafts, without one"
        )
    if ask(f"No model that parses people is on this machine. Fetch {offer}?"):
        return True
    log.info("nothing is fetched: the masks are drafts, look at them")
    return False
