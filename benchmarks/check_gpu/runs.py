"""Whole runs of `frisket train` on a tiny model: as on the CPU, resumed, scaled, and let go of."""

import gc
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.check_gpu.checking import Failed, Place, Skipped
from benchmarks.check_gpu.models import exact_attention, joined, off
from torch import Tensor

try:
    from accelerate.state import AcceleratorState

    from frisket.config.tree import Config
    from frisket.families.base import FAMILIES
    from frisket.media.frames import write_image
    from frisket.pocket.world import draw, random_creature
    from frisket.recipes.train import train
except ImportError as error:  # a machine that was given what the models need, not all of Frisket
    MISSING = str(error)
else:
    MISSING = ""

FAMILY, VARIANT = "flux", "dev"


def _world(folder: Path) -> None:
    """Three pictures with masks, and a tiny model on disk; made once a check."""
    if (folder / "model").exists():
        return
    for name in ("clips", "masks"):
        (folder / name).mkdir()
    for number in range(3):
        painted, planes = draw(random_creature(np.random.RandomState(number)), 64)
        cover = (np.clip(sum(planes.values()), 0, 1) * 255).round().astype(np.uint8)
        write_image(folder / "clips" / f"{number}.png", torch.from_numpy(painted.copy()))
        mask = torch.from_numpy(cover)[..., None].repeat(1, 1, 3)
        write_image(folder / "masks" / f"{number}.png", mask)
    shelf = FAMILIES.load(FAMILY)
    shelf.save(shelf.tiny(VARIANT), folder / "model")


def _run(place: Place, name: str, device: str = "", **sections: Any) -> Path:
    """Train, and give the run's folder; several runs of one process may differ in precision."""
    if MISSING:
        raise Skipped(f"this needs all that Frisket imports: {MISSING}")
    _world(place.scratch)
    output = place.scratch / name
    asked = sections.pop("run", {})
    tree: dict[str, Any] = {
        "model": {
            "family": FAMILY,
            "variant": VARIANT,
            "source": str(place.scratch / "model"),
            "device": device or place.device.type,
        },
        "data": [
            {
                "clips": place.scratch / "clips",
                "masks": place.scratch / "masks",
                "caption": "sks",
                "resolution": 64,
            }
        ],
        "lora": {"rank": 2},
        "optimizer": {"name": "sgd", "lr": 1e-1},
        "losses": {"denoise": 1.0, "prior": 0.3},
        "run": {"output": output, "cache": place.scratch / f"cache-{name}", "steps": 4} | asked,
    }
    AcceleratorState._reset_state(reset_partial_state=True)
    train(Config.model_validate(tree | sections))
    return output


def _lora(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file  # noqa: PLC0415

    return load_file(folder / "lora.safetensors")


def _lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if "loss" in line]


def _apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Relative distance of two adapters, all tensors together: some hardly move."""
    if one.keys() != other.keys():
        raise Failed("the two runs wrote other keys")
    return off(joined([one[name] for name in one]), joined([other[name] for name in one]))


def like_the_cpu(place: Place) -> str:
    """Prepare and train on the card and on the CPU, the same seed, in float32."""
    on_card, on_cpu = _run(place, "card"), _run(place, "cpu", "cpu")
    losses = [
        abs(one["loss"] - other["loss"]) / abs(other["loss"])
        for one, other in zip(_lines(on_card), _lines(on_cpu), strict=True)
    ]
    distance = _apart(_lora(on_card), _lora(on_cpu))
    place.numbers |= {"loss": max(losses), "adapter": distance}
    if max(losses) > 1e-3 or distance > 1e-2:
        raise Failed(f"losses differ by {max(losses):.1e}, adapters by {distance:.1e}")
    return f"losses within {max(losses):.0e}, adapters within {distance:.0e}"


def _again(place: Place, name: str) -> float:
    """How far a run that goes on after its second step ends from one that never stopped."""
    # Checkpoints hold all there is to know; the other settings are the defaults of users.
    adam = {"optimizer": {"name": "adamw", "lr": 1e-2, "ema": 0.9}}
    whole = _run(place, name, run={"save_every": 2}, **adam)
    expected = _lora(whole)
    shutil.rmtree(whole / "checkpoints" / "step-00000004")
    (whole / "lora.safetensors").unlink()
    return _apart(_lora(_run(place, name, run={"save_every": 2}, **adam)), expected)


def resumed(place: Place) -> str:
    """2 + 2 steps are 4 steps; and what the card's fast kernels make of the same run twice."""
    with exact_attention(), _deterministic():
        exact = _again(place, "exact")
    place.numbers["deterministic"] = exact
    if exact:
        raise Failed(f"with deterministic kernels the resumed run ends {exact:.1e} away")
    adam = {"optimizer": {"name": "adamw", "lr": 1e-2, "ema": 0.9}}
    first, second = (_lora(_run(place, name, **adam)) for name in ("first", "second"))
    place.numbers["twice"] = twice = _apart(second, first)
    place.numbers["resumed"] = again = _again(place, "usual")
    if again and not twice:
        raise Failed(f"the same run twice is bit equal, resumed it ends {again:.1e} away")
    usual = "bit equal" if not twice else f"{twice:.0e} apart, resumed {again:.0e}"
    return f"bit equal with deterministic kernels; as usual the same run twice is {usual}"


