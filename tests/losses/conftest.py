"""A bench for `losses.compat`: fixed tensors through a configuration and the trainer's own step."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Generator, Tensor

from frisket.data.sample import Batch, Sample, collate
from frisket.families.base import Source
from frisket.families.models.pocket import FAMILY
from frisket.grid import LatentGrid
from frisket.masks.coverage import to_latent
from frisket.recipes.compat import compat_problems
from frisket.recipes.config import Config
from frisket.recipes.prepare import clipset_of
from frisket.recipes.regions import weights_of
from frisket.recipes.train import plan_of, terms_of
from frisket.training.trainer import Trainer

Mask = Tensor | None  # H W in [0, 1]; F H W where it moves; None for a clip without
CPU = Accelerator(cpu=True)


@dataclass
class Scene:
    """What both sides are given: masks in pixels, and everything the models predicted."""

    masks: list[Mask]
    prediction: Tensor  # b c f h w
    target: Tensor
    prior: Tensor
    t: Tensor
    level: Tensor  # weight of each sample's noise level
    weight: Tensor  # weight of each sample's data set
    spatial: int
    temporal: int = 4

    @property
    def size(self) -> tuple[int, int]:
        return self.prediction.shape[3] * self.spatial, self.prediction.shape[4] * self.spatial


def scene_of(
    seed: int, kinds: Sequence[str], *, frames: int = 1, height: int = 3, width: int = 4, s: int = 8
) -> Scene:
    draws = Generator().manual_seed(seed)
    count, pixels = len(kinds), (height * s, width * s)

    def mask(kind: str) -> Mask:
        soft = torch.rand(pixels, generator=draws)
        left = torch.zeros(pixels)
        left[: pixels[0] // 2 + 1, : pixels[1] // 2 + 1] = 1
        return {
            "soft": soft,
            "hard": (soft > 0.5).float(),
            "corner": left,
            "empty": torch.zeros(pixels),
            "full": torch.ones(pixels),
            "none": None,
        }[kind]

    def latents() -> Tensor:
        return torch.randn(count, 3, frames, height, width, generator=draws)

    return Scene(
        masks=[mask(kind) for kind in kinds],
        prediction=latents(),
        target=latents(),
        prior=latents(),
        t=0.02 + 0.98 * torch.rand(count, generator=draws),
        level=0.5 + torch.rand(count, generator=draws),
        weight=0.5 + torch.rand(count, generator=draws),
        spatial=s,
    )


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
    def _prior(self, noisy: Tensor, t: Tensor, batch: Batch) -> Tensor | None:
        return self.family.scene.prior if "prior" in self.terms else None  # type: ignore[attr-defined]


def config_of(trainer: str, **sections: Any) -> Config:
    losses = {"compat": trainer, **sections.pop("losses", {})}
    data = [{"clips": "clips", "masks": "masks"}]
    config = Config.model_validate({"data": data, "losses": losses, **sections})
    assert not list(compat_problems(config))
    return config


def batch_of(config: Config, scene: Scene) -> Batch:
    masking = clipset_of(config, config.data[0], FAMILY, Source("image")).masking
    grid = LatentGrid(3, scene.spatial, scene.temporal)
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
                coverage=to_latent(planes, grid, masking.reading),
                masked=mask is not None,
                weight=float(scene.weight[index]),
                name=str(index),
                prior_coverage=to_latent(planes, grid, again) if again else None,
            )
        )
    return collate(samples)


def trainer_of(config: Config, scene: Scene, prediction: Tensor) -> Trainer:
    trainer = ToldTrainer(
        family=FAMILY,
        grid=LatentGrid(3, scene.spatial, scene.temporal),
        denoiser=torch.nn.Identity(),
        parameters={},
        objective=FAMILY.objective("image"),
        weights=weights_of(config),
        terms=terms_of(config),
        optimizer=None,
        schedule=None,
        batches=lambda _: iter(()),
        plan=plan_of(config),
        accelerator=CPU,
        done=config.run.steps,
    )
    told: Any = Told(scene, prediction)
    trainer.family = trainer.objective = told
    return trainer


def ours(config: Config, scene: Scene) -> tuple[Tensor, Tensor]:
    """Loss and gradient as the trainer computes them."""
    prediction = scene.prediction.clone().requires_grad_()
    trainer = trainer_of(config, scene, prediction)
    batch = trainer._drawn(batch_of(config, scene))
    weights = trainer._weights(batch)
    (divisor,) = trainer._divisors([batch], [weights])
    values, _ = trainer.step(batch, weights, divisor)
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
