"""A bench for the trainer: tiny models, drawn batches, and what a run left behind."""

import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from frisket.adapters import lora
from frisket.data.sample import Batch
from frisket.families.base import Source
from frisket.families.models.pocket.family import FAMILY
from frisket.losses.base import LossTerm
from frisket.losses.terms.denoise import Denoise
from frisket.losses.terms.prior import Prior
from frisket.masks.weights import RegionWeights
from frisket.training import optim, schedules
from frisket.training.distributed import assemble
from frisket.training.ema import Average
from frisket.training.interrupt import SIGNALS
from frisket.training.metrics_log import MetricsLog
from frisket.training.plan import Plan
from frisket.training.trainer import Trainer

GRID = FAMILY.variants["image"].grid
Terms = Mapping[str, tuple[LossTerm, float]]
OPEN: list[MetricsLog] = []
BOTH: Terms = {"denoise": (Denoise(), 1.0), "prior": (Prior(), 0.3)}


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def batch_of(number: int, *, empty: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(number)
    coverage = torch.zeros(2, 1, 1, 8, 8)
    if not empty:
        coverage[:, :, :, 2:6, 3:7] = 1
    return Batch(
        latents=torch.randn(2, 12, 1, 8, 8, generator=generator),
        conditioning=dict(FAMILY.embed(FAMILY.load_text(Source("image")), ["sks", "sks"])),
        coverage=coverage,
        masked=torch.tensor([True, True]),
        weight=torch.ones(2),
        names=("a", "b"),
        swapped=torch.tensor([False, False]),
    )


def stream(start: int) -> Iterator[Batch]:
    number = start
    while True:
        yield batch_of(number)
        number += 1


def trainer_of(
    folder: Path,
    *,
    terms: Terms = BOTH,
    dropout: float = 0.1,
    ema: float = 0.9,
    precision: str = "float32",
    **plan: object,
) -> Trainer:
    denoiser = FAMILY.tiny("image").denoiser
    assert denoiser is not None
    spec = lora.LoraSpec(rank=2, dropout=dropout, targets=FAMILY.lora_targets)
    lora.attach(denoiser, spec, seed=0)
    parameters = lora.trainable(denoiser)
    optimizer = optim.build(parameters, optim.OptimizerSpec("adamw", 1e-2))
    OPEN.append(MetricsLog(folder / "metrics.jsonl"))
    return Trainer(
        family=FAMILY,
        grid=GRID,
        denoiser=denoiser,
        parameters=parameters,
        objective=FAMILY.objective("image"),
        weights=RegionWeights({"subject": 1.0}),
        terms=terms,
        optimizer=optimizer,
        schedule=schedules.schedule(optimizer, schedules.Rates("cosine", steps=6, warmup=2)),
        batches=stream,
        plan=Plan(**({"steps": 6, "seed": 3} | plan)),  # type: ignore[arg-type]
        record=OPEN[-1],
        team=assemble(precision=precision, device="cpu"),
        average=Average(parameters, ema) if ema else None,
    )


def lines_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in lora.trainable(trainer.denoiser).items()}


def same(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.fixture
def heard() -> Iterator[None]:
    """Signals as an ordinary program has them: a suite in the background is started deaf."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in SIGNALS[1:]:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def bench() -> SimpleNamespace:
    """The functions of this file, for tests that cannot import it."""
    return SimpleNamespace(
        batch_of=batch_of,
        stream=stream,
        trainer_of=trainer_of,
        lines_of=lines_of,
        weights_of=weights_of,
        same=same,
    )
