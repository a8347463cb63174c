"""What `prepare` lays on the latent grid is the pixel planes of the window, whatever the way."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from frisket.data.mask_pipeline import INSIDE, cover, planes_of
from frisket.data.records import Masking, Window
from frisket.grid import LatentGrid
from frisket.masks.coverage import CellReading, to_latent
from frisket.masks.morphology import bend
from frisket.media.frames import probe, write_video
from frisket.media.geometry import Geometry

GRID = LatentGrid(channels=4, spatial=8, temporal=4)
SIZE = (90, 120)  # of the clips
KINDS = ("grey", "levels", "legend", "colours", "alpha", "folders", "still of a video", "video")
GEOMETRIES = {  # target, and how much larger the mask is than its clip
    "whole": ((48, 64), 1),
    "crop": ((64, 64), 1),
    "crop of rows": ((32, 64), 1),
    "enlarged": ((192, 256), 1),
    "larger mask": ((64, 64), 2),
    "smaller mask": ((64, 64), 0.5),
    "no resize": ((72, 120), 1),
}
STEPS = {
    "none": {},
    "fill": {"fill_holes": True},
    "grow": {"grow": 2.0},
    "narrow": {"grow": -1.5},
    "feather": {"feather": 3.0},
    "all": {"fill_holes": True, "grow": 1.0, "feather": 2.0},
    "prior": {"prior_reading": "max"},
    "curve": {"pixel_gamma": 0.5, "pixel_floor": 0.1},
}
READINGS: tuple[CellReading, ...] = ("mean", "max", "min", "bilinear")


def ellipse(height: int, width: int, shift: float = 0.0) -> np.ndarray:
    """A soft ellipse with a hole, 0 to 255."""
    rows, columns = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    away = np.hypot(rows - 0.45, columns - 0.5 - shift)
    plane = np.clip((0.33 - away) * 12 + 0.5, 0, 1) * (away > 0.05)
    return (plane * 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def film(path: Path, frames: list[np.ndarray]) -> Path:
    pixels = torch.from_numpy(np.stack(frames))[..., None].expand(-1, -1, -1, 3).contiguous()
    write_video(path, pixels, 8.0, lossless=True)
    return path


def masks_of(kind: str, path: Path, height: int, width: int) -> tuple[dict[str, Path], dict]:
    """The files of a mask and how they are read; `path` has no suffix yet."""
    grey, png = ellipse(height, width), path.with_suffix(".png")
    labels = np.digitize(grey, (64, 192)).astype(np.uint8)
    if kind == "levels":
        return {"": save(png, grey)}, {"levels": {"face": 255, "hair": 128}}
    if kind == "legend":
        return {"": save(png, labels)}, {"legend": {"face": 2, "hair": 1}}
    if kind == "colours":
        painted = np.array([(0, 0, 0), (0, 90, 0), (200, 0, 7)], np.uint8)[labels]
        return {"": save(png, painted)}, {"legend": {"face": (200, 0, 7), "hair": (0, 90, 0)}}
    if kind == "folders":
        return {"face": save(png, grey), "hair": save(path.with_suffix(".bmp"), 255 - grey)}, {}
    if kind == "video":
        frames = [ellipse(height, width, 0.04 * k) for k in range(5)]
        return {"": film(path.with_suffix(".mkv"), frames)}, {}
    return {"": save(png, grey)}, {}


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Window]:
    """Makes a window with a mask of a kind, cut one way."""
    root = tmp_path_factory.mktemp("windows")
    still = save(root / "still.png", np.full((*SIZE, 3), 90, np.uint8))
    moving = film(root / "moving.mkv", [np.full(SIZE, 20 * k, np.uint8) for k in range(5)])
    clear = np.dstack([np.full((*SIZE, 3), 9, np.uint8), ellipse(*SIZE)])
    clips = {"alpha": save(root / "clear.png", clear), "video": moving, "still of a video": moving}

    def make(kind: str, geometry: str) -> Window:
        target, side = GEOMETRIES[geometry]
        path = root / f"{kind}-{geometry}".replace(" ", "-")
        masks, how = masks_of(kind, path, round(SIZE[0] * side), round(SIZE[1] * side))
        if kind == "alpha":
            masks, how = {}, {"source": "alpha"}
        media = probe(clips.get(kind, still))
        cut = Geometry((media.height, media.width), target, tuple(range(media.frames)))
        masking = Masking(**{"source": "folder", **how})
        return Window("it", media.path, "", masks, {}, media, cut, masking)

    return make


def by_pixels(window: Window, regions: list[str], reading: CellReading) -> tuple[Tensor, list[str]]:
    """Coverage by way of every pixel, and the regions that no cell is mostly of."""
    planes = planes_of(window, regions)
    how, pixels = window.masking, torch.stack(list(planes.values()))
    cells = to_latent(bend(pixels, how.pixel_gamma, how.pixel_floor), GRID, reading)
    thin = [
        name
        for name, own in zip(planes, cells, strict=True)
        if planes[name].max() >= INSIDE > own.max()
    ]
    return cells, thin


# Every kind is read its own way; what is read is cut alike: one frame, several, or one still.
WAYS = [
    *((kind, "crop") for kind in KINDS),
    *((kind, cut) for kind in ("grey", "video", "still of a video") for cut in GEOMETRIES),
]


@pytest.mark.parametrize(("kind", "geometry"), dict.fromkeys(WAYS))
def test_coverage_is_that_of_the_planes_for_every_kind_cut_and_step(
    window, kind: str, geometry: str
) -> None:
    whole = window(kind, geometry)
    several = whole.masking.levels or whole.masking.legend or len(whole.masks) > 1
    regions = ["face", "hair"] if several else ["subject"]
    for flip, name, reading in (
        *((flip, "none", reading) for flip in (False, True) for reading in READINGS),
        *((True, name, "mean") for name in STEPS if name != "none"),
    ):
        masking = replace(whole.masking, reading=reading, **STEPS[name])
        cut = replace(whole, geometry=replace(whole.geometry, flip=flip), masking=masking)
        laid, names, facts = cover(cut, regions, GRID)
        cells, thin = by_pixels(cut, regions, reading)
        assert names == tuple(regions)
        torch.testing.assert_close(laid["planes"], cells, rtol=0, atol=2e-6)
        assert facts.thin == tuple(thin)
        assert facts.mean == pytest.approx(
            {name: own.mean().item() for name, own in zip(regions, cells, strict=True)}, abs=1e-6
        )
        assert laid.keys() == ({"planes", "prior_planes"} if name == "prior" else {"planes"})
        if name == "prior":
            assert torch.equal(laid["prior_planes"], by_pixels(cut, regions, "max")[0])


def test_a_region_too_thin_for_any_cell_is_told_and_an_empty_one_is_not(
    window, tmp_path: Path
) -> None:
    line = np.zeros(SIZE, np.uint8)
    line[:, 60:63] = 255  # three pixels wide: nearly two of the picture that is trained on
    it = window("grey", "whole")
    masks = {
        "line": save(tmp_path / "line.png", line),
        "nothing": save(tmp_path / "nothing.png", np.zeros(SIZE, np.uint8)),
        "faint": save(tmp_path / "faint.png", np.full(SIZE, 100, np.uint8)),
        "speck": save(tmp_path / "speck.png", np.pad([[255]], ((40, 49), (60, 59))).astype("u1")),
    }
    _, names, facts = cover(replace(it, masks=masks), list(masks), GRID)
    assert names == tuple(masks)
    assert facts.thin == ("line",)  # of the speck a third of a pixel is left


def test_holes_are_filled_then_it_is_grown_and_then_feathered(window, tmp_path: Path) -> None:
    whole = window("grey", "no resize")  # nine rows are cut off above and below
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    away = np.hypot(rows - 45, columns - 60)
    ring = save(tmp_path / "ring.png", (np.abs(away - 25) < 1.5).astype(np.uint8) * 255)
    line = save(tmp_path / "line.png", (columns == 60).astype(np.uint8) * 255)

    def plane(mask: Path, **how: object) -> Tensor:
        masking = replace(whole.masking, **how)
        return planes_of(replace(whole, masks={"": mask}, masking=masking), ["subject"])["subject"]

    # Narrowed first, the ring would be gone before its hole is looked for.
    disc = plane(ring, fill_holes=True, grow=-3.0)[0]
    assert disc[36, 60] == 1
    assert disc.sum() == pytest.approx(np.pi * 23.5**2, rel=0.05)
    # Feathered first, the line would be faint before it is widened.
    band = plane(line, grow=8.0, feather=6.0)[0, 36]
    torch.testing.assert_close(band[58:63], torch.ones(5))
    assert band[68] == pytest.approx(0.5, abs=0.1)  # at the edge of what has grown
    assert 0 < band[60 + 8 + 5] < 0.1
    assert not band[60 + 8 + 7 :].any()
