"""Adapters worked into a base model's safetensors, and taken out of a tuned one, layer by layer."""

import json
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from frisket.adapters.arithmetic import (
    KeptEnergy,
    change_weight,
    extract,
    round_weight,
    summarise_energy,
)
from frisket.adapters.factors import sizes, width
from frisket.adapters.files import header
from frisket.adapters.layers import Layer, Layers
from frisket.adapters.spec import AdapterMismatch

log = logging.getLogger(__name__)
# Weights that are numbers of their own, by safetensors' names of dtypes.
DTYPES = ("F64", "F32", "F16", "BF16")
# Keys beside a weight that is a code: of scaled float8 (kohya's and ComfyUI's), of bitsandbytes.
SCALES = re.compile(
    r"(.*\.)?(scale_weight|scale_input|scaled_fp8|weight_scale(_\w+)?|weight_format|absmax"
    r"|quant_map|nested_absmax|SCB|comfy_quant|.*quant_state.*)"
)
OnTensor = Callable[[int, int], None]  # how many tensors are done, how many there are


@dataclass(frozen=True, slots=True)
class Survived:
    """What of an adapter's change a merged model holds, where its dtype rounds it.

    `share` is the stored change along the wanted one, over the wanted one's length: 1 is all of it.
    A value of bfloat16 has eight bits; what is less than a 512th of it is rounded away.
    """

    layers: int
    share: float
    values: float  # share of the values of the adapted weights that are others than before
    worst: str  # the layer that lost most
    least: float  # and the share of it
    dtypes: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.layers} layers in {', '.join(self.dtypes)}: {self.share:.1%} of the change"
            f" kept, at least {self.least:.1%} in each layer ({self.worst}); {self.values:.1%} of"
            " their values changed"
        )


def merge(layers: Layers, folder: Path, *, progress: OnTensor = lambda *_: None) -> Survived:
    """Work an adapter into the weights of a denoiser's folder, in place: give it a copy.

    Computed in float32 and stored in the weight's own dtype, one layer at a time: no more is in
    memory. Returns what of it survived that. AdapterMismatch as `check`, and where a layer is of
    another size or the result is not finite.
    """
    where = check(layers, folder)
    shares: dict[str, float] = {}
    along, wanted, other, count = 0.0, 0.0, 0, 0
    dtypes: dict[str, None] = {}
    for done, (name, layer) in enumerate(layers.items()):
        key = f"{name}.weight"
        base = _get(where[key], key)
        try:
            exact = change_weight(base, layer)
            rounded = round_weight(exact, base.dtype)
        except AdapterMismatch as error:
            raise AdapterMismatch(f"{name} in {where[key].name}: {error}") from error
        _put(where[key], key, rounded)
        change, kept_change = exact - base.float(), rounded.float() - base.float()
        length = float((change.double() ** 2).sum())
        held = float((change.double() * kept_change.double()).sum())
        shares[name] = held / length if length else 1.0
        along, wanted = along + held, wanted + length
        other, count = other + int((rounded != base).sum()), count + base.numel()
        dtypes[str(base.dtype).removeprefix("torch.")] = None
        progress(done + 1, len(layers))
    worst = min(shares, key=shares.__getitem__)
    share = along / wanted if wanted else 1.0
    return Survived(len(layers), share, other / count, worst, shares[worst], tuple(dtypes))


def check(layers: Layers, folder: Path) -> dict[str, Path]:
    """Which file each tensor is in.

    AdapterMismatch where the folder lacks one of the layers, has it in another size, or is
    quantised: float8 has three bits or less beside the exponent, in which a LoRA's change is lost,
    and the scales beside such weights are more than a weight.
    """
    where = _weights(folder)
    lost = [name for name in layers if f"{name}.weight" not in where]
    _check_plain(folder, where, "merge into the model in")
    if lost:
        raise AdapterMismatch(
            f"{folder} lacks {len(lost)} of the adapter's {len(layers)} layers, the first is"
            f" {lost[0]}: it was made for another base"
        )
    for name, layer in layers.items():
        _check_weight(where[f"{name}.weight"], name, layer)
    return where


def _check_plain(folder: Path, where: Mapping[str, Path], doing: str) -> None:
    scaled = next((key for key in where if SCALES.fullmatch(key)), None)
    if scaled is not None:
        raise AdapterMismatch(
            f"{folder} is quantised ({where[scaled].name} has {scaled}): {doing} bfloat16, float16"
            " or float32, and quantise the result"
        )


def _check_weight(file: Path, name: str, layer: Layer) -> None:
    key = f"{name}.weight"
    with safe_open(file, framework="pt") as opened:
        stored = opened.get_slice(key)
        kind, shape = str(stored.get_dtype()), tuple(stored.get_shape())
    if kind not in DTYPES:
        raise AdapterMismatch(
            f"{file} has {key} in {kind}, in which an adapter's change is lost; merge into the"
            " model in bfloat16, float16 or float32, and quantise the result"
        )
    outs, columns = sizes(layer)[0], width(layer)
    if len(shape) < 2 or shape[0] != outs or math.prod(shape[1:]) != columns:
        raise AdapterMismatch(
            f"{key} is {shape} in {file}, and {outs} x {columns} in the adapter: it was made for"
            " another base"
        )


def extract_adapter(
    base: Path,
    tuned: Path,
    rank: int,
    known: Callable[[str], bool],
    *,
    progress: OnTensor = lambda *_: None,
) -> tuple[Layers, KeptEnergy]:
    """The adapter of `rank` that makes the tuned denoiser of the base's folder, and what it keeps.

    Of all layers `known` that differ; what else differs (norms, biases) no adapter can hold: it
    is counted aloud. AdapterMismatch where nothing differs or the two are not of one kind.
    """
    ours, theirs = _weights(base), _weights(tuned)
    for folder, where in ((base, ours), (tuned, theirs)):
        _check_plain(folder, where, "extract from models in")
    if ours.keys() != theirs.keys():
        odd = min(ours.keys() ^ theirs.keys())
        raise AdapterMismatch(f"{base} and {tuned} are different models: only one has {odd}")
    layers: Layers = {}
    energies: dict[str, float] = {}
    left: list[str] = []
    for done, key in enumerate(ours):
        name = key.removesuffix(".weight")
        first, second = _finite(ours[key], key), _finite(theirs[key], key)
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
    return layers, summarise_energy(energies)


def _weights(folder: Path) -> dict[str, Path]:
    """Which file each tensor of a denoiser's folder is in."""
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} has no .safetensors weights of a denoiser")
    where: dict[str, Path] = {}
    for file in files:
        where.update(dict.fromkeys(header(file)[0], file))
    return where


def _get(file: Path, key: str) -> Tensor:
    with safe_open(file, framework="pt") as opened:
        value: Tensor = opened.get_tensor(key)
        return value.clone()  # not a view of the file, which may be written next


def _finite(file: Path, key: str) -> Tensor:
    value = _get(file, key)
    if value.is_floating_point() and not bool(torch.isfinite(value.float()).all()):
        raise AdapterMismatch(f"{file}: {key} has values that are not finite numbers")
    return value


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
