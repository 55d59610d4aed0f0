"""Lines to rows of cells: delimiters and quotes, with every row that does not fit left out and counted.

A quote that is never closed costs its own line, not the rest of the file. Knows nothing of files and encodings.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator

from .chunks import CELL_CHARACTERS, CHUNK_ROWS, LINE_CHARACTERS, Chunk, Tally
from .dialects import NO_DELIMITER, Dialect

Lines = Iterator[tuple[int, list[str], bool]]

_QUOTED_LINES = 10_000  # the most lines that one quoted cell may have
_UNCLOSED = "a quote that is not closed"
_BAD_BYTES = re.compile("[\udc80-\udcff]")


def read(batches: Lines, dialect: Dialect, tally: Tally) -> Iterator[Chunk]:
    """The rows below the header, if there is one; those of another length than the columns are left out and counted in
    `tally`.
    """
    reader = _Reader(dialect, tally)
    for first, lines, quoted in batches:
        for start in range(0, len(lines), CHUNK_ROWS):
            yield from reader.chunk(first + start, lines[start : start + CHUNK_ROWS], quoted)
    yield from reader.chunk(0, [], True, last=True)


class _Reader:
    def __init__(self, dialect: Dialect, tally: Tally):
        self._delimiter = dialect.delimiter or NO_DELIMITER
        self._width = len(dialect.columns)
        self._damaged = dialect.encoding is not None and dialect.encoding.bad_lines > 0
        self._encoding = dialect.encoding.name if dialect.encoding else ""
        self._tally = tally
        self._header = bool(dialect.header)
        self._mark = True  # the mark of UTF-8 or UTF-16, where the encoding leaves it in the text
        self._rest: list[str] = []  # lines of a row that is not whole yet
        self._rest_first = 0
        csv.field_size_limit(2 * LINE_CHARACTERS)  # the module's own 131,072 would reject rows that are valid here

    def chunk(self, first: int, lines: list[str], quoted: bool, last: bool = False) -> Iterator[Chunk]:
        """The rows that are whole; `last`: no line will follow."""
        if self._mark and lines:
            lines[0], self._mark = lines[0].removeprefix("\ufeff"), False
        if self._rest:
            first, lines, quoted = self._rest_first, self._rest + lines, True
            self._rest = []
        if not lines:
            return
        rows = self._all_at_once(lines, quoted)
        if rows is not None and not self._header and self._is_clean(rows, lines):
            yield Chunk(rows, range(first, first + len(rows)))  # type: ignore[arg-type]
            return
        good, numbers = [], []
        for number, cells, line in (
            self._one_by_one(first, lines, last)
            if rows is None
            else zip(range(first, first + len(rows)), rows, lines, strict=True)
        ):
            if self._header and (len(cells) > 1 or cells != [""]):
                self._header = False
            elif problem := self._problem(cells, line):
                self._tally.add(problem, number)
            else:
                good.append(cells[: self._width])
                numbers.append(number)
        if good:
            yield Chunk(good, numbers)  # type: ignore[arg-type]

    def _all_at_once(self, lines: list[str], quoted: bool) -> list[list[str]] | None:
        """A row for each line; None where a quoted cell has several lines, or quotes are broken."""
        if not quoted:
            return [line.split(self._delimiter) for line in lines]
        try:
            rows = list(csv.reader(lines, delimiter=self._delimiter, strict=True))
        except csv.Error:
            return None
        return [row or [""] for row in rows] if len(rows) == len(lines) else None

    def _is_clean(self, rows: list[list[str]], lines: list[str]) -> bool:
        """Whether nothing needs a closer look; true of most chunks, so that they cost little."""
        if (
            set(map(len, rows)) != {self._width}
            or (self._width == 1 and [""] in rows)
            or max(map(len, lines)) > CELL_CHARACTERS
        ):
            return False
        text = "".join(lines)
        return "\0" not in text and not (self._damaged and _BAD_BYTES.search(text))

    def _one_by_one(self, first: int, lines: list[str], last: bool) -> Iterator[tuple[int, list[str], str]]:
        """(line number, cells, the row's lines as one) of each row; what is not whole at the end is kept for the next
        chunk.
        """
        at = 0
        while at < len(lines):
            cells, taken = ([], 1) if '"' not in lines[at] else self._quoted(lines, at, last)
            if not taken:
                self._rest, self._rest_first = lines[at:], first + at
                return
            yield (
                first + at,
                cells or lines[at].split(self._delimiter),
                lines[at] if taken == 1 else "\n".join(lines[at : at + taken]),
            )
            at += taken

    def _quoted(self, lines: list[str], at: int, last: bool) -> tuple[list[str], int]:
        """(cells, lines taken) of the row that begins at line `at`; 0 lines where more are needed to decide."""
        taken = size = 0

        def feed() -> Iterator[str]:
            nonlocal taken, size
            while at + taken < len(lines) and taken < _QUOTED_LINES and size <= CELL_CHARACTERS:
                size += len(lines[at + taken])
                taken += 1
                yield f"{lines[at + taken - 1]}\n"

        try:
            return next(csv.reader(feed(), delimiter=self._delimiter, strict=True)), taken
        except csv.Error:
            open_still = at + taken == len(lines) and taken < _QUOTED_LINES and size <= CELL_CHARACTERS
            if open_still and not last and not self._closes_oddly(lines, at, taken):
                return [], 0
        # The line alone, read as leniently as can be: quotes inside a text are common.
        return next(csv.reader([lines[at]], delimiter=self._delimiter)), 1

    def _closes_oddly(self, lines: list[str], at: int, taken: int) -> bool:
        """Whether the quotes are wrong already, so that no further line would make them right."""
        try:
            next(csv.reader((f"{line}\n" for line in lines[at : at + taken]), delimiter=self._delimiter, strict=True))
        except csv.Error as error:
            return not str(error).startswith("unexpected end")
        return False

    def _problem(self, cells: list[str], line: str) -> str:
        """Why the row is left out; "" where it is not."""
        if len(line) > LINE_CHARACTERS:
            return f"a line of more than {LINE_CHARACTERS:,} characters"
        if "\0" in line:
            return "a NUL character"
        if self._damaged and _BAD_BYTES.search(line):
            return f"bytes that are not {self._encoding}"
        if cells == [""]:
            return "an empty line"
        if len(cells) != self._width and (len(cells) < self._width or any(cells[self._width :])):
            return _UNCLOSED if '"' in line and "\n" not in line and line.count('"') % 2 else self._length(len(cells))
        if len(line) > CELL_CHARACTERS and max(map(len, cells)) > CELL_CHARACTERS:
            return f"a cell of more than {CELL_CHARACTERS:,} characters"
        return ""

    def _length(self, count: int) -> str:
        return f"{'fewer' if count < self._width else 'more'} cells than the {self._width} columns"
