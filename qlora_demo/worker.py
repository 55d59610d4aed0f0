"""The process of one job: `python -m qlora_demo.worker RUN_FOLDER`.

Claims the job, keeps its state and heartbeat, calls the engine, and always leaves a finished event and a final state;
then it moves the waiting line on. Knows what kinds of jobs there are, not how they do their work.
"""

from __future__ import annotations

import errno
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .config import MemoryRequest, RunConfig
from .engine import quiet
from .errors import DemoError
from .jobs import queue
from .jobs.state import Heartbeat, StateWriter, to_json
from .jobs.store import EventWriter, Job, Store
from .records import Evaluation, Event, Phase, Step
from .weighing import weigh

ADVICE = {
    "train": "halve the batch size, lower the maximum length, turn on gradient checkpointing, or take a smaller model",
    "memory": "leave out the largest stages (fp32 first), or take a smaller model",
}
log = logging.getLogger("qlora_demo.worker")


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
        record = self._events.write(event)
        if isinstance(event, Phase) and event.steps is not None:
            self._states.note(steps_total=event.steps)
        elif isinstance(event, Step):
            self._states.note(steps_done=event.step)
        elif isinstance(event, Evaluation):
            names = ("step", "split", "loss", "accuracy", "macro_f1", "mae_stars")
            self._states.note(steps_done=event.step, metrics={name: record[name] for name in names})

    def _is_mere_progress(self, phase: Phase) -> bool:
        name, written = self._last_phase
        now = time.monotonic()
        if phase.name == name and phase.progress is not None and phase.progress < 1 and phase.steps is None and now - written < 0.5:
            return True
        self._last_phase = (phase.name, now)
        return False

    def should_stop(self) -> bool:
        return self._asked.is_set() or self._job.stop_requested()

    def beat(self) -> None:
        """Once a second: the heartbeat, and `stopping` as soon as a stop is asked for."""
        try:
            self._states.update(state="stopping" if self.should_stop() else "running")
        except OSError as error:
            # A full disk must not silence the heart for good: the next beat may succeed.
            log.warning("The state could not be written: %s", error)


def main(arguments: list[str] | None = None) -> int:
    """Work on the job in the folder given; 0 done or stopped, 1 failed, 2 not this process's job."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    log.setLevel(logging.INFO)
    quiet()
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
        queue.advance(Store(path.parent))
    return status


def work_on(folder: Path, asked: threading.Event) -> int:
    """Make the job in `folder` this process's, run it to its end and write the end down; 0 done or stopped, 1 failed.

    `asked` is set to ask it to stop. Raises RunError where it is not this process's job, OSError where the end cannot be written.
    """
    store = Store(folder.parent)
    job = store.job(folder.name)
    states = StateWriter(job.folder, queue.claim(store, job))
    recorder = Recorder(job, states, asked)
    with Heartbeat(recorder.beat):
        final, error = _outcome(job, states.state.kind, recorder)
    # The heart has stopped: nobody else writes the state now.
    job.finish(states.state, final, error)
    log.info("%s%s", final, f": {error}" if error else "")
    return 1 if final == "failed" else 0


def _outcome(job: Job, kind: str, recorder: Recorder) -> tuple[str, str | None]:
    """The final state and, where it failed, the sentence that says why."""
    try:
        if recorder.should_stop():
            return "stopped", None
        return KINDS[kind](job, recorder), None
    except DemoError as error:
        # By name: importing the class would import the Hub's client.
        if type(error).__name__ == "DownloadStopped":
            return "stopped", None
        return "failed", str(error)
    except BaseException as error:  # whatever it was, the job must not end without a word
        log.exception("The job failed")
        return "failed", explain(error, ADVICE[kind], "in worker.log in the run's folder")


def explain(error: BaseException, advice: str = "take a smaller model", traceback: str = "above") -> str:
    """One sentence on an error that is not a DemoError. `advice` is for memory that ran out; `traceback` says where it can be read."""
    text = str(error)
    # By name: this floor does not import torch, and torch's own error is no MemoryError.
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if out_of_memory or (isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)):
        return f"Memory ran out; {advice}."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full; free some space and start the run again."
    first = text.strip().splitlines()[0][:300] if text.strip() else "no message"
    return f"Unexpected: {type(error).__name__}: {first} (the traceback is {traceback})."


def _train(job: Job, recorder: Recorder) -> str:
    from .engine import training
    from .hub.card import write_card

    return training.train(RunConfig.read(job.settings()), job.folder, recorder.emit, recorder.should_stop, write_card)


def _measure(job: Job, recorder: Recorder) -> str:
    report = weigh(MemoryRequest.read(job.settings()), recorder.emit, recorder.should_stop)
    draft = job.folder / ".report.json"
    draft.write_text(to_json(report) + "\n", encoding="utf-8")
    draft.replace(job.folder / "report.json")
    return "done"


KINDS: dict[str, Callable[[Job, Recorder], str]] = {"train": _train, "memory": _measure}


if __name__ == "__main__":
    sys.exit(main())
