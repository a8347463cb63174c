"""Weights that come and go: block swap with its two streams, and experts that take turns."""

import time
from functools import partial
from typing import Any

import torch
from benchmarks.check_gpu.checking import Failed, Place, Skipped
from benchmarks.check_gpu.models import MIB, Trial, exact_attention, peak_of, same_step
from torch import nn

from frisket.adapters import lora
from frisket.families.blocks import blocks_of
from frisket.families.experts import Experts, experts_of
from frisket.families.quantise import PackageMissing, QuantiseKind, require

MODELS = (("wan", {"num_layers": 6}), ("flux", {}), ("stable_diffusion", {}))


def _swapped(place: Place, build: Any, count: int, **switches: Any) -> str:
    """Steps with block swap against the same steps without it, on the same device."""
    with exact_attention():
        trial = build()
        trial.fit(place, **switches)
        expected = trial.step(place)
        del trial
        trial = build()
        swaps = trial.fit(place, swap_blocks=count, **switches)
        said = [same_step("first step", trial.step(place), expected)]
        with torch.no_grad(), lora.frozen(trial.denoiser):  # as the prior's teacher looks
            trial.predict(place)
        # The order is known now: blocks come ahead on the other stream.
        said += [same_step("a later step", trial.step(place), expected) for _ in range(3)]
    for swap in swaps:
        if swap.inside:
            raise Failed(f"{swap.inside} bytes of swapped blocks are left on the device")
        if place.cuda and not all(waiting.is_pinned() for waiting in _waiting(swap)):
            raise Failed("weights wait in memory that is not page-locked")
    return said[-1]


def _waiting(swap: Any) -> list[Any]:
    return [waiting for group in swap.groups.values() for waiting in group.waiting]


def _everywhere(place: Place, **switches: Any) -> str:
    said = []
    for family, larger in MODELS if place.cuda else MODELS[:1]:  # the suite has the CPU's
        for kind in ("lora", "dora") if family == "wan" else ("lora",):
            many = len(blocks_of(Trial(family, **larger).denoiser))
            for count in sorted({1, many}):
                try:
                    result = _swapped(
                        place, partial(Trial, family, kind=kind, **larger), count, **switches
                    )
                except Failed as wrong:
                    raise Failed(f"{family}, {kind}, {count} of {many} blocks: {wrong}") from wrong
                said.append(f"{family} {kind} {count}/{many} {result}")
    return ", ".join(said)


def plain(place: Place) -> str:
    """Equal to no swap, a few models and numbers of blocks."""
    return _everywhere(place)


def checkpointing(place: Place) -> str:
    """The same with blocks that are computed again."""
    return _everywhere(place, checkpointing=True)


def ahead(place: Place) -> str:
    """Large blocks and slow work: the CPU asks far ahead of what the card has done.

    The weights must be right, and no more than two blocks may be on the card at any time.
    """
    layers, heads = (12, 8) if place.cuda else (4, 1)
    size = {"num_layers": layers, "num_attention_heads": heads, "attention_head_dim": 128}
    larger = {**size, "ffn_dim": 4096 if place.cuda else 64}

    def run(count: int) -> tuple[Any, Any, float]:
        trial = Trial("wan", **larger)
        trial.fit(place, checkpointing=True, swap_blocks=count)
        if place.cuda:
            for block in blocks_of(trial.denoiser).values():
                block.register_forward_pre_hook(lambda *_: torch.cuda._sleep(20_000_000))
        trial.step(place)
        result, peak = peak_of(place, lambda: [trial.step(place) for _ in range(3)][-1])
        block = next(iter(blocks_of(trial.denoiser).values()))
        frozen = [value for value in block.parameters() if not value.requires_grad]
        return result, peak, sum(value.numel() for value in frozen) * 4 / MIB

    with exact_attention():
        expected, alone, block = run(0)
        found, beside, _ = run(layers)
    said = same_step("the third step", found, expected)
    if not place.cuda:
        return f"{said}; memory needs a card"
    # `active` counts what the allocator may not hand out yet because a stream still uses it.
    extra = beside["active"] - alone["active"]
    place.numbers |= {"block_mib": block, "extra_mib": extra, "plain": alone, "swapped": beside}
    if extra > 2.2 * block:
        raise Failed(
            f"{extra:.0f} MiB of swapped weights were on the card at once, {extra / block:.1f}"
            f" blocks of {block:.0f} MiB: two are promised"
        )
    return f"{said}; {extra / block:.1f} of {layers} blocks on the card at most"


