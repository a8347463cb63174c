"""However a step's clips are dealt out to micro-batches and ranks, its gradient is of all."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from frisket.data.sample import Batch
from frisket.families.base import CLEAN_MASK
from frisket.losses.base import LossTerm
from frisket.losses.terms.denoise import Denoise
from frisket.losses.terms.prior import Prior
from frisket.losses.weighting import Weighed, Weighting, pool, weigh
from frisket.masks.weights import RegionWeights
from frisket.training.plan import MicroBatch
from frisket.training.trainer import Trainer

TERMS: dict[str, Mapping[str, tuple[LossTerm, float]]] = {
    "denoise": {"denoise": (Denoise(), 1.0)},
    "prior": {"denoise": (Denoise(), 1.0), "prior": (Prior(), 0.5)},
    "alone": {"denoise": (Denoise(), 1.0), "prior": (Prior(threshold=0.5, alone=True), 0.5)},
}


def join(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def ragged(bench: SimpleNamespace) -> list[Batch]:
    """Micro-batches of 2, 2 and 1 clips whose masks differ in area; one cell column is clean."""
    batches = []
    for number in range(3):
        batch = bench.batch_of(number)
        coverage = batch.coverage.clone()
        coverage[:, :, :, : 2 + 3 * number] = 1
        coverage[0, :, :, :, 6:] = 0.3
        clean = torch.zeros_like(coverage)
        clean[..., :1] = 1
        conditioning = {**batch.conditioning, CLEAN_MASK: clean}
        batch = replace(batch, coverage=coverage, conditioning=conditioning)
        batches.append(cut(batch, 1) if number == 2 else batch)
    return batches


def cut(batch: Batch, count: int) -> Batch:
    return replace(
        batch,
        latents=batch.latents[:count],
        conditioning={name: value[:count] for name, value in batch.conditioning.items()},
        coverage=batch.coverage[:count],
        masked=batch.masked[:count],
        weight=batch.weight[:count],
        names=batch.names[:count],
        swapped=batch.swapped[:count],
    )


def joined(trainer: Trainer, micros: Sequence[MicroBatch]) -> MicroBatch:
    """The same clips with the same noise as one batch."""
    batches = [micro.batch for micro in micros]
    one = replace(
        batches[0],
        latents=torch.cat([batch.latents for batch in batches]),
        conditioning=join([batch.conditioning for batch in batches]),
        coverage=torch.cat([batch.coverage for batch in batches]),
        masked=torch.cat([batch.masked for batch in batches]),
        weight=torch.cat([batch.weight for batch in batches]),
        names=sum((batch.names for batch in batches), ()),
        swapped=torch.cat([batch.swapped for batch in batches]),
    )
    t = torch.cat([micro.t for micro in micros])
    how = trainer.plan.make_weighting(
        trainer.weights, trainer.grid, (term for term, _ in trainer.terms.values())
    )
    weighed = weigh(how, one.coverage, one.masked, t, clean=one.conditioning[CLEAN_MASK])
    (weighed,), (share,) = pool(how, [weighed], lambda numbers: numbers)
    noise = torch.cat([micro.noise for micro in micros])
    return MicroBatch(batch=one, noise=noise, t=t, weighed=weighed, share=share)


@dataclass(slots=True)
class Laid(Trainer):
    """Takes micro-batches as they are."""

    ready: tuple[MicroBatch, ...] = ()

    def lay(self, group: Sequence[Batch]) -> list[MicroBatch]:
        return list(self.ready)


def moved(trainer: Trainer, micros: Sequence[MicroBatch]) -> dict[str, Tensor]:
    """What one optimizer step changes, over micro-batches that are laid already."""
    taken = {name.name: getattr(trainer, name.name) for name in fields(Trainer) if name.init}
    sgd = torch.optim.SGD(trainer.parameters.values(), lr=1.0)
    laid = Laid(**(taken | {"optimizer": sgd, "ready": tuple(micros)}))
    before = {name: p.detach().clone() for name, p in trainer.parameters.items()}
    values = laid._optimize([micro.batch for micro in micros])
    change = {name: p.detach() - before[name] for name, p in trainer.parameters.items()}
    for name, parameter in trainer.parameters.items():
        parameter.data.copy_(before[name])
    return change | {"loss": torch.tensor(values["loss"])}


@pytest.mark.parametrize("normalise", ["global", "sample", "none", "area"])
@pytest.mark.parametrize("feather", [0.0, 8.0])
@pytest.mark.parametrize("terms", TERMS)
def test_ragged_micro_batches_are_one_batch_of_all_their_clips(
    bench: SimpleNamespace, tmp_path: Path, normalise: str, feather: float, terms: str
) -> None:
    trainer = bench.trainer_of(
        tmp_path,
        terms=TERMS[terms],
        dropout=0.0,
        ema=0.0,
        clip=0.0,
        normalise=normalise,
        feather_t=feather,
    )
    trainer.run()  # B of a fresh adapter is 0, and so is A's gradient
    micros = trainer.lay(ragged(bench))
    assert [round(micro.share, 6) for micro in micros] == [0.4, 0.4, 0.2]
    apart, together = moved(trainer, micros), moved(trainer, [joined(trainer, micros)])
    for name, value in together.items():
        torch.testing.assert_close(apart[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("feather", [0.0, 8.0])
@pytest.mark.parametrize("terms", TERMS)
def test_global_is_the_sum_of_numerators_over_the_sum_of_divisors(
    bench: SimpleNamespace, tmp_path: Path, feather: float, terms: str
) -> None:
    trainer = bench.trainer_of(
        tmp_path, terms=TERMS[terms], dropout=0.0, normalise="global", feather_t=feather
    )
    trainer.run()
    micros = trainer.lay(ragged(bench))
    value = numerators = divisors = 0.0
    for micro in micros:
        values, seen = trainer.step(micro)
        value += float(values["denoise"].detach()) * micro.share
        error = (seen.prediction - seen.target).detach().square()
        numerators += float((error * seen.weights).sum())
        divisors += float(seen.weights.sum()) * error.shape[1]
    assert value == pytest.approx(numerators / divisors, rel=1e-5)


def test_ranks_with_batches_of_other_sizes_are_pooled_by_their_clips() -> None:
    """What DistributedDataParallel averages over two ranks is the mean over all clips."""
    how = Weighting(table=RegionWeights(), channels=2, normalise="global")

    def rank(count: int, area: int) -> list[Weighed]:
        coverage = torch.zeros(count, 1, 1, 4, 4)
        coverage[..., :area] = 1
        masked = torch.ones(count, dtype=torch.bool)
        return [weigh(how, coverage, masked, torch.ones(count))]

    groups = [rank(3, 1), rank(1, 4)]
    local = [pool(how, group, lambda numbers: numbers) for group in groups]
    assert local[0][0][0].divisor.tolist() == [8.0] * 3
    sent: list[Tensor] = []
    for group in groups:
        pool(how, group, lambda numbers: sent.append(numbers) or numbers)  # type: ignore[func-returns-value]
    both = [pool(how, group, lambda _: sent[0] + sent[1]) for group in groups]
    assert [shares for _, shares in both] == [[0.75], [0.25]]
    numerators = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0])]
    averaged = [
        float((values / weighed[0].divisor).mean()) * shares[0] * len(groups)
        for values, (weighed, shares) in zip(numerators, both, strict=True)
    ]
    assert sum(averaged) / len(groups) == pytest.approx(16.0 / (3 * 8 + 32))


def test_a_loss_that_grows_with_the_area_is_not_pooled_over_batches() -> None:
    with pytest.raises(ValueError, match="grows with the raw coverage does not"):
        Weighting(table=RegionWeights(), channels=1, normalise="global", raw_beta=0.5)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("t", {"t": torch.ones(1)}),
        ("t", {"t": torch.ones(2, 1)}),
        ("clean", {"clean": torch.zeros(1, 1, 1, 4, 4)}),
        ("clean", {"clean": torch.zeros(2, 1, 1, 2, 2)}),
        ("clean", {"clean": torch.zeros(2, 1, 4, 4)}),
    ],
)
def test_what_is_of_another_batch_or_grid_is_refused_not_broadcast(
    name: str, change: dict[str, Tensor]
) -> None:
    how = Weighting(table=RegionWeights(), channels=1)
    right = {"t": torch.ones(2), "clean": torch.zeros(2, 1, 1, 4, 4)}
    coverage, masked = torch.ones(2, 1, 1, 4, 4), torch.ones(2, dtype=torch.bool)
    given = right | change
    with pytest.raises(ValueError, match=f"{name} has shape"):
        inspect.unwrap(weigh)(how, coverage, masked, given["t"], clean=given["clean"])
