"""Messy files of every kind through the whole reader: a right report, or one clear sentence; in bounded memory.

The files of the shared folder are read where they are there; the others are made here."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_demo.core.data_report import DataReport
from qlora_demo.core.errors import DataError
from qlora_demo.engine.data import audit, dataset
from tests.commands import python
from tests.conftest import Cli

RAW = Path(os.environ.get("QLORA_DEMO_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "raw"
ROWS = [(f"review {i} of the lamp, which works", 1 + i % 5) for i in range(50)]
HEAD = b"text,label\n"
NO_TEXT = "characters that are no text (NUL, half a pair, or bytes of another encoding)"
CELLS, OPEN = "cells than the 2 columns", "a quote that is not closed"
GOOD = b"".join(f"{text},{stars}\n".replace(" lamp,", " lamp").encode() for text, stars in ROWS)


def examined(path: Path) -> DataReport:
    return audit.examine(dataset.read_all(str(path)))


def zipped(method: int = zipfile.ZIP_DEFLATED, /, **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def named(name: bytes) -> bytes:
    """A zip whose member is called so, as a hostile one is."""
    harmless = b"aa/evil.csv"
    assert len(name) == len(harmless)
    return zipped(**{harmless.decode(): HEAD + GOOD}).replace(harmless, name)


def locked(archive: bytes) -> bytes:
    """The same zip with the mark of a password on its only member."""
    found = bytearray(archive)
    found[archive.index(b"PK\x01\x02") + 8] |= 1
    found[6] |= 1
    return bytes(found)


# name: (content, rows used, rows left out by reason)
READABLE: dict[str, tuple[bytes, int, dict[str, int]]] = {
    "plain.csv": (HEAD + GOOD, 50, {}),
    "byte_order_mark.csv": (b"\xef\xbb\xbf" + HEAD + GOOD, 50, {}),
    "utf16.csv": ((HEAD + GOOD).decode().encode("utf-16"), 50, {}),
    "utf16_unmarked.tsv": ((HEAD + GOOD).replace(b",", b"\t").decode().encode("utf-16-le"), 50, {}),
    "old_mac_lines.csv": ((HEAD + GOOD).replace(b"\n", b"\r"), 50, {}),
    "semicolons.csv": ((HEAD + GOOD).replace(b",", b";"), 50, {}),
    "pipes.txt": ((HEAD + GOOD).replace(b",", b"|"), 50, {}),
    "tabs_called.csv": ((HEAD + GOOD).replace(b",", b"\t"), 50, {}),
    "commas_called.tsv": (HEAD + GOOD, 50, {}),
    "headerless.csv": (GOOD, 50, {}),
    "no_last_newline.csv": ((HEAD + GOOD).rstrip(), 50, {}),
    "code_page.csv": (HEAD + GOOD + "le café est très bon,4\n".encode("cp850"), 51, {}),
    "ragged.csv": (HEAD + GOOD + b"a,b,c\nalone\n", 50, {f"more {CELLS}": 1, f"fewer {CELLS}": 1}),
    "unclosed.csv": (HEAD + b'"open,1\n' + GOOD, 50, {OPEN: 1}),
    "unclosed_last.csv": (HEAD + GOOD + b'"open,1\nand more', 50, {OPEN: 1, f"fewer {CELLS}": 1}),
    "nuls.csv": (HEAD + GOOD + b"a\0b,1\n", 50, {"a NUL character": 1}),
    "huge_cell.csv": (HEAD + GOOD + b"x" * 2_000_000 + b",1\n", 50, {"a cell of more than 1,000,000 characters": 1}),
    "huge_line.csv": (HEAD + GOOD + b"x" * 20_000_000, 50, {"a line of more than 4,000,000 characters": 1}),
    "one_bad_byte.csv": (HEAD + "schön,5\n".encode() * 20 + b"caf\xe9,1\n" + GOOD, 70, {"bytes that are not utf-8": 1}),
    "stray_labels.csv": (
        HEAD + GOOD + b"a b,7\nc d,n/a\ne f,\n",
        50,
        {"label '7' outside 1 to 5": 1, "label 'n/a' outside 1 to 5": 1, "no label": 1},
    ),
    "blank_texts.csv": (HEAD + GOOD + b",1\n  ,2\n", 50, {"empty text": 2}),
    "deep.jsonl": (
        b'{"text": "good", "label": 1}\n' * 9 + b'{"text": ' + b"[" * 90_000 + b"]" * 90_000 + b"}",
        9,
        {"JSON that is nested too deep": 1},
    ),
    "broken_lines.jsonl": (
        b'{"text": "good", "label": 1}\nnot JSON\n{"text": "cut off\n{"text": "bad", "label": 2}\n',
        2,
        {"a line that is not JSON": 2},
    ),
    "half_pairs.jsonl": (b'{"text": "good", "label": 1}\n{"text": "\\ud83d", "label": 1}\n', 1, {NO_TEXT: 1}),
    "numbers.json": (b'[1, "two", {"text": "good", "label": 1}, null]', 1, {"a value that is no object": 3}),
    "held.json": (json.dumps({"page": 1, "reviews": [{"text": t, "stars": s} for t, s in ROWS]}).encode(), 50, {}),
    "json_called.csv": (json.dumps([{"text": t, "stars": s} for t, s in ROWS]).encode(), 50, {}),
    "csv_called.json": (HEAD + GOOD, 50, {}),
    "packed.csv.gz": (gzip.compress(HEAD + GOOD), 50, {}),
    "packed_called.csv": (gzip.compress(HEAD + GOOD), 50, {}),
    "packed.zip": (zipped(**{"in/reviews.csv": HEAD + GOOD}), 50, {}),
    "script_and_emoji.csv": (HEAD + GOOD + "<script>alert(1)</script>,1\n=1+1,2\n👍🏽 \u202eabc,3\n".encode(), 53, {}),
    "entities.csv": (HEAD + GOOD + b"fish &amp; chips &#34;good&#34;,1\n" + "cafÃ© trÃ¨s bon,2\n".encode(), 52, {}),
    "one_label.csv": (HEAD + b"a good one,5\nanother one,5\n", 2, {}),
}


@pytest.mark.parametrize("name", READABLE)
def test_a_messy_file_gives_a_right_report(tmp_path: Path, name: str) -> None:
    content, used, skipped = READABLE[name]
    (tmp_path / name).write_bytes(content)
    report = examined(tmp_path / name)
    assert {item.reason: item.rows for item in report.skipped} == skipped
    assert (report.used, report.rows) == (used, used + sum(skipped.values())), "some were dropped uncounted"
    assert all(item.first_lines for item in report.skipped) and sum(report.labels.values()) == used
    json.dumps(report.to_dict())


# name: (content, what the sentence says)
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty.csv": (b"", "is empty: it holds no reviews"),
    "blank.csv": (b" \n\n\r\n", "is blank: it holds no reviews"),
    "header_only.csv": (HEAD, "holds no reviews"),
    "one_class.csv": (HEAD + b"good,fine\nbad,fine\n", "one label only, 'fine'"),
    "many_classes.csv": (HEAD + b"".join(b"t %d,l%d\n" % (i, i) for i in range(40)), "40 different labels"),
    "mixed_stars.csv": (HEAD + GOOD + b"spam and more,7\n" * 20, "name the labels that are meant"),
    "no_text.csv": (b"id,label\n1,5\n2,4\n", "No column looks like the text; the columns are id, label"),
    "all_bad.jsonl": (b"{broken\n{also broken\n", r"2 left out: a line that is not JSON \(line 1\)"),
    "broken.json": (b'[{"text": "good", "label": 1}, {"text": ', "it ends too early at line 1"),
    "deep.json": (b"[" * 100_000, "nested too deep"),
    "two_arrays.json": (b'{"a": [{"text": "x"}], "b": [{"text": "y"}]}', "a second array of rows, 'b'"),
    "bytes.csv": (bytes(range(256)) * 50, "holds no text but other bytes"),
    "zeros.csv": (b"\0" * 5_000, "holds no text but other bytes"),
    "picture.csv": (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "is a picture"),
    "paper.csv": (b"%PDF-1.7\n...", "is a PDF"),
    "page.csv": (b"<!DOCTYPE html><html><body>Not found</body></html>", "is a web page"),
    "not.parquet": (b"PAR1" + b"\0" * 100, "not a readable .parquet file"),
    "prose.txt": (b"Once upon a time\nthere was a lamp\n", "no table of reviews"),
    "workbook.csv": (zipped(**{"xl/workbook.xml": b"<x/>", "xl/sheet1.xml": b"<x/>"}), "save the sheet as CSV"),
    "several.zip": (zipped(**{"a.csv": HEAD, "b.csv": HEAD}), "holds 2 files; give a .zip of exactly one"),
    "nothing.zip": (zipped(), "holds 0 files"),
    "up.zip": (named(b"../evil.csv"), "a path that leads elsewhere"),
    "root.zip": (named(b"/a/evil.csv"), "a path that leads elsewhere"),
    "drive.zip": (named(b"C:\\evil.csv"), "a path that leads elsewhere"),
    "locked.zip": (locked(zipped(**{"a.csv": HEAD + GOOD})), "locked with a password"),
    "crowd.zip": (zipped(**{f"{i}.csv": b"" for i in range(3_000)}), "holds many files"),
    "cut.zip": (zipped(**{"a.csv": HEAD + GOOD})[:-30], "damaged .zip file"),
    "other_method.zip": (zipped(zipfile.ZIP_LZMA, **{"a.csv": HEAD + GOOD}), "packed in an unusual way"),
    "twice.zip": (zipped(**{"a.csv.gz": gzip.compress(HEAD + GOOD)}), "packed twice"),
    "hollow.zip": (zipped(**{"a.csv": b""}), "holds an empty file"),
    "cut.csv.gz": (gzip.compress(os.urandom(5_000).hex().encode())[:-500], "damaged .gz file"),
    "false.csv.gz": (b"\x1f\x8b" + b"no gzip at all", "damaged .gz file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_gets_one_sentence(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        examined(tmp_path / name)
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 400 and sentence.endswith(".")


def test_folders_and_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="has no train file"):
        dataset.read_all(str(tmp_path / "folder.csv"))
    with pytest.raises(DataError, match=r"There is no file .*gone\.csv\.gz; check the path"):
        dataset.read_all(str(tmp_path / "gone.csv.gz"))


def gz_bomb(path: Path) -> None:
    path.write_bytes(gzip.compress(b"a" * (1 << 20)) * 300)  # members one after the other are one file


def zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.csv", "w") as file:
        for _ in range(300):
            file.write(b"text,label\n" * 95_000)


def long_line(path: Path) -> None:
    with path.open("wb") as file:
        file.write(HEAD + GOOD)
        for _ in range(150):
            file.write(b"x" * (1 << 20))


def one_object(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b'[{"text": "')
        for _ in range(150):
            file.write(b"x" * (1 << 20))
        file.write(b'", "label": 1}]')


READER = """
import resource, sys
from qlora_demo.core.errors import DataError
from qlora_demo.engine.data import dataset
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try: print(dataset.read_all(sys.argv[1]).skipped)
except DataError as error: print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("bomb.csv.gz", gz_bomb, "taken for a bomb"),
        ("bomb.zip", zip_bomb, "taken for a bomb"),
        ("long.csv", long_line, "a line of more than 4,000,000 characters"),
        ("long.json", one_object, "not a readable .json file"),
    ],
)
def test_big_ones_take_little_memory(tmp_path: Path, name: str, write: Callable[[Path], None], message: str) -> None:
    path = tmp_path / name
    write(path)
    done = python("-c", READER, str(path))
    said, mib = done.stdout.splitlines()
    assert message in said and int(mib) < 200, (said, mib)


