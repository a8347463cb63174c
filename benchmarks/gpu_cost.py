"""Full-size, randomly initialised models on a GPU: a masked step against a plain one.

Weights are drawn straight on the device, layer by layer, so nothing is downloaded and the CPU needs
no memory for them. Each model is trained with the switches of its row. Seconds a step are medians;
*utilisation* is the model's own arithmetic (each product of the forward pass once, twice for its
input's gradient where the weight is frozen, attention three times; what checkpointing computes
again does not count) over the time and the card's dense bfloat16 rate; *busy* is the driver's own
share of time with a kernel running. What does not fit is left out and said.
`--tiny` runs the same code on the tiny models on the CPU: a proof of the script, no
measurement.
"""

import argparse
import gc
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from frisket.adapters import lora
from frisket.config.tree import Config
from frisket.families.base import FAMILIES, Source
from frisket.families.blocks import blocks_of
from frisket.families.experts import experts_of
from frisket.families.quantise import RECORD, layers_of, quantise_layer
from frisket.losses.base import weighted_mse
from frisket.runs.memory.conditioning_shapes import build_conditioning
from frisket.runs.memory.estimate import predict
from frisket.training import optim
from frisket.training.memory import plan as memory_plan

# Dense bfloat16 TFLOP/s, without sparsity, from the vendors' data sheets.
RATES = {
    "H200": 989.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "RTX 6000 Ada": 182.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
    "A10": 125.0,
}


@dataclass(frozen=True)
class Row:
    """One model and how it is trained."""

    name: str
    family: str
    variant: str
    size: tuple[int, int, int]  # frames, height, width
    memory: memory_plan.MemoryPlan
    tiny: str = ""  # the variant whose tiny parts stand in for it


NF4 = memory_plan.MemoryPlan(quantise="nf4", checkpointing=True)
PLAIN = memory_plan.MemoryPlan(checkpointing=True)
ROWS = (
    Row("Wan 2.2 5B", "wan", "2.2-ti2v-5b", (49, 704, 1280), PLAIN),
    Row("Wan 2.1 14B, nf4", "wan", "2.1-t2v-14b", (33, 480, 832), NF4),
    Row("Qwen-Image 20B, nf4", "qwen_image", "image", (1, 1024, 1024), NF4),
    Row("FLUX.1 12B", "flux", "dev", (1, 1024, 1024), PLAIN),
    Row("HunyuanVideo 13B", "hunyuan_video", "t2v", (33, 544, 960), PLAIN),
)


class Arithmetic(TorchFunctionMode):
    """Counts the multiplications and additions of attention, forward."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") == "scaled_dot_product_attention":
            given = dict(zip(("query", "key"), args, strict=False)) | (kwargs or {})
            query, key = given["query"], given["key"]
            self.total += 4.0 * query.numel() * key.shape[-2]
        return func(*args, **(kwargs or {}))


@contextmanager
def counted(denoiser: nn.Module) -> Iterator[Callable[[], float]]:
    """FLOP of a training step's products: given by the call after one forward pass inside."""
    seen = {"frozen": 0.0, "trained": 0.0}

    def look(layer: Any, given: tuple[Tensor, ...], _: Any) -> None:
        trained = any(value.requires_grad for value in layer.parameters())
        flop = 2.0 * given[0].numel() * layer.out_features
        seen["trained" if trained else "frozen"] += flop

    layers = [each for each in denoiser.modules() if isinstance(each, nn.Linear)]
    hooks = [each.register_forward_hook(look) for each in layers]
    with Arithmetic() as attention:
        yield lambda: 2 * seen["frozen"] + 3 * seen["trained"] + 3 * attention.total
    for hook in hooks:
        hook.remove()


def drawn(row: Row, device: torch.device, *, tiny: bool) -> nn.Module:
    """The denoiser with random weights on the device, quantised as its row says."""
    shelf = FAMILIES.load(row.family)
    dtype = torch.float32 if tiny else torch.bfloat16
    model: Any = shelf.tiny(row.variant).denoiser if tiny else None
    if tiny:
        model.to("meta")
    else:
        model = shelf.load_denoiser(Source(row.variant, device="meta", dtype=dtype))
    generator = torch.Generator(device).manual_seed(0)
    on_card = torch.cuda.current_device() if torch.cuda.is_available() and not tiny else None
    at = str(device) if on_card is None else f"cuda:{on_card}"  # as families do when they load
    kind = row.memory.quantise

    def fill(value: Tensor) -> Tensor:
        made = torch.empty(value.shape, dtype=value.dtype, device=device)
        drawn = made.is_floating_point()
        return made.normal_(0, 0.02, generator=generator) if drawn else made.zero_()

    for name, layer in layers_of(model).items() if kind != "none" else ():
        _materialise(layer, fill)
        parent, _, child = name.rpartition(".")
        narrow = quantise_layer(layer, kind, dtype, at).to(device)
        setattr(model.get_submodule(parent), child, narrow)
    setattr(model, RECORD, kind)
    for module in model.modules():
        _materialise(module, fill)
    return model.requires_grad_(False)


