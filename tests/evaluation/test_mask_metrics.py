"""Mask metrics have the values worked out by hand, and the laws their names promise."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frisket.evaluation.mask_metrics import (
    boundary_f,
    compare_labels,
    compensated_iou,
    confusion,
    dice,
    iou,
    pool_scores,
    temporal_iou,
)
from frisket.pocket.world import SIZE, Background, Scene, frames_of
from frisket.pocket.world import draw as draw_scene

seeds = st.integers(0, 10_000)


def disc(radius: float, x: float = 128, y: float = 128, size: int = 256) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def blobs(seed: int, size: int = 24) -> torch.Tensor:
    noise = torch.rand(1, 1, size // 4, size // 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, (size, size), mode="bilinear")[0, 0] > 0.5


DISC, HOLE = disc(80), disc(20)
SANITY = {  # IoU and boundary F of a disc of radius 80 in 256 x 256, by another implementation
    "the same": (DISC, 1.0, 1.0),
    "shifted by 10": (DISC.roll(10, 1), 0.853, 0.235),
    "with a hole": (DISC & ~HOLE, 0.938, 0.886),
    "empty": (torch.zeros_like(DISC), 0.0, 0.0),
}


@pytest.mark.parametrize("name", SANITY)
def test_a_disc(name):
    other, overlap, border = SANITY[name]
    assert iou(DISC, other) == pytest.approx(overlap, abs=0.002)
    assert boundary_f(DISC, other) == pytest.approx(border, abs=0.01)


def test_a_border_three_pixels_off_is_within_the_tolerance():
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    wider = torch.from_numpy(cv2.dilate(DISC.numpy().astype(np.uint8), cross, iterations=3) > 0)
    assert iou(DISC, wider) == pytest.approx(0.936, abs=0.001)
    assert boundary_f(DISC, wider) == 1.0
    assert boundary_f(DISC, wider, tolerance=0.002) < 0.5


def test_empty_masks():
    none = torch.zeros(8, 8, dtype=torch.bool)
    some = disc(2, 4, 4, size=8)
    for metric in (iou, dice, boundary_f):
        assert metric(none, none) == 1.0
        assert metric(none, some) == metric(some, none) == 0.0


def test_a_full_picture_has_no_outline():
    full = torch.ones(16, 16, dtype=torch.bool)
    assert boundary_f(full, full) == 1.0
    assert boundary_f(full, disc(4, 8, 8, size=16)) == 0.0


@given(seeds, seeds)
@settings(max_examples=30, deadline=None)
def test_overlaps_are_symmetric_and_bound_each_other(one: int, other: int):
    first, second = blobs(one), blobs(other)
    for metric in (iou, dice, boundary_f):
        assert metric(first, second) == metric(second, first)
        assert 0 <= metric(first, second) <= 1
        assert metric(first, first) == 1
        assert metric(first.flip(0), second.flip(0)) == pytest.approx(metric(first, second))
    overlap = iou(first, second)
    assert dice(first, second) == pytest.approx(2 * overlap / (1 + overlap))


@given(seeds, seeds)
@settings(max_examples=20, deadline=None)
def test_confusion_holds_the_ious(one: int, other: int):
    first, second = blobs(one)[None].long(), blobs(other)[None].long()
    shares = confusion(first, second, 1)
    assert float(shares.sum()) == pytest.approx(1)
    union = shares[1].sum() + shares[:, 1].sum() - shares[1, 1]
    if union > 0:
        assert float(shares[1, 1] / union) == pytest.approx(iou(first == 1, second == 1))


def test_confusion_says_what_was_taken_for_what():
    truth = torch.tensor([[[0, 1], [1, 2]]])
    prediction = torch.tensor([[[0, 1], [2, 2]]])
    scores = compare_labels(prediction, truth, ["face", "hair"])
    assert scores.names == ("background", "face", "hair")
    expected = [[0.25, 0, 0], [0, 0.25, 0.25], [0, 0, 0.25]]
    assert scores.confusion.tolist() == expected
    assert scores.accuracy == 0.75
    assert scores.regions["face"].iou == scores.regions["hair"].iou == 0.5
    assert scores.regions["face"].dice == pytest.approx(2 / 3)
    assert scores.mean_iou == 0.5


def moving(frames: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """A textured disc that moves 5 pixels a frame over a still texture, and its true label maps."""
    rng = np.random.default_rng(0)
    size = 256

    def texture() -> torch.Tensor:
        cells = torch.from_numpy(rng.uniform(0, 255, (1, 3, size // 4, size // 4)))
        wide = torch.nn.functional.interpolate(cells, (size, size), mode="bicubic")
        return wide[0].clamp(0, 255).permute(1, 2, 0)

    ground, skin = texture(), texture()
    pictures, labels = [], []
    for index in range(frames):
        mask = disc(60, 90 + 5 * index, 128, size)
        pictures.append(torch.where(mask[..., None], skin.roll(5 * index, 1), ground))
        labels.append(mask.long())
    return torch.stack(pictures).to(torch.uint8), torch.stack(labels)


def test_truth_that_moves_is_steady_once_its_motion_is_taken_out():
    frames, labels = moving()
    assert temporal_iou(labels == 1) < 0.91
    assert compensated_iou(labels == 1, frames) > 0.95


def test_a_mask_that_flickers_is_not_steady():
    frames, labels = moving()
    flicker = labels.clone()
    flicker[3] = 0
    scores = compare_labels(flicker, labels, ["subject"], frames).regions["subject"]
    assert scores.compensated < 0.7
    assert scores.truth_compensated > 0.95
    assert scores.iou == pytest.approx(5 / 6)


def test_a_pocket_clip_is_as_steady_as_it_is():
    scene = Scene(Background("checks", "red", "white"), "circle", "blue", motion="rightward")
    drawn = [draw_scene(each, 128) for each in frames_of(scene, 5)]
    frames = torch.stack([torch.from_numpy(picture) for picture, _ in drawn])
    planes = torch.stack([torch.from_numpy(masks["subject"]) for _, masks in drawn])
    assert frames.shape[1] == 4 * SIZE
    assert temporal_iou(planes > 0.5) < compensated_iou(planes > 0.5, frames)
    assert compensated_iou(planes > 0.5, frames) > 0.9


def test_a_single_picture_has_no_steadiness():
    labels = blobs(1)[None].long()
    scores = compare_labels(labels, labels, ["subject"], torch.zeros(1, 24, 24, 3).byte())
    assert scores.regions["subject"].temporal is None
    assert scores.regions["subject"].compensated is None


def test_frames_without_the_region_do_not_count():
    truth = torch.zeros(3, 8, 8, dtype=torch.long)
    truth[0, :4] = 1
    prediction = torch.zeros_like(truth)
    prediction[0, :2] = 1
    score = compare_labels(prediction, truth, ["subject"]).regions["subject"]
    assert (score.frames, score.iou) == (1, 0.5)


def test_pooling_weighs_by_the_frames_that_hold_a_region():
    one = torch.ones(1, 4, 4, dtype=torch.long)
    three, missed = one.expand(3, -1, -1), torch.zeros(3, 4, 4, dtype=torch.long)
    names = ["face", "hair"]
    both = pool_scores([compare_labels(one, one, names), compare_labels(missed, three, names)])
    assert both.frames == 4
    assert both.regions["face"].iou == 0.25
    assert both.regions["hair"].iou == 1.0
    assert both.regions["hair"].frames == 0
    assert both.mean_iou == 0.25
    assert both.confusion[1, 0] == 0.75
    assert both.regions["face"].temporal == 1.0  # of the clip that has more than one frame


def test_errors_name_what_is_wrong():
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="prediction holds the label 3, not one of 2 names"):
        compare_labels(labels + 3, labels, ["face", "hair"])
    with pytest.raises(ValueError, match="of one size"):
        compare_labels(labels, labels[:, :2], ["face"])
    with pytest.raises(ValueError, match="no clip"):
        pool_scores([])
    scores = [compare_labels(labels, labels, [name]) for name in ("face", "hair")]
    with pytest.raises(ValueError, match="different regions"):
        pool_scores(scores)
    with pytest.raises(ValueError, match="must agree"):
        compensated_iou(torch.zeros(2, 4, 4).bool(), torch.zeros(2, 5, 4, 3).byte())
    with pytest.raises(ValueError, match="too small"):
        compensated_iou(torch.zeros(2, 8, 8).bool(), torch.zeros(2, 8, 8, 3).byte())
