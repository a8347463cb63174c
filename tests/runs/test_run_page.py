"""The page of a run, as a browser that keeps it open sees it."""

import json
from pathlib import Path

import pytest

from frisket.runs.run_page import RunPage


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def page(tmp_path: Path, now: list[float]) -> RunPage:
    return RunPage(tmp_path, 100, [("clips", "3 & more")], clock=lambda: now[0])


def text_of(page: RunPage) -> str:
    return (page.folder / "index.html").read_text(encoding="utf-8")


def test_it_says_how_far_it_is_and_asks_for_itself_until_the_end(
    page: RunPage, now: list[float]
) -> None:
    for step in range(1, 41):
        page.step(step, {"loss": 1.0, "inside": 1 / step, "outside": 0.5})
        now[0] += 1
    text = text_of(page)
    assert "step 31 of 100" in text  # written every ten seconds
    assert "69 s left" in text
    assert 'http-equiv="refresh"' in text
    assert text.count("<polyline") == 2
    assert "3 &amp; more" in text
    page.write(done=True)
    assert "Finished: step 40" in text_of(page)
    assert "refresh" not in text_of(page)


def test_previews_are_shown_as_they_come_newest_first(page: RunPage) -> None:
    for step in (10, 20):
        path = page.folder / "previews" / f"step-{step:06d}.png"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        page.preview(path)
    text = text_of(page)
    assert text.index("previews/step-000020.png") < text.index("previews/step-000010.png")


def test_a_run_that_is_gone_on_with_keeps_its_curve(page: RunPage) -> None:
    lines = [{"step": n, "seconds": n, "inside": 1.0, "outside": None} for n in range(1, 31)]
    metrics = page.folder / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page.recall(metrics, 20)
    assert [step for step, _ in page.history] == list(range(1, 21))
    page.step(21, {"inside": 1.0})
    assert "step 21 of 100" in text_of(page)


def test_what_cannot_be_written_ends_nothing(
    page: RunPage, caplog: pytest.LogCaptureFixture
) -> None:
    page.folder = page.folder / "gone"
    page.folder.touch()  # a file: no page can be in it
    page.write()
    page.write()
    assert caplog.text.count("could not be written") == 1
