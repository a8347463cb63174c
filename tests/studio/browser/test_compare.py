"""Runs compared and pictures generated, in a real browser, ending in files the commands read."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from tests.studio.pocket_runs import make_runs

from frisket.grid import LatentGrid
from frisket.runs.methods.regional import lay_mask

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "work"
    make_runs(root)
    return root


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    """Two runs that are finished, measured together."""
    root = tmp_path / "work"
    shutil.copytree(base, root, ignore=shutil.ignore_patterns("cache"))
    report = root / "runs" / "mask" / "evaluation" / "report.json"
    report.write_text(report.read_text().replace(str(base), str(root)))
    return root


def open_page(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()


def test_two_runs_are_compared(page: Page, folder: Path) -> None:
    open_page(page, "Compare")
    for name in ("runs/mask", "runs/plain"):
        page.get_by_role("checkbox", name=name).check()
    verdict = page.get_by_test_id("verdict")
    report = json.loads((folder / "runs" / "mask" / "evaluation" / "report.json").read_text())
    expect(verdict).to_have_text(report["comparison"]["sentence"])
    mean = report["runs"][0]["metrics"]["gain/inside"]["mean"]
    row = page.get_by_role("row", name="learnt inside")
    expect(row).to_contain_text(f"{round(mean * 100)} %")

    page.get_by_role("tab", name="Settings and masks").click()
    expect(page.get_by_role("row", name="optimizer.lr")).to_contain_text("0.005")
    expect(
        page.get_by_role("row", name="mask no mask with mask")
        .or_(page.get_by_role("row", name="mask with mask no mask"))
        .first
    ).to_be_visible()

    page.get_by_role("tab", name="Samples").click()
    page.get_by_label("Pictures").select_option("Previews of training")
    step = page.get_by_role("slider", name="Step")
    expect(step).to_have_attribute("aria-valuetext", "step 4")
    step.press("Home")
    expect(step).to_have_attribute("aria-valuetext", "step 2")
    page.get_by_role("button", name="Compare").first.click()
    slider = page.get_by_role("slider", name="at the left")
    handle = slider.bounding_box()
    assert handle is not None
    page.mouse.move(handle["x"] + 12, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(handle["x"] + 92, handle["y"] + 40, steps=4)
    page.mouse.up()
    moved = int(slider.get_attribute("aria-valuenow") or 0)
    assert moved > 55
    slider.press("ArrowLeft")
    assert int(slider.get_attribute("aria-valuenow") or 0) == moved - 2
    page.keyboard.press("d")
    expect(page.get_by_role("radio", name="Difference")).to_be_checked()
    page.keyboard.press("Escape")
    assert page.url.count("%2C") == 1  # the choice is in the address
    page.reload()
    listed = page.get_by_role("complementary", name="Runs")
    expect(listed.get_by_role("checkbox", checked=True)).to_have_count(2)


def test_two_loras_are_painted_left_and_right_and_sampled(page: Page, folder: Path) -> None:
    open_page(page, "Generate")
    page.get_by_label("Prompts, one a line").fill("sks on a wall")
    page.get_by_label("Seeds", exact=True).fill("3")
    for label, value in (("Width", "32"), ("Height", "32"), ("Steps", "1")):
        page.get_by_label(label, exact=True).fill(value)
    for name in ("runs/mask", "runs/plain"):
        page.get_by_role("button", name="Add a LoRA").click()
        page.get_by_role("dialog").get_by_role("button", name=f"{name} ").first.click()
    page.get_by_role("button", name="Paint where they act").click()
    canvas = page.get_by_test_id("painter")
    box = canvas.bounding_box()
    assert box is not None

    def paint(number: int, share: float) -> None:
        page.keyboard.press(str(number))
        x = box["x"] + box["width"] * share
        page.mouse.move(x, box["y"] - 20 + 21)
        page.mouse.down()
        page.mouse.move(x, box["y"] + box["height"] - 1, steps=6)
        page.mouse.up()

    page.get_by_label("Brush, as a number").fill("8")
    page.get_by_label("Brush, as a number").press("Tab")
    page.get_by_role("button", name="Brush", exact=True).focus()
    paint(1, 0.25)
    paint(2, 0.75)
    paint(2, 0.5)
    page.keyboard.press("Control+z")  # the last stroke alone
    page.get_by_role("button", name="Keep the painting").click()
    expect(page.get_by_text("% of the picture")).to_have_count(2)
    page.get_by_label("Compare with the base, same seeds").check()
    command = page.get_by_label("The command that is run")
    expect(command).to_contain_text("--lora-mask=")
    masks = sorted((folder / ".frisket-studio" / "lora-masks").glob("*-[12].png"))
    planes = [lay_mask(path, [(1, 32, 32)], LatentGrid(4, 8))[1, 4, 4][0, 0, 0] for path in masks]
    left, right = planes
    assert left[:, 0].sum() > 0
    assert left[:, 2:].sum() == 0
    assert right[:, :2].sum() == 0
    assert right[:, 3].sum() > 0

    page.get_by_role("button", name="Generate", exact=True).click()
    card = page.get_by_role("article", name="Pictures 001")
    again = card.get_by_role("button", name="Again with this seed")
    expect(again).to_have_count(2, timeout=120_000)
    expect(card.get_by_role("status")).to_have_count(0, timeout=60_000)  # the job has ended
    record = json.loads((folder / "generated" / "001" / "generate.json").read_text())
    assert [lora["mask"] for lora in record["lora"]] == [str(path) for path in masks]
    assert {picture["seed"] for picture in record["pictures"]} == {3}
    for picture in record["pictures"]:
        with Image.open(folder / "generated" / "001" / picture["file"]) as image:
            assert image.size == (32, 32)
    card.get_by_role("button", name="Compare").first.click()
    expect(page.get_by_role("slider", name="at the left")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_label("Seeds", exact=True).fill("99")
    again.first.click()
    expect(page.get_by_label("Seeds", exact=True)).to_have_value("3")
