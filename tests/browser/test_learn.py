"""The Learn tab as a learner uses it: sliders, layers, data types and shapes move the numbers; narrow and dark as
well."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page

from tests.browser.waiting import Open, check_layout, choose, fill, open_tab, wait_for_text
from tests.serving import App

pytestmark = pytest.mark.browser


def open_learn(page: Page) -> None:
    """The tab, with every figure there."""
    open_tab(page, "Learn")
    for name, text in {
        "microscope": "has the smallest error",
        "shapes": "Llama 3.1 70B",
        "optimizer": "AdamW state",
    }.items():
        wait_for_text(page, f"#learn-{name}", text)


def fact(page: Page, figure: str, name: str) -> str:
    """The number under a name."""
    row = page.locator(f"#{figure} .facts div").filter(has=page.locator("dt", has_text=re.compile(f"^{name}$")))
    return row.locator("dd").inner_text()


def test_lora_follows_the_sliders(app: App, open_page: Open) -> None:
    page = open_page(app.url)
    open_learn(page)
    wait_for_text(page, "#learn-lora", "1,000 times fewer")
    assert fact(page, "learn-lora", "W").startswith("100,000,000")
    assert fact(page, "learn-lora", "A and B").startswith("100,000\n")
    page.locator("#learn-rank input[type=range]").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    wait_for_text(page, "#learn-lora", "LoRA trains 160,000 numbers")
    for field, value in (("rows", 20), ("columns", 10), ("rank", 5)):
        fill(page, f"learn-{field}", value)
    wait_for_text(page, "#learn-lora", "LoRA trains 150 numbers instead of 200")
    fill(page, "learn-alpha", 40)
    wait_for_text(page, "#learn-lora", "+ 8 ·")


def test_the_microscope_looks_at_real_layers(app: App, open_page: Open) -> None:
    page = open_page(app.url)
    open_learn(page)
    wait_for_text(page, "#learn-microscope", "attention.self.query")
    assert "384 × 384" in page.inner_text("#learn-microscope")
    wait_for_text(page, "#learn-microscope", "On these weights NF4 has the smallest error")
    assert fact(page, "learn-microscope", "Bits per weight").startswith("4.5\n")
    before = fact(page, "learn-microscope", "Mean absolute error")
    choose(page, "learn-layer", "5.intermediate.dense")
    wait_for_text(page, "#learn-microscope", "1,536 × 384")
    assert fact(page, "learn-microscope", "Mean absolute error") != before
    page.get_by_label("Double quantization").check()
    wait_for_text(page, "#learn-microscope", "4.127")
    page.locator("#learn-kind").get_by_text("FP4").click()
    wait_for_text(page, "#learn-microscope", "levels of FP4")
    choose(page, "learn-block-size", "256")
    wait_for_text(page, "#learn-microscope", "in blocks of 256")
    page.get_by_label("Normal, one outlier").check()
    wait_for_text(page, "#learn-microscope", "(weights 768 to 1,023)")


def test_shapes_constants_and_optimizers(app: App, open_page: Open) -> None:
    page = open_page(app.url)
    open_learn(page)
    wait_for_text(page, "#learn-shapes", "The whole model shrinks by a factor of 2.03")
    page.locator("#learn-shape").get_by_text("Llama 3.1 70B").click()
    wait_for_text(page, "#learn-shapes", "The whole model shrinks by a factor of 3.72")
    assert page.inner_text("#learn-shapes tr.changed td >> nth=0") == "Llama 3.1 70B"
    assert "0.37 GB" in page.inner_text("#learn-constants")
    page.locator("#learn-constants-block-size").get_by_text("32", exact=True).click()
    wait_for_text(page, "#learn-constants", "1 bits per weight become 0.254")
    wait_for_text(page, "#learn-optimizer", "665,477 trained parameters")
    page.locator("#learn-trained").get_by_text("All weights of Qwen3 8B").click()
    wait_for_text(page, "#learn-optimizer", "Paging can move all of it")


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), pytest.param(1280, "light", marks=pytest.mark.slow)])
def test_nothing_overflows(app: App, open_page: Open, width: int, scheme: str) -> None:
    page = open_page(app.url, width, 844, scheme)
    open_learn(page)
    check_layout(page, ".learn-section")
    tables = "[...document.querySelectorAll('.learn-section .scroll')]"
    assert page.evaluate(f"{tables}.filter(e => e.scrollWidth > e.clientWidth).length") == 0, "a table is cut off"
    # What is drawn says in words what it shows.
    drawings = page.locator(".learn-section svg[role=img]")
    assert drawings.count() == 5
    assert all(drawings.nth(place).get_attribute("aria-label") for place in range(5))
