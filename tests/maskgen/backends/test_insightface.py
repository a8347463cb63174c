"""Faces through onnxruntime on tiny models: boxes, points and embeddings of known answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.maskgen.tiny import people

from frisket.faces.align import TEMPLATE
from frisket.maskgen.backends.insightface import BACKEND, align_face
from frisket.maskgen.base import (
    BackendUnusable,
    FaceFinder,
    MaskWeightsNotFound,
    ModelSource,
    RgbPicture,
)
from frisket.media.frames import decode

PHOTO = Path(__file__).parents[3] / "examples/photos/clips/astronaut.jpg"
SMALL = [(6.0, 6.0), (14.0, 6.0), (10.0, 10.0), (7.0, 14.0), (13.0, 14.0)]
ALIGNED = np.array(TEMPLATE)
LARGE = [(36.0, 32.0), (56.0, 32.0), (46.0, 42.0), (38.0, 52.0), (54.0, 52.0)]


def turned(points: np.ndarray, degrees: float, scale: float) -> np.ndarray:
    """Points about (100, 100), turned and scaled."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return ((points - 56) @ turn.T * scale + 100).astype(np.float32)


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1.0), (30, 0.7), (-75, 1.4), (180, 1.0)])
def test_alignment_undoes_turn_and_scale(degrees: float, scale: float) -> None:
    points = turned(ALIGNED, degrees, scale)
    picture = np.zeros((200, 200, 3), np.uint8)
    for x, y in points.round().astype(int):
        picture[y - 3 : y + 4, x - 3 : x + 4] = 255
    face = align_face(picture, points)
    assert face.shape == (112, 112, 3)
    for x, y in ALIGNED.round().astype(int):
        assert face[y, x].min() > 200


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "onnxruntime", None)
        with pytest.raises(BackendUnusable, match=r"pip install 'frisket\[insightface\]'"):
            BACKEND.load(ModelSource(path=str(tmp_path)))


def test_its_licence_is_told() -> None:
    assert "non-commercial" in BACKEND.licence.warning


class TestOnRuntime:
    """What needs onnxruntime, and onnx to write the tiny models."""

    @pytest.fixture(autouse=True)
    def _packages(self) -> None:
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnx")

    @pytest.fixture
    def photo(self) -> RgbPicture:
        return decode(PHOTO)[0]

    def test_faces_come_largest_first_in_the_pixels_of_the_picture(
        self, tmp_path: Path, photo: RgbPicture
    ) -> None:
        people.faces(
            tmp_path, [(0.95, SMALL), (0.6, LARGE), (0.3, [(x + 30, y) for x, y in SMALL])]
        )
        finder = BACKEND.load(ModelSource(path=str(tmp_path)))
        assert isinstance(finder, FaceFinder)
        (faces,) = finder.faces([photo])
        scale = max(photo.shape[:2]) / people.FACE_SIDE
        assert [face.box.score for face in faces] == pytest.approx([0.6, 0.95])
        for face, points in zip(faces, (LARGE, SMALL), strict=True):
            expected = torch.tensor(points) * scale
            torch.testing.assert_close(face.keypoints, expected, atol=0.01, rtol=0)
            assert face.embedding is not None
            assert float(face.embedding.norm()) == pytest.approx(1, abs=1e-5)
            left, top = (expected.amin(0) - 8 * scale).clamp(min=0).tolist()
            assert (face.box.left, face.box.top) == pytest.approx((left, top), abs=0.01)

    def test_a_wide_picture_is_not_squeezed(self, tmp_path: Path) -> None:
        people.faces(tmp_path, [(0.9, SMALL)])
        picture = torch.zeros(120, 240, 3, dtype=torch.uint8)
        ((face,),) = BACKEND.load(ModelSource(path=str(tmp_path))).faces([picture])
        torch.testing.assert_close(face.keypoints, torch.tensor(SMALL) * 240 / 64)

    def test_one_face_found_twice_is_one(self, tmp_path: Path, photo: RgbPicture) -> None:
        nudged = [(x + 9.0, y + 1.0) for x, y in SMALL]
        people.faces(tmp_path, [(0.9, LARGE), (0.8, [(x - 4, y) for x, y in LARGE])])
        assert len(BACKEND.load(ModelSource(path=str(tmp_path))).faces([photo])[0]) == 1
        people.faces(tmp_path, [(0.9, LARGE), (0.8, nudged)])
        assert len(BACKEND.load(ModelSource(path=str(tmp_path))).faces([photo])[0]) == 2

    def test_an_embedding_tells_faces_apart_and_not_where_they_are(self, tmp_path: Path) -> None:
        people.faces(tmp_path, [(0.9, SMALL), (0.8, LARGE)])
        finder = BACKEND.load(ModelSource(path=str(tmp_path)))
        face = torch.zeros(112, 112, 3, dtype=torch.uint8)
        face[:56, :, 0] = 250
        face[56:, :, 2] = 120
        ((large, small),) = finder.faces([torch.cat([face, face.flip(0)], 1).repeat(2, 1, 1)])
        assert large.keypoints.shape == (5, 2)
        assert float(large.embedding @ small.embedding) < 0.99
        ((again, _),) = finder.faces([torch.cat([face, face.flip(0)], 1).repeat(2, 1, 1)])
        torch.testing.assert_close(large.embedding, again.embedding)

    def test_without_a_recogniser_faces_have_no_embedding(
        self, tmp_path: Path, photo: RgbPicture, caplog: pytest.LogCaptureFixture
    ) -> None:
        people.faces(tmp_path)
        (tmp_path / "w600k_r50.onnx").unlink()
        ((face,),) = BACKEND.load(ModelSource(path=str(tmp_path))).faces([photo])
        assert face.embedding is None
        assert "w600k_r50.onnx" in caplog.text

    def test_a_gpu_that_onnxruntime_lacks_is_said(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("this onnxruntime has CUDA")
        BACKEND.load(ModelSource(path=str(people.faces(tmp_path)), device="cuda"))
        assert "faces are found on the CPU" in caplog.text

    def test_wrong_folders_and_files_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(MaskWeightsNotFound, match=r"det_10g\.onnx.*w600k_r50\.onnx"):
            BACKEND.load(ModelSource(path=str(tmp_path)))
        people.faces(tmp_path)
        (tmp_path / "w600k_r50.onnx").rename(tmp_path / "det_10g.onnx")
        with pytest.raises(MaskWeightsNotFound, match="1 outputs: it is not an SCRFD"):
            BACKEND.load(ModelSource(path=str(tmp_path)))
        (tmp_path / "det_10g.onnx").write_bytes(b"no model")
        with pytest.raises(MaskWeightsNotFound, match="damaged or not an ONNX model"):
            BACKEND.load(ModelSource(path=str(tmp_path)))
