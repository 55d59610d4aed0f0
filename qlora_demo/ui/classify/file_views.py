"""A file of reviews as HTML: how it is read, how far classifying is, its rows, and its report. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...core.file_report import FilePreview, FileReport
from ...core.format import duration, metric, number, plural, share
from ...core.names import METRICS
from ...core.records import EventLine
from ...storage.result_files import PROBABILITY, Layout, Row
from ..templating import render
from ..views import view_confusion, view_quiet

SHOWN_CHARACTERS = 600  # of a review
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
FORMATS = {"csv": "text", "jsonl": "JSON lines", "json": "JSON", "parquet": "Parquet"}
LINKS = {
    "csv": ("CSV", "for spreadsheets; cells that would run as formulas are made harmless by an apostrophe"),
    "jsonl": ("JSON Lines", "every cell as it was"),
    "parquet": ("Parquet", "every cell as it was"),
}


class RowView(NamedTuple):
    """One row of the file. `number` from 1; `label` None: there is no prediction, because of `problem`."""

    number: int
    title: str
    text: str
    true: str
    label: str | None
    problem: str
    stars: int | None
    expected_stars: float | None
    truncated: bool
    shares: list[float]
    words: str


def view_preview(name: str, preview: FilePreview) -> str:
    """How the file is read, and its first rows; columns that have a role come first."""
    named = ((preview.label_column, "label"), (preview.title_column, "title"), (preview.text_column, "text"))
    roles = {column: role for column, role in named if column}
    order = sorted(range(len(preview.columns)), key=lambda at: preview.columns[at] not in roles)
    delimiter = preview.delimiter
    parts = (
        FORMATS.get(preview.kind, preview.kind),
        preview.encoding,
        f"columns separated by {DELIMITERS.get(delimiter, repr(delimiter))}" if delimiter else "",
        "without a header" if preview.header is False else "",
    )
    return render(
        "classify/preview.html.jinja",
        name=name,
        format=", ".join(filter(None, parts)),
        columns=[preview.columns[at] for at in order],
        rows=[[row[at] for at in order] for row in preview.rows],
        roles=roles,
        notes=preview.notes,
    )


def view_progress(name: str, state: str, phase: EventLine | None, position: int | None) -> str:
    """How far a job is: its last phase, as a sentence and a bar. `position`: in the queue, None where it does not
    wait.
    """
    if position:
        words = f"Number {position} in the queue: a run is using the device."
    elif phase is None:
        words = "Starting: the job's process imports torch, which takes a few seconds."
    else:
        words = f"{phase['name'].capitalize()}: {phase['detail']}"
    if state == "stopping":
        words = f"Stopping; what is done is kept. {words}"
    progress = (phase or {}).get("progress") or 0.0
    return render("classify/status.html.jinja", name=name, state=state, words=words, share=progress, is_problem=False)


def view_ended(name: str, state: str, error: str, report: FileReport | None) -> str:
    """How a job ended, in one or two sentences."""
    if report is None:
        words = error or f"The job ended as {state}, before it had a result."
    else:
        words = (
            f"{report.classified:,} of {report.rows:,} rows classified in {duration(report.seconds)},"
            f" {report.reviews_per_second:g} per second."
        )
        if report.stopped:
            words += f" Stopped on request: the first {report.done:,} rows are in the result."
    is_problem = report is None
    return render("classify/status.html.jinja", name=name, state=state, words=words, share=None, is_problem=is_problem)


def view_links(addresses: Mapping[str, str]) -> str:
    """`addresses`: by kind of file."""
    links = [(LINKS[kind][0], address, LINKS[kind][1]) for kind, address in addresses.items()]
    return render("classify/links.html.jinja", links=links) if links else ""


def view_delete_file(name: str, size_bytes: int) -> str:
    """What deleting a file's job would remove, asked before it happens."""
    return render("classify/delete_file.html.jinja", name=name, size_bytes=size_bytes)


def view_rows(layout: Layout, rows: Sequence[tuple[int, Row]], first_page: bool, what: str = "") -> str:
    """Rows with their numbers (from 1): the review, its stars and the bar of its probabilities. `what`: the rows that
    were asked for.
    """
    if not rows:
        return view_quiet(f"{what or 'No row'}: {'none' if first_page else 'no more'}.")
    return render(
        "classify/rows.html.jinja",
        labels=layout.labels,
        has_true=bool(layout.places["label"]),
        rows=[_row(layout, at, row) for at, row in rows],
        longest=SHOWN_CHARACTERS,
    )


def _row(layout: Layout, at: int, row: Row) -> RowView:
    title, text, true = (_text(row.get(layout.places[role])) for role in ("title", "text", "label"))
    added: Mapping[str, Any] = {what: row.get(name) for what, name in layout.added.items()}
    shares = [float(added[f"{PROBABILITY}{label}"] or 0) for label in layout.labels]
    words = ", ".join(f"{label} {share(value)}" for label, value in zip(layout.labels, shares, strict=True))
    return RowView(
        number=at,
        title=title,
        text=text,
        true=true,
        label=added["label"],
        problem=str(added["problem"] or "unknown"),
        stars=added["stars"],
        expected_stars=added["expected_stars"],
        truncated=bool(added["truncated"]),
        shares=shares,
        words=words,
    )


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)


def view_summary(report: FileReport) -> str:
    """Counts of a classified file by label, expected stars and certainty; and rows that have no prediction, or are
    missing.
    """
    stars = [(f"{one.lower:g} to {one.upper:g}", one.rows) for one in report.expected_stars]
    sure = [(f"{100 * one.lower:.0f}–{share(one.upper)}", one.rows) for one in report.certainty]
    lowest = next((at for at, (_, rows) in enumerate(sure) if rows), 0)
    figures = (
        ("Rows by label", list(report.by_label.items())),
        ("Expected stars", stars),
        ("Confidence (most likely label)", sure[lowest:]),
    )
    filled = [
        (title, bars, max(rows for _, rows in bars), sum(rows for _, rows in bars))
        for title, bars in figures
        if any(rows for _, rows in bars)
    ]
    return render("classify/summary.html.jinja", figures=filled, notes=[*_gaps(report), *report.notes])


def _gaps(report: FileReport) -> list[str]:
    """What is missing in the result, or cut."""
    gaps = [f"{plural(rows, 'row')} without a prediction: {why}." for why, rows in report.without_prediction.items()]
    for skipped in report.skipped:
        lines = ", ".join(f"{line:,}" for line in skipped.first_lines)
        gaps.append(f"{plural(skipped.rows, 'row')} left out, because of {skipped.reason} (line {lines}).")
    if report.truncated:
        gaps.append(f"{report.truncated:,} reviews are longer than the adapter reads; their ends were cut off.")
    return gaps


def view_metrics(report: FileReport) -> str:
    """The predictions against the true labels of the file: metrics with their intervals, and the confusion matrix."""
    test = report.final.get("test")
    if not test:
        return view_quiet(report.judged)
    rows = []
    for name, (title, form) in METRICS.items():
        value, ends = getattr(test, name), test.intervals.get(name)
        if value is not None:
            rows.append((title, metric(value, form), " to ".join(metric(end, form) for end in ends) if ends else ""))
    if test.calibration:
        rows.append(("Calibration error", number(test.calibration.ece), ""))
    confusion = view_confusion(test.labels, test.confusion, report.ordinal)
    return render("classify/metrics.html.jinja", report=report, rows=rows, confusion=confusion)
