"""InstantID while it trains: rows are people, the base is left alone, what is learned samples."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.inference.plugins.instantid import scene
from torch import Tensor, nn

from frisket.adapters.image.instantid import InstantIdModules
from frisket.adapters.spec import AdapterMismatch
from frisket.families.base import FAMILIES
from frisket.inference.methods.identity.image_attention import RowOwners
from frisket.inference.methods.identity.instantid.method import (
    InstantIdMethod,
    InstantIdStrength,
)
from frisket.inference.methods.identity.instantid.pose import draw_pose
from frisket.inference.methods.identity.instantid.training import (
    FaceRows,
    drop_faces,
    set_stage,
    show_faces,
)
from frisket.inference.methods.identity.residuals import add_residuals
from frisket.inference.methods.plugin import METHODS, MethodRequest
from frisket.inference.sample_specs import build_spec

CASES = [("pocket", "image"), ("stable_diffusion", "sdxl")]


class TrainingScene:
    """A tiny UNet, InstantID for it that is nowhere at zero, and a batch of two people."""

    def __init__(self, name: str, variant: str) -> None:
        self.family, self.variant = FAMILIES.load(name), variant
        self.card = self.family.variants[variant]
        self.parts = self.family.tiny(variant)
        assert self.parts.denoiser is not None
        self.unet: Any = self.parts.denoiser
        self.modules = InstantIdModules.start_for_model(
            self.unet, spatial=self.card.grid.spatial, hidden=64, embedding=64, tokens=3
        )
        scene.fill_weights(self.modules, "training")
        grid, self.side = self.card.grid, 2 * self.card.grid.step
        frames = 1 + grid.temporal if self.card.video else 1
        shape = (2, grid.channels, *grid.cells(frames, self.side, self.side))
        self.noisy, self.target = scene.draw("noisy", shape), scene.draw("target", shape)
        with torch.no_grad():
            text = self.parts.text
            assert text is not None
            self.conditioning = self.family.embed(text, ["a red fox", "two boats"])

    def make_rows(self) -> FaceRows:
        embeddings = torch.stack([scene.draw_face(name, 64).raw for name in ("ada", "bob")])
        size = (self.side, self.side)
        picture = draw_pose(scene.KEYPOINTS, scene.SOURCE, size, "scaled")
        return FaceRows(embeddings, torch.cat([picture, picture.flip(-1)]))

    def predict(self, pick: slice = slice(None)) -> Tensor:
        conditioning = {name: value[pick] for name, value in self.conditioning.items()}
        t = torch.tensor([0.3, 0.7])[pick]
        return self.family.predict(self.unet, self.noisy[pick], t, conditioning)

    @contextmanager
    def show(self, rows: FaceRows, **options: Any) -> Iterator[None]:
        with show_faces(self.family, self.unet, self.modules, rows, **options):
            yield

    def measure_loss(self, weights: Tensor) -> Tensor:
        return (weights * (self.predict() - self.target) ** 2).sum()


@pytest.fixture(scope="module", params=CASES, ids=" ".join)
def training(request: Any) -> TrainingScene:
    return TrainingScene(*request.param)


@torch.no_grad()
def test_rows_are_people_of_their_own_and_nothing_is_the_bare_model(
    training: TrainingScene,
) -> None:
    rows, bare = training.make_rows(), training.predict()
    with training.show(rows):
        both = training.predict()
    for row in range(2):
        pick = slice(row, row + 1)
        with training.show(FaceRows(rows.embeddings[pick], rows.pictures[pick])):
            torch.testing.assert_close(training.predict(pick), both[pick], rtol=1e-4, atol=1e-4)
        assert not torch.allclose(both[row], bare[row], atol=1e-2)
    swapped = FaceRows(rows.embeddings.flip(0), rows.pictures)
    with training.show(swapped):
        assert not torch.allclose(training.predict(), both, atol=1e-3)
    with training.show(rows, scale=0.0):
        assert torch.equal(training.predict(), bare)
    mask = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
    with training.show(replace(rows, mask=mask)):
        masked = training.predict()
    torch.testing.assert_close(masked[0], both[0], rtol=1e-5, atol=1e-5)
    assert torch.equal(masked[1], bare[1])
    assert torch.equal(training.predict(), bare)
    alone = FaceRows(rows.embeddings[:1], rows.pictures[:1])
    with training.show(alone), pytest.raises(ValueError, match="2 rows for 1 faces"):
        training.predict()


def test_gradients_reach_all_of_instantid_none_of_the_base_and_no_row_without_weight(
    training: TrainingScene,
) -> None:
    rows = training.make_rows()
    rows.embeddings.requires_grad_(True)
    rows.pictures.requires_grad_(True)
    weights = torch.zeros_like(training.target)
    weights[0, ..., : weights.shape[-1] // 2] = 1
    with training.show(rows):
        prediction = training.predict()
    prediction.retain_grad()
    (weights * (prediction - training.target) ** 2).sum().backward()
    assert prediction.grad is not None
    assert not prediction.grad[weights == 0].any()
    unreached = [
        name
        for name, value in training.modules.named_parameters()
        if value.grad is None or not value.grad.any()
    ]
    assert unreached == []
    assert all(value.grad is None for value in training.unet.parameters())
    for given in (rows.embeddings, rows.pictures):
        assert given.grad is not None
        assert given.grad[0].any()
        assert not given.grad[1].any()
    training.modules.zero_grad()


def test_recomputed_blocks_give_the_same_gradients(training: TrainingScene) -> None:
    rows, gradients, bare = training.make_rows(), [], training.predict().detach()
    for checkpoints in (False, True):
        nets = (training.unet, training.modules.identity_net) if checkpoints else ()
        for net in nets:
            net.enable_gradient_checkpointing()
            net.train()
        with set_stage(training.family, training.unet, training.modules) as stage:
            stage.show(rows)
            loss = training.measure_loss(torch.ones_like(training.target))
            loss.backward()  # recomputes, after the forward pass and before another is shown
            stage.hide()
            assert torch.equal(training.predict().detach(), bare)
        for net in nets:
            net.disable_gradient_checkpointing()
            net.eval()
        gradients.append({name: value.grad for name, value in training.modules.named_parameters()})
        training.modules.zero_grad()
    for name, gradient in gradients[0].items():
        assert gradient is not None
        scale = float(gradient.abs().max())
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-4 * scale)


def test_faces_are_dropped_row_by_row_from_the_steps_generator() -> None:
    rows = FaceRows(scene.draw("many", (400, 8)) + 3, torch.rand(400, 3, 2, 2))

    def draw(rate: float, seed: int = 0) -> FaceRows:
        return drop_faces(rows, rate, torch.Generator().manual_seed(seed))

    dropped = draw(0.1)
    is_dropped = (dropped.embeddings == 0).all(1)
    assert 20 < int(is_dropped.sum()) < 60
    assert torch.equal(dropped.embeddings[~is_dropped], rows.embeddings[~is_dropped])
    assert torch.equal(dropped.pictures, rows.pictures)
    assert torch.equal(draw(0.1).embeddings, dropped.embeddings)
    assert not torch.equal(draw(0.1, 1).embeddings, dropped.embeddings)
    assert torch.equal(draw(0.0).embeddings, rows.embeddings)
    assert not draw(1.0).embeddings.any()
    fewer = (draw(0.05).embeddings == 0).all(1)
    assert bool((is_dropped | ~fewer).all())  # what a lower rate drops, a higher one drops too
    with pytest.raises(ValueError, match=r"from 0 to 1, not 1\.5"):
        draw(1.5)
    with pytest.raises(ValueError, match="and 3 masks"):
        replace(rows, mask=torch.ones(3, 1, 1, 1))


@torch.no_grad()
def test_a_dropped_row_is_the_negative_of_sampling(tmp_path: Path) -> None:
    training = TrainingScene("pocket", "image")
    method = read_trained(training, tmp_path / "files", InstantIdStrength(strokes="scaled"))
    spec = build_spec(
        training.card, "a red fox", 1, height=training.side, width=training.side, steps=1
    )
    attention, source = method.make_halves({}, [spec])
    owners = RowOwners(torch.tensor([0, 0]), (True, False))
    source.find_owners = lambda _: owners
    with (
        add_residuals(training.unet, source.compute),
        attention.attach_branches(lambda _: owners),
    ):
        sampled = training.predict()
    rows = training.make_rows()
    embeddings = torch.stack([scene.draw_face("ada", 64).raw, torch.zeros(64)])
    with training.show(FaceRows(embeddings, rows.pictures[:1].expand(2, -1, -1, -1))):
        torch.testing.assert_close(training.predict(), sampled, rtol=1e-5, atol=1e-5)


def read_trained(
    training: TrainingScene, folder: Path, strength: InstantIdStrength
) -> InstantIdMethod:
    """What was trained, written and read again as a method."""
    training.modules.save(folder)
    reference = scene.make_reference(face=scene.draw_face("ada", 64))
    request = MethodRequest(source=folder, references=(reference,), options=strength)
    reading = METHODS.load("instantid").read(request, training.family, training.variant)
    method = reading.build(training.family, training.parts)
    assert isinstance(method, InstantIdMethod)
    return method


def test_a_masked_loss_falls_where_it_weighs() -> None:
    training = TrainingScene("pocket", "image")
    rows, generator = training.make_rows(), torch.Generator().manual_seed(0)
    weights = torch.zeros_like(training.target)
    weights[..., : weights.shape[-1] // 2, :] = 1
    bare = [value.clone() for value in training.unet.parameters()]
    optimizer = torch.optim.AdamW(training.modules.parameters(), lr=2e-3)
    losses = []
    for _ in range(8):
        with training.show(drop_faces(rows, 0.1, generator)):
            loss = training.measure_loss(weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.85 * losses[0]
    pairs = zip(training.unet.parameters(), bare, strict=True)
    assert all(torch.equal(value, before) for value, before in pairs)


@torch.no_grad()
def test_bfloat16_weights_of_the_base_and_autocast_are_no_obstacle() -> None:
    training = TrainingScene("pocket", "image")
    rows = training.make_rows()
    with training.show(rows):
        exact = training.predict()
        with torch.autocast("cpu", torch.bfloat16):
            mixed = training.predict()
    training.unet.to(torch.bfloat16)
    with training.show(rows):
        half = training.predict()
    span = float(exact.abs().max())
    for rough in (mixed, half):
        torch.testing.assert_close(rough, exact, rtol=0, atol=0.05 * span)


def test_a_denoiser_without_a_unet_is_refused() -> None:
    training, dit = TrainingScene("pocket", "image"), FAMILIES.load("pocket").tiny("dit")
    denoiser = dit.denoiser
    assert isinstance(denoiser, nn.Module)
    faces = show_faces(training.family, denoiser, training.modules, training.make_rows())
    with pytest.raises(AdapterMismatch, match="WanTransformer3DModel"), faces:
        pass
