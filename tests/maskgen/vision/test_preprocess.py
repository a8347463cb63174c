"""Against what the stock processors answered (scripts/record_processors.py says how)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from frisket.maskgen.base import Box, MaskWeightsNotFound
from frisket.maskgen.vision.preprocess import (
    IMAGENET,
    Preprocessing,
    enlarge,
    pixels,
    read,
    split_batches,
)
from frisket.maskgen.vision.preprocess import scale_box as scaled_box

HOPPER = Path(__file__).parents[3] / "examples/photos/clips/grace-hopper.jpg"
HALF = (0.5, 0.5, 0.5)
MODELS = {
    "sam2": (1024, 1024, *IMAGENET),
    "sam3": (1008, 1008, HALF, HALF),
    "sapiens2": (1024, 768, *IMAGENET),
}
STEP = 32


@pytest.fixture(scope="module")
def stock():
    with np.load(Path(__file__).parents[1] / "fixtures/processors.npz") as recorded:
        return {name: recorded[name] for name in recorded}


def picture(name, stock):
    with Image.open(HOPPER) as shot:
        array = np.array(shot.convert("RGB")) if name == "hopper" else stock["odd"]
    return torch.from_numpy(array)


@pytest.mark.parametrize("shot", ["hopper", "odd"])
@pytest.mark.parametrize("model", MODELS)
def test_pixels_are_those_of_the_stock_processor(model, shot, stock):
    height, width, mean, std = MODELS[model]
    assert stock[f"{model}/{shot}/size"].tolist() == [height, width]

    small = pixels(picture(shot, stock), Preprocessing(64, 48, mean, std))[0]
    real = pixels(picture(shot, stock), Preprocessing(height, width, mean, std))[0]

    assert np.abs(small.numpy() - stock[f"{model}/{shot}/small"]).max() < 1e-5
    sampled = real.numpy()[:, ::STEP, ::STEP]
    assert np.abs(sampled - stock[f"{model}/{shot}/real"]).max() < 1e-5


def test_a_clip_is_prepared_frame_by_frame_as_the_stock_video_processor_does(stock):
    frames = torch.from_numpy(np.stack([stock["odd"], stock["odd"][::-1]]))
    how = Preprocessing(64, 48, *IMAGENET)
    ours = torch.cat([pixels(frame, how) for frame in frames])
    assert np.abs(ours.numpy() - stock["sam2_video/odd"]).max() < 1e-5


def test_boxes_and_points_are_scaled_as_the_stock_processor_scales_them(stock):
    how = Preprocessing(1024, 1024)
    odd = picture("odd", stock)
    boxes = [scaled_box(Box(*edges), odd, how) for edges in stock["boxes"].tolist()]
    points = [scaled_box(Box(x, y, x, y), odd, how)[:2] for x, y in stock["points"].tolist()]
    np.testing.assert_allclose(boxes, stock["boxes/scaled"], rtol=1e-5)
    np.testing.assert_allclose(points, stock["points/scaled"], rtol=1e-5)


def test_enlarged_logits_above_zero_are_the_stock_masks(stock):
    masks = enlarge(torch.from_numpy(stock["logits"]), 37, 53) > 0
    assert np.array_equal(masks.numpy(), stock["sam2/masks"])


def test_numbers_are_those_of_the_checkpoint(tmp_path):
    default = Preprocessing(1, 2, HALF, HALF)
    told = {"size": {"height": 64, "width": 48}, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": told}))
    assert read(tmp_path, default) == Preprocessing(64, 48, (0.0,) * 3, (1.0,) * 3)

    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert read(tmp_path, default) == default


def test_a_folder_without_numbers_is_refused_by_name(tmp_path):
    with pytest.raises(MaskWeightsNotFound, match=rf"{tmp_path}.*preprocessor_config\.json"):
        read(tmp_path, Preprocessing(64, 64))


@given(count=st.integers(0, 50), size=st.integers(1, 9))
def test_batches_hold_everything_once_and_in_order(count, size):
    ranges = split_batches(range(count), size)
    assert [i for part in ranges for i in part] == list(range(count))
    assert all(0 < len(part) <= size for part in ranges)
