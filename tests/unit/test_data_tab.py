"""The Data tab's handlers, without a browser: what each changes on the page."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from qlora_demo.core.data_report import DataReport, PreviewRow, Subset, TokenLengths
from qlora_demo.core.errors import DataError
from qlora_demo.core.requests import DataRequest
from qlora_demo.ui.data.analysis import Analysis
from qlora_demo.ui.data.data_tab import DataTab, read_source
from qlora_demo.ui.train.form import build_fields

TOKENS = TokenLengths(p50=5, p95=9, max=9, truncated=0, cut=0, max_length=64, reviews=2, sampled=False, counts={5: 2})
COUNTS: dict[str, Any] = {"labels": {"a": 1, "b": 1}, "balance": {"all": {"a": 1, "b": 1}}, "splits": {"all": 2}}
REPORT = DataReport(name="mine", rows=2, used=2, text_column="text", tokens=TOKENS, **COUNTS)
ANALYSIS = Analysis(DataRequest("/uploads/mine.csv"), REPORT)
SOURCE = {"source": "sample", "kept": "", "path": "", "hub_set": "amazon-reviews", "config": "", "revision": ""}
FORM: dict[str, Any] = {**SOURCE, "analysis": None, "max_length": 128, "model": "sample"}


@pytest.fixture
def services(tmp_path: Any) -> Any:
    row = PreviewRow(split="all", row=1, label="a", text="fine")
    data = SimpleNamespace(
        examine=lambda request, model, progress, should_stop: REPORT,
        subset=lambda request, rows: Subset(available=40, rows=rows or 40, balance={"a": (40, rows or 40)}),
        preview=lambda request, query, start, count: ([row], 20),
    )
    host = SimpleNamespace(public=False, keep=lambda sent: "/uploads/mine.csv")
    return SimpleNamespace(data=data, host=host, store=SimpleNamespace(home=tmp_path), needed_downloads=lambda _: [])


@pytest.fixture
def tab(services: Any) -> DataTab:
    with gr.Blocks(), gr.Tabs() as tabs, gr.Tab("Data") as tab:
        return DataTab(services, tab, tabs, build_fields(["model", "max_length", "data", "rows"]), gr.HTML())


def test_every_panel_draws_the_report(tab: DataTab) -> None:
    changes = tab.on_analyse(**FORM)
    parts = {part for panel in tab.panels for part in panel.parts}
    assert tab.report_column in changes and changes[tab.analysis].max_length == 64, "no longer than the model takes"
    assert set(changes) - parts == {tab.analysis, tab.status, tab.question, tab.reading_column, tab.report_column}
    assert "fine" in changes[tab.reviews.list] and changes[tab.reviews.next].interactive


def test_a_refusal_leaves_the_report(tab: DataTab, services: Any) -> None:
    def refuse(*_: Any) -> DataReport:
        raise DataError("There is no <b>.")

    services.data.examine = refuse
    assert set(tab.on_analyse(**FORM)) == {tab.status, tab.question}
    uploaded = tab.on_upload(**FORM, file="mine.csv")
    assert "&lt;b&gt;" in uploaded[tab.status] and uploaded[tab.kept] == "/uploads/mine.csv"


def test_what_the_form_names_as_the_source() -> None:
    assert read_source(FORM, public=False) == DataRequest()
    assert read_source({**FORM, "source": "hub", "revision": " r "}, public=True).revision == "r"
    assert read_source({**FORM, "source": "file", "kept": "k", "path": " p "}, public=False).data == "p"
    assert read_source({**FORM, "source": "file", "kept": "k"}, public=True).data == "k"
    for form, public in (({"path": "/etc/passwd", "kept": "k"}, True), ({}, True), ({}, False)):
        with pytest.raises(DataError):
            read_source({**FORM, "source": "file", **form}, public=public)


def test_the_amount_to_train_on(tab: DataTab) -> None:
    rows = tab.subset.count_rows
    assert rows(ANALYSIS, "all", None) == 0 and rows(ANALYSIS, "share", 50) == 20 and rows(ANALYSIS, "share", 0.1) == 1
    assert rows(ANALYSIS, "rows", 7) == 7 and rows(ANALYSIS, "rows", 7000) == 40
    for unit, amount in (("share", 101), ("share", 0), ("rows", True), ("rows", "7"), ("rows", float("nan"))):
        with pytest.raises(DataError):
            rows(ANALYSIS, unit, amount)
    changes = tab.subset.on_amount(ANALYSIS, "share", 500)
    assert set(changes) == {tab.subset.problem}


def test_training_needs_labels(tab: DataTab) -> None:
    changes = tab.on_train(None, "all", None, 64, "sample")
    assert set(changes) == {tab.subset.problem} and "choose the label column" in changes[tab.subset.problem]
