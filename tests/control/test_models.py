"""Depth and pose models read pictures as the stock processors do, and gradients pass through."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import DPTImageProcessorPil
from transformers.models.vitpose.image_processing_pil_vitpose import (
    box_to_center_and_scale,
    get_warp_matrix,
)

from frisket.control.base import KINDS
from frisket.control.depth_model import fit_size, load_depth, spread_depths
from frisket.control.pose_model import Crop, cut_out, find_joints, fit_crop, load_pose

SIZES = [(40, 56), (56, 40), (29, 91), (64, 64), (21, 30)]


@pytest.fixture(scope="module")
def depth_folder(tmp_path_factory) -> Path:
    return KINDS.load("depth").tiny(tmp_path_factory.mktemp("depth"))


@pytest.fixture(scope="module")
def pose_folder(tmp_path_factory) -> Path:
    return KINDS.load("pose").tiny(tmp_path_factory.mktemp("pose"))


@pytest.mark.parametrize("size", SIZES)
def test_depth_reads_a_picture_as_the_stock_processor(size, depth_folder) -> None:
    depth = load_depth(depth_folder, "cpu")
    dice = torch.Generator().manual_seed(0)
    small = torch.rand(1, 3, 6, 6, generator=dice)
    frame = functional.interpolate(small, size, mode="bicubic").clamp(0, 1)
    frame = (frame * 255).round() / 255
    picture = (frame[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    processor = DPTImageProcessorPil.from_pretrained(depth_folder)
    stock = processor(picture, return_tensors="pt").pixel_values
    assert tuple(stock.shape[2:]) == fit_size(size, depth.processor)
    with torch.no_grad():
        wanted = depth.model(pixel_values=stock).predicted_depth[:, None]
        ours = depth.measure(frame)
    # PIL rounds to whole levels between its two passes; ours stays in floats.
    assert float((ours - wanted).abs().max()) < 0.02 * float(wanted.abs().max())


@pytest.mark.parametrize("aspect", [True, False])
@pytest.mark.parametrize("step", [1, 14, 32])
@pytest.mark.parametrize("size", SIZES)
def test_the_size_read_is_the_stock_one(size, step, aspect) -> None:
    how = {"size": {"height": 70, "width": 84}, "ensure_multiple_of": step}
    how["keep_aspect_ratio"] = aspect
    picture = np.zeros((*size, 3), np.uint8)
    stock = DPTImageProcessorPil(**how)(picture, return_tensors="pt").pixel_values
    assert tuple(stock.shape[2:]) == fit_size(size, how)


def test_depth_is_spread_over_the_whole_clip() -> None:
    depths = torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 3.0)])
    spread = spread_depths(depths, depths.min(), depths.max(), (4, 6))
    assert spread.shape == (2, 1, 4, 6)
    assert spread[0].flatten().tolist() == pytest.approx([0.0] * 24, abs=1e-6)
    assert spread[1].flatten().tolist() == pytest.approx([1.0] * 24, abs=1e-6)
    flat = spread_depths(depths[:1], depths[0].min(), depths[0].max(), (4, 6))
    assert not flat.any()


def test_gradients_reach_the_picture(depth_folder, pose_folder) -> None:
    frame = torch.rand(1, 3, 40, 56, requires_grad=True)
    load_depth(depth_folder, "cpu").measure(frame).sum().backward()
    assert frame.grad.abs().sum() > 0
    frame.grad = None
    pose = load_pose(pose_folder, "cpu")
    pose.measure(frame, fit_crop((0.0, 0.0, 56.0, 40.0), pose.size)).sum().backward()
    assert frame.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "box", [(0.0, 0.0, 56.0, 40.0), (3.0, 2.0, 20.0, 30.0), (10.0, 5.0, 5.0, 33.0)]
)
def test_a_person_is_cut_out_where_the_stock_processor_cuts(box) -> None:
    size = (32, 24)
    crop = fit_crop(box, size)
    centre, scale = box_to_center_and_scale(list(box), image_width=24, image_height=32)
    assert np.allclose(centre, crop.centre, atol=1e-4)
    assert np.allclose(scale * 200, (crop.width, crop.height), rtol=1e-5)
    matrix = get_warp_matrix(0, centre * 2.0, np.array([24, 32]) - 1.0, scale * 200.0)
    # Ramps of x and y: what is cut out tells where it came from.
    ramp = torch.stack(torch.meshgrid(torch.arange(40.0), torch.arange(56.0), indexing="ij")).flip(
        0
    )
    frame = torch.cat([ramp, torch.ones(1, 40, 56)])[None]
    cut = cut_out(frame, crop, size)[0]
    inside = cut[2] > 0.9999
    assert inside.any()
    rows, columns = torch.nonzero(inside, as_tuple=True)
    places = torch.stack([cut[0][inside], cut[1][inside], torch.ones(len(rows))]).double()
    warped = torch.from_numpy(np.asarray(matrix, np.float64)) @ places
    assert torch.allclose(warped[0], columns.double(), atol=2e-3)
    assert torch.allclose(warped[1], rows.double(), atol=2e-3)


def test_peaks_lead_back_to_the_frame() -> None:
    heatmaps = torch.zeros(17, 16, 12)
    heatmaps[:, 4, 3] = 0.9
    heatmaps[:, 4, 4] = 0.5  # the larger neighbour pulls a quarter
    crop = Crop((100.0, 200.0), 110.0, 150.0)
    points, scores = find_joints(heatmaps, crop)
    assert scores.tolist() == pytest.approx([0.9] * 17)
    assert points[0].tolist() == pytest.approx(
        [100 + (3.25 / 11 - 0.5) * 110, 200 + (4 / 15 - 0.5) * 150]
    )
