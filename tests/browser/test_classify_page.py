"""Below the typed review: why, teaching, corrections, precisions, the dial; and that an older answer never comes
last."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest
from playwright.sync_api import Page

from tests.browser.waiting import Open, choose, fill, open_tab, wait_for_text
from tests.serving import App

pytestmark = pytest.mark.browser
STARS = "parseFloat(document.querySelector('#classify-stars').innerText)"
SHARES = "before => document.querySelector('#classify-probabilities').innerText {} before"
HOSTILE = "<script>window.hacked = true</script> **awful** $x^2$ \u202ethgir <b>broke</b> 🙂"


def type_review(page: Page, text: str) -> None:
    open_tab(page, "Classify")
    page.locator("#classify-review textarea").fill(text)
    page.wait_for_function(r"/^\d\.\d$/.test(document.querySelector('#classify-stars').innerText.trim())")


def test_why_is_shown_on_the_text_as_typed_and_versions_are_kept(app: App, open_page: Open) -> None:
    page = open_page(app.url, 390, 844, "dark")
    type_review(page, f"Great sound but the battery barely lasts. {HOSTILE}")
    page.click("#classify-why")
    page.wait_for_selector(".word-text")
    assert page.inner_text(".word-text") == f"Great sound but the battery barely lasts. {HOSTILE}"
    assert page.locator(".word-for, .word-against").count() > 5
    wait_for_text(page, ".word-test", "Without the top")
    assert page.locator(".word-versions").count() == 0
    type_review(page, "Great sound and the battery easily lasts.")
    page.click("#classify-why")
    page.wait_for_selector(".word-versions ins")
    assert page.locator(".word-versions li").count() == 2
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_correction_is_kept_and_the_dial_and_the_precision_move_the_stars(app: App, open_page: Open) -> None:
    page = open_page(app.url)
    type_review(page, "Oh wonderful, another charger that works for exactly one week.")
    as_trained = page.inner_text("#classify-probabilities")
    for scale, comparison in (("0", "!=="), ("1", "===")):
        fill(page, "classify-scale", scale)
        page.wait_for_function(SHARES.format(comparison), arg=as_trained)
    choose(page, "classify-precision", "FP32")
    page.wait_for_function(SHARES.format("!=="), arg=as_trained)
    open_tab(page, "Teach or correct it")
    page.click("#classify-keep")
    wait_for_text(page, "body", "No label is chosen")
    page.locator("#classify-right").get_by_label("1 star", exact=True).check()
    page.click("#classify-keep")
    wait_for_text(page, "#classify-lesson", "Kept; this machine has")
    address = page.get_attribute("#classify-lesson a", "href") or ""
    with urllib.request.urlopen(app.url + address, timeout=30) as answer:
        kept = json.loads(answer.read())
    assert kept["label"] == "1 star" and kept["text"].startswith("Oh wonderful")


@pytest.mark.slow
def test_a_lesson_is_learnt_and_the_base_is_checked(app: App, open_page: Open) -> None:
    page = open_page(app.url)
    type_review(page, "Oh wonderful, another charger that works for exactly one week.")
    before = page.evaluate(STARS)
    open_tab(page, "Precision and base")
    page.click("#classify-check")
    wait_for_text(page, "#classify-checked", "it is the base")
    choose(page, "classify-precision", "FP32")
    page.click("#classify-compare")
    wait_for_text(page, "#classify-comparison", "the same label", seconds=200)
    same = re.search(r"([\d.]+) % the same label on 400", page.inner_text("#classify-comparison"))
    assert same and 80 < float(same[1]) <= 100
    choose(page, "classify-precision", "as trained")  # at which alone a taught copy exists
    open_tab(page, "Teach or correct it")
    page.locator("#classify-right").get_by_label("1 star", exact=True).check()
    page.click("#classify-teach")
    page.wait_for_selector("#classify-lesson table", timeout=300_000)
    assert "Accuracy on 100 held-out reviews" in page.inner_text("#classify-lesson")
    page.wait_for_function(f"{STARS} < {before} - 0.3")
    assert page.input_value("#classify-adapter input").startswith("Taught: 1 star")


def test_the_newest_text_wins(app: App, open_page: Open) -> None:
    page = open_page(app.url)
    open_tab(page, "Classify")
    review = page.locator("#classify-review textarea")
    review.press_sequentially("Terrible, broke at once, a waste of money. ", delay=5)
    review.fill("I love it, it is perfect in every way.")
    page.wait_for_function(f"{STARS} > 4.3")
    page.wait_for_timeout(1500)
    assert page.evaluate(STARS) > 4.3
