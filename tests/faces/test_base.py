from pathlib import Path

import pytest
import torch
from tests.faces import tiny_onnx
from tests.maskgen.tiny import people

from frisket.faces.base import (
    EMBEDDERS,
    Embedder,
    EmbeddingMixup,
    FaceEmbedding,
    check_norm,
    check_width,
    embed_faces,
)

# Builds that need the package onnx, which the package itself does not.
BUILDS = {"onnx": people.faces, "sface": tiny_onnx.write_sface}


def build_files(name: str, folder: Path) -> str:
    plugin = EMBEDDERS.load(name)
    if name in BUILDS:
        pytest.importorskip("onnx")
        return str(BUILDS[name](folder))
    return str(plugin.tiny(folder)) if plugin.tiny else ""


def test_a_unit_embedding_is_never_taken_for_a_raw_one():
    raw = torch.randn(512)
    face = FaceEmbedding(raw)
    assert torch.equal(face.raw, raw)
    assert face.unit.norm() == pytest.approx(1)
    assert face.width == 512
    with pytest.raises(EmbeddingMixup, match=r"FaceEmbedding\.raw: embedding 0 has norm 1"):
        FaceEmbedding(face.unit)


def test_norms_are_guarded_in_words():
    raw = torch.randn(3, 64) * 3
    unit = torch.nn.functional.normalize(raw)
    check_norm(raw, "raw", "ada.pt")
    check_norm(unit, "unit", "ada.pt")
    check_norm(unit.half(), "unit", "ada.pt")
    with pytest.raises(
        EmbeddingMixup, match=r"^ada\.pt: embedding 0 has norm .*'s embedding, not normed"
    ):
        check_norm(unit, "raw", "ada.pt")
    with pytest.raises(EmbeddingMixup, match=r"embedding 1 .*is raw; divide it by its norm"):
        check_norm(torch.stack([unit[0], raw[1]]), "unit", "ada.pt")
    for bad in (torch.zeros(1, 64), torch.full((1, 64), float("nan"))):
        with pytest.raises(EmbeddingMixup, match="holds no face"):
            check_norm(bad, "raw", "ada.pt")


@pytest.mark.parametrize("form", ["raw", "unit"])
@pytest.mark.parametrize("norm", [0.4, 0.9, 1.0, 1.49, 1.51, 20.0])
def test_every_norm_is_of_one_form_alone(form, norm):
    rows = torch.nn.functional.normalize(torch.ones(1, 8, dtype=torch.float64)) * norm
    if (norm >= 1.5) == (form == "raw"):
        check_norm(rows, form, "ada.pt")
    else:
        with pytest.raises(EmbeddingMixup, match=r"^ada\.pt: embedding 0 has norm"):
            check_norm(rows, form, "ada.pt")


def test_another_width_is_refused():
    check_width(512, 512, "ada.pt", "InstantID")
    with pytest.raises(EmbeddingMixup, match=r"its embedding has 128 .* InstantID reads 512"):
        check_width(128, 512, "ada.pt", "InstantID")


@pytest.mark.parametrize("name", EMBEDDERS.names())
def test_every_embedder_keeps_the_contract(name, tmp_path):
    plugin = EMBEDDERS.load(name)
    assert plugin.summary
    assert plugin.licence.weights
    assert plugin.commercial or plugin.licence.warning
    assert bool(plugin.files) == bool(plugin.published)
    embedder = plugin.load(build_files(name, tmp_path), "cpu")
    assert isinstance(embedder, Embedder)
    assert embedder.name == name
    aligned = torch.rand(3, 3, 112, 112) * 2 - 1
    aligned.requires_grad_(embedder.trainable_through)
    rows = embedder.embed(aligned)
    check_norm(rows, "raw", name)
    assert rows.shape == (3, embedder.width)
    assert torch.allclose(rows[1], embedder.embed(aligned[1:2])[0], atol=1e-4)
    if embedder.trainable_through:
        rows.square().sum().backward()
        assert (aligned.grad != 0).float().mean() > 0.5
    faces = embed_faces(embedder, aligned.detach())
    assert [face.width for face in faces] == [embedder.width] * 3
    assert torch.equal(faces[2].crop, aligned[2].detach())
    assert embedder.embed(aligned[:0]).shape == (0, embedder.width)
