"""Adapter files in the public key formats: written."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from frisket.adapters import files
from frisket.adapters.factors import has_double_outputs, turn
from frisket.adapters.forms import spelling_of
from frisket.adapters.key_map import Lexicon
from frisket.adapters.layers import MAGNITUDE, A, B, Layer, Layers, fold, fuse, uniform
from frisket.adapters.spec import DIFFUSERS_RECORD, RECORD, AdapterForm, AdapterMismatch, LoraSpec
from frisket.families.key_map import Names


def write(
    path: Path,
    layers: Layers,
    metadata: Mapping[str, str],
    *,
    form: AdapterForm = "comfyui",
    names: Names | None = None,
    prefix: str = "transformer",
    outputs: Mapping[str, int] | None = None,
    spec: LoraSpec | None = None,
) -> None:
    """Write layers as an adapter file in one of the formats, atomically.

    comfyui: what ComfyUI reads whole, `diffusion_model.<original>.lora_A.weight` for most families
    (`Names.comfyui`); diffusers' names where the original fuses layers that the adapter's kind
    cannot be fused for and ComfyUI reads them as slices (`Names.sliced`). kohya:
    `lora_unet_<original, _ for .>.lora_down.weight` and `.alpha`. diffusers:
    `prefix.<diffusers>.lora_A.weight`, what `load_lora_weights` reads. Under diffusers' names alpha
    / rank of a lora or dora is multiplied into B, exact up to rounding: their readers look for an
    alpha in different places or nowhere. Elsewhere, and for loha and lokr, `.alpha` is there where
    it is not the rank. `spec` is recorded where the adapter is all of one rank and alpha (diffusers
    keys of lora and dora need that; without a spec it is made so). AdapterMismatch where a form
    cannot be written so (`frisket.adapters.forms`).
    """
    try:
        kinds = {name: layer.kind for name, layer in layers.items()}
        spelling = spelling_of(form, kinds, names)
        if spelling == "peft" and spec is None and not set(kinds.values()) & {"loha", "lokr"}:
            layers, spec = uniform(layers)
        if spelling in ("peft", "sliced"):
            tensors = _as_diffusers(layers, prefix, peft=spelling == "peft")
        else:
            assert names is not None
            flat = spelling == "flat"
            tensors = _original(layers, Lexicon(names), outputs or {}, flat=flat)
    except AdapterMismatch as error:
        raise AdapterMismatch(f"nothing written to {path}: {error}") from error
    more = {}
    if spec is not None:
        more[RECORD] = json.dumps(spec.record(), sort_keys=True)
        if spelling in ("peft", "sliced") and spec.kind in ("lora", "dora"):
            more |= _record_folded(layers, spec, prefix, metadata)
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    files.write(Path(path), plain, {**metadata, **more})


def _as_diffusers(layers: Layers, prefix: str, *, peft: bool) -> dict[str, Tensor]:
    """Tensors under diffusers' names, with nothing left to be scaled where that is possible."""
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        kept = layer
        if layer.kind in ("lora", "dora") and layer.scale != 1:
            folded = fold(layer)
            high = folded.high.to(layer.high.dtype)
            kept = replace(folded, tensors={**folded.tensors, B: high})
        if peft and layer.kind in ("lora", "dora"):
            tensors |= {f"{prefix}.{name}.{key}": value for key, value in kept.tensors.items()}
        else:
            tensors |= _keys(f"{prefix}.{name}", kept, flat=False)
    return tensors


def _record_folded(
    layers: Layers, spec: LoraSpec, prefix: str, metadata: Mapping[str, str]
) -> dict[str, str]:
    """What the tensors are, for programs that look into the metadata."""
    # No more than the loader needs: it hands every entry to LoraConfig, and an older peft
    # refuses the fields of a newer one.
    config = {
        "r": spec.rank,
        "lora_alpha": spec.rank,
        "use_dora": spec.kind == "dora",
        "target_modules": sorted(layers),
    }
    # A layer of another rank than the rest; alpha / rank is 1 everywhere.
    others = {name: layer.rank for name, layer in layers.items() if layer.rank != spec.rank}
    if others:
        config |= {"rank_pattern": others, "alpha_pattern": others}
    more = {DIFFUSERS_RECORD: json.dumps({f"{prefix}.{k}": v for k, v in config.items()})}
    if "ss_network_alpha" in metadata:
        more["ss_network_alpha"] = str(spec.rank)
    return more


def _original(
    layers: Layers, lexicon: Lexicon, outputs: Mapping[str, int], *, flat: bool
) -> dict[str, Tensor]:
    """Tensors under the authors' names, fused as theirs are."""
    grouped: dict[str, list[Layer | None]] = {}
    for name, layer in layers.items():
        original, place, count = lexicon.original(name)
        turned = lexicon.may_turn(name) and has_double_outputs(layer)
        grouped.setdefault(original, [None] * count)[place] = turn(name, layer) if turned else layer
    tensors: dict[str, Tensor] = {}
    names = lexicon.names
    for original, parts in grouped.items():
        whole = parts[0]
        if len(parts) > 1 or whole is None:
            sizes = [outputs.get(name) for name in lexicon.parts(original)]
            whole = fuse(original, parts, sizes)
        dotted = f"{names.dotted}.{original}"
        base = f"{names.kohya}_{original.replace('.', '_')}" if flat else dotted
        tensors |= _keys(base, whole, flat=flat)
    return tensors


def _keys(base: str, layer: Layer, *, flat: bool) -> dict[str, Tensor]:
    words = {A: "lora_down.weight", B: "lora_up.weight"} if flat else {}
    tensors = {f"{base}.{words.get(key, key)}": value for key, value in layer.tensors.items()}
    if MAGNITUDE in layer.tensors:
        column = tensors.pop(f"{base}.{MAGNITUDE}")
        tensors[f"{base}.dora_scale"] = column.reshape(-1, *[1] * (layer.high.ndim - 1))
    if "lokr_w1" in layer.tensors and "lokr_w2" in layer.tensors:
        # Two whole factors: no other program scales them by alpha / rank.
        tensors[f"{base}.lokr_w1"] = layer.tensors["lokr_w1"] * layer.scale
    if not flat and layer.scale == 1 and layer.kind in ("lora", "dora"):
        # All readers of these keys take a missing alpha for the rank, and some (diffusers' of
        # FLUX.2 and HunyuanVideo) refuse one that is there.
        return tensors
    alpha = float(layer.rank) if layer.alpha is None else layer.alpha
    return {**tensors, f"{base}.alpha": torch.tensor(alpha, dtype=torch.float32)}
