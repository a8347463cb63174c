"""The frame around every page."""

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_pages_are_reached_by_the_bar_and_by_address(page: Page) -> None:
    for name, address in [("Masks", "#/masks"), ("Train", "#/train"), ("Data", "#/data")]:
        page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
        assert page.url.endswith(address)
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keys").is_visible()


def test_colours_are_chosen_and_kept(page: Page) -> None:
    page.get_by_role("button", name="Colours: system").click()
    page.get_by_role("button", name="Colours: dark").click()
    page.reload()
    page.get_by_role("button", name="Colours: light").wait_for()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
