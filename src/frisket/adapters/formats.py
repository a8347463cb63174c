"""Adapter files in the public key formats: told by their keys and read into layers."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from frisket.adapters import factors, files, peft_config
from frisket.adapters.key_map import LayerNames, Lexicon, Space
from frisket.adapters.keys import TEXT, WAY_OUT, form_of, group_tensors, leave_out, strangers
from frisket.adapters.layers import (
    Layer,
    Layers,
    commonest,
    fit_spec,
    layer_of,
    rescale,
    split,
    uniform,
)
from frisket.adapters.metadata import is_number
from frisket.adapters.peft_config import PeftConfig
from frisket.adapters.spec import AdapterKind, AdapterMismatch, LoraSpec, record_of
from frisket.families.key_map import Names


@dataclass(frozen=True, slots=True)
class AdapterContents:
    """An adapter file as read: its layers by diffusers' names, and what else it says."""

    layers: Layers
    form: str  # comfyui, diffusers, kohya, or "peft" and "bare" of others' making
    metadata: Mapping[str, str] = field(default_factory=dict)
    tensors: int = 0  # read, every one of them used in `layers`
    text: Mapping[str, int] = field(default_factory=dict)  # tensors of text encoders, by prefix
    left: Sequence[str] = ()  # what was left out on request, in lines
    assumed: str = ""  # what nothing says and was taken for granted, in a sentence

    def alike(self) -> tuple[Layers, LoraSpec]:
        """The layers at one rank and alpha and their spec, with what the file's own record adds.

        A LoKr of whole factors alone has neither: its spec has the least rank that peft makes all
        factors whole at, and no alpha.
        """
        record = record_of(self.metadata)
        if record is not None and record.conv_rank:
            return {name: _size_layer(layer, record) for name, layer in self.layers.items()}, record
        known = (record.rank, record.alpha) if record else (_whole_rank(self.layers), None)
        layers, spec = uniform(self.layers, *known)
        same = record is not None and (record.kind, record.rank) == (spec.kind, spec.rank)
        if record is None or not same:
            _check_ranks(record, spec)
            return layers, spec
        if _same(record.scale, spec.scale):
            return layers, record
        if record.kind not in ("lora", "dora") or not record.scale:
            return layers, spec
        # The scale is in the tensors: the run that they came from goes on at its own.
        return {name: rescale(layer, record) for name, layer in layers.items()}, record

    @property
    def kind(self) -> AdapterKind:
        """The form of its layers."""
        return next(iter(self.layers.values())).kind

    @property
    def of_two_ranks(self) -> bool:
        """Whether its own record gives larger convolutions a rank of theirs."""
        record = record_of(self.metadata)
        return record is not None and record.conv_rank > 0

    def __str__(self) -> str:
        return f"{self.kind}, {commonest(self.layers)}, {len(self.layers)} layers, {self.form} keys"


def read(
    path: Path,
    names: Names | None = None,
    *,
    prefix: str = "transformer",
    outputs: Mapping[str, int] | None = None,
    layers: Iterable[str] = (),
    without: Sequence[str] = (),
) -> AdapterContents:
    """Read an adapter file in any format; every tensor of it is used, or AdapterMismatch says why.

    `names` is the family's table; without one only diffusers' own keys under `prefix` are read.
    `outputs` are the output sizes of the model's layers by name, where a model is at hand;
    `layers` are names alone, for a family whose table is empty. Tensors of text encoders are
    counted and left out, and so is what the patterns of `without` name (see `keys.leave_out`).
    A file of peft's takes rank and alpha from the adapter_config.json beside it.
    """
    return _read_layers(path, names, prefix, outputs or {}, layers, without, by_file=False)


def glance(path: Path, *, without: Sequence[str] = ()) -> AdapterContents:
    """As `read`, with the layers under the names the file has for them: for any model's file."""
    return _read_layers(path, Names(), "", {}, (), without, by_file=True)