def test_the_command_reports_and_refuses(tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "a.tsv"
    rows = b"5\tLove it, &amp; more\n" * 9 + b"1\t\n9\tno\n"
    path.write_bytes(b"\xef\xbb\xbfrating\tverified_reviews\n" + rows)
    status, out, err = cli("data", str(path), "--json", "--max-length", "4")
    assert status == 0, err
    report = json.loads(out)
    assert report["labels"] == {"1": 0, "2": 0, "3": 0, "4": 0, "5": 9} and (report["rows"], report["used"]) == (11, 9)
    skipped = {item["reason"]: item["first_lines"] for item in report["skipped"]}
    assert skipped == {"empty text": [11], "label '9' outside 1 to 5": [12]}
    assert (report["encoding"], report["delimiter"], report["title_column"]) == ("utf-8-sig", "\t", None)
    assert (report["text_column"], report["label_column"]) == ("verified_reviews", "rating")
    assert report["tokens"]["truncated"] == 1.0 and report["tokens"]["max"] > 4 and report["entities"] == 9
    status, out, _ = cli("data", str(path))
    assert status == 0 and "'rating' is the label" in out and "empty text" in out
    for wrong in ("--labels 1", "--max-length 0", "--encoding hex", "--text body", "--split test"):
        status, out, err = cli("data", str(path), *wrong.split())
        assert status == 2 and out == "" and len(err.strip().splitlines()) == 1, err


@pytest.mark.skipif(not RAW.is_dir(), reason="the shared files are not there")
def test_the_files_as_they_were_found() -> None:
    hotels = examined(RAW / "tripadvisor_nonutf8_nolabel.csv")
    assert (hotels.rows, hotels.used, hotels.labels, hotels.label_column) == (2000, 2000, {}, None)
    assert hotels.columns == ("column 1", "text") and hotels.encoding not in ("utf-8", None)
    assert any("is a guess" in warning for warning in hotels.warnings)
    with pytest.raises(DataError, match="No column looks like the label; the columns are column 1, text"):
        dataset.load(str(RAW / "tripadvisor_nonutf8_nolabel.csv"))

    binary = examined(RAW / "yelp_binary_labels_indexcol.csv")
    assert (binary.used, binary.labels, binary.text_column) == (1000, {"0": 500, "1": 500}, "sentence")

    speaker = examined(RAW / "alexa_bom_blank_dupes_injected.tsv")
    assert (speaker.encoding, speaker.delimiter, speaker.label_column) == ("utf-8-sig", "\t", "rating")
    assert {item.reason: item.rows for item in speaker.skipped} == {"empty text": 77, "a quote that is not closed": 1}
    assert speaker.skipped[1].first_lines == (1035,), "pandas takes this line and the two after it for one review"
    assert speaker.duplicates == 1899 and speaker.contradicting == 59 and speaker.entities > 50
