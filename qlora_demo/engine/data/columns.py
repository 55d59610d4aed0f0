"""Rows to texts and label values: which columns hold them, titles joined, empty texts counted; nothing but these is
kept.

Knows neither scales nor splits.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError
from ...core.format import size
from ...core.records import NO_COLUMN, Columns
from .labels import MOST_LABELS, find_scale, label_text, stars_of
from .packed_texts import PackedTexts, pack
from .reading.chunks import SHOWN_LINES, Chunk, Tally
from .reading.dialects import LABEL_NAMES, TEXT_NAMES, TITLE_NAMES, Asked
from .reading.tables import Rows, Table, open_table
from .repair import repair

MAX_HELD_BYTES = 1 << 30
_MOST_VALUES = 100_000
ALL_FOUND = Columns()


@dataclass(frozen=True)
class Places:
    """The columns that were found; title and label "" where there is none. notes: sentences about how."""

    text: str
    title: str
    label: str
    notes: tuple[str, ...] = ()


class LabelValues:
    """Each label value met gets a number (a code); with its first lines. One for all splits.

    values: the label by code, None where the cell says nothing; lines: its first lines, by code."""

    def __init__(self) -> None:
        self.values: list[str | None] = []
        self.lines: list[list[int]] = []
        self._codes: dict[Any, int] = {}
        self._open: set[int] = set()  # codes with fewer first lines than are kept

    def codes(self, cells: Sequence[Any], lines: Sequence[int], where: str) -> list[int]:
        """The codes of `cells`, which stand on these lines of the file `where`. Raises DataError for too many."""
        keys = [cell if cell.__class__ is str else (cell.__class__, str(cell)) for cell in cells]
        for key, cell in dict(zip(keys, cells, strict=True)).items():
            if key not in self._codes:
                self._add(key, label_text(cell), where)
        codes = [self._codes[key] for key in keys]
        if not self._open.isdisjoint(codes):
            for code, line in zip(codes, lines, strict=True):
                if code in self._open:
                    self.lines[code].append(line)
                    if len(self.lines[code]) == SHOWN_LINES:
                        self._open.remove(code)
        return codes

    def _add(self, key: Any, label: str | None, where: str) -> None:
        if len(self.values) >= _MOST_VALUES:
            raise DataError(
                f"{where} has more than {_MOST_VALUES:,} different labels; name the column of 2 to {MOST_LABELS}"
                " labels."
            )
        self._codes[key] = len(self.values)
        self._open.add(len(self.values))
        self.values.append(label)
        self.lines.append([])


@dataclass(frozen=True)
class Gathered:
    """Side by side: the texts, the codes of their label values (-1 without a label column), and a hash of each text
    without its title.
    """

    texts: PackedTexts
    codes: NDArray[np.int32]
    hashes: NDArray[np.int64]
    tally: Tally


@contextmanager
def _without_collector() -> Iterator[None]:
    """Millions of rows that hold no cycles: looking for cycles among them again and again takes two thirds of the
    time.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@_without_collector()
def gather(table: Table | Rows, places: Places, values: LabelValues, *, fix: bool = False) -> Gathered:
    """All texts of `table`. Raises DataError, also where they would take more memory than MAX_HELD_BYTES."""
    text, title, label = (
        table.columns.index(name) if name else -1 for name in (places.text, places.title, places.label)
    )
    tally, held_bytes = Tally(), 0
    packed: list[Any] = []
    codes, hashes = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for chunk in table.chunks():
        rows, lines = chunk.rows, chunk.lines
        bodies, texts = read_texts(rows, text, title, fix)
        if not all(texts):
            for line, whole in zip(lines, texts, strict=True):
                if not whole:
                    tally.add("empty text", line)
            rows, lines = list(compress(rows, texts)), list(compress(lines, texts))
            bodies, texts = list(compress(bodies, texts)), list(filter(None, texts))
        if held_bytes > MAX_HELD_BYTES:
            raise DataError(
                f"{table.name} holds more than {size(MAX_HELD_BYTES)} of reviews; give a part of it, such as its first "
                f"{sum(map(len, packed)):,} rows."
            )
        packed.append(pack(texts))
        held_bytes += packed[-1].nbytes
        hashes.append(np.fromiter(map(hash, bodies), np.int64, len(bodies)))
        label_codes = values.codes([row[label] for row in rows], lines, table.name) if label >= 0 else [-1] * len(rows)
        codes.append(np.array(label_codes, np.int32))
    tally.add_all(table.tally)
    return Gathered(PackedTexts(packed), np.concatenate(codes), np.concatenate(hashes), tally)


