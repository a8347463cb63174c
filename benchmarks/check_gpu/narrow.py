"""Weights in fewer bits, against the same weights made wide again, and how much they take."""

from typing import Any

import torch
from benchmarks.check_gpu.checking import Failed, Place, Skipped
from benchmarks.check_gpu.models import Trial, agree, bytes_on, drawn, off, same_step
from torch import Tensor, nn

from frisket.families.blocks import blocks_of
from frisket.families.quantise import PackageMissing, QuantiseKind, quantise_layer, require
from frisket.training.memory import precision

SIZE = (768, 1024)  # out, in
SHARE = {"nf4": 0.30, "int8": 0.55, "fp8": 0.55}  # of bfloat16, at most
ROUNDED = {"nf4": 0.15, "int8": 0.02, "fp8": 0.05}  # distance from the weights they were, at most


def _layer(kind: QuantiseKind, device: torch.device) -> tuple[nn.Linear, Any]:
    """A layer in bfloat16, and the same in `kind`."""
    try:
        require(kind)
    except PackageMissing as missing:
        raise Skipped(str(missing)) from missing
    layers = []
    for _ in range(2):
        layer = nn.Linear(SIZE[1], SIZE[0]).requires_grad_(False)
        with torch.no_grad():
            layer.weight.copy_(0.02 * drawn(*SIZE))
            layer.bias.copy_(0.1 * drawn(SIZE[0], seed=1))
        layers.append(layer.to(device, torch.bfloat16))
    narrow = quantise_layer(layers[1], kind, torch.bfloat16, str(device))
    return layers[0], narrow.requires_grad_(False).to(device)


def wide(layer: Any) -> Tensor:
    """The weights a narrow layer stands for, in bfloat16."""
    if getattr(layer.weight, "quant_state", None) is not None:
        import bitsandbytes  # noqa: PLC0415 - only where it is installed

        found = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        return found.to(torch.bfloat16)
    return layer.weight.dequantize().to(torch.bfloat16)


def _answer(layer: nn.Module, given: Tensor) -> tuple[Tensor, Tensor]:
    """Its answer, and the gradient that reaches its input."""
    given = given.detach().clone().requires_grad_()
    answer = layer(given)
    answer.float().square().mean().backward()
    assert given.grad is not None
    return answer.detach(), given.grad


def quantised(place: Place, kind: QuantiseKind) -> str:
    """One layer against its own weights made wide; a whole model against the CPU; bytes."""
    plain, narrow = _layer(kind, place.device)
    rounding = agree("the weights", wide(narrow), plain.weight, ROUNDED[kind])
    same = nn.Linear(SIZE[1], SIZE[0], dtype=torch.bfloat16, device=place.device)
    with torch.no_grad():
        same.weight.copy_(wide(narrow))
        same.bias.copy_(plain.bias)
    same.requires_grad_(False)
    given = drawn(2, 37, SIZE[1], seed=2).to(place.device, torch.bfloat16)
    far = [
        agree(what, *pair, 2e-2)
        for what, pair in zip(
            ("the answer", "the input's gradient"),
            zip(_answer(narrow, given), _answer(same, given), strict=True),
            strict=True,
        )
    ]
    with torch.no_grad():  # one row and no gradient: another kernel
        far.append(agree("the answer to one row", narrow(given[:1, :1]), same(given[:1, :1]), 2e-2))
    share = bytes_on(narrow, place.device) / bytes_on(plain, place.device)
    place.numbers |= {"share": share, "rounding": rounding}
    if share > SHARE[kind]:
        raise Failed(f"{share:.2f} of the bytes of bfloat16, {SHARE[kind]:.2f} at most expected")
    model = _whole(place, kind)
    return f"{share:.2f} of the bytes, layer within {max(far):.0e}, model {model}"


def _whole(place: Place, kind: QuantiseKind) -> str:
    """A training step of a whole model, the card against the CPU."""
    here = Place(torch.device("cpu"), place.scratch)
    switches = {"quantise": kind, "checkpointing": kind != "nf4"}
    trial = Trial("wan", quantised=kind)
    trial.fit(here, **switches)
    expected = trial.step(here)
    trial = Trial("wan", quantised=kind)
    trial.fit(place, **switches)
    limits = (1e-3, 5e-3) if kind == "nf4" else (2e-2, 5e-2)
    return same_step(f"a model in {kind}", trial.step(place), expected, limits)


def moved(place: Place) -> str:
    """Weights packed on the card mean the same on the CPU (where block swap lets them wait)."""
    place.need_card("there is nothing to move from")
    _, narrow = _layer("nf4", place.device)
    given = drawn(3, 5, SIZE[1], seed=2).to(torch.bfloat16)
    there = _answer(narrow, given.to(place.device))
    on_card = wide(narrow)
    here = narrow.to("cpu")
    agree("the weights", wide(here), on_card, 1e-6)
    worst = max(
        agree("on the CPU", *pair, 2e-2) for pair in zip(_answer(here, given), there, strict=True)
    )
    back = here.to(place.device)
    agree("the weights, back on the card", wide(back), on_card, 0.0)
    return f"within {worst:.0e}, and back bit for bit"


def float8(place: Place) -> str:
    """Layer-wise storage is the plain path on rounded weights, in half the bytes of bfloat16."""
    trial = Trial("wan", num_layers=4)
    trial.fit(place, checkpointing=True, storage="float8")
    found = trial.step(place)
    kept = {name: value.dtype for name, value in trial.denoiser.named_parameters()}
    rounded = Trial("wan", num_layers=4)
    with torch.no_grad():
        for name, value in rounded.denoiser.named_parameters():
            if kept[name] == precision.FLOAT8:
                value.copy_(value.to(precision.FLOAT8).float())
    whole = sum(bytes_on(block, value.device) for block in blocks_of(rounded.denoiser).values())
    rounded.fit(place, checkpointing=True)
    said = same_step("float8", found, rounded.step(place), (1e-5, 1e-4))
    held = sum(bytes_on(block, place.device) for block in blocks_of(trial.denoiser).values())
    place.numbers["share_of_float32"] = held / whole
    if held > 0.5 * whole:
        raise Failed(f"the blocks take {held / whole:.2f} of float32's bytes")
    distance = off(found[0], Trial("wan", num_layers=4).predict(place_of_cpu(place)))
    return f"{said}; {held / whole:.2f} of float32's bytes, {distance:.0e} from the plain model"


def place_of_cpu(place: Place) -> Place:
    return Place(torch.device("cpu"), place.scratch)
