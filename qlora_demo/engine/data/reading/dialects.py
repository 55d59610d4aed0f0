"""How a file of rows is written: kind, encoding, delimiter, header, columns; found by its content, or as the user says.

Looks at the beginning only (but for the encoding, at all of it). Knows nothing of reviews but the names their columns
go by."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ....core.errors import DataError
from .encodings import Encoding, find_encoding, named_encoding
from .unpacking import Packed

TEXT_NAMES = (
    "text",
    "review",
    "review_text",
    "reviewtext",
    "review_body",
    "body",
    "content",
    "comment",
    "verified_reviews",
    "sentence",
)
TITLE_NAMES = ("title", "review_title", "summary", "headline")
LABEL_NAMES = ("label", "stars", "star", "rating", "star_rating", "overall", "score", "sentiment", "class")

DELIMITERS = (",", ";", "\t", "|")
NO_DELIMITER = "\x1f"  # one column: a character that is in no text, because the csv module needs one
HEAD_BYTES = 1 << 18
_SAMPLE_ROWS = 200
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?")


@dataclass(frozen=True)
class Asked:
    """What the user says of a file; empty or None = found."""

    encoding: str = ""
    delimiter: str = ""
    header: bool | None = None


AS_FOUND = Asked()


@dataclass(frozen=True)
class Dialect:
    """kind: csv, jsonl, json or parquet. encoding, delimiter and header are None where they mean nothing.

    columns: distinct names; () where only reading on tells them (JSON, Parquet). guessed: the encoding is a guess from
    the bad lines."""

    kind: str
    packing: str = ""
    encoding: Encoding | None = None
    delimiter: str | None = None
    header: bool | None = None
    columns: tuple[str, ...] = ()
    guessed: bool = False


def find_dialect(packed: Packed, asked: Asked = AS_FOUND) -> Dialect:
    """Raises DataError, in one sentence, for what is no table of text."""
    head = packed.head(HEAD_BYTES)
    if head.startswith(b"PAR1"):
        return Dialect("parquet", packed.packing)
    filename, suffix = packed.path.name, _suffix(packed)
    if suffix == ".parquet" and (b"\0" in head or not head[:200].isascii()):
        raise DataError(f"{filename} is not a readable .parquet file: its first bytes are not those of Parquet.")
    encoding = named_encoding(asked.encoding) if asked.encoding else find_encoding(head, packed.blocks())
    text = _decoded(head, encoding)
    _refuse_no_text(text, filename, suffix)
    guessed = not asked.encoding and encoding.bad_lines > 0 and not encoding.name.startswith("utf")
    if kind := _json_kind(text, suffix):
        return Dialect(kind, packed.packing, encoding, guessed=guessed)
    delimiter, sample = _find_delimiter(text, asked.delimiter, suffix, len(head) == HEAD_BYTES)
    if delimiter == NO_DELIMITER and suffix not in (".csv", ".tsv"):
        what = f"not a readable {suffix} file" if suffix in (".json", ".jsonl", ".parquet") else "no table of reviews"
        raise DataError(
            f"{filename} is {what}: it has neither columns nor JSON; give a .csv, .tsv, .json, .jsonl or .parquet file."
        )
    header = _has_header(sample) if asked.header is None else asked.header
    columns = _columns(sample, header)
    return Dialect(
        "csv", packed.packing, encoding, None if delimiter == NO_DELIMITER else delimiter, header, columns, guessed
    )


def _columns(rows: list[list[str]], header: bool) -> tuple[str, ...]:
    width = _usual_width(rows)
    if not header:
        return name_columns([""] * width)
    # R names no column for its row numbers.
    return name_columns(["", *rows[0]] if len(rows) > 1 and width == len(rows[0]) + 1 else rows[0])


def name_columns(cells: Sequence[str]) -> tuple[str, ...]:
    """The header's cells as distinct names: an empty one becomes `column 3`, a second `text` becomes `text (2)`."""
    names: list[str] = []
    for i, cell in enumerate(cells):
        name = base = " ".join(cell.split()) or f"column {i + 1}"
        count = 2
        while name in names:
            name, count = f"{base} ({count})", count + 1
        names.append(name)
    return tuple(names)


def _suffix(packed: Packed) -> str:
    """Of the file inside: reviews.csv.gz is a .csv."""
    return f".{packed.name.rpartition('.')[2].lower()}" if "." in packed.name else ""


def _decoded(head: bytes, encoding: Encoding) -> str:
    text = io.IncrementalNewlineDecoder(None, translate=True).decode(head.decode(encoding.name, "replace"))
    return text.lstrip("\ufeff")


