"""report.json of a classified file: what was predicted, and how right it is where the file has labels of its own."""

from __future__ import annotations

from pydantic import Field

from .report import Record, Report
from .run_report import Metrics


class SkippedRows(Record):
    """Rows that the reader left out, for one reason, with the lines of the first ones."""

    reason: str
    rows: int
    first_lines: tuple[int, ...] = ()


class HistogramBin(Record):
    """Rows with a value in [lower, upper)."""

    lower: float
    upper: float
    rows: int


class FilePreview(Record):
    """How a file would be read, and its first rows as text, by column. text_column and the others: "" = none."""

    columns: tuple[str, ...]
    text_column: str
    title_column: str
    label_column: str
    kind: str
    encoding: str | None
    delimiter: str | None
    header: bool | None
    notes: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class FileReport(Report):
    """All that is kept of a classified file, beside its rows.

    rows: in the file; done: passed through, fewer where it was stopped; without_prediction: rows by reason. columns:
    which hold text, title and label; added: the names of the result's own columns, by what they hold. by_label: rows
    predicted as each. expected_stars: empty where labels are not ordinal; certainty: the likeliest label's probability.
    final: {"test": ...} where the file has labels, {} where not; judged: a sentence on how, or why not."""

    adapter: str = ""
    file: str
    rows: int
    done: int
    classified: int
    without_prediction: dict[str, int] = Field({})
    skipped: tuple[SkippedRows, ...] = ()
    stopped: bool = False
    columns: dict[str, str] = Field({})
    added: dict[str, str] = Field({})
    labels: tuple[str, ...] = ()
    ordinal: bool = True
    base: bool = False
    calibrated: bool = False
    by_label: dict[str, int] = Field({})
    expected_stars: tuple[HistogramBin, ...] = ()
    certainty: tuple[HistogramBin, ...] = ()
    truncated: int = 0
    seconds: float = 0.0
    reviews_per_second: float = 0.0
    notes: tuple[str, ...] = ()
    final: dict[str, Metrics] = Field({})
    judged: str = ""
