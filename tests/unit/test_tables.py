"""The reader of rows: every way a table is written gives the same rows, and what cannot be read is counted, never
lost."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from qlora_demo.core.errors import DataError
from qlora_demo.engine.data.reading.dialects import AS_FOUND, Asked
from qlora_demo.engine.data.reading.tables import CHUNK_ROWS, open_table

ROWS = [{"text": f'number {i}, "quoted"; tab\there | café\nsecond line', "label": str(i % 5)} for i in range(40)]


def as_csv(rows: list[dict[str, str]], delimiter: str = ",", end: str = "\n") -> str:
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    return "".join(
        delimiter.join(map(quoted, cells)) + end for cells in [list(rows[0]), *(list(row.values()) for row in rows)]
    )


def read(path: Path, asked: Asked = AS_FOUND) -> list[dict[str, Any]]:
    table = open_table(path, asked)
    return [dict(zip(table.columns, row, strict=True)) for chunk in table.chunks() for row in chunk.rows]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_delimiters_and_encodings(tmp_path: Path, delimiter: str, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(as_csv(ROWS, delimiter, "\r\n").encode(encoding))
    table = open_table(path)
    assert read(path) == ROWS and table.dialect.delimiter == delimiter and table.dialect.header
    assert table.dialect.encoding is not None and table.dialect.encoding.name == encoding


@pytest.mark.parametrize("lines", [1, 10_000])
@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Très bon hôtel, l'accueil est chaleureux et le petit déjeuner était délicieux"),
        ("cp850", "Très bon hôtel, l'accueil est chaleureux et le petit déjeuner était délicieux"),
        ("mac_roman", "Die Größe fällt sehr klein aus, schöne Verpackung, völlig enttäuschend"),
        ("cp1251", "Очень хорошая гостиница, завтрак вкусный, персонал приветливый"),
        ("shift_jis", "とても良いホテルでした。朝食も美味しかったです。"),
        ("gb18030", "酒店非常好，早餐很好吃，服务员很热情。"),
    ],
)
def test_an_encoding_is_guessed_from_bad_bytes_far_in(tmp_path: Path, encoding: str, text: str, lines: int) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b"text\tlabel\n" + b"plain and good\t5\n" * lines + f"{text}\t1\n".encode(encoding))
    table = open_table(path)
    assert table.dialect.guessed and table.dialect.encoding is not None and table.dialect.encoding.name == encoding
    assert read(path)[-1] == {"text": text, "label": "1"}


def test_one_damaged_line_makes_no_other_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\n" + "schön,5\n".encode() * 20 + b"caf\xe9,1\n" + b"fine,2\n")
    table = open_table(path)
    assert len(read(path)) == 21 and table.dialect.encoding is not None and table.dialect.encoding.name == "utf-8"
    list(table.chunks())
    assert table.tally.lines == {"bytes that are not utf-8": [22]}


JSON_FORMS = {
    "lines.jsonl": lambda rows: "\n".join(map(json.dumps, rows)),
    "lines.json": lambda rows: "\n\n".join(map(json.dumps, rows)) + "\n",
    "array.json": json.dumps,
    "pretty.json": lambda rows: json.dumps(rows, indent=2),
    "held.json": lambda rows: json.dumps({"count": len(rows), "reviews": rows, "tags": ["a"]}),
    "objects.json": lambda rows: "\n".join(json.dumps(row, indent=1) for row in rows),
    "columns.json": lambda rows: json.dumps({name: [row[name] for row in rows] for name in rows[0]}),
    "pandas.json": lambda rows: json.dumps(
        {name: {str(i): row[name] for i, row in enumerate(rows)} for name in rows[0]}
    ),
    "named.json": lambda rows: json.dumps({f"id{i}": row for i, row in enumerate(rows)}),
    "array_called.csv": json.dumps,
    "lines_called.txt": lambda rows: "\n".join(map(json.dumps, rows)),
}


@pytest.mark.parametrize("name", JSON_FORMS)
def test_json_however_it_is_laid_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(JSON_FORMS[name](ROWS))
    assert read(tmp_path / name) == ROWS


def test_a_long_array_is_read_in_pieces(tmp_path: Path) -> None:
    rows = [{"text": f'{i} }}, {{ "[', "label": i, "more": {"deep": [i, {"x": 1}]}} for i in range(CHUNK_ROWS + 5_000)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert read(tmp_path / "a.json") == rows
    assert max(len(chunk.rows) for chunk in open_table(tmp_path / "a.json").chunks()) < len(rows)


def test_parquet_and_what_is_called_so(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ROWS
    (tmp_path / "b.csv").write_bytes((tmp_path / "a.parquet").read_bytes())
    assert read(tmp_path / "b.csv") == ROWS and open_table(tmp_path / "b.csv").dialect.encoding is None
    (tmp_path / "c.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"not a readable \.parquet file"):
        open_table(tmp_path / "c.parquet")


@pytest.mark.parametrize("content", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("packing", ["gz", "zip"])
def test_packed_files(tmp_path: Path, content: str, packing: str) -> None:
    import pyarrow
    from pyarrow import parquet

    plain = tmp_path / f"a.{content}"
    if content == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(ROWS), plain)
    else:
        plain.write_text(as_csv(ROWS) if content == "csv" else JSON_FORMS["lines.jsonl"](ROWS))
    packed = tmp_path / f"a.{content}.{packing}"
    if packing == "gz":
        packed.write_bytes(gzip.compress(plain.read_bytes()))
    else:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(plain, f"folder/a.{content}")
            archive.writestr("__MACOSX/folder/._a", b"what macOS adds")
    assert read(packed) == ROWS and open_table(packed).dialect.packing == packing


def test_headers(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for text, columns, rows in (
        ("text,label\na,1\nb,2\n", ("text", "label"), 2),
        (",text,text,\n0,a,b,1\n1,c,d,2\n", ("column 1", "text", "text (2)", "column 4"), 2),
        ("It broke at once,1\nFine for the price,4\n", ("column 1", "column 2"), 2),
        ("good,Liked it\nbad,Hated it\n" * 5, ("column 1", "column 2"), 10),
        ("what they wrote,what they felt\nIt broke,sad\nFine,glad\n", ("what they wrote", "what they felt"), 2),
        ("0,1\nfine,5\n", ("0", "1"), 1),
        ("text,label\n1,a b,5\n2,c d,4\n", ("column 1", "text", "label"), 2),
        ("text\nGood, but slow\nBad, very\nPoor\n", ("text",), 3),
        ("Arrived on time and works well, nothing to add\nBroke\n", ("column 1",), 2),
    ):
        path.write_text(text)
        table = open_table(path)
        assert (table.columns, len(read(path))) == (columns, rows), text
    assert open_table(path, Asked(header=True)).columns != open_table(path, Asked(header=False)).columns


def test_what_the_user_says_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text;label\na,b;1\nc,d;2\n")
    assert [row["text"] for row in read(path)] == ["a,b", "c,d"]
    assert read(path, Asked(delimiter=",")) == [
        {"column 1": "a", "text;label": "b;1"},
        {"column 1": "c", "text;label": "d;2"},
    ]
    path.write_bytes(b"text,label\ncaf\x82,1\n")
    assert read(path, Asked(encoding="cp850"))[0]["text"] == "café"
    for asked, message in (
        (Asked(encoding="no-such"), "There is no encoding 'no-such'"),
        (Asked(encoding="hex"), "There is no encoding 'hex'"),
        (Asked(delimiter="ab"), "'ab' is not one character"),
    ):
        with pytest.raises(DataError, match=message):
            open_table(path, asked)


def test_rows_that_do_not_fit_are_counted_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b"text,label\n"  # 1
        b"good,5\n"  # 2
        b"one, two,3\n"  # 3: more
        b"alone\n"  # 4: fewer
        b"\n"  # 5: empty
        b'"never closed,4\n'  # 6
        b"nul\0,3\n"  # 7
        b'"two\nlines",2\n'  # 8, 9
        b'he said "wow" to me,1\n'  # 10
        b'"a ""b"" c",1,,\n'  # 11: empty cells at the end do no harm
        b"last,5"  # 12
    )
    table = open_table(path)
    rows = [(line, *row) for chunk in table.chunks() for line, row in zip(chunk.lines, chunk.rows, strict=True)]
    assert [line for line, *_ in rows] == [2, 8, 10, 11, 12]
    texts = [("good", "5"), ("two\nlines", "2"), ('he said "wow" to me', "1"), ('a "b" c', "1"), ("last", "5")]
    assert [tuple(cells) for _, *cells in rows] == texts
    assert table.tally.lines == {
        "more cells than the 2 columns": [3],
        "fewer cells than the 2 columns": [4],
        "an empty line": [5],
        "a quote that is not closed": [6],
        "a NUL character": [7],
    }


def test_an_open_quote_costs_its_own_line_only(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "fine,1\n" * 10 + '"open,1\n' + "good,5\n" * 30_000)
    assert len(read(path)) == 30_010
    table = open_table(path)
    list(table.chunks())
    assert table.tally.lines == {"a quote that is not closed": [12]}


def test_huge_cells_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    long = f"{'x' * 1_500_000},2\n{'y' * 9_000_000},2\n"
    path.write_text(f"text,label\nfine,1\n{long}" + '"' + "z\n" * 700_000 + '",1\nok,3\n')
    table = open_table(path)
    rows = [row for chunk in table.chunks() for row in chunk.rows]
    assert rows[0] == ["fine", "1"] and rows[-1] == ["ok", "3"] and len(rows) == 2
    assert table.tally.lines["a cell of more than 1,000,000 characters"] == [3]
    assert table.tally.lines["a line of more than 4,000,000 characters"] == [4]


def test_json_lines_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    deep = '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}"
    good = '{"text": "fine", "label": 1}'
    bad = ["{broken", deep, "[1]", "", '{"text": "\\ud800"}', '{"text": "nul\\u0000"}']
    path.write_text("\n".join([good, *bad, good]))
    table = open_table(path)
    assert [row for chunk in table.chunks() for row in chunk.rows] == [["fine", 1]] * 2
    assert table.tally.lines == {
        "a line that is not JSON": [2],
        "JSON that is nested too deep": [3],
        "a value that is no object": [4],
        "an empty line": [5],
        "characters that are no text (NUL, half a pair, or bytes of another encoding)": [6, 7],
    }


def test_columns_that_begin_late_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    early, late = '{"text": "review"}\n', '{"text": "review", "late": 1}\n'
    path.write_text(early * 60_000 + late * 10_000)
    table = open_table(path)
    assert sum(len(chunk.rows) for chunk in table.chunks()) == 70_000 and table.columns == ("text",)
    assert table.late == {"late"}
