"""A bench for `losses.compat`: fixed tensors through a configuration and the trainer's own step."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.losses.scenes import Scene, scene_of
from torch import Generator, Tensor

from frisket.config.compat import compat_problems
from frisket.config.regions import weights_of
from frisket.config.tree import Config
from frisket.data.mask_pipeline import read_cells
from frisket.data.sample import Batch, Sample, collate
from frisket.families.base import Source
from frisket.families.models.pocket.family import FAMILY
from frisket.grid import LatentGrid
from frisket.runs.prepare import clipset_of
from frisket.runs.refusals import terms_of
from frisket.runs.training_parts import make_plan
from frisket.training.distributed import Team, assemble
from frisket.training.trainer import Trainer

TEAM: Team = assemble(precision="float32", device="cpu")


class Told:
    """Family and objective that predict what the scene says."""

    def __init__(self, scene: Scene, prediction: Tensor) -> None:
        self.scene, self.prediction = scene, prediction

    def predict(self, *_: Any) -> Tensor:
        return self.prediction

    def sample_t(self, count: int, generator: Generator, **_: Any) -> Tensor:
        return self.scene.t

    def corrupt(self, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return clean, self.scene.target

    def weight(self, t: Tensor) -> Tensor:
        return self.scene.level


class ToldTrainer(Trainer):
    def _teachers(self, noisy: Tensor, t: Tensor, batch: Batch) -> dict[str, Tensor]:
        needs = {need for term, _ in self.terms.values() for need in term.needs}
        return dict.fromkeys(needs, self.family.scene.prior)  # type: ignore[attr-defined]


def config_of(trainer: str, **sections: Any) -> Config:
    losses = {"compat": trainer, **sections.pop("losses", {})}
    masks = {"source": "folder", "path": "masks", **sections.pop("masks", {})}
    data = [{"clips": "clips", "masks": masks}]
    config = Config.model_validate({"data": data, "losses": losses, **sections})
    assert not list(compat_problems(config))
    return config


def batch_of(config: Config, scene: Scene) -> Batch:
    masking = clipset_of(config, config.data[0], FAMILY, Source("image")).masking
    grid = LatentGrid(scene.prediction.shape[1], scene.spatial, scene.temporal)
    frames = 1 + (scene.prediction.shape[2] - 1) * scene.temporal
    samples = []
    for index, mask in enumerate(scene.masks):
        still = torch.zeros(scene.size) if mask is None else mask
        planes = still.expand(frames, -1, -1)[None]
        again = masking.prior_reading if mask is not None else None
        samples.append(
            Sample(
                latents=scene.prediction[index].detach(),
                conditioning={},
                coverage=read_cells(planes, masking, grid),
                masked=mask is not None,
                weight=float(scene.weight[index]),
                name=str(index),
                prior_coverage=read_cells(planes, masking, grid, again) if again else None,
            )
        )
    return collate(samples)


def trainer_of(
    config: Config, scene: Scene, prediction: Tensor, done: int | None = None
) -> Trainer:
    trainer = ToldTrainer(
        family=FAMILY,
        grid=LatentGrid(scene.prediction.shape[1], scene.spatial, scene.temporal),
        denoiser=torch.nn.Identity(),
        parameters={},
        objective=FAMILY.objective("image"),
        weights=weights_of(config),
        terms=terms_of(config),
        optimizer=None,
        schedule=None,
        batches=lambda _: iter(()),
        plan=make_plan(config),
        team=TEAM,
        done=config.run.steps if done is None else done,
    )
    told: Any = Told(scene, prediction)
    trainer.family = trainer.objective = told
    return trainer


def ours(config: Config, scene: Scene, done: int | None = None) -> tuple[Tensor, Tensor]:
    """Loss and gradient as the trainer computes them; `done` steps of the run, empty is all."""
    prediction = scene.prediction.clone().requires_grad_()
    trainer = trainer_of(config, scene, prediction, done)
    (micro,) = trainer.lay([batch_of(config, scene)])
    values, _ = trainer.step(micro)
    loss = torch.stack(list(values.values())).sum()
    (gradient,) = torch.autograd.grad(loss, prediction)
    return loss.detach(), gradient


@pytest.fixture(scope="session")
def bench() -> SimpleNamespace:
    """The functions of this file, for tests that cannot import it."""
    return SimpleNamespace(
        scene_of=scene_of,
        config_of=config_of,
        batch_of=batch_of,
        trainer_of=trainer_of,
        ours=ours,
        loss_of=lambda trainer, scene, **sections: float(
            ours(config_of(trainer, **sections), scene)[0]
        ),
    )
