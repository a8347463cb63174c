"""Optimizers by alias or import path, and gradient clipping."""

import inspect
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from frisket.registry import suggest

log = logging.getLogger(__name__)

B = re.compile(r"(^|\.)lora_B(\.|$)")  # in the names of peft's parameters
SHOWN = 5  # offending parameters an error names


class BadOptimizer(ValueError):
    """An optimizer that cannot be built; the message says what to write or install instead."""


class NonFinite(ArithmeticError):
    """Gradients that are inf or NaN; `names` holds the offending parameters, in order."""

    def __init__(self, names: Sequence[str]) -> None:
        """Name the first parameters and count the rest."""
        self.names = tuple(names)
        rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        super().__init__(
            f"the gradient is not finite in {', '.join(names[:SHOWN])}{rest}: lower the learning"
            " rate, or train in bfloat16 or float32 instead of float16"
        )


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """What to build: an alias or import path, and the arguments of the class behind it.

    `plus` is LoRA+ (Hayou et al. 2024, arXiv:2402.12354): the rate of every B as a multiple of A's;
    0 gives both the same.
    """

    name: str = "adamw"
    lr: float = 1e-4
    weight_decay: float = 0.01
    options: Mapping[str, Any] = field(default_factory=dict)
    plus: float = 0.0


@dataclass(frozen=True, slots=True)
class Alias:
    """Classes an alias may stand for, the first installed one wins, and defaults that suit LoRA."""

    paths: tuple[str, ...]
    install: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)


EXTRA = 'pip install "frisket[optimizers]"'
ALIASES: dict[str, Alias] = {
    "adamw": Alias(("torch.optim.AdamW",)),
    "adamw8bit": Alias(("torchao.optim.AdamW8bit", "bitsandbytes.optim.AdamW8bit"), EXTRA),
    # With scale_parameter the step shrinks with the weight, and LoRA's B starts at zero.
    "adafactor": Alias(
        ("transformers.optimization.Adafactor",),
        defaults={"scale_parameter": False, "relative_step": False, "warmup_init": False},
    ),
    "came": Alias(("came_pytorch.CAME",), "pip install came-pytorch"),
    "lion": Alias(("lion_pytorch.Lion", "bitsandbytes.optim.Lion"), "pip install lion-pytorch"),
    # match_rms_adamw gives updates of AdamW's size, so one learning rate serves both halves.
    "muon": Alias(
        ("torch.optim.Muon",), 'pip install "torch>=2.9"', {"adjust_lr_fn": "match_rms_adamw"}
    ),
    "prodigy": Alias(
        ("prodigyopt.Prodigy",), EXTRA, {"use_bias_correction": True, "safeguard_warmup": True}
    ),
    "schedulefree": Alias(("schedulefree.AdamWScheduleFree",), EXTRA),
    "sgd": Alias(("torch.optim.SGD",), defaults={"momentum": 0.9}),
}


