"""A pack read by us against what insightface's own classes gave on it.

Recorded by scripts/record_face_sessions.py. What differs on other pictures: insightface cuts sides
to whole pixels downwards and scales both back by one factor; ours rounds, and each by its own.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.faces import pack_scene as scene
from tests.maskgen.tiny import people

from frisket.faces.base import EMBEDDERS
from frisket.faces.detect import DETECTORS

PEERS = json.loads((Path(__file__).parent / "pack_peers.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    pytest.importorskip("onnx")
    return str(people.faces(tmp_path_factory.mktemp("pack"), scene.FACES))


def test_raw_embeddings_are_insightface_s(pack):
    pixels = scene.draw_face().permute(2, 0, 1)[None].float() / 127.5 - 1
    ours = EMBEDDERS.load("onnx").load(pack, "cpu").embed(pixels)[0].numpy()
    theirs = np.array(PEERS["embedding"])
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_faces_of_a_picture_are_insightface_s(pack):
    faces = DETECTORS.load("scrfd").load(pack, "cpu").detect(scene.draw_picture())
    assert len(faces) == len(PEERS["boxes"]) == 2  # the third overlaps the second
    for face, theirs, points in zip(faces, PEERS["boxes"], PEERS["points"], strict=True):
        edges = [face.box.left, face.box.top, face.box.right, face.box.bottom]
        assert [*edges, face.score] == pytest.approx(theirs, abs=1e-4)
        assert torch.allclose(face.keypoints, torch.tensor(points), atol=1e-4)
