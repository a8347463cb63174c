"""The built page as it goes into the wheel: small, whole, and of nothing from elsewhere."""

import gzip
import re

from frisket.studio.app import STATIC

WHEEL = 1_000_000  # bytes the page may add to it
SCRIPTS = 400_000  # bytes of JavaScript as a wheel or a server holds it: deflated


def test_the_page_is_there_and_small() -> None:
    files = [path for path in STATIC.rglob("*") if path.is_file()]
    packed = {path: len(gzip.compress(path.read_bytes())) for path in files}
    assert (STATIC / "index.html") in packed
    assert sum(packed.values()) < WHEEL
    assert sum(size for path, size in packed.items() if path.suffix == ".js") < SCRIPTS


def test_the_page_names_only_files_that_are_there_and_runs_no_inline_script() -> None:
    index = (STATIC / "index.html").read_text(encoding="utf-8")
    names = re.findall(r'(?:src|href)="([^"]+)"', index)
    assert len(names) >= 3
    for name in names:
        assert (STATIC / name.lstrip("/")).is_file(), name
    assert not re.search(r"<script(?![^>]*\bsrc=)", index)
    assert not re.search(r"\son\w+=", index)


def test_styles_fetch_nothing_from_elsewhere() -> None:
    for path in STATIC.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", path.read_text(encoding="utf-8")), path
