"""Recognisers in ONNX files: what they answer on tiny builds, and what wrong files are told."""

import sys

import cv2
import numpy as np
import pytest
import torch
from tests.faces import tiny_onnx
from tests.maskgen.tiny import people

from frisket.faces.base import (
    EMBEDDERS,
    EmbedderUnusable,
    FaceModelNotFound,
    FaceModelUnusable,
)
from frisket.faces.detect import DETECTORS, describe_faces, find_faces
from frisket.maskgen.base import BACKENDS, ModelSource

ONNX, SFACE = EMBEDDERS.load("onnx"), EMBEDDERS.load("sface")

pytest.importorskip("onnx")


@pytest.fixture
def levels():
    """A face of whole levels, `112 112 3` uint8."""
    return np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)


def scale(levels):
    return torch.from_numpy(levels).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_sface_answers_as_opencv_s_recogniser_does(tmp_path, levels):
    tiny_onnx.write_sface(tmp_path)
    file = str(tmp_path / "face_recognition_sface_2021dec.onnx")
    theirs = cv2.FaceRecognizerSF.create(file, "").feature(np.ascontiguousarray(levels[..., ::-1]))
    for source in (tmp_path, file):
        embedder = SFACE.load(str(source), "cpu")
        ours = embedder.embed(scale(levels))
        assert embedder.width == 128
        assert np.abs(ours.numpy() - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_a_pack_embeds_as_the_mask_backend_does(tmp_path):
    people.faces(tmp_path)
    picture = torch.zeros(96, 64, 3, dtype=torch.uint8)
    picture[:40, :, 0], picture[40:, 20:, 2] = 250, 120
    detector = DETECTORS.load("scrfd").load(str(tmp_path), "cpu")
    embedder = ONNX.load(str(tmp_path), "cpu")
    (face,) = describe_faces(embedder, picture, find_faces(detector, picture))
    ((theirs,),) = (
        BACKENDS.load("insightface").load(ModelSource(path=str(tmp_path))).faces([picture])
    )
    assert embedder.width == 512
    assert face.description.raw.norm() > 1.5  # the network's own answer, not divided
    torch.testing.assert_close(face.keypoints, theirs.keypoints)
    edges = [face.box.left, face.box.top, face.box.right, face.box.bottom]
    assert edges == pytest.approx(
        [theirs.box.left, theirs.box.top, theirs.box.right, theirs.box.bottom]
    )
    # Theirs is cut out with cv2, in steps of 1/32 pixel and whole levels.
    assert float(face.embedding @ theirs.embedding) > 0.999


def test_wrong_packs_are_named(tmp_path):
    people.faces(tmp_path)
    detector = str(tmp_path / "det_10g.onnx")
    with pytest.raises(EmbedderUnusable, match=r"det_10g\.onnx .*it is no face recogniser"):
        ONNX.load(detector, "cpu")
    with pytest.raises(FaceModelNotFound, match="1 outputs: it is not an SCRFD"):
        DETECTORS.load("scrfd").load(str(tmp_path / "w600k_r50.onnx"), "cpu")
    yunet = tiny_onnx.write_yunet(tmp_path) / "face_detection_yunet_2023mar.onnx"
    with pytest.raises(EmbedderUnusable, match=r"2023mar\.onnx has 12 outputs"):
        SFACE.load(str(yunet), "cpu")
    (tmp_path / "w600k_r50.onnx").write_bytes(b"no model")
    with pytest.raises(FaceModelNotFound, match=r"w600k_r50\.onnx is damaged or not an ONNX"):
        ONNX.load(str(tmp_path), "cpu")
    (tmp_path / "face_recognition_sface_2021dec.onnx").write_bytes(b"no model")
    with pytest.raises(FaceModelNotFound, match=r"2021dec\.onnx is damaged"):
        SFACE.load(str(tmp_path), "cpu")
    with pytest.raises(FaceModelNotFound, match=r"holds none of face_recognition.*model zoo"):
        SFACE.load(str(tmp_path.parent), "cpu")


def test_without_onnxruntime_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for plugin in (ONNX, DETECTORS.load("scrfd")):
        with pytest.raises(FaceModelUnusable, match=r"pip install 'frisket\[insightface\]'"):
            plugin.load(str(tmp_path), "cpu")
    SFACE.load(str(tiny_onnx.write_sface(tmp_path)), "cpu")  # needs OpenCV alone
