"""A real server and a real browser: Debian's Chromium, driven by Playwright."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

PHOTOS = Path(__file__).parents[3] / "examples" / "photos"
CHROMIUM = "/usr/bin/chromium"
PICTURES = Path(__file__).parents[3] / "docs" / "images" / "studio"
expect.set_options(timeout=30_000)  # CI may be three times slower than a desk
ARGUMENTS = (
    "--no-sandbox",  # CI is root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
)


@dataclass
class Served:
    """A running `frisket studio`."""

    folder: Path
    address: str
    process: "subprocess.Popen[str]"

    def stop(self, number: int = signal.SIGINT) -> None:
        self.process.send_signal(number)
        self.process.wait(timeout=20)
        if self.process.stdout is not None:
            self.process.stdout.close()


def serve(folder: Path, *options: str) -> Served:
    """Start a studio on a folder, and read the address that it prints."""
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(folder.parent / "cache"),
        "XDG_STATE_HOME": str(folder.parent / "state"),
    }
    command = [sys.executable, "-m", "frisket.cli", "studio", str(folder), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--no-browser", *options], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Open "):
            return Served(folder, line.removeprefix("Open ").strip(), process)
    raise RuntimeError(f"no address was printed; exit code {process.wait()}")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.fail(f"browser tests need {CHROMIUM}: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the studio opens: a copy of the example photos; a test may fill it otherwise."""
    root = tmp_path / "work"
    shutil.copytree(PHOTOS, root)
    return root


@pytest.fixture
def studio(folder: Path) -> Iterator[Served]:
    served = serve(folder)
    yield served
    if served.process.poll() is None:
        served.stop()


@pytest.fixture
def page(chromium: Browser, studio: Served) -> Iterator[Page]:
    """The opened page at 1280x800; what its console calls an error fails the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(30_000)
    opened = context.new_page()
    faults: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # A refused request is logged by the browser too; tests of refusals look at the page.
        if message.type == "error" and "status of 4" not in message.text:
            faults.append(message.text)

    opened.on("console", note)
    opened.on("pageerror", lambda error: faults.append(error.stack or str(error)))
    opened.goto(studio.address)
    opened.wait_for_selector("nav")
    yield opened
    if os.environ.get("FRISKET_FAILED"):  # a look at where a test stopped
        opened.screenshot(path=os.environ["FRISKET_FAILED"])
    context.close()
    assert not faults, faults


@pytest.fixture
def take_picture(page: Page, tmp_path: Path) -> Callable[[str], None]:
    """Takes the pictures of docs/studio.md; `make pictures` keeps them."""
    kept = os.environ.get("FRISKET_PICTURES") == "1"

    def take(name: str) -> None:
        place = PICTURES if kept else tmp_path
        place.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=place / f"{name}.png", animations="disabled")

    return take
