"""The mask editor: what is painted in the browser is what the trainer reads."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from frisket.masks.read import read
from frisket.media.frames import probe

pytestmark = pytest.mark.browser

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures of 128 pixels a side, one half dark; the first has a mask, the second none."""
    root = tmp_path / "work"
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


def test_paint_erase_undo_and_a_reload(page: Page, folder: Path) -> None:
    canvas = open_clip(page, "a")
    at = locate(page, canvas)
    set_size(page, 16)
    page.keyboard.press("1")
    drag(page, at(20.5, 40.5), at(100.5, 40.5))
    page.keyboard.press("2")
    drag(page, at(60.5, 40.5), at(60.5, 90.5))
    drag(page, at(60.5, 90.5), at(60.5, 80.5), button="right")  # erases, whatever is in hand
    wait_saved(page)
    ids = read_ids(folder / "masks" / "a.png")
    assert (ids[40, 25], ids[40, 60], ids[65, 60], ids[90, 60]) == (1, 2, 2, 0)
    assert set(np.unique(ids)) == {0, 1, 2}
    planes = read_planes(folder)
    assert planes["hair"][65, 60] == 1
    assert planes["face"][65, 60] == 0

    page.reload()
    page.wait_for_selector("[data-opened=a]")
    page.get_by_role("button", name="History").click()
    steps = page.get_by_role("list", name="Steps, the newest first").get_by_role("button")
    expect(steps).to_have_count(4)  # three strokes, and as it was opened
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    wait_saved(page)
    ids = read_ids(folder / "masks" / "a.png")
    assert (ids[40, 25], ids[65, 60], ids[90, 60]) == (1, 0, 0)
    page.keyboard.press("Control+Shift+z")
    wait_saved(page)
    assert read_ids(folder / "masks" / "a.png")[65, 60] == 2


def test_polygon_and_fill_by_mouse_and_keyboard(page: Page, folder: Path) -> None:
    canvas = open_clip(page, "a")
    at = locate(page, canvas)
    page.keyboard.press("1")
    page.keyboard.press("p")
    for corner in [(20, 20), (100, 20), (100, 100), (20, 100), (5, 5)]:
        page.mouse.click(*at(*corner))
    page.keyboard.press("Backspace")  # takes (5, 5) back
    page.keyboard.press("Enter")
    page.keyboard.press("2")
    page.keyboard.press("g")
    page.mouse.click(*at(60, 60))
    wait_saved(page)
    ids = read_ids(folder / "masks" / "a.png")
    assert int((ids == 2).sum()) == 80 * 80
    assert not (ids == 1).any()
    page.keyboard.press("Control+z")
    page.get_by_label("Alike in").select_option("colour")
    expect(page.get_by_text("pixels are there")).to_be_attached()
    page.mouse.click(*at(110, 110))  # the bright half
    wait_saved(page)
    ids = read_ids(folder / "masks" / "a.png")
    assert (ids[:, 64:] == 2).all()
    assert int((ids == 1).sum()) == 80 * 44
    page.keyboard.press("p")
    page.mouse.click(*at(3, 3))
    page.keyboard.press("Escape")
    expect(page.locator("[role=application] circle")).to_have_count(0)


def test_weights_and_regions_are_written_into_the_config(page: Page, folder: Path) -> None:
    open_clip(page, "a")
    page.get_by_role("spinbutton", name="Weight of hair").fill("0.45")
    page.get_by_role("spinbutton", name="Weight of hair").press("Enter")
    page.get_by_role("button", name="Add a region").click()
    page.get_by_label("Name of the new region").fill("red jacket")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="red jacket", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    text = (folder / "frisket.toml").read_text("utf-8")
    assert "face = 1.0  # all of it" in text
    assert tomllib.loads(text)["regions"] == {"face": 1.0, "hair": 0.45, "red jacket": 1.0}
    assert json.loads((folder / "masks" / "legend.json").read_text("utf-8"))["red jacket"] == 3


def test_grow_is_seen_before_it_is_done(page: Page, folder: Path) -> None:
    canvas = open_clip(page, "a")
    at = locate(page, canvas)
    set_size(page, 20)
    page.keyboard.press("1")
    drag(page, at(64.5, 64.5), at(64.5, 64.5))
    wait_saved(page)
    before = int((read_ids(folder / "masks" / "a.png") == 1).sum())
    page.get_by_label("Grow, as a number").fill("5")
    page.get_by_label("Grow, as a number").press("Enter")
    page.get_by_role("button", name="Apply").click()
    wait_saved(page)
    after = int((read_ids(folder / "masks" / "a.png") == 1).sum())
    assert before == pytest.approx(np.pi * 10**2, rel=0.05)
    assert after == pytest.approx(np.pi * 15**2, rel=0.05)


def test_two_windows_on_one_mask(page: Page, folder: Path) -> None:
    at = locate(page, open_clip(page, "a"))
    set_size(page, 16)
    other = page.context.new_page()
    other.goto(page.url)
    other.wait_for_selector("[data-opened=a]")
    page.route("**/api/clips/*/mask", lambda route: route.abort())  # this one's network is gone
    page.bring_to_front()
    drag(page, at(20.5, 20.5), at(40.5, 20.5))
    other.bring_to_front()
    other.keyboard.press("2")
    drag(other, at(90.5, 90.5), at(110.5, 90.5))
    wait_saved(other)
    page.bring_to_front()
    page.unroute("**/api/clips/*/mask")
    page.keyboard.press("Control+s")
    dialog = page.get_by_role("dialog", name="This mask was changed elsewhere")
    dialog.get_by_role("button", name="Join both changes").click()
    wait_saved(page)
    ids = read_ids(folder / "masks" / "a.png")
    assert (ids[20, 30], ids[90, 100]) == (1, 2)
    # A window that has nothing of its own takes over what was saved.
    other.bring_to_front()
    other.wait_for_timeout(500)
    wait_saved(other)
    other.close()


def test_a_clip_without_a_mask_begins_with_a_copy(page: Page, folder: Path) -> None:
    ids = np.zeros((SIDE, SIDE), np.uint8)
    ids[10:50, 10:50] = 1
    Image.fromarray(ids).save(folder / "masks" / "a.png")
    open_clip(page, "b")
    page.get_by_label("Copy the mask of another clip").select_option("a")
    wait_saved(page)
    assert np.array_equal(read_ids(folder / "masks" / "b.png"), ids)
