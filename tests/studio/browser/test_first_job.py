"""A whole first job: photos dropped, masks drafted, one mended, a model trained, its report read.

It also takes the pictures of docs/studio.md (`make pictures`).
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from tests.studio.browser.conftest import PHOTOS

from frisket.config.load import load
from frisket.maskgen.files import record
from frisket.maskgen.files.label_maps import read_legend
from frisket.media.paths import LEGEND

pytestmark = pytest.mark.browser

SLOW = 240_000  # ms: work on a machine that does other things too


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder: where everybody begins."""
    root = tmp_path / "my-photos"
    root.mkdir()
    return root


def open_page(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()


def test_from_photos_to_a_report(
    page: Page, folder: Path, take_picture: Callable[[str], None]
) -> None:
    page.emulate_media(color_scheme="dark")
    # Photos dropped, and a configuration written.
    expect(page.get_by_text("Drop pictures or videos here")).to_be_visible()
    page.get_by_label("Files to add").set_input_files(sorted((PHOTOS / "clips").iterdir()))
    expect(page.get_by_role("listbox", name="Clips").get_by_role("option")).to_have_count(2)
    page.get_by_label("Model").select_option("pocket")
    page.get_by_role("button", name="Write the configuration").click()
    expect(page.get_by_label("Repeats in an epoch")).to_be_visible(timeout=SLOW)

    # Masks drafted, and looked at, the worst first.
    open_page(page, "Masks")
    page.get_by_role("tab", name="Make masks").click()
    page.get_by_role("button", name="Make the masks").click(timeout=SLOW)
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Make the masks")).to_be_visible(timeout=SLOW)
    page.get_by_role("tab", name="Review").click()
    page.get_by_label("Show").select_option("all")
    side = page.get_by_label("The mask at hand")
    expect(side.get_by_role("heading").first).to_be_visible(timeout=SLOW)
    page.wait_for_function("() => document.querySelector('figure img.mask')?.naturalWidth > 0")
    page.wait_for_timeout(6000)  # messages pass
    take_picture("masks")

    # One mended with the brush.
    page.evaluate("location.hash = '#/mask'")
    page.wait_for_selector("[data-opened=astronaut]")
    mask_file = folder / "masks" / "astronaut.png"
    before = np.asarray(Image.open(mask_file)).copy()
    canvas = page.get_by_label("Canvas: the picture and its mask")
    box = canvas.bounding_box()
    assert box is not None
    scale = float(page.locator("footer .percent").inner_text().removesuffix("%")) / 100
    left = box["x"] + (box["width"] - 512 * scale) / 2
    top = box["y"] + (box["height"] - 512 * scale) / 2
    page.keyboard.press("b")
    page.keyboard.press("3")
    page.mouse.move(left + 165 * scale, top + 470 * scale)
    page.mouse.down()
    for x, y in ((180, 500), (200, 490), (250, 475)):
        page.mouse.move(left + x * scale, top + y * scale, steps=8)
    page.mouse.up()
    page.keyboard.press("Control+s")
    expect(page.get_by_role("status", name="Saving")).to_have_attribute("data-state", "saved")
    after = np.asarray(Image.open(mask_file))
    body = read_legend(folder / "masks" / LEGEND)["body"]
    assert after[483, 173] == body
    assert 300 < (after != before).sum() < 5000
    made = record.load(folder / "masks" / "astronaut.json")
    assert made is not None
    assert any("by hand" in note for note in made.notes)
    # What the loss sees of it, on the latent grid.
    expect(page.locator("figure canvas").first).to_be_visible(timeout=SLOW)
    expect(page.get_by_text("painted by hand")).to_be_visible()
    page.wait_for_timeout(1500)
    take_picture("editor")

    # A short training, from the form.
    open_page(page, "Train")
    for key, value in (("run.steps", "12"), ("optimizer.warmup", "2")):
        page.get_by_label("search").fill(key)
        page.get_by_role("textbox", name=key, exact=True).fill(value)
    page.get_by_label("search").fill("")
    page.keyboard.press("Control+s")
    expect(page.get_by_role("status").filter(has_text="saved")).to_have_text("saved")
    config = load(folder / "frisket.toml")
    assert config.run.steps == 12
    expect(page.get_by_text("Nothing stands in its way.")).to_be_visible(timeout=SLOW)
    take_picture("train")
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator(".state.finished")).to_be_visible(timeout=SLOW)
    page.wait_for_timeout(1000)
    take_picture("watch")
    assert (config.run.output / "lora.safetensors").is_file()

    # And the report: what was learnt, what was kept.
    open_page(page, "Compare")
    page.get_by_role("checkbox").first.check()
    page.get_by_label("Seeds").fill("2")
    page.get_by_label("Noises").fill("2")
    page.get_by_role("button", name="Measure", exact=True).click(timeout=SLOW)
    expect(page.get_by_role("heading", name="Did it work?")).to_be_visible(timeout=SLOW)
    (written,) = (folder / ".frisket-studio" / "comparisons").glob("*/report.json")
    report = json.loads(written.read_text())
    expect(page.get_by_role("row", name="learnt inside")).to_be_visible()
    assert report["runs"]
    page.wait_for_timeout(1000)
    take_picture("report")
    open_page(page, "Data")
    expect(page.get_by_role("listbox", name="Clips").get_by_role("option")).to_have_count(2)
    page.wait_for_timeout(1500)
    take_picture("data")
