"""Strokes outlive the server: what it never got is in the browser, and comes back with its undo."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect
from tests.studio.browser.conftest import Served, serve

from frisket.masks.read import read
from frisket.media.frames import probe

pytestmark = pytest.mark.browser

CANVAS = "Canvas: the picture and its mask"
REGIONS = ("face", "hair", "body")
CONFIG = """
[[data]]
clips = "clips"
masks = "masks"
[regions]
face = 1.0
hair = 0.3
body = 0.5
"""


@pytest.fixture
def folder(folder: Path) -> Path:
    """The example photographs, to be painted from nothing."""
    for path in (folder / "masks").iterdir():
        path.unlink()
    for path in folder.glob("*.toml"):
        path.unlink()
    (folder / "frisket.toml").write_text(CONFIG, encoding="utf-8")
    return folder


def open_mask(page: Page) -> None:
    page.evaluate("location.hash = '#/mask'")
    page.wait_for_selector("[data-opened=astronaut]")


def paint(page: Page, left: float, top: float) -> None:
    """A short stroke, begun at these shares of the canvas."""
    box = page.get_by_label(CANVAS).bounding_box()
    assert box is not None
    x, y = box["x"] + left * box["width"], box["y"] + top * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 10, steps=5)
    page.mouse.up()


def save(page: Page) -> None:
    page.keyboard.press("Control+s")
    expect(page.get_by_role("status", name="Saving")).to_have_attribute("data-state", "saved")


def read_face(folder: Path) -> np.ndarray:
    """The plane of the face as training reads it."""
    path, clip = folder / "masks/astronaut.png", probe(folder / "clips/astronaut.jpg")
    legend = json.loads((folder / "masks/legend.json").read_text(encoding="utf-8"))
    regions = [name for name in REGIONS if name in legend]
    planes = read({"": path}, clip=clip, alpha=False, picks=(0,), regions=regions, legend=legend)
    return planes["face"][0].numpy() > 0


def test_strokes_outlive_a_killed_server(chromium: Browser, folder: Path) -> None:
    first = serve(folder)
    port = first.address.partition("127.0.0.1:")[2].partition("/")[0]
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(first.address)
    page.wait_for_selector("nav")
    open_mask(page)
    page.keyboard.press("1")
    paint(page, 0.45, 0.4)
    save(page)
    saved = read_face(folder)
    assert saved.any()
    first.stop(signal.SIGKILL)
    paint(page, 0.45, 0.6)
    state = page.get_by_role("status", name="Saving")
    expect(state).to_have_attribute("data-state", "failed")
    expect(state).to_contain_text("not saved")
    assert np.array_equal(read_face(folder), saved)
    second: Served = serve(folder, "--port", port)
    try:
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(second.address)
        page.wait_for_selector("nav")
        open_mask(page)
        save(page)
        both = read_face(folder)
        assert (both & ~saved).any()
        assert not (saved & ~both).any()
        for expected in (saved, None):
            page.keyboard.press("Control+z")
            save(page)
            if expected is not None:
                assert np.array_equal(read_face(folder), expected)
        assert not read_face(folder).any()
    finally:
        context.close()
        second.stop()
