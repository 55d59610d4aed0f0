"""A messy file classified by a real worker with the shipped adapter: rows, downloads, labels, stop; and by the command
line."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from starlette.applications import Starlette
from starlette.testclient import TestClient

from qlora_demo.core.requests import ClassifyRequest
from qlora_demo.engine.classify.classifier import Classifier
from qlora_demo.jobs import queue
from qlora_demo.jobs.store import Job, Store
from qlora_demo.storage.result_files import read_rows
from qlora_demo.ui.server.downloads import available_kinds, files_route, link_to
from tests.conftest import Cli
from tests.messy_file import ODD, REPEATED, write_messy
from tests.reviews import first_reviews


def submit(store: Store, path: Path, **fields: Any) -> Job:
    return queue.submit(store, "classify", ClassifyRequest(file=str(path), **fields).to_dict(), beside=True)


def wait(store: Store, job: Job, until: Callable[[], bool] = lambda: False, seconds: float = 300) -> None:
    """Until the job's end, or until it is so."""
    began = time.monotonic()
    while not until() and not job.state().is_final:
        assert time.monotonic() - began < seconds, (job.state(), (job.folder / "worker.log").read_text())
        time.sleep(0.1)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Job]:
    place = tmp_path_factory.mktemp("file")
    store = Store(place / "home")
    job = submit(store, write_messy(place / "reviews of mine.csv"), label_column="rating")
    wait(store, job)
    return store, job


def test_the_job_classifies_every_row_it_can_read(done: tuple[Store, Job]) -> None:
    _, job = done
    report = json.loads((job.folder / "report.json").read_text())
    last = Path(job.settings()["file"]).read_bytes().count(b"\n")
    assert job.state().state == "done" and report is not None
    assert (report["rows"], report["done"], report["classified"], report["stopped"]) == (60, 60, 58, False)
    assert report["without_prediction"] == {"empty": 1, "longer than 50,000 characters": 1}
    assert report["skipped"] == [{"reason": "fewer cells than the 5 columns", "rows": 1, "first_lines": [last]}]
    assert report["added"]["stars"] == "predicted_stars" and sum(report["by_label"].values()) == 58
    phases = [event for event in job.events() if event["event"] == "phase"]
    assert [phase["name"] for phase in phases][:2] == ["load", "read"] and phases[-1]["name"] == "write"
    assert next(phase for phase in phases if phase["progress"] == 1)["detail"] == "60 of 60 rows"


def test_one_by_one_and_in_a_file_the_numbers_are_the_same(done: tuple[Store, Job]) -> None:
    rows = [row for row in read_rows(done[1].folder) if not row["problem"]]
    classifier = Classifier("sample")
    for row in rows[::6]:
        one = classifier.classify([row["Review"]])[0]
        assert (one.label, one.stars) == (row["label"], row["predicted_stars"]), row["Review"]
        assert max(abs(share - row[f"probability_{label}"]) for label, share in one.probabilities.items()) < 0.01
    assert len({json.dumps([row["expected_stars"]]) for row in rows if row["Review"] == REPEATED}) == 1


def test_the_files_own_labels_judge_it(done: tuple[Store, Job]) -> None:
    report = json.loads((done[1].folder / "report.json").read_text())
    assert report is not None
    metrics = report["final"]["test"]
    right = [row for row in read_rows(done[1].folder) if row["label"] and row["rating"]]
    accuracy = sum(row["label"][0] == row["rating"] for row in right) / len(right)
    assert metrics["rows"] == len(right) == 53 and metrics["accuracy"] == pytest.approx(accuracy)
    assert metrics["accuracy"] > 0.6
    assert metrics["intervals"]["accuracy"][0] < metrics["accuracy"] < metrics["intervals"]["accuracy"][1]
    assert "5 more have no label" in report["judged"]


