"""What the page, the card and the command line say of how good a run is; and what anyone's browser may ask about it."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qlora_demo.cli import lines
from qlora_demo.core.run_report import ReliabilityBin, RunReport
from qlora_demo.engine.classify import calibration
from qlora_demo.engine.classify import metrics as evaluation
from qlora_demo.engine.data import dataset
from qlora_demo.jobs.store import Job, Store
from qlora_demo.services.app import Services
from qlora_demo.ui.train import evaluation_report
from qlora_demo.ui.train.evaluation_views import describe_fullest
from qlora_demo.ui.train.run_views import view_report
from tests.reviews import shipped_report

NAMES = ["1 star", "2 stars", "3 stars", "4 stars", "5 stars"]


@pytest.fixture(scope="module")
def reports() -> tuple[dict[str, Any], dict[str, Any]]:
    """A report of today and one of before there were intervals, of the same run."""
    report = shipped_report()
    report.pop("calibration", None)
    old = deepcopy(report)
    for metrics in (*old["final"].values(), old["base"], *old["baselines"].values()):
        metrics.pop("intervals", None)
        metrics.pop("calibration", None)
    (labels, logits), (test_labels, test_logits) = draw(0), draw(1)
    report["final"] = {
        "validation": evaluation.compute_metrics(labels, logits, NAMES, True).to_dict(),
        "test": evaluation.compute_metrics(test_labels, test_logits, NAMES, True).to_dict(),
    }
    report["calibration"] = calibration.calibrate(labels, logits, test_labels, test_logits).to_dict()
    # As it comes out of the file.
    return json.loads(json.dumps(report)), old


def draw(seed: int) -> tuple[list[int], np.ndarray]:
    drawing = np.random.default_rng(seed)
    labels = drawing.integers(0, 5, 300)
    return labels.tolist(), drawing.normal(0, 2.4, (300, 5)) - 2.2 * np.abs(np.arange(5) - labels[:, None])


@pytest.fixture
def job(tmp_path: Path, reports: tuple[dict[str, Any], dict[str, Any]]) -> Job:
    """A run with long texts in a script of four bytes a character, so that answers are as large as they get."""
    made = Store(tmp_path).create("train", {})
    looked = {}
    for split, seed in (("validation", 0), ("test", 1)):
        labels, logits = draw(seed)
        looked[split] = (dataset.Reviews([f"{i} " + "\U0001f600" * 1_500 for i in range(len(labels))], labels), logits)
    evaluation.write_answers(made.folder / "answers.jsonl", looked)
    (made.folder / "report.json").write_text(json.dumps(reports[0]))
    return made


@pytest.fixture
def services(job: Job) -> Services:
    return Services(Store(job.folder.parent), launch=lambda *_: None)  # type: ignore[arg-type, return-value]


def counts(matrix: str) -> list[list[int]]:
    """The numbers of a matrix of five labels, as the page shows it."""
    numbers = [int(text) for text in re.findall(r'data-guess="\d">([\d,]+)<', matrix)]
    return [numbers[at : at + 5] for at in range(0, 25, 5)]


def weight(answer: dict[str, Any]) -> int:
    return len(json.dumps(answer, ensure_ascii=False).encode())


def test_the_overview(services: Services, job: Job) -> None:
    found = evaluation_report.find_overview(services, {"run": job.id})
    final = json.loads((job.folder / "report.json").read_text())["final"]
    assert found["labels"] == NAMES and found["ordinal"] and found["listed"]
    assert list(found["splits"]) == ["test", "validation"]
    assert counts(found["splits"]["test"]) == final["test"]["confusion"]
    assert "When its confidence is about" in found["reliability"]
    assert weight(found) < 50_000


def test_the_reviews_of_a_cell_are_those_it_counts(services: Services, job: Job) -> None:
    confusion = counts(evaluation_report.find_overview(services, {"run": job.id})["splits"]["validation"])
    for label in range(5):
        for guess in range(5):
            asked = {"run": job.id, "split": "validation", "label": label, "guess": guess, "after": 0}
            found = evaluation_report.find_reviews(services, asked)
            assert found["total"] == confusion[label][guess] and len(found["reviews"]) == min(10, found["total"])
            assert all((one["label"], one["guess"]) == (label, guess) for one in found["reviews"])
            assert weight(found) < 50_000
    pages = [
        evaluation_report.find_reviews(services, {**asked, "label": 2, "guess": 2, "after": after})["reviews"]
        for after in range(0, 300, 10)
    ]
    sure = [one["probabilities"][2] for page in pages for one in page]
    assert len(sure) == confusion[2][2] > 20 and sure == sorted(sure, reverse=True)
    assert len({one["text"].split()[0] for page in pages for one in page}) == len(sure)


def test_the_worst_mistakes(services: Services, job: Job) -> None:
    asked = {"run": job.id, "split": "test"}
    pages = [evaluation_report.find_reviews(services, {**asked, "after": after})["reviews"] for after in (0, 10, 20)]
    worst = [one for page in pages for one in page]
    assert len(worst) == evaluation_report.WORST
    off = [(-abs(one["label"] - one["guess"]), -one["probabilities"][one["guess"]]) for one in worst]
    assert off == sorted(off) and off[0][0] < -2
    wrong = [answer for answer in job.answers() if answer["split"] == "test" and answer["label"] != answer["guess"]]
    assert min(-abs(answer["label"] - answer["guess"]) for answer in wrong) == off[0][0]


CELLS: list[dict[str, Any]] = [{"label": 1}, {"label": 1, "guess": "1"}, {"label": -1, "guess": 1}]


@pytest.mark.parametrize(
    "query",
    [
        *(None, [], "run", {}, {"run": 7}, {"run": ["x"]}, {"run": "../../etc", "split": "test", "after": 0}),
        *({"run": "RUN"}, {"run": "RUN", "split": "train", "after": 0}, {"run": "RUN", "split": {"a": 1}, "after": 0}),
        *({"run": "RUN", "split": "test", "after": after} for after in (-1, 0.5, True)),
        *({"run": "RUN", "split": "test", "after": 0, **cell} for cell in CELLS),
    ],
)
def test_queries_that_are_none(services: Services, job: Job, query: Any) -> None:
    asked = {**query, "run": job.id} if isinstance(query, dict) and query.get("run") == "RUN" else query
    assert evaluation_report.find_reviews(services, asked).keys() == {"error"}
    if asked is query:
        assert evaluation_report.find_overview(services, asked).keys() == {"error"}


def test_beyond_the_end_there_is_nothing(services: Services, job: Job) -> None:
    asked = {"run": job.id, "split": "test", "label": 99, "guess": 10**30, "after": 10**30}
    assert evaluation_report.find_reviews(services, asked) == {"total": 0, "reviews": []}


@pytest.mark.parametrize("report", [None, {}, {"final": {"test": {"accuracy": 0.9}}}, "old"])
def test_runs_without_much_of_a_report(
    tmp_path: Path, reports: tuple[dict[str, Any], dict[str, Any]], report: Any
) -> None:
    job = Store(tmp_path).create("train", {})
    if report is not None:
        (job.folder / "report.json").write_text(json.dumps(reports[1] if report == "old" else report))
    services = Services(Store(tmp_path), launch=lambda *_: None)  # type: ignore[arg-type, return-value]
    found = evaluation_report.find_overview(services, {"run": job.id})
    assert not found["listed"] and found["reliability"] == ""
    assert list(found["splits"]) == (["test", "validation"] if report == "old" else [])
    asked = {"run": job.id, "split": "test", "after": 0}
    assert evaluation_report.find_reviews(services, asked) == {"total": 0, "reviews": []}


def test_the_report_has_intervals_where_there_are_any(reports: tuple[dict[str, Any], dict[str, Any]]) -> None:
    new, old = (view_report(RunReport.model_validate(report)) for report in reports)
    low, high = reports[0]["final"]["test"]["intervals"]["accuracy"]
    assert f"<small>{100 * low:.0f}–{100 * high:.0f}</small>" in new and "(bootstrap)" in new
    assert "<small>" not in old and "bootstrap" not in old
    started = view_report(RunReport.model_validate({**reports[0], "start": reports[0]["base"]}))
    assert "The adapter it started from" in started and "The adapter it started from" not in new


def test_the_command_line_has_them_too() -> None:
    metrics = evaluation.compute_metrics(*draw(1), NAMES, True)
    printed, (low, high) = lines.metrics(metrics), metrics.intervals["accuracy"]
    assert f"{100 * metrics.accuracy:.1f} %  (95 %: {100 * low:.1f} % to {100 * high:.1f} %)" in printed
    assert metrics.calibration is not None and f"{metrics.calibration.ece:.3f}" in printed


def test_what_a_bin_means() -> None:
    def bins(confidence: float, accuracy: float, rows: int = 200) -> list[ReliabilityBin]:
        few = ReliabilityBin(lower=0.2, upper=0.3, rows=3, confidence=0.25, accuracy=1.0)
        return [few, ReliabilityBin(lower=0.8, upper=0.9, rows=rows, confidence=confidence, accuracy=accuracy)]

    assert describe_fullest(bins(0.9, 0.7), 203) == (
        "When its confidence is about 90 % (in 200 of 203 reviews), it is right 70 % of the time: it is overconfident."
    )
    assert describe_fullest(bins(0.8, 0.95), 203).endswith("it is underconfident.")
    assert describe_fullest(bins(0.9, 0.88), 203).endswith("well calibrated, within chance.")
    assert describe_fullest(bins(0.9, 0.7, 5), 8).endswith("well calibrated, within chance."), "five reviews say little"
    assert describe_fullest(bins(1.0, 0.99), 203).endswith("it is overconfident.")
