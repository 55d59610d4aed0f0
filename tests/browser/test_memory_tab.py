"""The Memory tab beyond the bars: a step that follows the sliders and is measured, the map, hardware, calculators, the
search.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page

from qlora_demo.core.format import size
from tests.browser.waiting import wait_for_text
from tests.serving import ROOT, App

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("app")]


def by_command(*arguments: str) -> Any:
    command = [sys.executable, "-m", "qlora_demo", "memory", "sample", "--predict", "--json", *arguments]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout)


def activations(step: dict[str, Any]) -> str:
    return f"+ {size(step['predicted']['activations_bytes'] + step['predicted']['logits_bytes'])}"


def test_a_step_follows_the_sliders_and_is_measured(app: App, open_page: Callable[..., Page]) -> None:
    page = open_page(app.url)
    wait_for_text(page, "#memory-step", activations(by_command("--batch-size", "32")["step"]))
    assert "the measurement says how much" in page.inner_text("#memory-step")
    for field, value in (("batch-size", 8), ("length", 32)):
        page.locator(f"#memory-{field} input[type=number]").fill(str(value))
        page.keyboard.press("Tab")
    wait_for_text(page, "#memory-step", activations(by_command("--batch-size", "8", "--length", "32")["step"]))
    page.get_by_label("Gradient checkpointing").check()
    wait_for_text(page, "#memory-step", "recomputed layer by layer")
    page.click("#memory-measure")
    wait_for_text(page, "#memory-step", "Measured in a fresh process")
    assert "recomputed layer by layer" in page.inner_text("#memory-step"), (
        "the step that was asked for is the one measured"
    )
    page.get_by_role("button", name="What the process took").click()
    wait_for_text(page, "#memory-process", "Loading in NF4 took")


def test_where_the_bytes_are_and_what_fits(app: App, open_page: Callable[..., Page]) -> None:
    page = open_page(app.url)
    wait_for_text(page, "#memory-figure", "NF4")
    page.get_by_role("button", name="Where the bytes are").click()
    wait_for_text(page, "#memory-sums", "Embeddings")
    page.wait_for_selector("#memory-map .treemaplayer .slice")
    page.get_by_role("button", name="What public calculators say").click()
    wait_for_text(page, "#memory-calculators", "accelerate estimate-memory")
    page.get_by_role("button", name="On which GPU or Space it fits").click()
    page.click("#memory-where")
    wait_for_text(page, "#memory-hardware", "T4 small")
    assert "batch" in page.inner_text("#memory-hardware")
    page.get_by_role("button", name="Architecture before and after").click()
    wait_for_text(page, "#memory-architecture", "15 of 15")
    page.locator("#memory-find textarea, #memory-find input").press_sequentially("attention linear4bit")
    wait_for_text(page, "#memory-architecture", "4 of 15")
    assert page.locator("#memory-architecture tbody tr:visible").count() == 4
