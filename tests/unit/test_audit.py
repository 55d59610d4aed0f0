"""The report of a data source, its preview, and a review as the model sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qlora_demo.core.data_report import Contradiction
from qlora_demo.engine.data import audit, dataset, preview
from qlora_demo.engine.data.columns import Columns
from qlora_demo.engine.data.packed_texts import PackedTexts, pack
from qlora_demo.engine.models.modeling import load_tokenizer
from qlora_demo.engine.models.sources import resolve
from tests.reviews import write_rows


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(resolve("sample"))


def test_the_report_of_the_sample(tokenizer: Any) -> None:
    report = audit.examine(dataset.read_all("sample"), tokenizer, 128)
    assert (report.rows, report.used, report.splits) == (3997, 3997, {"train": 3197, "validation": 400, "test": 400})
    assert list(report.labels) == list(dataset.SAMPLE_LABELS) and sum(report.labels.values()) == 3997
    assert report.leaks == () and report.skipped == () and report.contradicting == 0
    assert next(iter(report.languages)) == "en" and report.languages["en"] > 0.95 and report.language_reviews == 2000
    splits = dataset.load("sample").splits.values()
    counts = [len(ids) for reviews in splits for ids in tokenizer(reviews.texts)["input_ids"]]
    assert report.tokens is not None and not report.tokens.sampled
    assert (report.tokens.max, report.tokens.reviews) == (max(counts), 3997)
    assert report.tokens.truncated == sum(count > 128 for count in counts) / 3997
    assert report.tokens.cut == sum(max(0, count - 128) for count in counts) / sum(counts)


def test_doubles_contradictions_and_leaks(tmp_path: Path) -> None:
    praise = {"text": "it works", "label": 5}
    blame = [{"text": "it works", "label": 1}, {"text": "broke", "label": 1}]
    write_rows(tmp_path / "train.jsonl", [praise, praise, praise, *blame])
    write_rows(tmp_path / "validation.jsonl", [{"text": "broke", "label": 1}, {"text": "new", "label": 3}])
    write_rows(tmp_path / "test.jsonl", [praise, {"text": "new", "label": 3}, {"text": "own", "label": 4}])
    report = audit.examine(dataset.read_all(str(tmp_path)))
    assert report.duplicates == 3, "within a split"
    assert report.contradicting == 5 and report.contradictions == (
        Contradiction(text="it works", labels={"1": 1, "5": 4}),
    )
    assert [(leak.known, leak.judged, leak.rows, leak.examples) for leak in report.leaks] == [
        ("train", "validation", 1, ("broke",)),
        ("train", "test", 1, ("it works",)),
        ("validation", "test", 1, ("new",)),
    ]
    assert report.balance["test"] == {"1": 0, "2": 0, "3": 1, "4": 1, "5": 1}
    assert any("1 reviews of test are in train too" in warning for warning in report.warnings)


def test_many_reviews_are_counted_on_a_sample_that_says_so(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "TOKEN_REVIEWS", 100)
    rows = [{"text": "word " * (2 if i % 10 else 50), "label": 1 + (i % 10 == 0)} for i in range(3000)]
    report = audit.examine(dataset.read_all(write_rows(tmp_path / "a.jsonl", rows)), tokenizer, 20)
    assert report.tokens is not None and (report.tokens.reviews, report.tokens.sampled) == (100, True)
    assert report.tokens.truncated == 0.1, "stratified: a tenth of the labels, a tenth of the sample"
    assert any("random sample of 100 reviews" in warning for warning in report.warnings)


def test_what_is_damaged_is_counted_and_mended(tmp_path: Path) -> None:
    sound = ["café très bon", "it’s “fine” ﬁne", "plain"]
    texts = ["fish &amp; chips", "said &amp;quot;no&amp;quot;", "AT&T; or R&D", "cafÃ© trÃ¨s bon", *sound]
    path = write_rows(tmp_path / "a.jsonl", [{"text": text, "label": i % 2} for i, text in enumerate(texts)])
    report = audit.examine(dataset.read_all(path))
    assert (report.entities, report.garbled) == (2, 1)
    mended = dataset.read_all(path, columns=Columns(mend=True))
    assert list(mended.splits["all"].texts) == ["fish & chips", 'said "no"', "AT&T; or R&D", "café très bon", *sound]
    after = audit.examine(mended)
    assert (after.entities, after.garbled, after.duplicates) == (0, 0, 1)


def test_languages_are_told_apart(tmp_path: Path) -> None:
    german = "Das Frühstück war sehr gut und die Zimmer waren sauber und ruhig."
    spanish = "El desayuno estuvo muy bueno y las habitaciones estaban limpias y tranquilas."
    rows = [{"text": f"{german if i % 4 else spanish} {i}", "label": i % 2} for i in range(80)] + [
        {"text": "ok", "label": 1}
    ]
    report = audit.examine(dataset.read_all(write_rows(tmp_path / "a.jsonl", rows)))
    assert report.languages == {"de": 0.75, "es": 0.25} and report.language_reviews == 80
    assert any("de 75.0 %, es 25.0 %" in warning for warning in report.warnings)


def test_columns_without_known_names_are_found_by_what_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{i},it works well {i},{1 + i % 5}\n" for i in range(30)))
    report = audit.examine(dataset.read_all(str(path)))
    assert (report.text_column, report.label_column, report.header) == ("column 2", "column 3", False)
    assert sum("was taken" in warning for warning in report.warnings) == 2
    path.write_text(
        "thoughts,felt\n" + "".join(f"thought {i},{mood}\n" for i, mood in enumerate(["Poor", "Good", "Excellent"] * 5))
    )
    report = audit.examine(dataset.read_all(str(path)))
    assert report.text_column == "thoughts" and list(report.labels) == ["Poor", "Good", "Excellent"] and report.ordinal


def test_the_preview_searches_texts_and_labels(tmp_path: Path) -> None:
    rows = [
        {"text": f"Lamp {i} <b>shines</b>" if i % 3 else f"SHADE {i}", "label": ["awful", "great"][i % 2]}
        for i in range(30)
    ]
    found = dataset.read_all(write_rows(tmp_path / "a.jsonl", rows))
    shown, total = preview.search(found, "shade", start=2, count=3)
    assert total == 10 and [(row.row, row.text, row.label) for row in shown] == [
        (7, "SHADE 6", "awful"),
        (10, "SHADE 9", "great"),
        (13, "SHADE 12", "awful"),
    ]
    assert preview.search(found, "GREAT")[1] == 15 and preview.search(found)[1] == 30
    assert preview.search(found, "none such") == ([], 0)


def test_a_review_as_the_model_sees_it(tokenizer: Any) -> None:
    text = "It shines on and on, and then the <b>bulb</b> 👍 broke."
    whole = preview.as_model_sees(text, tokenizer, 200, 40)
    assert whole.mask == (1,) * sum(whole.mask) + (0,) * whole.padding and len(whole.ids) == len(whole.tokens) == 40
    assert whole.cut_tokens == 0 and whole.cut_text == "" and whole.ids[-1] == tokenizer.pad_token_id
    cut = preview.as_model_sees(text, tokenizer, 8)
    assert len(cut.ids) == 8 and cut.padding == 0 and cut.cut_tokens == sum(whole.mask) - 8
    assert text.endswith(cut.cut_text) and len(cut.cut_text) > 10
    assert list(cut.ids) == tokenizer(text, truncation=True, max_length=8)["input_ids"], "as training cuts it"


def test_packed_texts_read_like_a_list() -> None:
    texts = ["", "plain", "café", "👍🏽", "日本"] * 300
    packed = PackedTexts([pack(texts[:700]), pack(texts[700:])])
    assert list(packed) == texts and len(packed) == 1500 and packed[-1] == "日本" and packed[3] == "👍🏽"
    assert packed[2:1400:7] == texts[2:1400:7] and list(packed.take([4, 0, 2])) == ["日本", "", "café"]
    assert len(PackedTexts([])) == 0 and packed.nbytes < 20 * 1500
    with pytest.raises(IndexError):
        packed[1500]


def test_leftovers_of_both_kinds_are_told_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "fine,5\nbad,1\n" * 30 + "odd,7\n,3\nno label,\nodder,8\nodd,7\n")
    found = dataset.read_all(str(path))
    seven, eight = ("label '7' outside 1 to 5", "label '8' outside 1 to 5")
    assert found.skipped == {"empty text": 1, seven: 2, "no label": 1, eight: 1}
    assert found.origin.first_lines == {"empty text": (63,), seven: (62, 66), "no label": (64,), eight: (65,)}
    chosen = dataset.read_all(str(path), columns=Columns(labels=("1", "5", "7")))
    assert chosen.labels == ("1", "5", "7") and chosen.splits["all"].labels.count(2) == 2
    assert sum(chosen.skipped.values()) == 3
    loaded = dataset.load(str(path))
    assert sum(len(reviews) for reviews in loaded.splits.values()) == 60 and loaded.skipped == found.skipped