def _materialise(module: nn.Module, fill: Callable[[Tensor], Tensor]) -> None:
    for name, value in list(module._parameters.items()):
        if value is not None and value.is_meta:
            module._parameters[name] = nn.Parameter(fill(value), requires_grad=False)
    for name, value in list(module._buffers.items()):
        if value is not None and value.is_meta:
            module._buffers[name] = fill(value)
    for name, value in list(vars(module).items()):  # tables that are no buffers
        if isinstance(value, Tensor) and value.is_meta:
            setattr(module, name, torch.zeros(value.shape, dtype=value.dtype))


def told_of(row: Row, size: tuple[int, int, int], *, tiny: bool) -> dict[str, Tensor]:
    """What the denoiser is told, found on shapes alone: nothing on the device takes part in it."""
    shelf = FAMILIES.load(row.family)
    source = Source(row.variant, device="meta")
    shapes: Any = shelf.tiny(row.variant).denoiser if tiny else shelf.load_denoiser(source)
    given = build_conditioning(shelf, source, shapes.to("meta"), size, 1)
    return {
        name: torch.randn(value.shape, dtype=value.dtype) if value.is_meta else value
        for name, value in given.items()
    }


class Busy:
    """Percent of the time with a kernel running, from nvidia-smi; None where that does not run."""

    def __init__(self, device: torch.device) -> None:
        self.percent: float | None = None
        self._process: Any = None
        self._wanted = device.type == "cuda"

    def __enter__(self) -> "Busy":
        asked = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        if self._wanted:
            with suppress(OSError):
                self._process = subprocess.Popen(
                    [*asked, "-lms", "250"], stdout=subprocess.PIPE, text=True
                )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        lines = self._process.communicate()[0].split()
        read = [float(line) for line in lines if line.replace(".", "").isdigit()]
        if read:
            self.percent = statistics.median(read)


