"""Key points follow the pixels of their clip, whatever is cut; files that are wrong are named."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frisket.data.faces.keypoints import (
    MIRRORED,
    BadKeypoints,
    find_keypoints,
    measure_cover,
    pick_face,
    place_keypoints,
    read_keypoints,
)
from frisket.media.geometry import Geometry

FACE = torch.tensor([[20.0, 20.0], [30.0, 21.0], [25.0, 26.0], [21.0, 31.0], [29.0, 32.0]])


def find_middle(plane: torch.Tensor) -> tuple[float, float]:
    rows, columns = torch.arange(plane.shape[0]), torch.arange(plane.shape[1])
    total = plane.sum()
    x, y = (plane.sum(0) * columns).sum() / total, (plane.sum(1) * rows).sum() / total
    return float(x), float(y)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(48, 130), st.integers(48, 130)),
    target=st.tuples(st.integers(4, 16), st.integers(4, 16)),
    flip=st.booleans(),
    place=st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)),
)
def test_points_follow_the_mask(
    size: tuple[int, int],
    target: tuple[int, int],
    flip: bool,
    place: tuple[float, float],
) -> None:
    """A blob of the mask lies after the cut where its middle is said to lie."""
    height, width = size
    geometry = Geometry(size, (8 * target[0], 8 * target[1]), (0,), flip)
    top, left, tall, wide = geometry.crop
    x, y = left + wide * (0.5 + place[0]), top + tall * (0.5 + place[1])
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    reach = 0.06 * min(tall, wide)
    plane = torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * reach**2)).float()
    cut = geometry.plane(plane[None])[0]
    placed = geometry.place_points(torch.tensor([[x, y]]))[0]
    scale = geometry.target[0] / tall
    allowed = 0.05 + 0.1 * scale
    middle = find_middle(torch.where(cut > 0.1, cut, 0.0))
    assert middle[0] == pytest.approx(float(placed[0]), abs=allowed)
    assert middle[1] == pytest.approx(float(placed[1]), abs=allowed)


def test_points_of_a_smaller_copy_are_those_of_the_clip() -> None:
    geometry = Geometry((96, 128), (64, 64), (0,), flip=True)
    half = (FACE + 0.5) / 2 - 0.5
    whole = place_keypoints(FACE, geometry, (96, 128), "a.json")
    torch.testing.assert_close(place_keypoints(half, geometry, (48, 64), "a.json"), whole)


@given(flip=st.booleans(), out=st.integers(4, 20))
@settings(max_examples=20, deadline=None)
def test_left_stays_left_in_a_mirrored_clip(flip: bool, out: int) -> None:
    geometry = Geometry((64, 64), (8 * out, 8 * out), (0,), flip)
    placed = place_keypoints(FACE, geometry, (64, 64), "a.json")
    assert placed[0, 0] < placed[1, 0]
    assert placed[3, 0] < placed[4, 0]
    plain = place_keypoints(FACE, Geometry((64, 64), (8 * out, 8 * out), (0,)), (64, 64), "a.json")
    if flip:
        mirrored = plain[list(MIRRORED)].clone()
        mirrored[:, 0] = 8 * out - 1 - mirrored[:, 0]
        torch.testing.assert_close(placed, mirrored)
    else:
        torch.testing.assert_close(placed, plain)


def test_another_shape_than_the_clip_is_refused() -> None:
    with pytest.raises(BadKeypoints, match=r"a.json: its size is 64 x 64 .* its clip 128 x 64"):
        place_keypoints(FACE, Geometry((64, 128), (64, 64), (0,)), (64, 64), "a.json")


def test_a_file_says_frames_and_faces(tmp_path: Path) -> None:
    clip = tmp_path / "ada.mp4"
    clip.touch()
    assert find_keypoints(clip) is None
    path = tmp_path / "ada.keypoints.json"
    faces = [{"points": FACE.tolist()}, {"frame": 4, "points": FACE.tolist()}, {"frame": 4}]
    faces[2] = {"frame": 4, "points": (FACE + 7).tolist()}
    path.write_text(json.dumps({"size": [128, 96], "faces": faces}))
    assert find_keypoints(clip) == path
    noted = read_keypoints(path)
    assert noted.size == (96, 128)
    assert {frame: len(found) for frame, found in noted.faces.items()} == {0: 1, 4: 2}
    assert torch.equal(noted.faces[4][1], FACE + 7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no JSON"),
        ("[]", 'it should be {"size"'),
        ('{"faces": []}', "size should be"),
        ('{"size": [0, 4], "faces": []}', "size should be"),
        ('{"size": [4, 4], "faces": [3]}', "face 0 should be a table"),
        ('{"size": [4, 4], "faces": [{"frame": -1}]}', "frame should be a whole number"),
        ('{"size": [4, 4], "faces": [{"points": [[1, 2]]}]}', "points should be 5 pairs"),
        ('{"size": [4, 4], "faces": [{"points": [[1, 2], 3, 4, 5, 6]}]}', "5 pairs"),
        ('{"size": [4, 4], "faces": [{"points": [[1,2],[1,2],[1,2],[1,2],[1,NaN]]}]}', "."),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "ada.keypoints.json"
    path.write_text(text)
    with pytest.raises(BadKeypoints, match=words) as raised:
        read_keypoints(path)
    assert str(path) in str(raised.value)


def test_of_several_faces_the_one_in_the_region_is_meant() -> None:
    plane = torch.zeros(64, 96)
    plane[:, 48:] = 1
    right = FACE + torch.tensor([45.0, 0.0])
    assert measure_cover(FACE, plane) == 0
    assert torch.equal(pick_face([FACE, right], plane), right)
    assert pick_face([FACE], plane) is None
    assert pick_face([], plane) is None
    assert pick_face([right + 200], plane) is None  # outside the picture