def _read_layers(
    path: Path,
    names: Names | None,
    prefix: str,
    outputs: Mapping[str, int],
    layers: Iterable[str],
    without: Sequence[str],
    *,
    by_file: bool,
) -> AdapterContents:
    path = files.find_file(path)
    values, metadata = files.tensors(path)
    try:
        values, metadata, left = leave_out(values, metadata, without)
        text = Counter(match[1] for match in map(TEXT.match, values) if match)
        tensors = group_tensors(
            {key: value for key, value in values.items() if not TEXT.match(key)}
        )
        if by_file:
            starts = (p for p in ("transformer", "unet") if next(iter(tensors)).startswith(p))
            prefix = next(starts, "")
        form, start = form_of(list(tensors), names, prefix)
        known = None if by_file or names is None else Lexicon(names, outputs or layers)
        names_by_base, space = _resolve_names(tensors, form, start, known, prefix)
        source = _Source(path, form, start, metadata, prefix)
        layers_by_base = {
            base: source.layer(base, own, _ends_turned(known, space, names_by_base[base]))
            for base, own in tensors.items()
        }
        parts = _parts(layers_by_base, names_by_base, source, outputs)
    except AdapterMismatch as error:
        raise AdapterMismatch(f"{path}: {error}") from error
    count = len(values) - sum(text.values())
    return AdapterContents(parts, form, metadata, count, dict(text), left, source.assumed)


def _resolve_names(
    bases: Iterable[str], form: str, start: str, lexicon: Lexicon | None, prefix: str
) -> tuple[dict[str, LayerNames], Space]:
    """Diffusers' names of each layer in the file, all found in one book of names, and which."""
    bare = {base: base.removeprefix(start) for base in bases}
    if lexicon is None:
        return {base: (name,) for base, name in bare.items()}, "diffusers"
    lost: list[str] = []
    for space in _order_spaces(form, start):
        named: dict[str, LayerNames] = {}
        for base, name in bare.items():
            names = lexicon.find(space, name, flat=form == "kohya")
            if names is not None:
                named[base] = names
        if len(named) == len(bare):
            return named, space
        unknown = sorted(bare.keys() - named.keys())
        lost = unknown if not lost or len(unknown) < len(lost) else lost
    if form == "bare":
        raise strangers(lost, prefix, list(bare))
    raise AdapterMismatch(
        f"{len(lost)} of {len(bare)} layers are none of this family's, the first is {lost[0]}. Was"
        f" it made for another model?{WAY_OUT}"
    )


def _order_spaces(form: str, start: str) -> tuple[Space, ...]:
    """The books of names that keys of a format may be in, the likelier one first."""
    if form in ("diffusers", "bare") or start in ("lora_transformer_", "lycoris_"):
        return "diffusers", "original"
    return "original", "diffusers"


@dataclass(slots=True)
class _Source:
    """A file, as far as its layers' scales depend on more than their tensors."""

    path: Path
    form: str
    start: str
    metadata: Mapping[str, str]
    prefix: str
    record: LoraSpec | None = None
    config: PeftConfig | None = None
    assumed: str = ""

    def __post_init__(self) -> None:
        self.record = record_of(self.metadata)
        if self.form == "diffusers":
            self.config = peft_config.in_metadata(self.metadata, self.prefix)
        if self.record is not None:
            return
        by_name = self.path.name == files.PEFT_FILE and self.form in ("diffusers", "bare")
        if self.config is None and (self.form == "peft" or by_name):
            self.config = peft_config.beside(self.path)

    def layer(self, base: str, tensors: Mapping[str, Tensor], turned: bool) -> Layer:
        """One layer as diffusers has it, with its alpha."""
        values = {**tensors}
        alpha = _alpha(base, values.pop("alpha", None))
        name = base.removeprefix(self.start)
        rank = self._rank(name) if alpha is None else 0
        layer = layer_of(base, factors.as_peft(base, values), alpha, rank)
        if alpha is None:
            layer = self._with_alpha(layer, name)
        return factors.turn(base, layer) if turned and factors.has_double_outputs(layer) else layer

    def _rank(self, name: str) -> int:
        """Of a LoKr of two whole factors: peft scales them too, other formats never do."""
        if self.record is not None:
            return self.record.rank if self.form == "diffusers" else 0
        return 0 if self.config is None else self.config.rank_of(name)

    def _with_alpha(self, layer: Layer, name: str) -> Layer:
        """The alpha of a layer whose tensors do not say it."""
        if self.config is not None:
            scaled = self.config.apply(layer, name)
            if scaled.alpha is not None:
                return scaled
        if self.record is not None:
            peft = self.form == "diffusers"
            return replace(layer, alpha=self.record.alpha) if peft else layer
        if self.form in ("diffusers", "peft", "bare"):
            if layer.kind in ("loha", "lokr"):
                raise AdapterMismatch(
                    f"does not say its rank and alpha ({name} is a {layer.kind}): of peft's, keep"
                    f" {peft_config.FILE} beside it"
                )
            beside = f" and no {peft_config.FILE} is beside it" if self.form == "peft" else ""
            self.assumed = (
                f"nothing in it says its alpha{beside}: it is taken for the rank, as diffusers and"
                " ComfyUI take it"
            )
        return layer


