"""Reports of jobs: what is written is read again, old files too, and a damaged one is one run's trouble."""

import json
import math
from pathlib import Path

import pytest

from qlora_demo.core.errors import ReportError
from qlora_demo.core.file_report import FileReport
from qlora_demo.core.paths import ASSETS
from qlora_demo.core.run_report import Metrics, RunReport
from qlora_demo.jobs.store import Store

SHIPPED = ASSETS / "adapter" / "report.json"


def without(value: dict[str, object], *names: str) -> dict[str, object]:
    return {name: part for name, part in value.items() if name not in names}


def test_the_shipped_report_is_written_as_it_was_read() -> None:
    old, new = json.loads(SHIPPED.read_text()), json.loads(RunReport.parse(SHIPPED.read_bytes()).to_json())
    assert new.pop("version") == 1
    for name in old.keys() - {"config", "data", "measured"}:
        assert new[name] == old[name], name
    assert old["config"].items() <= new["config"].items() and old["data"].items() <= new["data"].items()
    assert new.keys() == old.keys()
    for data, models in old["measured"].items():
        for model, metrics in models.items():
            read = new["measured"][data][model]
            assert read["intervals"] == (metrics.get("intervals") or metrics["interval_95"])
            assert without(read, "intervals", "calibration").items() <= metrics.items()


def test_a_report_of_another_version_is_read_as_far_as_it_is_known() -> None:
    text = json.loads(SHIPPED.read_text())
    text["config"]["mixture"], text["novelty"] = 3, {}
    del text["energy"], text["calibration"], text["baselines"], text["final"]["test"]["intervals"]
    report = RunReport.parse(json.dumps({**text, "version": 2}))
    assert (report.version, report.calibration, report.baselines) == (2, None, {})
    assert report.final["test"].accuracy == text["final"]["test"]["accuracy"]


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 1}', '{"base": 3}', "\0"])
def test_a_damaged_report_is_its_own_runs_trouble(tmp_path: Path, content: str) -> None:
    store = Store(tmp_path)
    damaged, whole, without_one = (store.create("train", {"model": "sample"}) for _ in range(3))
    (damaged.folder / "report.json").write_text(content)
    (whole.folder / "report.json").write_bytes(SHIPPED.read_bytes())
    with pytest.raises(ReportError, match=f"report of run {damaged.id} is damaged"):
        damaged.report(RunReport)
    with pytest.raises(ReportError):
        whole.report(FileReport)
    report = whole.report(RunReport)
    assert report is not None and report is whole.report(RunReport), "parsed twice"
    assert without_one.report(RunReport) is None
    (whole.folder / "report.json").write_text(report.model_copy(update={"kept": "another"}).to_json())
    again = whole.report(RunReport)
    assert again is not None and again.kept == "another"


def test_what_is_not_finite_is_null() -> None:
    metrics = Metrics(rows=1, loss=math.nan, accuracy=0.5, macro_f1=0.5)
    assert metrics.to_dict()["loss"] is None and metrics.to_dict()["mae_stars"] is None
