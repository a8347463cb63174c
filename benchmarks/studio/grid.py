"""The studio's grid of thousands of clips: time to the first screen, memory while scrolling.

    python benchmarks/studio/grid.py 5000 10000

Draws that many small pictures with masks and captions, starts `frisket studio` on them with an
empty cache, and opens the page in Chromium. Prints for each count: milliseconds until the first
screen shows its pictures (from navigation), the server's resident memory and the page's heap before
and after the whole grid was scrolled through once, and how long measuring all clips took.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from playwright.sync_api import CDPSession, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--js-flags=--expose-gc")
CONFIG = """[model]
family = "pocket"
[[data]]
clips = "clips"
masks = { source = "folder", path = "masks", legend = { face = 1, hair = 2 } }
[regions]
face = 1.0
hair = 0.5
"""
# Every picture in view is decoded, and there are as many as fit.
READY = """() => {
  const pictures = [...document.querySelectorAll(".tile img:not(.overlay)")].filter((img) => {
    const box = img.getBoundingClientRect();
    return box.top < innerHeight && box.bottom > 0;
  });
  return pictures.length > 8 && pictures.every((img) => img.complete && img.naturalWidth > 0);
}"""


def draw_set(folder: Path, count: int) -> None:
    """`count` pictures of 96 x 96 with a label map and a caption each."""
    (folder / "clips").mkdir(parents=True)
    (folder / "masks").mkdir()
    (folder / "frisket.toml").write_text(CONFIG)
    random = np.random.default_rng(0)
    ids = np.zeros((96, 96), np.uint8)
    ids[20:60, 30:70], ids[60:90, 20:80] = 1, 2
    mask = Image.fromarray(ids)
    mask.putpalette([0, 0, 0, 230, 159, 0, 86, 180, 233])
    for number in range(count):
        colours = random.integers(0, 255, (6, 6, 3), np.uint8)
        picture = Image.fromarray(colours).resize((96, 96), Image.Resampling.BICUBIC)
        picture.save(folder / "clips" / f"{number:05d}.jpg", quality=85)
        (folder / "clips" / f"{number:05d}.txt").write_text(f"sks, clip {number}, colours")
        mask.save(folder / "masks" / f"{number:05d}.png")


def serve(folder: Path) -> tuple["subprocess.Popen[str]", str]:
    command = [sys.executable, "-m", "frisket.cli", "studio", str(folder), "--port", "0"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder.parent / "cache")}
    process = subprocess.Popen(
        [*command, "--no-browser"], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Open "):
            return process, line.removeprefix("Open ").strip()
    raise RuntimeError("the studio did not start")


def measure_heap(page: Page, session: CDPSession) -> float:
    page.evaluate("() => globalThis.gc?.()")
    values = session.send("Performance.getMetrics")["metrics"]
    return next(v["value"] for v in values if v["name"] == "JSHeapUsedSize") / 1e6


def scroll_through(page: Page) -> float:
    """Scroll the whole grid a screen at a time; gives the longest frame in milliseconds."""
    return page.evaluate(
        """async () => {
          const grid = document.querySelector(".grid");
          let longest = 0, last = performance.now();
          const frame = () => new Promise((done) => requestAnimationFrame(done));
          while (grid.scrollTop + grid.clientHeight < grid.scrollHeight - 1) {
            grid.scrollTop += 120;
            await frame();
            const now = performance.now();
            longest = Math.max(longest, now - last);
            last = now;
          }
          return longest;
        }"""
    )


def measure(count: int) -> None:
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary) / "work"
        draw_set(folder, count)
        began = time.perf_counter()
        process, address = serve(folder)
        started = time.perf_counter() - began
        try:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable")
            begin = time.perf_counter()
            page.goto(address)
            page.wait_for_function(READY, polling=20)
            first = time.perf_counter() - begin
            server = psutil.Process(process.pid)
            before = server.memory_info().rss / 1e6, measure_heap(page, session)
            page.wait_for_function(
                "() => !document.querySelector('.measuring')", polling=200, timeout=600_000
            )
            measured = time.perf_counter() - begin
            middle = server.memory_info().rss / 1e6, measure_heap(page, session)
            longest = scroll_through(page)
            page.wait_for_timeout(1000)
            after = server.memory_info().rss / 1e6, measure_heap(page, session)
            tiles = page.locator(".tile").count()
            begin = time.perf_counter()
            page.reload()
            page.wait_for_function(READY, polling=20)
            again = time.perf_counter() - begin
            print(
                f"{count} clips: server up in {started:.2f} s, first screen {first * 1000:.0f} ms"
                f" (again {again * 1000:.0f} ms), all measured after {measured:.1f} s;"
                f" server {before[0]:.0f} MB, measured {middle[0]:.0f} MB, scrolled"
                f" {after[0]:.0f} MB; page heap {before[1]:.1f}, {middle[1]:.1f},"
                f" {after[1]:.1f} MB; {tiles} tiles drawn; longest frame {longest:.0f} ms"
            )
            browser.close()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)


if __name__ == "__main__":
    for argument in sys.argv[1:] or ("5000", "10000"):
        measure(int(argument))
