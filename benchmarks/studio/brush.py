"""The mask editor at 4096 x 4096 pixels, in a browser: how long it opens, and a brush frame.

Targets: open in 1.5 s; the work of a frame with a stroke in it, on the thread that draws, below
8 ms at the 95th percentile. A frame is late where the one before began more than 25 ms earlier.
Chromium draws by software here, which the work measured does not.

    python benchmarks/studio/brush.py [SIDE] [SECONDS]
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

SIDE = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 4.0
CANVAS = "Canvas: the picture and its mask"
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
SETTINGS = {"brushSize": 60, "pressure": False}
LATE = 25.0  # ms

READ = "() => performance.getEntriesByName('brush frame').map((entry) => entry.duration)"


def fill(root: Path) -> None:
    """One photograph-like JPEG and a mask of three regions in blobs."""
    clips, masks = root / "clips", root / "masks"
    clips.mkdir()
    masks.mkdir()
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(
        generator.integers(0, 255, (SIDE // 64, SIDE // 64, 3), dtype=np.uint8)
    )
    coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(clips / "large.jpg", quality=92)
    labels = Image.fromarray(generator.integers(0, 4, (SIDE // 256, SIDE // 256), dtype=np.uint8))
    labels = labels.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    labels.putpalette([0, 0, 0, 230, 159, 0, 86, 180, 233, 0, 158, 115])
    labels.save(masks / "large.png")
    (masks / "legend.json").write_text('{"face": 1, "hair": 2, "body": 3}')


# Points come every 4 ms, as from a fast mouse; sent from inside, since through Playwright each of
# them would wait for the one before.
WAVE = """async ([label, seconds]) => {
  const canvas = document.querySelector(`[aria-label="${label}"]`);
  const box = canvas.getBoundingClientRect();
  const middle = [box.left + box.width / 2, box.top + box.height / 2];
  const reach = Math.min(box.width, box.height) * 0.4;
  const send = (type, x, y) => canvas.dispatchEvent(new PointerEvent(type, {
    pointerId: 7, pointerType: "mouse", isPrimary: true, bubbles: true, cancelable: true,
    button: type === "pointermove" ? -1 : 0, buttons: 1, clientX: x, clientY: y }));
  let points = 0, stopped = false;
  const frames = [];
  const look = (at) => { frames.push(at); if (!stopped) requestAnimationFrame(look); };
  send("pointerdown", ...middle);
  requestAnimationFrame(look);
  const start = performance.now();
  await new Promise((done) => {
    const timer = setInterval(() => {
      const passed = (performance.now() - start) / 1000;
      if (passed > seconds) { clearInterval(timer); done(); return; }
      const radius = reach * Math.abs(Math.sin(passed * 1.7));
      const angle = passed * 5;
      const [x, y] = [radius * Math.cos(angle), radius * Math.sin(angle)];
      send("pointermove", middle[0] + x, middle[1] + y);
      points++;
    }, 4);
  });
  stopped = true;
  send("pointerup", ...middle);
  return [points, frames.slice(1).map((at, index) => at - frames[index])];
}"""


def read_cpu(trace: bytes) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Milliseconds of processor time of each animation frame's callbacks, from Chromium's trace.

    Of a machine with other work this is what the page itself cost.
    """
    events = json.loads(trace)["traceEvents"]
    spent = [event.get("tdur", 0) for event in events if event["name"] == "FireAnimationFrame"]
    return np.array(spent or [np.nan]) / 1000


def measure(browser: Browser, page: Page, name: str) -> None:
    """Paint, and print the frames of it."""
    page.evaluate("performance.clearMeasures()")
    browser.start_tracing(page=page, categories=["devtools.timeline"])
    points, gaps = page.evaluate(WAVE, [CANVAS, SECONDS])
    page.wait_for_timeout(200)
    cpu = read_cpu(browser.stop_tracing())
    work = np.array(page.evaluate(READ))
    late = int((np.array(gaps) > LATE).sum())
    print(
        f"{name:24} {len(work):4} frames of {points} points: median {np.median(work):.2f} ms,"
        f" 95th {np.percentile(work, 95):.2f} ms, worst {work.max():.2f} ms;"
        f" processor time 95th {np.percentile(cpu, 95):.2f} ms; late {late} of {len(gaps)}"
    )


def open_editor(page: Page, address: str) -> None:
    """Open the clip, and print how long that takes from a page that is there."""
    page.goto(address)
    page.wait_for_selector("nav")
    settings = json.dumps(json.dumps(SETTINGS))
    page.evaluate(
        f"localStorage['frisket-measure'] = '1'; localStorage['frisket-editor'] = {settings}"
    )
    page.reload()
    page.wait_for_selector("nav")
    start = time.monotonic()
    page.evaluate("location.hash = '#/mask'")
    page.wait_for_selector("[data-opened=large]")
    print(
        f"opened {SIDE} x {SIDE} in {time.monotonic() - start:.2f} s (picture seen, mask painted)"
    )


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
            measure(browser, page, "whole picture in sight")
            page.keyboard.press("Control+0")
            page.wait_for_timeout(500)
            measure(browser, page, "at 100 %")
        finally:
            browser.close()
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
