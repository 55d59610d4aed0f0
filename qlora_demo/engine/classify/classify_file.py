"""A file of reviews classified in windows of bounded size: each row is written with what the network says of it, in the
file's order.

Every row that can be read keeps its place and its cells, also one without a prediction, with the reason. Where the file
has right labels, the network is evaluated on them. Knows neither jobs nor pages."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from datetime import time as clock
from itertools import takewhile
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from ...core.file_report import FilePreview, FileReport, SkippedRows
from ...core.format import duration, shorten
from ...core.records import NO_COLUMN, Columns, Event, Phase, Prediction
from ...storage.result_files import ROWS, Layout, Row, name_added, to_line
from ..data.columns import Places, find_places, nothing_in, open_as, read_texts
from ..data.reading.dialects import name_columns
from ..data.reading.tables import Table
from .classifier import MAX_CHARACTERS, Classifier
from .file_report import Sums, Truth

FIRST_ROWS, MOST_ROWS = 128, 2_048  # of a window: the first answer comes soon, then batches of like length pay
WINDOW_SECONDS = 5.0  # what a stop may lose
PART_ROWS = 64  # between two looks at whether to stop
SHOWN_CHARACTERS = 200


def open_reviews(path: Path, columns: Columns) -> tuple[Table, Places]:
    """The file, and which of its columns hold text, title and label; a label is not needed. Raises DataError."""
    table, unlabelled = open_as(path, columns), columns.label == NO_COLUMN
    places = find_places(table, replace(columns, label="") if unlabelled else columns, need_label=False)
    return table, replace(places, label="") if unlabelled else places


def preview(path: Path, columns: Columns, rows: int = 5) -> FilePreview:
    """How a file would be read, with its first `rows`, cells cut at SHOWN_CHARACTERS. Raises DataError."""
    table, places = open_reviews(path, columns)
    first = next(iter(table.chunks()), None)
    if first is None:
        raise DataError(nothing_in(table.name, table.tally))
    dialect = table.dialect
    return FilePreview(
        columns=tuple(table.columns),
        text_column=places.text,
        title_column=places.title,
        label_column=places.label,
        kind=dialect.kind,
        encoding=dialect.encoding.name if dialect.encoding else None,
        delimiter=dialect.delimiter,
        header=dialect.header,
        notes=tuple(places.notes),
        rows=tuple(
            tuple("" if cell is None else shorten(str(cell), SHOWN_CHARACTERS) for cell in row)
            for row in first.rows[:rows]
        ),
    )


def classify_file(
    path: Path,
    columns: Columns,
    classifier: Classifier,
    folder: Path,
    *,
    base: bool = False,
    calibrated: bool = False,
    emit: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    on_predictions: Callable[[Sequence[Prediction]], None] = lambda predictions: None,
    adapter: str = "",
) -> FileReport:
    """Classifies every row of `path` into `folder` (storage/result_files.py); `base`, `calibrated`: see Classifier.

    A stop keeps the rows written so far, the first ones of the file. Raises DataError, OSError.
    """
    table, places = open_reviews(path, columns)
    emit(Phase("read", f"counting the rows of {table.name}"))
    total = sum(len(chunk.rows) for chunk in takewhile(lambda chunk: not should_stop(), table.chunks()))
    if not total and not should_stop():
        raise DataError(nothing_in(table.name, table.tally))
    skipped, notes = _skipped(table), (*places.notes, *_late(table))
    layout = _lay_out(table, places, tuple(classifier.labels))
    layout.write(folder)
    progress, sums, truth = _Progress(total, emit), Sums(layout.labels), Truth(table.name, table.columns, places)
    stopped = False
    # What is half a character, deep in a cell of JSON, becomes a question mark.
    with (folder / ROWS).open("w", encoding="utf-8", errors="replace") as file:
        for rows, lines in _windows(table, progress.window):
            texts = join_texts(rows, table.columns, places)
            problems = [problem_of(one) for one in texts]
            answers = _answers(classifier, texts, problems, base, calibrated, should_stop)
            if answers is None:
                stopped = True
                break
            file.writelines(map(to_line, _complete(layout, rows, answers, problems)))
            file.flush()  # who looks meanwhile sees whole windows
            sums.add(answers, problems)
            truth.add(rows, lines, answers)
            on_predictions([prediction for prediction in answers if prediction])
            progress.add(len(rows))
    return FileReport(
        adapter=adapter,
        file=table.name,
        rows=total,
        skipped=skipped,
        notes=notes,
        done=progress.done,
        stopped=stopped,
        columns=layout.places,
        added=layout.added,
        labels=layout.labels,
        base=base,
        calibrated=calibrated,
        seconds=round(progress.seconds(), 3),
        reviews_per_second=round(progress.rate(), 1),
        **sums.report(),
        **truth.report(layout.labels, classifier.ordinal),
    )


def join_texts(rows: list[list[Any]], columns: Sequence[str], places: Places) -> list[str]:
    """What is classified of each row: the text with its title before it, as training joins them."""
    title = columns.index(places.title) if places.title else -1
    return read_texts(rows, columns.index(places.text), title, fix=False)[1]


def problem_of(text: str) -> str:
    """Why a text cannot be classified; "" where it can."""
    if not text.strip():
        return "empty"
    return f"longer than {MAX_CHARACTERS:,} characters" if len(text) > MAX_CHARACTERS else ""


def _answers(
    classifier: Classifier,
    texts: list[str],
    problems: list[str],
    base: bool,
    calibrated: bool,
    should_stop: Callable[[], bool],
) -> list[Prediction | None] | None:
    """A prediction for each text without a problem, equal texts classified once, those of like length together; None
    once to stop.
    """
    fit = [text for text, problem in zip(texts, problems, strict=True) if not problem]
    order = sorted(dict.fromkeys(fit), key=len)
    predictions: dict[str, Prediction] = {}
    for start in range(0, len(order), PART_ROWS):
        if should_stop():
            return None
        part = order[start : start + PART_ROWS]
        predictions.update(zip(part, classifier.classify(part, base=base, calibrated=calibrated), strict=True))
    return [None if problem else predictions[text] for text, problem in zip(texts, problems, strict=True)]


def _windows(table: Table, size: Callable[[], int]) -> Iterator[tuple[list[list[Any]], list[int]]]:
    """The rows and their lines, `size()` at a time, whatever chunks the reader makes."""
    rows: list[list[Any]] = []
    lines: list[int] = []
    for chunk in table.chunks():
        rows += chunk.rows
        lines += chunk.lines
        while len(rows) >= (count := size()):
            yield rows[:count], lines[:count]
            del rows[:count], lines[:count]
    while rows:
        count = size()
        yield rows[:count], lines[:count]
        del rows[:count], lines[:count]


def _lay_out(table: Table, places: Places, labels: tuple[str, ...]) -> Layout:
    # A key of JSON may hold half a character.
    names = tuple(str(name).encode("utf-8", "replace").decode() for name in table.columns)
    names = names if len(set(names)) == len(names) else name_columns(names)
    where = {"text": places.text, "title": places.title, "label": places.label}
    return Layout(names, name_added(names, labels), labels, where, table.dialect.delimiter or ",")


def _complete(
    layout: Layout, rows: Sequence[Sequence[Any]], predictions: Sequence[Prediction | None], problems: Sequence[str]
) -> Iterator[Row]:
    for cells, prediction, problem in zip(rows, predictions, problems, strict=True):
        ours: list[Any] = [None] * (len(layout.added) - 1)
        if prediction:
            expected = prediction.expected_stars
            ours = [
                prediction.label,
                prediction.stars,
                None if expected is None else round(expected, 4),
                *(round(prediction.probabilities[label], 6) for label in layout.labels),
                prediction.truncated,
            ]
        yield dict(zip(layout.names, [*map(_plain, cells), *ours, problem or None], strict=True))


def _plain(value: Any) -> Any:
    """A cell as JSON can say it: what is neither text nor number (dates, decimals, bytes of a Parquet file) becomes
    text.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.isoformat() if isinstance(value, date | clock) else str(value)


