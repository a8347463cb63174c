"""The report is one whole page that names its numbers, and a JSON that reads back."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from frisket.evaluation.page import (
    Claim,
    Column,
    Figure,
    PageSection,
    PageTable,
    ReportPage,
    Row,
    data_uri,
    write_report,
)

PICTURE = np.arange(32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)


def table() -> PageTable:
    return PageTable(
        "numbers",
        [
            Column("leak", "How much came along.", "low", ".1%"),
            Column("found", "How often it was there.", "high", ".0%"),
            Column("seconds", "Time.", "", ".0f"),
        ],
        [
            Row("no mask", {"leak": [0.8, 0.7], "found": [0.0, 0.0], "seconds": [60.0]}),
            Row("mask", {"leak": [0.03, 0.02], "found": [0.0, 0.0], "seconds": [61.0]}),
            Row("all", {"leak": [0.0251, 0.0249], "found": [0.9, 1.0]}),
        ],
    )


def report(**changes: object) -> ReportPage:
    whole = {
        "title": "Did the <mask> work?",
        "verdict": "Yes & no.",
        "sections": [
            PageSection("pictures", "some words", [Figure("clips", PICTURE, "all of them")]),
            PageSection("table", tables=[table()]),
        ],
        "claims": [Claim("It leaks less.", "81 % to 2 %", True), Claim("More.", "0 %", False)],
        "footer": {"torch": "2.13"},
        "data": {"variants": {"mask": {"leak": [0.03]}}, "name": "ü"},
    }
    return ReportPage(**(whole | changes))


def page_of(path: Path, **changes: object) -> str:
    write_report(path, report(**changes))
    return path.read_text(encoding="utf-8")


def test_the_page_is_self_contained_and_escaped(tmp_path: Path) -> None:
    page = page_of(tmp_path / "report.html")
    assert "http" not in page
    assert page.count("<script") == 1  # ours, that enlarges pictures
    assert "Did the &lt;mask&gt; work?" in page
    assert "Yes &amp; no." in page
    assert page.count("data:image/png;base64,") == 1
    assert page.index("pictures</h2>") < page.index("table</h2>")
    assert not list(tmp_path.glob(".*"))


def test_small_pictures_are_enlarged_with_hard_pixels(tmp_path: Path) -> None:
    page = page_of(tmp_path / "report.html")
    assert 'width="192" height="192" style="image-rendering: pixelated;"' in page
    big = [PageSection("p", figures=[Figure("f", np.zeros((200, 400, 3), np.uint8))])]
    assert 'width="400" height="200" style=""' in page_of(tmp_path / "big.html", sections=big)


def test_every_mean_and_seed_is_shown_and_the_best_is_marked(tmp_path: Path) -> None:
    page = page_of(tmp_path / "report.html")
    assert "80.0% · 70.0%" in page
    best = re.findall(r'<td class="best"[^>]*>(\S+?)<', page)
    # 2.50 % and 2.50 % read the same, so both are marked; columns without an aim have no best.
    assert best == ["2.5%", "2.5%", "95%"]
    assert "not measured" in page
    assert "How much came along." in page
    assert "lower is better" in page


def test_a_column_of_equals_has_no_best(tmp_path: Path) -> None:
    rows = [Row(name, {"leak": [0.5]}) for name in "ab"]
    same = [PageSection("t", tables=[PageTable("t", [Column("leak", better="low")], rows)])]
    assert 'class="best"' not in page_of(tmp_path / "r.html", sections=same)


def test_claims_say_whether_they_were_shown(tmp_path: Path) -> None:
    page = page_of(tmp_path / "report.html")
    assert re.search(r'class="tag met">shown</span>\s*<span>It leaks less.', page)
    assert re.search(r'class="tag missed">not shown</span>\s*<span>More.', page)


def test_json_lies_beside_and_reads_back(tmp_path: Path) -> None:
    page_of(tmp_path / "run" / "report.html")
    data = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert data == {"variants": {"mask": {"leak": [0.03]}}, "name": "ü"}


def test_nan_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"report\.json: .*leave the number out"):
        page_of(tmp_path / "report.html", data={"leak": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_value_without_a_column_is_refused(tmp_path: Path) -> None:
    wrong = PageTable("t", [Column("leak")], [Row("a", {"leek": [1.0]})])
    with pytest.raises(ValueError, match=r"row 'a' has \['leek'\] but no column"):
        page_of(tmp_path / "report.html", sections=[PageSection("s", tables=[wrong])])
    assert not list(tmp_path.iterdir())


def test_pictures_are_checked() -> None:
    with pytest.raises(ValueError, match="uint8 H W 3, got float64"):
        data_uri(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="must be a PNG"):
        data_uri(b"GIF89a")
    assert data_uri(PICTURE).startswith("data:image/png;base64,iVBOR")
