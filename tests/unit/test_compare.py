"""Runs side by side: what differs, what is not beaten, and that reports of any age and damage are borne."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qlora_demo.__main__ import main
from qlora_demo.core.config import RunConfig
from qlora_demo.core.errors import SettingsError
from qlora_demo.jobs.state import write_state
from qlora_demo.jobs.store import Job, Store
from qlora_demo.services.app import Services
from qlora_demo.services.compare import COMPARED, Compared, compare
from qlora_demo.ui.train.compare_views import view_compared
from tests.pages import Page, words_of
from tests.reviews import shipped_report

SHIPPED = shipped_report()


def add_run(store: Store, accuracy: float = 0.8, seconds: float = 100, peak: int = 1000, **more: Any) -> Job:
    """A run with the shipped report's form and these results; `more`: its test data, name, state and settings."""
    test, name, state = (more.pop(key, usual) for key, usual in (("test", "same"), ("name", ""), ("state", "done")))
    report = copy.deepcopy(SHIPPED)
    report["final"]["test"] |= {"accuracy": accuracy, "intervals": {"accuracy": [accuracy - 0.03, accuracy + 0.03]}}
    report["training"]["seconds"], report["memory"]["peak_bytes"] = seconds, peak
    report["data"]["test_sha256"] = test
    job = store.create("train", RunConfig.read(more).to_dict(), name=name)
    (job.folder / "report.json").write_text(json.dumps(report))
    write_state(job.folder, replace(job.state(), state=state, created=job.state().created + len(store.jobs())))
    return job


def by_run(store: Store, reference: Job) -> dict[str, Compared]:
    return {one.run: one for one in compare(store.states("train"), reference)}


def test_only_what_differs_from_the_run_shown_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    shown = add_run(store, pinned=["mine"], log_every=3)
    other = add_run(store, rank=4, gradient_checkpointing=True, learning_rate=5e-5, pinned=["others"], log_every=9)
    found = by_run(store, shown)
    assert found[shown.id].changes == ()
    assert dict(found[other.id].changes) == {"rank": "4", "gradient_checkpointing": "yes", "learning_rate": "5e-05"}
    back = by_run(store, other)
    assert dict(back[shown.id].changes) == {"rank": "16", "gradient_checkpointing": "no", "learning_rate": "0.001"}


def test_unbeaten_is_who_nobody_equals_in_all_and_beats_in_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    results = ((0.9, 300, 3000), (0.7, 50, 2500), (0.7, 200, 500), (0.89, 301, 3000), (0.9, 300, 3000))
    best, quick, small, beaten, twin = (add_run(store, *result) for result in results)
    elsewhere = add_run(store, 0.99, 1, 1, test="others")
    found = by_run(store, best)
    assert [run for run in found if found[run].unbeaten] == [twin.id, small.id, quick.id, best.id], "newest first"
    assert not found[beaten.id].unbeaten
    assert not found[elsewhere.id].unbeaten, "alone with its reviews it says nothing"


def test_runs_without_a_result_and_damaged_ones_are_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole = add_run(store)
    running, without, odd, old, foreign = (
        add_run(store, state=state) for state in ("queued", "failed", "done", "stopped", "done")
    )
    (without.folder / "report.json").unlink()
    (odd.folder / "report.json").write_text('{"final": {"test": []}}')
    report = json.loads((old.folder / "report.json").read_text())
    del report["data"]["test_sha256"], report["energy"], report["final"]["test"]["intervals"]
    (old.folder / "report.json").write_text(json.dumps(report))
    (foreign.folder / "config.json").write_text('{"unknown": 1}')
    found = by_run(store, whole)
    assert list(found) == [old.id, whole.id] and running.id not in found
    assert found[old.id].interval is None and found[old.id].test == SHIPPED["data"]["sha256"]
    assert found[old.id].joules is None
    with pytest.raises(SettingsError):
        compare(store.states("train"), foreign)
    for _ in range(COMPARED):
        add_run(store)
    assert len(by_run(store, whole)) == COMPARED


