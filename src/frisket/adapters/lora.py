"""The trained adapter: peft's low-rank forms on a frozen denoiser, and the files they live in."""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.loaders.peft import PeftAdapterMixin
from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import nn

from frisket.adapters.targets import LAYERS, resolve

Kind = Literal["lora", "dora", "loha", "lokr"]
ADAPTER = "default"  # peft's name of the one adapter
RECORD = "frisket.adapter"  # metadata key of the LoraSpec a file was made with
DIFFUSERS_RECORD = "lora_adapter_metadata"  # where diffusers' loaders look for rank and alpha
KEY = re.compile(r"(?P<module>.+)\.(?:lora_[AB]\.weight|lora_magnitude_vector|hada_\w+|lokr_\w+)")


class AdapterMismatch(ValueError):
    """An adapter file that does not fit the denoiser or the adapter on it."""


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """What an adapter is: its form, size and place.

    `alpha` empty is the rank (scale 1). `dropout` is on the adapter's input for lora and dora, on
    the rank for loha and lokr. `targets`, `exclude` and `dead`: see
    `frisket.adapters.targets.resolve`.
    """

    kind: Kind = "lora"
    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """The numerator of alpha / rank."""
        return float(self.rank if self.alpha is None else self.alpha)


def attach(denoiser: nn.Module, spec: LoraSpec, *, seed: int) -> tuple[str, ...]:
    """Freeze the denoiser and put a fresh adapter on it; returns the adapted modules' names.

    The output does not change until the adapter is trained. Only its parameters ask for a
    gradient, and they are float32 whatever the base is. Initial values are a function of `seed`
    and leave torch's global generators as they were. ValueError for targets that hit nothing and
    where an adapter sits already.
    """
    model = _bare(denoiser)
    _refuse_second(model)
    layers = LAYERS[:3] if spec.kind in ("loha", "lokr") else LAYERS  # what peft has them for
    names = resolve(model, spec.targets, spec.exclude, layers, dead=spec.dead)
    _inject(model, spec, names, seed)
    return names


def detach(denoiser: nn.Module) -> None:
    """Take the adapter off: the denoiser is what it was before `attach`, frozen."""
    model = _bare(denoiser)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer.get_base_layer())
    for attribute in ("peft_config", "frisket_spec"):
        model.__dict__.pop(attribute, None)
    if isinstance(model, PeftAdapterMixin):
        model._hf_peft_config_loaded = False


def attached(denoiser: nn.Module) -> LoraSpec | None:
    """The spec of the adapter on a denoiser, None where there is none."""
    return getattr(_bare(denoiser), "frisket_spec", None)


