"""Chromium, and pages of the app in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

expect.set_options(timeout=60_000)  # a machine may be three times as slow as another
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.skip("there is no chromium; apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page; a fault in its scripts or a request to anywhere else fails the test."""
    faults: list[str] = []
    aborted: set[str] = set()
    contexts = []

    def open_it(url: str, width: int = 1280, height: int = 800, scheme: str = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        # A script that is not there has an answer of 400 or more; one that a closing page still loads has none.
        page.on(
            "pageerror",
            lambda error: None if "Failed to load script" in str(error) else faults.append(f"script: {error}"),
        )
        page.on(
            "requestfailed",
            lambda request: aborted.add(request.url) if "ERR_ABORTED" in (request.failure or "") else None,
        )
        page.on("request", lambda request: None if _is_ours(request.url) else faults.append(f"request: {request.url}"))
        page.on(
            "response", lambda answer: faults.append(f"{answer.status}: {answer.url}") if answer.status >= 400 else None
        )
        page.goto(url)
        page.wait_for_selector("#memory-measure")
        return page

    yield open_it
    for context in contexts:
        context.close()
    # A page that is left while it loads a script says that it could not.
    assert [fault for fault in faults if not fault.endswith(tuple(aborted))] == []


def _is_ours(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))
