import pytest
import torch
from tests.faces import tiny_onnx
from tests.maskgen.tiny import people

from frisket.faces.base import EMBEDDERS, FaceModelNotFound, FaceModelUnusable
from frisket.faces.detect import DETECTORS
from frisket.faces.opening import open_embedder
from frisket.faces.recognise import (
    FaceModels,
    complete_models,
    identify_models,
    open_recogniser,
)


def test_the_free_pair_comes_before_a_pack(tmp_path):
    pytest.importorskip("onnx")
    tiny_onnx.write_sface(tiny_onnx.write_yunet(people.faces(tmp_path)))
    models = identify_models(tmp_path)
    assert (models.embedder, models.detector) == ("sface", "yunet")
    (tmp_path / "face_recognition_sface_2021dec.onnx").unlink()
    models = identify_models(tmp_path)
    assert (models.embedder, models.detector) == ("onnx", "scrfd")
    (tmp_path / "det_10g.onnx").unlink()
    assert identify_models(tmp_path).detector == "yunet"


def test_a_folder_without_models_says_what_it_may_hold(tmp_path):
    pytest.importorskip("onnx")
    with pytest.raises(FaceModelNotFound, match=r"no face recogniser.*2021dec.*model zoo.*w600k"):
        identify_models(tmp_path)
    with pytest.raises(FaceModelNotFound, match="nowhere is no folder"):
        identify_models(tmp_path / "nowhere")
    tiny_onnx.write_sface(tmp_path)
    with pytest.raises(FaceModelNotFound, match=r"no face detector.*yunet.*det_10g"):
        identify_models(tmp_path)


@pytest.mark.parametrize("name", EMBEDDERS.names())
def test_every_embedder_goes_with_a_detector_that_is_as_free(name):
    detector = DETECTORS.load(EMBEDDERS.load(name).detector)
    assert detector.commercial or not EMBEDDERS.load(name).commercial


def test_models_are_completed_from_the_embedder(tmp_path):
    complete = complete_models(FaceModels("onnx", str(tmp_path)))
    assert (complete.detector, complete.detector_source) == ("scrfd", str(tmp_path))
    file = tmp_path / "sface.onnx"
    file.write_bytes(b"")
    assert complete_models(FaceModels("sface", str(file))).detector_source == str(tmp_path)
    assert complete_models(FaceModels("tiny")).detector_source == ""
    chosen = FaceModels("onnx", "packs", "yunet", "zoo")
    assert complete_models(chosen) == chosen


def test_a_licence_is_said_once_before_anything_is_loaded(tmp_path, caplog):
    for _ in range(2):
        with pytest.raises(FaceModelNotFound):
            open_embedder("onnx", str(tmp_path))
    (message,) = caplog.messages
    assert message.startswith("onnx: ")
    assert "non-commercial" in message
    open_embedder("tiny")
    assert len(caplog.messages) == 1


def test_the_largest_face_inside_a_plane_is_embedded(tmp_path):
    pytest.importorskip("onnx")
    tiny_onnx.write_sface(tiny_onnx.write_yunet(tmp_path))
    recogniser = open_recogniser(identify_models(tmp_path))
    frame = torch.zeros(64, 64, 3, dtype=torch.uint8)
    assert recogniser.embed_largest(frame) is None
    frame[:32, :32, 0], frame[32:, 32:, 0] = 250, 200
    faces = recogniser.recognise(frame)
    assert len(faces) == 2
    right = torch.zeros(1, 64, 64)
    right[..., 32:] = 1
    raw = recogniser.embed_largest(frame, right)
    assert any(torch.allclose(raw, face.description.raw) for face in faces)
    assert not torch.allclose(raw, recogniser.embed_largest(frame, 1 - right))
    assert recogniser.embed_largest(frame, torch.zeros(1, 64, 64)) is None


def test_an_embedder_without_a_detector_asks_for_one(monkeypatch):
    from dataclasses import replace

    lonely = replace(EMBEDDERS.load("sface"), detector="")
    monkeypatch.setattr("frisket.faces.embedders.sface.EMBEDDER", lonely)
    with pytest.raises(FaceModelUnusable, match=r"sface goes with no detector.*scrfd, yunet"):
        complete_models(FaceModels("sface"))
