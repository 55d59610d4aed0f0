"""The waiting line, with a launcher that only notes what it was asked to start: its "workers" are this process."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from qlora_demo.core.errors import RunError
from qlora_demo.core.records import Phase
from qlora_demo.jobs import queue
from qlora_demo.jobs.state import write_state
from qlora_demo.jobs.store import EventWriter, Job, Kind, Store


class Launcher:
    def __init__(self) -> None:
        self.started: list[str] = []

    def __call__(self, folder: Path) -> int:
        self.started.append(folder.name)
        return os.getpid()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def launch() -> Launcher:
    return Launcher()


def kill(job: Job) -> None:
    """As if the job's worker were gone."""
    write_state(job.folder, replace(job.state(), pid=4_000_001))


def test_one_job_at_a_time_first_come_first_served(store: Store, launch: Launcher) -> None:
    jobs = [queue.submit(store, "train", {}, launch=launch) for _ in range(3)]
    assert launch.started == [jobs[0].id]
    assert [job.state().state for job in jobs] == ["starting", "queued", "queued"]
    assert [store.position(job) for job in jobs] == [None, 1, 2]
    assert [job.summary().position for job in jobs] == [None, 1, 2]
    for number in range(2):
        with store.lock():
            jobs[number].finish(jobs[number].state(), "done")
        queue.advance(store, launch=launch)
        queue.advance(store, launch=launch)
        assert launch.started == [job.id for job in jobs[: number + 2]]


def test_a_dead_job_is_settled_and_the_line_moves_on(store: Store, launch: Launcher) -> None:
    first, second = (queue.submit(store, "train", {}, launch=launch) for _ in range(2))
    kill(first)
    queue.advance(store, launch=launch)
    assert first.events()[-1]["state"] == "interrupted"
    assert second.state().state == "starting" and launch.started == [first.id, second.id]


def test_a_job_beside_starts_at_once_and_holds_nobody_up(store: Store, launch: Launcher) -> None:
    queue.submit(store, "train", {}, launch=launch)
    waiting = queue.submit(store, "memory", {}, launch=launch)
    beside = queue.submit(store, "memory", {}, beside=True, launch=launch)
    assert beside.state().state == "starting" and waiting.state().state == "queued"
    assert store.position(waiting) == 1
    free = Store(store.home / "free")
    queue.submit(free, "memory", {}, beside=True, launch=launch)
    assert queue.submit(free, "train", {}, launch=launch).state().state == "starting", "only a job beside holds it"


def test_stopping_a_waiting_job_ends_it_at_once(store: Store, launch: Launcher) -> None:
    first, second, third = (queue.submit(store, "train", {}, launch=launch) for _ in range(3))
    queue.stop(store, second.id, launch=launch)
    assert second.state().state == "stopped" and second.state().ended
    assert [event["state"] for event in second.events()] == ["stopped"]
    assert store.position(third) == 1
    assert first.state().state == "starting" and not first.stop_requested()


def test_stopping_an_active_job_leaves_a_request_and_what_has_ended_is_an_error(store: Store, launch: Launcher) -> None:
    job = queue.submit(store, "train", {}, launch=launch)
    queue.stop(store, job.id, launch=launch)
    assert job.stop_requested() and job.state().state == "starting" and job.events() == []
    kill(job)
    with pytest.raises(RunError, match=r"already ended .interrupted."):
        queue.stop(store, job.id, launch=launch)
    with pytest.raises(RunError, match="no run"):
        queue.stop(store, "../etc", launch=launch)


def test_a_worker_that_cannot_start_fails_and_the_next_one_gets_its_turn(store: Store, launch: Launcher) -> None:
    def broken(folder: Path) -> int:
        raise FileNotFoundError(2, "No such file or directory")

    job = queue.submit(store, "train", {}, launch=broken)
    assert job.state().state == "failed" and "could not be started" in (job.state().error or "")
    assert job.events()[-1]["state"] == "failed"
    assert queue.submit(store, "train", {}, launch=launch).state().state == "starting"


