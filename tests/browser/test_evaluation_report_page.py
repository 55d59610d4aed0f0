"""Where a run errs, in a browser: the matrix, the reviews of its cells, the worst mistakes, the curve; and calibrated
answers.

A page of its own with the two components, on one finished run that is written here: no training, no model but the
shipped one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from qlora_demo.core.run_report import RunReport
from qlora_demo.engine.classify import calibration
from qlora_demo.engine.classify import metrics as evaluation
from qlora_demo.engine.data import dataset
from qlora_demo.jobs.state import write_state
from qlora_demo.jobs.store import Job, Store
from qlora_demo.services.app import Services
from qlora_demo.ui.classify.classify_tab import ClassifyTab
from qlora_demo.ui.server.theme import HERE as STYLES
from qlora_demo.ui.train.evaluation_report import evaluation_report
from qlora_demo.ui.train.run_views import view_report
from tests.serving import ROOT

pytestmark = pytest.mark.browser
SHIPPED = ROOT / "assets" / "adapter"
NASTY = [
    '<script>document.title = "taken"</script><img src=x onerror="document.title = \'taken\'">',
    "**bold** [a link](javascript:alert(1)) \u202egnp.exe\u202c `code`",
    "\u202bשלום עולם, זה לא טוב\u202c",
    "long " * 3000,
]


def write_run(store: Store, name: str, calibrated: bool = True) -> Job:
    """A finished run as training writes it: the sample's reviews, logits of a network that is mostly right and too sure
    of it."""
    sample, drawing = dataset.load("sample"), np.random.default_rng(3)
    job = store.create("train", {"model": "sample", "data": "sample"}, name=name)
    looked: dict[str, tuple[dataset.Reviews, Any]] = {}

    def metrics(labels: Any, logits: Any) -> dict[str, Any]:
        return evaluation.compute_metrics(labels, logits, sample.labels, True).to_dict()

    for split in ("validation", "test"):
        texts, labels = list(sample.splits[split].texts), np.asarray(sample.splits[split].labels)
        logits = drawing.normal(0, 2.4, (len(labels), 5)) - 2.2 * np.abs(np.arange(5) - labels[:, None])
        for i, text in enumerate(NASTY):  # one star, called five, the surest of all
            row = int(np.flatnonzero(labels == 0)[i])
            texts[row], logits[row] = text, [0, 0, 0, 0, 12 - i]
        looked[split] = (dataset.Reviews(texts, labels.tolist()), logits)
    report = json.loads((SHIPPED / "report.json").read_text())
    shutil.copytree(SHIPPED, job.folder / "adapter")
    if calibrated:
        (validation, fitted), (test, judged) = looked["validation"], looked["test"]
        report["final"] = {split: metrics(reviews.labels, logits) for split, (reviews, logits) in looked.items()}
        guessing = drawing.normal(0, 0.1, judged.shape)
        words = metrics(test.labels, judged + guessing)
        report["base"] = metrics(test.labels, guessing)
        majority = metrics(test.labels, np.zeros(judged.shape))
        report["baselines"] = {"majority": majority, "tfidf-logistic-regression": words}
        report["calibration"] = calibration.calibrate(validation.labels, fitted, test.labels, judged).to_dict()
        evaluation.write_answers(job.folder / "answers.jsonl", looked)
    else:
        report.pop("calibration", None)
        for old in report["final"].values():
            old.update(intervals={}, calibration={})
    for folder in (job.folder, job.folder / "adapter"):
        (folder / "report.json").write_text(json.dumps(report))
    write_state(job.folder, replace(job.state(), state="done"))
    return job


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Job]:
    """One that tells everything, and one whose report is as old as the shipped adapter's."""
    store = Store(tmp_path_factory.mktemp("runs"))
    return write_run(store, "new"), write_run(store, "old", calibrated=False)


@pytest.fixture(scope="module")
def url(runs: tuple[Job, Job]) -> Iterator[str]:
    services = Services(Store(runs[0].folder.parent))
    with gr.Blocks(analytics_enabled=False) as page:
        run = gr.Textbox(label="Run")
        report = gr.HTML(elem_id="train-report")
        shown = evaluation_report(services)
        ClassifyTab(services, page, gr.BrowserState({}))

        def show(name: str) -> list[str]:
            return [name, view_report(services.train.job(name).report(RunReport)) if name else ""]

        run.submit(show, run, [shown, report])
    looks = {"css": (STYLES / "style.css").read_text(), "theme": gr.themes.Base(font=("system-ui", "sans-serif"))}
    quiet = {"ssr_mode": False, "quiet": True, "enable_monitoring": False}
    page.launch(server_name="127.0.0.1", prevent_thread_lock=True, **quiet, **looks)
    yield str(page.local_url)
    page.close()


@pytest.fixture(scope="module")
def page(browser: Browser, url: str) -> Iterator[Page]:
    """One page for all tests: opening it is what takes time. A fault in its scripts fails the last of them."""
    faults: list[str] = []
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(url)
    page.wait_for_selector("#train-judgement .judged", state="attached")
    yield page
    context.close()
    assert faults == []


