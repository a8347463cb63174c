"""UniID's checkpoints: a folder a branch, with pytorch_model.bin and the run's config.json.

The authors save each branch by accelerate: keys `text_branch.*` or `adapter_branch.*` (a reader may
have cut those off), the adapter's keys and values as `adapter_modules.{number}.to_k_ip.weight`,
where the number counts all attention layers.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from frisket.adapters import metadata as entries
from frisket.adapters.image.layouts import ImageAdapterFile, recognise
from frisket.adapters.image.pickles import check_tensors, make_plain, read_pickle, write_pickle
from frisket.adapters.spec import AdapterMismatch
from frisket.disk.atomic import replacing

WEIGHTS, CONFIG = "pytorch_model.bin", "config.json"
TEXT, ADAPTER = "text_branch", "adapter_branch"
MODULES = "adapter_modules."
PREFIX = {"uniid-text": TEXT, "uniid-adapter": ADAPTER}


def find_branches(folder: Path) -> dict[str, Path]:
    """Folders of the two branches in a downloaded checkpoint, by `text_branch`/`adapter_branch`.

    FileNotFoundError where it has neither.
    """
    folder = Path(folder)
    places = {name: folder / name for name in (TEXT, ADAPTER)}
    places = {name: place for name, place in places.items() if (place / WEIGHTS).is_file()}
    if not places:
        raise FileNotFoundError(
            f"{folder} has neither {TEXT}/{WEIGHTS} nor {ADAPTER}/{WEIGHTS}, which a UniID"
            " checkpoint has (pangly/UniID on Hugging Face)"
        )
    return places


def read_branch(folder: Path) -> ImageAdapterFile:
    """One branch of UniID from its folder.

    FileNotFoundError where the folder is none, naming the branches where it holds both of them;
    AdapterMismatch names the file and what is wrong in it.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        places = ", ".join(str(place) for place in find_branches(folder).values())
        raise FileNotFoundError(f"{folder} holds branches of UniID, not one: give {places}")
    tensors = check_tensors(path, read_pickle(path))
    projection, layers = split_branch(tensors)
    try:
        branch = recognise(projection, layers)
        if branch.kind not in PREFIX:
            raise AdapterMismatch(f"its tensors are those of {branch.kind}, not a UniID branch's")
    except AdapterMismatch as error:
        raise AdapterMismatch(f"{path}: {error}") from error
    config = _read_config(folder / CONFIG)
    _compare_tokens(folder, config, branch)
    return replace(branch, config=config)


def split_branch(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A branch's tensors as projection and attention layers, prefixes cut off."""
    projection, layers = {}, {}
    for key, value in tensors.items():
        name = key.removeprefix(f"{TEXT}.").removeprefix(f"{ADAPTER}.")
        if name.startswith(MODULES):
            layers[name.removeprefix(MODULES)] = value
        else:
            projection[name] = value
    return projection, layers


def write_branch(folder: Path, branch: ImageAdapterFile) -> None:
    """Write a branch as the authors' scripts do, each file atomically.

    Its `config` goes beside, with the number of tokens in it. AdapterMismatch for another kind.
    """
    if branch.kind not in PREFIX:
        raise AdapterMismatch(f"nothing written to {folder}: {branch.kind} is no branch of UniID")
    prefix = PREFIX[branch.kind]
    tensors = {f"{prefix}.{key}": value for key, value in branch.projection.items()}
    tensors |= {f"{prefix}.{MODULES}{key}": value for key, value in branch.layers.items()}
    config = {**branch.config, **_make_sizes(branch)}
    write_pickle(folder / WEIGHTS, make_plain(tensors))
    with replacing(folder / CONFIG) as draft, draft.open("w", encoding="utf8") as file:
        json.dump(config, file, indent=4)
        file.flush()
        os.fsync(file.fileno())


def _make_sizes(branch: ImageAdapterFile) -> dict[str, Any]:
    if branch.kind == "uniid-text":
        return {"num_text_branch_tokens": branch.tokens}
    hidden = branch.projection["latents"].shape[2]
    return {"num_adapter_tokens": branch.tokens, "adapter_hidden_dim": hidden}


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return entries.config(path)
    except entries.UnreadableMetadata as error:
        raise AdapterMismatch(str(error)) from error


def _compare_tokens(folder: Path, config: Mapping[str, Any], branch: ImageAdapterFile) -> None:
    for name, size in _make_sizes(branch).items():
        if name in config and config[name] != size:
            raise AdapterMismatch(
                f"{folder}: {CONFIG} says {name} {config[name]}, the tensors in {WEIGHTS} {size};"
                " they are not of one run"
            )
