"""The data set's page: from an empty folder to a set that the commands read as it was left here."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from tests.studio.browser.conftest import PHOTOS, Served

from frisket.config.load import load
from frisket.media.files import find
from frisket.media.folders.rejecting import write_rejects

pytestmark = pytest.mark.browser


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    root.mkdir()
    return root


def find_tiles(page: Page, name: str = "") -> Locator:
    return page.get_by_role("listbox", name="Clips").get_by_role("option", name=name)


def add_files(page: Page, paths: list[Path]) -> None:
    page.get_by_label("Files to add").set_input_files(paths)


def test_photos_dropped_captioned_filtered_and_rejected_are_read_so(
    folder: Path, studio: Served, page: Page
) -> None:
    tiles = find_tiles(page)
    expect(page.get_by_text("Drop pictures or videos here")).to_be_visible()
    add_files(page, sorted((PHOTOS / "clips").iterdir()))
    expect(tiles).to_have_count(2)
    assert {path.name for path in (folder / "clips").iterdir()} == {
        path.name for path in (PHOTOS / "clips").iterdir()
    }

    add_files(page, sorted((PHOTOS / "masks").iterdir()))
    page.get_by_label("All of these pictures are masks").check()
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("2 of 2", exact=True)).to_be_visible()
    assert len(list((folder / "masks").iterdir())) == 2

    page.get_by_label("Model").select_option("pocket")
    page.get_by_role("button", name="Write the configuration").click()
    expect(page.get_by_label("Repeats in an epoch")).to_be_visible(timeout=90_000)
    page.get_by_label("Repeats in an epoch").fill("3")
    page.get_by_label("Repeats in an epoch").press("Enter")

    search = page.get_by_label("Name or caption")
    search.fill("orange -navy")
    expect(tiles).to_have_count(1)
    expect(tiles).to_have_attribute("aria-label", "astronaut, by hand")
    search.fill("")
    expect(tiles).to_have_count(2)
    search.blur()

    page.keyboard.press("r")
    page.get_by_label("Find", exact=True).fill("portrait")
    page.get_by_label("Replace with").fill("<b>picture</b>")
    expect(page.get_by_text("2 of 2 captions change")).to_be_visible()
    assert "portrait" in (folder / "clips" / "astronaut.txt").read_text()
    page.get_by_role("button", name="Change 2 captions").click()
    expect(page.get_by_text("Captions of 2 clips changed")).to_be_visible()
    for name in ("astronaut", "grace-hopper"):
        text = (PHOTOS / "clips" / f"{name}.txt").read_text()
        changed = (folder / "clips" / f"{name}.txt").read_text()
        assert changed == text.replace("portrait", "<b>picture</b>")

    find_tiles(page, "grace-hopper").click()
    caption = page.get_by_label("Caption", exact=True)
    expect(caption).to_have_value((folder / "clips" / "grace-hopper.txt").read_text())
    page.keyboard.press("c")
    expect(caption).to_be_focused()
    caption.fill("sks, an officer\n\nand a second paragraph")
    expect(page.get_by_text("saved", exact=True)).to_be_visible()
    written = (folder / "clips" / "grace-hopper.txt").read_text()
    assert written.rstrip("\n") == "sks, an officer\n\nand a second paragraph"
    caption.press("Escape")
    page.keyboard.press("x")
    expect(find_tiles(page, "grace-hopper, rejected")).to_be_visible()
    expect(page.get_by_text("1 clip rejected (clips.rejected.txt)")).to_be_visible()

    data = load(folder / "frisket.toml").data[0]
    assert data.repeats == 3
    folders = {"": data.masks.path}
    found = find(data.clips, masks=data.masks.source, folders=folders, reject=data.reject)
    assert [clip.name for clip in found.clips] == ["astronaut"]
    page.keyboard.press("Control+z")
    expect(find_tiles(page, "rejected")).to_have_count(0)
    assert "grace-hopper" not in (folder / "clips.rejected.txt").read_text()


def test_the_doctor_looks_and_mends(folder: Path, page: Page) -> None:
    shutil.copytree(PHOTOS, folder, dirs_exist_ok=True)
    (folder / "wan.toml").unlink()
    mask = folder / "masks" / "grace-hopper.png"
    with Image.open(mask) as image:
        image.convert("L").save(mask.with_suffix(".jpg"), quality=95)
    mask.unlink()
    write_rejects(folder / "clips.rejected.txt", ["astronaut"])
    config = folder / "pocket.toml"
    text = config.read_text().replace("../../runs", "runs")
    config.write_text(text.replace("[data.masks]", 'reject = "clips.rejected.txt"\n[data.masks]'))
    page.reload()
    page.get_by_role("button", name="Look at every clip").click()
    expect(page.get_by_text("1 clip is rejected by")).to_be_visible(timeout=120_000)
    found = load(config).run.output / "inspect" / "findings.json"
    findings = json.loads(found.read_text())
    assert {row["clip"] for row in findings} == {"", "grace-hopper"}
    page.get_by_role("combobox", name="Finding").select_option("kind:lossy mask")
    expect(find_tiles(page)).to_have_count(1)
    find_tiles(page, "grace-hopper").click()
    page.get_by_role("button", name="What can be mended?").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("saved without loss")).to_be_visible(timeout=120_000)
    assert not mask.exists()
    dialog.get_by_role("button", name="Mend 1").click()
    expect(page.get_by_text("Look again")).to_be_visible(timeout=120_000)
    for _ in range(600):
        if mask.exists():
            break
        page.wait_for_timeout(200)
    assert mask.exists()
    assert not mask.with_suffix(".jpg").exists()


def test_two_windows_on_one_caption_and_the_trash(folder: Path, page: Page) -> None:
    shutil.copytree(PHOTOS / "clips", folder / "clips")
    page.reload()
    find_tiles(page, "astronaut").click()
    caption = page.get_by_label("Caption", exact=True)
    expect(caption).not_to_have_value("")
    (folder / "clips" / "astronaut.txt").write_text("by another program")
    caption.fill("mine")
    expect(page.get_by_text("Another program or window changed this caption")).to_be_visible()
    assert (folder / "clips" / "astronaut.txt").read_text() == "by another program"
    page.get_by_role("button", name="Keep mine").click()
    expect(page.get_by_text("saved", exact=True)).to_be_visible()
    assert (folder / "clips" / "astronaut.txt").read_text().strip() == "mine"
    caption.press("Escape")
    page.keyboard.press("Delete")
    expect(find_tiles(page)).to_have_count(1)
    assert not list((folder / "clips").glob("astronaut.*"))
    page.get_by_role("button", name="Undo").click()
    expect(find_tiles(page)).to_have_count(2)
    assert (folder / "clips" / "astronaut.jpg").is_file()
