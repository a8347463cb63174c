"""The trainer: exact resume, weights where they belong, and hooks that change nothing."""

import json
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from frisket.adapters import lora
from frisket.data.sample import Batch
from frisket.families.base import GIVEN, Source
from frisket.families.models.pocket import FAMILY
from frisket.losses.base import LossTerm
from frisket.losses.terms.denoise import Denoise
from frisket.losses.terms.prior import Prior
from frisket.masks.weights import RegionWeights
from frisket.training import optim
from frisket.training.ema import Average
from frisket.training.record import Record
from frisket.training.trainer import Diverged, Hooks, Plan, Trainer

GRID = FAMILY.variants["image"].grid
Terms = Mapping[str, tuple[LossTerm, float]]
OPEN: list[Record] = []
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
    folder: Path, *, terms: Terms = BOTH, dropout: float = 0.1, ema: float = 0.9, **plan: object
) -> Trainer:
    denoiser = FAMILY.tiny("image").denoiser
    assert denoiser is not None
    spec = lora.LoraSpec(rank=2, dropout=dropout, targets=FAMILY.lora_targets)
    lora.attach(denoiser, spec, seed=0)
    parameters = lora.trainable(denoiser)
    optimizer = optim.build(parameters, optim.OptimizerSpec("adamw", 1e-2))
    OPEN.append(Record(folder / "metrics.jsonl"))
    return Trainer(
        family=FAMILY,
        grid=GRID,
        denoiser=denoiser,
        parameters=parameters,
        objective=FAMILY.objective("image"),
        weights=RegionWeights({"subject": 1.0}),
        terms=terms,
        optimizer=optimizer,
        schedule=optim.schedule(optimizer, "cosine", steps=6, warmup=2),
        batches=stream,
        plan=Plan(**({"steps": 6, "seed": 3} | plan)),  # type: ignore[arg-type]
        record=OPEN[-1],
        accelerator=Accelerator(cpu=True),
        average=Average(parameters, ema) if ema else None,
    )


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in lora.trainable(trainer.denoiser).items()}


