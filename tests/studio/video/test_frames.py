"""Frames over the server are the trainer's own."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.studio.video.pocket_clips import draw_clip, write_clip

from frisket.media.frames import decode, probe

CASES = Path(__file__).parents[2] / "media" / "odd_clips"


def find_clip(client, name):
    (one,) = [each for each in client.get("/api/workspace").json()["sets"]]
    clips = client.get(f"/api/sets/{one['id']}/clips").json()["clips"]
    return next(clip["id"] for clip in clips if clip["name"] == name)


def read_exact(client, clip, index):
    answer = client.get(f"/api/clips/{clip}/frames/{index}?exact=1")
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_frames_are_the_trainers_in_any_order(folder, client):
    write_clip(folder / "clips" / "a.mp4", draw_clip(20, 64)[0])
    clip = find_clip(client, "a")
    info = client.get(f"/api/clips/{clip}/frames").json()
    assert info == info | {"frames": 20, "width": 64, "height": 64, "fps": 12.0, "video": True}
    assert info["times"] is None
    every = decode(folder / "clips" / "a.mp4").numpy()
    for index in (13, 2, 19, 0, 18):
        assert np.array_equal(read_exact(client, clip, index), every[index])
    small = client.get(f"/api/clips/{clip}/frames/3?width=32")
    assert small.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(small.content)).size == (32, 32)
    strip = client.get(f"/api/clips/{clip}/strip?count=12&height=16")
    told = json.loads(strip.headers["X-Frisket-Strip"])
    assert len(told["frames"]) == 12
    assert Image.open(io.BytesIO(strip.content)).size == (160, 32)


def test_what_is_not_there_is_said(folder, client):
    write_clip(folder / "clips" / "a.mp4", draw_clip(6, 32)[0])
    (folder / "clips" / "b.mp4").write_bytes(b"no video")
    clip = find_clip(client, "a")
    beyond = client.get(f"/api/clips/{clip}/frames/6")
    assert beyond.status_code == 422
    assert "only 6" in beyond.json()["error"]
    broken = client.get(f"/api/clips/{find_clip(client, 'b')}/frames")
    assert broken.status_code == 422
    assert "b.mp4" in broken.json()["error"]
    for query in ("frames/0?width=-1", "frames/0?width=99999", "frames/x", "strip?count=0"):
        assert client.get(f"/api/clips/{clip}/{query}").status_code == 422
    assert client.get("/api/clips/nothing/frames").status_code == 404


@pytest.mark.parametrize("case", ["vfr.mp4", "open_gop.mkv"])
def test_numbers_of_odd_files_are_the_trainers(folder, client, case):
    path = folder / "clips" / Path(case).name
    path.parent.mkdir()
    shutil.copy(CASES / case, path)
    clip, media = find_clip(client, path.stem), probe(path)
    info = client.get(f"/api/clips/{clip}/frames").json()
    assert info["frames"] == media.frames
    if media.clock.variable:
        assert info["times"] == pytest.approx(media.times, abs=1e-4)
    for index in (media.frames - 1, 0, media.frames // 2):
        (truth,) = decode(path, [index]).numpy()
        assert np.array_equal(read_exact(client, clip, index), truth)
