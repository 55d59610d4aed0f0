"""The live figure on runs that are nothing but their files: many steps, two browsers, pinned reviews, a phone; and the
form beside it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page

from qlora_demo.core.records import Finished
from qlora_demo.jobs.store import EventWriter, Job
from tests.browser.waiting import Open, open_tab, open_train, wait_for_text
from tests.drawn_runs import DIP_LOSS, HOSTILE, SPIKE_LOSS, TEXTS, make_run, one_step, put_state, story
from tests.serving import App

pytestmark = pytest.mark.browser
GRAPH = "document.querySelector('#train-figure .js-plotly-plot')"
LAST = f"{GRAPH}?.data?.[0]?.x.at(-1)"


def open_run(page: Page, job: Job) -> None:
    """The Train tab, with this run in the figure."""
    open_train(page)
    page.locator("#train-run input").click()
    page.get_by_role("option", name=job.id).click()


def test_five_thousand_steps_come_down_sampled_with_their_extremes(own_app: App, open_page: Open) -> None:
    job = make_run(own_app.home, "done", story(5000, 5000, 40, TEXTS), 5000, 5000)
    page = open_page(own_app.url)
    sizes: list[int] = []
    page.on("response", lambda answer: sizes.append(len(answer.body())) if "component_server" in answer.url else None)
    open_tab(page, "Train")
    page.wait_for_function(f"{LAST} === 5000")
    drawn = page.evaluate(f"{GRAPH}.data[0].y")
    assert len(drawn) < 2000 and max(drawn) == SPIKE_LOSS and min(drawn) == DIP_LOSS
    assert sizes and max(sizes) < 50_000
    wait_for_text(page, "#train-pinned-figure", HOSTILE)
    assert page.evaluate("window.hacked") is None
    assert page.inner_text("#train-pinned-figure").count(" stars at step 0") == len(TEXTS)
    wait_for_text(page, ".live-reading", "Better than word counts")
    page.get_by_label("Loss on a log scale").check()
    page.wait_for_function(f"{GRAPH}.layout.yaxis.type === 'log'")
    assert job.state().state == "done"


def test_a_second_browser_is_in_step_with_the_first_and_a_zoom_stays(own_app: App, open_page: Open) -> None:
    job = make_run(own_app.home, "running", story(40, 100, 4), 40, 100)
    pages = [open_page(own_app.url), open_page(own_app.url, 390, 844, "dark")]
    for page in pages:
        open_tab(page, "Train")
        page.wait_for_function(f"{LAST} === 40")
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]  # type: ignore[index]
    pages[0].evaluate(f"Plotly.relayout({GRAPH}, {{'xaxis.range': [0, 12]}})")
    writer = EventWriter(job.folder)
    for step in range(41, 61):
        writer.write(one_step(step, 100, random.Random(step)))
    for page in pages:
        page.wait_for_function(f"{LAST} === 60")
    assert pages[0].evaluate(f"{GRAPH}.data[0].y") == pages[1].evaluate(f"{GRAPH}.data[0].y")
    assert pages[0].evaluate(f"{GRAPH}.layout.xaxis.range") == [0, 12]
    writer.write(Finished("done", None, None))
    put_state(job, "done", 100, 100)
    for page in pages:
        page.wait_for_function("document.querySelector('#train-status').innerText === 'done'")
        page.wait_for_function("document.title.includes('done')")


def test_a_run_whose_folder_goes_is_said_to_be_gone(own_app: App, open_page: Open) -> None:
    job = make_run(own_app.home, "running", story(20, 100, 4), 20, 100)
    page = open_page(own_app.url)
    open_run(page, job)
    page.wait_for_function(f"{LAST} === 20")
    shutil.rmtree(job.folder)
    wait_for_text(page, "#train-status", "gone", seconds=10)
    wait_for_text(page, ".live-phase", f"There is no run '{job.id}'")
    page.reload()
    open_tab(page, "Train")
    page.wait_for_selector("#train-figure .js-plotly-plot")
    assert page.inner_text("#train-status") != "gone"
    page.locator("#train-run input").click()
    assert page.get_by_role("option", name=job.id).count() == 0


def test_what_is_typed_survives_a_reload(own_app: App, open_page: Open) -> None:
    page = open_page(own_app.url)
    open_tab(page, "Train")
    wait_for_text(page, "#train-reason", "there is no GPU")
    page.wait_for_function("window.qloraForm")
    page.locator("#train-rank input").fill("7")
    page.locator("#train-pinned textarea").fill("one of mine\nanother")
    page.keyboard.press("Tab")
    page.wait_for_function("localStorage.getItem('qlora-demo-form')?.includes('another')")
    page.reload()
    open_tab(page, "Train")
    page.wait_for_function("document.querySelector('#train-rank input')?.value === '7'")
    assert page.locator("#train-pinned textarea").input_value() == "one of mine\nanother"
    wait_for_text(page, "#train-reason", "as you left them in this browser")
    page.locator("#train-rank input").fill("0")
    page.click("#train-start")
    page.wait_for_selector("#train-rank .field-problem")
    assert page.inner_text("#train-rank .field-problem") == page.inner_text("#train-problems li")


@pytest.mark.slow
def test_the_button_that_starts_what_fits(own_app: App, open_page: Open, tmp_path: Path) -> None:
    job = make_run(own_app.home, "running", story(3, 10, 1), 3, 10)
    suggestion = {"batch_size": 8, "accumulation": 4}
    EventWriter(job.folder).write(Finished("failed", "Memory ran out: too much.", None, suggestion))
    put_state(job, "failed", 3, 10)
    page = open_page(own_app.url)
    open_run(page, job)
    page.wait_for_selector("#train-apply")
    assert page.inner_text("#train-apply") == "Start with batch size 8 with accumulation 4"
    page.click("#train-apply")
    page.wait_for_function("['starting', 'running'].includes(document.querySelector('#train-status').innerText)")
    page.wait_for_function("document.querySelector('#train-batch-size input').value === '8'")
    page.click("#train-stop")
    page.wait_for_function("document.querySelector('#train-status').innerText === 'stopped'", timeout=120_000)