def same(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_two_runs_of_one_seed_are_bit_identical_and_learn(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        trainer = trainer_of(tmp_path / name, steps=8)
        before = weights_of(trainer)
        trainer.run()
        assert not same(before, weights_of(trainer))
        runs.append(trainer)
    assert same(weights_of(runs[0]), weights_of(runs[1]))
    text = (tmp_path / "a" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert {"loss", "denoise", "prior", "inside", "outside", "grad_norm", "lr"} <= lines[0].keys()


def test_previews_validation_and_saving_change_nothing(tmp_path: Path) -> None:
    quiet = trainer_of(tmp_path / "quiet")
    quiet.run()
    noisy = trainer_of(tmp_path / "noisy")

    def look(step: int) -> None:
        with noisy.looking() as denoiser:
            torch.randn(7)
            assert not denoiser.training
            FAMILY.predict(
                denoiser,
                torch.randn(1, 12, 1, 8, 8),
                torch.rand(1),
                {"tokens": torch.randn(1, 12, 64)},
            )

    noisy.hooks = Hooks(look, look, look, save_every=1, validate_every=2, preview_every=3)
    noisy.run()
    assert same(weights_of(quiet), weights_of(noisy))


def test_ctrl_c_finishes_the_step_saves_and_says_so(tmp_path: Path) -> None:
    trainer, saved = trainer_of(tmp_path), []
    trainer.hooks = Hooks(save=saved.append)
    trainer.hooks.progress = lambda step, _: (
        os.kill(os.getpid(), signal.SIGINT) if step == 2 else None
    )
    with pytest.raises(KeyboardInterrupt, match="saved after step 2"):
        trainer.run()
    assert saved == [2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_accumulating_with_global_equals_one_large_batch(tmp_path: Path) -> None:
    """Micro-batches of different mask areas: only `global` is the loss of the joint batch."""
    terms: Terms = {"denoise": (Denoise(), 1.0)}
    small, large = batch_of(0), batch_of(1)
    large.coverage[:, :, :, 0:8, 0:8] = 1

    trainer = trainer_of(
        tmp_path, terms=terms, dropout=0.0, ema=0.0, normalise="global", accumulate=2
    )
    group = [small, large]
    laid = [trainer.weights(batch.coverage, batch.masked) for batch in group]
    divisor = trainer._divisors(group, laid)
    trainer.generator.manual_seed(0)
    total, numerators, denominator = 0.0, 0.0, 0.0
    for batch, weights, share in zip(group, laid, divisor, strict=True):
        values, seen = trainer.step(batch, weights, share)
        total += float(values["denoise"].detach()) / 2
        error = (seen.prediction - seen.target).detach().square()
        numerators += float((error * weights).sum())
        denominator += float(weights.sum()) * 12
    assert total == pytest.approx(numerators / denominator, rel=1e-5)


def test_a_sample_without_weight_is_counted_and_moves_nothing(tmp_path: Path) -> None:
    def nothing(start: int) -> Iterator[Batch]:
        while True:
            yield batch_of(0, empty=True)

    trainer = trainer_of(tmp_path, terms={"denoise": (Denoise(), 1.0)}, ema=0.0, steps=2)
    for group in trainer.optimizer.param_groups:
        group["weight_decay"] = 0.0
    before = weights_of(trainer)
    trainer.batches = nothing
    trainer.run()
    assert trainer.empty == 4
    assert same(before, weights_of(trainer))


def test_unmasked_probability_is_drawn_for_each_sample(tmp_path: Path) -> None:
    # OneTrainer's switch of this name does nothing on ordinary models.
    trainer = trainer_of(tmp_path, unmasked_probability=0.5)
    trainer.generator.manual_seed(0)
    drawn = [trainer._drawn(batch_of(0)) for _ in range(40)]
    whole = [bool((w == 1).all()) for batch in drawn for w in trainer._weights(batch)]
    assert 20 < sum(whole) < 60
    pairs = list(zip(whole[::2], whole[1::2], strict=True))
    assert any(a != b for a, b in pairs)


def test_feather_widens_with_t_and_not_at_zero(tmp_path: Path) -> None:
    trainer, batch = trainer_of(tmp_path, feather_t=4.0), batch_of(0)
    laid = trainer.weights(batch.coverage, batch.masked)
    divisor = trainer._divisors([batch], [laid])[0]
    soft, _ = trainer._feathered(batch, laid, divisor, torch.tensor([0.0, 1.0]))
    assert torch.equal(soft[0], laid[0])
    assert int((soft[1] > 0).sum()) > int((laid[1] > 0).sum())


def test_the_averaged_teacher_differs_from_the_base(tmp_path: Path) -> None:
    outcomes = []
    for teacher in ("base", "ema"):
        terms: Terms = {"denoise": (Denoise(), 1.0), "prior": (Prior(teacher=teacher), 1.0)}
        trainer = trainer_of(tmp_path / teacher, terms=terms, steps=5)
        trainer.run()
        outcomes.append(weights_of(trainer))
    assert not same(*outcomes)


def test_a_loss_scale_changes_nothing_and_an_overflow_is_one_step_left_out(tmp_path: Path) -> None:
    plain = trainer_of(tmp_path / "plain", ema=0.0)
    plain.run()
    scaled = trainer_of(tmp_path / "scaled", ema=0.0)
    scaled.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled.run()
    for name, value in weights_of(plain).items():
        torch.testing.assert_close(weights_of(scaled)[name], value, rtol=1e-4, atol=1e-6)
    over = trainer_of(tmp_path / "over", ema=0.0, steps=1)
    before = weights_of(over)
    over.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=3e38)
    loud = replace(batch_of(0), latents=batch_of(0).latents * 30)
    over.batches = lambda _: iter([loud])
    over.run()
    assert same(before, weights_of(over))
    assert over.accelerator.scaler.get_scale() < 3e38


def test_an_averaged_teacher_without_an_average_is_refused(tmp_path: Path) -> None:
    terms: Terms = {"prior": (Prior(teacher="ema"), 1.0)}
    with pytest.raises(ValueError, match=r"needs an average \(optimizer.ema > 0\)"):
        trainer_of(tmp_path, terms=terms, ema=0.0).run()


def test_a_loss_that_is_not_finite_stops_with_the_fix(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)

    def broken(start: int) -> Iterator[Batch]:
        batch = batch_of(0)
        batch.latents[0, 0, 0, 3, 4] = float("inf")
        while True:
            yield batch

    trainer.batches = broken
    with pytest.raises(Diverged, match="lr"):
        trainer.run()


@pytest.mark.parametrize("feather", [0.0, 4.0])
def test_cells_that_the_model_is_handed_clean_teach_nothing(tmp_path: Path, feather: float) -> None:
    given = torch.zeros(2, 1, 1, 8, 8)
    given[..., :4] = 1

    def handed(start: int) -> Iterator[Batch]:
        for batch in stream(start):
            yield replace(batch, conditioning={**batch.conditioning, GIVEN: given})

    def masked(start: int) -> Iterator[Batch]:
        for batch in stream(start):
            yield replace(batch, coverage=batch.coverage * (1 - given))

    runs = []
    for name, batches in (("handed", handed), ("masked", masked)):
        trainer = trainer_of(tmp_path / name, terms={"denoise": (Denoise(), 1.0)}, ema=0.0)
        trainer.batches = batches
        if feather:
            trainer.plan = replace(trainer.plan, feather_t=feather)
        trainer.run()
        runs.append(trainer)
    if not feather:  # a feather that reaches across the border does so only where it is given
        assert same(weights_of(runs[0]), weights_of(runs[1]))
    batch = next(handed(0))
    seen = runs[0].step(batch, runs[0]._weights(batch), torch.ones(2))[1]
    assert not (seen.weights * given).any()
    assert seen.weights.any()
