"""JSON to rows: an object on each line, or an array of objects read piece by piece, so that a file of any length fits.

Knows nothing of files and encodings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ....core.errors import DataError
from .chunks import CELL_CHARACTERS, CHUNK_ROWS, LINE_CHARACTERS, Row, Tally

Found = Iterator[tuple[list[Row], Sequence[int]]]

_COLUMNS_CHARACTERS = 256 << 20  # a file written column by column must be read whole
_SPACE = re.compile(r"[ \t\n\r]*")
_NO_OBJECT = "a value that is no object"
_TOO_DEEP = "JSON that is nested too deep"
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_BAD_BYTES = re.compile("[\udc80-\udcff]")


def read_lines(batches: Iterator[tuple[int, list[str], bool]], tally: Tally) -> Found:
    """(rows, their lines) of JSON lines; a line that is no object is left out and counted."""
    for first, lines, _ in batches:
        for start in range(0, len(lines), CHUNK_ROWS):
            part = lines[start : start + CHUNK_ROWS]
            rows = _all_at_once(",".join(part), len(part))
            if rows is not None:
                yield rows, range(first + start, first + start + len(rows))
            else:
                yield _one_by_one(part, first + start, tally)


def _all_at_once(items: str, count: int = 0) -> list[Row] | None:
    """The objects in `items`, separated by commas; None where anything needs a closer look, or they are not `count`."""
    try:
        rows = json.loads(f"[{items}]")
    except (ValueError, RecursionError):
        return None
    if (count and len(rows) != count) or any(row.__class__ is not dict for row in rows):
        return None
    return None if (len(items) > CELL_CHARACTERS and _long_cell(rows)) or _may_hold_no_text(items) else rows


def _one_by_one(lines: list[str], first: int, tally: Tally) -> tuple[list[Row], list[int]]:
    rows, numbers = [], []
    for number, line in enumerate(lines, first):
        try:
            row = json.loads(line)
        except RecursionError:
            tally.add(_TOO_DEEP, number)
            continue
        except ValueError:
            tally.add(_why_not(line), number)
            continue
        if problem := _problem(row, line):
            tally.add(problem, number)
        else:
            rows.append(row)
            numbers.append(number)
    return rows, numbers


def _why_not(line: str) -> str:
    if not line.strip("\ufeff \t"):
        return "an empty line"
    return (
        f"a line of more than {LINE_CHARACTERS:,} characters"
        if len(line) > LINE_CHARACTERS
        else "a line that is not JSON"
    )


def _problem(row: Any, source: str) -> str:
    """Why a row is left out; "" where it is not. source: the JSON it stood in."""
    if not isinstance(row, dict):
        return _NO_OBJECT
    if len(source) > CELL_CHARACTERS and _long_cell([row]):
        return f"a cell of more than {CELL_CHARACTERS:,} characters"
    if _may_hold_no_text(source) and any(isinstance(cell, str) and _NO_TEXT.search(cell) for cell in row.values()):
        return "characters that are no text (NUL, half a pair, or bytes of another encoding)"
    return ""


def _long_cell(rows: list[Row]) -> bool:
    return any(isinstance(cell, str) and len(cell) > CELL_CHARACTERS for row in rows for cell in row.values())


def _may_hold_no_text(source: str) -> bool:
    if "\0" in source or ("\\u" in source and _ESCAPED.search(source)):
        return True
    return not source.isascii() and bool(_BAD_BYTES.search(source))


def read(texts: Iterator[str], name: str, tally: Tally) -> Found:
    """(rows, their numbers from 1) of an array of objects, of an object that holds one, of objects one after the other,
    or of columns.

    Raises DataError where the JSON is broken: what follows cannot be separated into rows then.
    """
    first = 1
    rows: list[Row] = []
    numbers: list[int] = []
    for values, source in _objects(_Text(texts, name)):
        for number, row in enumerate(values, first):
            if problem := _problem(row, source):
                tally.add(problem, number)
            else:
                rows.append(row)
                numbers.append(number)
        first += len(values)
        if len(rows) >= CHUNK_ROWS:
            yield rows, numbers
            rows, numbers = [], []
    if rows:
        yield rows, numbers


class _Text:
    """The text from where it was read to, filled up as needed."""

    def __init__(self, texts: Iterator[str], name: str):
        self._texts, self._name = texts, name
        self._text, self._at, self.line = "", 0, 1
        self.passed, self._tries = 0, 4
        self._decoder = json.JSONDecoder()
        self.peek()
        if self._text.startswith("\ufeff"):
            self._at = 1

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            end = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            self.line += self._text.count("\n", self._at, end)
            self._at = end
            if self._at < len(self._text) or not self._fill():
                return self._text[self._at : self._at + 1]

    def take(self, *expected: str) -> str:
        """The next character, which must be one of `expected`."""
        letter = self.peek()
        if letter not in expected:
            raise self.broken(f"{' or '.join(map(repr, expected))} is missing" if letter else "it ends too early")
        self._at += 1
        return letter

    def items(self) -> tuple[list[Any], str] | None:
        """(all whole objects at hand, ""), past the comma behind them; None where they take a closer look."""
        self.peek()
        end = len(self._text)
        for _ in range(self._tries):
            # A comma behind a brace may also stand inside an object or a text: then an earlier one may do.
            end = self._text.rfind("},", self._at, end) + 1
            if end <= self._at:
                break
            rows = _all_at_once(self._text[self._at : end])
            if rows is not None:
                self._move(end + 1)
                return rows, ""
        self._tries = 0
        return None

    def value(self) -> tuple[Any, str]:
        """(the next value, its JSON)."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                # A number at the end of what is there may go on.
                if end < len(self._text) or not self._fill():
                    return self._passed(value, end)
            except RecursionError:
                raise self.broken("it is nested too deep") from None
            except json.JSONDecodeError as error:
                early = error.pos < len(self._text) - 20 and not error.msg.startswith("Unterminated string")
                if early:
                    raise self.broken(error.msg) from None
                if len(self._text) - self._at > LINE_CHARACTERS:
                    raise self.broken(f"a value of more than {LINE_CHARACTERS:,} characters begins") from None
                if not self._fill():
                    raise self.broken("it ends too early") from None
            except ValueError as error:
                raise self.broken(str(error)[:80]) from None

    def broken(self, why: str) -> DataError:
        return DataError(
            f"{self._name} is not a readable .json file: {why} at line {self.line:,}; fix it, or give JSON Lines."
        )

    def _passed(self, value: Any, end: int) -> tuple[Any, str]:
        source = self._text[self._at : end]
        self._move(end)
        return value, source

    def _move(self, end: int) -> None:
        self.line += self._text.count("\n", self._at, end)
        self.passed += end - self._at
        self._at = end

    def _fill(self) -> bool:
        """As much again as is left, so that a long value is looked at few times; False at the end."""
        left = self._text[self._at :]
        parts, size = [left], 0
        while size <= len(left):
            text = next(self._texts, None)
            if text is None:
                break
            parts.append(text)
            size += len(text)
        self._text, self._at, self._tries = "".join(parts), 0, 4
        return size > 0


