"""Pixels and planes are cut at the same place, exactly."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frisket.media.frames import decode, decode_alpha
from frisket.media.geometry import Geometry, MaskMismatch

SIZES = st.tuples(st.integers(8, 70), st.integers(8, 70))
TARGETS = st.tuples(st.integers(1, 6), st.integers(1, 6)).map(lambda s: (s[0] * 8, s[1] * 8))


def cut(source, target, *, flip=False, frames=1):
    return Geometry(source, target, tuple(range(frames)), flip)


def box(geometry):
    """The kept box by its definition: (top, left, height, width) in source pixels."""
    (height, width), (rows, columns) = geometry.source, geometry.target
    scale = max(rows / height, columns / width)
    return (height - rows / scale) / 2, (width - columns / scale) / 2, rows / scale, columns / scale


def covered(size, start, length):
    """How much of each pixel of an axis a stretch covers."""
    edge = np.arange(size)
    return np.clip(np.minimum(edge + 1, start + length) - np.maximum(edge, start), 0, 1)


@given(source=SIZES, target=TARGETS, seed=st.integers(0, 99))
def test_the_area_mean_of_a_plane_is_exact(source, target, seed):
    geometry = cut(source, target)
    top, left, height, width = box(geometry)
    if height < target[0]:
        return  # enlarging is linear, not an area mean
    if height == target[0]:  # a pure crop stays on whole pixels
        top, left = int(top), int(left)
    mask = torch.rand(1, *source, generator=torch.Generator().manual_seed(seed))
    area = np.outer(covered(source[0], top, height), covered(source[1], left, width))
    exact = (mask[0].numpy() * area).sum() / area.sum()
    assert geometry.plane(mask).mean().item() == pytest.approx(exact, abs=1e-6)


@given(source=SIZES, target=TARGETS, factor=st.integers(2, 4), flip=st.booleans())
def test_a_mask_of_another_size_is_cut_at_the_same_place(source, target, factor, flip):
    geometry = cut(source, target, flip=flip)
    mask = torch.rand(1, *source)
    large = mask.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    rows, _ = geometry.spans()
    if rows.length >= rows.out:  # the same function of the plane, sampled finer
        torch.testing.assert_close(geometry.plane(large), geometry.plane(mask), atol=2e-6, rtol=0)
    assert geometry.plane(large).shape == (1, *target)


@given(source=SIZES, target=TARGETS, flip=st.booleans())
def test_shrunk_pixels_and_planes_are_the_same_numbers(source, target, flip):
    geometry = cut(source, target, flip=flip)
    rows, _ = geometry.spans()
    if rows.length < rows.out:
        return
    frame = torch.randint(0, 256, (1, *source, 3), dtype=torch.uint8)
    pixels = geometry.pixels(frame)
    for channel in range(3):
        plane = geometry.plane(frame[..., channel] / 255)
        torch.testing.assert_close(pixels[channel], plane * 2 - 1, atol=2e-6, rtol=0)


@given(source=SIZES, target=TARGETS)
def test_flip_commutes_with_the_cut(source, target):
    mask, frame = torch.rand(1, *source), torch.randint(0, 256, (1, *source, 3), dtype=torch.uint8)
    plain, mirrored = cut(source, target), cut(source, target, flip=True)
    assert torch.equal(mirrored.plane(mask), plain.plane(mask).flip(-1))
    assert torch.equal(mirrored.pixels(frame), plain.pixels(frame).flip(-1))
    if any(span.whole for span in plain.spans()):
        return  # whole pixels cannot be cropped evenly on both sides
    torch.testing.assert_close(plain.plane(mask.flip(-1)), mirrored.plane(mask))
    after = plain.pixels(frame.flip(2))  # Pillow's Lanczos rounds to levels
    torch.testing.assert_close(after, mirrored.pixels(frame), atol=2.1 / 127.5, rtol=0)


@given(source=SIZES, target=TARGETS, level=st.integers(0, 255))
def test_constants_are_kept(source, target, level):
    geometry = cut(source, target)
    plane = geometry.plane(torch.full((1, *source), level / 255))
    assert (plane == torch.tensor(level / 255)).all()
    pixels = geometry.pixels(torch.full((1, *source, 3), level, dtype=torch.uint8))
    torch.testing.assert_close(pixels, torch.full_like(pixels, level / 127.5 - 1))


@given(source=SIZES, target=TARGETS, low=st.floats(0, 0.4), high=st.floats(0.6, 1))
def test_masks_never_ring(source, target, low, high):
    mask = torch.where(torch.rand(1, *source) < 0.5, low, high)
    plane = cut(source, target).plane(mask)
    assert plane.min() >= mask.min()
    assert plane.max() <= mask.max()


@given(source=SIZES, target=TARGETS, flip=st.booleans())
def test_a_region_painted_into_the_picture_is_hit_by_its_mask(source, target, flip):
    geometry = cut(source, target, flip=flip)
    top, left, height, width = box(geometry)
    frame = torch.zeros(1, *source, 3, dtype=torch.uint8)
    rows = slice(int(top + height * 0.1), int(top + height * 0.6) + 1)
    columns = slice(int(left + width * 0.2), int(left + width * 0.5) + 1)
    frame[:, rows, columns] = 255
    seen = (geometry.pixels(frame)[0] + 1) / 2
    plane = geometry.plane(frame[..., 0] / 255)
    assert (seen - plane).abs().mean() < 0.1  # Lanczos and linear differ only along the edge
    assert (
        plane[(seen - 0.5).abs() > 0.45].round() == seen[(seen - 0.5).abs() > 0.45].round()
    ).all()


def test_squashed_mask_geometry_when_image_and_bucket_aspects_differ():
    # sd-scripts 7f274717: image cover-scaled and cropped, its mask squashed onto the bucket.
    frame = torch.zeros(1, 100, 200, 3, dtype=torch.uint8)
    frame[:, :, 160:] = 255  # lies in the part that a square bucket crops away
    geometry = cut((100, 200), (32, 32))
    assert geometry.pixels(frame).max() == -1
    assert geometry.plane(frame[..., 0] / 255).max() == 0
    assert (
        geometry.plane(
            torch.nn.functional.interpolate(frame[..., 0][None] / 255, (50, 100))[0]
        ).max()
        == 0
    )


def test_dims_and_flip_are_not_mixed_up():
    # sd-scripts #1351: the mask of a flipped, non-square clip had its dimensions swapped.
    mask = torch.zeros(1, 40, 80)
    mask[:, :20, :20] = 1
    plane = cut((40, 80), (16, 32), flip=True).plane(mask)
    assert plane.shape == (1, 16, 32)
    assert plane[0, :8, 24:].min() == 1
    assert plane.sum() == 8 * 8


@pytest.mark.parametrize("target", [(16, 24), (64, 96), (32, 48), (24, 48), (48, 48)])
def test_alpha_is_not_lost_on_resize(tmp_path, picture, target):
    # sd-scripts #1615: for some buckets the resize dropped the alpha channel, so no mask at all.
    rgba = np.full((32, 48, 4), 90, np.uint8)
    rgba[..., 3] = 0
    rgba[8:24, 16:32, 3] = 255
    path = picture(tmp_path / "a.png", rgba)
    geometry = cut((32, 48), target)
    plane = geometry.plane(decode_alpha(path))
    assert geometry.pixels(decode(path)).shape[1:] == plane.shape == (1, *target)
    assert plane[0, target[0] // 2, target[1] // 2] == 1
    assert plane[0, 0, 0] == 0


def test_a_crop_without_scaling_touches_no_pixel():
    frame = torch.randint(0, 256, (1, 33, 47, 3), dtype=torch.uint8)
    geometry = cut((33, 47), (33, 40))
    expected = frame[0, :, 3:43].permute(2, 0, 1).float() / 127.5 - 1
    torch.testing.assert_close(geometry.pixels(frame)[:, 0], expected)
    assert torch.equal(geometry.plane(frame[..., 0].float()), frame[:, :, 3:43, 0].float())


def test_a_mask_of_another_shape_names_both_sizes():
    geometry = cut((480, 832), (480, 832))
    assert geometry.plane(torch.ones(1, 240, 416)).shape == (1, 480, 832)
    assert geometry.plane(torch.ones(1, 119, 208)).shape == (1, 480, 832)  # within 1 %
    for height, width in ((474, 832), (480, 822)):  # beyond it, to either side
        with pytest.raises(MaskMismatch, match=r"differ by 1\.[23]%"):
            geometry.plane(torch.ones(1, height, width))
    with pytest.raises(MaskMismatch) as error:
        geometry.plane(torch.ones(1, 832, 480))
    assert str(error.value) == (
        "the mask is 480 x 832 (width x height), its clip 832 x 480 (width x height): the aspect"
        " ratios differ by 66.7% (1% passes), so they cannot be laid on each other; export the mask"
        " at the clip's size"
    )
    with pytest.raises(ValueError, match="2 mask frames for 1 picked clip frames"):
        geometry.plane(torch.ones(2, 480, 832))
    with pytest.raises(ValueError, match=r"1 frames of 8 x 8 .* do not fit .* of 832 x 480"):
        geometry.pixels(torch.zeros(1, 8, 8, 3, dtype=torch.uint8))


def test_labels_are_never_mixed():
    labels = torch.tensor([[[0, 7], [200, 3]]], dtype=torch.int32)
    large = cut((2, 2), (8, 8)).labels(labels)
    assert torch.equal(large, labels.repeat_interleave(4, 1).repeat_interleave(4, 2))
    assert large.dtype == torch.int32
    mirrored = cut((2, 2), (8, 8), flip=True).labels(labels)
    assert torch.equal(mirrored, large.flip(-1))
    noise = torch.randint(0, 2, (1, 40, 60), dtype=torch.int32) * 9
    assert set(cut((40, 60), (24, 24)).labels(noise).unique().tolist()) == {0, 9}


def test_a_still_mask_is_cut_once_for_all_frames():
    still = torch.rand(1, 20, 30).expand(81, -1, -1)
    plane = cut((20, 30), (8, 8), frames=81, flip=True).plane(still)
    assert plane.shape == (81, 8, 8)
    assert plane.stride(0) == 0
    expected = cut((20, 30), (8, 8), frames=81, flip=True).plane(still.clone())
    assert torch.equal(plane, expected)


def test_the_record_is_json_and_tells_geometries_apart():
    one, other = cut((20, 30), (8, 8)), cut((20, 30), (8, 8), flip=True)
    assert json.loads(json.dumps(one.record())) == one.record()
    assert one.record() != other.record()
    with pytest.raises(ValueError, match="no geometry from"):
        cut((0, 30), (8, 8))
