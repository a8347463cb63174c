"""Faces of sampled pictures against those of training pictures, on packs of known answers."""

import pytest
import torch
from tests.faces import tiny_onnx
from tests.maskgen.tiny import people

from frisket.evaluation.identity import PersonReferences
from frisket.faces.recognise import identify_models, open_recogniser
from frisket.inference.generate import Picture
from frisket.inference.sample_specs import SampleSpec
from frisket.scoring.clips import TrainingPicture
from frisket.scoring.identity import collect_references, score_people
from frisket.scoring.similarity import COPY, measure_likeness

SHOT = SampleSpec("", 0, 64, 64, 1, 1, 1.0)
WHOLE = torch.ones(1, 64, 64)


@pytest.fixture
def pack(tmp_path):
    """A detector that finds one face in the middle, and a recogniser of its colours."""
    pytest.importorskip("onnx")
    return open_recogniser(identify_models(people.faces(tmp_path / "pack")))


@pytest.fixture
def pair(tmp_path):
    """OpenCV's pair: red squares are faces."""
    pytest.importorskip("onnx")
    tiny_onnx.write_sface(tiny_onnx.write_yunet(tmp_path / "pair"))
    return open_recogniser(identify_models(tmp_path / "pair"))


def paint_face(top, bottom):
    frames = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    frames[:, :32, :, 0], frames[:, 32:, :, 2] = top, bottom
    return frames


def paint_red(*faces):
    """Red cells of 32 pixels at (row, column), their lower parts of other reds."""
    frames = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    for row, column, lower in faces:
        cell = frames[:, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
        cell[..., 0] = 250
        cell[:, 10:18, :, 0] = lower
    return frames


def test_the_same_face_is_closer_than_another(pack):
    taught = [
        TrainingPicture(name, paint_face(top, 120), WHOLE, 1 - WHOLE)
        for name, top in (("first", 250), ("second", 240))
    ]
    pictures = {
        "base": [Picture(SHOT, paint_face(10, 255))],
        "run": [Picture(SHOT, paint_face(245, 125))],
    }
    likeness = measure_likeness(pictures, taught, None, pack, "base")
    assert likeness.values["run"]["identity"][0] > 0.98
    assert likeness.values["run"]["identity"][0] > likeness.values["base"]["identity"][0]
    assert likeness.values["run"]["faces"] == [1.0]
    assert likeness.raw["identity"][COPY] > 0.98
    rows = likeness.identity.build_rows()
    assert [row[:2] for row in rows] == [
        ("training pictures", "subject"),
        ("base", "subject"),
        ("run", "subject"),
    ]
    elsewhere = torch.zeros(1, 64, 64)
    elsewhere[:, :8, :8] = 1
    nobody = [TrainingPicture("first", paint_face(250, 120), elsewhere, 1 - elsewhere)]
    likeness = measure_likeness(pictures, nobody, None, pack, "base")
    assert "no face was found inside the masks" in likeness.lacking["identity"]
    assert likeness.identity is None


def test_pictures_without_a_face_count_as_strangers(pair):
    taught = [TrainingPicture("first", paint_red((0, 0, 200)), WHOLE, 1 - WHOLE)]
    shown, empty = Picture(SHOT, paint_red((0, 0, 200))), Picture(SHOT, paint_red())
    pictures = {"base": [empty, empty], "run": [shown, empty]}
    likeness = measure_likeness(pictures, taught, None, pair, "base")
    assert likeness.values["run"]["identity"] == pytest.approx([1, 0], abs=1e-5)
    assert likeness.values["run"]["faces"] == [1.0, 0.0]
    assert likeness.values["base"]["identity"] == [0.0, 0.0]
    assert "identity" not in likeness.raw  # one training picture is not told apart from itself


def test_regions_are_people_of_their_own(pair):
    left, right = torch.zeros(1, 64, 64), torch.zeros(1, 64, 64)
    left[..., :32], right[..., 32:] = 1, 1
    regions = {"ada": left, "bob": right}
    taught = [
        TrainingPicture(str(n), paint_red((0, 0, 60 + n), (0, 1, 240 - n)), WHOLE, left, regions)
        for n in range(2)
    ]
    references = collect_references(pair, taught)
    assert [person.name for person in references] == ["ada", "bob"]
    swapped = [paint_red((1, 0, 240), (1, 1, 60))]  # who it is counts, not where
    scores = score_people(pair, {"run": swapped, "alone": [paint_red((0, 1, 61))]}, references)
    assert scores.runs["run"]["ada"].right == (1.0,)
    assert scores.runs["run"]["bob"].right == (1.0,)
    assert scores.runs["alone"]["ada"].detected == (1.0,)
    assert scores.runs["alone"]["bob"].detected == (0.0,)
    assert scores.average_detected("alone") == [0.5]
    record = scores.as_record()["run"]["ada"]
    assert record["cosine"] > 0.9
    assert (record["detected"], record["right"], record["pictures"]) == (1.0, 1.0, 1)
    assert len(scores.build_rows()) == 6
    assert all(len(cells) == 4 for _, _, cells in scores.build_rows())


def test_a_person_is_found_among_regions_without_faces(pair):
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1
    picture = TrainingPicture(
        "first", paint_red((0, 0, 60)), WHOLE, left, {"ada": left, "dress": 1 - left}
    )
    assert [person.name for person in collect_references(pair, [picture])] == ["ada"]
    assert collect_references(pair, []) == ()
    assert isinstance(collect_references(pair, [picture])[0], PersonReferences)


def test_a_face_in_two_regions_is_the_smaller_ones(pair):
    """A face region within a person's: one person, not two that resemble each other."""
    whole, left = torch.ones(1, 64, 64), torch.zeros(1, 64, 64)
    left[..., :32] = 1
    regions = {"person": whole, "face": left}
    alone = TrainingPicture("first", paint_red((0, 0, 60)), WHOLE, 1 - WHOLE, regions)
    assert [person.name for person in collect_references(pair, [alone])] == ["face"]
