"""A classified file as HTML: what is typed stays typed, numbers add up, and rows are found by label and words."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qlora_demo.core.file_report import FilePreview, FileReport
from qlora_demo.engine.classify.metrics import compute_metrics
from qlora_demo.storage.result_files import ROWS, Layout, name_added, to_line
from qlora_demo.ui.classify.file_rows import EVERY, NONE, PAGE_ROWS, find_rows
from qlora_demo.ui.classify.file_views import (
    SHOWN_CHARACTERS,
    view_ended,
    view_metrics,
    view_preview,
    view_progress,
    view_rows,
    view_summary,
)
from qlora_demo.ui.views import view_confusion

LABELS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
ODD = "<script>alert('1')</script> **bold** $x^2$ &lt; \u202e 😀 \"q\""
COLUMNS = ("<i>title</i>", "text", "rating")


def plain(html: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", html))


@pytest.fixture
def layout() -> Layout:
    roles = {"text": "text", "title": COLUMNS[0], "label": "rating"}
    return Layout(COLUMNS, name_added(COLUMNS, LABELS), LABELS, roles)


def row(layout: Layout, text: str, stars: int | None = 4, problem: str | None = None) -> dict[str, Any]:
    shares = [0.1] * 5
    if stars:
        shares[stars - 1] = 0.6
    ours = [LABELS[stars - 1], stars, 3.7, *shares, True, None] if stars else [None] * 9 + [problem]
    return dict(zip(layout.names, [ODD, text, "5", *ours], strict=True))


def test_nothing_that_is_typed_becomes_markup(layout: Layout) -> None:
    names = {"columns": [ODD, "text"], "text_column": "text", "title_column": "", "label_column": ""}
    dialect = {"kind": "csv", "encoding": "utf-8", "delimiter": ";", "header": True}
    found = FilePreview(**names, **dialect, notes=[ODD], rows=[[ODD, "x"]])
    for html in (
        view_preview(ODD, found),
        view_rows(layout, [(1, row(layout, ODD))], True),
        view_rows(layout, [(1, row(layout, "", None, ODD))], True),
        view_progress(ODD, "running", {"name": ODD, "detail": ODD, "progress": 0.5}, None),
        view_ended(ODD, "failed", ODD, None),
        view_confusion([ODD, "b"], [[1, 0], [0, 1]], False),
        view_confusion([ODD, "b"], [[1, 0], [0, 1]], False, clickable=True),
    ):
        assert "<script" not in html and "&lt;script&gt;" in html and "&amp;lt;" in html
        assert "<bdi" in html, "what turns the direction is isolated"
    assert ODD in plain(view_rows(layout, [(1, row(layout, ODD))], True))


def test_a_row_shows_its_number_stars_and_all_probabilities(layout: Layout) -> None:
    html = view_rows(layout, [(1234, row(layout, "Fine.")), (1235, row(layout, "", None, "empty"))], True)
    assert "1,234" in html and 'aria-label="4 of 5 stars"' in html and "3.7" in html and "its end was cut off" in html
    assert 'aria-label="1 star 10 %, 2 stars 10 %, 3 stars 10 %, 4 stars 60 %, 5 stars 10 %"' in html
    assert "no prediction: empty" in html and ">True label<" in html
    long = view_rows(layout, [(1, row(layout, "x" * 5000))], True)
    assert "x" * (SHOWN_CHARACTERS - 1) + "…" in long and "x" * SHOWN_CHARACTERS not in long
    assert "5 stars: none." in view_rows(layout, [], True, "5 stars") and "★★★★<" in html
    other = {**row(layout, "Fine."), layout.added["stars"]: None, layout.added["expected_stars"]: None}
    assert "4 stars" in (classes := view_rows(layout, [(1, other)], True)) and "★" not in classes


def report(**changes: Any) -> FileReport:
    bins = [{"lower": i / 10, "upper": (i + 1) / 10, "rows": i if i > 3 else 0} for i in range(10)]
    stars = [{"lower": 1 + i / 2, "upper": 1.5 + i / 2, "rows": i} for i in range(8)]
    counts = {"rows": 1200, "done": 1000, "classified": 990, "truncated": 3, "without_prediction": {"empty": 10}}
    skipped = [{"reason": "a NUL character", "rows": 2, "first_lines": [7, 1009]}]
    told = {"file": "in.csv", "notes": ["A note."], "final": {}, "judged": "Not judged.", "skipped": skipped}
    drawn = {"by_label": {"1 star": 240, "2 stars": 750}, "expected_stars": stars, "certainty": bins}
    rest = {"seconds": 100.0, "reviews_per_second": 9.9, "stopped": True, "ordinal": True}
    return FileReport.model_validate({**counts, **told, **drawn, **rest, **changes})


def test_the_summary_counts_everything() -> None:
    html = view_summary(report())
    words = plain(html)
    assert "24.2 %" in words and "75.8 %" in words
    assert "10 rows without a prediction: empty." in words
    assert "2 rows left out, because of a NUL character (line 7, 1,009)" in words
    assert "3 reviews are longer" in words and "A note." in words and "Expected stars" in words and "4.5 to 5" in words
    assert "40–50 %" in words and "30–40 %" not in words, "empty bins below the first are left out"
    assert "Expected stars" not in view_summary(report(expected_stars=[]))
    ended = plain(view_ended("in.csv", "stopped", "", report()))
    assert "990 of 1,200 rows classified in 100 s, 9.9 per second." in ended.replace("2 min", "100 s")
    assert "the first 1,000 rows" in ended


def test_the_files_own_labels_give_metrics_and_a_matrix() -> None:
    labels = [0, 1, 2, 3, 4] * 20
    logits = [
        [3.0 if place == (label + (i % 7 == 0)) % 5 else 0.0 for place in range(5)] for i, label in enumerate(labels)
    ]
    metrics = compute_metrics(labels, np.array(logits), LABELS, True).to_dict()
    html = view_metrics(report(final={"test": metrics}, judged="Judged on 100 rows."))
    assert "85.0 %" in html and "Quadratic kappa" in html and re.search(r"\d\d\.\d % to \d\d\.\d %", html)
    assert "Calibration error" in html
    cells = [int(text) for text in re.findall(r'of 20 reviews">(\d+)<', html)]
    assert cells == [count for line in metrics["confusion"] for count in line]
    assert view_metrics(report()) == '<p class="quiet">Not judged.</p>'
    assert view_confusion([str(i) for i in range(31)], [[0] * 31] * 31, False) == ""


@pytest.mark.parametrize(
    ("state", "told", "position", "words"),
    [
        ("queued", None, 2, "Number 2 in the queue"),
        ("starting", None, None, "Starting"),
        ("running", {"name": "classify", "detail": "5 of 10 rows", "progress": 0.5}, None, "Classify: 5 of 10 rows"),
        ("stopping", {"name": "classify", "detail": "5 of 10 rows", "progress": None}, None, "what is done is kept"),
    ],
)
def test_progress_is_a_sentence_and_a_bar(
    state: str, told: dict[str, Any] | None, position: int | None, words: str
) -> None:
    html = view_progress("in.csv", state, told, position)
    share = 50 if told and told["progress"] else 0
    assert words in plain(html) and f'aria-valuenow="{share}"' in html


def test_rows_are_found_by_label_and_words(tmp_path: Path, layout: Layout) -> None:
    assert find_rows(tmp_path) is None
    layout.write(tmp_path)
    rows = [
        row(layout, f"Review {i} {'ÜBEL' if i == 7 else ''}", None if i % 10 == 9 else i % 5 + 1, "empty")
        for i in range(50)
    ]
    (tmp_path / ROWS).write_text("".join(map(to_line, rows)) + '{"torn', encoding="utf-8")
    pages = [find_rows(tmp_path, page=page) for page in range(4)]
    assert [len(page.rows) for page in pages if page] == [PAGE_ROWS, PAGE_ROWS, 10, 0]
    assert [page.more for page in pages if page] == [True, True, False, False]
    assert pages[1] and pages[1].rows[0][0] == 21 and pages[1].rows[0][1]["text"] == "Review 20 "
    five, none, found = (find_rows(tmp_path, *asked) for asked in (("5 stars",), (NONE,), (EVERY, " übel ")))
    assert five and [at for at, _ in five.rows] == [5, 15, 25, 35, 45] and none
    assert [at for at, _ in none.rows] == [10, 20, 30, 40, 50]
    assert found and [at for at, _ in found.rows] == [8]
    title = find_rows(tmp_path, "1 star", "ALERT('1')")
    assert title and len(title.rows) == 10, "in the title, too"
