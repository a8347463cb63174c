"""Pen, fingers and held keys on the canvas, and what axe says of the editor."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from tests.studio.browser.painting import (
    drag,
    fill_folder,
    locate,
    open_clip,
    read_ids,
    set_size,
    wait_saved,
)
from tests.studio.browser.test_accessible import VIEWS, find_serious

pytestmark = pytest.mark.browser

SEND = """([type, id, kind, x, y, more]) => {
  const canvas = document.querySelector('[role=application]');
  canvas.dispatchEvent(new PointerEvent(type, { pointerId: id, pointerType: kind, bubbles: true,
    cancelable: true, isPrimary: true, clientX: x, clientY: y, button: 0, buttons: 1, pressure: 0.5,
    ...more }));
}"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill_folder(tmp_path / "work")


def send(page: Page, kind: str, *steps: tuple[str, int, tuple[float, float]], **more: Any) -> None:
    """Pointer events of a pen or finger, as a screen that has them would send them."""
    for name, number, (x, y) in steps:
        page.evaluate(SEND, [f"pointer{name}", number, kind, x, y, more])
        page.wait_for_timeout(40)


def read_zoom(page: Page) -> int:
    return int(page.locator("footer .percent").inner_text().removesuffix("%"))


def count(folder: Path, region: int) -> int:
    return int((read_ids(folder / "masks" / "a.png") == region).sum())


def test_keys_held_and_other_buttons(page: Page, folder: Path) -> None:
    canvas = open_clip(page, "a")
    at = locate(page, canvas)
    set_size(page, 8)
    page.keyboard.press("1")
    page.mouse.click(*at(20.5, 20.5))
    page.keyboard.down("Shift")
    page.mouse.click(*at(100.5, 20.5))  # a straight line from where the last stroke ended
    page.keyboard.up("Shift")
    page.keyboard.press("2")
    drag(page, at(20.5, 60.5), at(100.5, 60.5))
    page.keyboard.down("Alt")
    drag(page, at(60.5, 60.5), at(60.5, 75.5))  # erases
    page.mouse.click(*at(40.5, 20.5))  # takes the region under it
    page.keyboard.up("Alt")
    expect(page.get_by_role("button", name="face", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    wait_saved(page)
    ids = read_ids(folder / "masks" / "a.png")
    assert (ids[20, 60], ids[60, 30], ids[60, 60]) == (1, 2, 0)

    before = float(page.get_by_label("Size in pixels").input_value())
    page.keyboard.down("Alt")
    x, y = at(64, 100)
    drag(page, (x, y), (x + 40, y), button="right")
    page.keyboard.up("Alt")
    assert float(page.get_by_label("Size in pixels").input_value()) > before
    page.mouse.move(*at(30.5, 20.5))
    expect(page.get_by_role("note", name="Under the pointer")).to_have_text("30, 20 face")

    mask = page.locator("[role=application] canvas").nth(1)
    page.keyboard.down("h")
    expect(mask).to_have_css("visibility", "hidden")
    page.keyboard.up("h")
    expect(mask).to_have_css("visibility", "visible")
    page.keyboard.down("Space")
    drag(page, at(64, 64), at(84, 64))
    page.keyboard.up("Space")
    page.mouse.move(*at(50.5, 20.5))  # the picture went 20 pixels to the right
    expect(page.get_by_role("note", name="Under the pointer")).to_have_text("30, 20 face")
    wait_saved(page)
    assert count(folder, 2) > 0


def test_locks_and_what_a_stroke_is_limited_to(page: Page, folder: Path) -> None:
    at = locate(page, open_clip(page, "a"))
    set_size(page, 20)
    page.keyboard.press("1")
    drag(page, at(20.5, 40.5), at(100.5, 40.5))
    page.get_by_role("button", name="Lock face: no stroke changes it").click()
    page.keyboard.press("2")
    drag(page, at(60.5, 10.5), at(60.5, 110.5))
    wait_saved(page)
    ids = read_ids(folder / "masks" / "a.png")
    assert (ids[40, 60], ids[20, 60], ids[70, 60]) == (1, 2, 2)
    page.get_by_role("button", name="Unlock face").click()
    page.get_by_label("Over").select_option("background")
    drag(page, at(30.5, 40.5), at(30.5, 80.5))
    wait_saved(page)
    ids = read_ids(folder / "masks" / "a.png")
    assert (ids[40, 30], ids[70, 30]) == (1, 2)


def test_the_edge_brush_stays_on_its_side(page: Page, folder: Path) -> None:
    at = locate(page, open_clip(page, "a"))
    page.keyboard.press("n")
    expect(page.get_by_text("pixels are there")).to_be_attached()
    set_size(page, 40)
    page.keyboard.press("1")
    drag(page, at(55.5, 40.5), at(55.5, 80.5))  # its disc reaches to 75, the edge is at 64
    wait_saved(page)
    ids = read_ids(folder / "masks" / "a.png")
    assert (ids[60, 36:64] == 1).all()
    assert not (ids[:, 64:] == 1).any()


def test_fingers_and_a_pen(page: Page, folder: Path) -> None:
    at = locate(page, open_clip(page, "a"))
    set_size(page, 10)
    page.keyboard.press("1")
    zoom = read_zoom(page)
    finger = [("down", 11, at(30, 30)), ("move", 11, at(60, 30)), ("up", 11, at(60, 30))]
    send(page, "touch", *finger)  # no pen was seen: a finger draws
    wait_saved(page)
    drawn = count(folder, 1)
    assert drawn > 200
    pinch = [("down", 11, at(50, 64)), ("down", 12, at(78, 64)), ("move", 12, at(106, 64))]
    send(page, "touch", *pinch, ("up", 11, at(50, 64)), ("up", 12, at(106, 64)))
    assert read_zoom(page) == pytest.approx(2 * zoom, rel=0.05)
    page.keyboard.press("f")
    send(page, "touch", ("down", 11, at(50, 64)), ("down", 12, at(78, 64)))
    send(page, "touch", ("up", 11, at(50, 64)), ("up", 12, at(78, 64)))  # two fingers: undo
    wait_saved(page)
    assert count(folder, 1) == 0
    pen = [("down", 5, at(30, 90)), ("move", 5, at(80, 90)), ("up", 5, at(80, 90))]
    send(page, "pen", *pen)
    wait_saved(page)
    ids = read_ids(folder / "masks" / "a.png")
    thick = int((ids[:, 60] == 1).sum())
    assert 3 <= thick <= 7  # half the pressure, half of 10 pixels
    send(page, "touch", *finger)  # a pen was seen: now a finger moves the view
    wait_saved(page)
    assert np.array_equal(read_ids(folder / "masks" / "a.png"), ids)


def test_axe_finds_nothing_serious_in_the_editor(page: Page) -> None:
    open_clip(page, "a")
    faults = []
    for scheme, width, height in VIEWS:
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": height})
        for tool in "bgps":
            page.keyboard.press(tool)
            faults += [f"{scheme} {width} {tool}: {fault}" for fault in find_serious(page)]
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0
    assert not faults, "\n".join(faults)
