"""What masks can be made with here, and what a run would do."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from frisket.config.load import read_request
from frisket.config.maskgen import MaskRequest
from frisket.maskgen.base import BACKENDS, Backend
from frisket.maskgen.pipeline import COMPOSITIONS, backends_of, find_front_role, resolve_parts
from frisket.maskgen.vision.loading import find_cached
from frisket.recipes.masks.make import make_masks
from frisket.recipes.masks.propose import name_backend
from frisket.recipes.masks.request import device_of
from frisket.recipes.serve.session import Answer, Session

MODULES = {"faces": "insightface"}  # of an extra, the module that tells whether it is installed
MOST_PHRASES = 12  # examples of phrases by region


def list_backends(_session: Session, args: dict[str, Any]) -> Answer:
    """Every backend and composition that can stand first, and what is missing for it here.

    Args: folders (backend to its weights), models (folders whose backend is looked up).
    """
    folders = {str(name): str(path) for name, path in (args.get("folders") or {}).items()}
    for folder in args.get("models") or []:
        folders.setdefault(name_backend(Path(folder)), str(folder))
    names = [*COMPOSITIONS, *(name for name in BACKENDS.names() if _is_front(name))]
    return Answer(
        {
            "backends": [_describe(name, folders) for name in names],
            "folders": folders,
            "device": device_of(str(args.get("device") or "auto")),
        }
    )


def plan_making(session: Session, args: dict[str, Any]) -> Answer:
    """A dry run: how many clips there are to do, what is looked for, what should be known."""
    typed: dict[tuple[str | int, ...], tuple[Any, str]] = {
        ("folder",): (Path(args["folder"]), ""),
        ("overrides",): (args["overrides"], ""),
        ("only",): (args["only"], ""),
        ("again",): (bool(args.get("again")), ""),
        ("dry_run",): (True, ""),
        ("maskgen", "beside"): (bool(args.get("beside")), ""),
    }
    if args.get("output"):
        typed["maskgen", "output"] = (args["output"], "")
    if args.get("config"):
        typed["config",] = (Path(args["config"]), "")
    session.report_progress("reading captions", 0, 1)
    result = make_masks(read_request(MaskRequest, typed))
    regions: dict[str, dict[str, int]] = {name: {} for name in result.regions}
    for prompts in result.prompts.values():
        for region, phrases in prompts.items():
            table = regions.setdefault(region, {})
            for phrase in phrases:
                table[phrase] = table.get(phrase, 0) + 1
    return Answer(
        {
            "counts": dict(result.counts),
            "messages": result.messages,
            "licences": result.licences,
            "regions": {
                name: sorted(table.items(), key=lambda item: -item[1])[:MOST_PHRASES]
                for name, table in regions.items()
            },
        }
    )


def _is_front(name: str) -> bool:
    try:
        find_front_role(name)
    except ValueError:
        return False
    return True


def _describe(name: str, folders: dict[str, str]) -> dict[str, Any]:
    stages = resolve_parts(name)
    parts = [part for part in backends_of(stages) if part == name or part != stages.tracker]
    backends = {part: BACKENDS.load(part) for part in parts}
    first = backends[parts[0]]
    missing = [_spell_missing(part, backend, folders) for part, backend in backends.items()]
    return {
        "name": name,
        "parts": parts,
        "summary": first.summary if name not in COMPOSITIONS else " → ".join(parts),
        "role": find_front_role(parts[0]),
        "weights": any(backend.weights for backend in backends.values()),
        "licence": "; ".join(
            dict.fromkeys(backend.licence.weights for backend in backends.values())
        ),
        "warning": " ".join(
            filter(None, (backend.licence.warning for backend in backends.values()))
        ),
        "missing": " ".join(filter(None, missing)),
    }


def _spell_missing(name: str, backend: Backend, folders: dict[str, str]) -> str:
    """What is to be done before a backend works; empty where it would now."""
    if backend.extra and find_spec(MODULES.get(backend.extra, backend.extra)) is None:
        return f"{name} needs pip install 'frisket[{backend.extra}]'."
    if not backend.weights or name in folders:
        return ""
    if backend.repo and find_cached(backend.repo) is not None:
        return ""
    place = f"{name} = FOLDER in [maskgen.sources] of the configuration"
    if backend.repo and "/" not in backend.repo:  # it comes with the package
        return ""
    if not backend.repo:
        return f"{name} needs its weights: {place}."
    return f"{name} needs {backend.repo}: `hf download {backend.repo}`, or {place}."


OPS = {"making.backends": list_backends, "making.plan": plan_making}
