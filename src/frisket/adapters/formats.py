"""Adapter files in the public key formats: told by their keys and read into layers."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from frisket.adapters import files
from frisket.adapters.layers import (
    MAGNITUDE,
    A,
    B,
    Layer,
    Layers,
    commonest,
    layer_of,
    rescale,
    split,
    uniform,
)
from frisket.adapters.lexicon import Found, Lexicon, Space
from frisket.adapters.spec import (
    DIFFUSERS_RECORD,
    AdapterMismatch,
    Kind,
    LoraSpec,
    record_of,
)
from frisket.families.names import Names

TEXT = re.compile(
    r"(lora_(?:prior_)?te\d*(?=_)|text_encoders?(?:_\d)?(?=\.)|(?:base_model\.)?cond_stage_model)"
)
# What a tensor is called at the end of its key, by peft's name of it.
ENDINGS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(.+)\.lora_A(?:\.default)?\.weight"), A),
    (re.compile(r"(.+)\.lora_B(?:\.default)?\.weight"), B),
    (re.compile(r"(.+)\.lora_down\.weight"), A),
    (re.compile(r"(.+)\.lora_up\.weight"), B),
    (re.compile(r"(.+)[._]lora\.down\.weight"), A),
    (re.compile(r"(.+)[._]lora\.up\.weight"), B),
    (
        re.compile(r"(.+)\.(?:dora_scale|lora_magnitude_vector(?:\.default)?(?:\.weight)?)"),
        MAGNITUDE,
    ),
    (re.compile(r"(.+)\.alpha"), "alpha"),
)
LYCORIS = re.compile(r"(.+)\.(hada_w[12]_[ab]|lokr_w[12](?:_[ab])?)")


@dataclass(frozen=True, slots=True)
class Contents:
    """An adapter file as read: its layers by diffusers' names, and what else it says."""

    layers: Layers
    form: str  # comfyui, diffusers, kohya, or "peft" and "bare" of others' making
    metadata: Mapping[str, str] = field(default_factory=dict)
    tensors: int = 0  # read, every one of them used in `layers`
    text: Mapping[str, int] = field(default_factory=dict)  # tensors of text encoders, by prefix

    def alike(self) -> tuple[Layers, LoraSpec]:
        """The layers at one rank and alpha and their spec, with what the file's own record adds."""
        record = record_of(self.metadata)
        known = (record.rank, record.alpha) if record else (0, None)
        layers, found = uniform(self.layers, *known)
        same = record is not None and (record.kind, record.rank) == (found.kind, found.rank)
        if record is not None and same and _same(record.scale, found.scale):
            return layers, record
        if record is not None and same and record.kind in ("lora", "dora") and record.scale:
            # Under diffusers' names the scale is in B: the run it came from goes on at its own.
            return {name: rescale(layer, record) for name, layer in layers.items()}, record
        return layers, found

    @property
    def kind(self) -> Kind:
        """The form of its layers."""
        return next(iter(self.layers.values())).kind

    def __str__(self) -> str:
        """In words."""
        return f"{self.kind}, {commonest(self.layers)}, {len(self.layers)} layers, {self.form} keys"


def read(
    path: Path,
    names: Names | None = None,
    *,
    prefix: str = "transformer",
    outputs: Mapping[str, int] | None = None,
    layers: Iterable[str] = (),
) -> Contents:
    """Read an adapter file in any format; every tensor of it is used, or AdapterMismatch says why.

    `names` is the family's table; without one only diffusers' own keys under `prefix` are read.
    `outputs` are the output sizes of the model's layers by name, where a model is at hand;
    `layers` are names alone, for a family whose table is empty. Tensors of text encoders are
    counted and left out.
    """
    values, metadata = files.tensors(path)
    text = Counter(match[1] for match in map(TEXT.match, values) if match)
    try:
        grouped = _grouped({key: value for key, value in values.items() if not TEXT.match(key)})
        form, start = _form(grouped, names, prefix)
        lexicon = None if names is None else Lexicon(names, outputs or layers)
        found = _resolved(grouped, form, start, lexicon, prefix)
        made = _layers(grouped, found, form, metadata, outputs or {}, prefix)
    except AdapterMismatch as error:
        raise AdapterMismatch(f"{path}: {error}") from error
    return Contents(made, form, metadata, len(values) - sum(text.values()), dict(text))


