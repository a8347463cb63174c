"""Mask files of every kind, read as the regions they stand for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from frisket.masks.read import read
from frisket.media.frames import BadMedia, probe, write_video

GREY = np.array([[0, 64, 128], [192, 254, 255]], np.uint8)


def save(path: Path, pixels: Any, mode: str | None = None) -> Path:
    """Write a PNG (or what the suffix says)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8), mode).save(path)
    return path


def video(path: Path, frames: int, mark: int | None = None) -> Path:
    """A lossless video of black frames; `mark` is white."""
    pixels = torch.zeros(frames, 16, 16, 3, dtype=torch.uint8)
    if mark is not None:
        pixels[mark] = 255
    write_video(path, pixels, 8.0, lossless=True)
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return save(tmp_path / "clip.png", np.zeros((2, 3, 3)))


def planes(
    clip: Path, masks: Mapping[str, Path], regions: tuple[str, ...] = ("subject",), **options: Any
) -> dict[str, Tensor]:
    """`read` with the picture's one frame unless told otherwise."""
    asked = {"alpha": False, "picks": (0,)} | options
    return read(masks, clip=probe(clip), regions=regions, **asked)


def test_a_grey_mask_is_the_plane_of_the_only_region(tmp_path: Path, clip: Path) -> None:
    found = planes(clip, {"": save(tmp_path / "m.png", GREY)})
    assert list(found) == ["subject"]
    assert torch.equal(found["subject"][0], torch.from_numpy(GREY.astype(np.float32) / 255))


def test_invert_makes_black_teach(tmp_path: Path, clip: Path) -> None:
    found = planes(clip, {"": save(tmp_path / "m.png", GREY)}, invert=True)
    torch.testing.assert_close(found["subject"][0], torch.from_numpy((255 - GREY) / 255).float())


def test_a_grey_mask_for_several_regions_says_what_to_do(tmp_path: Path, clip: Path) -> None:
    mask = save(tmp_path / "m.png", GREY)
    with pytest.raises(BadMedia, match=r"m\.png .*face, hair.*levels.*legend.*one folder a region"):
        planes(clip, {"": mask}, ("face", "hair"))


def test_the_nearest_level_wins_and_ties_go_to_the_higher(tmp_path: Path, clip: Path) -> None:
    mask = save(tmp_path / "m.png", [[0, 39, 40, 79, 80, 103, 104, 128, 191, 192, 255]])
    levels = {"face": 255, "body": 128, "hair": 80, "background": 0}
    found = planes(clip, {"": mask}, ("hair", "face", "body"), levels=levels)
    assert list(found) == ["hair", "face", "body"]
    assert found["hair"].flatten().tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert found["body"].flatten().tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0]
    assert found["face"].flatten().tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]


def test_every_grey_value_falls_to_its_nearest_level(tmp_path: Path, clip: Path) -> None:
    mask = save(tmp_path / "m.png", np.arange(256)[None])
    levels = {"a": 3, "b": 76, "c": 201, "background": 130}
    found = planes(clip, {"": mask}, ("a", "b", "c"), levels=levels)
    for value in range(256):
        nearest = min(levels, key=lambda name: (abs(levels[name] - value), -levels[name]))
        chosen = [name for name in found if found[name][0, 0, value]]
        assert chosen == [name for name in (nearest,) if name != "background"]


def test_black_is_background_where_no_level_claims_it(tmp_path: Path, clip: Path) -> None:
    mask = save(tmp_path / "m.png", [[0, 100, 255]])
    found = planes(clip, {"": mask}, ("face", "body"), levels={"face": 255, "body": 128})
    assert found["body"].flatten().tolist() == [0, 1, 0]


def test_levels_that_no_pixel_has_give_zeros(tmp_path: Path, clip: Path) -> None:
    mask = save(tmp_path / "m.png", np.full((2, 2), 255))
    found = planes(clip, {"": mask}, ("a", "b", "c"), levels={"a": 255, "b": 128})
    assert [float(plane.mean()) for plane in found.values()] == [1, 0, 0]


def test_a_palette_mask_is_read_by_index_whatever_its_colours(tmp_path: Path, clip: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2], [2, 2, 1]], np.uint8), "P")
    image.putpalette([7, 7, 7, 200, 0, 0, 200, 0, 0] + [0] * 759)
    image.save(tmp_path / "m.png")
    found = planes(clip, {"": tmp_path / "m.png"}, ("face", "hair"), legend={"face": 2, "hair": 1})
    assert found["face"][0].tolist() == [[0, 0, 1], [1, 1, 0]]
    assert found["hair"][0].tolist() == [[0, 1, 0], [0, 0, 1]]


def test_an_rgb_mask_is_read_by_exact_colour(tmp_path: Path, clip: Path) -> None:
    mask = save(tmp_path / "m.png", [[[255, 0, 0], [0, 0, 0], [0, 0, 255]]])
    legend = {"face": (255, 0, 0), "background": (0, 0, 255)}
    found = planes(clip, {"": mask}, ("face", "hair"), legend=legend)
    assert found["face"].flatten().tolist() == [1, 0, 0]
    assert not found["hair"].any()


def test_an_unknown_index_is_named_with_its_pixels(tmp_path: Path, clip: Path) -> None:
    mask = save(tmp_path / "m.png", [[0, 1, 7, 7, 9]])
    with pytest.raises(BadMedia, match=r"m\.png has 2 pixels of index 7 and 1 more .*'face': 1"):
        planes(clip, {"": mask}, ("face",), legend={"face": 1})


