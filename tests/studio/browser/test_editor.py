"""The mask editor: what is painted in the browser is what the trainer reads."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect
from tests.studio.browser.painting import (
    SIDE,
    drag,
    fill_folder,
    locate,
    open_clip,
    read_ids,
    read_planes,
    set_size,
    wait_saved,
)

pytestmark = pytest.mark.browser


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill_folder(tmp_path / "work")


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
    field = page.get_by_label("Name of the new region")
    field.fill("red jacket")
    field.press("Enter")
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

    def answer_late(route: Route) -> None:
        page.wait_for_timeout(400)
        route.continue_()

    # A copy that is on its way is a change that is not saved.
    page.route("**/api/clips/*/mask*", answer_late, times=1)
    page.get_by_label("Copy the mask of another clip").select_option("a")
    wait_saved(page)
    assert np.array_equal(read_ids(folder / "masks" / "b.png"), ids)


def test_grey_masks_take_soft_strokes(page: Page, folder: Path) -> None:
    at = locate(page, open_clip(page, "a"))
    assert page.get_by_label("Soft").count() == 0  # a label map holds no soft values
    (folder / "masks" / "legend.json").unlink()
    (folder / "frisket.toml").write_text(
        '[[data]]\nclips = "clips"\nmasks = "masks"\n[regions]\nsubject = 1.0\n'
    )
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(folder / "masks" / "a.png")
    page.reload()
    page.wait_for_selector("[data-opened=a]")
    set_size(page, 40)
    expect(page.get_by_label("Soft")).to_be_checked()
    page.get_by_label("Hardness").fill("0")
    page.get_by_label("Opacity", exact=True).fill("0.5")
    page.get_by_label("Canvas: the picture and its mask").focus()
    drag(page, at(64.5, 64.5), at(64.5, 64.5))
    drag(page, at(64.5, 64.5), at(64.5, 64.5))
    wait_saved(page)
    with Image.open(folder / "masks" / "a.png") as image:
        assert image.mode == "L"
        levels = np.asarray(image).astype(int)
    assert levels[64, 64] == pytest.approx(191, abs=3)  # half, then half of what was left
    assert 0 < levels[64, 76] < levels[64, 70] < levels[64, 64]
    assert levels[64, 90] == 0