def _alpha(base: str, value: Tensor | None) -> float | None:
    if value is None:
        return None
    if value.numel() != 1 or not is_number(alpha := float(value.item())):
        raise AdapterMismatch(f"{base}: its alpha is {tuple(value.shape)}, not one finite number")
    return alpha


def _ends_turned(lexicon: Lexicon | None, space: str, names: LayerNames) -> bool:
    return lexicon is not None and space == "original" and lexicon.may_turn(names[0])


def _parts(
    layers_by_base: Mapping[str, Layer],
    names_by_base: Mapping[str, LayerNames],
    source: _Source,
    outputs: Mapping[str, int],
) -> Layers:
    """The layers by diffusers' names, those that the file fuses taken apart."""
    rank = source.record.rank if source.record else 0
    layers: Layers = {}
    for base, layer in layers_by_base.items():
        names = names_by_base[base]
        parts: Sequence[Layer | None] = [layer]
        if len(names) > 1:
            sizes = [outputs.get(name) for name in names]
            whole = layer.kind in ("loha", "lokr")
            parts = factors.cut(base, layer, sizes) if whole else split(base, layer, sizes, rank)
        for name, part in zip(names, parts, strict=True):
            if name in layers:
                raise AdapterMismatch(f"{base} stands for {name}, which is in the file twice")
            if part is not None:
                layers[name] = _exactly(part, source.record)
    return layers


def _check_ranks(record: LoraSpec | None, spec: LoraSpec) -> None:
    """AdapterMismatch for ranks that act by noise level and are others than the record says."""
    if record is not None and record.ranks is not None:
        raise AdapterMismatch(
            f"says that its {record.rank} ranks act by noise level, and its tensors have"
            f" {spec.rank}: another program changed it; convert it with --drop-schedule"
        )


def _whole_rank(layers: Layers) -> int:
    """The least rank at which peft leaves every second factor of a LoKr whole (tuners/lokr)."""
    seconds = [layer.tensors["lokr_w2"] for layer in layers.values() if not layer.rank]
    return max((-(-max(second.shape[:2]) // 2) for second in seconds), default=0)


def _exactly(layer: Layer, record: LoraSpec | None) -> Layer:
    """With the record's own alpha, where the file's float32 is that number rounded."""
    if record is None or record.conv_rank or layer.alpha is None:
        return layer
    if not _same(layer.alpha, record.scale):
        return layer
    return replace(layer, alpha=record.alpha)


def _size_layer(layer: Layer, record: LoraSpec) -> Layer:
    """At the one of a record's two ranks and alphas that is its own."""
    kernel = next((tensor.shape[2:] for tensor in layer.tensors.values() if tensor.ndim > 2), ())
    own = record.as_layer(spatial=max(kernel, default=1) > 1)
    if layer.kind == "lokr" and layer.rank:  # whose tensors do not tell a kernel
        return layer
    return fit_spec(layer, own)


def _same(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=1e-6)
