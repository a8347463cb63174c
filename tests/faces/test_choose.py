import pytest
import torch

from frisket.faces.base import EmbeddingMixup
from frisket.faces.choose import FaceNotUsable, choose_face
from frisket.maskgen.base import Box, Face

KEYPOINTS = torch.zeros(5, 2)


def face(left, side, embedding=None, keypoints=KEYPOINTS):
    row = None if embedding is None else torch.tensor(embedding)
    return Face(Box(left, 0.0, left + side, side), keypoints, row)


def test_the_only_face_is_taken_without_a_word():
    only = face(10.0, 40.0)
    assert choose_face([only], "ada.jpg") == (only, "")


def test_of_several_the_largest_or_the_likest_is_taken_and_said():
    ada, bob = face(0.0, 60.0, [1.0, 0.0]), face(100.0, 40.0, [0.0, 1.0])
    chosen, message = choose_face([bob, ada], "both.jpg")
    assert chosen is ada
    assert message == (
        "both.jpg shows 2 faces: the largest is taken, at (30, 30); to choose another, give a"
        " picture of that person by --like"
    )
    chosen, message = choose_face([ada, bob], "both.jpg", torch.tensor([0.1, 0.9]))
    assert chosen is bob
    assert message == "both.jpg shows 2 faces: the one most like --like is taken, at (120, 20)"


def test_what_cannot_be_used_says_why():
    with pytest.raises(FaceNotUsable, match=r"^sky\.jpg shows no face.*give a picture"):
        choose_face([], "sky.jpg")
    with pytest.raises(FaceNotUsable, match=r"^far\.jpg: its face is 19 x 19 pixels, and below 20"):
        choose_face([face(0.0, 19.0)], "far.jpg")
    with pytest.raises(FaceNotUsable, match=r"^ada\.jpg: the detector gives no key points"):
        choose_face([face(0.0, 40.0, keypoints=None)], "ada.jpg")
    with pytest.raises(FaceNotUsable, match=r"have no embeddings.*recogniser"):
        choose_face([face(0.0, 40.0), face(50.0, 40.0)], "both.jpg", torch.ones(2))
    with pytest.raises(EmbeddingMixup, match=r"--like: its embedding has 3 numbers"):
        choose_face([face(0.0, 40.0, [1.0, 0.0])], "ada.jpg", torch.ones(3))
