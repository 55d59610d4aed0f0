"""The Data tab's views: every text of a file is escaped and stays as typed, and figures are those of the report."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from qlora_demo.core.data_report import DataReport, PreviewRow, Repair, Subset, TokenizedReview
from qlora_demo.core.errors import DataError
from qlora_demo.core.requests import DataRequest
from qlora_demo.engine.data import audit, dataset
from qlora_demo.ui.data.analysis import Analysis, changed_request, field_values, run_settings
from qlora_demo.ui.data.data_views import view_encoding, view_languages, view_lengths, view_part
from qlora_demo.ui.data.review_views import (
    LONGEST_END,
    LONGEST_PREVIEW,
    MAX_TOKENS,
    view_reviews,
    view_subset,
    view_tokens,
)
from tests.pages import HOSTILE, Page


class Words:
    """A tokenizer of words, where real tokens are not the point."""

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [list(range(len(text.split()))) for text in texts]}


def report_of(path: Path, **more: Any) -> DataReport:
    report = audit.examine(dataset.read_all(str(path)), Words(), 512)
    assert report.tokens
    tokens = report.tokens.model_copy(update={"counts": {3: 10, 20: 5, 200: 5}})
    return report.model_copy(update={"tokens": tokens, **more})


def every_view(report: DataReport) -> str:
    parts = [view_part(part, report) for part in ("summary", "warnings", "balance", "left_out", "conflicts")]
    return "".join(map(str, [*parts, view_languages(report), view_lengths(report, 128), view_encoding(report, False)]))


@pytest.fixture
def hostile(tmp_path: Path) -> DataReport:
    """A file whose texts, labels and column names are all out for mischief."""
    path = tmp_path / "a <b>&c.csv"
    with path.open("w", encoding="utf-8", newline="") as sheet:
        rows = [[text, HOSTILE[i % 2], "x"] for i, text in enumerate(HOSTILE * 3)] + [["", HOSTILE[0], "x"]]
        csv.writer(sheet).writerows([["text", "label", HOSTILE[0]], *rows])
    return report_of(path, repairs=(Repair(before=HOSTILE[4], after=HOSTILE[0]),), tokenizer_problem=HOSTILE[0])


def test_no_text_of_a_file_becomes_markup(hostile: DataReport) -> None:
    page = Page(every_view(hostile))
    assert not {"script", "img", "a", "em"} & {*page.tags}
    assert not {name for name in page.attributes if name.startswith("on") or name == "href"}
    assert "a <b>&c.csv" in page.text
    for text in HOSTILE[:2]:
        assert text in page.text, "a label stays as it was typed"
    assert hostile.contradicting > 0 and any(text in page.text for text in HOSTILE[2:])


def tokenized(tokens: tuple[str, ...], ids: tuple[int, ...], padding: int = 1, **more: Any) -> TokenizedReview:
    """These tokens, then padding."""
    fields = {"text": "", "cut_tokens": 0, "cut_text": "", "unread_characters": 0, "padding": padding, **more}
    shown = {"tokens": (*tokens, *["[PAD]"] * padding), "ids": (*ids, *[0] * padding)}
    return TokenizedReview(**fields, **shown, mask=(*[1] * len(ids), *[0] * padding))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_review_stays_as_typed(text: str) -> None:
    rows = [PreviewRow(split="all", row=1, label=text, text=text)]
    for query in ("", text[:3], "<", "&", "s"):
        page = Page(view_reviews(rows, 1, 0, query, None))
        assert text in page.text and not {"script", "img"} & {*page.tags}
    page = Page(view_tokens(tokenized((text,), (7,), cut_tokens=2, cut_text=text), 2))
    assert page.text.count(text) == 2 and not {"script", "img"} & {*page.tags}
    subset = Page(view_subset(Subset(available=4, rows=2, balance={text: (4, 2)})))
    assert not {"script", "img"} & {*subset.tags}


def test_a_search_marks_what_it_found_and_the_list_says_where_it_is() -> None:
    rows = [
        PreviewRow(split="test", row=7, label="4", text="Good, really GOOD"),
        PreviewRow(split="test", row=9, label="4", text="x" * 700),
    ]
    found = view_reviews(rows, 1200, 8, "good", ("test", 9))
    assert found.count("<mark>") == 2 and "<mark>GOOD</mark>" in found
    assert "9 to 10 of 1,200 reviews with “good”" in found and f"{700 - LONGEST_PREVIEW:,} more characters" in found
    assert "No review contains “&lt;b&gt;”" in view_reviews([], 0, 0, "<b>", None)


def test_tokens_padding_and_the_truncated_end() -> None:
    end = {"cut_tokens": 1200, "cut_text": "z" * (LONGEST_END + 5), "unread_characters": 3}
    page = Page(view_tokens(tokenized(("[CLS]", "good", "[SEP]"), (101, 2204, 102), 2, **end), 128))
    assert "3 tokens of at most 128, then 2 of padding" in page.text
    assert "[PAD] × 2" in page.text and "101, 2204, 102, 0, 0" in page.text and "1, 1, 1, 0, 0" in page.text
    assert "Truncated: at least 1,200 tokens" in page.text and "5 more characters" in page.text
    whole = view_tokens(tokenized(("a",) * 900, (1,) * 900, 0), 900)
    assert f"and {900 - MAX_TOKENS} more" in whole and "Nothing is truncated" in whole


def test_the_slider_says_what_would_be_truncated(hostile: DataReport) -> None:
    assert "25.0 %" in view_lengths(hostile, 128) and "5 of 20" in view_lengths(hostile, 128)
    assert f"{5 * (200 - 128):,} of {10 * 3 + 5 * 20 + 5 * 200:,}" in view_lengths(hostile, 128)
    assert "50.0 %" in view_lengths(hostile, 8)
    assert "nothing is truncated" in view_lengths(hostile, 200)
    assert hostile.tokens
    for counts in ({1: 1}, {0: 2}, {100_000: 1, 3: 1}):
        tokens = hostile.tokens.model_copy(update={"counts": counts})
        Page(view_lengths(hostile.model_copy(update={"tokens": tokens}), 128))


def analysed(tmp_path: Path, **asked: Any) -> Analysis:
    path = tmp_path / "mine.csv"
    path.write_text("stars;title;body\n" + "".join(f"{i % 5 + 1};t;a fine review, number {i}\n" for i in range(20)))
    return Analysis(DataRequest(str(path), **asked), report_of(path))


def fields_of(analysis: Analysis) -> dict[str, Any]:
    return {**field_values(analysis.report), "mend": False, "split": ""}


def test_only_what_was_changed_is_asked_for(tmp_path: Path) -> None:
    found = analysed(tmp_path)
    fields = fields_of(found)
    assert fields["labels"] == "1\n2\n3\n4\n5" and fields["delimiter"] == ";" and fields["header"] == "yes"
    assert changed_request(found, fields) == found.request
    assert changed_request(found, fields | {"title": "-"}) == DataRequest(found.request.data, title="-")
    assert changed_request(found, fields | {"labels": "1\n\n 5 "}) == DataRequest(found.request.data, labels=("1", "5"))
    assert changed_request(found, fields | {"mend": True}).mend
    asked = analysed(tmp_path, title="-", delimiter=";")
    assert changed_request(asked, fields_of(asked)).delimiter == ";", "what was asked for before stays asked for"
    other = changed_request(analysed(tmp_path, text="body", labels=("1", "5")), fields | {"header": "no"})
    assert (other.header, other.text, other.labels) == (False, "", ()), "other columns have other names"


def test_a_run_is_given_what_was_analysed(tmp_path: Path) -> None:
    found = analysed(tmp_path, delimiter=";", labels=("1", "5"), mend=True)
    settings = run_settings(found, 16, 64, tmp_path / "home")
    assert settings["data"] == found.request.data and settings["delimiter"] == ";" and settings["header"] == "found"
    assert (settings["text_column"], settings["title_column"], settings["label_column"]) == ("body", "title", "stars")
    assert (settings["rows"], settings["max_length"], settings["labels"], settings["mend"]) == (16, 64, "1\n5", True)
    json.dumps(settings)
    with pytest.raises(DataError):
        dataset.load(settings["data"], columns=dataset.Columns(text="not there"))
