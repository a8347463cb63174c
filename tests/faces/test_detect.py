import numpy as np
import pytest
import torch
from tests.faces import tiny_onnx

from frisket.faces.base import EMBEDDERS, FaceModelNotFound, FaceModelUnusable
from frisket.faces.choose import choose_face
from frisket.faces.detect import (
    DETECTORS,
    DetectedFace,
    FaceBox,
    FaceDetector,
    describe_faces,
    find_faces,
)
from frisket.licence import Licence
from frisket.pocket.portraits import draw_person, sample_person, sample_view
from frisket.pocket.world import draw, random_scene

UPRIGHT = torch.tensor(tiny_onnx.UPRIGHT)


class GivenFaces:
    """A detector that answers what it was made with."""

    name = "given"
    licence = Licence("", "")

    def __init__(self, faces):
        self.faces = faces

    def detect(self, frame):
        return self.faces


def face_at(left, top, side):
    box = FaceBox(left, top, left + side, top + side)
    return DetectedFace(box, UPRIGHT * side + torch.tensor([left, top]), 0.9)


def test_faces_come_largest_first_and_cut_to_the_picture():
    faces = [face_at(0.0, 0.0, 20.0), face_at(70.0, -10.0, 60.0), face_at(200.0, 0.0, 50.0)]
    found = find_faces(GivenFaces(faces), torch.zeros(80, 100, 3, dtype=torch.uint8))
    assert [face.box for face in found] == [
        FaceBox(70.0, 0.0, 100.0, 50.0),
        FaceBox(0.0, 0.0, 20.0, 20.0),
    ]
    assert torch.equal(found[0].keypoints, faces[1].keypoints)  # points may lie outside


def test_described_faces_can_be_chosen_among():
    frame = (torch.rand(80, 160, 3, generator=torch.Generator().manual_seed(0)) * 255).byte()
    nobody = DetectedFace(FaceBox(0.0, 0.0, 1.0, 1.0), None, 0.5)
    faces = [face_at(0.0, 0.0, 60.0), nobody, face_at(80.0, 10.0, 50.0)]
    embedder = EMBEDDERS.load("tiny").load("", "cpu")
    first, second, third = describe_faces(embedder, frame, faces)
    assert second is nobody
    assert first.embedding.norm() == pytest.approx(1)
    assert third.description.crop.shape == (3, 112, 112)
    alone = describe_faces(embedder, frame, faces[2:])[0]
    assert torch.allclose(alone.description.raw, third.description.raw, atol=1e-5)
    chosen, _ = choose_face([first, third], "both.png", third.embedding)
    assert chosen is third


@pytest.mark.parametrize("name", DETECTORS.names())
def test_every_detector_says_what_it_is(name):
    plugin = DETECTORS.load(name)
    assert plugin.summary
    assert plugin.licence.weights
    assert plugin.commercial or plugin.licence.warning
    assert bool(plugin.files) == bool(plugin.published)
    if plugin.files:
        with pytest.raises(FaceModelNotFound, match=r"nowhere.*give "):
            plugin.load("/nowhere", "cpu")


class TestDrawn:
    """The package's own detector on drawn people it has never seen."""

    @pytest.fixture
    def drawn(self):
        return DETECTORS.load("drawn").load("", "cpu")

    @pytest.mark.parametrize("side", [32, 64, 160])
    def test_unseen_people_are_found_with_their_points(self, drawn, side):
        errors = []
        for seed in range(12):
            rng = np.random.RandomState(3_000_000 + seed)
            person, view = sample_person(rng), sample_view(rng)
            portrait = draw_person(person, view, side)
            (face,) = find_faces(drawn, torch.from_numpy(portrait.picture))
            gap = face.keypoints.numpy() - portrait.keypoints
            errors.append(float(np.hypot(*gap.T).mean()) / (view.size * side))
            middle = np.array([view.x, view.y]) * side
            assert np.hypot(*(np.array(face.box.centre) - middle)) < 0.5 * view.size * side
        assert np.mean(errors) < 0.04  # of half the head's height

    def test_pictures_without_a_face_have_none(self, drawn):
        for seed in range(12):
            scene = random_scene(np.random.RandomState(3_100_000 + seed))
            assert find_faces(drawn, torch.from_numpy(draw(scene, 64)[0].copy())) == []

    def test_two_people_side_by_side_are_two(self, drawn):
        rng = np.random.RandomState(3_200_000)
        halves = [draw_person(sample_person(rng), sample_view(rng, spread=0.3)) for _ in range(2)]
        board = np.concatenate([half.picture for half in halves], 1)  # 64 x 128, read at half size
        faces = find_faces(drawn, torch.from_numpy(board))
        assert len(faces) == 2
        first, second = sorted(faces, key=lambda face: face.box.left)
        assert first.box.right < 70
        assert second.box.left > 58

    def test_it_takes_no_weights_of_others(self, drawn):
        assert isinstance(drawn, FaceDetector)
        with pytest.raises(FaceModelUnusable, match="yunet for photographs"):
            DETECTORS.load("drawn").load("models", "cpu")


class TestYuNet:
    """OpenCV's decoding of a network that finds red squares."""

    @pytest.fixture
    def yunet(self, tmp_path):
        pytest.importorskip("onnx")
        return DETECTORS.load("yunet").load(str(tiny_onnx.write_yunet(tmp_path)), "cpu")

    def test_a_red_square_is_found_where_it_is(self, yunet):
        assert isinstance(yunet, FaceDetector)
        frame = torch.zeros(128, 160, 3, dtype=torch.uint8)
        assert find_faces(yunet, frame) == []
        frame[32:64, 96:128, 0] = 250
        (face,) = find_faces(yunet, frame)
        assert face.box == FaceBox(96.0, 32.0, 128.0, 64.0)
        assert face.score == pytest.approx(250 / 255, abs=1e-4)
        assert torch.allclose(face.keypoints, UPRIGHT * 32 + torch.tensor([96, 32]), atol=1e-3)

    def test_blue_is_no_red(self, yunet):
        frame = torch.zeros(64, 64, 3, dtype=torch.uint8)
        frame[:32, :32, 2] = 250
        assert find_faces(yunet, frame) == []

    def test_a_large_picture_is_read_smaller(self, yunet):
        frame = torch.zeros(1280, 960, 3, dtype=torch.uint8)
        frame[128:192, 64:128, 0] = 250
        (face,) = find_faces(yunet, frame)
        assert face.box == FaceBox(64.0, 128.0, 128.0, 192.0)
        assert torch.allclose(face.keypoints, UPRIGHT * 64 + torch.tensor([64, 128]), atol=1e-3)

    def test_damaged_and_other_files_are_named(self, tmp_path):
        pytest.importorskip("onnx")
        file = tmp_path / "face_detection_yunet_2023mar.onnx"
        file.write_bytes(b"no model")
        with pytest.raises(FaceModelNotFound, match=r"2023mar\.onnx is damaged or no YuNet"):
            DETECTORS.load("yunet").load(str(tmp_path), "cpu")
        other = tiny_onnx.write_sface(tmp_path) / "face_recognition_sface_2021dec.onnx"
        with pytest.raises(FaceModelNotFound, match=r"sface_2021dec\.onnx is damaged or no YuNet"):
            DETECTORS.load("yunet").load(str(other), "cpu")
