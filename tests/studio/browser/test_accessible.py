"""Every page, dark and light, on a desk and on a tablet: axe finds nothing serious."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[3] / "web" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = ("data", "masks", "train", "runs", "generate")
VIEWS = (("dark", 1280, 800), ("light", 1280, 800), ("dark", 1024, 768))


def find_serious(page: Page) -> list[str]:
    """What axe calls serious or critical, each with the first element that shows it."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    result: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {each['help']}: {each['nodes'][0]['html'][:200]}"
        for each in result["violations"]
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(page: Page, name: str) -> None:
    if not AXE.is_file():
        pytest.fail(f"{AXE} is missing: run make studio first")
    faults = []
    for scheme, width, height in VIEWS:
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": height})
        page.goto(page.url.partition("#")[0] + f"#/{name}")
        page.locator("main > *").first.wait_for()
        page.wait_for_timeout(500)  # what is read from the server is shown
        faults += [f"{scheme} {width}: {fault}" for fault in find_serious(page)]
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, f"{name} at {width} px is {overflow} px too wide"
    assert not faults, "\n".join(faults)
