"""The trainer watches attention where a term asks, and what is watched is what is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from frisket.data.sample import Batch
from frisket.losses.base import AttentionRequest, LossTerm, Step
from frisket.losses.terms.attention import Attention
from frisket.losses.terms.denoise import Denoise
from frisket.losses.terms.prior import Prior
from frisket.training.memory import plan as memory_plan
from frisket.training.trainer import Trainer

Terms = Mapping[str, tuple[LossTerm, float]]
ALL = Attention(layers=("all",))
BOTH: Terms = {"denoise": (Denoise(), 1.0), "attention": (ALL, 0.5)}


def draw_batch(bench: SimpleNamespace) -> Batch:
    """Two samples of the caption `sks`: its word is in slot 5, and one caption was dropped."""
    batch: Batch = bench.batch_of(0)
    return replace(batch, phrases=(((5,),), ((),)))


def build(bench: SimpleNamespace, folder: Path, terms: Terms, **plan: Any) -> Trainer:
    plan = {"phrases": (0,)} | plan
    trainer: Trainer = bench.trainer_of(folder, terms=terms, dropout=0.0, **plan)
    torch.manual_seed(0)
    for value in trainer.parameters.values():
        value.data += 0.05 * torch.randn_like(value)  # an adapter that does something
    return trainer


def differentiate(trainer: Trainer, batch: Batch) -> tuple[dict[str, Tensor], list[Tensor]]:
    trainer._seed()
    (micro,) = trainer.lay([batch])
    values, _ = trainer.step(micro)
    parameters = list(trainer.parameters.values())
    torch.stack(list(values.values())).sum().backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    return {name: value.detach() for name, value in values.items()}, gradients


def count_hooks(trainer: Trainer) -> int:
    modules = trainer.denoiser.modules()
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


def test_only_the_attention_to_known_phrases_is_added(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    plain = build(bench, tmp_path, {"denoise": (Denoise(), 1.0)})
    watched = build(bench, tmp_path, BOTH)
    hooks = count_hooks(watched)
    without, before = differentiate(plain, bench.batch_of(0))
    values, gradients = differentiate(watched, draw_batch(bench))
    assert torch.equal(values["denoise"], without["denoise"])
    assert 0 < values["attention"] < 0.5
    assert any(not torch.equal(a, b) for a, b in zip(before, gradients, strict=True))
    assert count_hooks(watched) == hooks
    dropped = replace(draw_batch(bench), phrases=(((),), ((),)))
    values, gradients = differentiate(watched, dropped)
    assert values["attention"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, gradients, strict=True))


def test_checkpointing_changes_no_gradient(bench: SimpleNamespace, tmp_path: Path) -> None:
    outcomes = []
    for checkpointing in (False, True):
        trainer = build(bench, tmp_path, BOTH)
        settings = memory_plan.MemoryPlan(checkpointing=checkpointing)
        memory_plan.apply(trainer.denoiser, settings, device=torch.device("cpu"))
        outcomes.append(differentiate(trainer, draw_batch(bench)))
    (values, gradients), (again, others) = outcomes
    torch.testing.assert_close(values["attention"], again["attention"])
    for ours, theirs in zip(gradients, others, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_teachers_are_not_watched(bench: SimpleNamespace, tmp_path: Path) -> None:
    """The student's maps are the same whether a teacher ran before it or not."""
    terms: Terms = {**BOTH, "prior": (Prior(), 1.0), "ema": (Prior(teacher="ema"), 1.0)}
    alone = differentiate(build(bench, tmp_path, BOTH), draw_batch(bench))[0]
    taught = differentiate(build(bench, tmp_path, terms), draw_batch(bench))[0]
    assert torch.equal(alone["attention"], taught["attention"])
    assert taught["prior"] > 0


def test_under_bfloat16_the_maps_are_float32_and_near(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    exact = differentiate(build(bench, tmp_path, BOTH), draw_batch(bench))[0]
    rough = differentiate(build(bench, tmp_path, BOTH, precision="bfloat16"), draw_batch(bench))[0]
    assert rough["attention"].dtype == torch.float32
    torch.testing.assert_close(rough["attention"], exact["attention"], rtol=0.02, atol=0)


def test_halves_of_a_batch_add_up(bench: SimpleNamespace, tmp_path: Path) -> None:
    trainer = build(bench, tmp_path, {"attention": (ALL, 1.0)}, accumulate=2)
    batch = replace(draw_batch(bench), phrases=(((5,),), ((5,),)))
    micros = trainer.lay([batch, batch])
    whole, _ = trainer.step(micros[0])
    other, _ = trainer.step(micros[1])
    assert sum(micro.share for micro in micros) == 1
    assert not torch.equal(whole["attention"], other["attention"])  # another t, another noise


@dataclass(frozen=True)
class Silent:
    needs: ClassVar[frozenset[str]] = frozenset({"attention"})

    def __call__(self, step: Step) -> Tensor:
        return step.t


@dataclass(frozen=True)
class Mine:
    """A plugin's term: the mass of attention in one layer of its own choice."""

    needs: ClassVar[frozenset[str]] = frozenset({"attention"})
    attention: ClassVar[AttentionRequest] = AttentionRequest(("all",), "text")

    def __call__(self, step: Step) -> Tensor:
        seen = step.attention[self.attention]
        return torch.stack([maps.mean((1, 2, 3, 4)) for maps in seen.maps.values()]).mean(0)


def test_a_plugins_term_gets_what_it_asks_for(bench: SimpleNamespace, tmp_path: Path) -> None:
    values, _ = differentiate(
        build(bench, tmp_path, {**BOTH, "mine": (Mine(), 1.0)}), draw_batch(bench)
    )
    assert 0 < values["mine"] < 1


def test_what_cannot_be_watched_is_refused(bench: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match='mine: needs "attention" but has no `attention`'):
        build(bench, tmp_path, {"mine": (Silent(), 1.0)})
    with pytest.raises(ValueError, match="no attention layer is called 'nowhere'"):
        build(bench, tmp_path, {"attention": (Attention(layers="nowhere"), 1.0)})
    trainer = build(bench, tmp_path, BOTH)
    with pytest.raises(ValueError, match="the batch has none"):
        differentiate(trainer, bench.batch_of(0))
    for parameter in trainer.parameters.values():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing that is trained moves the attention of"):
        differentiate(trainer, draw_batch(bench))


def test_training_moves_attention_into_the_mask(bench: SimpleNamespace, tmp_path: Path) -> None:
    trainer = build(bench, tmp_path, {"attention": (ALL, 1.0)}, steps=12)
    trainer.batches = lambda _: iter(lambda: draw_batch(bench), None)
    before = differentiate(trainer, draw_batch(bench))[0]["attention"]
    trainer.run()
    trainer.done = 0  # the same noise and t again
    assert differentiate(trainer, draw_batch(bench))[0]["attention"] < 0.95 * before
