"""Clicks become masks, what the loss loses is said, and the queue of masks is worked through."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect

from frisket.maskgen.files import record
from frisket.maskgen.files.unsure import is_unsure
from frisket.media.files import find

pytestmark = pytest.mark.browser

PHOTOS = Path(__file__).parents[3] / "examples" / "photos"
CONFIG = """
[model]
family = "stable_diffusion"
variant = "sdxl"

[[data]]
clips = "clips"
masks = "masks"
resolution = 512

[regions]
face = 1.0
hair = 0.5
body = 0.5
background = 0.0
"""


@pytest.fixture(scope="module")
def drafted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs with a draft, one of them called unsure."""
    root = tmp_path_factory.mktemp("drafted") / "work"
    (root / "clips").mkdir(parents=True)
    for name in ("astronaut", "grace-hopper"):
        Image.open(PHOTOS / "clips" / f"{name}.jpg").save(root / "clips" / f"{name}.png")
    (root / "train.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "frisket.cli", "masks", "make", str(root / "clips")]
    subprocess.run(command, check=True, capture_output=True)
    path = root / "masks" / "astronaut.json"
    table = json.loads(path.read_text())
    path.write_text(json.dumps(table | {"status": "unsure", "confidence": 0.02}))
    return root


@pytest.fixture
def folder(tmp_path: Path, drafted: Path) -> Path:
    return Path(shutil.copytree(drafted, tmp_path / "work"))


def read_ids(folder: Path, name: str) -> NDArray[np.uint8]:
    with Image.open(folder / "masks" / f"{name}.png") as image:
        return np.asarray(image).copy()


def true_face() -> NDArray[np.bool_]:
    return np.asarray(Image.open(PHOTOS / "masks" / "astronaut.png")) == 255


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_a_box_is_cut_out_and_what_vanishes_is_said(page: Page, folder: Path) -> None:
    path = folder / "masks" / "astronaut.png"
    blank = Image.open(path)
    blank.paste(0, (0, 0, *blank.size))
    blank.save(path)
    page.evaluate("location.hash = '#/mask'")
    page.wait_for_selector("[data-opened=astronaut]")
    canvas = page.get_by_label("Canvas: the picture and its mask")
    box = canvas.bounding_box()
    assert box is not None
    scale = float(page.locator("footer .percent").inner_text().removesuffix("%")) / 100
    left = box["x"] + (box["width"] - 512 * scale) / 2
    top = box["y"] + (box["height"] - 512 * scale) / 2

    page.keyboard.press("s")
    page.mouse.move(left + 170 * scale, top + 60 * scale)
    page.mouse.down()
    page.mouse.move(left + 290 * scale, top + 210 * scale, steps=5)
    page.mouse.up()
    segment = page.get_by_role("group", name="Segment")
    expect(segment).to_have_attribute("data-state", "proposed", timeout=60_000)
    page.keyboard.press("Enter")
    expect(segment).to_have_attribute("data-state", "idle")
    page.keyboard.press("Control+s")
    expect(page.get_by_role("status", name="Saving")).to_have_attribute("data-state", "saved")
    assert overlap(read_ids(folder, "astronaut") == 1, true_face()) > 0.85

    # A dab of 5 pixels fills no latent cell of 8: the panel says so, by name.
    page.keyboard.press("2")
    page.keyboard.press("b")
    field = page.get_by_label("Size in pixels")
    field.fill("5")
    field.press("Enter")
    canvas.focus()
    page.mouse.click(left + 452 * scale, top + 452 * scale)
    warning = page.locator("[data-kind=vanishes][data-region=hair]")
    expect(warning).to_contain_text("hair vanishes at 512 x 512", timeout=30_000)
    field.fill("60")
    field.press("Enter")
    canvas.focus()
    page.mouse.click(left + 452 * scale, top + 452 * scale)
    expect(warning).to_have_count(0)


def test_the_queue_is_worked_through(page: Page, folder: Path) -> None:
    def doubted(name: str) -> bool:
        clips = find(folder / "clips", masks="folder", folders={"": folder / "masks"}).clips
        return is_unsure(next(clip for clip in clips if clip.name == name))

    assert doubted("astronaut")
    page.evaluate("location.hash = '#/masks'")
    side = page.get_by_label("The mask at hand")
    expect(side.get_by_role("heading", name="astronaut")).to_be_visible(timeout=30_000)

    # Made again with another setting, of this clip alone.
    other = (folder / "masks" / "grace-hopper.json").read_bytes()
    before = read_ids(folder, "astronaut")
    page.keyboard.press("r")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("grow").fill("4", timeout=60_000)
    dialog.get_by_label("grow").press("Tab")
    dialog.get_by_role("button", name="Make it again").click()
    expect(side.get_by_role("status")).to_contain_text("made", timeout=90_000)
    after = read_ids(folder, "astronaut")
    assert ((before > 0) & (after == 0)).sum() == 0 < ((after > 0) & (before == 0)).sum()
    assert (folder / "masks" / "grace-hopper.json").read_bytes() == other

    # Rejected, that taken back, and accepted: training hears of each.
    page.get_by_label("Show").select_option("all")
    side.get_by_role("button", name="Reject").click()
    expect(side.get_by_role("heading", name="grace-hopper")).to_be_visible()
    assert doubted("astronaut")
    page.keyboard.press("u")
    expect(side.get_by_role("heading", name="astronaut")).to_be_visible()
    assert not doubted("astronaut")
    page.keyboard.press("Enter")
    expect(side.get_by_role("heading", name="grace-hopper")).to_be_visible()
    made = record.load(folder / "masks" / "astronaut.json")
    assert made is not None
    assert made.verdict is not None
    assert made.verdict.kind == "accepted"

    page.keyboard.press("e")
    page.wait_for_selector("[data-opened=grace-hopper]")
