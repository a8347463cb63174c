"""The pocket family's transformer: where its cells are, what it refuses, what it has learnt."""

from importlib.resources import files
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
import torch

from frisket.families.base import FAMILIES, Source
from frisket.families.models.pocket.transformer import draw_places
from frisket.inference.generate import generate
from frisket.pocket.judge import correct, judge
from frisket.pocket.world import is_held_out, random_scene
from frisket.runs.sampling.samples import load

POCKET = FAMILIES.load("pocket")


def predict(height: int, width: int, frames: int = 1) -> torch.Tensor:
    parts = POCKET.tiny("dit")
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(1, 12, frames, height, width, generator=generator)
    conditioning = POCKET.embed(parts.text, ["a red circle on a blue wall"])
    with torch.no_grad():
        return POCKET.predict(parts.denoiser, noisy, torch.tensor([0.5]), conditioning)


def test_every_cell_of_a_wide_picture_is_told_where_it_is() -> None:
    places = draw_places(32, 32).flatten(1).T
    assert places.abs().max() <= 1
    assert len({tuple(place) for place in places.round(decimals=4).tolist()}) == 32 * 32


def test_the_same_noise_everywhere_is_not_the_same_picture_everywhere() -> None:
    parts = POCKET.tiny("dit")
    noisy = torch.ones(1, 12, 1, 16, 16)
    conditioning = POCKET.embed(parts.text, ["green and red checks"])
    with torch.no_grad():
        velocity = POCKET.predict(parts.denoiser, noisy, torch.tensor([0.5]), conditioning)
    assert not torch.allclose(velocity[..., 0, 0], velocity[..., 2, 0], atol=1e-4)
    assert not torch.allclose(velocity[..., 0, 0], velocity[..., 0, 2], atol=1e-4)


def test_wide_pictures_are_taken_and_clips_and_half_tokens_are_refused() -> None:
    assert predict(16, 32).shape == (1, 12, 1, 16, 32)
    with pytest.raises(ValueError, match="not clips of 2 frames"):
        predict(16, 16, frames=2)
    with pytest.raises(ValueError, match="sides of multiples of 4 pixels"):
        predict(16, 15)


def test_a_folder_of_the_other_kind_is_refused_by_name(tmp_path: Path) -> None:
    POCKET.save(POCKET.tiny("image"), tmp_path)
    with pytest.raises(ValueError, match="holds a UNet2DConditionModel, and pocket dit is a"):
        POCKET.load_denoiser(Source("dit", str(tmp_path)))
    POCKET.save(POCKET.tiny("dit"), tmp_path / "dit")
    with pytest.raises(ValueError, match="holds a WanTransformer3DModel"):
        POCKET.load_denoiser(Source("image", str(tmp_path / "dit")))


def test_the_transformer_routes_and_the_unets_do_not() -> None:
    transformer, unet = POCKET.tiny("dit").denoiser, POCKET.tiny("image").denoiser
    assert [block.name for block in POCKET.routes.list_blocks(transformer)] == [
        *("blocks.0", "blocks.1")
    ]
    assert POCKET.routes.find_patch(transformer) == (1, 2, 2)
    assert POCKET.routes.list_blocks(unet) == ()
    with pytest.raises(ValueError, match="no tokens that it could route"):
        POCKET.routes.find_patch(unet)


def test_the_packaged_weights_are_small() -> None:
    packaged = Path(str(files("frisket") / "pocket" / "dit.safetensors"))
    assert packaged.stat().st_size <= 4 << 20
    denoiser = POCKET.load_denoiser(Source("dit"))
    assert len(POCKET.routes.list_blocks(denoiser)) == 12


@pytest.mark.slow
def test_the_packaged_transformer_draws_colours_and_backgrounds_it_is_asked_for() -> None:
    rng = np.random.RandomState(7)
    scenes = list(islice(filter(is_held_out, (random_scene(rng) for _ in count())), 16))
    captions = [scene.caption for scene in scenes]
    pictures = generate(POCKET, load(POCKET, Source("dit")), captions, seeds=range(16))
    shares = correct(
        judge(np.stack([np.asarray(picture.frames[0]) for picture in pictures])), scenes
    )
    assert shares["background"] >= 0.8
    assert shares["colour"] >= 0.7
