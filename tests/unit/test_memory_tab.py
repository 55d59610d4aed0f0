"""The Memory tab's handlers, without a browser: what each changes on the page."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from qlora_demo.core.errors import ModelError
from qlora_demo.core.memory_report import MemoryReport, MemoryStage, StepReport
from qlora_demo.core.records import Download
from qlora_demo.ui.memory.memory_tab import MemoryTab

REPORT = MemoryReport(model="<b>x", parameters=7, stages=(MemoryStage("fp16", "predicted", 14, 0, 0, 0, 1, 1),))
STEP = {"batch_size": 8, "length": 32, "gradient_checkpointing": False, "optimizer": "adamw_torch_fused"}
FORM = {"model": " sample ", "labels": 5, "random_weights": False, **STEP}


def a_job(state: str, *events: dict[str, Any], position: int | None = None) -> Any:
    """A measurement in this state."""
    stored = SimpleNamespace(state=state, is_final=state in ("done", "stopped", "failed"), error=None)
    return SimpleNamespace(
        id="job",
        state=lambda: stored,
        events=lambda: list(events),
        summary=lambda: SimpleNamespace(position=position),
        report=lambda kind: REPORT if state == "done" else None,
    )


@pytest.fixture
def services() -> Any:
    memory = SimpleNamespace(
        predict=lambda request: REPORT,
        predict_step=lambda request: StepReport(problem="no step"),
        start=lambda request, report, visitor: SimpleNamespace(run="job", key="secret"),
    )
    store = SimpleNamespace(latest=lambda kind: None)
    return SimpleNamespace(memory=memory, store=store, needed_downloads=lambda request: [])


@pytest.fixture
def tab(services: Any) -> MemoryTab:
    with gr.Blocks() as page:
        return MemoryTab(services, page)


def test_measuring_draws_the_prediction_and_follows_the_job(tab: MemoryTab) -> None:
    changes = tab.on_measure(**FORM)
    assert changes[tab.job] == ("job", "secret") and "14 B" in changes[tab.figure] and changes[tab.timer].active
    assert tab.step not in changes, "a report without a step leaves the step as it is"


def test_a_download_is_asked_about_first(tab: MemoryTab, services: Any) -> None:
    services.needed_downloads = lambda request: [Download("<img src=x>", "model", 5, 9, None, False)]
    changes = tab.on_measure(**FORM)
    assert changes[tab.question].visible and "&lt;img" in changes[tab.downloads] and tab.job not in changes
    assert tab.job in tab.on_measure(**{**FORM, "random_weights": True}), "random weights need no download"
    assert not tab.on_fetch(**FORM)[tab.question].visible


def test_a_refusal_is_one_sentence_and_changes_nothing_else(tab: MemoryTab, services: Any) -> None:
    def refuse(request: Any) -> Any:
        raise ModelError("There is no <b>.")

    services.memory.predict = services.memory.predict_step = refuse
    assert tab.on_measure(**FORM) == {tab.status: '<p class="problem">There is no &lt;b&gt;.</p>'}
    assert 'class="problem"' in tab.on_step(**FORM)
    assert 'class="problem"' in tab.on_measure(**{**FORM, "labels": 0})[tab.status]


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (a_job("queued", position=2), "Number 2 in the queue"),
        (a_job("running"), "Starting the measuring process"),
        (a_job("running", {"event": "phase", "name": "measure", "detail": "measuring", "progress": 0.5}), "Measuring<"),
        (a_job("running", {"event": "phase", "name": "download", "detail": "a", "progress": 0.5}), "A (50 %)"),
        (a_job("done"), "&lt;b&gt;x, 7 parameters"),
        (a_job("stopped"), "Measurement cancelled"),
        (a_job("failed"), "The measurement failed"),
    ],
)
def test_the_status_of_a_job_in_words(tab: MemoryTab, job: Any, words: str) -> None:
    changes = tab.follow(job)
    assert words in changes[tab.status]
    assert (tab.timer in changes) == job.state().is_final and (tab.figure in changes) == (job.state().state == "done")


def test_an_opened_page_shows_the_last_measurement_or_the_samples_prediction(tab: MemoryTab, services: Any) -> None:
    assert "no step" in tab.on_load()[tab.step]
    services.store.latest = lambda kind: a_job("running")
    assert tab.on_load()[tab.job] == ("job", "")
    services.store.latest = lambda kind: a_job("done")
    assert "Last measurement: &lt;b&gt;x" in tab.on_load()[tab.status]