def test_strangers_hear_nothing_of_what_is_in_an_upload(tmp_path: Path) -> None:
    services = Services(Store(tmp_path), public=True)
    place = tmp_path / ".cache" / "uploads" / ("a" * 32) / "diary.csv"
    place.parent.mkdir(parents=True)
    place.write_text("text,label\n")
    shown = add_run(services.store)
    private = add_run(services.store, data=str(place), text_column="confession", labels=["guilty", "not"], rank=2)
    [told] = [one for one in services.train.compare(shown.id, {}) if one.run == private.id]
    assert dict(told.changes).keys() == {"data", "rank"}
    said = view_compared(services.train.compare(shown.id, {}), shown.id)
    assert not [word for word in ("confession", "guilty", "diary", str(tmp_path)) if word in said]
    services.host.public = False
    said = view_compared(services.train.compare(shown.id, {}), shown.id)
    assert "confession" in said and "diary.csv" in said and str(tmp_path) not in said


def test_listing_runs_and_adapters_parses_each_report_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    services = Services(Store(tmp_path), public=True)
    jobs = [add_run(services.store, 0.75) for _ in range(3)]
    for job in jobs:
        (job.folder / "adapter").mkdir()
    reads: list[str] = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path.name) or read(path))  # type: ignore[func-returns-value]
    for _ in range(4):
        assert [title.rpartition(", ")[2] for title, _ in services.classify.adapters()[1:]] == ["75% right"] * 3
        assert [(run.metrics or {})["accuracy"] for run in services.train.runs()] == [0.75] * 3
        assert services.host.adapter_names() == {"sample", *(job.id for job in jobs)}
        assert len(services.train.compare(jobs[0].id, {})) == 3
    assert reads.count("report.json") == 2 * 3, "once for summaries, once to compare"
    report = json.loads((jobs[0].folder / "report.json").read_text())
    report["final"]["test"]["accuracy"] = 0.5
    (jobs[0].folder / "report.json").write_text(json.dumps(report, indent=1))
    assert services.train.summary(jobs[0].id).metrics["accuracy"] == 0.5, "a new report is read"


def test_the_table_and_the_picture(tmp_path: Path) -> None:
    store = Store(tmp_path)
    shown = add_run(store, 0.8, 90, 2**30, name="<script>bad</script>")
    add_run(store, 0.5, 5400, 3 * 2**30, rank=4, state="stopped")
    add_run(store, 0.6, 1, 2**20, test="others")
    page = view_compared(compare(store.states("train"), shown), shown.id)
    seen, text = Page(page), words_of(page)
    assert "script" not in seen.tags and "<script>bad</script>" in seen.text
    assert seen.tags.count("circle") == 2, "those judged on the same reviews"
    assert "80.0 %" in text and "77–83" in text and "1.5 h" in text and "3.00 GiB" in text
    assert "on 400 other reviews" in text
    assert "differs in: LoRA rank r 4" in text and "the run shown" in text and "stopped" in text
    assert "Energy" not in text
    assert "Not beaten" in text
    assert view_compared([], "") == '<p class="quiet">No run has a result yet.</p>'


def test_the_command_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    shown, other = add_run(store, 0.8, 300, 2**20), add_run(store, 0.7, 100, 2**20, rank=4)
    monkeypatch.setenv("QLORA_DEMO_HOME", str(tmp_path))
    assert main(["compare", shown.id, "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert [(one["run"], one["accuracy"], one["changes"]) for one in told] == [
        (other.id, 0.7, [["rank", "4"]]),
        (shown.id, 0.8, []),
    ]
    assert main(["compare", shown.id]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 3 and "70.0 %" in lines[1] and lines[1].endswith("rank 4") and "yes" in lines[1]
    assert main(["compare", "nothing"]) == 2
