"""Adapter files in the public key formats: written."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from frisket.adapters import files
from frisket.adapters.factors import turn, two_to_one
from frisket.adapters.layers import MAGNITUDE, A, B, Layer, Layers, fuse, uniform
from frisket.adapters.lexicon import Lexicon
from frisket.adapters.spec import DIFFUSERS_RECORD, RECORD, AdapterMismatch, Form, LoraSpec
from frisket.families.names import Names


def write(
    path: Path,
    layers: Layers,
    metadata: Mapping[str, str],
    *,
    form: Form = "comfyui",
    names: Names | None = None,
    prefix: str = "transformer",
    outputs: Mapping[str, int] | None = None,
    spec: LoraSpec | None = None,
) -> None:
    """Write layers as an adapter file in one of the formats, atomically.

    comfyui: `diffusion_model.<original>.lora_A.weight`, and `.alpha` where it is not the rank; or
    kohya's keys where ComfyUI reads no others. kohya: `lora_unet_<original, _ for
    .>.lora_down.weight` and `.alpha`. diffusers: `prefix.<diffusers>.lora_A.weight`, what
    `load_lora_weights` reads, rank and alpha in the metadata. `spec` is recorded where the adapter
    is all of one rank and alpha (diffusers keys need that; without a spec it is made so).
    AdapterMismatch where a form cannot be written so.
    """
    if form == "diffusers":
        if spec is None:
            layers, spec = uniform(layers)
        tensors = {
            f"{prefix}.{name}.{key}": value
            for name, layer in layers.items()
            for key, value in layer.tensors.items()
        }
        more = _diffusers_record(layers, spec, prefix)
    else:
        if names is None:
            raise ValueError(f"{form} keys need the family's table of names")
        flat = form == "kohya" or names.comfyui == "kohya"
        tensors = _original(path, layers, Lexicon(names), outputs or {}, flat=flat)
        more = {}
    if spec is not None:
        more[RECORD] = json.dumps(asdict(spec), sort_keys=True)
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    files.write(Path(path), plain, {**metadata, **more})


def _diffusers_record(layers: Layers, spec: LoraSpec, prefix: str) -> dict[str, str]:
    if spec.kind not in ("lora", "dora"):
        return {}
    # No more than the loader needs: it hands every entry to LoraConfig, and an older peft
    # refuses the fields of a newer one.
    config = {
        "r": spec.rank,
        "lora_alpha": spec.scale,
        "use_dora": spec.kind == "dora",
        "target_modules": sorted(layers),
    }
    return {DIFFUSERS_RECORD: json.dumps({f"{prefix}.{k}": v for k, v in config.items()})}


def _original(
    path: Path, layers: Layers, lexicon: Lexicon, outputs: Mapping[str, int], *, flat: bool
) -> dict[str, Tensor]:
    """Tensors under the authors' names, fused as theirs are."""
    grouped: dict[str, list[Layer | None]] = {}
    try:
        for name, layer in layers.items():
            original, place, count = lexicon.original(name)
            if lexicon.turned(name) and two_to_one(layer):
                layer = turn(name, layer)  # noqa: PLW2901
            grouped.setdefault(original, [None] * count)[place] = layer
        tensors: dict[str, Tensor] = {}
        for original, parts in grouped.items():
            whole = parts[0]
            if len(parts) > 1 or whole is None:
                sizes = [outputs.get(name) for name in lexicon.parts(original)]
                whole = fuse(original, parts, sizes)
            tensors |= _keys(original, whole, lexicon.names, flat=flat)
    except AdapterMismatch as error:
        raise AdapterMismatch(f"nothing written to {path}: {error}") from error
    return tensors


def _keys(original: str, layer: Layer, names: Names, *, flat: bool) -> dict[str, Tensor]:
    base = f"{names.kohya}_{original.replace('.', '_')}" if flat else f"{names.dotted}.{original}"
    words = {A: "lora_down.weight", B: "lora_up.weight"} if flat else {}
    tensors = {f"{base}.{words.get(key, key)}": value for key, value in layer.tensors.items()}
    if MAGNITUDE in layer.tensors:
        column = tensors.pop(f"{base}.{MAGNITUDE}")
        tensors[f"{base}.dora_scale"] = column.reshape(-1, *[1] * (layer.high.ndim - 1))
    if "lokr_w1" in layer.tensors and "lokr_w2" in layer.tensors:
        # Two whole factors: no other program scales them by alpha / rank.
        tensors[f"{base}.lokr_w1"] = layer.tensors["lokr_w1"] * layer.scale
    if not flat and layer.scale == 1:
        # All readers of these keys take a missing alpha for the rank, and some (diffusers' of
        # FLUX.2 and HunyuanVideo) refuse one that is there.
        return tensors
    alpha = float(layer.rank) if layer.alpha is None else layer.alpha
    return {**tensors, f"{base}.alpha": torch.tensor(alpha, dtype=torch.float32)}