def glance(path: Path) -> Contents:
    """As `read`, with the layers under the names the file has for them: for any model's file."""
    values, metadata = files.tensors(path)
    text = Counter(match[1] for match in map(TEXT.match, values) if match)
    try:
        grouped = _grouped({key: value for key, value in values.items() if not TEXT.match(key)})
        prefix = next((p for p in ("transformer", "unet") if next(iter(grouped)).startswith(p)), "")
        form, start = _form(grouped, Names(), prefix)
        found = {base: (base.removeprefix(start),) for base in grouped}
        made = _layers(grouped, found, form, metadata, {}, prefix)
    except AdapterMismatch as error:
        raise AdapterMismatch(f"{path}: {error}") from error
    return Contents(made, form, metadata, len(values) - sum(text.values()), dict(text))


def _grouped(values: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors by the layer's name in the file, then by peft's name of the tensor."""
    grouped: dict[str, dict[str, Tensor]] = {}
    strange = []
    for key, value in values.items():
        if match := LYCORIS.fullmatch(key):
            base, end = match[1], match[2]
        else:
            hits = ((pattern.fullmatch(key), end) for pattern, end in ENDINGS)
            base, end = next(((match[1], end) for match, end in hits if match), ("", ""))
        if base:
            grouped.setdefault(base, {})[end] = value
        else:
            strange.append(key)
    if strange:
        raise AdapterMismatch(
            f"{len(strange)} of {len(values)} keys are not adapter keys that Frisket knows, the"
            f" first is {min(strange)}"
        )
    if not grouped:
        raise AdapterMismatch("it is empty: no adapter of a denoiser is in it")
    return grouped


def _form(grouped: Iterable[str], names: Names | None, prefix: str) -> tuple[str, str]:
    """The format of the keys, and what they all begin with."""
    bases = list(grouped)
    known = names or Names()
    starts = [
        ("kohya", f"{known.kohya}_"),
        *(("kohya", start) for start in ("lora_unet_", "lora_transformer_", "lycoris_")),
        ("comfyui", f"{known.dotted}."),
        *(("comfyui", start) for start in ("diffusion_model.", "model.diffusion_model.")),
        ("peft", "base_model.model."),
        ("diffusers", f"{prefix}."),
    ]
    counts = [sum(base.startswith(start) for base in bases) for _, start in starts]
    best = max(range(len(starts)), key=counts.__getitem__)
    form, start = starts[best] if counts[best] else ("bare", "")
    if names is None and form != "diffusers":
        if form == "bare":
            raise _strangers(bases, prefix, bases)
        raise AdapterMismatch(
            f"is not an adapter in diffusers' key names (it has {bases[0]}, which is {form}'s);"
            " convert it first (frisket convert)"
        )
    strange = [base for base in bases if not base.startswith(start)]
    if strange:
        raise _strangers(strange, start.rstrip("._"), bases)
    return form, start


def _strangers(strange: list[str], prefix: str, bases: list[str]) -> AdapterMismatch:
    return AdapterMismatch(
        f"{len(strange)} of {len(bases)} layers are not adapter keys under {prefix!r}, the first is"
        f" {min(strange)}"
    )


def _resolved(
    grouped: Iterable[str], form: str, start: str, lexicon: Lexicon | None, prefix: str
) -> dict[str, Found]:
    """Diffusers' names of each layer in the file, all found in the same book of names."""
    bare = {base: base.removeprefix(start) for base in grouped}
    if lexicon is None:
        return {base: (name,) for base, name in bare.items()}
    spaces: tuple[Space, ...] = ("original", "diffusers")
    if form in ("diffusers", "bare") or start in ("lora_transformer_", "lycoris_"):
        spaces = ("diffusers", "original")
    lost: list[str] = []
    for space in spaces:
        found = {
            base: lexicon.find(space, name, flat=form == "kohya") for base, name in bare.items()
        }
        unknown = sorted(base for base, names in found.items() if names is None)
        if not unknown:
            return {base: names for base, names in found.items() if names is not None}
        lost = unknown if not lost or len(unknown) < len(lost) else lost
    if form == "bare":
        raise _strangers(lost, prefix, list(bare))
    raise AdapterMismatch(
        f"{len(lost)} of {len(bare)} layers are none of this family's, the first is {lost[0]}. Was"
        " it made for another model?"
    )


def _layers(
    grouped: Mapping[str, Mapping[str, Tensor]],
    found: Mapping[str, Found],
    form: str,
    metadata: Mapping[str, str],
    outputs: Mapping[str, int],
    prefix: str,
) -> Layers:
    record = record_of(metadata)
    theirs = _theirs(metadata, prefix) if form == "diffusers" else {}
    made: dict[str, Layer] = {}
    for base, names in found.items():
        tensors = {**grouped[base]}
        written = tensors.pop("alpha", None)
        alpha = None if written is None else float(written.item())
        if MAGNITUDE in tensors:
            tensors[MAGNITUDE] = _magnitude(base, tensors[MAGNITUDE], tensors.get(B))
        # A LoKr of two whole factors carries its scale in them, but where only the record says it.
        peft = record is not None and form == "diffusers" and written is None
        layer = layer_of(base, tensors, alpha, record.rank if record and peft else 0)
        if alpha is None:
            layer = _with_alpha(layer, names[0], form, record, theirs)
        sizes = [outputs.get(name) for name in names]
        each = record.rank if record else 0
        parts = [layer] if len(names) == 1 else split(base, layer, sizes, each)
        for name, part in zip(names, parts, strict=True):
            if name in made:
                raise AdapterMismatch(f"{base} stands for {name}, which is in the file twice")
            if part is not None:
                made[name] = _exactly(part, record)
    return made


def _with_alpha(
    layer: Layer, name: str, form: str, record: LoraSpec | None, theirs: Mapping[str, Any]
) -> Layer:
    """The alpha of a layer whose tensors do not say it."""
    if form == "diffusers" and layer.kind in ("loha", "lokr") and record is None:
        raise AdapterMismatch(f"does not say its rank and alpha ({name} is a {layer.kind})")
    if record is not None and form == "diffusers" and "lora_alpha" not in theirs:
        return Layer(layer.kind, layer.tensors, layer.rank, record.alpha)
    alpha = theirs.get("lora_alpha")
    for pattern, special in (theirs.get("alpha_pattern") or {}).items():
        if name == pattern or name.endswith(f".{pattern.removeprefix('^')}"):
            alpha = special
    if alpha is None:
        return layer
    if theirs.get("use_rslora"):
        alpha = alpha * math.sqrt(layer.rank)  # its scale is alpha / sqrt(rank)
    return Layer(layer.kind, layer.tensors, layer.rank, float(alpha))


def _theirs(metadata: Mapping[str, str], prefix: str) -> dict[str, Any]:
    """What diffusers' record says of the denoiser's adapter."""
    record: dict[str, Any] = json.loads(metadata.get(DIFFUSERS_RECORD, "{}"))
    return {
        key.removeprefix(f"{prefix}."): value
        for key, value in record.items()
        if "." not in key or key.startswith(f"{prefix}.")
    }


def _exactly(layer: Layer, record: LoraSpec | None) -> Layer:
    """With the record's own alpha, where the file's float32 is that number rounded."""
    if record is None or layer.alpha is None or not _same(layer.alpha, record.scale):
        return layer
    return Layer(layer.kind, layer.tensors, layer.rank, record.alpha)


def _same(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=1e-6)


def _magnitude(base: str, value: Tensor, high: Tensor | None) -> Tensor:
    """As peft has it: one number an output, `out` for matrices, `1 out 1 1` for kernels."""
    if high is None or value.numel() != high.shape[0]:
        raise AdapterMismatch(
            f"{base}: dora_scale has {value.numel()} numbers, B has"
            f" {'no' if high is None else high.shape[0]} outputs; Frisket knows DoRA on outputs"
        )
    return value.flatten() if high.ndim == 2 else value.reshape(1, -1, *[1] * (high.ndim - 2))
