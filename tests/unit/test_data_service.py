"""The data service: what it counts and keeps; requests changed by the page's fields, and the settings of a run made
of them."""

from __future__ import annotations

import csv
import gzip
import threading
import time
import weakref
from collections import Counter
from pathlib import Path

import pytest

from qlora_demo.core.data_report import Repair
from qlora_demo.core.errors import DataError
from qlora_demo.core.requests import DataRequest
from qlora_demo.engine.data import dataset
from qlora_demo.engine.data.columns import Columns
from qlora_demo.host.host import Host
from qlora_demo.jobs.store import Store
from qlora_demo.services import data
from qlora_demo.services.data import DataService
from tests.reviews import first_reviews


@pytest.fixture(scope="module")
def examiner() -> DataService:
    return DataService(Host(Store(Path("nowhere"))))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Twelve reviews of each star, two contradictions, one without a text; semicolons and Windows-1252."""
    path = tmp_path / "mine.csv"
    rows = [[row["label"] + 1, f"Größe {i}", f"{row['text']} Nº {i}", "x"] for i, row in enumerate(first_reviews(12))]
    rows += [[1, "", "so naja", "x"], [5, "", "so naja", "x"], [3, "", "", "x"], [2, "", "a &quot;bargain&quot;", "x"]]
    with path.open("w", encoding="cp1252", newline="", errors="replace") as sheet:
        csv.writer(sheet, delimiter=";").writerows([["stars", "title", "body", "note"], *rows])
    return path


def test_a_report_tells_lengths_and_damage(examiner: DataService, file: Path) -> None:
    phases: list[tuple[str, float]] = []
    report = examiner.examine(DataRequest(str(file)), on_phase=lambda phase, share: phases.append((phase, share)))
    assert (report.rows, report.used, report.encoding, report.delimiter) == (64, 63, "cp1252", ";")
    assert (report.text_column, report.title_column, report.label_column) == ("body", "title", "stars")
    assert report.contradicting == 2 and report.entities == 1
    assert report.repairs == (Repair(before="a &quot;bargain&quot;", after='a "bargain"'),)
    assert report.tokens and sum(report.tokens.counts.values()) == report.used
    assert max(report.tokens.counts) == report.tokens.max and report.tokens.max_length == 512
    assert [share for _, share in phases] == sorted(share for _, share in phases) and len(phases) == 3
    mended = examiner.examine(DataRequest(str(file), mend=True))
    assert mended.entities == 0 and mended.repairs == ()


def test_a_model_that_is_not_here_has_its_tokens_counted_by_the_sample(examiner: DataService, file: Path) -> None:
    report = examiner.examine(DataRequest(str(file)), "nobody/nothing")
    assert report.tokenizer == "sample" and "nobody/nothing" in report.tokenizer_problem


def test_the_subset_is_what_a_run_trains_on(examiner: DataService, file: Path) -> None:
    for title, rows in (("-", 0), ("-", 20), ("", 20)):
        request = DataRequest(str(file), title=title)
        train = dataset.load(str(file), columns=Columns(title=title), rows=rows).splits["train"]
        found = examiner.subset(request, rows)
        counts = Counter(train.labels)
        assert found.rows == len(train)
        assert [chosen for _, chosen in found.balance.values()] == [counts[i] for i in range(5)]
    sample = examiner.subset(DataRequest(), 100)
    assert (sample.available, sample.rows) == (3197, 100)
    assert list(sample.balance.values()) == [(640, 20), (640, 20), (640, 20), (638, 20), (639, 20)]


def test_reviews_are_searched_and_shown_as_the_model_gets_them(examiner: DataService, file: Path) -> None:
    request = DataRequest(str(file))
    rows, total = examiner.preview(request, "SO NAJA")
    assert total == 2 and [row.label for row in rows] == ["1", "5"]
    beside = [("all", row) for row in range(1, 9)]
    seen = examiner.as_model_sees(request, "all", rows[0].row, 32, beside=beside)
    assert seen.tokens[:4] == ("[CLS]", "so", "na", "##ja") and seen.text == "so naja"
    assert len(seen.ids) == len(seen.mask) == 32 and sum(seen.mask) + seen.padding == 32
    cut = examiner.as_model_sees(request, "all", 1, 8)
    assert cut.cut_tokens > 0 and cut.padding == 0 and cut.text.endswith(cut.cut_text)
    with pytest.raises(DataError, match="no review 999"):
        examiner.as_model_sees(request, "all", 999, 8)


def test_the_cache_is_bounded_by_bytes_and_lets_go_what_is_unused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [dataset.read_all(str(file), columns=Columns(title=title)) for title in ("", "-", "title")]
    monkeypatch.setattr(data, "CACHE_BYTES", int(2.5 * sets[0].splits["all"].nbytes))
    cache = data.ReviewCache(seconds=0.3)
    for i in range(3):
        cache.put(i, sets[i])
    assert cache.get(0) is None and cache.get(2) is sets[2], "the oldest makes room"
    monkeypatch.setattr(data, "CACHE_BYTES", 100)
    alone = data.ReviewCache()
    alone.put(0, sets[0])
    alone.put(1, sets[1])
    assert alone.get(0) is None and alone.get(1) is sets[1], "what is too large is cached alone"
    kept = weakref.ref(sets.pop())
    assert kept() is not None
    deadline = time.monotonic() + 10
    while kept() is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert kept() is None, "the memory is freed though nobody asks any more"


def test_forty_reads_leave_one_timer(examiner: DataService, file: Path) -> None:
    before = threading.active_count()
    for _ in range(40):
        examiner.preview(DataRequest(str(file)))
    deadline = time.monotonic() + 5
    while threading.active_count() > before + 1 and time.monotonic() < deadline:  # cancelled ones end at once
        time.sleep(0.01)
    assert threading.active_count() <= before + 1


def test_a_file_that_changed_is_read_again_and_one_that_went_is_told(examiner: DataService, file: Path) -> None:
    request = DataRequest(str(file))
    before = examiner.preview(request)[1]
    file.write_bytes(file.read_bytes() + b"4;;one more;x\r\n")
    assert examiner.preview(request)[1] == before + 1
    file.unlink()
    with pytest.raises(DataError, match=r"^The file mine\.csv is not there \(any more\); choose it again\.$"):
        examiner.preview(request)


def test_a_name_for_the_hub_is_never_a_path(
    examiner: DataService, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "assets" / "reviews").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in (str(file), "/etc/passwd", "../x", "assets/reviews", "mine.csv", "a/b/c", "", "~/x", "user/set.csv"):
        with pytest.raises(DataError, match="no data set's name on the Hub"):
            examiner.examine(DataRequest(name, hub=True))


def test_packed_files_and_splits(examiner: DataService, file: Path) -> None:
    packed = file.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    report = examiner.examine(DataRequest(str(packed)))
    assert report.format == "csv.gz" and report.available_splits == ()
    whole, part = (examiner.examine(DataRequest(split=split)) for split in ("", "test"))
    assert part.used == 400 and whole.available_splits == part.available_splits == ("train", "validation", "test")