def read_texts(rows: list[list[Any]], text: int, title: int, fix: bool) -> tuple[list[str], list[str]]:
    """(the column `text`, the same with the column `title` before each; -1 = no titles), as stripped text."""
    bodies = _texts(rows, text, fix)
    if title < 0:
        return bodies, bodies
    heads = _texts(rows, title, fix)
    return bodies, [
        f"{head}\n\n{body}" if head and body else head or body for head, body in zip(heads, bodies, strict=True)
    ]


def _texts(rows: list[list[Any]], column: int, fix: bool) -> list[str]:
    """The column as stripped text; "" where a value is missing."""
    try:
        texts = [row[column].strip() for row in rows]
        if texts and not isinstance(texts[0], str):
            raise AttributeError
    except AttributeError:
        texts = [_as_text(row[column]) for row in rows]
    return [repair(text).strip() for text in texts] if fix else texts


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    return "" if value is None or value != value else str(value).strip()


def open_as(path: Path, columns: Columns) -> Table:
    """The file, read as `columns` say it is written. Raises DataError."""
    return open_table(path, Asked(columns.encoding, columns.delimiter, columns.header))


def find_places(table: Table | Rows, columns: Columns, need_label: bool = True) -> Places:
    """The columns of text, title and label: as named, else by known names, else by what they hold. Raises DataError."""
    names, notes = table.columns, []
    if not names:
        raise DataError(nothing_in(table.name, table.tally))
    lower: dict[str, str] = {}
    for name in names:
        lower.setdefault(str(name).strip().lower(), name)

    def named(chosen: str, known: tuple[str, ...], what: str) -> str:
        if chosen and chosen not in names:
            raise DataError(
                f"There is no column {chosen!r} for the {what}; the columns are {', '.join(map(str, names))[:300]}."
            )
        return chosen or next((lower[name] for name in known if name in lower), "")

    text = named(columns.text, TEXT_NAMES, "text")
    title = "" if columns.title == NO_COLUMN else named(columns.title, TITLE_NAMES, "title")
    label = named(columns.label, LABEL_NAMES, "label")
    if not text or not label:
        chunk = next(iter(table.chunks()), Chunk([], []))
        cells = {
            name: [row[i] for row in chunk.rows[:1000]]
            for i, name in enumerate(names)
            if name not in (text, title, label)
        }
        if not label and (label := _scaled(cells)):
            notes.append(f"No column has a known name for the label; {label!r} was taken, because of what it holds.")
            cells.pop(label)
        if not text and (text := _longest(cells)):
            notes.append(
                f"No column has a known name for the text; {text!r} was taken, the one with the longest texts."
            )
    listing = ", ".join(map(str, names))[:300]
    if not text:
        raise DataError(f"No column looks like the text; the columns are {listing}: name it.")
    if not label and need_label:
        raise DataError(f"No column looks like the label; the columns are {listing}: name it.")
    if text == label:
        raise DataError(f"The column {text!r} cannot be both text and label; name two columns.")
    return Places(text, "" if title == text else title, label, tuple(notes))


def _longest(cells: dict[str, list[Any]]) -> str:
    """The column of the longest texts: the only one left, unless it holds numbers, or one of sentences rather than of
    names and codes.
    """
    texts = {
        name: [value.strip() for value in values if isinstance(value, str) and value.strip()]
        for name, values in cells.items()
    }
    lengths = {name: sum(map(len, values)) / len(values) for name, values in texts.items() if values}
    best = max(lengths, key=lambda name: lengths[name], default="")
    if not best:
        return ""
    if len(cells) == 1:
        return best if any(stars_of(value) is None for value in texts[best]) else ""
    return best if lengths[best] >= 12 and sum(" " in value for value in texts[best]) > len(texts[best]) / 3 else ""


def _scaled(cells: dict[str, list[Any]]) -> str:
    """The column that holds stars, or words from bad to good: the only one, or the only one of stars; "" where that
    does not tell.
    """
    fitting: dict[str, bool] = {}
    for name, values in cells.items():
        counts = Counter(label for value in values if (label := label_text(value)) is not None)
        if not 1 < len(counts) <= MOST_LABELS:
            continue
        try:
            scale = find_scale(counts, name)
        except DataError:
            continue
        numbers = [stars_of(label) for label in scale.index]
        if (
            scale.ordinal
            and len(set(scale.index.values())) > 1
            and all(number is None or 0 <= number <= 5 for number in numbers)
        ):
            fitting[name] = None not in numbers
    of_stars = [name for name, numbered in fitting.items() if numbered]
    return of_stars[0] if len(of_stars) == 1 else next(iter(fitting)) if len(fitting) == 1 else ""


def nothing_in(name: str, tally: Tally) -> str:
    """The sentence about a file without one usable row."""
    left_out = [
        f"{rows:,} left out: {reason} (line {tally.lines[reason][0]:,})" for reason, rows in tally.counts.items()
    ]
    why = f" ({'; '.join(left_out[:3])})" if left_out else ""
    return f"{name} holds no reviews{why}; give a file with a text and a label in each row."
