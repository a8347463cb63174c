"""Loading models: what is missing is named, memory that runs out halves the batch."""

import pytest
import torch
from tests.maskgen.tiny import sam
from torch import nn

from frisket.maskgen.base import BackendUnusable, MaskWeightsNotFound, ModelSource
from frisket.maskgen.vision.loading import compute_fingerprint, folder_of, load_model, run_halving


def test_a_folder_that_lacks_files_says_which(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(
        MaskWeightsNotFound, match=r"lacks config\.json, model\.safetensors .*notes"
    ):
        folder_of(ModelSource(path=str(tmp_path)), "org/model")
    with pytest.raises(MaskWeightsNotFound, match="there is no such folder"):
        folder_of(ModelSource(path="./nowhere"), "org/model")
    (tmp_path / "model.bin").write_text("x")
    with pytest.raises(MaskWeightsNotFound, match="is a file; give the folder"):
        folder_of(ModelSource(path=str(tmp_path / "model.bin")), "org/model")


def test_a_hub_that_cannot_be_reached_says_how_to_go_on():
    with pytest.raises(MaskWeightsNotFound, match=r"org/model: .*hf download org/model .*--source"):
        folder_of(ModelSource(), "org/model")
    with pytest.raises(MaskWeightsNotFound, match="neither a folder here nor a hub id"):
        folder_of(ModelSource(path="not a//hub id"), "org/model")


def test_the_weights_of_another_model_are_refused(tmp_path):
    from transformers import CLIPSegForImageSegmentation

    folder = sam.sam2(tmp_path / "sam2")
    with pytest.raises(MaskWeightsNotFound, match="sam2"):
        load_model(CLIPSegForImageSegmentation, folder, ModelSource())


def test_a_fingerprint_knows_weights_from_others(tmp_path):
    one = sam.sam2(tmp_path / "one")
    before = compute_fingerprint(one)
    assert compute_fingerprint(one) == before
    weights = one / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert compute_fingerprint(one) != before
    hub = tmp_path / "models--org--name" / "snapshots" / "0123abc"
    hub.mkdir(parents=True)
    assert compute_fingerprint(hub) == "0123abc"


class Narrow(nn.Module):
    """Takes `room` pictures at once, as a small card does."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.batches: list[int] = []

    def forward(self, items):
        self.batches.append(len(items))
        if len(items) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return [item * 10 for item in items]


def test_memory_that_runs_out_halves_the_batch_and_goes_on(caplog):
    narrow = Narrow(3)
    assert list(run_halving(narrow, list(range(11)), 8)) == [item * 10 for item in range(11)]
    assert narrow.batches == [8, 4, 2, 2, 2, 2, 2, 1]
    assert "out of memory at 8 pictures; going on with 4" in caplog.text


def test_one_picture_that_does_not_fit_says_what_to_do():
    with pytest.raises(BackendUnusable, match="--longest 1024"):
        list(run_halving(Narrow(0), [1, 2], 2))


def test_other_errors_are_not_taken_for_memory():
    def broken(items):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        list(run_halving(broken, [1], 1))
