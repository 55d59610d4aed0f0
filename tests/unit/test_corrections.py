"""Corrections: kept whole whoever writes, and training data as they are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qlora_demo.core.errors import DataError
from qlora_demo.engine.data import dataset
from qlora_demo.storage.corrections import FILE, Feedback


def test_it_is_kept_and_trains(tmp_path: Path) -> None:
    feedback = Feedback(tmp_path / "new")
    texts = ["<script>alert(1)</script> = fine", "schön 🙂\nzwei Zeilen", "\ud800 half a letter"]
    for count, text in enumerate(texts, start=1):
        assert feedback.add(text, "2 stars", adapter="sample", answered="5 stars") == count
    feedback.add("worse", "1 star", adapter="sample", answered="3 stars")
    assert [told["text"] for told in feedback.read()][:2] == texts[:2]
    found = dataset.load_rows(str(feedback.path))
    assert len(found.splits["test"]) == 4 and found.ordinal
    assert "\ufffd half a letter" in found.splits["test"].texts
    assert texts[1] in found.splits["test"].texts


def test_a_torn_line_is_passed_over_and_the_next_is_whole(tmp_path: Path) -> None:
    feedback = Feedback(tmp_path)
    feedback.add("one", "a", adapter="sample", answered="b")
    with (tmp_path / FILE).open("a") as file:
        file.write('{"text": "half\n[1]\n')
    assert feedback.add("two", "a", adapter="sample", answered="b") == 2


def test_many_writers(tmp_path: Path) -> None:
    def write(number: int) -> None:
        for turn in range(20):
            Feedback(tmp_path).add(f"{number} {turn} " + "x" * 5000, "a", adapter="sample", answered="b")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len({told["text"] for told in Feedback(tmp_path).read()}) == 160


@pytest.mark.parametrize(("text", "label"), [("", "a"), (" \n", "a"), ("x" * 50_001, "a"), ("fine", "b")])
def test_what_says_nothing_is_refused(tmp_path: Path, text: str, label: str) -> None:
    with pytest.raises(DataError):
        Feedback(tmp_path).add(text, label, adapter="sample", answered="b")
    assert not (tmp_path / FILE).exists()
