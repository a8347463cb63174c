"""Routed steps of the trainer itself: what was left out teaches nothing, and the rest as it did."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from frisket.adapters import lora
from frisket.adapters.routed.peft_variant import route
from frisket.data.sample import Batch
from frisket.families.base import FAMILIES, Family, Parts, default_targets
from frisket.families.experts import first
from frisket.losses.terms.denoise import Denoise
from frisket.losses.terms.prior import Prior
from frisket.masks.weights import RegionWeights
from frisket.routing.router import Router
from frisket.routing.selection import BackgroundSelection
from frisket.training import optim, schedules
from frisket.training.confine import Confinement
from frisket.training.distributed import assemble
from frisket.training.memory import plan as memory_plan
from frisket.training.memory.plan import MemoryPlan
from frisket.training.plan import MicroBatch, Plan
from frisket.training.step_metrics import mean_metrics, sum_metrics
from frisket.training.token_routing import TokenRouting
from frisket.training.trainer import Trainer

MODELS = [("wan", "2.1-t2v-1.3b"), ("flux", "dev"), ("sd3", "3.5-medium"), ("pocket", "dit")]
SIDE = 8  # tokens


def build_batch(family: Family, variant: str, parts: Parts) -> Batch:
    """Two clips of one latent frame, of which two by two tokens have weight."""
    patch = family.routes.find_patch(first(parts.denoiser))
    generator = torch.Generator().manual_seed(2)
    sides = (SIDE * patch[1], SIDE * patch[2])
    coverage = torch.zeros(2, 1, 1, *sides)
    coverage[..., 2 * patch[1] : 4 * patch[1], 3 * patch[2] : 5 * patch[2]] = 1
    channels = family.variants[variant].grid.channels
    return Batch(
        latents=torch.randn(2, channels, 1, *sides, generator=generator),
        conditioning=dict(family.embed(parts.text, ["sks", "a fox"])),
        coverage=coverage,
        masked=torch.tensor([True, True]),
        weight=torch.ones(2),
        names=("a", "b"),
        swapped=torch.tensor([False, False]),
    )


def build_trainer(name: str, variant: str, *, stir: float = 0.1, **options: Any) -> Trainer:
    """All blocks are routed, in every step."""
    family = FAMILIES.load(name)
    parts = family.tiny(variant)
    batch, denoiser = build_batch(family, variant, parts), parts.denoiser
    targets, dead = default_targets(family, variant)
    spec = lora.LoraSpec(rank=2, targets=targets, dead=dead)
    lora.attach(denoiser, spec, seed=0, streams=family.streams)
    parameters = lora.trainable(denoiser)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in parameters.values():
            value.add_(stir * torch.randn(value.shape, generator=generator))
    patch = family.routes.find_patch(first(denoiser))
    blocks = family.routes.list_blocks(first(denoiser))
    optimizer = optim.build(parameters, optim.OptimizerSpec("adamw", 1e-2))

    team = assemble(precision="float32", device="cpu")
    processes = team.accelerator.num_processes

    def stream(_: int) -> Iterator[Batch]:
        while True:
            yield batch

    return Trainer(
        family=family,
        grid=family.variants[variant].grid,
        denoiser=team.accelerator.prepare(denoiser) if processes > 1 else denoiser,
        parameters=parameters,
        objective=family.objective(variant),
        weights=RegionWeights({"subject": 1.0}),
        terms={"denoise": (Denoise(), 1.0), "prior": (Prior(), 0.3)},
        optimizer=optimizer,
        schedule=schedules.schedule(optimizer, schedules.Rates("constant", steps=6)),
        batches=stream,
        plan=Plan(steps=6, seed=3),
        team=team,
        routing=TokenRouting(
            router=Router(denoiser, family.routes, family.streams, 0, len(blocks)),
            select=BackgroundSelection(background=0.25, multiple=1),
            patch=patch,
            seed=3,
            full_step_probability=0.0,
            full_from=1.0,
        ),
        **options,
    )


PROCESS = """
import json
import sys
from dataclasses import replace
import torch
from tests.routing.test_trainer import build_trainer
torch.set_num_threads(1)
trainer = build_trainer("pocket", "dit")
trainer.routing = replace(trainer.routing, full_step_probability=0.5)
rows, lay = [], trainer.lay
def note(group):
    micros = lay(group)
    drawn = [micro.selection for micro in micros]
    rows.append([None if one is None else one.tokens.tolist() for one in drawn])
    return micros
type(trainer).lay = lambda _, group: note(group)
trainer.run()
weights = {name: value.double().sum().item() for name, value in trainer.parameters.items()}
rank = trainer.accelerator.process_index
with open(f"{sys.argv[1]}/{rank}.json", "w") as file:
    json.dump({"rows": rows, "weights": weights}, file)