def test_an_unknown_colour_is_named_with_its_pixels(tmp_path: Path, clip: Path) -> None:
    mask = save(tmp_path / "m.png", [[[255, 0, 0], [254, 1, 0], [0, 0, 0]]])
    with pytest.raises(BadMedia, match=r"1 pixels of colour \(254, 1, 0\), but the legend"):
        planes(clip, {"": mask}, ("face",), legend={"face": (255, 0, 0)})


def test_one_file_a_region_and_a_region_without_one_is_zeros(tmp_path: Path, clip: Path) -> None:
    masks = {"hair": save(tmp_path / "hair.png", GREY), "face": save(tmp_path / "face.png", GREY)}
    found = planes(clip, masks, ("face", "body", "hair"))
    assert list(found) == ["face", "body", "hair"]
    assert torch.equal(found["face"], found["hair"])
    assert not found["body"].any()


def test_the_clip_s_own_alpha_is_its_mask(tmp_path: Path) -> None:
    rgba = np.dstack([np.zeros((2, 3, 3), np.uint8), GREY])
    clip = save(tmp_path / "c.png", rgba)
    found = planes(clip, {}, alpha=True)
    assert torch.equal(found["subject"][0], torch.from_numpy(GREY.astype(np.float32) / 255))
    split = planes(clip, {}, ("face", "body"), alpha=True, levels={"face": 255, "body": 128})
    assert split["body"][0].tolist() == [[0, 1, 1], [0, 0, 0]]


def test_no_mask_is_told_apart_from_an_empty_one(clip: Path) -> None:
    assert planes(clip, {}) == {}
    assert planes(clip, {}, alpha=True) == {}
    assert planes(clip, {}, ("a", "b"), levels={"a": 255}) == {}


def test_a_still_mask_stands_for_every_frame_without_copies(tmp_path: Path) -> None:
    clip = video(tmp_path / "c.mkv", 9)
    masks = {"face": save(tmp_path / "m.png", GREY)}
    found = planes(clip, masks, ("face", "hair"), picks=(0, 3, 6, 8))
    for plane in found.values():
        assert plane.shape == (4, 2, 3)
        assert plane.stride(0) == 0
    legend = planes(
        clip, {"": save(tmp_path / "i.png", [[1]])}, legend={"subject": 1}, picks=(1, 2)
    )
    assert legend["subject"].flatten().tolist() == [1, 1]


def test_a_mask_video_is_picked_like_its_clip(tmp_path: Path) -> None:
    clip, mask = video(tmp_path / "c.mkv", 9), video(tmp_path / "m.mkv", 9, mark=6)
    found = planes(clip, {"": mask}, picks=(0, 2, 6, 8))
    assert found["subject"].mean((1, 2)).tolist() == [0, 0, 1, 0]


def test_a_folder_of_mask_frames_is_picked_like_its_clip(tmp_path: Path) -> None:
    clip = video(tmp_path / "c.mkv", 12)
    for index in range(12):
        save(tmp_path / "m" / f"{index}.png", np.full((4, 4), 255 * (index == 10)))
    found = planes(clip, {"": tmp_path / "m"}, picks=(2, 10))
    assert found["subject"].mean((1, 2)).tolist() == [0, 1]


@pytest.mark.parametrize("frames", [1, 8, 10, 27])
def test_a_mask_of_another_length_names_both_counts(tmp_path: Path, frames: int) -> None:
    clip, mask = video(tmp_path / "c.mkv", 9), video(tmp_path / "m.mkv", frames)
    with pytest.raises(BadMedia, match=rf"m\.mkv has {frames} frames but its clip .*c\.mkv has 9"):
        planes(clip, {"": mask}, picks=(0, 1))
    for index in range(frames):
        save(tmp_path / "m" / f"{index:02}.png", np.zeros((4, 4)))
    with pytest.raises(BadMedia, match=rf"m has {frames} frames but its clip .*c\.mkv has 9"):
        planes(clip, {"": tmp_path / "m"}, picks=(0, 1))


@pytest.mark.parametrize(
    ("masks", "options", "said"),
    [
        ({"hat": "m"}, {}, "no region is named 'hat'; there are: face, hair"),
        ({"": "m"}, {"levels": {"hat": 3}}, "no region is named 'hat'"),
        ({"": "m"}, {"levels": {"face": 3}, "legend": {"hair": 3}}, "not both"),
        ({"": "m"}, {"levels": {"face": 3}, "invert": True}, "`invert` is for grey"),
        ({"": "m"}, {"alpha": True}, "takes no file"),
        ({"": "m", "face": "m"}, {}, "one file, or one file a region"),
        ({"face": "m"}, {"levels": {"face": 255}}, "here each region has its own"),
        ({"": "m"}, {"levels": {"face": 9, "hair": 9}}, "9 to both 'face' and 'hair'"),
        ({"": "m"}, {"levels": {"face": 300}}, "'face' is 300; values go from 0 to 255"),
        ({"": "m"}, {"legend": {"face": 1, "hair": (1, 2, 3)}}, "mixes indices and colours"),
        ({"": "m"}, {"legend": {"background": 0}}, "names no region"),
    ],
)
def test_options_that_contradict_are_refused(
    clip: Path, masks: dict[str, str], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        planes(clip, {k: Path(v) for k, v in masks.items()}, ("face", "hair"), **options)
