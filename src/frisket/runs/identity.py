"""What makes a run the run it is, and what may change when it is gone on with."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frisket.config.load import TERM_PATHS
from frisket.config.tree import Config
from frisket.data.cached.index import Index
from frisket.data.records import Prepared
from frisket.families.base import FAMILIES
from frisket.runs.card import variant_of
from frisket.runs.prepare import source_of
from frisket.training.checkpoint import CheckpointError

log = logging.getLogger(__name__)

DENOISER_PARTS = ("transformer*", "unet*", "scheduler")
# Everything is fixed but this: what is added to the configuration one day is fixed until somebody
# lists it here. A whole table, or keys of one.
FREE: Mapping[str, frozenset[str] | None] = {
    # Told apart by content: `data`, `base` below.
    "data": None,
    "swap": None,
    "mix": None,
    # Looked at, never trained on.
    "preview": None,
    "identity": None,
    "validation": None,
    # Read by `frisket masks`, never by a run.
    "maskgen": None,
    "model": frozenset({"source", "revision", "device", "variant"}),
    "lora": frozenset({"format", "source", "max_norm"}),
    "image_adapter": frozenset({"source", "encoder", "embedder_source", "detector_source"}),
    "control": frozenset({"source"}),
    # How much of the card is used and how fast; quantise and storage change the weights.
    "memory": frozenset({"checkpointing", "swap_blocks", "tile_vae", "compile", "attention"}),
    # How fast and how long: what is changed after a look at the run, or after it diverged.
    "optimizer": frozenset(
        {
            *("lr", "schedule", "warmup", "final", "cycles", "power", "decay"),
            *("clip", "accumulate", "trust"),
        }
    ),
    "run": frozenset(
        {
            *("output", "cache", "steps", "epochs", "save_every", "save_every_epochs"),
            *("keep", "resume", "trackers", "threads"),
        }
    ),
}
# Of what is free, that which changes the training: told when a run is gone on with.
REPORT_KEYS = ("optimizer", "lora.max_norm", "run.steps", "run.epochs", "processes")


def identity_of(config: Config, prepared: Prepared) -> dict[str, Any]:
    """What may not change between two halves of a run, flat by dotted name: also the data."""
    return read_identity(config, prepared.cache.folder) | {"data": prepared.digest}


def read_identity(config: Config, cache: Path) -> dict[str, Any]:
    """All of it that is known before the data are prepared.

    The settings that are not FREE; the base weights and the LoRA a run starts from by their
    content, wherever they lie. (A hub id stands for itself with its revision.)
    """
    tree = config.model_dump(mode="json")
    tree["losses"] |= dict.fromkeys(("denoise", "prior")) | config.losses.terms
    fixed = _flat(
        {name: _drop_free(name, table) for name, table in tree.items() if not _is_free(name)}
    )
    name = variant_of(config)
    variant = FAMILIES.load(config.model.family).variants[name]
    fixed["model.variant"] = name
    # As numbers, which is how every version has written them.
    for key, default in (("mean", variant.mean), ("std", variant.std)):
        value = getattr(config.timesteps, key)
        fixed[f"timesteps.{key}"] = default if value is None else value
    with Index(cache) as index:
        fixed["base weights"] = _base(config, index)
        fixed["lora.source"] = _start(config, index)
        fixed |= _list_picture_files(config, index)
        if config.control.source is not None:
            fixed["control.source"] = index.fingerprint(config.control.source)
        fixed |= _list_term_files(config, index)
    return fixed


def _list_term_files(config: Config, index: Index) -> dict[str, str]:
    """What loss terms read from files and folders, by content, wherever they lie."""
    contents = {}
    for name, options in TERM_PATHS.items():
        table = config.losses.terms.get(name, {})
        for option in options:
            path = table.get(option)
            if isinstance(path, str) and path and Path(path).expanduser().exists():
                contents[f"losses.{name}.{option}"] = index.fingerprint(Path(path).expanduser())
    return contents


def settings_of(config: Config, processes: int) -> dict[str, Any]:
    """What may change, and is told when it does."""
    flat = _flat(config.model_dump(mode="json")) | {"processes": processes}
    return {
        name: value
        for name, value in flat.items()
        if any(name == word or name.startswith(f"{word}.") for word in REPORT_KEYS)
    }


def check_same_run(stored: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """CheckpointError, with both values of every setting, where the identity is another one.

    A setting that one of the two does not know (of another version, or of a table that has become
    longer or shorter) counts as its default. The data are compared where `now` knows them.
    """
    defaults = _flat(Config().model_dump(mode="json"))
    names = dict.fromkeys((*now, *(name for name in stored if name != "data")))
    pairs = {
        name: (stored.get(name, defaults.get(name)), now.get(name, defaults.get(name)))
        for name in names
    }
    changed = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if changed:
        lines = "; ".join(f"{name}: {a!r} then, {b!r} now" for name, (a, b) in changed.items())
        raise CheckpointError(
            f"{folder} belongs to another run ({lines}). Set these back, choose another run.output,"
            " or start afresh with --set run.resume=false."
        )


def tell_changes(stored: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Say once, by name, which free settings are others than when the checkpoint was saved."""
    for name, value in now.items():
        if name in stored and stored[name] != value:
            log.info("going on with %s = %s (it was %s)", name, value, stored[name])


def _is_free(name: str) -> bool:
    """Whether a whole table is."""
    return name in FREE and FREE[name] is None


def _drop_free(name: str, table: Any) -> Any:
    """What of a table is fixed."""
    free = FREE.get(name)
    return {key: value for key, value in table.items() if key not in free} if free else table


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _base(config: Config, index: Index) -> Any:
    """The denoiser's weights by content, or hub id and revision."""
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    local = source.local
    if local is None:
        return [source.path or family.variants[source.variant].repo, source.revision]
    parts = [part for name in DENOISER_PARTS for part in sorted(local.glob(name))]
    return [index.fingerprint(part) for part in parts if local.is_dir()] or [
        index.fingerprint(local)
    ]


def _list_picture_files(config: Config, index: Index) -> dict[str, Any]:
    """What an image adapter began with and was shown through, by content; of no other run."""
    options = config.image_adapter
    names = ("source", "encoder", "embedder_source", "detector_source")
    paths = {name: getattr(options, name) for name in names}
    return {
        f"image_adapter.{name}": index.fingerprint(path)
        for name, path in paths.items()
        if path is not None and config.model.train == "image_adapter"
    }


def _start(config: Config, index: Index) -> Any:
    """The LoRA that a run began with, by content: of several experts each file."""
    path = config.lora.source
    if path is None:
        return None
    files = [path] if path.is_file() else sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"))
    return [index.content(file) for file in files]