def _skipped(table: Table) -> tuple[SkippedRows, ...]:
    tally = table.tally
    return tuple(
        SkippedRows(reason=reason, rows=rows, first_lines=tuple(tally.lines[reason]))
        for reason, rows in tally.counts.items()
    )


def _late(table: Table) -> list[str]:
    late = shorten(", ".join(sorted(map(str, table.late))), 200)
    return [f"Columns that begin after the first rows are left out of the result: {late}."] if late else []


class _Progress:
    """How far it is and how fast it goes; sizes the windows so that each takes a few seconds."""

    def __init__(self, total: int, emit: Callable[[Event], None]):
        self.done, self._total, self._emit, self._began = 0, total, emit, time.monotonic()
        self._emit_progress()

    def add(self, rows: int) -> None:
        self.done += rows
        self._emit_progress()

    def window(self) -> int:
        return min(MOST_ROWS, max(FIRST_ROWS, int(self.rate() * WINDOW_SECONDS)))

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def rate(self) -> float:
        return self.done / max(self.seconds(), 1e-9)

    def _emit_progress(self) -> None:
        left = (self._total - self.done) / self.rate() if self.done else None
        words = f", about {duration(left)} left" if left else ""
        self._emit(
            Phase(
                "classify",
                f"{self.done:,} of {self._total:,} rows{words}",
                self.done / max(self._total, 1),
                seconds_left=left,
            )
        )
