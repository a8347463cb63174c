import pytest
import torch
from safetensors.torch import load_file, save_file

from frisket.faces.base import EMBEDDERS, EmbedderNotFound, EmbedderUnusable

IRESNET = EMBEDDERS.load("iresnet")


@pytest.fixture
def weights(tmp_path):
    return load_file(IRESNET.tiny(tmp_path / "pack") / "backbone.safetensors")


def test_pth_half_precision_and_folders_load_alike(weights, tmp_path):
    faces = torch.rand(1, 3, 112, 112) * 2 - 1
    expected = IRESNET.load(str(tmp_path / "pack"), "cpu").embed(faces)
    torch.save(weights, tmp_path / "backbone.pth")
    assert torch.equal(IRESNET.load(str(tmp_path), "cpu").embed(faces), expected)
    torch.save({k: v.half() for k, v in weights.items()}, tmp_path / "half.pth")
    half = IRESNET.load(str(tmp_path / "half.pth"), "cpu").embed(faces)
    assert half.dtype == torch.float32
    assert torch.allclose(half, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


def test_maps_come_with_the_same_embedding(weights, tmp_path):
    embedder = IRESNET.load(str(tmp_path / "pack"), "cpu")
    faces = torch.rand(2, 3, 112, 112)
    embeddings, maps = embedder.embed_maps(faces)
    assert torch.equal(embeddings, embedder.embed(faces))
    assert [tuple(cells.shape[1:]) for cells in maps] == [(4, s, s) for s in (56, 28, 14, 7)]


def test_missing_unexpected_and_misshapen_keys_are_named(weights, tmp_path):
    file = tmp_path / "odd.safetensors"
    weights.pop("layer2.0.prelu.weight")
    weights["head.weight"] = torch.zeros(3)
    weights["bn2.bias"] = torch.zeros(9)
    save_file(weights, file)
    with pytest.raises(EmbedderUnusable) as error:
        IRESNET.load(str(file), "cpu")
    message = str(error.value)
    assert message.startswith(str(file))
    assert "misses layer2.0.prelu.weight" in message
    assert "unexpected head.weight" in message
    assert "another shape bn2.bias" in message


def test_another_network_says_so(tmp_path):
    save_file({"vision.patch.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(EmbedderUnusable, match=r"is no iResNet.*begin with vision\.patch\.weight"):
        IRESNET.load(str(tmp_path), "cpu")


def test_missing_damaged_and_pickled_files_say_where_to_get_one(tmp_path):
    with pytest.raises(EmbedderNotFound, match=r"brings no weights.*model zoo"):
        IRESNET.load("", "cpu")
    with pytest.raises(EmbedderNotFound, match="does not exist"):
        IRESNET.load(str(tmp_path / "nowhere"), "cpu")
    with pytest.raises(EmbedderNotFound, match=r"holds none of backbone\.safetensors"):
        IRESNET.load(str(tmp_path), "cpu")
    for name in ("cut.pth", "cut.safetensors"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 not weights")
        with pytest.raises(EmbedderNotFound, match=f"{name} cannot be read as weights"):
            IRESNET.load(str(tmp_path / name), "cpu")
    torch.save({"epoch": 3}, tmp_path / "state.pth")
    with pytest.raises(EmbedderNotFound, match="no plain table of tensors"):
        IRESNET.load(str(tmp_path / "state.pth"), "cpu")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")  # code, which is never run
    with pytest.raises(EmbedderNotFound, match="cannot be read as weights"):
        IRESNET.load(str(tmp_path / "module.pth"), "cpu")
