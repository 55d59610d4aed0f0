"""A classified file as it lies in a job's folder: one JSON line a row, and which columns are the input's and which
ours.

The lines are the truth; CSV and Parquet are made from them (engine/classify/exporting.py). Knows neither who writes nor
who reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

ROWS, LAYOUT = "predictions.jsonl", "columns.json"
CSV, PARQUET = "predictions.csv", "predictions.parquet"
PROBABILITY = "probability_"
Row = Mapping[str, object]  # a row by column; the input's cells are whatever JSON holds


@dataclass(frozen=True)
class Layout:
    """The columns of a result: the input's, then `added`: what it tells (label, stars, ..., problem) to the column's
    name.

    places: the columns of text, title and label, "" where there is none. delimiter: of its CSV.
    """

    columns: tuple[str, ...]
    added: dict[str, str]
    labels: tuple[str, ...]
    places: dict[str, str]
    delimiter: str = ","

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.columns, *self.added.values())

    def write(self, folder: Path) -> None:
        (folder / LAYOUT).write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_layout(folder: Path) -> Layout:
    """As `Layout.write` wrote it. Raises OSError, ValueError."""
    found = json.loads((folder / LAYOUT).read_text(encoding="utf-8"))
    return Layout(tuple(found["columns"]), found["added"], tuple(found["labels"]), found["places"], found["delimiter"])


def name_added(columns: tuple[str, ...], labels: tuple[str, ...]) -> dict[str, str]:
    """What is added to the input's columns, and under which name: one that they have already gets `predicted_` before
    it.
    """
    added: dict[str, str] = {}
    for what in (
        "label",
        "stars",
        "expected_stars",
        *(f"{PROBABILITY}{label}" for label in labels),
        "truncated",
        "problem",
    ):
        name = what
        while name in columns or name in added.values():
            name = f"predicted_{name}"
        added[what] = name
    return added


def read_lines(folder: Path) -> Iterator[bytes]:
    """The lines of the rows written so far; a torn last one is ignored. Raises OSError."""
    with (folder / ROWS).open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


def read_rows(folder: Path) -> Iterator[Row]:
    """The rows written so far, each by column. Raises OSError."""
    yield from map(json.loads, read_lines(folder))


def to_line(row: Row) -> str:
    """One row as a line of JSON, as people read it."""
    return f"{json.dumps(row, ensure_ascii=False)}\n"