def steps(
    row: Row, denoiser: nn.Module, device: torch.device, size: tuple[int, int, int], **how: Any
) -> dict[str, Any]:
    """Seconds of plain and masked steps in turn, FLOP of one, and GiB at most while training.

    `how`: `count` steps of each, or fewer where `seconds` have passed; `tiny` models.
    """
    shelf = FAMILIES.load(row.family)
    card = shelf.variants[row.variant]
    lora.attach(denoiser, lora.LoraSpec(rank=16, targets=shelf.lora_targets), seed=0)
    memory_plan.apply(denoiser, row.memory, device=device)
    denoiser.train()
    given = {name: value.to(device) for name, value in told_of(row, size, tiny=how["tiny"]).items()}
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    parameters = lora.trainable(denoiser)
    optimizer = optim.build(parameters, optim.OptimizerSpec())
    clean = torch.randn(1, card.grid.channels, *card.grid.cells(*size), device=device)
    masked = torch.ones_like(clean[:, :1])
    masked[..., : masked.shape[-1] // 2] = 0
    objective = shelf.objective(row.variant)
    half = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")

    def step(weights: Tensor) -> None:
        t = torch.full((1,), 0.6, device=device)
        noisy, target = objective.corrupt(clean, torch.randn_like(clean), t)
        with half:
            prediction = shelf.predict(denoiser, noisy, t, given)
        weighted_mse(prediction, target, weights).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    cases = {"plain": torch.ones_like(masked), "masked": masked}
    with counted(denoiser) as flop, torch.no_grad(), half:
        shelf.predict(denoiser, clean, torch.full((1,), 0.6, device=device), given)
        work = flop()
    step(masked)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    start = time.perf_counter()
    with Busy(device) as busy:
        for turn in range(how["count"]):
            for name in list(cases) if turn % 2 else list(reversed(cases)):
                _wait(device)
                began = time.perf_counter()
                step(cases[name])
                _wait(device)
                seconds[name].append(time.perf_counter() - began)
            if time.perf_counter() - start > how.get("seconds", math.inf):
                break
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
    return {"seconds": seconds, "flop": work, "peak": peak, "busy": busy.percent}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def foretold(row: Row, size: tuple[int, int, int]) -> float:
    """GiB that the prediction says training takes."""
    memory = {
        "quantise": row.memory.quantise,
        "checkpointing": row.memory.checkpointing,
        "swap_blocks": row.memory.swap_blocks,
    }
    tree = {
        "model": {"family": row.family, "variant": row.variant, "dtype": "bfloat16"},
        "run": {"precision": "bfloat16"},
        "data": [{"clips": ".", "resolution": [size[2], size[1]], "frames": size[0]}],
        "memory": memory,
    }
    return predict(Config.model_validate(tree), prepare=False).training / 1024


class DoesNotFit(RuntimeError):
    """A row that is larger than what the card has free; the message says how large."""


def run(
    row: Row, device: torch.device, count: int, *, tiny: bool, seconds: float = math.inf
) -> dict[str, Any]:
    """All that is measured of a row; DoesNotFit where there is no room for it."""
    card = FAMILIES.load(row.family).variants[row.variant]
    grid = card.grid
    size = (1 + grid.temporal, 4 * grid.step, 4 * grid.step) if tiny else row.size
    size = size if card.video else (1, *size[1:])
    expected = 0.0 if tiny else foretold(row, size)
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0] / 2**30
        if expected > 0.95 * free:
            raise DoesNotFit(f"{expected:.0f} GiB predicted, {free:.0f} free")
    try:
        where = torch.device(memory_plan.load_device(row.memory, device))
        denoiser = drawn(row, where, tiny=tiny)
        blocks = sum(len(blocks_of(expert)) for expert in experts_of(denoiser).values())
        found = steps(row, denoiser, device, size, count=count, tiny=tiny, seconds=seconds)
    except torch.OutOfMemoryError as error:
        raise DoesNotFit(f"did not fit ({expected:.0f} GiB predicted)") from error
    rate = _rate(device)
    plain, masked = (statistics.median(found["seconds"][name]) for name in ("plain", "masked"))
    return {
        "size": size,
        "blocks": blocks,
        "plain": plain,
        "masked": masked,
        "utilisation": 100 * found["flop"] / plain / (rate * 1e12) if rate else None,
        "busy": found["busy"],
        "peak": found["peak"],
        "predicted": expected,
    }


def measure(row: Row, device: torch.device, count: int, *, tiny: bool) -> Sequence[str]:
    """One line of the table."""
    try:
        found = run(row, device, count, tiny=tiny)
    except DoesNotFit as error:
        return (row.name, f"left out: {error}", *["-"] * 7)
    shape = " x ".join(map(str, found["size"]))
    return (
        row.name,
        f"{shape}, {found['blocks']} blocks",
        f"{found['plain']:.3f}",
        f"{found['masked']:.3f}",
        f"{found['masked'] / found['plain']:.3f}",
        f"{found['utilisation']:.0f} %" if found["utilisation"] else "-",
        f"{found['busy']:.0f} %" if found["busy"] is not None else "-",
        f"{found['peak']:.1f}" if found["peak"] else "-",
        f"{found['predicted']:.1f}" if found["predicted"] else "-",
    )


def _rate(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((rate for card, rate in RATES.items() if card in name), None)


def machine(device: torch.device, *, tiny: bool) -> str:
    """What it ran on."""
    if tiny or device.type != "cuda":
        where = f"{platform.machine()} CPU, tiny models: a run of the script, no measurement"
    else:
        total = torch.cuda.get_device_properties(device).total_memory / 2**30
        where = f"{torch.cuda.get_device_name(device)}, {total:.0f} GiB"
    return f"{where}; torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--only", default="", help="models whose name holds this")
    parser.add_argument("--output", type=Path, help="write the table there as well")
    chosen = parser.parse_args()
    if not chosen.tiny and not torch.cuda.is_available():
        sys.exit("There is no CUDA GPU here. `--tiny` runs the script on the CPU.")
    device = torch.device("cpu" if chosen.tiny else "cuda")
    header = ("model", "F x H x W", "plain s", "masked s", "masked / plain", "utilisation")
    header = (*header, "busy", "peak GiB", "predicted GiB")
    lines = [f"{machine(device, tiny=chosen.tiny)}", ""]
    for cells in (header, ["---"] * len(header)):
        lines.append(f"| {' | '.join(cells)} |")
    sys.stdout.write("\n".join(lines) + "\n")
    for row in ROWS:
        if chosen.only not in row.name:
            continue
        line = f"| {' | '.join(measure(row, device, chosen.steps, tiny=chosen.tiny))} |"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        lines.append(line)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    if chosen.output:
        chosen.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
