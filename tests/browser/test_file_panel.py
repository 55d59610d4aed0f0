"""A file in the browser: its columns, the table as typed, downloads, a reload in the middle, stop, a phone, the
dark."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.waiting import Open, choose, open_tab, wait_for_text
from tests.messy_file import write_messy
from tests.reviews import first_reviews
from tests.serving import App

pytestmark = pytest.mark.browser


def send(page: Page, path: Path) -> None:
    open_tab(page, "Classify")
    open_tab(page, "A file of reviews")
    page.set_input_files("#classify-file input[type=file]", path)
    wait_for_text(page, "#classify-file-found", "its first rows")


def start(page: Page) -> None:
    page.locator("#classify-file-start:not([disabled])").click()


def test_a_messy_file_is_shown_as_typed_and_downloaded(app: App, open_page: Open, tmp_path: Path) -> None:
    page = open_page(app.url)
    send(page, write_messy(tmp_path / "my <b>reviews.csv"))
    found = page.inner_text("#classify-file-found")
    # Gradio and we leave no markup in a name.
    assert "columns separated by semicolons" in found and "my breviews.csv" in found
    chosen = {"text": "Review", "title": "none", "label": "stars"}  # the last: a known name, and the wrong one
    assert {field: page.input_value(f"#classify-file-{field} input") for field in chosen} == chosen
    choose(page, "classify-file-label", "rating")
    wait_for_text(page, "#classify-file-found", "label")
    start(page)
    wait_for_text(page, "#classify-file-status", "58 of 60 rows classified")
    assert page.locator("#classify-file-rows tbody tr").count() == 20
    assert page.locator("#classify-file-rows .file-bar i").count() == 100
    summary = page.inner_text("#classify-file-summary")
    assert "Rows by label" in summary and "1 row left out, because of fewer cells than the 5 columns" in summary
    assert "Judged on 53 rows by the column 'rating'" in page.inner_text("#classify-file-judged")
    page.fill("#classify-file-words textarea, #classify-file-words input", "='OWNED'")
    page.keyboard.press("Enter")
    hostile = "document.title='owned'</script> Great **sound**, $\\frac{1}{2}$ the price &amp; it works."
    wait_for_text(page, "#classify-file-rows", hostile)
    assert page.locator("#classify-file-rows tbody tr").count() == 1 and page.title() != "owned"
    texts = {}
    for kind in ("CSV", "JSON Lines", "Parquet"):
        with page.expect_download() as download:
            page.get_by_role("link", name=kind, exact=True).click()
        assert re.fullmatch(r"my breviews-classified\.(csv|jsonl|parquet)", download.value.suggested_filename)
        texts[kind] = Path(download.value.path()).read_bytes()
    rows = list(csv.DictReader(texts["CSV"].decode("utf-8-sig").splitlines(keepends=True), delimiter=";"))
    assert len(rows) == len(texts["JSON Lines"].splitlines()) == 60 and texts["Parquet"].startswith(b"PAR1")
    assert rows[53]["Review"].startswith("'=HYPERLINK")
    assert json.loads(texts["JSON Lines"].splitlines()[53])["Review"].startswith("=HYPERLINK")
    assert str(app.home) not in page.content() and "/tmp/" not in page.inner_text("body")


def test_a_reload_finds_it_again_and_stop_keeps_what_is_done(app: App, open_page: Open, tmp_path: Path) -> None:
    texts = [row["text"] for row in first_reviews(500)]
    path = tmp_path / "long.jsonl"
    rows = [{"text": f"{i}: {text} {texts[i % 97]}"} for i, text in enumerate(texts * 4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = open_page(app.url)
    send(page, path)
    start(page)
    wait_for_text(page, "#classify-file-rows", "0: ", 90)
    page.reload()
    open_tab(page, "Classify")
    open_tab(page, "A file of reviews")
    wait_for_text(page, "#classify-file-status", "left", 30)
    wait_for_text(page, "#classify-file-rows", "0: ")
    page.locator("#classify-file-stop:not([disabled])").click()
    wait_for_text(page, "#classify-file-status", "Stopped on request: the first", 60)
    kept = int(re.findall(r"the first ([\d,]+) rows", page.inner_text("#classify-file-status"))[0].replace(",", ""))
    assert 0 < kept < 10_000
    with page.expect_download() as download:
        page.get_by_role("link", name="JSON Lines").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert [json.loads(line)["text"].partition(":")[0] for line in lines] == [str(i) for i in range(kept)]
    page.click("#classify-file-onward")
    wait_for_text(page, "#classify-file-rows", "20: ")


def test_a_bad_file_is_one_sentence(app: App, open_page: Open, tmp_path: Path) -> None:
    page = open_page(app.url)
    open_tab(page, "Classify")
    open_tab(page, "A file of reviews")
    path = tmp_path / "picture.csv"
    path.write_bytes(b"\x89PNG\r\n" + bytes(range(256)))
    page.set_input_files("#classify-file input[type=file]", path)
    wait_for_text(page, "#classify-file-found", "picture.csv")
    assert page.locator("#classify-file-found [role=alert] li").count() == 1
    assert page.locator("#classify-file-start[disabled]").count() == 1


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_on_a_phone_and_in_the_dark(app: App, open_page: Open, width: int, scheme: str) -> None:
    """The result of the tests before is there for whoever opens the page at home."""
    page = open_page(app.url, width, 844, scheme)
    open_tab(page, "Classify")
    open_tab(page, "A file of reviews")
    wait_for_text(page, "#classify-file-status", "rows classified")
    wait_for_text(page, "#classify-file-rows", "Review")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = page.evaluate("""() => { const row = document.querySelector('#classify-file-rows td.file-text');
        return [getComputedStyle(row).color, getComputedStyle(document.body).backgroundColor]; }""")
    light = [sum(map(float, re.findall(r"[\d.]+", colour)[:3])) for colour in (ink, paper)]
    assert (light[0] > light[1] + 300) == (scheme == "dark") and abs(light[0] - light[1]) > 300


def test_a_file_and_its_results_are_deleted(app: App, open_page: Open, tmp_path: Path) -> None:
    page = open_page(app.url)
    path = tmp_path / "private.jsonl"
    path.write_text(json.dumps({"text": "It works."}) + "\n")
    send(page, path)
    start(page)
    wait_for_text(page, "#classify-file-status", "1 of 1 rows classified", 180)
    before = set(app.home.iterdir())
    page.click("#classify-file-delete")
    wait_for_text(page, "#classify-file-doomed", "Delete private.jsonl as uploaded, and its results")
    page.click("#classify-file-keep")
    page.wait_for_selector("#classify-file-doomed", state="hidden")
    page.click("#classify-file-delete")
    page.click("#classify-file-really-delete")
    wait_for_text(page, "#classify-file-status", "private.jsonl and its results are deleted")
    assert len(before - set(app.home.iterdir())) == 1
    assert not list(app.home.glob(".cache/uploads/*/private.jsonl"))
    page.wait_for_selector("#classify-file-rows", state="hidden")
    for gone in (".file-link", "#classify-file-delete"):
        assert page.locator(gone).count() == 0
