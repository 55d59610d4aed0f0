"""One reader for every file of rows, however messy, in chunks and bounded memory: CSV, JSON lines, JSON, Parquet,
packed or not.

Rows come with all their columns, in order. A row that cannot be read is left out and counted, with its reason and line.
Knows neither texts nor labels.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ....core.errors import DataError
from . import csv_rows, json_rows
from .chunks import CHUNK_ROWS, LINE_CHARACTERS, Chunk, Row, Tally
from .dialects import AS_FOUND, Asked, Dialect, find_dialect
from .unpacking import MAX_UNPACKED_BYTES, Packed, detect_packing


class Table:
    """An opened file. `columns` and `dialect` are known at once; `tally` and `late` (columns that begin after the first
    rows) fill while `chunks()` are read, and begin anew with each reading."""

    def __init__(self, packed: Packed, dialect: Dialect):
        self.name = packed.path.name
        self.dialect = dialect
        self.tally = Tally()
        self.late: set[str] = set()
        self._packed = packed
        self.columns = dialect.columns or self._first_columns()

    def chunks(self) -> Iterator[Chunk]:
        """All rows. Raises DataError where the rest of the file cannot be read."""
        self.tally, self.late = Tally(), set()
        kind = self.dialect.kind
        if kind == "csv":
            yield from csv_rows.read(self._lines(), self.dialect, self.tally)
        elif kind == "parquet":
            yield from self._parquet()
        else:
            yield from self._in_columns(self._objects())

    def _first_columns(self) -> tuple[str, ...]:
        """Of a file whose rows name their own columns: every key of the first rows, in the order met."""
        if self.dialect.kind == "parquet":
            with self._packed.seekable() as file:
                return tuple(self._open_parquet(file).schema_arrow.names)
        names: dict[str, None] = {}
        for rows, _ in self._objects():
            for row in rows:
                names.update(dict.fromkeys(row))
            if names:
                break
        return tuple(names)

    def _objects(self) -> json_rows.Found:
        lines = self.dialect.kind == "jsonl"
        return (
            json_rows.read_lines(self._lines(), self.tally)
            if lines
            else json_rows.read(self._texts(), self.name, self.tally)
        )

    def _in_columns(self, chunks: json_rows.Found) -> Iterator[Chunk]:
        columns, known = self.columns, set(self.columns)
        for rows, lines in chunks:
            for row in rows:
                if not row.keys() <= known and len(self.late) < 20:
                    self.late |= row.keys() - known
            yield Chunk([[row.get(name) for name in columns] for row in rows], lines)

    def _texts(self) -> Iterator[str]:
        """The file decoded, every line end a newline, the mark at its beginning dropped."""
        assert self.dialect.encoding is not None
        name, errors = self.dialect.encoding.name, self.dialect.encoding.errors
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(name)(errors), translate=True)
        for block in self._packed.blocks():
            yield decoder.decode(block)
        try:
            yield decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            yield "\ufffd"

    def _lines(self) -> Iterator[tuple[int, list[str], bool]]:
        """(number of the first, lines without their ends, whether a quote is in any), a block at a time; too long ones
        are cut short.
        """
        carry, number = "", 1
        for text in self._texts():
            lines = (carry + text).split("\n")
            carry = lines.pop()
            if len(carry) > LINE_CHARACTERS:
                carry = carry[: LINE_CHARACTERS + 1]
            if lines:
                yield number, lines, '"' in text or '"' in lines[0]
                number += len(lines)
        if carry:
            yield number, [carry], '"' in carry

    def _open_parquet(self, file: Any) -> Any:
        import pyarrow
        from pyarrow import parquet

        try:
            table = parquet.ParquetFile(file)
            unpacked = sum(table.metadata.row_group(i).total_byte_size for i in range(table.num_row_groups))
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise DataError(
                f"{self.name} is not a readable .parquet file: {str(error).splitlines()[0][:120]}."
            ) from None
        if unpacked > MAX_UNPACKED_BYTES:
            raise DataError(f"{self.name} unpacks to {unpacked / 2**30:.0f} GiB; give a part of it.")
        return table

    def _parquet(self) -> Iterator[Chunk]:
        import pyarrow

        first = 1
        with self._packed.seekable() as file:
            try:
                for batch in self._open_parquet(file).iter_batches(CHUNK_ROWS):
                    rows = [list(row) for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]
                    yield Chunk(rows, range(first, first + len(rows)))
                    first += len(rows)
            except (pyarrow.ArrowException, OSError, ValueError) as error:
                sentence = str(error).splitlines()[0][:120]
                raise DataError(f"{self.name} is damaged after row {first - 1:,}: {sentence}.") from None


def open_table(path: Path, asked: Asked = AS_FOUND) -> Table:
    """`path` as a Table. Raises DataError, in one sentence, for what holds no rows."""
    packed = detect_packing(path)
    return Table(packed, find_dialect(packed, asked))


class Rows:
    """Rows in memory, with what a Table has."""

    def __init__(self, name: str, rows: Sequence[Row]):
        self.name, self.dialect, self.tally, self.late = name, Dialect("rows"), Tally(), set[str]()
        self.columns = tuple(dict.fromkeys(key for row in rows[:1000] for key in row))
        self._rows = rows

    def chunks(self) -> Iterator[Chunk]:
        for first in range(0, len(self._rows), CHUNK_ROWS):
            rows = self._rows[first : first + CHUNK_ROWS]
            yield Chunk(
                [[row.get(name) for name in self.columns] for row in rows], range(first + 1, first + 1 + len(rows))
            )
