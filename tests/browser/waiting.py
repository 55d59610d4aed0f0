"""What the browser tests do and wait for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from playwright.sync_api import Page, TimeoutError

Open = Callable[..., Page]  # a page by its address, and the browser's width, height and scheme (light or dark)


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


def fill(page: Page, field: str, value: str | int) -> None:
    """Types into a field by its elem_id, and leaves it."""
    page.locator(f"#{field} input[type=number], #{field} input, #{field} textarea").first.fill(str(value))
    page.keyboard.press("Tab")


def enter(page: Page, field: str, value: str) -> None:
    """The same where the Enter key sends it."""
    page.locator(f"#{field} input").fill(value)
    page.keyboard.press("Enter")


def choose(page: Page, field: str, option: str | re.Pattern[str]) -> None:
    """An option of a list that opens by a click; exactly this one, or the one that matches."""
    page.locator(f"#{field} input").click()
    page.get_by_role("option", name=option, exact=isinstance(option, str)).click()


def wait_for_state(page: Page, *wanted: str, seconds: float = 240) -> str:
    """Until the run on the Train tab is in one of these states."""
    condition = f"{json.dumps(wanted)}.includes(document.querySelector('#train-status').innerText)"
    page.wait_for_function(condition, timeout=1000 * seconds)
    return page.inner_text("#train-status")


def open_train(page: Page) -> None:
    open_tab(page, "Train")
    page.wait_for_selector("#train-figure .js-plotly-plot")


def check_layout(page: Page, within: str = "body") -> None:
    """Nothing sticks out to the right, and all that can be used has a name."""
    width = page.viewport_size["width"]  # type: ignore[index]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wider = (
        f"[...document.querySelectorAll('{within} *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
    )
    assert page.evaluate(f"{wider}.map(e => e.outerHTML.slice(0, 90))") == []
    named = "e.labels?.length || e.ariaLabel || e.innerText.trim() || e.getAttribute('aria-labelledby') || e.title"
    used = f"[...document.querySelectorAll('{within} :is(input, textarea, button)')]"
    unnamed = f"{used}.filter(e => e.offsetParent && !({named})).map(e => e.outerHTML.slice(0, 120))"
    assert page.evaluate(unnamed) == []
