"""The process of one job: `python -m qlora_demo.worker RUN_FOLDER`.

Claims the job, keeps its state and heartbeat, calls the engine, and always leaves a finished event and a final state;
then it moves the queue on. Knows what kinds of jobs there are, not how they do their work.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import engine
from .core.cancellation import DownloadStopped, Repeating
from .core.config import RunConfig
from .core.errors import DemoError, MemoryRanOut, is_disk_full, is_out_of_memory
from .core.records import Evaluation, Event, Phase, Resumed, Scores, Step
from .core.requests import ClassifyRequest, MemoryRequest, MergeRequest
from .host.host import Host
from .jobs import fresh_process, queue
from .jobs.state import HEARTBEAT_SECONDS, StateWriter
from .jobs.store import EventWriter, Job, Store
from .services.memory import report_memory
from .services.publish import PublishService
from .storage import packs, result_files

NICENESS = (
    5  # the page goes first: without it, who types waits for a run that trains on the same cores (benchmarks/typing.md)
)
PROOF_SECONDS = 1800  # a large model is loaded from a slow disk
DELETED = "The run's folder was deleted, so the work on it ends."
REMOVE = "import shutil, sys; shutil.rmtree(sys.argv[1], ignore_errors=True); sys.exit(2)"
log = logging.getLogger("qlora_demo.worker")


@dataclass(frozen=True)
class Kind:
    """A kind of job. work: "done" or "stopped" is how it ended; advice, again: where memory or the disk ran out."""

    work: Callable[[Job, Recorder], str]
    advice: str
    again: str


class Recorder:
    """What the engine gets of its job: `emit` takes its events, `should_stop` says whether to end."""

    def __init__(self, job: Job, states: StateWriter, asked: threading.Event):
        self._job = job
        self._states = states
        self._events = EventWriter(job.folder)
        self._asked = asked
        self._last_phase = ("", 0.0)

    def emit(self, event: Event) -> None:
        """Write `event`, and remember progress for the next heartbeat. Raises OSError (a full disk).

        Of a phase's mere progress two a second are enough: a download reports more than a page can show.
        """
        if isinstance(event, Phase) and self._is_mere_progress(event):
            return
        self._events.write(event)
        if isinstance(event, Phase) and event.steps is not None:
            self._states.note(steps_total=event.steps)
        elif isinstance(event, Step):
            self._states.note(steps_done=event.step)
        elif isinstance(event, Evaluation):
            scores = Scores(
                step=event.step,
                split=event.split,
                loss=event.loss,
                accuracy=event.accuracy,
                macro_f1=event.macro_f1,
                mae_stars=event.mae_stars,
            )
            self._states.note(steps_done=event.step, metrics=scores)

    def _is_mere_progress(self, phase: Phase) -> bool:
        name, written = self._last_phase
        now = time.monotonic()
        if (
            phase.name == name
            and phase.progress is not None
            and phase.progress < 1
            and phase.steps is None
            and now - written < 0.5
        ):
            return True
        self._last_phase = (phase.name, now)
        return False

    def should_stop(self) -> bool:
        return self._asked.is_set() or self._job.stop_requested()

    def beat(self) -> None:
        """Once a second: the heartbeat, and `stopping` as soon as a stop is asked for. Ends the process of a job that
        was deleted.
        """
        if self._job.is_gone():
            # Not by an exception in the thread that works: it may be minutes away from the next event, and writing
            # until then. Another program in this process's place ends all its threads at once, and then finds nothing
            # that could bring the folder back.
            log.warning(DELETED)
            _advance(self._job.folder.parent)
            try:
                os.execv(sys.executable, [sys.executable, "-I", "-c", REMOVE, str(self._job.folder)])
            except OSError:  # no Python there any more
                os._exit(2)
        try:
            self._states.update(state="stopping" if self.should_stop() else "running")
        except OSError as error:
            # A full disk must not silence the heart for good: the next beat may succeed.
            log.warning("The state could not be written: %s", error)


def _go_second() -> None:
    """Lets the page's process go first. By the session's own niceness too: where Linux groups by session, that alone
    counts.
    """
    os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICENESS))


def _advance(home: Path) -> None:
    """The next job's turn. That it cannot come now (a full disk) is for who looks next."""
    try:
        queue.advance(Store(home))
    except DemoError as error:
        log.warning("%s", error)


