"""Ours against what the authors' code gave (scripts/record_faces.py), on the same inputs."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tests.faces import peer_scene as scene

from frisket.faces.align import fit_similarity, warp_faces
from frisket.faces.iresnet import DEPTHS, IResNet, IResNetShape, build_iresnet
from frisket.faces.keypoints import draw_keypoints

PEERS = json.loads((Path(__file__).parent / "peers.json").read_text(encoding="utf-8"))


def build_on_meta(depth):
    with torch.device("meta"):
        return IResNet(IResNetShape(DEPTHS[depth])).state_dict()


def near(values, record):
    ours = scene.summarise(values)
    scale = max(abs(number) for number in record["values"])
    assert np.allclose(ours["values"], record["values"], rtol=0, atol=1e-5 * scale)
    assert ours["norm"] == pytest.approx(record["norm"], rel=1e-5)
    assert abs(ours["mean"] - record["mean"]) <= 1e-5 * scale


@pytest.mark.parametrize("depth", DEPTHS)
def test_an_iresnet_has_their_keys(depth):
    record = PEERS["networks"][depth]
    own = build_on_meta(depth)
    keys = hashlib.sha256("\n".join(sorted(own)).encode()).hexdigest()
    assert (keys, len(own)) == (record["keys"], record["count"])


def test_an_iresnet_has_their_outputs_and_maps():
    record = PEERS["networks"][scene.VALUED]
    own = build_on_meta(scene.VALUED)
    model = build_iresnet(scene.fill_weights({k: tuple(v.shape) for k, v in own.items()}))
    embeddings, maps = model.forward_maps(scene.draw_faces())
    near(embeddings, record["arcface"])
    near(embeddings, record["uniid"])
    assert [list(cells.shape) for cells in maps] == record["shapes"]
    for cells, expected in zip(maps, record["maps"], strict=True):
        near(cells, expected)


@pytest.mark.parametrize("row", range(len(scene.FACES)))
def test_alignment_is_insightface_s(row):
    record = PEERS["alignment"][row]
    points = torch.tensor([scene.FACES[row]], dtype=torch.float64)
    matrix = fit_similarity(points)
    theirs = torch.tensor(record["matrix"], dtype=torch.float64)
    assert (matrix[0] - theirs).abs().max() <= 1e-5
    picture = scene.draw_picture()
    pixels = picture.permute(2, 0, 1)[None] / 127.5 - 1
    crop = ((warp_faces(pixels, matrix)[0] + 1) * 127.5).permute(1, 2, 0)
    full = cv2.warpAffine(picture.numpy(), theirs.numpy(), (112, 112), borderValue=0.0)
    theirs_crop = np.array(record["crop"])  # so cv2 stands for them, to its own rounding
    assert np.abs(full[::8, ::8].astype(int) - theirs_crop).max() <= 1
    # Their interpolation rounds places to 1/32 pixel; inside, that is all there is between us.
    covered = cv2.warpAffine(np.ones((140, 170), np.float32), theirs.numpy(), (112, 112)) > 0.999
    inside = cv2.erode(covered.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    difference = np.abs(crop.numpy() - full)[inside]
    assert inside.mean() > 0.05
    assert difference.max() <= 2


@pytest.mark.parametrize("row", range(len(scene.DRAWINGS)))
def test_drawn_key_points_are_instantid_s(row):
    (height, width), points = scene.DRAWINGS[row]
    picture = draw_keypoints(torch.tensor(points, dtype=torch.float64), height, width)
    assert hashlib.sha256(picture.numpy().tobytes()).hexdigest() == PEERS["drawings"][row]