@pytest.fixture
def new(page: Page, runs: tuple[Job, Job]) -> Iterator[Job]:
    """The run that tells everything, freshly shown."""
    choose(page, runs[0].id)
    page.wait_for_selector("#train-mistakes li:nth-child(10)")
    yield runs[0]
    choose(page, "")
    page.wait_for_selector("#train-confusion", state="hidden")


def choose(page: Page, run: str) -> None:
    box = page.get_by_label("Run", exact=True)
    box.fill(run)
    box.press("Enter")


def cell(page: Page, label: str, guess: str) -> Any:
    return page.get_by_role("button", name=f"Actual {label}, predicted {guess}: ")


def test_a_click_on_a_cell_lists_its_reviews(page: Page, new: Job) -> None:
    confusion = json.loads((new.folder / "report.json").read_text())["final"]["test"]["confusion"]
    counts = [str(count) for row in confusion for count in row]
    assert page.locator("#train-confusion button").all_inner_texts() == counts
    right = confusion[1][1]
    assert right > 20, "this is to be more than two pages"
    chosen = cell(page, "2 stars", "2 stars")
    assert chosen.get_attribute("aria-label") == f"Actual 2 stars, predicted 2 stars: {right} of 80 reviews"
    chosen.click()
    page.wait_for_selector("#train-cell li:nth-child(10)")
    page.get_by_role("button", name=f"Show more ({right - 10} left)").click()
    page.wait_for_selector("#train-cell li:nth-child(20)")
    assert chosen.get_attribute("aria-pressed") == "true"
    sure = page.eval_on_selector_all(
        "#train-cell .judged-facts", "found => found.map((one) => +/(\\d+) %/.exec(one.innerText)[1])"
    )
    assert sure == sorted(sure, reverse=True) and len(sure) == 20


def test_reviews_are_text_and_nothing_else(page: Page, new: Job) -> None:
    worst = page.locator("#train-mistakes .judged-text")
    assert worst.nth(0).text_content() == NASTY[0] and worst.nth(1).text_content() == NASTY[1]
    assert worst.nth(2).text_content() == NASTY[2]
    assert (worst.nth(3).text_content() or "").endswith("long…") and len(worst.nth(3).text_content() or "") == 1000
    cell(page, "1 star", "5 stars").click()
    page.wait_for_selector("#train-cell li")
    assert page.locator("#train-cell .judged-text").first.text_content() == NASTY[0]
    assert page.title() != "taken"
    assert page.locator("#train-judgement script, #train-judgement img, #train-judgement a").count() == 0
    assert worst.nth(2).evaluate("one => getComputedStyle(one).direction") == "rtl"


def test_other_reviews_and_other_runs(page: Page, new: Job, runs: tuple[Job, Job]) -> None:
    judged, older = (json.loads((job.folder / "report.json").read_text())["final"] for job in runs)
    page.get_by_label("Evaluated on").select_option("validation")
    page.wait_for_function(
        f"document.querySelector('#train-confusion button').innerText === '{judged['validation']['confusion'][0][0]}'"
    )
    assert "When its confidence is about" in page.inner_text("#train-reliability")
    assert page.locator("#train-reliability circle").count() > 10
    # An older run: its matrix is there, its reviews and its curve are not.
    choose(page, runs[1].id)
    page.wait_for_function("document.querySelector('#train-mistakes').innerText.includes('kept no reviews')")
    assert page.inner_text("#train-confusion button >> nth=0") == str(older["test"]["confusion"][0][0])
    assert page.locator("#train-confusion button:disabled").count() == 25
    assert page.inner_text("#train-reliability") == ""


def test_it_fits_a_phone(page: Page, new: Job) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for part in ("#train-report .scroll", "#train-confusion .scroll"):
        assert page.eval_on_selector(part, "one => one.scrollWidth - one.clientWidth") <= 0, (
            f"{part} has to be scrolled sideways"
        )


def test_calibrated_answers(page: Page, runs: tuple[Job, Job]) -> None:
    page.locator("#classify-review textarea").fill("Great sound, but the battery barely lasts an afternoon.")
    page.wait_for_function("document.querySelector('#classify-certainty').innerText.includes('nswer')")
    probabilities = "#classify-probabilities"
    changed = f"before => document.querySelector('{probabilities}').innerText !== before"
    of_the_shipped = page.inner_text(probabilities)
    use(page, runs[0])
    box = page.get_by_label("Calibrated probabilities")
    box.wait_for()
    page.wait_for_function(changed, arg=of_the_shipped)
    before = page.inner_text(probabilities)
    box.check()
    page.wait_for_function(changed, arg=before)
    box.uncheck()
    page.wait_for_function(changed.replace("!==", "==="), arg=before)
    # A run that fitted no temperature offers none.
    use(page, runs[1])
    box.wait_for(state="hidden")


def use(page: Page, job: Job) -> None:
    box = page.locator("#classify-adapter input")
    box.fill(job.id)
    box.press("Enter")
