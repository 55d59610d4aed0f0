"""A CSV file rewritten with more columns: read in a stream, written beside and renamed into place at the end.

Knows nothing of classifiers. UTF-8; the delimiter is the one that the header uses most.
"""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ..errors import DataError

_TEXT_NAMES = ("text", "review", "review_text", "reviewtext", "review_body", "body", "content", "comment", "verified_reviews", "sentence")
_CELL_CHARACTERS = 10_000_000


@dataclass(frozen=True)
class Row:
    """One row of the input: its cells, and the text among them."""

    cells: list[str]
    text: str


class Table:
    """The file being rewritten; see `rewrite`."""

    def __init__(self, path: Path, source: TextIO, target: TextIO, column: str | None):
        first = source.readline()
        source.seek(0)
        delimiter = max(",;\t|", key=first.count)
        self._path = path
        self._reader = csv.reader(source, delimiter=delimiter)
        self._writer = csv.writer(target, delimiter=delimiter, lineterminator="\n")
        self._head = next(self._reader, [])
        if not self._head:
            raise DataError(f"{path} is empty; give a file with a header line and a column of texts.")
        self._column = self._find(column)
        self._added = 0

    def write_header(self, names: list[str]) -> None:
        """The input's columns, then `names`; a name that the input has already gets `predicted_` before it."""
        added = []
        for name in names:
            while name in self._head or name in added:
                name = f"predicted_{name}"
            added.append(name)
        self._added = len(added)
        self._writer.writerow([*self._head, *added])

    def batches(self, size: int) -> Iterator[list[Row]]:
        """The rows, at most `size` at a time; blank lines are passed over. Raises DataError for a row that does not fit the header."""
        rows = (self._row(cells) for cells in self._reader if cells)
        return iter(lambda: list(itertools.islice(rows, size)), [])

    def write(self, row: Row, cells: list[str]) -> None:
        """The row with its new cells; [] leaves them empty."""
        self._writer.writerow([*row.cells, *(cells or [""] * self._added)])

    def _row(self, cells: list[str]) -> Row:
        if len(cells) > len(self._head):
            where = f"{self._path} line {self._reader.line_num}"
            raise DataError(f"{where} has {len(cells)} cells, the header {len(self._head)}; quote the texts that hold the delimiter.")
        cells = cells + [""] * (len(self._head) - len(cells))
        return Row(cells, cells[self._column])

    def _find(self, column: str | None) -> int:
        if column is not None:
            if column in self._head:
                return self._head.index(column)
            raise DataError(f"{self._path} has no column {column!r}; it has {', '.join(self._head)[:200]}.")
        lower = [name.strip().lower() for name in self._head]
        for name in _TEXT_NAMES:
            if name in lower:
                return lower.index(name)
        if len(self._head) == 1:
            return 0
        raise DataError(f"{self._path} has no column called text or review; name it with --text, of {', '.join(self._head)[:200]}.")


@contextmanager
def rewrite(source: Path, target: Path, column: str | None) -> Iterator[Table]:
    """`source` as a Table that writes to `target`; on any error nothing is left of it. Raises DataError."""
    if target.is_dir() or os.path.realpath(source) == os.path.realpath(target):
        raise DataError(f"The output {target} is the input or a folder; give another file.")
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    before = csv.field_size_limit(_CELL_CHARACTERS)
    try:
        with source.open(encoding="utf-8-sig", newline="") as reading, draft.open("w", encoding="utf-8", newline="") as writing:
            yield Table(source, reading, writing, column)
        draft.replace(target)
    except UnicodeDecodeError:
        raise DataError(f"{source} is not UTF-8; save it as UTF-8.") from None
    except csv.Error as error:
        raise DataError(f"{source} is not a CSV file: {error}.") from None
    except OSError as error:
        raise DataError(f"{error.filename or target} cannot be read or written: {error.strerror}.") from None
    finally:
        csv.field_size_limit(before)
        with suppress(OSError):
            draft.unlink(missing_ok=True)