def test_the_three_downloads_agree_and_show_no_path(done: tuple[Store, Job]) -> None:
    store, job = done
    client = TestClient(Starlette(routes=[files_route(store)]))
    answers = {kind: client.get(f"/{link_to(job.id, kind)}") for kind in available_kinds(job)}
    assert list(answers) == ["csv", "jsonl", "parquet"] and all(
        answer.status_code == 200 for answer in answers.values()
    )
    name = "attachment; filename*=utf-8''reviews%20of%20mine-classified."
    for kind, answer in answers.items():
        assert answer.headers["content-disposition"] == f"{name}{kind}"
        assert answer.headers["x-content-type-options"] == "nosniff" and str(store.home) not in str(answer.headers)
    assert answers["csv"].content.startswith(b"\xef\xbb\xbfid;Review;rating;note;stars;label;predicted_stars;")
    csv.field_size_limit(1_000_000)
    cells = list(csv.DictReader(answers["csv"].content.decode("utf-8-sig").splitlines(keepends=True), delimiter=";"))
    lines = [json.loads(line) for line in answers["jsonl"].content.decode().splitlines()]
    (job.folder.parent / "copy.parquet").write_bytes(answers["parquet"].content)
    assert lines == parquet.read_table(job.folder.parent / "copy.parquet").to_pylist() and len(cells) == 60
    theirs = ("id", "rating", "note", "label", "Review")
    for cell, line in zip(cells, lines, strict=True):
        assert [cell[name].removeprefix("'") for name in theirs] == [line[name] or "" for name in theirs]
        assert cell["problem"] == (line["problem"] or "")
        assert cell["expected_stars"] in ("", f"{line['expected_stars'] or 0:.4f}")
    assert [line["Review"] for line in lines[50:55]] == list(ODD) and cells[53]["Review"] == f"'{ODD[3]}"
    assert {cell["note"] for cell in cells} == {"-3", "+1.5", "'=1+1", "'-2+3", "'\tx", "plain"}


@pytest.mark.parametrize(
    "address",
    [
        "files/{run}/{token}/report",
        "files/{run}/{token}/..%2Fconfig.json",
        "files/{run}/{token}/",
        "files/{run}/x/csv",
        "files/{run}//csv",
        "files/..%2F{run}/{token}/csv",
        "files/20260101-000000-abcd/{token}/csv",
        "files/%00/{token}/csv",
        "files/{run}/%C3%A9/csv",
    ],
)
def test_nothing_else_is_found(done: tuple[Store, Job], address: str) -> None:
    store, job = done
    token = link_to(job.id, "csv").split("/")[2]
    client = TestClient(Starlette(routes=[files_route(store)]))
    assert client.get(f"/{address.format(run=job.id, token=token)}").status_code == 404


def test_a_stop_keeps_what_is_done(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    texts = [row["text"] for row in first_reviews(500)]
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps({"n": i, "text": f"{i} {text}"}) + "\n" for i, text in enumerate(texts * 20)))
    job = submit(store, path)
    written = job.folder / "predictions.jsonl"
    wait(store, job, lambda: written.is_file() and written.stat().st_size > 0)
    running = TestClient(Starlette(routes=[files_route(store)])).get(f"/{link_to(job.id, 'jsonl')}")
    assert running.content.endswith(b"}\n")
    assert running.headers["content-disposition"].endswith('filename="long-classified.jsonl"')
    queue.stop(store, job.id)
    wait(store, job)
    report = json.loads((job.folder / "report.json").read_text())
    assert job.state().state == "stopped" and report is not None and report["stopped"]
    rows = list(read_rows(job.folder))
    assert 0 < len(rows) == report["done"] < report["rows"] and [row["n"] for row in rows] == list(range(len(rows)))
    assert parquet.read_table(job.folder / "predictions.parquet").num_rows == len(rows)
    assert len((job.folder / "predictions.csv").read_text(encoding="utf-8-sig").splitlines()) > len(rows)


def test_a_file_that_cannot_be_read_fails_in_one_sentence(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\r\n" + bytes(range(256)))
    job = submit(store, tmp_path / "picture.csv")
    wait(store, job)
    state = job.state()
    assert state.state == "failed" and state.error is not None and "picture" in state.error
    assert state.error.endswith(".")


def test_the_command_line_gives_the_same(done: tuple[Store, Job], tmp_path: Path, cli: Cli) -> None:
    path = write_messy(tmp_path / "in.csv")
    options = ["--file", str(path), "--label", "rating", "--output", str(tmp_path / "out.jsonl"), "--json"]
    status, out, err = cli("classify", "--adapter", "sample", *options)
    assert status == 0 and "2 of 60 rows have no prediction" in err and "Judged on 53 rows" in err
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    printed = json.loads(out)
    assert len(printed) == 58 and [item["label"] for item in printed] == [row["label"] for row in rows if row["label"]]
    for ours, theirs in zip(rows, read_rows(done[1].folder), strict=True):
        assert ours["Review"] == theirs["Review"] and ours["label"] == theirs["label"]
        assert abs((ours["expected_stars"] or 0) - (theirs["expected_stars"] or 0)) < 0.05
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.jsonl"]
