"""A folder to paint in, and how a test paints in it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from frisket.masks.read import read
from frisket.media.frames import probe

LEGEND = {"face": 1, "hair": 2}
CONFIG = """
[[data]]
clips = "clips"
masks = "masks"   # label maps

[regions]
face = 1.0  # all of it
hair = 0.3
"""
SIDE = 128


def fill_folder(root: Path) -> Path:
    """Two pictures of 128 pixels a side, one half dark; the first has a mask, the second none."""
    (root / "clips").mkdir(parents=True)
    (root / "masks").mkdir()
    picture = np.full((SIDE, SIDE, 3), 40, np.uint8)
    picture[:, SIDE // 2 :] = (200, 120, 60)
    for name in ("a", "b"):
        Image.fromarray(picture).save(root / "clips" / f"{name}.png")
    mask = Image.fromarray(np.zeros((SIDE, SIDE), np.uint8))
    mask.putpalette([0, 0, 0, 230, 159, 0, 86, 180, 233])
    mask.save(root / "masks" / "a.png")
    (root / "masks" / "legend.json").write_text(json.dumps(LEGEND))
    (root / "frisket.toml").write_text(CONFIG)
    return root


def open_clip(page: Page, name: str) -> Locator:
    """The editor of a clip, its canvas where one image pixel is known to be."""
    page.evaluate("location.hash = '#/mask'")
    page.wait_for_selector("[data-opened]")
    if page.locator(f"[data-opened={name}]").count() == 0:
        page.get_by_role("list", name="Clips").get_by_role("link", name=name).click()
        page.wait_for_selector(f"[data-opened={name}]")
    return page.get_by_label("Canvas: the picture and its mask")


def locate(page: Page, canvas: Locator) -> Callable[[float, float], tuple[float, float]]:
    """From image pixels to the window: the picture is in the middle, and the zoom is told."""
    box = canvas.bounding_box()
    assert box is not None
    percent = page.locator("footer .percent").inner_text()
    scale = float(percent.removesuffix("%").strip()) / 100
    left = box["x"] + (box["width"] - SIDE * scale) / 2
    top = box["y"] + (box["height"] - SIDE * scale) / 2
    return lambda x, y: (left + x * scale, top + y * scale)


def drag(page: Page, *points: tuple[float, float], button: str = "left") -> None:
    page.mouse.move(*points[0])
    page.mouse.down(button=button)  # type: ignore[arg-type]
    for point in points[1:]:
        page.mouse.move(*point, steps=6)
    page.mouse.up(button=button)  # type: ignore[arg-type]


def wait_saved(page: Page) -> None:
    page.keyboard.press("Control+s")
    expect(page.get_by_role("status", name="Saving")).to_have_attribute("data-state", "saved")


def read_ids(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.asarray(image).copy()


def read_planes(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The mask of the first clip as the trainer reads it."""
    planes = read(
        {"": folder / "masks" / "a.png"},
        clip=probe(folder / "clips" / "a.png"),
        alpha=False,
        picks=[0],
        regions=list(LEGEND),
        legend=LEGEND,
    )
    return {name: plane.numpy()[0] for name, plane in planes.items()}


def set_size(page: Page, pixels: int) -> None:
    field = page.get_by_label("Size in pixels")
    field.fill(str(pixels))
    field.press("Enter")
    page.get_by_label("Canvas: the picture and its mask").focus()
