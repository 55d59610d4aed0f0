"""Two browsers on a public host: one starts a run, the other watches; limits are shown before they are met; data are
uploaded, never named by a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.waiting import Open, fill, open_tab, open_train, wait_for_state, wait_for_text
from tests.reviews import write_reviews
from tests.serving import App

pytestmark = pytest.mark.browser
PINNED = "Broke after two days, a waste of money."


def test_limits_are_shown_and_all_that_is_beyond_them_is_told(public_app: App, open_page: Open) -> None:
    page = open_page(public_app.url)
    open_train(page)
    for words in ("at most 600 steps", "2 runs at a time", "a copy of your own"):
        assert words in page.inner_text("#train-limits")
    fill(page, "train-rank", 128)
    fill(page, "train-max-steps", 100_000)
    page.click("#train-start")
    page.wait_for_selector("#train-problems li")
    assert page.locator("#train-problems li").all_inner_texts() == [
        "The number of steps is 100,000; on this public page it may be 600.",
        "The rank is 128; on this public page it may be 64.",
    ]
    open_tab(page, "Classify")
    page.get_by_role("tab", name="A file of reviews").click()
    assert "nobody else is shown its rows" in page.inner_text("#classify-file-limits")


def test_visitors_type_no_paths(public_app: App, tmp_path: Path, open_page: Open) -> None:
    page = open_page(public_app.url)
    open_tab(page, "Data")
    wait_for_text(page, "#data-summary", "3,997")
    page.locator("#data-source").get_by_text("File", exact=True).click()
    assert page.locator("#data-path").count() == 0
    page.click("#data-look")
    wait_for_text(page, "#data-status", "upload one")
    page.set_input_files("#data-file input[type=file]", write_reviews(tmp_path / "mine.jsonl", 12))
    wait_for_text(page, "#data-summary", "mine.jsonl")
    page.click("#data-train")
    wait_for_text(page, "#train-reason", "from the Data tab")
    assert page.input_value("#train-data input").startswith("upload:") and str(public_app.home) not in page.content()


@pytest.mark.slow
def test_one_starts_the_other_only_watches(public_app: App, open_page: Open) -> None:
    mine = open_page(public_app.url)
    open_train(mine)
    mine.get_by_text("All other settings").click()
    for field, value in {"max-steps": 600, "batch-size": 4, "rank": 2, "max-length": 16, "rows": 2400}.items():
        fill(mine, f"train-{field}", value)
    mine.click("#train-start")
    wait_for_state(mine, "running")
    wait_for_text(mine, "#train-pinned-figure", PINNED)

    theirs = open_page(public_app.url)
    open_train(theirs)
    wait_for_state(theirs, "running")
    theirs.wait_for_function(
        "document.querySelector('#train-figure .js-plotly-plot').data[0].x.length >= 2", timeout=120_000
    )
    assert not theirs.is_visible("#train-pinned-figure") and PINNED not in theirs.inner_text("#train-live")
    theirs.click("#train-stop")
    wait_for_text(theirs, "body", "only who started a run can stop")
    # The toast of this click goes.
    theirs.get_by_text("only who started a run can stop").first.wait_for(state="detached")

    mine.click("#train-stop")
    wait_for_state(mine, "stopped")
    wait_for_state(theirs, "stopped")
    # A reload forgets no key.
    mine.reload()
    open_train(mine)
    wait_for_text(mine, "#train-pinned-figure", PINNED)
    for page in (theirs, mine):
        page.get_by_role("button", name="Rename or delete this run").click()
        page.click("#train-delete")
        wait_for_text(page, "#train-doomed", "Delete")
        page.click("#train-really-delete")
        if page is theirs:
            wait_for_text(page, "body", "resume, rename or delete it")
            assert len(list(public_app.home.glob("2*"))) == 1
    mine.wait_for_selector("#train-doomed", state="hidden")
    assert not list(public_app.home.glob("2*"))
