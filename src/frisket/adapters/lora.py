"""The trained adapter and the files it lives in: save, load, and all of `attach` and `spec`."""

import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from frisket.adapters import files, formats, writing
from frisket.adapters.attach import (
    attach,
    check_streams,
    detach,
    follow_spec,
    frozen,
    get_spec,
    inject,
    outputs_of,
    set_strength,
    trainable,
    unwrap_model,
)
from frisket.adapters.layers import A, B, Layer, Layers, fit_spec
from frisket.adapters.metadata import show_text
from frisket.adapters.routed.files import check_schedule, export_layers, fill_orthogonal
from frisket.adapters.routed.orthogonal import pair_ranks
from frisket.adapters.spec import (
    ADAPTER,
    EXPERT,
    EXPERT_RANGE,
    AdapterForm,
    AdapterKind,
    AdapterMismatch,
    LoraSpec,
    record_of,
)
from frisket.adapters.targets import LAYERS, is_spatial
from frisket.families.experts import Experts, experts_of
from frisket.families.key_map import Names
from frisket.families.streams import Streams

__all__ = [
    "AdapterForm",
    "AdapterKind",
    "AdapterMismatch",
    "LoraSpec",
    "attach",
    "detach",
    "frozen",
    "get_spec",
    "load",
    "save",
    "set_strength",
    "spec_of",
    "trainable",
]

log = logging.getLogger(__name__)


def save(
    denoiser: nn.Module,
    path: Path,
    metadata: Mapping[str, str],
    *,
    prefix: str = "transformer",
    names: Names | None = None,
    form: AdapterForm = "diffusers",
) -> tuple[Path, ...]:
    """Write the adapter as safetensors, atomically; equal adapters give equal bytes.

    Returns the files: `path`, or of several experts one each (`stem-high.safetensors`), whose
    metadata says which expert and range of t it is for; an expert without an adapter has none. For
    the keys of each `form` see `frisket.adapters.writing.write`; comfyui and kohya need `names`,
    the family's table. `prefix` is the pipeline's name of the denoiser, `transformer` or `unet`.
    Raises AdapterMismatch where the form cannot hold the adapter and OSError where the folder
    cannot be written; a file that was there is then untouched.
    """
    path = Path(path)
    written = []
    for expert, model in experts_of(denoiser).items():
        inner = unwrap_model(model)
        spec = get_spec(inner)
        if spec is None:
            continue
        file, entries = path, dict(metadata)
        if expert:
            file = expert_file(path, expert)
            entries |= _of_expert(denoiser, expert)
        writing.write(
            file,
            layers_of(inner, spec),
            entries,
            form=form,
            names=names,
            prefix=prefix,
            outputs=outputs_of(inner),
            spec=pair_ranks(spec),
        )
        written.append(file)
    if not written:
        raise ValueError(f"nothing written to {path}: no adapter is attached")
    return tuple(written)


def load(
    denoiser: nn.Module,
    path: Path,
    *,
    prefix: str = "transformer",
    names: Names | None = None,
    expert: str = "",
    streams: Streams | None = None,
) -> None:
    """Read an adapter file onto a denoiser, attaching what the file holds if nothing is attached.

    With `names` any of the formats is read, else diffusers' only. Every tensor of the file is used
    and every parameter of the adapter is filled, or AdapterMismatch says which is the first that
    does not fit (rank, form, alpha, base, key names) and the denoiser is left as it was. Of
    several experts, `path` is the file of one (which it says itself, or `expert` says), or the
    name all have before `-high`, `-low`; a folder of peft's is its adapter_model.safetensors, with
    the rank and alpha of the adapter_config.json in it. FileNotFoundError where there is none. An
    adapter whose ranks follow the noise level needs the family's `streams` (ValueError).
    """
    models = {name: unwrap_model(model) for name, model in experts_of(denoiser).items()}
    fresh = []
    try:
        for file, name in _files(Path(path), models, expert):
            if get_spec(models[name]) is None:
                fresh.append(models[name])
            _load(models[name], file, prefix, names, streams)
        follow_spec(denoiser, get_spec(denoiser), streams)
    except BaseException:
        for model in fresh:
            detach(model)
        raise