def float8(place: Place) -> str:
    """Layers that are widened in each call come and go narrow."""
    switches = {"checkpointing": True, "storage": "float8"}
    return _swapped(place, lambda: Trial("wan", num_layers=4), 4, **switches)


def quantised(place: Place, kind: QuantiseKind) -> str:
    """Packed weights go with their scales."""
    try:
        require(kind)
    except PackageMissing as missing:
        raise Skipped(str(missing)) from missing
    said = [
        _swapped(
            place,
            partial(Trial, "wan", quantised=kind, num_layers=4),
            4,
            quantise=kind,
            checkpointing=again,
        )
        for again in ((False, True) if kind == "nf4" else (True,))
    ]
    return " and ".join(said)


RANGES = {"high": (0.9, 0.95), "low": (0.3, 0.8)}


def _turns(place: Place, **switches: Any) -> str:
    """Both experts, in turns, against the CPU without any switch; the idle one is off the card."""
    here = Place(torch.device("cpu"), place.scratch)
    kind: QuantiseKind = switches.get("quantise", "none")
    plain_trial = Trial("wan", "2.2-t2v-a14b", quantised=kind)
    plain_trial.fit(here, quantise=kind)
    expected = {name: plain_trial.step(here, t) for name, t in RANGES.items()}
    trial = Trial("wan", "2.2-t2v-a14b", quantised=kind)
    trial.fit(place, **switches)
    limits = (1e-4, 1e-3) if kind == "none" else (1e-3, 5e-3)
    said = []
    for name in ("high", "low", "high", "high", "low"):
        said.append(same_step(name, trial.step(place, RANGES[name]), expected[name], limits))
        idle = {each: expert for each, expert in experts_of(trial.denoiser).items() if each != name}
        for other, expert in idle.items():
            frozen = [value for value in expert.parameters() if not value.requires_grad]
            whole = sum(value.numel() * value.element_size() for value in frozen)
            held = sum(
                value.untyped_storage().nbytes()
                for value in frozen
                if value.device.type == place.device.type
            )
            if place.cuda and held > 0.25 * whole:
                raise Failed(f"{other} has {held} of its {whole} bytes on the card while it rests")
    return said[-1]


def experts(place: Place) -> str:
    """Wan 2.2 A14B's two, and how fast large ones change places."""
    said = _turns(place)
    if not place.cuda:
        return said
    width, depth = 4096, 8
    models = {
        name: nn.Sequential(nn.Linear(1, 1), *(nn.Linear(width, width) for _ in range(depth)))
        for name in RANGES
    }
    both = Experts(models, {"high": (0.875, 1.0), "low": (0.0, 0.875)})
    both.requires_grad_(False).on(place.device)
    both.use("high")
    torch.cuda.synchronize()
    began = time.perf_counter()
    both.use("low")
    torch.cuda.synchronize()
    gib = 2 * 4 * width * width * depth / 2**30  # one goes, one comes
    place.numbers["move_gib_s"] = gib / (time.perf_counter() - began)
    return f"{said}; {place.numbers['move_gib_s']:.1f} GiB/s both ways"


def quantised_experts(place: Place) -> str:
    """Packed weights change places with their scales, and with block swap besides."""
    said = _turns(place, quantise="nf4")
    return f"{said}, with block swap {_turns(place, quantise='nf4', swap_blocks=2)}"


def swapped_experts(place: Place) -> str:
    """The same with block swap, and moved once more as Accelerate does for several cards."""
    said = _turns(place, swap_blocks=2, checkpointing=True)
    trial = Trial("wan", "2.2-t2v-a14b")
    trial.fit(place, swap_blocks=1)
    trial.denoiser.to(place.device)
    trial.step(place, RANGES["high"])
    return said
