"""Everything a run does to fit its card, applied to a denoiser in the one order that works."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from frisket.families.experts import Experts, experts_of
from frisket.families.quantise import QuantiseKind, find_kind, require
from frisket.training.memory import precision
from frisket.training.memory.offload import BlockOffload, Group, ignore_in_ddp, swap


class CannotFit(ValueError):
    """Switches that exclude each other, or that this model cannot do; the message says the fix."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The `[memory]` of a configuration, in plain values."""

    quantise: QuantiseKind = "none"
    storage: Literal["same", "float8"] = "same"
    checkpointing: bool = False
    swap_blocks: int = 0
    tile_vae: bool = False
    compile: bool = False
    attention: str = ""


def check(plan: MemoryPlan, *, adapter: str = "lora") -> None:
    """Raise CannotFit for switches that do not go together, PackageMissing for what is not here.

    `adapter` is the kind of adapter that is trained. Costs nothing: to be called before any work.
    """
    for wrong, message in _conflicts(plan, adapter):
        if wrong:
            raise CannotFit(message)
    try:
        precision.check_attention(plan.attention)
    except ValueError as error:
        raise CannotFit(str(error)) from error
    require(plan.quantise)


def _conflicts(plan: MemoryPlan, adapter: str) -> Sequence[tuple[bool, str]]:
    narrow = plan.quantise in ("int8", "fp8")
    return (
        (
            plan.storage == "float8" and plan.quantise != "none",
            f'memory.storage = "float8" and memory.quantise = "{plan.quantise}" both hold the same'
            ' weights: set memory.storage = "same", or memory.quantise = "none"',
        ),
        (
            plan.storage == "float8" and not plan.checkpointing,
            'memory.storage = "float8" saves nothing without gradient checkpointing (autograd keeps'
            " the widened weight of every layer until its backward pass): set"
            " memory.checkpointing = true",
        ),
        (
            narrow and not plan.checkpointing,
            f'memory.quantise = "{plan.quantise}" saves nothing without gradient checkpointing'
            " (autograd keeps the widened weight of every layer until its backward pass): set"
            ' memory.checkpointing = true, or memory.quantise = "nf4"',
        ),
        (
            plan.compile and plan.swap_blocks > 0,
            "memory.compile and memory.swap_blocks do not go together (a compiled block cannot let"
            " its weights come and go): set one of them off",
        ),
        (
            plan.compile and plan.storage == "float8",
            'memory.compile and memory.storage = "float8" do not go together (the weights change'
            ' their type in every call): set memory.compile = false, or memory.storage = "same"',
        ),
        (
            plan.quantise == "nf4" and adapter in ("loha", "lokr"),
            f'memory.quantise = "nf4" does not go with lora.kind = "{adapter}" (peft shapes its'
            ' update like the packed weight): set lora.kind = "lora" or "dora", or'
            ' memory.quantise = "int8"',
        ),
    )


def load_device(plan: MemoryPlan, device: torch.device | str) -> str:
    """Where a denoiser is to be loaded: on the CPU where some of it is to wait there.

    `apply` then moves it, so that a model larger than the card never is on it as a whole.
    """
    return "cpu" if plan.swap_blocks else str(device)


def apply(
    denoiser: nn.Module, plan: MemoryPlan, *, device: torch.device | str
) -> list[BlockOffload]:
    """Put a loaded denoiser with its adapter on the device, with all switches of the plan on.

    To be called once: after `lora.attach` (and the adapter's file), before the optimizer and
    DistributedDataParallel; nothing needs to call `denoiser.to(device)` any more, and with block
    swap nothing may. Returns the swaps, one for each expert, for who wants to look at them.
    CannotFit where the model lacks what is asked of it.
    """
    check(plan, adapter=_adapter(denoiser))
    _check_quantised(denoiser, plan.quantise)
    there = torch.device(device)
    compute = _compute_dtype(denoiser)
    swaps: list[BlockOffload] = []
    try:
        precision.check_attention_dtype(plan.attention, compute, there)
        if plan.checkpointing:
            precision.checkpoint_blocks(denoiser)
        precision.share_inputs(denoiser)
        precision.set_attention(denoiser, plan.attention)
        if plan.storage == "float8":
            precision.store_float8(denoiser, compute)
        if plan.swap_blocks:
            swaps = _swap(denoiser, plan.swap_blocks, there)
        else:
            denoiser.to(there)
        if plan.compile:
            precision.compile_blocks(denoiser)
    except CannotFit:
        raise
    except ValueError as error:
        raise CannotFit(str(error)) from error
    return swaps


def _swap(denoiser: nn.Module, count: int, device: torch.device) -> list[BlockOffload]:
    """Swap in every expert; of several experts only the one in use has its other weights there."""
    experts = experts_of(denoiser)
    bare: Any = getattr(denoiser, "module", denoiser)
    if not isinstance(bare, Experts):
        return [swap(bare, count, device)]
    bare.device, bare.swapped = None, True  # it would move weights that have no storage
    swaps: dict[str, BlockOffload] = {}
    rests: dict[str, Group] = {}
    for name, expert in experts.items():
        swaps[name] = swap(expert, count, device)
        rests[name] = Group([expert], device, but=swaps[name].tensors, room=swaps[name].room)

        def use(*_: Any, name: str = name) -> None:
            for other, rest in rests.items():
                if other != name:
                    swaps[other].leave()  # sampling leaves its last block inside
                    rest.leave()
            rests[name].fetch()

        expert.register_forward_pre_hook(use)
        ignore_in_ddp(bare, [f"experts.{name}"])
    return list(swaps.values())


def _check_quantised(denoiser: nn.Module, wanted: QuantiseKind) -> None:
    for name, expert in experts_of(denoiser).items():
        kind = find_kind(expert)
        if kind != wanted:
            raise CannotFit(
                f'memory.quantise = "{wanted}", but {type(expert).__name__} {name} was loaded'
                f' as "{kind}": this family does not quantise its weights; set memory.quantise ='
                f' "{kind}"'
            )


def _adapter(denoiser: nn.Module) -> str:
    specs = [getattr(expert, "frisket_spec", None) for expert in experts_of(denoiser).values()]
    return next((spec.kind for spec in specs if spec is not None), "lora")


def _compute_dtype(denoiser: nn.Module) -> torch.dtype:
    """The precision of most of the frozen weights."""
    counts: dict[torch.dtype, int] = {}
    for value in denoiser.parameters():
        if value.is_floating_point() and not value.requires_grad:
            counts[value.dtype] = counts.get(value.dtype, 0) + value.numel()
    return max(counts, key=lambda dtype: counts[dtype], default=torch.float32)
