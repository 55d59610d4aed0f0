"""A classified file as CSV, JSON lines or Parquet: all made, in a stream, from the JSON lines that classifying wrote.

JSON lines and Parquet keep every cell as it was. In the CSV, which people open in spreadsheets, text that would run as
a formula gets an apostrophe before it. Knows neither networks nor jobs."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from ...storage.result_files import PROBABILITY, Layout, Row, read_layout, read_lines, read_rows

_AT_ONCE_ROWS, _AT_ONCE_CHARACTERS = 2_000, 16 << 20
# What Excel, LibreOffice and Google Sheets take for the beginning of a formula (OWASP, "CSV Injection"), full-width
# forms included.
_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER = re.compile(r"[-+]?(\d[\d.,]*|[.,]\d+)([eE][-+]?\d+)?\s?%?")


def write_csv(folder: Path, target: Path, delimiter: str = "", *, mark: bool = False) -> None:
    """`folder`'s rows as CSV in UTF-8; `mark`: with the byte order mark without which Excel takes another encoding.
    Raises OSError.
    """
    layout = read_layout(folder)
    forms = _forms(layout)
    with target.open("w", encoding="utf-8-sig" if mark else "utf-8", newline="") as file:
        writer = csv.writer(_Lines(file), delimiter=delimiter or layout.delimiter)
        writer.writerow(map(harmless, layout.names))
        for row in read_rows(folder):
            writer.writerow(forms[name](row[name]) for name in layout.names)


def write_parquet(folder: Path, target: Path) -> None:
    """`folder`'s rows as Parquet. A column of one type keeps it, whole numbers and fractions become fractions, all else
    text.
    """
    import pyarrow
    from pyarrow import parquet

    layout = read_layout(folder)
    kinds: dict[str, set[str]] = {name: set() for name in layout.names}
    for row in read_rows(folder):
        for name, value in row.items():
            if value is not None:
                kinds[name].add(_kind(value))
    ours = {
        what: "text"
        if what in ("label", "problem")
        else "bool"
        if what == "truncated"
        else "int"
        if what == "stars"
        else "float"
        for what in layout.added
    }
    known = {name: _one_of(types) for name, types in kinds.items()} | {
        layout.added[what]: kind for what, kind in ours.items()
    }
    types = {"text": pyarrow.string(), "bool": pyarrow.bool_(), "int": pyarrow.int64(), "float": pyarrow.float64()}
    schema = pyarrow.schema([(name, types[known[name]]) for name in layout.names])
    with parquet.ParquetWriter(target, schema) as writer:
        for rows in _some_at_once(read_rows(folder)):
            columns = [
                pyarrow.array([_cast(row[name], known[name]) for row in rows], schema.field(name).type)
                for name in layout.names
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))


def write_tsv(folder: Path, target: Path) -> None:
    """As `write_csv`, with tabs."""
    write_csv(folder, target, "\t")


def write_jsonl(folder: Path, target: Path) -> None:
    """`folder`'s rows as they are; a torn last line is left out. Raises OSError."""
    with target.open("wb") as file:
        file.writelines(read_lines(folder))


# By the ending of the output file.
WRITERS: dict[str, Callable[[Path, Path], None]] = {
    "csv": write_csv,
    "tsv": write_tsv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}


def harmless(text: str) -> str:
    """`text` with an apostrophe before it where a spreadsheet would run it; numbers such as -3 and +1.5 are none."""
    return f"'{text}" if text.startswith(_STARTS) and not _NUMBER.fullmatch(text) else text


class _Lines:
    """Rows end in a newline alone; told to, the csv module of Python before 3.13 would leave a carriage return in a
    cell unquoted.
    """

    def __init__(self, file: IO[str]):
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(f"{line[:-2]}\n")


def _forms(layout: Layout) -> dict[str, Callable[[Any], str]]:
    """How each column's values are written in CSV: probabilities with six digits, expected stars with four."""
    forms: dict[str, Callable[[Any], str]] = dict.fromkeys(layout.names, _cell)
    for what, name in layout.added.items():
        if what == "expected_stars":
            forms[name] = lambda value: "" if value is None else f"{value:.4f}"
        elif what.startswith(PROBABILITY):
            forms[name] = lambda value: "" if value is None else f"{value:.6f}"
    return forms


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return harmless(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "text"
    return "float" if isinstance(value, float) else "text"


def _one_of(kinds: set[str]) -> str:
    if len(kinds) == 1:
        return next(iter(kinds))
    return "float" if kinds == {"int", "float"} else "text"


def _cast(value: Any, kind: str) -> Any:
    if value is None or kind != "text":
        return float(value) if kind == "float" and value is not None else value
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _some_at_once(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Rows in parts of bounded size, however long their cells are."""
    part: list[Row] = []
    held = 0
    for row in rows:
        part.append(row)
        held += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(part) == _AT_ONCE_ROWS or held > _AT_ONCE_CHARACTERS:
            yield part
            part, held = [], 0
    if part:
        yield part
