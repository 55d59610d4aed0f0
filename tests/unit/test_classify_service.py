"""The waiting line before the classifier, with work that can be held up, fails on request and counts what it is
given."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qlora_demo.core.errors import AdapterError, DataError, DeviceError, SettingsError
from qlora_demo.core.records import Prediction
from qlora_demo.host.host import Host
from qlora_demo.jobs.store import Store
from qlora_demo.services import batching, loaded
from qlora_demo.services.batching import Batcher
from qlora_demo.services.classify import ClassifyService
from qlora_demo.services.loaded import Adapters

TIMEOUT = 20.0


class Work:
    """Doubles numbers. While `gate` is shut nothing comes back; 13 fails, and -1 fails whatever is with it but not
    alone."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()

    def __call__(self, questions: list[int]) -> list[int]:
        self.batches.append(questions)
        self.threads.add(threading.get_ident())
        self.began.release()
        assert self.gate.wait(TIMEOUT)
        if 13 in questions:
            raise ValueError("thirteen")
        if -1 in questions and len(questions) > 1:
            raise MemoryError
        return [2 * question for question in questions]


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture(autouse=True)
def brief_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "LINGER_SECONDS", 0.2)


def wait_until(holds: Any) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "batcher"]


def test_what_arrives_during_a_pass_goes_as_one_batch(work: Work) -> None:
    line = Batcher(work, most=8)
    work.gate.clear()
    with ThreadPoolExecutor(21) as pool:
        first = pool.submit(line.ask, [0], TIMEOUT)
        work.began.acquire()
        rest = [pool.submit(line.ask, [i], TIMEOUT) for i in range(21, 41)]
        wait_until(lambda: len(line._line) == 20)
        work.gate.set()
        assert [future.result() for future in [first, *rest]] == [[0], *([2 * i] for i in range(21, 41))]
    assert [len(batch) for batch in work.batches] == [1, 8, 8, 4]
    assert len(work.threads) == 1


def test_no_answer_goes_to_another(work: Work) -> None:
    line = Batcher(work, remembered=16)

    def ask(seed: int) -> bool:
        numbers = [(seed * 31 + i * 7) % 500 + 20 for i in range(40)]
        return all(line.ask([n, n + 1], TIMEOUT) == [2 * n, 2 * n + 2] for n in numbers)

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(ask, range(32)))
    assert max(map(len, work.batches)) > 2 and all(len(set(batch)) == len(batch) for batch in work.batches)


def test_an_error_is_that_of_its_own_question(work: Work) -> None:
    line = Batcher(work)
    work.gate.clear()
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(line.ask, [0], TIMEOUT)
        work.began.acquire()
        asked = {n: pool.submit(line.ask, [n], TIMEOUT) for n in (1, 13, -1, 2)}
        wait_until(lambda: len(line._line) == 4)
        work.gate.set()
        assert first.result() == [0]
        assert [asked[n].result() for n in (1, -1, 2)] == [[2], [-2], [4]]
        with pytest.raises(ValueError, match="thirteen"):
            asked[13].result()
    assert line.ask([3], TIMEOUT) == [6], "it goes on after an error"


def test_a_wrong_number_of_answers_is_an_error_for_all_who_wait() -> None:
    line: Batcher[int, int] = Batcher(lambda questions: [1] * (len(questions) + 1))
    for question in (1, 2):
        with pytest.raises(RuntimeError, match="1 questions got 2 answers"):
            line.ask([question], TIMEOUT)


def test_nobody_waits_for_ever_and_what_is_late_is_not_worked_on(work: Work) -> None:
    line = Batcher(work)
    work.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(line.ask, [0], TIMEOUT)
        work.began.acquire()
        with pytest.raises(DeviceError, match=r"no answer within 0\.05 seconds"):
            line.ask([1], 0.05)
        work.gate.set()
        assert first.result() == [0] and line.ask([2], TIMEOUT) == [4]
    assert [1] not in work.batches and work.batches == [[0], [2]]


def test_a_long_line_is_refused_whole(work: Work) -> None:
    line = Batcher(work, waiting=3)
    work.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(line.ask, [0], TIMEOUT)
        work.began.acquire()
        rest = pool.submit(line.ask, [1, 2], TIMEOUT)
        wait_until(lambda: len(line._line) == 2)
        with pytest.raises(DeviceError, match="2 reviews wait for the classifier already"):
            line.ask([3, 4], TIMEOUT)
        work.gate.set()
        assert first.result() == [0] and rest.result() == [2, 4]


def test_a_question_that_comes_again_is_not_worked_on_again(work: Work) -> None:
    line = Batcher(work, remembered=2)
    assert [line.ask([n], TIMEOUT) for n in (1, 2, 1, 3, 1, 2)] == [[2], [4], [2], [6], [2], [4]]
    assert work.batches == [[1], [2], [3], [2]], "the one asked least recently was dropped"


