"""The mask of a video: painted, carried on, corrected, written; what the commands read of it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from tests.studio.browser.conftest import Served
from tests.studio.video.pocket_clips import LEGEND, draw_clip, write_clip

from frisket.maskgen.files import record
from frisket.media.frames import decode_index

pytestmark = pytest.mark.browser

SIDE, FRAMES, LAST = 256, 24, 23
RADIUS = 8 * SIDE / 32 * 0.85  # of the creature's disc: body and eye
CONFIG = """
[model]
family = "pocket"
variant = "video"

[[data]]
clips = "clips"
caption = "sks"
masks = "masks"
resolution = 64
frames = 9

[regions]
body = 1.0
eye = 1.0
legs = 0.5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    pictures, _ = draw_clip(FRAMES, SIDE)
    write_clip(root / "clips" / "walk.mp4", pictures)
    (root / "masks").mkdir()
    (root / "masks" / "legend.json").write_text(json.dumps(LEGEND))
    (root / "frisket.toml").write_text(CONFIG)
    return root


@pytest.fixture(autouse=True)
def _patient(page: Page) -> None:
    # Three processes read torch first, on a machine that others work on too.
    page.set_default_timeout(150_000)
    expect.set_options(timeout=150_000)


def find_centre(frame: int) -> tuple[float, float]:
    """Where the creature's middle is, in pixels of the clip."""
    x = 16 + (frame - (FRAMES - 1) / 2) * 12 / FRAMES
    return x * SIDE / 32, SIDE / 2


def draw_truth(frame: int) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    across, down = find_centre(frame)
    return np.hypot(x - across, y - down) <= RADIUS


def measure(ids: np.ndarray, frame: int) -> float:
    truth, found = draw_truth(frame), ids == 1
    return np.count_nonzero(truth & found) / np.count_nonzero(truth | found)


def place_disc(page: Page, frame: int, off: float = 0) -> None:
    """One touch of a brush as large as the creature's disc."""
    canvas = page.get_by_label("Canvas: the picture and its mask")
    box = canvas.bounding_box()
    assert box is not None
    scale = float(page.locator("footer .percent").inner_text().removesuffix("%").strip()) / 100
    x, y = find_centre(frame)
    left = box["x"] + (box["width"] - SIDE * scale) / 2
    top = box["y"] + (box["height"] - SIDE * scale) / 2
    page.mouse.click(left + (x + off) * scale, top + y * scale)


def go_to(page: Page, frame: int) -> None:
    field = page.get_by_role("spinbutton", name="Frame")
    field.fill(str(frame))
    field.press("Enter")
    page.wait_for_selector(f"[data-frame='{frame}']")
    field.blur()


def track(page: Page, way: str) -> None:
    page.get_by_role("button", name=f"Track {way}").click()
    page.get_by_role("button", name="Stop", exact=True).wait_for()
    expect(page.get_by_role("button", name=f"Track {way}")).to_be_enabled()


def test_a_mask_is_painted_carried_corrected_and_written(
    page: Page, folder: Path, studio: Served
) -> None:
    page.evaluate("location.hash = '#/mask'")
    page.wait_for_selector("[data-opened=walk]")
    start = page.get_by_role("button", name="nothing")
    if start.count():
        start.click()
    page.wait_for_selector("[data-frame='0']")
    page.keyboard.press("1")
    size = page.get_by_role("spinbutton", name="Size in pixels")
    size.fill(str(round(2 * RADIUS)))
    size.press("Enter")
    page.get_by_label("How far").select_option("all")
    place_disc(page, 0)
    track(page, "forward")
    go_to(page, 12)
    page.keyboard.press("Control+z")  # nothing to take back in this frame
    place_disc(page, 12)
    track(page, "both ways")
    lanes = page.get_by_role("slider", name="Frame", exact=True)
    expect(lanes).to_have_attribute("aria-valuetext", "frame 12 of 24, painted by hand")
    page.keyboard.press("Control+ArrowLeft")
    expect(lanes).to_have_attribute("aria-valuetext", "frame 0 of 24, painted by hand")
    page.keyboard.press("ArrowRight")
    expect(lanes).to_have_attribute("aria-valuenow", "1")
    page.get_by_role("button", name="Onion skin").click()
    page.get_by_role("button", name="Write").click()
    page.get_by_text("all frames are in the file").wait_for()

    read = decode_index(folder / "masks" / "walk.mkv").numpy()
    assert read.shape == (FRAMES, SIDE, SIDE)
    scores = [measure(read[at], at) for at in range(FRAMES)]
    assert min(scores[0], scores[12]) > 0.95
    assert np.mean(scores) > 0.9, scores
    noted = record.load(folder / "masks" / "walk.json")
    assert noted is not None
    assert noted.painted == (0, 12)
    assert len(noted.tracked) == FRAMES - 2
    inspect = subprocess.run(
        [sys.executable, "-m", "frisket.cli", "inspect", str(folder / "frisket.toml"), "-o",
         str(folder / "look")], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert inspect.returncode == 0, inspect.stderr
    findings = json.loads((folder / "look" / "findings.json").read_text())
    assert not [each for each in findings if each["severity"] == "stop"], findings


def test_frames_play_and_are_scrubbed(page: Page) -> None:
    page.evaluate("location.hash = '#/mask'")
    page.wait_for_selector("[data-frame='0']")
    lanes = page.get_by_role("slider", name="Frame", exact=True)
    lanes.wait_for()
    page.keyboard.press("k")
    expect(lanes).to_have_attribute("aria-valuenow", re.compile(r"^([5-9]|1\d|2\d)$"))
    page.keyboard.press("k")
    box = lanes.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 4, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + 20, steps=30)
    page.mouse.up()
    page.wait_for_selector(f"[data-frame='{LAST}']")
    page.keyboard.press("Home")
    page.wait_for_selector("[data-frame='0']")
