"""The mask editor at 4096 x 4096 pixels, in a browser: how long it opens, and a brush frame.

Targets: open in 1.5 s; the work of a frame with a stroke in it, on the thread that draws, below 8 ms
at the 95th percentile. A frame is late where the one before began more than 25 ms earlier. Chromium
draws by software here, which the work itself does not do.

    python benchmarks/studio_brush.py [SIDE] [SECONDS]
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

SIDE = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 4.0
CANVAS = "Canvas: the picture and its mask"
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
SETTINGS = {"brushSize": 60, "pressure": False}
LATE = 25.0  # ms

READ = """() => performance.getEntriesByName("brush frame").map((entry) => [entry.startTime, entry.duration])"""


def fill(root: Path) -> None:
    """One photograph-like JPEG and a mask of three regions in blobs."""
    clips, masks = root / "clips", root / "masks"
    clips.mkdir()
    masks.mkdir()
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 255, (SIDE // 64, SIDE // 64, 3), dtype=np.uint8))
    coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(clips / "large.jpg", quality=92)
    labels = Image.fromarray(generator.integers(0, 4, (SIDE // 256, SIDE // 256), dtype=np.uint8))
    labels = labels.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    labels.putpalette([0, 0, 0, 230, 159, 0, 86, 180, 233, 0, 158, 115])
    labels.save(masks / "large.png")
    (masks / "legend.json").write_text('{"face": 1, "hair": 2, "body": 3}')


def paint(page: Page, seconds: float) -> int:
    """Wave the brush over the canvas for a while; how many points were sent."""
    box = page.get_by_label(CANVAS).bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    reach = min(box["width"], box["height"]) * 0.4
    page.mouse.move(*middle)
    page.mouse.down()
    start, points = time.monotonic(), 0
    while (passed := time.monotonic() - start) < seconds:
        angle = passed * 5
        radius = reach * abs(math.sin(passed * 1.7))
        page.mouse.move(middle[0] + radius * math.cos(angle), middle[1] + radius * math.sin(angle))
        points += 1
    page.mouse.up()
    return points


def measure(page: Page, name: str) -> None:
    """Paint, and print the frames of it."""
    page.evaluate("performance.clearMeasures()")
    points = paint(page, SECONDS)
    page.wait_for_timeout(200)
    frames = page.evaluate(READ)
    work = np.array([duration for _, duration in frames])
    gaps = np.diff([start for start, _ in frames])
    late = int((gaps > LATE).sum())
    print(
        f"{name:28} {len(work):4} frames of {points} points: median {np.median(work):.2f} ms,"
        f" 95th {np.percentile(work, 95):.2f} ms, worst {work.max():.2f} ms; late {late}"
    )


def open_editor(page: Page, address: str) -> None:
    """Open the clip, and print how long that takes from a page that is there."""
    page.goto(address)
    page.wait_for_selector("nav")
    settings = json.dumps(json.dumps(SETTINGS))
    page.evaluate(f"localStorage['frisket-measure'] = '1'; localStorage['frisket-editor'] = {settings}")
    page.reload()
    page.wait_for_selector("nav")
    start = time.monotonic()
    page.evaluate("location.hash = '#/mask'")
    page.wait_for_selector("[data-opened=large]")
    print(f"opened {SIDE} x {SIDE} in {time.monotonic() - start:.2f} s (picture seen, mask painted)")


def main() -> None:
    """Serve a folder, open its one clip, paint at two zooms."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder)
        fill(root)
        command = [sys.executable, "-m", "frisket.cli", "studio", folder, "--port", "0"]
        server = subprocess.Popen([*command, "--no-browser"], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        address = next(line for line in server.stdout if line.startswith("Open "))[5:].strip()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            open_editor(page, address)
            measure(page, "whole picture in sight")
            page.keyboard.press("Control+0")
            page.wait_for_timeout(500)
            measure(page, "at 100 %")
        finally:
            browser.close()
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
