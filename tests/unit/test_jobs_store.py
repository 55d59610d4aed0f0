"""Job folders: ids, listing, states that tell the truth, and homes that cannot be written."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from qlora_demo.core.errors import RunError
from qlora_demo.core.records import Finished, Step
from qlora_demo.core.run_report import RunReport
from qlora_demo.jobs.state import JobState, process_marks, read_state, this_host, write_state
from qlora_demo.jobs.store import EventWriter, Job, Store, to_json


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def as_running(job: Job, **changes: object) -> JobState:
    """Write the state of a job whose worker is this very process."""
    state = replace(job.state(), state="running", started=time.time(), **process_marks(os.getpid()))
    state = replace(state, **changes)  # type: ignore[arg-type]
    write_state(job.folder, state)
    return state


def test_a_new_job_is_queued_and_keeps_its_settings(store: Store) -> None:
    job = store.create("train", {"model": "sample", "rank": 8}, name="first", key_hash="abc")
    assert re.fullmatch(r"\d{8}-\d{6}-[a-z0-9]{6}", job.id)
    assert job.settings() == {"model": "sample", "rank": 8}
    state = store.job(job.id).state()
    assert (state.state, state.kind, state.name, state.key_hash) == ("queued", "train", "first", "abc")
    assert job.events() == [] and job.report(RunReport) is None and not job.stop_requested()
    assert not list(job.folder.glob(".state*")), "the draft of state.json was left behind"


UNKNOWN = ".. . ../home /etc .cache 20260101-000000-aaaa 20260101-000000-aaaa/..".split()


@pytest.mark.parametrize("run_id", [*UNKNOWN, "", "20260101-000000-aaaa\n", "x" * 5000, "\0", None, 7])
def test_unknown_ids_and_path_tricks_are_one_short_sentence(store: Store, run_id: str) -> None:
    store.create("train", {})
    with pytest.raises(RunError) as caught:
        store.job(run_id)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)
    outside = Store(store.home.parent).create("train", {})
    with pytest.raises(RunError):
        store.job(f"../{outside.id}")


def test_listing_is_newest_first_and_ignores_strays(store: Store) -> None:
    assert store.jobs() == []
    ids = [store.create(kind, {}).id for kind in ("train", "memory", "train")]  # type: ignore[arg-type]
    (store.home / ".cache").mkdir()
    (store.home / "notes.txt").write_text("mine")
    (store.home / "20260101-000000-aaaa").mkdir()
    (store.home / "20260101-000000-bbbb").write_text("a file")
    damaged = ("{", "[]", '{"state": "flying"}', '{"kind": "train"}', "\xff")
    for name, content in zip(("cccc", "dddd", "eeee", "ffff", "gggg"), damaged, strict=True):
        (store.home / f"20260101-000000-{name}").mkdir()
        (store.home / f"20260101-000000-{name}" / "state.json").write_text(content, encoding="latin-1")
    assert [job.id for job in store.jobs()] == ids[::-1]
    assert [job.id for job in store.jobs("memory")] == [ids[1]]


def test_a_job_that_goes_away_is_a_run_error(store: Store) -> None:
    job = store.create("train", {})
    for path in job.folder.iterdir():
        path.unlink()
    with pytest.raises(RunError, match=job.id):
        job.state()
    with pytest.raises(RunError, match=job.id):
        job.settings()


@pytest.mark.parametrize(
    "write", [lambda store: store.create("train", {}), lambda store: store.lock().__enter__()], ids=["create", "lock"]
)
def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path, write: Callable[[Store], object]) -> None:
    (tmp_path / "file").write_text("in the way")
    store = Store(tmp_path / "file" / "home")
    with pytest.raises(RunError, match=r"Runs cannot be kept in .*file/home: .*set QLORA_DEMO_HOME") as caught:
        write(store)
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match="cannot be read"):
        Store(tmp_path / "file").jobs()


def test_a_disk_error_under_the_lock_is_a_run_error(store: Store) -> None:
    with pytest.raises(RunError, match=r"The disk of .*home is full; free some space and try again\."), store.lock():
        raise OSError(28, "No space left on device")


def test_a_running_job_is_judged_by_its_process(store: Store) -> None:
    job = store.create("train", {})
    state = as_running(job)
    assert job.state().state == "running"
    as_running(job, heartbeat=time.time() - 3600)
    assert job.state().state == "running", "on the same host the process counts, not the heartbeat"
    # A pid used again by a younger process.
    as_running(job, pid_started=state.pid_started - 100, heartbeat=time.time() - 4)  # type: ignore[operator]
    lost = job.state()
    assert lost.state == "interrupted" and lost.error and lost.ended is None
    # The clock was set: all start times move, but the heart beats.
    as_running(job, pid_started=state.pid_started - 100)  # type: ignore[operator]
    assert job.state().state == "running"


def test_a_dead_pid_is_interrupted_at_once_even_with_a_fresh_heartbeat(store: Store) -> None:
    job = store.create("train", {})
    dead = os.spawnlp(os.P_WAIT, "true", "true") or 4_000_000
    assert not psutil.pid_exists(dead)
    for active in ("starting", "running", "stopping"):
        as_running(job, pid=dead, state=active)
        assert job.state().state == "interrupted"


def test_a_zombie_counts_as_dead(store: Store) -> None:
    job = store.create("train", {})
    child = os.fork()
    if child == 0:
        os._exit(0)
    try:
        deadline = time.time() + 5
        while psutil.Process(child).status() != psutil.STATUS_ZOMBIE and time.time() < deadline:
            time.sleep(0.01)
        as_running(job, **process_marks(child))
        assert job.state().state == "interrupted"
    finally:
        os.waitpid(child, 0)


def test_another_host_is_judged_by_its_heartbeat(store: Store) -> None:
    job = store.create("train", {})
    as_running(job, host="elsewhere", pid=1)
    assert job.state().state == "running"
    as_running(job, host="elsewhere", pid=1, heartbeat=time.time() - 31)
    assert job.state().state == "interrupted"
    started = replace(store.create("train", {}).state(), state="starting", host=this_host(), started=time.time())
    write_state(job.folder, started)
    assert job.state().state == "starting", "its pid is not yet written"


def test_settling_writes_the_end_once(store: Store) -> None:
    job = store.create("train", {})
    as_running(job, pid=4_000_001)
    assert read_state(job.folder).state == "running"  # type: ignore[union-attr]
    for _ in range(2):
        with store.lock():
            assert job.settle().state == "interrupted"
    stored = read_state(job.folder)
    assert stored and stored.state == "interrupted" and stored.ended
    [event] = job.events()
    assert (event["event"], event["state"], event["report"]) == ("finished", "interrupted", None)
    assert event["error"] == stored.error


def test_a_worker_that_died_between_its_last_two_writes_had_finished(store: Store) -> None:
    job = store.create("train", {})
    as_running(job, pid=4_000_001)
    EventWriter(job.folder).write(Finished("done", None, None))
    with store.lock():
        assert job.settle().state == "done"
    assert len(job.events()) == 1


def test_the_end_before_a_resumed_run_is_not_its_end(store: Store) -> None:
    job = store.create("train", {})
    job.finish(as_running(job), "failed", "The disk is full.")
    # As if who resumed it had died before the event that says so, and its worker before any event at all.
    as_running(job, pid=4_000_001, started=time.time() + 1, ended=None, error=None)
    with store.lock():
        assert job.settle().state == "interrupted"
    assert [event["state"] for event in job.events()] == ["failed", "interrupted"]


def test_the_end_leaves_no_drafts_and_no_reserve(store: Store) -> None:
    job = store.create("train", {})
    assert (job.folder / ".reserve").stat().st_size == 64 * 1024
    as_running(job, pid=4_000_001)
    for name in ("adapter.draft", "adapter.old", "adapter"):
        (job.folder / name).mkdir()
        (job.folder / name / "weights").write_bytes(b"0")
    for name in ("report.json.draft", ".report.json", ".state.7.8"):
        (job.folder / name).write_text("{")
    with store.lock():
        job.settle()
    assert {path.name for path in job.folder.iterdir()} == {"adapter", "config.json", "events.jsonl", "state.json"}


def test_summary_prefers_the_reports_test_metrics(store: Store) -> None:
    job = store.create("train", {"model": "sample", "data": "mine.csv"}, name="n")
    assert job.summary().position == 1 and job.summary().metrics is None
    as_running(job, steps_done=5, steps_total=20, metrics={"accuracy": 0.5})
    summary = job.summary()
    assert summary.metrics == {"accuracy": 0.5} and summary.position is None
    assert (summary.run, summary.state, summary.data) == (job.id, "running", "mine.csv")
    assert (summary.steps_done, summary.steps_total) == (5, 20)
    final = {"validation": {"accuracy": 0.6}, "test": {"accuracy": 0.7}}
    (job.folder / "report.json").write_text(json.dumps({"final": final}))
    job.finish(job.state(), "done")
    metrics = job.summary().metrics or {}
    assert (metrics["split"], metrics["accuracy"], metrics["loss"]) == ("test", 0.7, None)
    assert job.events()[-1]["report"] == str(job.folder / "report.json")


def test_state_of_an_older_or_newer_version_is_read_by_the_fields_it_shares(store: Store) -> None:
    job = store.create("train", {})
    stored = asdict(job.state())
    del stored["metrics"]
    (job.folder / "state.json").write_text(json.dumps({**stored, "mood": "good"}))
    assert job.state().metrics is None and job.state().state == "queued"


def test_json_holds_no_nan() -> None:
    line = to_json({"loss": float("nan"), "all": [float("inf"), 1.5, ("ü", float("-inf"))]})
    found = json.loads(line, parse_constant=lambda name: pytest.fail(name))
    assert found == {"loss": None, "all": [None, 1.5, ["ü", None]]}
    event = Step(1, 0.1, float("nan"), 1e-3, None, 1.0, 1.0, 1)
    assert json.loads(to_json(event.to_dict()))["loss"] is None


def test_a_state_is_read_anew_whenever_it_is_written_and_a_failure_is_not_remembered(store: Store) -> None:
    job = store.create("train", {})
    file = job.folder / "state.json"

    def written_long_ago() -> None:
        os.utime(file, (time.time() - 100, time.time() - 100))

    for steps in (1, 2, 3):  # of the same size each time
        write_state(job.folder, replace(job.state(), steps_done=steps))
        written_long_ago()
        assert [job.state().steps_done, job.state().steps_done] == [steps, steps]
    whole = file.read_bytes()
    file.write_bytes(whole[:-9] + b"x" * 9)
    written_long_ago()
    assert read_state(job.folder) is None
    file.rename(job.folder / "elsewhere")
    assert read_state(job.folder) is None
    (job.folder / "elsewhere").rename(file)
    file.write_bytes(whole)
    assert job.state().steps_done == 3
