"""Handlers of the Train, Classify and Publish tabs, without a browser: what each changes on the page."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from qlora_demo.core.config import RunConfig
from qlora_demo.core.errors import AlreadyThere, RunError
from qlora_demo.core.records import Download, Prediction
from qlora_demo.jobs.store import Store
from qlora_demo.services.app import Services
from qlora_demo.storage.packs import Pack
from qlora_demo.ui.cancellations import Cancellations
from qlora_demo.ui.classify.classify_tab import ClassifyTab
from qlora_demo.ui.publish.pack_panel import PackPanel
from qlora_demo.ui.publish.publish_tab import PublishTab
from qlora_demo.ui.train.train_tab import TrainTab

NASTY = "<script>alert(1)</script>"
REQUEST = SimpleNamespace(session_hash="mine")


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return Services(Store(tmp_path), launch=lambda *_: None)  # type: ignore[arg-type, return-value]


@pytest.fixture
def train(services: Services) -> TrainTab:
    with gr.Blocks() as page:
        return TrainTab(services, page, gr.BrowserState({}), gr.Dropdown())


def test_all_problems_of_a_form_are_shown_and_nothing_else_changes(train: TrainTab) -> None:
    changes = train.on_start({}, rank=0, batch_size=-1)
    assert set(changes) == {train.problems, train.asking} and changes[train.problems].count("<li") == 2


def test_downloads_are_asked_about_before_anything_starts(
    train: TrainTab, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    download = Download(NASTY, "model", 10, 20, None, False)
    monkeypatch.setattr(services, "needed_downloads", lambda config: [download])
    changes = train.on_start({})
    assert "&lt;script&gt;" in changes[train.question] and NASTY not in changes[train.question]
    assert not list(services.store.jobs("train"))


def test_a_run_is_started_shown_and_its_key_kept(
    train: TrainTab, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = services.store.create("train", RunConfig().to_dict())
    monkeypatch.setattr(services, "needed_downloads", lambda config: [])
    monkeypatch.setattr(services.train, "check", lambda config: None)
    monkeypatch.setattr(services.train, "start", lambda config, who: SimpleNamespace(run=job.id, key="secret"))
    changes = train.on_start({"other": "key", "odd": 7})
    assert changes[train._keys] == {"other": "key", job.id: "secret"}
    assert changes[train.live] == job.id and changes[train.report] == "" == changes[train.problems]


def test_without_runs_the_page_is_empty(train: TrainTab) -> None:
    changes = train.newest()
    assert changes[train.live] == changes[train.report] == changes[train.evaluation] == ""


def test_a_typed_review_is_answered_or_its_refusal_shown(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services.classify, "temperature", lambda adapter: None)
    with gr.Blocks() as page:
        tab = ClassifyTab(services, page, gr.BrowserState({}))
    assert tab.on_review(" ", "sample", False, "", 1.0)[0] == "–"
    answer = Prediction("x", NASTY, None, None, {NASTY: 0.9, "b": 0.1}, True)
    monkeypatch.setattr(services.classify, "classify_both", lambda *_, **__: (answer, answer))
    assert all(NASTY not in html for html in tab.on_review("x", "sample", False, "", 1.0))

    def refuse(*_: Any, **__: Any) -> None:
        raise RunError(f"No {NASTY}.")

    monkeypatch.setattr(services.classify, "classify_both", refuse)
    stars, _, problem = tab.on_review("x", "sample", False, "", 1.0)
    assert stars == "–" and "No &lt;script&gt;" in problem


def test_a_model_that_is_there_is_replaced_only_on_request(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    with gr.Blocks(), gr.Tab() as tab:
        publish = PublishTab(services, tab, gr.BrowserState({}))
    asked: list[bool] = []

    def send(*_: Any, replace: bool, **__: Any) -> None:
        asked.append(replace)
        raise AlreadyThere("There is one.")

    monkeypatch.setattr(services.publish, "publish", send)
    monkeypatch.setattr(services.publish, "hub_token", lambda: "token")
    changes = publish.on_send("sample", NASTY, "", {}, False, False, REQUEST)  # type: ignore[arg-type]
    assert asked == [False] and "&lt;script&gt;" in changes[publish.question] and changes[publish.status] == ""


def test_merging_can_be_cancelled(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    with gr.Blocks():
        panel = PackPanel(services, gr.Dropdown(), gr.Dropdown(), gr.BrowserState({}), {})

    def merge(adapter: str, who: str, *, on_progress: Any, should_stop: Any) -> Pack:
        on_progress("loading", 0.5)
        assert not should_stop()
        panel.on_cancel(REQUEST)  # type: ignore[arg-type]
        assert should_stop()
        raise RunError("Merging was stopped.")

    monkeypatch.setattr(services.publish, "merge", merge)
    told: list[Any] = []
    merged, _ = panel.on_merge("sample", {}, REQUEST, lambda *step, **_: told.append(step))  # type: ignore[arg-type]
    assert "Merging was stopped." in merged and told == [(0.5,)]


def test_a_session_cancels_its_own_work_alone() -> None:
    cancellations = Cancellations()
    other = SimpleNamespace(session_hash="other")
    with cancellations.watch(REQUEST) as is_cancelled:  # type: ignore[arg-type]
        cancellations.cancel(other)  # type: ignore[arg-type]
        assert not is_cancelled()
        cancellations.cancel(REQUEST)  # type: ignore[arg-type]
        assert is_cancelled()
    cancellations.cancel(REQUEST)  # type: ignore[arg-type]  # nothing is running
