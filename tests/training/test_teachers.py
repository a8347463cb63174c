"""What the loss terms are handed: teachers, and nothing of cells that are not predicted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from frisket.data.sample import Batch
from frisket.families.base import CLEAN_MASK
from frisket.losses.base import LossTerm, Step
from frisket.losses.terms.denoise import Denoise
from frisket.losses.terms.prior import Prior
from frisket.training.step_metrics import mean_metrics, sum_metrics

Terms = Mapping[str, tuple[LossTerm, float]]


def test_the_averaged_teacher_differs_from_the_base(bench: SimpleNamespace, tmp_path: Path) -> None:
    outcomes = []
    for teacher in ("base", "ema"):
        terms: Terms = {"denoise": (Denoise(), 1.0), "prior": (Prior(teacher=teacher), 1.0)}
        trainer = bench.trainer_of(tmp_path / teacher, terms=terms, steps=5)
        trainer.run()
        outcomes.append(bench.weights_of(trainer))
    assert not bench.same(*outcomes)


@dataclass(frozen=True)
class Demanding:
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def __call__(self, step: Step) -> torch.Tensor:
        return step.t


def test_needs_that_cannot_be_met_are_refused_when_built(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    terms: Terms = {"prior": (Prior(teacher="ema"), 1.0)}
    with pytest.raises(ValueError, match=r"needs an average \(optimizer.ema > 0\)"):
        bench.trainer_of(tmp_path, terms=terms, ema=0.0)
    with pytest.raises(ValueError, match="mine: needs 'features', a trainer gives attention"):
        bench.trainer_of(tmp_path, terms={"mine": (Demanding(), 1.0)})


def test_each_term_gets_the_teacher_it_asks_for(bench: SimpleNamespace, tmp_path: Path) -> None:
    trainer = bench.trainer_of(tmp_path, dropout=0.0)
    trainer.run()
    trainer.terms = {"one": (Prior(), 1.0), "two": (Prior(teacher="ema"), 1.0)}
    (micro,) = trainer.lay([bench.batch_of(0)])
    seen = trainer.step(micro)[1]
    assert seen.prior is not None
    assert seen.prior_ema is not None
    assert not torch.equal(seen.prior, seen.prior_ema)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("teacher", ["base", "ema"])
@pytest.mark.parametrize("open_around", [False, True])
def test_what_the_student_predicts_does_not_depend_on_the_teacher(
    bench: SimpleNamespace, tmp_path: Path, precision: str, teacher: str, open_around: bool
) -> None:
    """Under autocast too, whose cache knows a weight by its parameter, not by its value."""
    trainer = bench.trainer_of(tmp_path, dropout=0.0, precision=precision)
    trainer.run()
    trainer.terms = {"prior": (Prior(teacher=teacher), 1.0)}  # type: ignore[arg-type]
    (micro,) = trainer.lay([bench.batch_of(0)])
    around = torch.autocast("cpu", torch.bfloat16, enabled=open_around and precision != "float32")
    with around:
        values, seen = trainer.step(micro)
    values["prior"].backward()
    taught = {name: p.grad.clone() for name, p in trainer.parameters.items()}
    for parameter in trainer.parameters.values():
        parameter.grad = None
    trainer.terms = {"denoise": (Denoise(), 1.0)}
    alone = trainer.step(micro)[1]
    assert torch.equal(seen.prediction, alone.prediction)
    Prior(teacher=teacher)(  # type: ignore[arg-type]
        replace(alone, prior=seen.prior, prior_ema=seen.prior_ema)
    ).mean().backward()
    for name, parameter in trainer.parameters.items():
        torch.testing.assert_close(taught[name], parameter.grad)
    assert any(gradient.any() for gradient in taught.values())


@pytest.mark.parametrize("feather", [0.0, 4.0])
def test_cells_that_the_model_is_handed_clean_teach_nothing(
    bench: SimpleNamespace, tmp_path: Path, feather: float
) -> None:
    given = torch.zeros(2, 1, 1, 8, 8)
    given[..., :4] = 1

    def handed(start: int) -> Iterator[Batch]:
        for batch in bench.stream(start):
            yield replace(batch, conditioning={**batch.conditioning, CLEAN_MASK: given})

    def masked(start: int) -> Iterator[Batch]:
        for batch in bench.stream(start):
            yield replace(batch, coverage=batch.coverage * (1 - given))

    runs = []
    for name, batches in (("handed", handed), ("masked", masked)):
        trainer = bench.trainer_of(tmp_path / name, terms={"denoise": (Denoise(), 1.0)}, ema=0.0)
        trainer.batches = batches
        if feather:
            trainer.plan = replace(trainer.plan, feather_t=feather)
        trainer.run()
        runs.append(trainer)
    if not feather:  # a feather that reaches across the border does so only where it is given
        assert bench.same(bench.weights_of(runs[0]), bench.weights_of(runs[1]))
    (micro,) = runs[0].lay([next(handed(0))])
    seen = runs[0].step(micro)[1]
    assert not (seen.weights * given).any()
    assert seen.weights.any()


CLEAN_TERMS: dict[str, Terms] = {
    "denoise": {"denoise": (Denoise(), 1.0)},
    "prior": {"prior": (Prior(), 1.0)},
    "threshold": {"prior": (Prior(threshold=0.5), 1.0)},
    "alone": {"denoise": (Denoise(), 1.0), "prior": (Prior(threshold=0.5, alone=True), 1.0)},
    "batch": {"prior": (Prior(normalise="batch"), 1.0)},
    "ema": {"prior": (Prior(teacher="ema"), 1.0)},
}


@pytest.mark.parametrize("terms", CLEAN_TERMS)
@pytest.mark.parametrize("feather", [0.0, 4.0])
@pytest.mark.parametrize("reread", [False, True])
def test_cells_handed_over_clean_carry_no_loss_of_any_term(
    bench: SimpleNamespace, tmp_path: Path, terms: str, feather: float, reread: bool
) -> None:
    given = torch.zeros(2, 1, 1, 8, 8)
    given[..., :4] = 1
    batch = bench.batch_of(0)
    batch = replace(
        batch,
        conditioning={**batch.conditioning, CLEAN_MASK: given},
        prior_coverage=batch.coverage if reread else None,
    )
    trainer = bench.trainer_of(tmp_path, feather_t=feather)
    trainer.run()  # with terms that move it: the prior of an adapter that does nothing is 0
    trainer.terms = CLEAN_TERMS[terms]
    (micro,) = trainer.lay([batch])
    seen = trainer.step(micro)[1]
    prediction = seen.prediction.detach().requires_grad_()
    for term, _ in trainer.terms.values():
        term(replace(seen, prediction=prediction)).sum().backward()
    assert prediction.grad is not None
    assert not (prediction.grad * given).any()
    assert prediction.grad.any()


def test_what_is_logged_of_the_outside_leaves_clean_cells_out(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    given = torch.zeros(2, 1, 1, 8, 8)
    given[..., :4] = 1
    batch = bench.batch_of(0)
    batch = replace(batch, conditioning={**batch.conditioning, CLEAN_MASK: given})
    trainer = bench.trainer_of(tmp_path)
    (micro,) = trainer.lay([batch])
    values, seen = trainer.step(micro)
    means = mean_metrics(sum_metrics(micro, {"loss": values["denoise"], **values}, seen))
    error = (seen.prediction - seen.target).detach().square().mean(1, keepdim=True)
    outside = (seen.weights == 0) & (given == 0)
    assert means["outside"] == pytest.approx(float(error[outside].mean()), rel=1e-5)
    assert means["inside"] == pytest.approx(float(error[seen.weights > 0].mean()), rel=1e-5)
