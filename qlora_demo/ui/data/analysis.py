"""What the Data tab shows: a request with its report; how the form changes the request, and what a run is given.

Knows no component.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...core.data_report import DataReport
from ...core.names import SAMPLE
from ...core.records import NO_COLUMN
from ...core.requests import DataRequest
from ...storage import uploads

MAX_LENGTH = 128  # tokens kept of a review, to begin with
HEADER_WORDS = {True: "yes", False: "no", None: ""}


@dataclass(frozen=True)
class Analysis:
    """A request and its report, with what was asked of the tokens: their maximum number, and the model's name."""

    request: DataRequest
    report: DataReport
    max_length: int = MAX_LENGTH
    asked_model: str = SAMPLE

    @property
    def longest(self) -> int:
        """The most tokens of a review that the model takes."""
        return self.report.tokens.max_length if self.report.tokens else MAX_LENGTH


def field_values(report: DataReport) -> dict[str, str]:
    """How a source was read, as the form shows it; by the settings of a DataRequest."""
    return {
        "text": report.text_column,
        "label": report.label_column or "",
        "title": report.title_column or NO_COLUMN,
        "encoding": report.encoding or "",
        "delimiter": report.delimiter or "",
        "header": HEADER_WORDS[report.header],
        "labels": "\n".join(report.labels),
    }


def changed_request(analysis: Analysis, form: Mapping[str, Any]) -> DataRequest:
    """The request with what was changed in the form; what stands there as detected is left to be detected again."""
    asked: dict[str, Any] = {"mend": bool(form["mend"]), "split": form["split"] or ""}
    for name, detected in field_values(analysis.report).items():
        value = form[name] or ""
        value = value if name == "delimiter" else value.strip()
        if value != detected:
            asked[name] = value
    if "header" in asked:
        asked["header"] = {"yes": True, "no": False}.get(asked["header"])
    if "labels" in asked:
        asked["labels"] = tuple(line.strip() for line in asked["labels"].splitlines() if line.strip())
    if {"header", "delimiter", "encoding"} & asked.keys():
        # The columns have other names then: they are detected anew.
        asked = {"text": "", "label": "", "title": "", "labels": (), **asked}
    elif "label" in asked:
        asked = {"labels": (), **asked}
    return replace(analysis.request, **asked)


def run_settings(analysis: Analysis, rows: int, max_length: int, home: Path) -> Mapping[str, object]:
    """A run's settings for these reviews, as its form shows them."""
    request, report = analysis.request, analysis.report
    # The columns of a file are named, so that a run detects nothing anew.
    columns = (
        (report.text_column, report.title_column or NO_COLUMN, report.label_column)
        if not request.hub and request.data != SAMPLE
        else (request.text, request.title, request.label)
    )
    return {
        "data": uploads.name_of(request.data, home),
        "data_config": request.config,
        "data_revision": request.revision,
        **dict(zip(("text_column", "title_column", "label_column"), columns, strict=True)),
        "encoding": request.encoding,
        "delimiter": "tab" if request.delimiter == "\t" else request.delimiter,
        "header": HEADER_WORDS[request.header] or "found",
        "labels": "\n".join(request.labels),
        "mend": request.mend,
        "rows": rows,
        "max_length": max_length,
    }
