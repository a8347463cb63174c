"""The trainer draws each batch's noise levels for the size of that batch."""

from typing import Any

import pytest
from torch import Generator, Tensor


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 3, 4), (1, 2, 5), (3, 2, 3)])
def test_noise_levels_are_drawn_for_the_latents_of_the_batch(
    bench: Any, frames: int, height: int, width: int
) -> None:
    scene = bench.scene_of(0, ["soft", "full"], frames=frames, height=height, width=width)
    config = bench.config_of("kohya")
    trainer = bench.trainer_of(config, scene, scene.prediction)
    seen: list[tuple[int, Any]] = []

    def sample_t(count: int, generator: Generator, *, cells: Any = None) -> Tensor:
        seen.append((count, cells))
        return scene.t

    trainer.objective.sample_t = sample_t
    trainer.lay([bench.batch_of(config, scene)])
    assert seen == [(2, (frames, height, width))]
