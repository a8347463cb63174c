"""Stills as the trainer sees them, in levels and tiles."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from frisket.media.images import open_image, read
from frisket.studio.pictures.pyramid import NoSuchTile, Pyramids, measure_picture


def draw_noise(height: int, width: int) -> Image.Image:
    levels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels)


def find_id(client: TestClient, name: str) -> str:
    set_id = client.get("/api/workspace").json()["sets"][0]["id"]
    clips = client.get(f"/api/sets/{set_id}/clips").json()["clips"]
    return next(clip["id"] for clip in clips if clip["name"] == name)


def test_exact_pixels_are_those_the_trainer_reads(folder: Path, client: TestClient) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    draw_noise(40, 60).save(folder / "a.png", exif=exif)
    clip = find_id(client, "a")
    size = client.get(f"/api/clips/{clip}/picture").json()
    assert (size["width"], size["height"], size["levels"]) == (40, 60, 1)
    answer = client.get(f"/api/clips/{clip}/picture/{size['version']}/0?exact=1")
    assert answer.headers["content-type"] == "image/png"
    assert "immutable" in answer.headers["cache-control"]
    with open_image(folder / "a.png") as image:
        wanted = read(image, folder / "a.png", "rgb")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), wanted)


def test_tiles_put_together_are_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    draw_noise(700, 1300).save(path)
    size, pyramids = measure_picture(path), Pyramids()
    assert size.levels == 2
    rows = [
        np.concatenate(
            [
                np.asarray(Image.open(io.BytesIO(pyramids.encode_tile(path, 0, x, y, exact=True))))
                for x in range(3)
            ],
            axis=1,
        )
        for y in range(2)
    ]
    assert np.array_equal(np.concatenate(rows), np.asarray(Image.open(path)))
    small = Image.open(io.BytesIO(pyramids.encode_level(path, 1, exact=False)))
    assert small.size == (650, 350)
    for level, column, row in [(2, 0, 0), (0, 3, 0), (0, 0, 2)]:
        with pytest.raises(NoSuchTile):
            pyramids.encode_tile(path, level, column, row, exact=False)


def test_a_jpeg_decoded_small_is_the_picture_made_small(tmp_path: Path) -> None:
    path = tmp_path / "big.jpg"
    draw_noise(9, 16).resize((2600, 1500), Image.Resampling.BICUBIC).save(path, quality=95)
    pyramids = Pyramids()
    quick = np.asarray(Image.open(io.BytesIO(pyramids.encode_level(path, 2, exact=True))), float)
    slow = np.asarray(Image.open(path).resize((650, 375), Image.Resampling.BOX), float)
    assert quick.shape == slow.shape
    assert np.abs(quick - slow).mean() < 2


def test_what_is_no_tile_or_no_picture_is_said(folder: Path, client: TestClient) -> None:
    draw_noise(8, 8).save(folder / "a.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    clip, broken = find_id(client, "a"), find_id(client, "broken")
    version = client.get(f"/api/clips/{clip}/picture").json()["version"]
    assert client.get(f"/api/clips/{clip}/picture/{version}/1").status_code == 404
    assert client.get(f"/api/clips/{clip}/picture/{version}/0/1/0").status_code == 404
    assert client.get(f"/api/clips/{clip}/picture/{version}/99").status_code == 422
    answer = client.get(f"/api/clips/{broken}/picture")
    assert answer.status_code == 422
    assert "broken.png" in answer.json()["error"]
    draw_noise(9, 9).save(folder / "a.png")
    os.utime(folder / "a.png", ns=(1, 1))
    assert client.get(f"/api/clips/{clip}/picture/{version}/0").status_code == 409


def test_memory_of_levels_is_limited(tmp_path: Path) -> None:
    pyramids = Pyramids(limit=8 * 8 * 3 * 2)
    for name in "abcd":
        draw_noise(8, 8).save(tmp_path / f"{name}.png")
        pyramids.encode_level(tmp_path / f"{name}.png", 0, exact=False)
    assert len(pyramids._levels) == 2
