"""The drawer of jobs: a mask job seen, stopped, run again, with the page reloaded in between."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from frisket.studio.jobs.job import Job, write_spec
from frisket.studio.jobs.processes import ProcessIdentity, is_alive
from frisket.studio.jobs.seal import read_key
from frisket.studio.jobs.spec import JobSpec

pytestmark = pytest.mark.browser
AXE = Path(__file__).parents[3] / "web" / "node_modules" / "axe-core" / "axe.min.js"
SHOTS = os.environ.get("STUDIO_SHOTS")  # a folder for pictures of the page


@pytest.fixture
def folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Sixty clips, and two jobs that wait for the server to start."""
    monkeypatch.setenv("XDG_STATE_HOME", str(folder.parent / "state"))
    with Image.open(folder / "clips" / "astronaut.jpg") as photo:
        photo.thumbnail((128, 128))
        for index in range(60):
            photo.save(folder / "clips" / f"ada-{index:02}.jpg")
    write_waiting(folder, 1, "Masks of 60 clips", ["masks", ".", "--workers", "1"])
    write_waiting(folder, 2, "Train <b>none</b>", ["train", "none.toml"])
    yield folder
    for note in folder.glob(".frisket-studio/jobs/*/process.json"):  # they outlive the server
        process = json.loads(note.read_text())
        if is_alive(ProcessIdentity(process["pid"], process["started"])):
            os.kill(process["pid"], signal.SIGKILL)


def write_waiting(folder: Path, number: int, title: str, argv: list[str]) -> None:
    name = f"20260101-00000{number}-aaaaaaaa"
    spec = JobSpec(argv[0], title, argv, device="cpu")
    job = Job(name, spec, folder / ".frisket-studio" / "jobs" / name, float(number))
    write_spec(job, folder, read_key())


def shoot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png")


def test_a_job_is_seen_stopped_and_run_again(page: Page, folder: Path) -> None:
    page.get_by_role("button", name="Jobs, 2 at work or waiting").click()
    drawer = page.get_by_role("complementary", name="Jobs")
    running = drawer.get_by_role("region", name="Running")
    card = running.get_by_role("article", name="Masks of 60 clips")
    expect(card.get_by_text(re.compile(r"masks: \d+ of 60"))).to_be_visible(timeout=60_000)
    expect(card.get_by_text("left")).to_be_visible(timeout=60_000)
    expect(drawer.get_by_role("region", name="Waiting")).to_contain_text("Train <b>none</b>")
    card.get_by_role("button", name="Details").click()
    expect(card.get_by_role("region", name="What it printed")).to_contain_text("code Apache-2.0")
    expect(card.get_by_text("frisket masks . --workers 1")).to_be_visible()
    page.evaluate(AXE.read_text(encoding="utf-8"))
    faults = page.evaluate("axe.run('aside', {resultTypes: ['violations']})")["violations"]
    assert [fault["help"] for fault in faults if fault["impact"] in ("serious", "critical")] == []
    shoot(page, "jobs-running")
    if SHOTS:
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 1024, "height": 768})
        shoot(page, "jobs-running-tablet-dark")
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 1280, "height": 800})

    page.reload()  # the server knows, the page only shows
    page.keyboard.press("j")
    drawer.get_by_role("button", name="Stop: Masks").click()
    ended = drawer.get_by_role("region", name="Ended")
    expect(ended).to_contain_text("the same command goes on with the others", timeout=60_000)
    made = sorted(path.stem for path in (folder / "masks").glob("*.png"))
    assert 2 < len(made) < 62  # the two photos had masks by hand
    expect(ended).to_contain_text("none.toml does not exist; `frisket init", timeout=60_000)
    shoot(page, "jobs-ended")

    ended.get_by_role("button", name="Run again: Masks").click()
    expect(card).to_be_visible()
    drawer.press("Escape")
    expect(drawer).to_be_hidden()
    page.keyboard.press("j")
    page.wait_for_timeout(1500)
    card.get_by_role("button", name="Stop: Masks").click()
    page.keyboard.press("j")
    toast = page.get_by_role("status").get_by_text("Masks of 60 clips: stopped")
    expect(toast).to_be_visible(timeout=60_000)
    page.reload()
    page.keyboard.press("j")
    expect(ended.get_by_role("article", name="Masks of 60 clips")).to_have_count(2)
    drawer.get_by_role("button", name="Clear ended").click()
    expect(drawer.get_by_text("No jobs")).to_be_visible()
    assert len(list((folder / ".frisket-studio" / "trash" / "jobs").iterdir())) == 3
    assert made <= sorted(path.stem for path in (folder / "masks").glob("*.png"))
