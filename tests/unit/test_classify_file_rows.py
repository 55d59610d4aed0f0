"""A classified file: formula cells, clashes of names, order, windows of bounded size, equal texts once, stop.

The classifier is one of three words."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from qlora_demo.core.errors import DataError
from qlora_demo.core.file_report import SkippedRows
from qlora_demo.core.records import Phase, Prediction
from qlora_demo.engine.classify import classify_file
from qlora_demo.engine.classify.exporting import WRITERS, harmless
from qlora_demo.engine.data.columns import Columns
from qlora_demo.storage.result_files import ROWS, name_added, read_layout, read_lines, read_rows, to_line

LABELS = ("bad", "fair", "good")
FOUND = Columns()


@dataclass
class ByWords:
    """Three labels by the words in a text; remembers what it was asked at once."""

    labels: tuple[str, ...] = LABELS
    ordinal: bool = True
    asked: list[list[str]] = field(default_factory=list)

    def classify(self, texts: Sequence[str], base: bool = False, calibrated: bool = False) -> list[Prediction]:
        self.asked.append(list(texts))
        return [self.one(text, base) for text in texts]

    def one(self, text: str, base: bool) -> Prediction:
        best = 1 if base else next((i for i, label in enumerate(self.labels) if label in text), 1)
        shares = {label: 0.8 if i == best else 0.1 for i, label in enumerate(self.labels)}
        expected = sum((i + 1) * share for i, share in enumerate(shares.values()))
        return Prediction(text, self.labels[best], best + 1, expected, shares, len(text) > 90)


def classify(path: Path, columns: Columns = FOUND, **options: Any) -> tuple[dict[str, Any], ByWords, Path]:
    """(report, the classifier asked, the folder of the result)."""
    classifier, folder = ByWords(), path.with_name(f"{path.name}-result")
    folder.mkdir()
    return classify_file.classify_file(path, columns, classifier, folder, **options), classifier, folder  # type: ignore[arg-type]


def test_cells_that_would_run_are_made_harmless_and_numbers_stay() -> None:
    running = "=1+1|+1+cmd' /C calc'!A0|-2+3|@SUM(A1)|\t=1|\r=1|\n=1|\uff1d1+1|-|- battery|+ 5".split("|")
    plain = "-3|+1.5|-1,234.50|-.5|-1e-7|-12 %||a=b|'=1|5|😀".split("|")
    assert [harmless(cell) for cell in running] == [f"'{cell}" for cell in running]
    assert [harmless(cell) for cell in plain] == plain


def test_names_that_are_taken_get_predicted_before_them() -> None:
    added = name_added(("label", "predicted_label", "stars", "probability_bad"), LABELS)
    assert added["label"] == "predicted_predicted_label" and added["stars"] == "predicted_stars"
    assert added["probability_bad"] == "predicted_probability_bad" and added["probability_fair"] == "probability_fair"


def test_the_three_files_hold_the_same_and_only_the_csv_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    rows = (
        '1;"good; ""really""\ngood";bad;=1+1',
        "2;;good;-3",
        "3;-bad!;bad;+1.5",
        '4;<b>fair</b> 😀 \u202e;fair;"\tab"',
    )
    path.write_text("\n".join(("id;text;label;=x", *rows, "")), encoding="utf-8")
    report, _, folder = classify(path)
    for kind, write in WRITERS.items():
        write(folder, tmp_path / f"out.{kind}")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        head, *cells = csv.reader(file, delimiter=";")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    table = parquet.read_table(tmp_path / "out.parquet")
    ours = (
        "predicted_label stars expected_stars probability_bad probability_fair probability_good truncated problem"
    ).split()
    assert head == ["id", "text", "label", "'=x", *ours]
    assert cells[0][:5] == ["1", 'good; "really"\ngood', "bad", "'=1+1", "good"]
    assert cells[0][5:] == ["3", "2.7000", "0.100000", "0.100000", "0.800000", "false", ""]
    assert cells[1] == ["2", "", "good", "-3", *[""] * 7, "empty"]
    assert [row[1] for row in cells[2:]] == ["'-bad!", "<b>fair</b> 😀 \u202e"]
    assert [row[3] for row in cells[2:]] == ["+1.5", "'\tab"]
    assert lines == table.to_pylist() and lines[0]["=x"] == "=1+1" and lines[2]["text"] == "-bad!"
    assert lines[3]["=x"] == "\tab"
    assert (lines[1]["problem"], lines[1]["stars"], lines[0]["problem"], lines[0]["stars"]) == ("empty", None, None, 3)
    kinds = ["string", "int64", *["double"] * 4, "bool", "string"]
    assert [str(table.schema.field(name).type) for name in ours] == kinds
    assert (tmp_path / "out.tsv").read_text(encoding="utf-8").startswith("id\ttext\tlabel\t'=x\tpredicted_label")
    assert report.without_prediction == {"empty": 1} and (report.rows, report.done, report.classified) == (4, 4, 3)


def test_json_and_parquet_keep_their_types(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    rows = [
        {"text": "good", "count": 3, "price": 1.5, "flag": True, "deep": {"a": [1, None]}, "mixed": 1, "wide": 2**70},
        {"text": "bad", "count": None, "price": 2, "flag": False, "deep": None, "mixed": "=x", "wide": 1},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, _, folder = classify(path)
    assert [{name: row[name] for name in rows[0]} for row in read_rows(folder)] == rows
    WRITERS["parquet"](folder, tmp_path / "out.parquet")
    WRITERS["csv"](folder, tmp_path / "out.csv")
    table = parquet.read_table(tmp_path / "out.parquet")
    kinds = [str(table.schema.field(name).type) for name in ("count", "price", "flag", "deep", "mixed", "wide")]
    assert kinds == ["int64", "double", "bool", "string", "string", "string"]
    assert table.to_pylist()[0]["deep"] == '{"a": [1, null]}' and table.to_pylist()[1]["mixed"] == "=x"
    with (tmp_path / "out.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert [first[name] for name in rows[0]] == ["good", "3", "1.5", "true", '{"a": [1, null]}', "1", str(2**70)]
    again, _, folder = classify(tmp_path / "out.parquet")
    assert again.rows == 2 and next(read_rows(folder))["price"] == 1.5
    assert "predicted_predicted" not in "".join(read_layout(folder).names), "a column as any other"


def test_half_characters_break_nothing(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "good", "k\\ud800": {"deep": ["\\udc00"]}}\n{"text": "bad \\ud800", "k\\ud800": 1}\n')
    report, _, folder = classify(path)
    assert [row["k?"] for row in read_rows(folder)] == [{"deep": ["?"]}] and report.skipped[0].first_lines == (2,)
    for kind, write in WRITERS.items():
        write(folder, tmp_path / f"out.{kind}")


def test_the_order_stays_and_windows_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify_file, "WINDOW_SECONDS", 1e9)
    texts = [f"{i} {LABELS[i % 3]} {'x' * (i * 37 % 101)}" for i in range(6_000)]
    path = tmp_path / "in.csv"
    path.write_text("text\n" + "\n".join(texts))
    sizes: list[int] = []
    phases: list[Phase] = []
    report, classifier, folder = classify(
        path, on_predictions=lambda found: sizes.append(len(found)), emit=phases.append
    )
    rows = list(read_rows(folder))
    assert [(row["text"], row["label"]) for row in rows] == [(text, LABELS[i % 3]) for i, text in enumerate(texts)]
    first, most = classify_file.FIRST_ROWS, classify_file.MOST_ROWS
    assert sizes == [first, most, most, 6_000 - first - 2 * most]
    assert max(map(len, classifier.asked)) == classify_file.PART_ROWS
    spread = [max(map(len, part)) - min(map(len, part)) for part in classifier.asked]
    assert sorted(spread)[len(spread) // 2] < 10, "texts of like length go together"
    told = [phase for phase in phases if phase.name == "classify"]
    assert [phase.progress for phase in told] == [0, 128 / 6000, 2176 / 6000, 4224 / 6000, 1]
    assert "4,224 of 6,000 rows" in told[3].detail and told[3].seconds_left is not None
    assert report.by_label == {"bad": 2000, "fair": 2000, "good": 2000}
    assert sum(one.rows for one in report.certainty) == 6000
    assert sum(one.rows for one in report.expected_stars) == 6000
    assert report.truncated == sum(len(text) > 90 for text in texts)


def test_equal_texts_are_asked_once_in_a_window(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("text,id\n" + "".join(f"{'good' if i % 2 else 'bad'},{i}\n" for i in range(100)))
    report, classifier, folder = classify(path)
    assert sorted(itertools.chain(*classifier.asked)) == ["bad", "good"]
    assert report.by_label == {"bad": 50, "fair": 0, "good": 50}
    assert [row["label"] for row in read_rows(folder)] == ["bad", "good"] * 50


def test_a_stop_keeps_the_first_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify_file, "WINDOW_SECONDS", 0)
    path = tmp_path / "in.csv"
    path.write_text("text,rating\n" + "".join(f"good {i},good\n" for i in range(1_000)) + "a,b,c\n")
    done: list[int] = []
    report, _, folder = classify(
        path,
        Columns(label="rating"),
        on_predictions=lambda found: done.append(len(found)),
        should_stop=lambda: sum(done) >= 256,
    )
    assert (report.stopped, report.done, report.rows) == (True, 256, 1_000)
    assert [row["text"] for row in read_rows(folder)] == [f"good {i}" for i in range(256)]
    assert report.skipped == (SkippedRows(reason="more cells than the 2 columns", rows=1, first_lines=(1002,)),), (
        "of the whole file"
    )
    for write in WRITERS.values():
        write(folder, tmp_path / "out")
    at_once, _, folder = classify(path.rename(tmp_path / "other.csv"), should_stop=lambda: True)
    assert at_once.stopped and at_once.done == 0 and list(read_rows(folder)) == []
    WRITERS["parquet"](folder, tmp_path / "none.parquet")
    assert parquet.read_table(tmp_path / "none.parquet").num_rows == 0


def test_right_labels_judge_the_predictions(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    lines = [("bad", 1), ("fair", 2), ("good", 3), ("good", 2), ("", 1), ("good", "")] * 20
    path.write_text(
        "title,text,how\n"
        + "".join(f"not {text},{text},{LABELS[label - 1] if label else ''}\n" for text, label in lines)
    )
    report, _, _ = classify(path, Columns(title="-", label="how"))
    metrics = report.final["test"]
    assert metrics.confusion == ((20, 0, 0), (0, 20, 20), (0, 0, 20)) and metrics.accuracy == 0.75
    assert metrics.intervals["accuracy"][0] < 0.75 < metrics.intervals["accuracy"][1] and metrics.within_one == 1
    assert "Judged on 80 rows by the column 'how'" in report.judged and "20 more have no label" in report.judged
    path = path.rename(tmp_path / "other.csv")
    assert "not good\n\ngood" in itertools.chain(*classify(path, Columns(title="title"))[1].asked), (
        "joined as in training"
    )


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("-", "No column of right labels"),
        ("id", "were not judged by the column 'id'"),
        ("kind", "the adapter knows bad, fair, good"),
    ],
)
def test_without_labels_that_fit_there_is_a_sentence(tmp_path: Path, label: str, words: str) -> None:
    path = tmp_path / "in.csv"
    path.write_text("id,text,kind,stars\n" + "".join(f"x{i},good {i},{'ab'[i % 2]},5\n" for i in range(100)))
    report, _, _ = classify(path, Columns(label=label))
    assert report.final == {} and words in report.judged and report.judged.count(".") >= 1


def test_a_preview_tells_the_columns_and_shows_the_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("a\tReview\trating\n" + "".join(f"{i}\tgood {'x' * 300}\t{i % 5 + 1}\n" for i in range(20)))
    seen = classify_file.preview(path, FOUND)
    assert [seen.text_column, seen.label_column, seen.delimiter] == ["Review", "rating", "\t"]
    assert len(seen.rows) == 5 and len(seen.rows[0][1]) == classify_file.SHOWN_CHARACTERS
    assert classify_file.preview(path, Columns(label="-")).label_column == ""
    with pytest.raises(DataError, match="There is no column 'b'"):
        classify_file.preview(path, Columns(text="b"))


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / ROWS).write_bytes(to_line({"a": 1}).encode() + b'{"a": ')
    assert list(read_rows(tmp_path)) == [{"a": 1}] and list(read_lines(tmp_path)) == [b'{"a": 1}\n']