def main(arguments: list[str] | None = None) -> int:
    """Work on the job in the folder given; 0 done or stopped, 1 failed, 2 not this process's job."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    log.setLevel(logging.INFO)
    engine.quiet()
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    try:
        [folder] = sys.argv[1:] if arguments is None else arguments
    except ValueError:
        print("Give the folder of one run: python -m qlora_demo.worker RUN_FOLDER", file=sys.stderr)
        return 2
    path = Path(folder).absolute()
    try:
        status = work_on(path, asked)
    except DemoError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        _advance(path.parent)
    return status


def work_on(folder: Path, asked: threading.Event) -> int:
    """Make the job in `folder` this process's, run it to its end and write the end down; 0 done or stopped, 1 failed, 2
    deleted.

    `asked` is set to ask it to stop. Raises RunError where it is not this process's job, OSError where the end cannot
    be written."""
    store = Store(folder.parent)
    job = store.job(folder.name)
    states = StateWriter(job.folder, queue.claim(store, job))
    recorder = Recorder(job, states, asked)
    with Repeating(recorder.beat, HEARTBEAT_SECONDS, "heartbeat"):
        final, error, suggestion = _outcome(job, states.state.kind, recorder)
    # The heart has stopped: nobody else writes the state now.
    if job.is_gone():
        log.warning(DELETED)
        shutil.rmtree(job.folder, ignore_errors=True)  # what was written after that
        return 2
    job.finish(states.state, final, error, suggestion)
    log.info("%s%s", final, f": {error}" if error else "")
    return 1 if final == "failed" else 0


def _outcome(job: Job, kind: str, recorder: Recorder) -> tuple[str, str | None, Mapping[str, object] | None]:
    """The final state and, where it failed, the sentence that says why, and changed settings that are predicted to
    do.
    """
    try:
        if recorder.should_stop():
            return "stopped", None, None
        return KINDS[kind].work(job, recorder), None, None
    except DownloadStopped:
        return "stopped", None, None
    except MemoryRanOut as error:
        return "failed", str(error), error.suggestion or None
    except DemoError as error:
        return "failed", str(error), None
    except BaseException as error:  # whatever it was, the job must not end without a word
        log.exception("The job failed")
        return (
            "failed",
            explain(error, KINDS[kind].advice, "in worker.log in the run's folder", KINDS[kind].again),
            None,
        )


def explain(
    error: BaseException, advice: str = "take a smaller model", traceback: str = "above", again: str = "try again"
) -> str:
    """One sentence on an error that is not a DemoError.

    `advice` is for memory that ran out, `again` for a disk that did; `traceback` says where it can be read.
    """
    text = str(error)
    if is_out_of_memory(error):
        return f"Memory ran out; {advice}."
    if is_disk_full(error):
        return f"The disk is full; free some space and {again}."
    first = text.strip().splitlines()[0][:300] if text.strip() else "no message"
    return f"Unexpected: {type(error).__name__}: {first} (the traceback is {traceback})."


def _train(job: Job, recorder: Recorder) -> str:
    with engine.importing():  # what a run needs, and nothing else: the worker itself needs no torch
        from .engine.train import run
        from .engine.train.checkpoints import last_checkpoint
        from .hub.card import write_card

    if last_checkpoint(job.folder) is None and any(event["event"] == "step" for event in job.events()):
        recorder.emit(Resumed(0))  # a start of which nothing but its events is left
    call = functools.partial(fresh_process.call, timeout_seconds=PROOF_SECONDS)
    config = RunConfig.read(job.settings())
    return run.train(config, job.folder, recorder.emit, recorder.should_stop, write_card, call)


def _measure(job: Job, recorder: Recorder) -> str:
    report = report_memory(MemoryRequest.read(job.settings()), recorder.emit, recorder.should_stop)
    _write_report(job, report.to_json())
    return "done"


def _classify(job: Job, recorder: Recorder) -> str:
    engine.load()
    from .engine.classify import classify_file, exporting
    from .engine.classify.classifier import Classifier

    request = ClassifyRequest.read(job.settings())
    recorder.emit(Phase("load", "loading the adapter and its base"))
    report = classify_file.classify_file(
        Path(request.file),
        request.columns(),
        Classifier(request.adapter, runs_home=job.folder.parent, restored=True),
        job.folder,
        base=request.base,
        calibrated=request.calibrated,
        emit=recorder.emit,
        should_stop=recorder.should_stop,
        adapter=request.adapter,
    )
    recorder.emit(Phase("write", "writing the result as CSV and Parquet"))
    exporting.write_csv(job.folder, job.folder / result_files.CSV, mark=True)
    exporting.write_parquet(job.folder, job.folder / result_files.PARQUET)
    _write_report(job, report.to_json())
    return "stopped" if report.stopped else "done"


def _merge(job: Job, recorder: Recorder) -> str:
    def on_progress(text: str, share: float | None) -> None:
        if recorder.should_stop():
            raise DownloadStopped("Merging was stopped.")
        recorder.emit(Phase("merge", text, share))

    request, store = MergeRequest.read(job.settings()), Store(job.folder.parent)
    path = packs.new_place(store.home) / request.name
    try:
        export = PublishService(Host(store)).export(request.adapter, path, merged=True, on_progress=on_progress)
    except BaseException:
        shutil.rmtree(path.parent, ignore_errors=True)
        raise
    packs.finish(path.parent)
    pack = packs.Pack(place=path.parent.name, name=path.name, size_bytes=path.stat().st_size, merging=export.merging)
    _write_report(job, pack.to_json())
    return "done"


def _write_report(job: Job, report: str) -> None:
    draft = job.folder / ".report.json"
    draft.write_text(report, encoding="utf-8")
    draft.replace(job.folder / "report.json")


KINDS = {
    "train": Kind(
        _train,
        "halve the batch size, lower the maximum length, turn on gradient checkpointing, or take a smaller model",
        "resume the run",
    ),
    "memory": Kind(_measure, "leave out the largest stages (fp32 first), or take a smaller model", "measure again"),
    "classify": Kind(_classify, "take an adapter of a smaller model", "classify the file again"),
    "merge": Kind(_merge, "merge on a larger machine", "merge again"),
}


if __name__ == "__main__":
    _go_second()  # here alone: who calls main() shares its process, and its session, with others
    sys.exit(main())
