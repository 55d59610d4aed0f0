"""Reviews: columns, labels, splits and subsets."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from qlora_demo.core.errors import DataError, HubError
from qlora_demo.engine.data import dataset
from qlora_demo.engine.data.splitting import stratified
from tests.reviews import write_rows


def test_the_sample_is_whole_and_shuffled() -> None:
    sample = dataset.load("sample")
    assert [len(sample.splits[name]) for name in ("train", "validation", "test")] == [3197, 400, 400]
    assert sample.labels == ("1 star", "2 stars", "3 stars", "4 stars", "5 stars") and sample.ordinal
    texts = [set(sample.splits[name].texts) for name in dataset.SPLITS]
    assert not (texts[0] & texts[1] or texts[0] & texts[2] or texts[1] & texts[2])
    assert dataset.load("sample").describe().sha256 == sample.describe().sha256
    assert dataset.load("sample", seed=1).describe().sha256 != sample.describe().sha256


def test_a_subset_of_a_sorted_file_has_every_class(tmp_path: Path) -> None:
    for split, rows in (("train", 200), ("validation", 20), ("test", 20)):
        write_rows(tmp_path / f"{split}.jsonl", [{"text": f"{split} {i}", "label": i * 5 // rows} for i in range(rows)])
    train = dataset.load(str(tmp_path), rows=23).splits["train"]
    assert len(train) == 23 and set(Counter(train.labels).values()) <= {4, 5} and len(set(train.labels)) == 5
    assert train.labels != sorted(train.labels), "still sorted by star"


@pytest.mark.parametrize("seed", range(200))
def test_a_subset_has_exactly_the_rows_asked_for_and_its_shares(seed: int) -> None:
    draw = random.Random(seed)
    classes, size = draw.randint(1, 8), draw.randint(1, 400)
    skew = [draw.random() ** draw.choice((1, 4, 9)) for _ in range(classes)]
    labels = draw.choices(range(classes), skew, k=size)
    rows = draw.choice((1, classes, draw.randint(1, size), size, size + 5))
    chosen = stratified(labels, rows, seed)
    assert len(chosen) == len(set(chosen)) == min(rows, size) and chosen == stratified(labels, rows, seed)
    counts, whole = Counter(labels[i] for i in chosen), Counter(labels)
    if rows >= len(whole):
        assert counts.keys() == whole.keys(), "one of each class where there is room for it"
    for label, of in whole.items():
        share = len(chosen) * of / size
        assert counts[label] <= max(1, share + 1) and counts[label] >= share - len(whole)


def test_a_file_is_divided_without_leaks(tmp_path: Path) -> None:
    rows = [{"text": f"review {i // 2}", "stars": 1 + i // 2 % 5} for i in range(200)]
    found = dataset.load(write_rows(tmp_path / "reviews.jsonl", rows))
    sizes = {name: len(reviews) for name, reviews in found.splits.items()}
    assert sum(sizes.values()) == 200 and sizes["validation"] == sizes["test"] == 20
    texts = [set(found.splits[name].texts) for name in dataset.SPLITS]
    assert not (texts[0] & texts[1] or texts[0] & texts[2] or texts[1] & texts[2])


def test_titles_are_joined_and_gaps_counted(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    odd = "Title,Review,Rating\nBad,It broke,1\n,,2\nFine,,3\nGood,Works,\n"
    path.write_text(odd + "".join(f"t{i},body {i},{1 + i % 5}\n" for i in range(30)))
    found = dataset.load(str(path))
    every = [text for reviews in found.splits.values() for text in reviews.texts]
    assert "Bad\n\nIt broke" in every and "Fine" in every
    assert found.skipped == {"empty text": 1, "no label": 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"words,more\nx,y\n", "No column looks like the text; the columns are words, more"),
        ("a.jsonl", b'{"text": "a"\n', "not a readable .json file: it ends too early"),
        ("a.jsonl", b"[1, 2]\n", "a value that is no object"),
        ("a.jsonl", b"", "holds no reviews"),
        ("a.txt", b"hello", "give a .csv"),
        ("a.csv", b"text,label\n" + b"".join(b"t%d,l%d\n" % (i, i) for i in range(40)), "40 different labels"),
        ("a.parquet", b"not parquet", "not a readable .parquet file"),
    ],
)
def test_bad_files_get_one_sentence(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        dataset.load(str(tmp_path / name))


def test_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QLORA_DEMO_OFFLINE", "1")
    with pytest.raises(DataError, match=r"There is no file nowhere\.csv"):
        dataset.load("nowhere.csv")
    with pytest.raises(HubError, match="QLORA_DEMO_OFFLINE=1 forbids"):
        dataset.load("amazon-reviews")


def test_star_scales_match_by_order_and_other_labels_do_not(tmp_path: Path) -> None:
    stars = dataset.load_rows(
        write_rows(tmp_path / "a.jsonl", [{"text": "good", "label": 4}, {"text": "bad", "label": 0}])
    )
    assert dataset.align_labels(stars, dataset.SAMPLE_LABELS).labels == [4, 0]
    rows = [{"text": "good", "label": "glad"}, {"text": "bad", "label": "sad"}]
    moods = dataset.load_rows(write_rows(tmp_path / "b.jsonl", rows))
    with pytest.raises(DataError, match="labelled glad, sad"):
        dataset.align_labels(moods, dataset.SAMPLE_LABELS)
