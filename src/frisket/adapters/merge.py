"""Adapters worked into a base model's safetensors, and taken out of a tuned one, layer by layer."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from frisket.adapters.arithmetic import Kept, extract, kept, merged
from frisket.adapters.layers import Layers
from frisket.adapters.spec import AdapterMismatch

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


def merge(layers: Layers, folder: Path, *, progress: Progress = lambda *_: None) -> int:
    """Work an adapter into the weights of a denoiser's folder, in place: give it a copy.

    Computed in float32 and stored in the weight's own dtype, one layer at a time: no more is in
    memory. Returns how many layers were changed. AdapterMismatch as `check`, and where a layer is
    of another size.
    """
    where = check(layers, folder)
    for done, (name, layer) in enumerate(layers.items()):
        key = f"{name}.weight"
        try:
            _put(where[key], key, merged(_get(where[key], key), layer))
        except AdapterMismatch as error:
            raise AdapterMismatch(f"{name} in {where[key].name}: {error}") from error
        progress(done + 1, len(layers))
    return len(layers)


def check(layers: Layers, folder: Path) -> dict[str, Path]:
    """Which file each tensor is in; AdapterMismatch where the folder lacks one of the layers."""
    where = _weights(folder)
    lost = [name for name in layers if f"{name}.weight" not in where]
    if lost:
        raise AdapterMismatch(
            f"{folder} lacks {len(lost)} of the adapter's {len(layers)} layers, the first is"
            f" {lost[0]}: it was made for another base"
        )
    return where


def taken_out(
    base: Path,
    tuned: Path,
    rank: int,
    known: Callable[[str], bool],
    *,
    progress: Progress = lambda *_: None,
) -> tuple[Layers, Kept]:
    """The adapter of `rank` that makes the tuned denoiser of the base's folder, and what it keeps.

    Of all layers `known` that differ; what else differs (norms, biases) no adapter can hold: it
    is counted aloud. AdapterMismatch where nothing differs or the two are not of one kind.
    """
    ours, theirs = _weights(base), _weights(tuned)
    if ours.keys() != theirs.keys():
        odd = min(ours.keys() ^ theirs.keys())
        raise AdapterMismatch(f"{base} and {tuned} are different models: only one has {odd}")
    layers: Layers = {}
    energies: dict[str, float] = {}
    left: list[str] = []
    for done, key in enumerate(ours):
        name = key.removesuffix(".weight")
        first, second = _get(ours[key], key), _get(theirs[key], key)
        if not torch.equal(first.float(), second.float()):
            if key.endswith(".weight") and known(name):
                try:
                    layers[name], energies[name] = extract(first, second, rank)
                except ValueError as error:
                    raise AdapterMismatch(f"{key} of {base} and {tuned}: {error}") from error
            else:
                left.append(key)
        progress(done + 1, len(ours))
    if not layers:
        raise AdapterMismatch(f"{base} and {tuned} do not differ in any layer an adapter goes on")
    if left:
        log.warning("%d changed tensors no LoRA can hold are left out: %s", len(left), left[0])
    return layers, kept(energies)


def _weights(folder: Path) -> dict[str, Path]:
    """Which file each tensor of a denoiser's folder is in."""
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} has no .safetensors weights of a denoiser")
    where: dict[str, Path] = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            where.update(dict.fromkeys(opened.keys(), file))
    return where


def _get(file: Path, key: str) -> Tensor:
    with safe_open(file, framework="pt") as opened:
        value: Tensor = opened.get_tensor(key)
        return value.clone()  # not a view of the file, which may be written next


def _put(file: Path, key: str, value: Tensor) -> None:
    """Overwrite one tensor of a safetensors file with another of its shape and dtype."""
    with file.open("r+b") as opened:
        size = int.from_bytes(opened.read(8), "little")
        entry: dict[str, Any] = json.loads(opened.read(size))[key]
        start, end = entry["data_offsets"]
        content = value.contiguous().view(torch.uint8).numpy().tobytes()
        assert len(content) == end - start
        opened.seek(8 + size + start)
        opened.write(content)