def spec_of(
    path: Path,
    names: Names | None = None,
    *,
    prefix: str = "transformer",
    layers: Iterable[str] = (),
) -> LoraSpec:
    """The spec of an adapter file (or of the first of several experts').

    From Frisket's own record alone where there is one. Else from the tensors: `names` is needed
    for other keys than diffusers', and `layers` (the model's, by name) where that table is empty.
    """
    path = Path(path)
    if not path.exists():
        path = next(iter(sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"))), path)
    metadata = files.header(path)[1]
    try:
        record = record_of(metadata)
    except AdapterMismatch as error:
        raise AdapterMismatch(f"{path}: {error}") from error
    if record is not None:
        return record
    return _alike(path, formats.read(path, names, prefix=prefix, layers=layers))[1]


def expert_file(path: Path, expert: str) -> Path:
    """The file of one of several experts: `lora.safetensors` to `lora-high.safetensors`."""
    return path.with_name(f"{path.stem}-{expert}{path.suffix}") if expert else path


def _of_expert(denoiser: nn.Module, expert: str) -> dict[str, str]:
    several = unwrap_model(denoiser)
    assert isinstance(several, Experts)
    return {EXPERT: expert, EXPERT_RANGE: json.dumps(list(several.ranges[expert]))}


def _files(path: Path, models: Mapping[str, nn.Module], expert: str) -> list[tuple[Path, str]]:
    """Which file goes onto which model."""
    if expert and expert not in models and set(models) != {""}:
        raise AdapterMismatch(f"no expert {expert!r} is loaded; there are: {', '.join(models)}")
    if set(models) == {""}:
        return [(path, "")]
    if path.exists():
        return [(path, _find_expert(path, models, expert))]
    files_by_name = {name: expert_file(path, name) for name in models}
    there = [(file, name) for name, file in files_by_name.items() if file.is_file()]
    if not there:
        tried = " and no ".join(file.name for file in files_by_name.values())
        raise FileNotFoundError(f"there is no adapter file {path}, and no {tried} beside it")
    return there


def _find_expert(path: Path, models: Mapping[str, nn.Module], expert: str) -> str:
    """Which of the loaded experts a file is for: it says it, or `expert` does."""
    own = show_text(files.header(path)[1].get(EXPERT, ""), 40)
    if own and expert and own != expert:
        raise AdapterMismatch(f"{path} is for the expert {own}, not {expert}")
    name = own or expert
    if not name:
        raise AdapterMismatch(
            f"{path} does not say which expert it is for ({', '.join(models)}); call it"
            f" {expert_file(path, next(iter(models))).name} and name it without the ending, or"
            " write the word into it with frisket convert --expert"
        )
    if name not in models:
        raise AdapterMismatch(f"{path} is for the expert {name}; loaded are: {', '.join(models)}")
    return name


def _alike(path: Path, read: formats.AdapterContents) -> tuple[Layers, LoraSpec]:
    try:
        return read.alike()
    except AdapterMismatch as error:
        raise AdapterMismatch(f"{path} {error}") from error


def layers_of(model: nn.Module, spec: LoraSpec) -> Layers:
    """The adapter on one bare model, apart from it: its layers by name, detached."""
    if spec.orthogonal:
        return export_layers(model, spec)
    grouped: dict[str, dict[str, Tensor]] = {}
    for key, value in get_peft_model_state_dict(model, adapter_name=ADAPTER).items():
        name, end = _split_key(key)
        grouped.setdefault(name, {})[end] = value.detach()
    layers: Layers = {}
    for name, tensors in grouped.items():
        own = spec.as_layer(spatial=_is_spatial(model, name))
        layers[name] = Layer(spec.kind, tensors, own.rank, own.alpha)
    return layers


def _is_spatial(model: nn.Module, name: str) -> bool:
    layer: Any = model.get_submodule(name)
    return is_spatial(layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer)


def _split_key(key: str) -> tuple[str, str]:
    """A parameter's key in its module's name and its own."""
    places = 2 if key.endswith(".weight") else 1
    name, *end = key.rsplit(".", places)
    return name, ".".join(end)


def _load(
    model: nn.Module, path: Path, prefix: str, names: Names | None, streams: Streams | None
) -> None:
    outputs = outputs_of(model)
    read = formats.read(path, names, prefix=prefix, outputs=outputs)
    if read.text:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(read.text.items()))
        raise AdapterMismatch(
            f"{path} also holds tensors of text encoders ({counts}), which Frisket does not train:"
            " leave them out with frisket convert --drop-text"
        )
    if read.assumed:
        log.warning("%s: %s", path, read.assumed)
    here = get_spec(model)
    if here is not None and here.conv_rank:
        layers, spec = _size_layers(model, path, read.layers, here), here
    else:
        layers, spec = _alike(path, read)
    if here is None:
        lost = [name for name in layers if not _adaptable(model, name)]
        if lost:
            raise AdapterMismatch(
                f"{path} was made for another base: {len(lost)} of its {len(layers)} modules are"
                f" not in this {type(model).__name__}, the first is {lost[0]}"
            )
        check_streams(spec, streams)
        inject(model, spec, list(layers), seed=0)
    _fill(model, path, layers, spec)
    log.debug("%s: all %d tensors loaded (%s)", path, read.tensors, read)


def _adaptable(model: nn.Module, name: str) -> bool:
    try:
        return isinstance(model.get_submodule(name), LAYERS)
    except AttributeError:
        return False


def _fill(model: nn.Module, path: Path, layers: Layers, spec: LoraSpec) -> None:
    start = get_spec(model)
    assert start is not None
    check_schedule(path, spec, start)
    here = pair_ranks(start)
    alike = math.isclose(spec.scale, here.scale, rel_tol=1e-6)  # a file has it in float32
    whole = here.full_matrix and spec.kind == here.kind  # of no rank, whatever is said
    for word, theirs, ours in (
        ("kind", spec.kind, here.kind),
        ("rank", spec.rank, spec.rank if whole else here.rank),
        ("alpha", spec.scale, spec.scale if alike or whole else here.scale),
        ("conv_rank", spec.conv_rank, here.conv_rank),
    ):
        if theirs != ours:
            raise AdapterMismatch(
                f"{path} has {word} {theirs}, the adapter on this denoiser has {word} {ours}."
                f" Set lora.{word} = {json.dumps(theirs)} to continue from it."
            )
    if start.orthogonal:
        fill_orthogonal(model, path, layers)
        return
    wanted = get_peft_model_state_dict(model, adapter_name=ADAPTER)
    filled = {
        f"{name}.{key}": value
        for name, layer in layers.items()
        for key, value in _alive(name, layer, wanted).tensors.items()
    }
    state = _match_tensors(path, filled, wanted)
    taken: Any = set_peft_model_state_dict(model, state, adapter_name=ADAPTER)
    if taken.unexpected_keys:
        raise AdapterMismatch(f"{path}: peft has no place for {', '.join(taken.unexpected_keys)}")


def _size_layers(model: nn.Module, path: Path, layers: Layers, here: LoraSpec) -> Layers:
    """The layers of a file for an adapter of two ranks: each of the rank its own has."""
    fitted, there = {}, outputs_of(model)
    for name, layer in layers.items():
        if name not in there:
            fitted[name] = layer  # the module that is not there is told of further on
            continue
        spatial = _is_spatial(model, name)
        own, word = here.as_layer(spatial=spatial), "conv_rank" if spatial else "rank"
        if (layer.kind, layer.rank or own.rank) != (here.kind, own.rank):
            raise AdapterMismatch(
                f"{path} has a {layer.kind} of rank {layer.rank} for {name}, the adapter on this"
                f" denoiser has a {here.kind} of rank {own.rank} there. Set lora.kind and"
                f" lora.{word} to continue from it."
            )
        fitted[name] = fit_spec(layer, own)
        if not math.isclose(fitted[name].scale, own.scale / own.rank, rel_tol=1e-6):
            raise AdapterMismatch(
                f"{path} has alpha {layer.alpha:g} for {name}, the adapter on this denoiser"
                f" {own.scale:g}. Set lora.{'conv_alpha' if spatial else 'alpha'} to continue."
            )
    return fitted


def _alive(name: str, layer: Layer, wanted: Mapping[str, Tensor]) -> Layer:
    """With fresh rows of A where both factors are filled up with zeros.

    Those could never learn, for each one's gradient is the other; a zero column of B alone leaves
    the function what it is.
    """
    fresh = wanted.get(f"{name}.{A}")
    if layer.kind not in ("lora", "dora") or fresh is None or fresh.shape != layer.low.shape:
        return layer
    dead = ~layer.low.flatten(1).any(1) & ~layer.high.transpose(0, 1).flatten(1).any(1)
    if not dead.any():
        return layer
    low = layer.low.clone()
    low[dead] = fresh[dead].to(low)
    return replace(layer, tensors={**layer.tensors, A: low, B: layer.high})


def _match_tensors(
    path: Path, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The file's tensors for the adapter's parameters, one for one."""
    for keys, what in (
        (state.keys() - wanted.keys(), "the file only"),
        (wanted.keys() - state.keys(), "this adapter only"),
    ):
        if keys and {_split_key(key)[0] for key in state} == {_split_key(key)[0] for key in wanted}:
            raise _other_factors(path, f"{min(keys)} is in {what}")
        if keys:
            raise AdapterMismatch(
                f"{path} and the adapter on this denoiser cover different modules: {len(keys)}"
                f" tensors are in {what}, the first is {min(keys)}. Check lora.targets."
            )
    for key, value in state.items():
        # A 1x1 kernel is a matrix to some programs.
        if _plain(value.shape) != _plain(wanted[key].shape):
            shapes = f"{key} is {tuple(value.shape)} in the file, {tuple(wanted[key].shape)} here"
            if ".lokr_" in key:
                raise _other_factors(path, shapes)
            raise AdapterMismatch(f"{path} was made for another base: {shapes}")
    return {key: value.reshape(wanted[key].shape) for key, value in state.items()}


def _other_factors(path: Path, why: str) -> AdapterMismatch:
    """LyCORIS can be told into which factors a size is taken apart; peft takes the nearest two."""
    return AdapterMismatch(
        f"{path} has its LoKr in other factors than this adapter ({why}); set lora.factor and"
        " lora.full_matrix as it was made with, or merge it into the model (frisket convert"
        " --merge-into)"
    )


def _plain(shape: torch.Size) -> tuple[int, ...]:
    sizes = list(shape)
    while len(sizes) > 2 and sizes[-1] == 1:
        sizes.pop()
    return tuple(sizes)