class Paired(Optimizer):
    """Several optimizers over disjoint parameters, stepped, saved and scheduled as one."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        """Share the parts' parameter groups, so that a scheduler reaches all of them."""
        self.parts = tuple(parts)
        super().__init__([group for part in parts for group in part.param_groups], {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step every part; returns what the closure returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """One state a part."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore every part; ValueError when the state is of another optimizer."""
        states = state_dict.get("parts", [])
        if len(states) != len(self.parts):
            raise ValueError(
                f"the saved optimizer has {len(states)} parts, this one {len(self.parts)}: it was"
                " saved with another `optimizer.name`"
            )
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def build(parameters: Mapping[str, nn.Parameter], spec: OptimizerSpec) -> Optimizer:
    """Build the optimizer `spec` names over named, trainable parameters.

    Raises BadOptimizer for an unknown name (with the nearest alias), a package that is not there
    (with the pip line), an option the class does not take (with those it takes), no parameters.
    """
    if not parameters:
        raise BadOptimizer("optimizer: there is nothing to train, no parameter was given")
    kind = _find(spec.name, on_gpu=any(p.is_cuda for p in parameters.values()))
    options = dict(_defaults(spec.name, parameters))
    options |= spec.options
    if spec.plus and not any(map(B.search, parameters)):
        raise BadOptimizer(
            f"optimizer.lora_plus = {spec.plus:g}: this adapter has no A and B (loha, lokr); leave"
            " it out, or take lora or dora"
        )
    if spec.name == "prodigy" and spec.lr < 0.1:
        log.warning(
            "optimizer: prodigy finds its own step size and wants lr = 1, not %g: it will"
            " hardly move",
            spec.lr,
        )
    if spec.name == "muon":
        return _muon(kind, parameters, spec, options)
    return _construct(kind, parameters, spec, options)


def _group_parameters(
    parameters: Mapping[str, nn.Parameter], spec: OptimizerSpec
) -> list[dict[str, Any]]:
    """One group, or with LoRA+ two: B at its own rate, after the rest."""
    if not spec.plus:
        return [{"params": list(parameters.values())}]
    rest = [p for name, p in parameters.items() if not B.search(name)]
    highs = [p for name, p in parameters.items() if B.search(name)]
    groups: list[dict[str, Any]] = [{"params": rest}, {"params": highs, "lr": spec.lr * spec.plus}]
    return [group for group in groups if group["params"]]


def _defaults(name: str, parameters: Mapping[str, nn.Parameter]) -> Mapping[str, Any]:
    if name == "adamw":
        # One fused kernel instead of a dozen small ones a tensor: LoRA is hundreds of tensors.
        return {"fused": all(p.device.type in ("cpu", "cuda") for p in parameters.values())}
    return ALIASES[name].defaults if name in ALIASES else {}


def _find(name: str, *, on_gpu: bool = False) -> type[Optimizer]:
    """The class an alias or import path stands for."""
    if name in ALIASES:
        alias = ALIASES[name]
        # bitsandbytes is the faster one on CUDA and needs it; torchao runs anywhere.
        paths = sorted(alias.paths, key=lambda path: path.startswith("bitsandbytes") != on_gpu)
        installed = [path for path in paths if find_spec(path.partition(".")[0])]
        for path in installed:
            module, _, attribute = path.rpartition(".")
            if hasattr(import_module(module), attribute):
                return _import(path)
        packages = " or ".join(sorted({path.partition(".")[0] for path in alias.paths}))
        raise BadOptimizer(f"optimizer {name!r} needs {packages}: {alias.install}")
    if "." not in name:
        raise BadOptimizer(f"no optimizer is named {name!r}{suggest(name, list(ALIASES))}")
    if not all(part.isidentifier() for part in name.split(".")):
        raise BadOptimizer(f"optimizer {name!r} is no import path; write package.module.Class")
    return _import(name)


def _import(path: str) -> type[Optimizer]:
    module_name, _, attribute = path.rpartition(".")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise BadOptimizer(
            f"optimizer {path!r}: there is no module {error.name!r}; install the package, or take"
            f" one of {', '.join(sorted(ALIASES))}"
        ) from error
    except Exception as error:  # whatever running a module may raise
        reason = str(error).partition("\n")[0][:200]
        raise BadOptimizer(
            f"optimizer {path!r}: {module_name} cannot be imported"
            f" ({type(error).__name__}: {reason})"
        ) from error
    kind = getattr(module, attribute, None)
    if not (isinstance(kind, type) and issubclass(kind, Optimizer)):
        classes = [
            key
            for key, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, Optimizer) and value is not Optimizer
        ]
        raise BadOptimizer(
            f"optimizer {path!r}: {module_name} has no optimizer class {attribute!r}"
            + (suggest(attribute, classes) if classes else "")
        )
    return kind


def _list_arguments(kind: type[Optimizer]) -> tuple[list[str], bool]:
    """Names of the class's arguments besides the parameters, and whether it takes any other."""
    signature = list(inspect.signature(kind).parameters.values())[1:]
    names = [p.name for p in signature if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    return names, any(p.kind is p.VAR_KEYWORD for p in signature)


def _construct(
    kind: type[Optimizer],
    parameters: Mapping[str, nn.Parameter],
    spec: OptimizerSpec,
    options: Mapping[str, Any],
) -> Optimizer:
    accepted, anything = _list_arguments(kind)
    unknown = [name for name in options if name not in accepted and not anything]
    if unknown:
        raise BadOptimizer(
            f"optimizer.options: {kind.__name__} takes no {unknown[0]!r}"
            f"{suggest(unknown[0], accepted)} (it takes: {', '.join(accepted)})"
        )
    arguments = {"lr": spec.lr, "weight_decay": spec.weight_decay}
    for name, value in arguments.items():
        if name not in accepted and not anything:
            log.warning("optimizer: %s takes no %s, %g is ignored", kind.__name__, name, value)
    arguments = {name: value for name, value in arguments.items() if name in accepted or anything}
    if spec.plus and "lr" not in arguments:
        raise BadOptimizer(
            f"optimizer.lora_plus = {spec.plus:g}: {kind.__name__} takes no learning rate, so B"
            " cannot have another one; leave optimizer.lora_plus out"
        )
    try:
        return kind(_group_parameters(parameters, spec), **(arguments | dict(options)))
    except (TypeError, ValueError) as error:
        raise BadOptimizer(f"optimizer {spec.name!r}: {kind.__name__} says: {error}") from error


def _muon(
    kind: type[Optimizer],
    parameters: Mapping[str, nn.Parameter],
    spec: OptimizerSpec,
    options: dict[str, Any],
) -> Optimizer:
    """Muon over the matrices, AdamW (options in a table `adamw`) over the rest, such as DoRA's."""
    beside = options.pop("adamw", {})
    if not isinstance(beside, Mapping):
        raise BadOptimizer("optimizer.options: `adamw` is a table of AdamW's own options")
    matrices = {name: p for name, p in parameters.items() if p.ndim == 2}
    rest = {name: p for name, p in parameters.items() if p.ndim != 2}
    parts = []
    if matrices:
        parts.append(_construct(kind, matrices, spec, options))
    if rest:
        parts.append(_construct(torch.optim.AdamW, rest, spec, beside))
    return parts[0] if len(parts) == 1 else Paired(parts)


def mode(optimizer: Optimizer, training: bool) -> None:
    """Switch optimizers that keep two sets of weights (schedule-free); others are left alone.

    Schedule-free must be told before the first step. Going to evaluation and back rounds the
    weights: use `settle` for a look in the middle of training.
    """
    switch = getattr(optimizer, "train" if training else "eval", None)
    if callable(switch):
        switch()


@contextmanager
def settle(optimizer: Optimizer) -> Iterator[None]:
    """The weights that should be looked at or exported, inside; training's own, bit for bit, after.

    Only schedule-free optimizers keep the two apart; for any other this does nothing.
    """
    bare = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper has an idle `eval`
    if not callable(getattr(bare, "eval", None)):
        yield
        return
    parameters = [p for group in bare.param_groups for p in group["params"]]
    training = [group.get("train_mode", True) for group in bare.param_groups]
    kept = [p.detach().clone() for p in parameters]
    mode(bare, training=False)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
        for group, flag in zip(bare.param_groups, training, strict=True):
            group["train_mode"] = flag


def clip(parameters: Mapping[str, nn.Parameter], largest: float) -> float:
    """Scale gradients down to a joint 2-norm of `largest` (0: leave them); returns the norm before.

    Raises NonFinite, leaving the gradients as they are, when any of them is inf or NaN.
    """
    gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    if not gradients:
        return 0.0
    norm = float(get_total_norm(gradients.values()))
    if not math.isfinite(norm):
        bad = [name for name, grad in gradients.items() if not torch.isfinite(grad).all()]
        if bad:
            raise NonFinite(bad)
        # Squares overflow long before values do.
        norm = float(get_total_norm([grad.double() for grad in gradients.values()]))
    if 0 < largest < norm:
        clip_grads_with_norm_(parameters.values(), largest, torch.tensor(norm))
    return norm
