"""SCRFD's outputs as faces; what runs on onnxruntime is in test_detect.py."""

import numpy as np
import pytest

from frisket.faces.scrfd import decode_faces, measure_overlap


def test_decoding_places_anchors_row_by_row_two_to_a_cell() -> None:
    scores = [np.zeros((2 * cells, 1), np.float32) for cells in (64, 16, 4)]
    boxes = [np.zeros((2 * cells, 4), np.float32) for cells in (64, 16, 4)]
    scores[1][2 * (4 * 1 + 2) + 1] = 0.75  # second anchor of row 1, column 2 at stride 16
    boxes[1][2 * (4 * 1 + 2) + 1] = (1, 0.5, 2, 1.5)
    ((edges, score, points),) = decode_faces([*scores, *boxes], 64)
    assert edges.tolist() == [32 - 16, 16 - 8, 32 + 32, 16 + 24]
    assert (score, points) == (0.75, None)


def test_a_batch_axis_before_the_anchors_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    outputs = [
        rng.random((2 * cells, width), np.float32) for width in (1, 4, 10) for cells in (64, 16, 4)
    ]
    for face, other in zip(
        decode_faces(outputs, 64),
        decode_faces([output[None] for output in outputs], 64),
        strict=True,
    ):
        assert np.array_equal(face[0], other[0])


def test_decoding_agrees_with_insightface() -> None:
    """Recorded from SCRFD.forward of insightface 2.1 on these very outputs."""
    rng = np.random.default_rng(7)
    outputs = [
        rng.random((anchors, width), np.float32) * (0.6 if width == 1 else 2)
        for width in (1, 4, 10)
        for anchors in (128, 32, 8)
    ]
    found = decode_faces(outputs, 64)
    assert len(found) == 31
    for place, score, edges, nose in (
        (0, 0.5973002, (-11.932, 11.984, 12.584, 28.897), (15.004, 31.837)),
        (9, 0.5763506, (29.402, 23.791, 57.071, 53.307), (33.078, 57.381)),
    ):
        assert found[place][1] == pytest.approx(score, abs=1e-6)
        assert found[place][0] == pytest.approx(edges, abs=1e-3)
        assert found[place][2][2] == pytest.approx(nose, abs=1e-3)


def test_overlap_is_shared_over_joint_area():
    square = (0.0, 0.0, 2.0, 2.0)
    assert measure_overlap(square, (1.0, 0.0, 3.0, 2.0)) == pytest.approx(1 / 3)
    assert measure_overlap(square, (2.0, 0.0, 3.0, 2.0)) == 0
    assert measure_overlap(square[::-1], square[::-1]) == 0
