"""The page as a newcomer uses it: measure, train and watch, reload in the middle, stop, classify."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.waiting import Open, choose, enter, fill, open_tab, open_train, wait_for_state, wait_for_text
from tests.reviews import first_reviews
from tests.serving import App, start_app, stop_app

pytestmark = pytest.mark.browser
POINTS = "(document.querySelector('#train-figure .js-plotly-plot')?.data?.[0]?.x.length ?? 0)"
NUMBER = re.compile(r"\d\.\d")


def choose_run(page: Page, name: str | re.Pattern[str]) -> None:
    """Another run into the figure, by what the list of runs says of it."""
    page.locator("#train-run input").click()
    page.get_by_role("option", name=name).click()


def stars(page: Page) -> float:
    """The expected stars, once there are any."""
    page.wait_for_function(r"/^\d\.\d$/.test(document.querySelector('#classify-stars').innerText.trim())")
    return float(page.inner_text("#classify-stars"))


def start_small_run(page: Page, reviews: Path, steps: int) -> None:
    """Settings of a run of seconds, and its start."""
    open_train(page)
    enter(page, "train-data", str(reviews))
    for field, value in (("max-steps", steps), ("batch-size", 8), ("rank", 4), ("max-length", 32)):
        fill(page, f"train-{field}", value)
    page.click("#train-start")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spreadsheet of a user's own: the first reviews of each star of the sample."""
    path = tmp_path_factory.mktemp("reviews") / "mine.csv"
    chosen = first_reviews(24)
    quoted = "\n".join(f'"{row["text"].replace(chr(34), chr(34) * 2)}",{row["label"] + 1}' for row in chosen)
    path.write_text("text,stars\n" + quoted + "\n")
    return path


def test_the_page_says_where_it_runs_and_what_fits(own_app: App, open_page: Open) -> None:
    page = open_page(own_app.url)
    wait_for_text(page, "#header-machine", "CPU")
    open_tab(page, "Train")
    wait_for_text(page, "#train-reason", "there is no GPU")
    assert page.locator("#train-preset input").input_value().startswith("Short")


def test_a_model_that_is_not_here_is_refused_in_one_sentence(own_app: App, open_page: Open) -> None:
    page = open_page(own_app.url)
    wait_for_text(page, "#memory-status", "Press “Measure memory”")  # the page has settled
    enter(page, "memory-model", "nobody/nothing-at-all")
    page.click("#memory-measure")
    page.wait_for_selector("#memory-status .problem")
    assert "nobody/nothing-at-all" in page.inner_text("#memory-status")


def test_wrong_settings_are_all_told_and_nothing_is_lost(own_app: App, open_page: Open) -> None:
    page = open_page(own_app.url)
    open_train(page)
    wait_for_text(page, "#train-reason", "there is no GPU")  # the form has heard what fits this machine
    fill(page, "train-rank", "0")
    fill(page, "train-learning-rate", "-0.5")
    page.click("#train-start")
    page.wait_for_selector("#train-problems li")
    assert page.locator("#train-problems li").all_inner_texts() == [
        "LoRA rank r is 0; give a number from 1 up to 256.",
        "Learning rate is -0.5; give a number more than 0 up to 0.1.",
    ]
    assert page.locator("#train-rank input").input_value() == "0"
    assert page.inner_text("#train-status") == "no run yet"


def test_train_watch_reload_and_classify_with_it(own_app: App, open_page: Open, reviews: Path) -> None:
    page = open_page(own_app.url)
    start_small_run(page, reviews, steps=30)
    wait_for_state(page, "running")
    page.wait_for_function(f"{POINTS} >= 2", timeout=120_000)
    # A zoom survives what comes next.
    page.evaluate("Plotly.relayout(document.querySelector('#train-figure .js-plotly-plot'), {'xaxis.range': [0, 12]})")
    seen = page.evaluate(POINTS)
    page.wait_for_function(f"{POINTS} > {seen}")
    assert page.evaluate("document.querySelector('#train-figure .js-plotly-plot').layout.xaxis.range") == [0, 12]
    page.reload()
    open_tab(page, "Train")
    page.wait_for_function(f"{POINTS} > {seen}")
    assert wait_for_state(page, "done", "failed") == "done", page.inner_text("#train-live")
    drawn = "document.querySelector('#train-figure .js-plotly-plot').data[0]"
    trace = page.evaluate(f"(({{x, y, name}}) => ({{x, y, name}}))({drawn})")
    # Each fifth step, and each checkpoint.
    assert trace["name"] == "train loss" and trace["x"] == [1, 5, 8, 10, 15, 16, 20, 24, 25, 30]
    assert all(0 < loss < 5 for loss in trace["y"])
    wait_for_text(page, "#train-report", "This run")
    assert "logits differ by at most" in page.inner_text("#train-report")
    assert page.inner_text("#train-pinned-figure").count(" stars at step 0") == 3
    confused = page.locator("#train-confusion button").filter(has_text=re.compile("[1-9]")).first
    confused.click()
    page.wait_for_selector("#train-cell li")
    assert page.locator("#train-cell li").count() == min(int(confused.inner_text()), 10)

    open_tab(page, "Classify")
    choose(page, "classify-adapter", re.compile("mine.csv"))
    page.locator("#classify-review textarea").fill("I love this product")
    assert 1 <= stars(page) <= 5