def test_its_thread_ends_when_nobody_asks(work: Work) -> None:
    line = Batcher(work)
    assert line.ask([1], TIMEOUT) == [2] and len(workers()) >= 1
    wait_until(lambda: not workers())
    assert line.ask([5], TIMEOUT) == [10]


# --- Classifiers: the lines of an app, with classifiers that need no model ------------------------------------------


class FakeClassifier:
    precision, temperature = "nf4-dq", None

    def __init__(self, adapter: str):
        self.adapter = adapter

    def score(self, texts: list[str], base: bool, scale: float) -> list[str]:
        return [f"{self.adapter}|{text}|{base}|{scale}" for text in texts]

    def predict(self, text: str, scores: str, base: bool, calibrated: bool) -> Prediction:
        return Prediction(text, f"{scores}|{calibrated}", None, None, {}, False)


@pytest.fixture
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Adapters:
    made = Adapters(Host(Store(tmp_path)))
    made.calls = []  # type: ignore[attr-defined]

    def load(folder: Path, adapter: str, precision: str) -> Any:
        made.calls.append((adapter, precision))  # type: ignore[attr-defined]
        return FakeClassifier(adapter)

    monkeypatch.setattr(made, "find", Path)
    monkeypatch.setattr(made, "load", load)
    return made


@pytest.fixture
def classifiers(tmp_path: Path, adapters: Adapters) -> ClassifyService:
    return ClassifyService(Host(Store(tmp_path)), adapters)


def test_tuned_and_base_are_asked_together_and_not_mixed_up(classifiers: ClassifyService) -> None:
    tuned, base = classifiers.classify_both("good", "a", True, scale=0.5)
    assert (tuned.label, base.label) == ("a|good|False|0.5|True", "a|good|True|1.0|True")
    assert classifiers.classify_many(["good"], "a", base=True)[0].label == "a|good|True|1.0|False"


def test_many_threads_many_adapters_no_crossed_answer_and_no_thread_left(
    classifiers: ClassifyService, adapters: Adapters
) -> None:
    def ask(i: int) -> bool:
        adapter, text = f"adapter{i % 5}", f"text {i}"
        return classifiers.classify(text, adapter, scale=i % 3).label == f"{adapter}|{text}|False|{i % 3}|False"

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(600)))
    assert len(adapters._loaded) == loaded.KEPT and len(adapters.calls) > 5  # type: ignore[attr-defined]
    wait_until(lambda: not workers())


def test_wrong_questions_are_refused_before_they_wait(classifiers: ClassifyService) -> None:
    with pytest.raises(DataError, match="The review is empty"):
        classifiers.classify("  ")
    with pytest.raises(DataError, match="50,001 characters"):
        classifiers.classify_many(["a" * 50_001], base=True)
    with pytest.raises(DataError, match=r"half a character \(U\+D83D\) at 5; remove it"):
        classifiers.classify("good\ud83d")
    for scale in (-0.1, 2.1, float("nan")):
        with pytest.raises(SettingsError, match="give a number from 0 to 2"):
            classifiers.classify("good", scale=scale)
    with pytest.raises(SettingsError, match="no precision 'int3'"):
        classifiers.classify("good", precision="int3")
    with pytest.raises(AdapterError, match="was dropped"):
        classifiers.classify("good", "taught-0")


def test_a_precision_is_a_classifier_of_its_own(classifiers: ClassifyService, adapters: Adapters) -> None:
    for precision in ("", "fp32", "", "fp32"):
        classifiers.classify("good", "a", precision=precision)
    assert adapters.calls == [("a", ""), ("a", "fp32")]  # type: ignore[attr-defined]


def test_two_explanations_run_at_once_and_a_third_is_refused_on_a_public_host(
    classifiers: ClassifyService, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qlora_demo.engine.classify import explain

    both_inside, done = threading.Barrier(3), threading.Event()

    def wait_for_the_other(*_: Any, **__: Any) -> Any:
        both_inside.wait(TIMEOUT)  # broken where one explanation keeps the other out
        assert done.wait(TIMEOUT)
        return SimpleNamespace(label="5 stars")

    monkeypatch.setattr(explain, "explain", wait_for_the_other)
    classifiers._host.public = True
    with ThreadPoolExecutor(2) as pool:
        try:
            running = [pool.submit(classifiers.explain, "Good.", adapter) for adapter in ("sample", "sample")]
            both_inside.wait(TIMEOUT)
            with pytest.raises(DeviceError, match="busy explaining reviews for others; try again in ten seconds"):
                classifiers.explain("Bad.")
        finally:
            done.set()
        assert [future.result().label for future in running] == ["5 stars", "5 stars"]