Items = tuple[list[Any], str]  # values, and their JSON where it must be looked at


def _objects(text: _Text) -> Iterator[Items]:
    if text.peek() == "[":
        yield from _items(text)
        if text.peek() == "[":
            raise text.broken("a second array follows")
    while text.peek() == "{":
        yield from _object(text)
    if text.peek():
        raise text.broken("something follows the last value")


def _items(text: _Text) -> Iterator[Items]:
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        return
    while True:
        while (several := text.items()) is not None:
            yield several
        value, source = text.value()
        yield [value], source
        if text.take(",", "]") == "]":
            return


def _object(text: _Text) -> Iterator[Items]:
    """The rows in one object: those of the first array of objects that it holds, else of its columns, else itself."""
    members: dict[str, Any] = {}
    before = text.passed
    text.take("{")
    while text.peek() != "}":
        key = text.value()[0]
        if not isinstance(key, str):
            raise text.broken("a name is no string")
        text.take(":")
        if text.peek() == "[":
            # Whether it is rows or a column, its first item decides.
            items = _items(text)
            values, source = next(items, ([], ""))
            if values and isinstance(values[0], dict):
                yield values, source
                yield from items
                _pass_over_rest(text)
                return
            members[key] = values
            for more, _ in items:
                values += more
                _refuse_long(text, before)
        else:
            members[key] = text.value()[0]
            _refuse_long(text, before)
        if text.peek() != "}":
            text.take(",")
    text.take("}")
    yield _rows_of(members), "\\u0000"


def _refuse_long(text: _Text, before: int) -> None:
    if text.passed - before > _COLUMNS_CHARACTERS:
        raise text.broken(f"it is one object of more than {_COLUMNS_CHARACTERS:,} characters")


def _pass_over_rest(text: _Text) -> None:
    """What follows the rows in their object: facts about them, never a second array of rows."""
    while text.take(",", "}") == ",":
        key = text.value()[0]
        text.take(":")
        value = text.value()[0]
        if isinstance(value, list) and value and isinstance(value[0], dict):
            raise text.broken(f"it holds a second array of rows, {str(key)[:40]!r},")


def _rows_of(columns: dict[str, Any]) -> list[Any]:
    """Columns as arrays of one length, or by row names as pandas writes them; rows by name; else one row."""
    values = list(columns.values())
    if values and all(isinstance(value, list) for value in values) and len(set(map(len, values))) == 1:
        return [dict(zip(columns, cells, strict=True)) for cells in zip(*values, strict=True)]
    if values and all(isinstance(value, dict) and value for value in values):
        numbered = all(name.isdigit() for name in values[0]) and all(
            value.keys() == values[0].keys() for value in values
        )
        return [{key: cells[name] for key, cells in columns.items()} for name in values[0]] if numbered else values
    return [columns]