def _refuse_no_text(text: str, filename: str, suffix: str) -> None:
    start = text[:5000]
    strange = sum(not (letter.isprintable() or letter in "\n\t\f\v\ufeff") for letter in start)
    if strange > len(start) / 10:
        raise DataError(f"{filename} holds no text but other bytes; give a .csv, .tsv, .json, .jsonl or .parquet file.")
    if not text.strip():
        raise DataError(f"{filename} is blank: it holds no reviews; give a file with a text and a label in each row.")
    if re.match(r"\s*<(!doctype|html|\?xml)", start, re.I):
        raise DataError(
            f"{filename} is a web page or XML, in spite of its name; give a .csv, .tsv, .json, .jsonl or .parquet file."
        )


def _json_kind(text: str, suffix: str) -> str:
    """jsonl where each line is an object of its own, json where objects stand in an array or an object; "" where it is
    no JSON.
    """
    start = text.lstrip()
    if start[:1] not in ("[", "{"):
        # A damaged first line of many.
        lines = [line for line in start.split("\n")[1:20] if line.strip()]
        return "jsonl" if suffix in (".jsonl", ".json") and any(_is_object(line) for line in lines) else ""
    if suffix in (".csv", ".tsv") and not re.match(r'\[\s*[\[{\]"]|\{\s*["}]', start):
        return ""
    if start[0] == "[":
        return "json"
    lines = [line for line in start.split("\n") if line.strip()][:20]
    if len(lines) > 1 and sum(_is_object(line) for line in lines[1:]) > 0:
        return "jsonl"
    if len(lines) == 1:
        return "json"
    return (
        "jsonl"
        if suffix == ".jsonl" or all(line.lstrip().startswith("{") and len(line) > 2 for line in lines)
        else "json"
    )


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _find_delimiter(text: str, asked: str, suffix: str, cut: bool) -> tuple[str, list[list[str]]]:
    """(the delimiter, the first rows by it). One whose rows are of one length beats the others; known names in the
    header decide.
    """
    if asked:
        named = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}.get(
            asked.lower(), asked
        )
        if len(named) != 1 or named in '"\n\r\0':
            raise DataError(f"The delimiter {asked[:20]!r} is not one character; give one of , ; | or tab.")
        return named, _sample(text, named, cut)
    known = {*TEXT_NAMES, *TITLE_NAMES, *LABEL_NAMES}
    best, sample, score = NO_DELIMITER, _sample(text, NO_DELIMITER, cut), 0.0
    for delimiter in DELIMITERS:
        rows = _sample(text, delimiter, cut)
        width = _usual_width(rows)
        if width < 2 or len(rows[0]) < 2:
            continue
        even = sum(len(row) == width for row in rows) / len(rows)
        named_well = any(cell.strip().lower() in known for cell in rows[0])
        # The suffix tips the scales only where the content does not.
        points = even + named_well + 0.1 * (suffix == ".tsv" and delimiter == "\t") + min(width, 9) / 1000
        # A comma now and then in lines of text makes no table.
        if points > score and (even > 0.6 or named_well):
            best, sample, score = delimiter, rows, points
    return best, sample


def _sample(text: str, delimiter: str, cut: bool) -> list[list[str]]:
    lines = text.split("\n")
    if cut and len(lines) > 1:
        lines.pop()
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    try:
        rows = [
            row for row in csv.reader((f"{line}\n" for line in lines[: 5 * _SAMPLE_ROWS]), delimiter=delimiter) if row
        ]
    except csv.Error:
        rows = [line.split(delimiter) for line in lines if line]
    return rows[:_SAMPLE_ROWS] or [[""]]


def _usual_width(rows: Sequence[Sequence[str]]) -> int:
    return Counter(map(len, rows)).most_common(1)[0][0]


def _has_header(rows: list[list[str]]) -> bool:
    """Whether the first row names the columns: it is known names, or unlike the rows below, and no row of data by its
    own looks.
    """
    first, rest = [cell.strip() for cell in rows[0]], rows[1:]
    if first == [str(i) for i in range(len(first))] and rest:
        return True
    if any(_NUMBER.fullmatch(cell) or len(cell) > 100 for cell in first):
        return False
    if any(cell.lower() in (*TEXT_NAMES, *TITLE_NAMES, *LABEL_NAMES) for cell in first):
        return True
    for column, cell in enumerate(first):
        below = [row[column].strip() for row in rest if column < len(row)]
        # A class among the classes below: "good" over good, bad, good.
        if cell and len(below) > 4 and below.count(cell) > 1 and len(set(below)) <= max(20, len(below) / 5):
            return False
    return len(first) > 1 or len(first[0].split()) <= 3