def test_a_claim_is_for_the_job_whose_turn_it_is(store: Store, launch: Launcher) -> None:
    first, second = (queue.submit(store, "train", {}, launch=launch) for _ in range(2))
    state = queue.claim(store, first)
    assert state.state == "running" and state.pid == os.getpid() and first.state().state == "running"
    for job in (first, second):
        with pytest.raises(RunError, match="turn"):
            queue.claim(store, job)
    with store.lock():
        first.finish(first.state(), "done")
    assert queue.claim(store, second).state == "running", "a queued job may be claimed while the device is free"


def ended(store: Store, kind: Kind, seconds: float, final: str = "done") -> None:
    """A run that has come to its end, `seconds` after it began."""
    job = store.create(kind, {})
    state = job.finish(job.state(), final)
    write_state(job.folder, replace(state, started=state.ended - seconds))  # type: ignore[operator]


def test_the_wait_is_what_the_active_run_has_left_and_what_runs_ahead_usually_take(
    store: Store, launch: Launcher
) -> None:
    active, first, second = (queue.submit(store, "train", {}, launch=launch) for _ in range(3))
    measured = queue.submit(store, "memory", {}, launch=launch)
    beside = queue.submit(store, "memory", {}, beside=True, launch=launch)
    assert [store.expected_wait(job) for job in (active, first, second, measured, beside)] == [None] * 5, (
        "nothing is known yet"
    )

    EventWriter(active.folder).write(Phase("training", "step 1 of 9", 0.1, seconds_left=40.0))
    EventWriter(active.folder).write(Phase("evaluating", "says nothing of the time"))
    assert store.expected_wait(first) == pytest.approx(40, abs=1)
    assert store.expected_wait(second) is None, "no run has told how long the one ahead may take"

    for seconds in (1000, 100, 300, 200, 100, 200):  # the first is too long ago
        ended(store, "train", seconds)
    ended(store, "train", 5, "failed")
    ended(store, "memory", 7)
    assert store.expected_wait(second) == pytest.approx(40 + 200, abs=1)
    assert measured.summary().wait_seconds == pytest.approx(40 + 2 * 200, abs=1)
    assert (active.summary().wait_seconds, active.summary().position) == (None, None)


def test_before_training_has_begun_the_active_run_is_taken_for_a_usual_one(store: Store, launch: Launcher) -> None:
    active, waiting = (queue.submit(store, "train", {}, launch=launch) for _ in range(2))
    ended(store, "train", 100)
    state = active.state()
    write_state(active.folder, replace(state, started=time.time() - 30))
    assert store.expected_wait(waiting) == pytest.approx(70, abs=1)
    # What it said before it was resumed is no longer true.
    EventWriter(active.folder).write(Phase("training", "", 0.1, seconds_left=9.0))
    write_state(active.folder, replace(state, started=time.time() + 1))
    assert store.expected_wait(waiting) == pytest.approx(101, abs=1)
    write_state(active.folder, replace(state, started=time.time() - 300))
    assert store.expected_wait(waiting) == pytest.approx(9, abs=1)
    with store.lock():
        active.finish(active.state(), "stopped")
    assert store.expected_wait(waiting) == 0


def test_advance_takes_no_lock_while_there_is_nothing_to_do(store: Store, launch: Launcher) -> None:
    for _ in range(3):
        queue.submit(store, "train", {}, launch=launch)
    with store.lock():
        queue.advance(store, launch=launch)
    queue.advance(Store(store.home / "absent"), launch=launch)
    assert not (store.home / "absent").exists(), "looking must not make folders"


def test_the_lock_is_waited_for_but_not_forever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qlora_demo.jobs.store._LOCK_SECONDS", 0.1)
    begin = time.monotonic()
    with store.lock(), pytest.raises(RunError, match=r"queue\.lock"), store.lock():
        pass
    assert 0.1 <= time.monotonic() - begin < 5


def test_following_ends_with_the_job(store: Store, launch: Launcher) -> None:
    job = queue.submit(store, "train", {}, launch=launch)
    batches = queue.follow(store, job, every_seconds=0)
    assert next(batches) == []
    with store.lock():
        job.finish(job.state(), "done")
    assert [event["event"] for batch in batches for event in batch] == ["finished"]
    job = queue.submit(store, "train", {}, launch=launch)
    kill(job)
    assert [event["state"] for batch in queue.follow(store, job, every_seconds=0) for event in batch] == ["interrupted"]
