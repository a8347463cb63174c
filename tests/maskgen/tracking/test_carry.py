"""A person found in some frames is carried to the others, and what stays empty is told."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from frisket.evaluation.mask_metrics import iou
from frisket.maskgen.base import Detections, Instance
from frisket.maskgen.files.recording import Blanks
from frisket.maskgen.tracking.carry import ALONE, REACH, carry
from frisket.maskgen.tracking.tracker import Tracking

PHOTOS = Path(__file__).parents[3] / "examples" / "photos"
SIDE, STEP = 128, 1.5  # pixels; of a frame to the next


@pytest.fixture(scope="module")
def astronaut() -> tuple[np.ndarray, np.ndarray]:
    """A photograph of SIDE pixels and the hand mask of its person."""
    picture = cv2.imread(str(PHOTOS / "clips" / "astronaut.jpg"))[..., ::-1]
    mask = cv2.imread(str(PHOTOS / "masks" / "astronaut.png"), cv2.IMREAD_GRAYSCALE)
    size = (SIDE, SIDE)
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return small, cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)


def moving(astronaut, count: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Frames of the photograph pushed to and fro, with the masks of face and body in each."""
    picture, mask = astronaut
    frames = []
    for at in range(count):
        shift = np.float32([[1, 0, 8 * np.sin(at * STEP / 8)], [0, 1, 0]])
        moved = cv2.warpAffine(picture, shift, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
        labels = cv2.warpAffine(
            mask, shift, (SIDE, SIDE), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
        )
        planes = (torch.from_numpy(labels == 255), torch.from_numpy(labels == 128))
        frames.append((torch.from_numpy(moved), *(plane.float() for plane in planes)))
    return frames


def carried(frames, lost, doubted=()):
    """What `carry` gives where the frames `lost` have no find, and those `doubted` a face alone."""
    turn = iter(range(len(frames)))

    def look(_picture) -> Detections:
        at = next(turn)
        if at in lost:
            return Detections(unsure="no face")
        face = Instance("face", frames[at][1], 0.9)
        if at in doubted:
            return Detections((face,), "only the face was taken")
        return Detections((face, Instance("body", frames[at][2], 0.8)))

    return list(carry((frame[0] for frame in frames), look, Tracking()))


def plane(found, region: str) -> torch.Tensor:
    masks = [each.instance.mask for each in found if each.instance.region == region]
    return torch.stack(masks).amax(0) >= 0.5 if masks else torch.zeros(SIDE, SIDE, dtype=bool)


def test_frames_without_a_find_between_two_get_the_person(astronaut):
    frames = moving(astronaut, 16)
    found = carried(frames, lost=range(3, 13))
    assert len(found) == 16
    for at, (_, face, body) in enumerate(frames):
        assert iou(plane(found[at], "face"), face >= 0.5) > 0.8, at
        assert iou(plane(found[at], "body"), body >= 0.5) > 0.8, at
    scores = [min(each.instance.score for each in frame) for frame in found]
    assert scores[8] < scores[3] < scores[0]


def test_before_the_first_and_after_the_last_find_one_is_carried_a_little_way(astronaut):
    lead, tail = ALONE + 2, ALONE + 3
    frames = moving(astronaut, lead + 2 + tail)
    found = carried(frames, lost=[*range(lead), *range(lead + 2, len(frames))])
    filled = [bool(each) for each in found]
    assert filled == [False] * 2 + [True] * (2 * ALONE + 2) + [False] * 3
    assert iou(plane(found[lead - 5], "face"), frames[lead - 5][1] >= 0.5) > 0.7


def test_a_face_alone_takes_the_body_of_its_neighbours(astronaut):
    frames = moving(astronaut, 6)
    found = carried(frames, lost=(), doubted=(2, 3))
    for at in (2, 3):
        assert iou(plane(found[at], "body"), frames[at][2] >= 0.5) > 0.8


def test_nothing_is_carried_over_a_cut_or_where_nobody_is_ever_seen(astronaut):
    frames = moving(astronaut, 6)
    dark = torch.zeros_like(frames[0][0])
    blank = torch.zeros(SIDE, SIDE)
    found = carried([*frames[:3], *[(dark, blank, blank)] * 3], lost=range(3, 6))
    assert [bool(each) for each in found] == [True] * 3 + [False] * 3
    assert carried(frames, lost=range(6)) == [[]] * 6


def test_a_clip_of_any_length_comes_back_whole(astronaut):
    picture, face, body = moving(astronaut, 1)[0]
    count = 2 * REACH + 5
    found = carried([(picture, face, body)] * count, lost=range(1, count - 1))
    assert len(found) == count
    assert sum(bool(each) for each in found) == 2 * ALONE + 2


@pytest.mark.parametrize(
    ("empty", "said"),
    [
        ([], ""),
        ([5, 6, 7], ""),
        (range(10, 20), "10 of 100 frames have an empty mask and teach nothing (frames 10 to 19,"),
        (range(1, 100, 2), "and 46 shorter stretches"),
        (range(100), ""),  # no mask is kept at all, and that is said elsewhere
    ],
)
def test_empty_stretches_of_a_video_are_told(empty, said):
    blanks = Blanks()
    for at in range(100):
        blanks.add(empty=at in empty)
    doubt = blanks.doubt(8)
    assert said in doubt
    assert bool(doubt) == bool(said)