def test_another_app_on_the_same_home_shows_the_last_run(own_app: App, open_page: Open, tmp_path: Path) -> None:
    """The folders are the whole truth: what one app did, the next one finds."""
    other = start_app(own_app.home, tmp_path / "app.log", HF_ENDPOINT="http://127.0.0.1:9")
    try:
        page = open_page(other.url)
        open_tab(page, "Train")
        wait_for_state(page, "done", seconds=30)
        page.wait_for_function(f"{POINTS} == 10")
        wait_for_text(page, "#train-report", "This run")
    finally:
        stop_app(other)


@pytest.mark.slow
def test_a_queue_of_three_on_a_phone_and_a_stop_keeps_a_usable_adapter(
    own_app: App, open_page: Open, reviews: Path
) -> None:
    page = open_page(own_app.url, 390, 844, "dark")
    start_small_run(page, reviews, steps=2000)
    page.wait_for_function("!document.querySelector('#train-stop').disabled")
    wait_for_state(page, "running")
    first = json.loads((sorted(own_app.home.glob("2*"))[-1] / "state.json").read_text())
    page.wait_for_function(f"{POINTS} >= 2", timeout=120_000)
    waiting = []
    for place in ("next in queue", "number 2 in the queue"):
        page.click("#train-start")  # the device is busy
        wait_for_text(page, ".live-phase", place)
        assert page.inner_text("#train-status") == "queued"
        waiting.append(page.input_value("#train-run input"))
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # One's own is cancelled; the one before it keeps its place.
    page.click("#train-stop")
    wait_for_state(page, "stopped")
    choose_run(page, waiting[0])
    wait_for_text(page, ".live-phase", "next in queue")
    page.click("#train-stop")
    wait_for_state(page, "stopped")

    choose_run(page, re.compile("running"))
    wait_for_state(page, "running")
    page.click("#train-stop")
    wait_for_state(page, "stopped")
    states = {path.parent: json.loads(path.read_text()) for path in own_app.home.glob("2*/state.json")}
    stopped = [run / "adapter" for run, state in states.items() if state["pid"] == first["pid"]]
    assert len(stopped) == 1 and (stopped[0] / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_a_stopped_run_is_resumed(own_app: App, open_page: Open, reviews: Path) -> None:
    page = open_page(own_app.url)
    start_small_run(page, reviews, steps=30)  # to compare with
    assert wait_for_state(page, "done", "failed") == "done"
    start_small_run(page, reviews, steps=90)
    wait_for_state(page, "running")
    page.wait_for_function(f"{POINTS} >= 2", timeout=120_000)
    assert page.locator("#train-resume").count() == 0
    page.click("#train-stop")
    wait_for_state(page, "stopped")
    page.click("#train-resume")
    assert wait_for_state(page, "done", "failed") == "done"
    # One point a logged step, none twice, although the steps after the checkpoint were told twice.
    page.wait_for_function("document.querySelector('#train-figure .js-plotly-plot').data[0].x.at(-1) === 90")
    drawn = page.evaluate("document.querySelector('#train-figure .js-plotly-plot').data[0].x")
    assert drawn == sorted(set(drawn))
    page.wait_for_selector("#train-resume", state="detached")

    page.get_by_role("button", name="Compare runs").click()
    wait_for_text(page, "#train-compared", "differs in: Maximum steps 30")
    assert page.locator("#train-compared tbody").count() == page.locator("#train-compared circle").count() >= 2
    assert page.inner_text("#train-compared .changed th").endswith("the run shown")

    page.get_by_role("button", name="Rename or delete this run").click()
    page.locator("#train-name input, #train-name textarea").first.fill("the one to go")
    page.click("#train-rename")
    page.wait_for_function("document.querySelector('#train-run input').value.startsWith('the one to go')")
    page.click("#train-delete")
    wait_for_text(page, "#train-doomed", "Delete the one to go with its adapter")
    runs = len(list(own_app.home.glob("2*")))
    page.click("#train-really-delete")
    page.wait_for_function("!document.querySelector('#train-run input').value.startsWith('the one to go')")
    assert len(list(own_app.home.glob("2*"))) == runs - 1
    page.wait_for_function("!document.querySelector('#train-compared').innerText.includes('the one to go')")


def test_type_a_review(own_app: App, open_page: Open) -> None:
    page = open_page(own_app.url)
    open_tab(page, "Classify")
    review = page.locator("#classify-review textarea")
    review.press_sequentially("I love this product, it works perfectly and I would buy it again!", delay=30)
    page.wait_for_function("parseFloat(document.querySelector('#classify-stars').innerText) > 4")
    assert NUMBER.findall(page.inner_text("#classify-stars")) == [page.inner_text("#classify-stars").strip()]
    assert page.locator("#classify-probabilities .share").count() == 5
    review.fill("Terrible. Broke after two days, a complete waste of money.")
    page.wait_for_function("parseFloat(document.querySelector('#classify-stars').innerText) < 2")
    page.get_by_text("Great sound, but the battery").click()
    page.wait_for_function("document.querySelector('#classify-review textarea').value.startsWith('Great sound')")
    page.wait_for_function("parseFloat(document.querySelector('#classify-stars').innerText) > 2")
    for text, sentence in (("   ", "Type a few words."), ("wonderful " * 5_001, "50,010 characters")):
        review.fill(text)
        wait_for_text(page, "#classify-certainty", sentence)


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_nothing_overflows_and_dark_is_dark(own_app: App, open_page: Open, width: int, scheme: str) -> None:
    page = open_page(own_app.url, width, 844, scheme)
    for tab in ("Memory", "Train", "Classify"):
        open_tab(page, tab)
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
    assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")


def test_the_keyboard_suffices(own_app: App, open_page: Open) -> None:
    page = open_page(own_app.url)
    page.get_by_role("tab", name="Memory").focus()
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert "memory-measure" in reached, reached