"""


@pytest.mark.slow
def test_two_processes_have_the_same_whole_steps_and_tokens_of_their_own(tmp_path):
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    root = Path(__file__).resolve().parents[2]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"),
            *("--standalone", str(script), str(tmp_path)),
        ],
        check=True,
        timeout=900,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
    )
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one["weights"] == two["weights"]
    routed = [step != [None] for step in one["rows"]]
    assert [step != [None] for step in two["rows"]] == routed
    assert len(set(routed)) == 2
    for mine, theirs, is_routed in zip(one["rows"], two["rows"], routed, strict=True):
        assert is_routed is (mine != theirs)


def lay(trainer: Trainer) -> MicroBatch:
    trainer._seed()
    (micro,) = trainer.lay([next(trainer.batches(0))])
    assert micro.selection is not None
    assert 0.3 < micro.selection.share < 0.6
    return micro


def learn(trainer: Trainer, micro: MicroBatch) -> dict[str, torch.Tensor]:
    """The adapter's gradients of one micro-batch."""
    trainer.denoiser.train()
    values, _ = trainer.step(micro)
    torch.stack(list(values.values())).sum().backward()
    gradients = {
        name: torch.zeros_like(value) if value.grad is None else value.grad.clone()
        for name, value in trainer.parameters.items()
    }
    trainer.optimizer.zero_grad(set_to_none=True)
    assert any(bool(value.any()) for value in gradients.values())
    return gradients


def change_dropped(micro: MicroBatch) -> MicroBatch:
    """Another picture and other noise, in the cells of the tokens that were left out alone."""
    assert micro.selection is not None
    dropped = 1 - micro.selection.kept
    batch = replace(micro.batch, latents=micro.batch.latents + 3 * dropped)
    return replace(micro, batch=batch, noise=micro.noise - 2 * dropped)


@pytest.mark.parametrize(("name", "variant"), MODELS)
def test_what_is_left_out_of_every_block_teaches_nothing(name, variant):
    """Not by its loss, not by the prior's, and not by what others see of it."""
    trainer = build_trainer(name, variant)
    micro = lay(trainer)
    gradients, others = learn(trainer, micro), learn(trainer, change_dropped(micro))
    for name_, value in gradients.items():
        torch.testing.assert_close(others[name_], value, rtol=1e-5, atol=1e-9, msg=name_)
    whole = learn(trainer, replace(micro, selection=None))
    changed = learn(trainer, replace(change_dropped(micro), selection=None))
    assert any(not torch.allclose(changed[key], whole[key]) for key in whole)


def test_the_prior_is_exactly_nothing_at_the_start():
    trainer = build_trainer("wan", "2.1-t2v-1.3b", stir=0.0)
    values, step = trainer.step(lay(trainer))
    assert torch.equal(values["prior"], torch.tensor(0.0))
    assert torch.equal(step.prediction, step.prior)


@pytest.mark.parametrize("options", [{"checkpointing": True}, {"swap_blocks": 1}], ids=str)
def test_gradients_are_the_same_whatever_saves_memory(options):
    trainer = build_trainer("wan", "2.1-t2v-1.3b")
    factors = route(trainer.unwrapped, trainer.family.streams)
    trainer.confine = Confinement(factors, trainer.weights, 1)
    micro = lay(trainer)
    plain = learn(trainer, micro)
    memory_plan.apply(trainer.denoiser, MemoryPlan(**options), device="cpu")
    for name, value in learn(trainer, micro).items():
        torch.testing.assert_close(value, plain[name], rtol=1e-4, atol=1e-8, msg=name)


def test_noise_and_levels_are_those_of_a_run_without_routing():
    trainer = build_trainer("wan", "2.1-t2v-1.3b")
    routed = lay(trainer)
    trainer.routing = None
    trainer._seed()
    (plain,) = trainer.lay([routed.batch])
    assert torch.equal(plain.noise, routed.noise)
    assert torch.equal(plain.t, routed.t)
    assert torch.equal(plain.weighed.weights, routed.weighed.weights)


def test_whoever_looks_at_the_model_sees_all_of_it():
    """Between steps and in `eval_mode` the hooks change nothing."""
    trainer = build_trainer("wan", "2.1-t2v-1.3b")
    micro = lay(trainer)

    def look() -> torch.Tensor:
        with torch.no_grad(), trainer.eval_mode() as denoiser:
            given = micro.batch.conditioning
            return trainer.family.predict(denoiser, micro.noise, micro.t, given)

    routing, before = trainer.routing, look()
    learn(trainer, micro)
    assert torch.equal(look(), before)
    routing.router.remove()
    assert torch.equal(look(), before)


def test_what_is_logged_of_the_outside_is_what_was_carried():
    """What passed by is no prediction; each other cell stands for 1 / P(carried) of them."""
    trainer = build_trainer("wan", "2.1-t2v-1.3b")
    micro = lay(trainer)
    values, step = trainer.step(micro)
    means = mean_metrics(sum_metrics(micro, {"loss": values["denoise"], **values}, step))
    error = (step.prediction - step.target).detach().square().mean(1, keepdim=True)
    shares = (step.weights == 0) * step.importance
    assert means["outside"] == pytest.approx(float((error * shares).sum() / shares.sum()), rel=1e-5)
    dropped = replace(step, prediction=step.prediction + 9 * (step.importance == 0))
    assert mean_metrics(sum_metrics(micro, {"loss": values["denoise"]}, dropped)) == pytest.approx(
        mean_metrics(sum_metrics(micro, {"loss": values["denoise"]}, step))
    )


def test_whole_steps_are_the_same_ones_on_every_process():
    one = build_trainer("pocket", "dit").routing
    routing = replace(one, full_step_probability=0.25, full_from=0.85)
    whole = [routing.is_full(step, 0.0) for step in range(2000)]
    torch.manual_seed(1)  # nothing but seed and step counts
    assert [routing.is_full(step, 0.0) for step in range(2000)] == whole
    assert 0.2 < sum(whole) / len(whole) < 0.3
    assert [replace(routing, seed=4).is_full(step, 0.0) for step in range(2000)] != whole
    assert all(routing.is_full(step, 0.85) for step in range(10))
