"""The queue: durable, first come first served, one job on the device at a time.

There is no queue process: whoever comes by (a submission, a reader's poll, a worker at its end) moves the line on,
under one file lock. Jobs marked `beside` (small memory measurements) start at once. Knows nothing of what jobs do.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ..core.errors import RunError, is_disk_full
from ..core.records import EventLine, Phase
from .launch import start_worker
from .state import JobState, process_marks, read_state, write_state
from .store import EventWriter, Job, Kind, Store

Launch = Callable[[Path], int]
LONGEST_NAME = 80


def submit(
    store: Store,
    kind: Kind,
    settings: Mapping[str, object],
    *,
    name: str = "",
    key_hash: str = "",
    beside: bool = False,
    launch: Launch = start_worker,
) -> Job:
    """Append a job to the line and start it where the device is free. Raises RunError."""
    with store.lock():
        job = store.create(kind, settings, name=name, key_hash=key_hash, beside=beside)
        _advance(store, launch)
    return job


def advance(store: Store, *, launch: Launch = start_worker) -> None:
    """Write down the end of dead jobs and start the oldest waiting one where the device is free.

    Cheap, and without the lock, while there is nothing to do: meant for every poll. Raises RunError.
    """
    if _is_due([state for _, state in store.states()]):
        with store.lock():
            _advance(store, launch)


def stop(store: Store, run_id: str, *, launch: Launch = start_worker) -> None:
    """A waiting job ends at once as `stopped`; an active one is asked to stop. RunError where it has ended already."""
    job = store.job(run_id)
    with store.lock():
        state = job.settle()
        if state.is_final:
            raise RunError(f"Run {run_id} has already ended ({state.state}); there is nothing to stop.")
        if state.is_active:
            job.request_stop()
            return
        job.finish(state, "stopped")
        _advance(store, launch)


def resume(store: Store, run_id: str, *, launch: Launch = start_worker) -> Job:
    """A run that was stopped, interrupted or failed goes to the end of the line, to go on from its last checkpoint.

    It goes on with its own settings (config.refuse_changes is for who was asked for others). RunError where it has not
    ended, or has nothing left to do."""
    job = store.job(run_id)
    with store.lock():
        state = _ended(job, "resumed")
        if state.state == "done" or state.kind != "train":
            raise RunError(
                f"Run {run_id} is {state.state}: there is nothing left to do; start a new run for other settings."
            )
        job.reserve()
        (job.folder / "stop").unlink(missing_ok=True)
        # Before the event: a run that has ended ends with its finished event, also where this process dies in between.
        waiting = replace(state, state="queued", waiting_since=time.time(), started=None, ended=None, error=None)
        write_state(job.folder, replace(waiting, pid=None, pid_started=None, heartbeat=None))
        EventWriter(job.folder).write(Phase("resuming", f"it was {state.state} after step {state.steps_done}"))
        _advance(store, launch)
    return job


def rename(store: Store, run_id: str, name: str) -> None:
    """Gives an ended run another name ("" = none). RunError where it has not ended: its worker writes its state."""
    if len(name) > LONGEST_NAME:
        raise RunError(f"The name has {len(name)} characters; give at most {LONGEST_NAME}.")
    job = store.job(run_id)
    with store.lock():
        state = _ended(job, "renamed")
        write_state(job.folder, replace(state, name=" ".join(name.split())))


def delete(store: Store, run_id: str) -> None:
    """Removes an ended run with all that it left: adapter, checkpoints, events. RunError where it has not ended."""
    job = store.job(run_id)
    with store.lock():
        _ended(job, "deleted")
        # At once for every reader, however long the removal takes.
        job.folder.rename(job.folder.with_name(f".deleted-{job.id}"))
    for gone in store.home.glob(".deleted-*"):  # also what was left by who died in the middle of it
        shutil.rmtree(gone, ignore_errors=True)


def _ended(job: Job, what: str) -> JobState:
    state = job.settle()
    if not state.is_final:
        raise RunError(f"Run {job.id} is {state.state}; only a run that has ended can be {what}.")
    return state


def claim(store: Store, job: Job) -> JobState:
    """Make the calling process the job's worker; returns the state `running` as written.

    Waits for the lock, and with it for the launcher to have written down what it started. A queued job may be claimed
    (by hand, or when its launcher died at once) while the device is free. RunError where the job is not this process's.
    """
    with store.lock():
        state = read_state(job.folder) or job.state()
        others = [other for listed, other in store.states() if listed.id != job.id]
        free = state.beside or not any(_holds_device(other) for other in others)
        if state.state != "starting" and not (state.state == "queued" and free):
            raise RunError(f"Run {job.id} is {state.state}; only a run whose turn has come can be worked on.")
        now = time.time()
        state = replace(state, state="running", started=now, **process_marks(os.getpid()))
        try:
            write_state(job.folder, state)
        except OSError as error:
            # Else it would wait on, and whoever comes by would start the next worker that cannot work.
            job.finish(state, "failed", _why(error))
            raise
    return state


def follow(store: Store, job: Job, after: int = 0, *, every_seconds: float = 0.5) -> Iterator[list[EventLine]]:
    """The job's events from `after` on, in batches as they come, until its end; an empty batch where nothing was new.

    Moves the line on at each look. Raises RunError when the job's folder goes away.
    """
    while True:
        advance(store)
        # Before the events: what is written before a final state is then in this batch.
        ended = job.state().is_final
        batch = job.events(after)
        after = batch[-1]["seq"] if batch else after
        yield batch
        if ended:
            return
        time.sleep(every_seconds)


def _holds_device(state: JobState) -> bool:
    return state.is_active and not state.beside


def _is_due(states: list[JobState]) -> bool:
    busy = any(_holds_device(state) for state in states)
    lost = any(state.is_final and state.ended is None for state in states)
    return lost or any(state.state == "queued" and (state.beside or not busy) for state in states)


def _advance(store: Store, launch: Launch) -> None:
    """Under the lock."""
    busy = False
    for job, _ in store.states():
        busy = _holds_device(job.settle()) or busy
    for job, state in store.waiting():
        if state.beside:
            _start(job, state, launch)
        elif not busy:
            busy = _start(job, state, launch)


def _start(job: Job, state: JobState, launch: Launch) -> bool:
    """Whether the worker started; the state is written only then, so there is no `starting` without a pid."""
    try:
        pid = launch(job.folder)
        write_state(job.folder, replace(state, state="starting", started=time.time(), **process_marks(pid)))
    except OSError as error:
        job.finish(state, "failed", _why(error))
        return False
    return True


def _why(error: OSError) -> str:
    if is_disk_full(error):
        return "The disk is full; free some space and resume the run."
    return f"The worker could not be started: {error.strerror or error}."
