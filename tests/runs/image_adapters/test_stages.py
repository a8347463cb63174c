"""InstantID and UniID on a denoiser that trains: the same numbers as their own training code."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from tests.inference.plugins import small_sdxl
from torch import Tensor, nn

from frisket.adapters import lora
from frisket.adapters.image.adapter import ImageAdapterModules, install_adapter
from frisket.adapters.image.instantid import InstantIdModules
from frisket.adapters.image.numbering import number_layers
from frisket.adapters.image.start import StartSizes, TrainedKind, start_image_adapter
from frisket.inference.methods.identity.instantid.training import FaceRows, show_faces
from frisket.inference.methods.identity.uniid.training import (
    FaceFeatures,
    TokenTraining,
    WordTraining,
)
from frisket.runs.image_adapters.branches import ReferenceBranches, connect_branches
from frisket.runs.image_adapters.posing import PoseRows

KINDS: tuple[TrainedKind, ...] = ("instantid", "uniid-text", "uniid-adapter")
FACE = 16
MAPS = {
    "instantid": (),
    "uniid-text": ((16, 7, 7),),
    "uniid-adapter": ((4, 56, 56), (4, 28, 28), (8, 14, 14), (16, 7, 7)),
}
FAMILY, PARTS = small_sdxl.build_parts()
LATENTS, T = small_sdxl.draw(1, 2, 4, 1, 8, 8), torch.tensor([0.2, 0.6])
TEXT = {
    "text": small_sdxl.draw(4, 2, small_sdxl.LENGTH, small_sdxl.WIDTH),
    "pooled": small_sdxl.draw(5, 2, small_sdxl.POOLED),
}
POINTS = torch.tensor([[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.35, 0.7], [0.65, 0.7]])
POSES = PoseRows([POINTS, None], "scaled")


def put_on(kind: TrainedKind) -> tuple[nn.Module, ImageAdapterModules, ReferenceBranches]:
    """A copy of the UNet with a new adapter, joined."""
    unet = deepcopy(PARTS.denoiser)
    assert unet is not None
    adapter = start_image_adapter(kind, FAMILY, unet, StartSizes((FACE,), maps=MAPS[kind]), seed=0)
    install_adapter(unet, adapter)
    return unet, adapter, connect_branches(FAMILY, unet)


def draw_rows(kind: TrainedKind, seed: int = 7) -> list[Tensor]:
    width = FACE + sum(int(torch.tensor(shape).prod()) for shape in MAPS[kind])
    return list(small_sdxl.draw(seed, 2, width))


def predict(unet: nn.Module) -> Tensor:
    return FAMILY.predict(unet, LATENTS, T, TEXT)


def stir(adapter: nn.Module) -> None:
    """Weights that are no start any more: nothing is 0."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in adapter.parameters():
            value.add_(torch.randn(value.shape, generator=generator), alpha=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_it_learns_alone_and_rows_are_independent(kind: TrainedKind) -> None:
    unet, adapter, branches = put_on(kind)
    assert number_layers(FAMILY, unet) == number_layers(FAMILY, PARTS.denoiser)  # type: ignore[arg-type]
    bare = predict(unet).detach()
    branches.set_rows(draw_rows(kind), None, POSES.draw)
    first_output = predict(unet)
    assert torch.equal(first_output, bare) == (kind == "uniid-adapter")  # its tokens are 0 at first
    assert lora.trainable(unet).keys() == {
        f"frisket_image_adapter.{name}" for name, _ in adapter.named_parameters()
    }
    first_output.square().mean().backward()
    # As several processes need it: none idles, and what is not trained has none.
    assert [name for name, value in adapter.named_parameters() if value.grad is None] == []
    names = [name for name, value in unet.named_parameters() if value.grad is not None]
    assert all(name.startswith("frisket_image_adapter.") for name in names)
    stir(adapter)
    with torch.no_grad():
        moved_output = predict(unet)
        branches.set_rows([draw_rows(kind)[0], draw_rows(kind, 8)[1]], None, POSES.draw)
        other = predict(unet)
        torch.testing.assert_close(moved_output[0], other[0], atol=1e-6, rtol=0)
        assert not torch.allclose(moved_output[1], other[1], atol=1e-6)
        with lora.frozen(unet):
            assert torch.equal(predict(unet), bare)
        branches.set_rows(None)
        assert torch.equal(predict(unet), bare)


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_weighs_or_acts_nothing_is_learnt(kind: TrainedKind) -> None:
    unet, adapter, branches = put_on(kind)
    stir(adapter)
    bare = PARTS.denoiser
    assert bare is not None
    branches.set_rows(draw_rows(kind), None, POSES.draw)
    weights = torch.zeros_like(LATENTS)
    (predict(unet).square() * weights).sum().backward()
    assert all(not value.grad.any() for value in adapter.parameters() if value.grad is not None)
    if kind == "uniid-text":
        return  # the prompt is read everywhere: such a run is refused
    adapter.zero_grad()
    place = torch.zeros(2, 1, 1, 8, 8)
    place[1] = 1
    branches.set_rows(draw_rows(kind), place, POSES.draw)
    confined = predict(unet)
    torch.testing.assert_close(confined[0], predict(bare)[0], rtol=0, atol=1e-6)
    confined[0].square().sum().backward()
    assert all(value.grad is not None for value in adapter.parameters())
    assert all(not value.grad.any() for value in adapter.parameters() if value.grad is not None)


def predict_instantid(adapter: ImageAdapterModules, rows: Tensor) -> Tensor:
    modules = InstantIdModules(adapter, adapter.identity_net)  # type: ignore[arg-type]
    faces = FaceRows(rows, POSES.draw(64, 64))
    with show_faces(FAMILY, PARTS.denoiser, modules, faces):  # type: ignore[arg-type]
        return predict(PARTS.denoiser)  # type: ignore[arg-type]


def read_features(adapter: ImageAdapterModules, rows: Tensor) -> FaceFeatures:
    assert adapter.sizes is not None
    return FaceFeatures(*adapter.sizes.unpack(rows))


def predict_words(adapter: ImageAdapterModules, rows: Tensor) -> Tensor:
    words: Any = WordTraining(adapter.image_proj)  # type: ignore[arg-type]
    text = words.condition(TEXT, read_features(adapter, rows))
    return FAMILY.predict(PARTS.denoiser, LATENTS, T, text)  # type: ignore[arg-type]


def predict_tokens(adapter: ImageAdapterModules, rows: Tensor) -> Tensor:
    training = TokenTraining(FAMILY, PARTS.denoiser, adapter)  # type: ignore[arg-type]
    with training.attach(read_features(adapter, rows)):
        return predict(PARTS.denoiser)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "predict_apart"),
    [
        ("instantid", predict_instantid),
        ("uniid-text", predict_words),
        ("uniid-adapter", predict_tokens),
    ],
)
def test_a_step_is_that_of_the_methods_own_training(
    kind: TrainedKind, predict_apart: Callable[[ImageAdapterModules, Tensor], Tensor]
) -> None:
    unet, adapter, branches = put_on(kind)
    stir(adapter)
    rows = draw_rows(kind)
    branches.set_rows(rows, None, POSES.draw)
    with torch.no_grad():
        torch.testing.assert_close(
            predict(unet), predict_apart(adapter, torch.stack(rows)), atol=1e-5, rtol=0
        )


def test_pictures_of_key_points_are_drawn_at_the_size_of_the_sample() -> None:
    pictures = POSES.draw(48, 80)
    assert pictures.shape == (2, 3, 48, 80)
    assert float(pictures[0].amax()) == 1
    assert not pictures[1].any()  # a clip without a face
    assert pictures[0, :, 23, 39].tolist() == [0.0, 0.0, 1.0]  # the nose, in blue
