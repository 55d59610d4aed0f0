"""What the browser tests wait for."""

from __future__ import annotations

import json

from playwright.sync_api import Page, TimeoutError


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def wait_for_text(page: Page, selector: str, text: str, seconds: float = 120) -> None:
    """Until the element is there and its text holds `text`."""
    condition = f"document.querySelector({json.dumps(selector)})?.innerText.includes({json.dumps(text)})"
    try:
        page.wait_for_function(condition, timeout=1000 * seconds)
    except TimeoutError:
        raise AssertionError(
            f"{text!r} did not come within {seconds:.0f} s; the page says: {page.inner_text('body')}"
        ) from None
