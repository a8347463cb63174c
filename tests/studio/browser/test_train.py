"""A run set up, started, watched, stopped and gone on with; and a spike led back to its clip."""

import json
import random
import re
import tomllib
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from frisket.config.load import load

pytestmark = pytest.mark.browser

SLOW = 240_000  # ms: a run on a machine that does other things too


@pytest.fixture
def folder(folder: Path) -> Path:
    """The example photos with one configuration, of a model that no test has."""
    text = (folder / "pocket.toml").read_text()
    (folder / "wan.toml").unlink()
    text = text.replace('family = "pocket"', 'family = "wan"\nvariant = "2.1-t2v-1.3b"')
    text = text.replace("../../runs/photos-pocket", "runs/first").replace("every = 50", "every = 4")
    (folder / "pocket.toml").write_text(text)
    return folder


def open_page(page: Page, address: str) -> None:
    page.goto(page.url.partition("#")[0] + address)


def test_from_a_preset_to_a_trained_model(page: Page, folder: Path) -> None:
    config = folder / "pocket.toml"
    open_page(page, "#/train")
    # The model, by its preset: only what differs is changed.
    page.get_by_role("button", name="Model and card").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Family").select_option("pocket", timeout=SLOW)
    expect(dialog.get_by_text("model.variant")).to_be_visible(timeout=SLOW)
    dialog.get_by_role("button", name="Use it").click()
    expect(page.get_by_role("status").filter(has_text="not saved")).to_be_visible()
    # A number in the form, a slip in the text, and its fix.
    page.get_by_role("textbox", name="run.steps").fill("14")
    page.get_by_role("slider", name="Weight of hair", exact=True).press("Home")
    page.get_by_role("tab", name="Text").click()
    area = page.get_by_role("textbox", name="pocket.toml as text")
    expect(area).to_have_value(re.compile("steps = 14"))
    # Both edits, before all of the text is replaced by what is read of it here.
    expect(area).to_have_value(re.compile(r"hair\s*=\s*0(\.0+)?\s*[\n,}#]"))
    area.fill(area.input_value().replace("warmup = 10", "warmpu = 4"))
    problem = page.get_by_role("list", name="What is wrong").get_by_role("listitem")
    expect(problem).to_contain_text("unknown key `warmpu` in [optimizer]")
    expect(page.get_by_role("button", name="Save and train")).to_be_disabled()
    problem.get_by_role("button", name="use warmup").click()
    expect(problem).to_have_count(0)
    # What it changes, and the file that the command reads.
    page.get_by_role("tab", name="Changes").click()
    expect(page.get_by_role("row", name="run.steps 100 14")).to_be_visible()
    page.keyboard.press("Control+s")
    expect(page.get_by_role("status").filter(has_text="saved")).to_have_text("saved")
    written = load(config)
    assert (written.model.family, written.run.steps, written.optimizer.warmup) == ("pocket", 14, 4)
    assert written.region_weights["hair"] == 0
    assert "change these freely" in config.read_text()  # its comments stay
    expect(page.get_by_text("Nothing stands in its way.")).to_be_visible(timeout=SLOW)
    expect(page.get_by_text("of 16.0 GiB")).to_be_visible(timeout=SLOW)
    # Train, and see the loss of each region as it comes.
    page.get_by_role("button", name="Train", exact=True).click()
    chart = page.get_by_role("img", name="Error: inside")
    expect(chart).to_be_visible(timeout=SLOW)
    expect(chart).to_have_attribute("aria-label", re.compile("outside .* face .* body"))
    page.get_by_role("button", name="Stop and save").click()
    expect(page.locator(".state.stopped")).to_be_visible(timeout=SLOW)
    page.reload()
    expect(page.locator(".state.stopped")).to_be_visible(timeout=SLOW)
    steps = read_steps(folder)
    assert 0 < len(steps) < 14
    # Go on from there to the end.
    page.get_by_role("tab", name="Set up").click()
    words = f"goes on from step {steps[-1]} of 14"
    expect(page.get_by_text(words)).to_be_visible(timeout=SLOW)  # once the process has ended
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".state.finished")).to_be_visible(timeout=SLOW)
    expect(page.get_by_role("img", name="Preview of step 12")).to_be_visible(timeout=SLOW)
    assert (folder / "runs/first/lora.safetensors").is_file()
    assert read_steps(folder) == list(range(1, 15))
    trained = tomllib.loads((folder / "runs/first/trained.toml").read_text())
    assert trained["run"]["steps"] == 14


def read_steps(folder: Path) -> list[int]:
    text = (folder / "runs/first/metrics.jsonl").read_text()
    return [json.loads(line)["step"] for line in text.splitlines()]


def write_run(folder: Path) -> None:
    """A run of 120 steps, in which one clip of one step is far harder than usual."""
    run = folder / "runs" / "spiky"
    run.mkdir(parents=True)
    clips = sorted((folder / "clips").glob("*.jpg"))
    entries = [
        {"name": path.stem, "clip": str(path), "latents": "", "texts": [], "coverage": "x"}
        for path in clips
    ]
    (run / "clips.json").write_text(json.dumps({"clips": entries}))
    (run / "trained.toml").write_text("[run]\nsteps = 120\n")
    generator = random.Random(2)
    with (run / "metrics.jsonl").open("w") as file:
        for step in range(1, 121):
            t = generator.random()
            error = (0.2 + t) * generator.uniform(0.9, 1.1) * (9 if step == 77 else 1)
            clip = {"name": clips[step % 2].stem, "t": t, "error": error, "item": step % 2}
            line = {"step": step, "seconds": step, "loss": error, "inside": error, "clips": [clip]}
            file.write(json.dumps(line) + "\n")


def test_a_spike_leads_to_the_clip_that_made_it(page: Page, folder: Path) -> None:
    write_run(folder)
    open_page(page, "#/train/watch")
    spike = page.get_by_role("button", name="step 77")
    expect(spike).to_be_visible(timeout=60_000)
    spike.click()
    clip = sorted(path.stem for path in (folder / "clips").glob("*.jpg"))[1]
    expect(page.get_by_role("heading", name=clip)).to_be_visible()
    expect(page.get_by_text("times the usual").first).to_be_visible()
    expect(page.get_by_role("img", name=f"The clip {clip}")).to_be_visible()
    page.get_by_label("Over").select_option("minutes")
    page.get_by_role("checkbox", name="Logarithmic").check()
    expect(page.get_by_role("img", name="Error: inside")).to_be_visible()
    page.get_by_role("button", name="Open in editor").click()
    page.wait_for_url("**/#/mask/*")


def test_two_pages_on_one_configuration(page: Page, folder: Path) -> None:
    open_page(page, "#/train/text")
    area = page.get_by_role("textbox", name="pocket.toml as text")
    area.fill(area.input_value() + "# mine\n")
    config = folder / "pocket.toml"
    config.write_text(config.read_text() + "# theirs\n")
    page.get_by_role("button", name="Save", exact=True).click()
    dialog = page.get_by_role("dialog", name="pocket.toml was changed by something else")
    expect(dialog).to_contain_text("# theirs")
    expect(dialog).to_contain_text("# mine")
    assert "# mine" not in config.read_text()
    dialog.get_by_role("button", name="Take the file's").click()
    expect(area).to_have_value(re.compile("# theirs\n$"))
    # A draft outlives the page.
    area.fill(area.input_value() + "# draft\n")
    page.reload()
    expect(area).to_have_value(re.compile("# draft\n$"))
    assert "# draft" not in config.read_text()