@contextmanager
def _deterministic() -> Iterator[None]:
    # Warnings only: it is the result that is looked at. CUBLAS_WORKSPACE_CONFIG is set already.
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def _scaled_from(start: float) -> Iterator[None]:
    """Loss scales begin so high that the first steps overflow."""
    scaler: Any = torch.amp.GradScaler
    original = scaler.__init__

    def begin(self: Any, *args: Any, **given: Any) -> None:
        original(self, *args, **{**given, "init_scale": start})

    scaler.__init__ = begin
    try:
        yield
    finally:
        scaler.__init__ = original


def scaled(place: Place) -> str:
    """Steps that overflow under float16 move nothing: not weights, not moments, not the rate."""
    place.need_card("float16 training needs a card (Accelerate refuses it elsewhere)")
    steps, rate = 24, 1e-2
    adam = {"name": "adamw", "lr": rate, "schedule": "linear"}
    with _scaled_from(2.0**36):
        run = {"precision": "float16", "steps": steps}
        folder = _run(place, "scaled", run=run, optimizer=adam)
    lines = _lines(folder)
    norms = [line["grad_norm"] for line in lines]  # of a step that overflowed there is none
    moving = [norm is not None and math.isfinite(norm) for norm in norms]
    skipped = moving.count(False)
    newest = sorted((folder / "checkpoints").glob("step-*"))[-1]
    state = torch.load(newest / "state.pt", weights_only=True, map_location="cpu")
    moved = {int(each["step"]) for each in state["optimizer"]["state"].values()}
    place.numbers |= {"steps": steps, "skipped": skipped, "scale": state["scaler"]["scale"]}
    if not 0 < skipped < steps:
        raise Failed(f"{skipped} of {steps} steps overflowed: the check could not provoke it")
    if moved != {steps - skipped}:
        raise Failed(f"{skipped} of {steps} steps overflowed, yet the optimizer made {moved}")
    rates = [line["lr"] for line, moves in zip(lines, moving, strict=True) if moves]
    wanted = [rate * (1 - index / steps) for index in range(len(rates))]
    if not np.allclose(rates, wanted, rtol=1e-6):
        raise Failed(
            f"the rates of the steps made were {rates}, the first {len(rates)} are {wanted}"
        )
    return f"{skipped} of {steps} steps left out, {steps - skipped} made"


def averaged_teacher(place: Place) -> str:
    """Under autocast the student is not its teacher: the prior's term is not 0."""
    folder = _run(
        place,
        "averaged",
        run={"precision": "bfloat16", "steps": 8},
        optimizer={"name": "adamw", "lr": 1e-2, "ema": 0.95},
        losses={"denoise": 1.0, "prior": {"strength": 1.0, "teacher": "ema"}},
    )
    terms = [line["prior"] for line in _lines(folder)]
    if not any(terms[2:]):
        raise Failed(f"the prior's term is 0 in every step {terms}: teacher and student are one")
    return f"prior {terms[-1]:.1e} after 8 steps"


def let_go(place: Place) -> str:
    """After prepare and train nothing of text encoder, VAE or denoiser is left on the card."""
    place.need_card("it is the card's memory that is looked at")
    held = []
    for name in ("", "once", "twice"):
        if name:
            _run(place, name)
        gc.collect()
        torch.cuda.synchronize()
        torch._C._cuda_clearCublasWorkspaces()  # torch keeps those for the next product
        held.append(torch.cuda.memory_allocated(place.device) / 1024)
    place.numbers["held_kib"] = held
    # The tiny parts are some hundred KiB: what is left of one shows.
    if held[2] - held[1] > 16 or held[1] - held[0] > 64:
        raise Failed(f"KiB on the card before, after one run and after two: {held}")
    return f"{held[2] - held[0]:.0f} KiB left after two runs"
