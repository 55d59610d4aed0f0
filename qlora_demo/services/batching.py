"""A queue before slow work that is cheaper together: what arrives while a batch is worked on goes as the next
one.

Knows nothing of what is asked or answered; questions can be hashed, and equal ones have equal answers.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from typing import Generic, TypeVar

from ..core.errors import DeviceError

Q = TypeVar("Q")
A = TypeVar("A")
LINGER_SECONDS = 5.0  # the worker waits so long for more before it ends: a new one costs torch a new pool of threads


class Batcher(Generic[Q, A]):
    """`work(questions)` gives their answers in order; it is called from one thread at a time, with at most `most`
    different questions.

    The thread is there only while there is work, so one that is dropped leaves nothing behind. `waiting`: the longest
    line. `remembered`: how many answers are kept for when a question comes again."""

    def __init__(
        self, work: Callable[[list[Q]], list[A]], *, most: int = 64, waiting: int = 512, remembered: int = 256
    ):
        self._work, self._most, self._longest, self._kept = work, most, waiting, remembered
        self._line: deque[tuple[Q, Future[A]]] = deque()
        self._answers: OrderedDict[Q, A] = OrderedDict()
        self._changed = threading.Condition()
        self._working = False

    def ask(self, questions: Sequence[Q], timeout_seconds: float) -> list[A]:
        """Their answers, in order; from any thread. They go together where the batch has room for all.

        Raises DeviceError where too many wait, or no answer comes in time (what is late is then left out); else what
        `work` raises on that very question."""
        deadline = time.monotonic() + timeout_seconds
        futures = self._enter(questions)
        try:
            return [future.result(max(0.0, deadline - time.monotonic())) for future in futures]
        except NoAnswer:
            if all(future.done() and not future.cancelled() for future in futures):  # a TimeoutError of the work's own
                raise
            raise DeviceError(
                f"The classifier gave no answer within {timeout_seconds:g} seconds; wait until this machine has less to"
                " do, and ask again."
            ) from None
        finally:
            for future in futures:
                future.cancel()

    def _enter(self, questions: Sequence[Q]) -> list[Future[A]]:
        with self._changed:
            entered: list[tuple[Q, Future[A]]] = [(question, Future()) for question in questions]
            unknown = []
            for question, future in entered:
                if question in self._answers:
                    self._answers.move_to_end(question)
                    future.set_result(self._answers[question])
                else:
                    unknown.append((question, future))
            if unknown and len(self._line) + len(unknown) > self._longest:
                raise DeviceError(
                    f"{len(self._line)} reviews wait for the classifier already; ask again in a few seconds."
                )
            self._line += unknown
            if unknown and not self._working:
                self._working = True
                threading.Thread(target=self._run, name="batcher", daemon=True).start()
            self._changed.notify_all()
        return [future for _, future in entered]

    def _run(self) -> None:
        while batch := self._next():
            self._answer(batch)

    def _next(self) -> dict[Q, list[Future[A]]]:
        """The oldest questions that somebody still waits for; empty where none came while the worker lingered, which
        then ends.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._line, LINGER_SECONDS)
            batch: dict[Q, list[Future[A]]] = {}
            while self._line and (len(batch) < self._most or self._line[0][0] in batch):
                question, future = self._line.popleft()
                if future.set_running_or_notify_cancel():
                    batch.setdefault(question, []).append(future)
            self._working = bool(batch)
            return batch

    def _answer(self, batch: dict[Q, list[Future[A]]]) -> None:
        """Every future gets a result or an error. Where a batch fails, each goes alone: nobody's error is another's."""
        questions = list(batch)
        try:
            answers = self._work(questions)
            if len(answers) != len(questions):
                raise RuntimeError(f"{len(questions)} questions got {len(answers)} answers")
        except BaseException as error:  # whatever it is, it belongs to those who wait
            if len(questions) == 1:
                for future in batch[questions[0]]:
                    future.set_exception(error)
            else:
                for question in questions:
                    self._answer({question: batch[question]})
            return
        with self._changed:
            self._answers.update(zip(questions, answers, strict=True))
            while len(self._answers) > self._kept:
                self._answers.popitem(last=False)
        for question, answer in zip(questions, answers, strict=True):
            for future in batch[question]:
                future.set_result(answer)