def trainable(denoiser: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that ask for a gradient, by name, in a fixed order."""
    model = _bare(denoiser)
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


@contextmanager
def frozen(denoiser: nn.Module) -> Iterator[None]:
    """Inside, the denoiser is the base: adapter off, eval mode (no dropout); after, as it was.

    The prediction inside is the base's bit for bit. Gradient mode is left to the caller.
    """
    modules = list(_bare(denoiser).modules())
    layers = [module for module in modules if isinstance(module, BaseTunerLayer)]
    modes = [module.training for module in modules]
    states = [layer._disable_adapters for layer in layers]
    try:
        for module in modules:
            module.training = False
        for layer in layers:
            # Not enable_adapters(False): it also clears requires_grad, and what is built on the
            # parameters (DistributedDataParallel, optimizers) would trip over that.
            layer._disable_adapters = True
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for layer, state in zip(layers, states, strict=True):
            layer._disable_adapters = state


def set_strength(denoiser: nn.Module, strength: float) -> None:
    """Scale the adapter's effect: 1 as trained, 0 the base bit for bit, beyond 1 exaggerates.

    DoRA's learned magnitudes do not scale, so between 0 and 1 its path is not a straight line.
    """
    if not math.isfinite(strength):
        raise ValueError(f"adapter strength must be a finite number, got {strength}")
    for layer in _layers(_bare(denoiser)):
        layer.set_scale(ADAPTER, strength)
        layer._disable_adapters = strength == 0


def save(
    denoiser: nn.Module, path: Path, metadata: Mapping[str, str], *, prefix: str = "transformer"
) -> None:
    """Write the adapter as one safetensors file, atomically; equal adapters give equal bytes.

    Keys are `prefix.module.lora_A.weight` and so on (lora and dora: what `load_lora_weights` of
    the public pipelines reads, alpha included; loha and lokr: peft's names). `prefix` is the
    pipeline's name of the denoiser, `transformer` or `unet`. Raises OSError where the folder cannot
    be written; a file that was there is then untouched.
    """
    model = _bare(denoiser)
    spec = attached(model)
    if spec is None:
        raise ValueError(f"nothing written to {path}: no adapter is attached")
    state = get_peft_model_state_dict(model, adapter_name=ADAPTER)
    tensors = {f"{prefix}.{key}": value.detach().cpu().contiguous() for key, value in state.items()}
    record = {"format": "pt", RECORD: json.dumps(asdict(spec), sort_keys=True)}
    if spec.kind in ("lora", "dora"):
        # No more than the loader needs: it hands every entry to LoraConfig, and an older peft
        # refuses the fields of a newer one.
        config = {
            "r": spec.rank,
            "lora_alpha": spec.scale,
            "use_dora": spec.kind == "dora",
            "target_modules": sorted(_modules(state)),
        }
        record[DIFFUSERS_RECORD] = json.dumps({f"{prefix}.{k}": v for k, v in config.items()})
    _write(Path(path), _ordered(serialise(tensors, {**metadata, **record})))


def load(denoiser: nn.Module, path: Path, *, prefix: str = "transformer") -> None:
    """Read an adapter file onto a denoiser, attaching what the file holds if nothing is attached.

    Every tensor of the file is used and every parameter of the adapter is filled, or
    AdapterMismatch says which is the first that does not fit (rank, form, alpha, base, key
    names) and the denoiser is left as it was.
    """
    model = _bare(denoiser)
    shapes, metadata = _header(path)
    spec = _spec(path, shapes, metadata)
    names = _modules(_unprefixed(path, list(shapes), prefix))
    fresh = attached(model) is None
    if fresh:
        lost = [name for name in names if not _adaptable(model, name)]
        if lost:
            raise AdapterMismatch(
                f"{path} was made for another base: {len(lost)} of its {len(names)} modules are not"
                f" in this {type(model).__name__}, the first is {lost[0]}"
            )
        _inject(model, spec, names, seed=0)
    try:
        _fill(model, path, spec, prefix)
    except BaseException:
        if fresh:
            detach(model)
        raise


def spec_of(path: Path) -> LoraSpec:
    """The spec of an adapter file, from its header alone."""
    return _spec(path, *_header(path))


def rank_of(path: Path) -> int:
    """The rank of an adapter file, from its header alone."""
    return spec_of(path).rank


def _bare(denoiser: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel and torch.compile."""
    inner = getattr(denoiser, "module", denoiser)
    model: nn.Module = getattr(inner, "_orig_mod", inner)
    return model


def _layers(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def _adaptable(model: nn.Module, name: str) -> bool:
    try:
        return isinstance(model.get_submodule(name), LAYERS)
    except AttributeError:
        return False


def _config(spec: LoraSpec, names: Sequence[str]) -> PeftConfig:
    alpha: Any = spec.scale  # peft says int and divides it by the rank as it comes
    size: dict[str, Any] = {"r": spec.rank, "target_modules": list(names)}
    if spec.kind in ("loha", "lokr"):
        form = LoHaConfig if spec.kind == "loha" else LoKrConfig
        return form(alpha=alpha, rank_dropout=spec.dropout, **size)
    dora = spec.kind == "dora"
    return LoraConfig(lora_alpha=alpha, lora_dropout=spec.dropout, use_dora=dora, **size)


def _refuse_second(model: nn.Module) -> None:
    there = list(getattr(model, "peft_config", {}))
    if there:
        raise ValueError(
            f"{type(model).__name__} has an adapter already ({', '.join(there)}): detach it first"
        )


def _inject(model: nn.Module, spec: LoraSpec, names: Sequence[str], seed: int) -> None:
    _refuse_second(model)
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed CUDA as well
        inject_adapter_in_model(_config(spec, names), model, ADAPTER)
    if isinstance(model, PeftAdapterMixin):
        model._hf_peft_config_loaded = True
    model.frisket_spec = spec  # type: ignore[assignment]
    for value in trainable(model).values():
        value.data = value.data.float()  # peft gives them the base's dtype
    if spec.kind == "dora":
        # Magnitudes taken in bfloat16 are off by up to 0.4 %: it would not start as the base.
        for layer in _layers(model):
            layer.lora_magnitude_vector[ADAPTER].update_layer(
                base_layer=layer.get_base_layer(),
                lora_A=layer.lora_A[ADAPTER].weight,
                lora_B=layer.lora_B[ADAPTER].weight,
                scaling=layer.scaling[ADAPTER],
            )


def _header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no adapter file {path}")
    try:
        with safe_open(path, framework="pt") as opened:
            shapes = {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
            return shapes, opened.metadata() or {}
    except SafetensorError as error:
        raise AdapterMismatch(f"{path} is cut short or no safetensors file: {error}") from error


def _spec(
    path: Path, shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]
) -> LoraSpec:
    """From our own record, or diffusers' record, or the shapes (then alpha is the rank)."""
    if RECORD in metadata:
        record = json.loads(metadata[RECORD])
        for name in ("targets", "exclude", "dead"):
            record[name] = tuple(record.get(name, ()))
        return LoraSpec(**record)
    foreign = [key for key in shapes if not KEY.fullmatch(key)]
    if foreign or not shapes:
        raise AdapterMismatch(
            f"{path} is not an adapter in diffusers' key names"
            f" ({f'it has {foreign[0]}' if foreign else 'it is empty'}); convert it first"
        )
    ranks = {shape[0]: key for key, shape in shapes.items() if key.endswith("lora_A.weight")}
    if len(ranks) != 1:
        what = f"has ranks {sorted(ranks)}" if ranks else "does not say its rank and alpha"
        raise AdapterMismatch(f"{path} {what}; Frisket continues lora and dora files of one rank")
    rank = next(iter(ranks))
    kind: Kind = "dora" if any("magnitude" in key for key in shapes) else "lora"
    theirs = json.loads(metadata.get(DIFFUSERS_RECORD, "{}"))
    alphas = [value for key, value in theirs.items() if key.split(".")[-1] == "lora_alpha"]
    patterns = [value for key, value in theirs.items() if key.endswith("alpha_pattern") and value]
    if patterns:
        raise AdapterMismatch(f"{path} has another alpha for some modules; Frisket knows one alpha")
    targets = tuple(
        sorted({match["module"].split(".", 1)[1] for match in map(KEY.fullmatch, shapes) if match})
    )
    return LoraSpec(kind, rank, float(alphas[0]) if alphas else None, 0.0, targets)


def _unprefixed(path: Path, keys: Sequence[str], prefix: str) -> list[str]:
    strange = [key for key in keys if not (key.startswith(f"{prefix}.") and KEY.fullmatch(key))]
    if strange:
        raise AdapterMismatch(
            f"{path}: {len(strange)} of {len(keys)} keys are not adapter keys under {prefix!r}, the"
            f" first is {strange[0]}"
        )
    return [key.removeprefix(f"{prefix}.") for key in keys]


def _modules(keys: Sequence[str] | Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(match["module"] for match in map(KEY.fullmatch, keys) if match))


def _fill(model: nn.Module, path: Path, spec: LoraSpec, prefix: str) -> None:
    here = attached(model)
    assert here is not None
    for word, theirs, ours in (
        ("kind", spec.kind, here.kind),
        ("rank", spec.rank, here.rank),
        ("alpha", spec.scale, here.scale),
    ):
        if theirs != ours:
            raise AdapterMismatch(
                f"{path} has {word} {theirs}, the adapter on this denoiser has {word} {ours}."
                f" Set lora.{word} = {json.dumps(theirs)} to continue from it."
            )
    with safe_open(path, framework="pt") as opened:
        state = {key.removeprefix(f"{prefix}."): opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    wanted = get_peft_model_state_dict(model, adapter_name=ADAPTER)
    for keys, what in (
        (state.keys() - wanted.keys(), "the file only"),
        (wanted.keys() - state.keys(), "this adapter only"),
    ):
        if keys:
            raise AdapterMismatch(
                f"{path} and the adapter on this denoiser cover different modules: {len(keys)}"
                f" tensors are in {what}, the first is {min(keys)}. Check lora.targets."
            )
    for key, value in state.items():
        if value.shape != wanted[key].shape:
            raise AdapterMismatch(
                f"{path} was made for another base: {key} is {tuple(value.shape)} in the file and"
                f" {tuple(wanted[key].shape)} here"
            )
    taken: Any = set_peft_model_state_dict(model, state, adapter_name=ADAPTER)
    if taken.unexpected_keys:
        raise AdapterMismatch(f"{path}: peft has no place for {', '.join(taken.unexpected_keys)}")


def _ordered(content: bytes) -> bytes:
    """The same safetensors with its header in sorted order: the library's own order is random."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":"))
    packed = header.encode()
    packed += b" " * (-len(packed) % 8)
    return len(packed).to_bytes(8, "little") + packed + content[8 + size :]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
