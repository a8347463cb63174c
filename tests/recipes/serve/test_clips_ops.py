"""What `frisket serve` tells of videos and their masks: the studio's server does not open them."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frisket.media.frames import write_video, writing_labels
from frisket.recipes.serve.answer import find_operation
from frisket.recipes.serve.session import Session

LEGEND = {"face": 1, "hair": 2}


@pytest.fixture
def video(tmp_path: Path) -> Path:
    frames = np.zeros((6, 32, 48, 3), np.uint8)
    frames[..., 0] = 200
    write_video(tmp_path / "a.mp4", torch.from_numpy(frames), fps=8)
    ids = np.zeros((32, 48), np.uint8)
    ids[:, :12], ids[16:, 24:] = 1, 2
    with writing_labels(tmp_path / "mask.mkv", 8, "{}") as writer:
        for _ in range(6):
            writer.add(torch.from_numpy(ids))
    return tmp_path / "a.mp4"


def describe(clip: Path, mask: Path | None) -> dict:
    return {
        "clip": str(clip),
        "masks": {} if mask is None else {"": str(mask)},
        "alpha": False,
        "levels": {},
        "legend": LEGEND,
        "invert": False,
        "weights": {"background": 0.0, "face": 1.0, "hair": 0.5},
        "numbers": LEGEND,
    }


def ask(name: str, args: dict):
    return find_operation(name)(Session(lambda *_: None), args)


def test_a_video_is_measured_and_a_broken_one_is_one_fault(video):
    broken = video.with_name("broken.mp4")
    broken.write_bytes(b"no video")
    clips = [
        describe(video, video.with_name("mask.mkv")),
        describe(broken, None),
        describe(video, broken),
    ]
    whole, bad, masked = ask("clips.measure", {"clips": clips}).value["measures"]
    assert (whole["width"], whole["height"], whole["frames"]) == (48, 32, 6)
    assert whole["coverage"] == pytest.approx({"face": 0.25, "hair": 0.25})
    assert "broken.mp4" in bad["fault"]
    assert masked["frames"] == 6
    assert "broken.mp4" in masked["mask_fault"]


def test_the_first_frame_and_its_regions_are_small_pictures(video):
    reply = ask("clips.thumb", {"clip": str(video), "size": 24})
    with Image.open(io.BytesIO(reply.body)) as image:
        assert image.size == (24, 16)
    args = {**describe(video, video.with_name("mask.mkv")), "size": 24}
    reply = ask("clips.ids", args)
    ids = np.frombuffer(reply.body, np.uint8).reshape(reply.value["height"], reply.value["width"])
    assert ids.shape == (16, 24)
    assert (ids[:, :6] == 1).all()
    assert (ids[8:, 12:] == 2).all()
    assert (ids[:8, 6:] == 0).all()


def test_a_grey_mask_is_of_the_one_region(video):
    grey = video.with_name("grey.png")
    Image.fromarray(np.full((32, 48), 128, np.uint8)).save(grey)
    args = {**describe(video, grey), "legend": {}, "numbers": {"face": 1}}
    (measure,) = ask("clips.measure", {"clips": [args]}).value["measures"]
    assert measure["coverage"] == pytest.approx({"face": 128 / 255}, abs=1e-6)
