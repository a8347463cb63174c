"""Tiny models with adapters, their inputs and one training step, here and on the card."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from benchmarks.check_gpu.checking import Failed, Place
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from frisket.adapters import lora
from frisket.families.base import FAMILIES, default_targets
from frisket.families.experts import experts_of
from frisket.families.quantise import QuantiseKind, quantise
from frisket.training.memory import plan as memory_plan

MIB = 2**20


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def off(found: Tensor, expected: Tensor) -> float:
    """Relative distance, in double precision on the CPU."""
    one, two = found.detach().double().cpu(), expected.detach().double().cpu()
    return float((one - two).norm() / two.norm().clamp_min(1e-30))


def agree(what: str, found: Tensor, expected: Tensor, limit: float) -> float:
    """The relative distance; Failed where it is above the limit (or shapes differ)."""
    if found.shape != expected.shape:
        raise Failed(f"{what}: shape {tuple(found.shape)}, expected {tuple(expected.shape)}")
    distance = off(found, expected)
    if not distance <= limit:
        raise Failed(f"{what}: off by {distance:.1e} (relative), at most {limit:.0e} allowed")
    return distance


def joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([each.detach().float().flatten().cpu() for each in tensors])


class Trial:
    """One tiny denoiser with an adapter off its start, and what it is told."""

    def __init__(
        self,
        family: str,
        variant: str = "",
        *,
        kind: str = "lora",
        dtype: torch.dtype = torch.float32,
        quantised: QuantiseKind = "none",
        **larger: Any,
    ) -> None:
        """`larger` replaces numbers of the tiny model's own configuration."""
        self.shelf: Any = FAMILIES.load(family)
        self.variant = variant or next(iter(self.shelf.variants))
        parts = self.shelf.tiny(self.variant)
        self.denoiser: nn.Module = parts.denoiser
        if larger:
            torch.manual_seed(0)
            config = {**self.denoiser.config, **larger}
            self.denoiser = type(self.denoiser).from_config(config)
        self.denoiser.to(dtype)
        for expert in experts_of(self.denoiser).values():
            quantise(expert, quantised, dtype=dtype, device="cpu")
        targets, dead = default_targets(self.shelf, self.variant)
        spec = lora.LoraSpec(kind=kind, rank=4, targets=targets, dead=dead)
        lora.attach(self.denoiser, spec, seed=0)
        with torch.no_grad():
            for index, value in enumerate(lora.trainable(self.denoiser).values()):
                value.add_(0.05 * drawn(*value.shape, seed=index))
        self.denoiser.train()
        grid = self.shelf.variants[self.variant].grid
        side = 4 * grid.patch
        self.noisy = drawn(2, grid.channels, 1, side, side)
        self.told = dict(self.shelf.embed(parts.text, ["a red fox on a wall", "b"]))

    def fit(self, place: Place, **switches: Any) -> list[Any]:
        """Move it to the place with these switches on."""
        return memory_plan.apply(
            self.denoiser, memory_plan.MemoryPlan(**switches), device=place.device
        )

    def predict(self, place: Place, t: Sequence[float] = (0.3, 0.8)) -> Tensor:
        """What the denoiser says at these noise levels."""
        given = {name: value.to(place.device) for name, value in self.told.items()}
        levels = torch.tensor(t, device=place.device)
        prediction: Tensor = self.shelf.predict(
            self.denoiser, self.noisy.to(place.device), levels, given
        )
        return prediction

    def step(self, place: Place, t: Sequence[float] = (0.3, 0.8)) -> tuple[Tensor, Tensor]:
        """Prediction and the adapter's gradients as one vector, both on the CPU."""
        prediction = self.predict(place, t)
        prediction.square().mean().backward()
        found = [
            torch.zeros_like(value) if value.grad is None else value.grad
            for value in lora.trainable(self.denoiser).values()
        ]
        self.denoiser.zero_grad(set_to_none=True)
        return prediction.detach().cpu(), joined(found)


@contextmanager
def exact_attention() -> Iterator[None]:
    """Attention written out: the fused kernels' backward passes add in any order."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def same_step(
    what: str,
    found: tuple[Tensor, Tensor],
    expected: tuple[Tensor, Tensor],
    limits: tuple[float, float] = (1e-5, 1e-5),
) -> str:
    """Prediction and gradients agree; says how closely."""
    distances = [
        agree(f"{what}: {name}", *pair, limit)
        for name, pair, limit in zip(
            ("prediction", "gradients"), zip(found, expected, strict=True), limits, strict=True
        )
    ]
    if not float(expected[1].norm()) > 0:
        raise Failed(f"{what}: there are no gradients to compare")
    return "bit equal" if not any(distances) else f"within {max(distances):.0e}"


def bytes_on(module: nn.Module, device: torch.device) -> int:
    """Bytes of the frozen tensors of a module on a kind of device, each storage once."""
    from frisket.families.blocks import plain_tensors  # noqa: PLC0415

    values = [value for value in module.parameters() if not value.requires_grad]
    tensors = [each for value in [*values, *module.buffers()] for each in plain_tensors(value)]
    sizes = {
        each.untyped_storage()._cdata: each.untyped_storage().nbytes()
        for each in tensors
        if each.device.type == device.type
    }
    return sum(sizes.values())


def peak_of(place: Place, run: Any) -> tuple[Any, Mapping[str, float]]:
    """What a call gives, and the MiB at most: asked for, and held back by the allocator as well."""
    if not place.cuda:
        return run(), {}
    torch.cuda.synchronize(place.device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(place.device)
    before = torch.cuda.memory_allocated(place.device)
    given = run()
    torch.cuda.synchronize(place.device)
    seen = torch.cuda.memory_stats(place.device)
    return given, {
        "allocated": (seen["allocated_bytes.all.peak"] - before) / MIB,
        "active": (seen["active_bytes.all.peak"] - before) / MIB,
        "reserved": seen["reserved_bytes.all.peak"] / MIB,
    }
