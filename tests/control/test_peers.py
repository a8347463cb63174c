"""Poses are drawn pixel by pixel as controlnet_aux draws them (recorded)."""

import json
from pathlib import Path

import pytest
import torch
from tests.control.scenes import draw_joints, sum_blocks

from frisket.control.skeletons import draw_skeletons, name_joints

ROWS = json.loads((Path(__file__).parent / "peers.json").read_text())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['size']}")
def test_poses_are_drawn_as_the_peer_draws_them(row) -> None:
    height, width = row["size"]
    points, there = draw_joints(row["seed"], (height, width))
    people = [(torch.from_numpy(points).float(), torch.tensor(there).float())]
    picture = draw_skeletons(people, (height, width), 0.5)
    assert sum(row["blocks"]) > 0
    assert sum_blocks(picture.numpy()) == row["blocks"]


def test_joints_of_coco_become_those_of_openpose() -> None:
    points = torch.arange(34, dtype=torch.float32).view(17, 2)
    scores = torch.linspace(0.1, 0.9, 17)
    places, sure = name_joints(points, scores)
    assert places[1].tolist() == ((points[5] + points[6]) / 2).tolist()
    assert float(sure[1]) == float(scores[5])
    right_wrist, left_ear = places[4], places[17]
    assert right_wrist.tolist() == points[10].tolist()
    assert left_ear.tolist() == points[3].tolist()


def test_who_is_not_sure_is_not_drawn() -> None:
    points = torch.rand(18, 2) * 60
    assert not draw_skeletons([(points, torch.full((18,), 0.2))], (64, 64), 0.3).any()
    assert draw_skeletons([(points, torch.full((18,), 0.4))], (64, 64), 0.3).any()
