"""What a watching page is told: only what is new, thinned where it is much, and nothing of what a resumed run took
back."""

from __future__ import annotations

import json
import math
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from qlora_demo.core.records import Baseline, Evaluation, Finished, GpuReading, Notice, Phase, Resumed
from qlora_demo.jobs import queue
from qlora_demo.jobs.store import EventWriter, Job, Store
from qlora_demo.services.app import Services
from qlora_demo.ui.train import run_events
from qlora_demo.ui.train.live_plot import news
from qlora_demo.ui.train.run_events import EventFeed, feed_of
from tests.drawn_runs import DIP, DIP_LOSS, HOSTILE, SPIKE, SPIKE_LOSS, TEXTS, make_run, one_step, story

NOTHING: tuple[list[Any], ...] = ([], [], [], [])


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """5,000 steps, 1,001 evaluations, and five pinned reviews scored at each."""
    return make_run(tmp_path_factory.mktemp("long"), "done", story(5000, 5000, 1000, TEXTS), 5000, 5000)


def told(answer: dict[str, Any]) -> tuple[list[Any], ...]:
    return tuple(answer[name] for name in ("points", "evaluations", "pinned", "scorings"))


def ask_for_all(watched: EventFeed) -> list[dict[str, Any]]:
    """As a page does that was just opened: again and again, until there is no more."""
    answers = [watched.news(1.0, 0)]
    while answers[-1]["more"]:
        answers.append(watched.news(1.0, answers[-1]["after"], answers[-1]["born"]))
    return answers


def test_a_page_that_keeps_up_is_told_only_what_is_new(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    watched = EventFeed(tmp_path)
    assert watched.news(1.0, 0)["points"] == []
    for event in story(7, 10, 5, TEXTS[:1]):
        writer.write(event)
    first = watched.news(1.0, 0)
    assert [row[0] for row in first["points"]] == [1, 2, 3, 4, 5, 6, 7] and not first["more"]
    assert [row[0] for row in first["evaluations"]] == [0, 2, 4, 6]
    assert first["pinned"] == [[0, TEXTS[0], ["1 star", "2 stars", "3 stars", "4 stars", "5 stars"]]]
    assert first["baselines"] == {"majority": 0.2, "tfidf-logistic-regression": 0.64}
    assert first["phase"]["name"] == "training" and first["seconds_left"] == 180
    again = watched.news(1.0, first["after"], first["born"])
    assert told(again) == NOTHING and not again["fresh"] and again["after"] == first["after"]
    writer.write(one_step(8, 10, random.Random(1)))
    new = watched.news(1.0, first["after"], first["born"])
    assert [row[0] for row in new["points"]] == [8] and new["evaluations"] == [] and len(new["points"][0]) == 7
    # Who comes later hears all of it, in rows of a step, an expected rank and shares that sum to 1.
    assert len(watched.news(1.0, 0)["points"]) == 8
    n, step, expected, *shares = first["scorings"][-1]
    assert (n, step) == (0, 6) and sum(shares) == pytest.approx(1, abs=0.01)
    assert expected == pytest.approx(sum(rank * share for rank, share in enumerate(shares, 1)), abs=0.02)


def test_ten_pages_read_the_file_once(long_run: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    events = Job.events
    monkeypatch.setattr(Job, "events", lambda self, after=0, limit=None: read.append(after) or events(self, after))
    watched = EventFeed(long_run.folder)
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(ask_for_all, [watched] * 10))
    assert read == [0]


def test_a_long_run_comes_in_answers_below_50_kb_with_its_extremes(long_run: Job) -> None:
    answers = ask_for_all(EventFeed(long_run.folder))
    assert len(answers) <= 4 and answers[0]["fresh"] and not any(answer["fresh"] for answer in answers[1:])
    assert max(len(json.dumps(answer)) for answer in answers) < 48_000
    points = [row for answer in answers for row in answer["points"]]
    steps = [row[0] for row in points]
    assert steps == sorted(set(steps)) and steps[0] == 1 and steps[-1] == 5000 and 300 < len(steps) < 1500
    losses = dict(zip(steps, (row[1] for row in points), strict=True))
    assert (losses[SPIKE], losses[DIP]) == (SPIKE_LOSS, DIP_LOSS)
    everything = [event for event in long_run.events() if event["event"] == "step"]
    for n, name in ((2, "learning_rate"), (3, "grad_norm"), (4, "reviews_per_second"), (5, "memory_bytes")):
        whole = [event[name] for event in everything if event[name] is not None]
        sent = [row[n] for row in points if row[n] is not None]
        assert (min(sent), max(sent)) == pytest.approx((min(whole), max(whole)), rel=1e-5), name
    # What is smoothed is no mean of extremes: around the spike it is the mean of what was logged.
    around = next(row[6] for row in points if row[0] == SPIKE)
    assert 0.3 < around < 1.2
    evaluations = [row[0] for answer in answers for row in answer["evaluations"]]
    assert evaluations[0] == 0 and evaluations[-1] == 5000 and evaluations == sorted(set(evaluations))
    scorings = [row for answer in answers for row in answer["scorings"]]
    for n in range(5):
        scored = [step for number, step, *_ in scorings if number == n]
        assert scored[0] == 0 and scored[-1] == 5000 and 20 < len(scored) < 300
    assert [text for answer in answers for _, text, _ in answer["pinned"]] == list(TEXTS)


def test_a_page_that_slept_is_sent_a_long_run_thinned(long_run: Job) -> None:
    watched = EventFeed(long_run.folder)
    last = watched.news(1.0, 0)["born"], ask_for_all(watched)[-1]["after"]
    behind = watched.news(1.0, last[1] - 3000, last[0])
    assert not behind["fresh"] and 0 < len(behind["points"]) < 400
    assert len(watched.news(1.0, last[1] - 100, last[0])["points"]) > 20


def test_what_a_resumed_run_took_back_is_dropped(tmp_path: Path) -> None:
    writer, watched, chance = EventWriter(tmp_path), EventFeed(tmp_path), random.Random(0)
    for event in story(6, 10, 5, TEXTS[:1]):
        writer.write(event)
    before = watched.news(1.0, 0)
    writer.write(Finished("stopped", None, None))
    writer.write(Resumed(4))
    writer.write(one_step(5, 10, chance))
    after = watched.news(1.0, before["after"], before["born"])
    assert after["back_to"] == 4 and [row[0] for row in after["points"]] == [5]
    fresh = watched.news(1.0, 0)
    assert [row[0] for row in fresh["points"]] == [1, 2, 3, 4, 5]
    assert [row[0] for row in fresh["evaluations"]] == [0, 2, 4]
    assert fresh["back_to"] is None and [row[1] for row in fresh["scorings"]] == [0, 2, 4]
    assert watched.news(1.0, after["after"], after["born"])["back_to"] is None


def test_a_run_that_was_made_anew_under_the_same_name_is_another(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    watched = EventFeed(folder)
    for event in story(6, 10, 5):
        EventWriter(folder).write(event)
    old = watched.news(1.0, 0)
    shutil.rmtree(folder)
    folder.mkdir()
    EventWriter(folder).write(one_step(1, 10, random.Random(0)))
    new = watched.news(2.0, old["after"], old["born"])
    assert new["fresh"] and [row[0] for row in new["points"]] == [1] and new["born"] != old["born"]
    assert watched.news(2.0, 99)["fresh"], "who has heard more than was said has heard of another run"


def test_the_latest_is_told_each_time(tmp_path: Path) -> None:
    writer, watched = EventWriter(tmp_path), EventFeed(tmp_path)
    assert watched.news(1.0, 0)["gpu"] is None and watched.news(1.0, 0)["phase"] is None
    for event in (
        Phase("training", steps=10, labels=3),
        GpuReading(0.5, 2**30, None, 70.0),
        Baseline(1.1, 0.4, 0.2, None, "test", name="majority"),
        Evaluation(0.9, 0.6, 0.6, 0.5, "validation", step=4),
        Evaluation(0.8, 0.61, 0.6, 0.5, "validation", step=4),
        Evaluation(0.8, 0.7, 0.6, 0.5, "test", step=4),
        Notice("x" * 1000),
    ):
        writer.write(event)
    found = watched.news(1.0, 0)
    assert found["gpu"] == {"utilization": 0.5, "memory_bytes": 2**30, "celsius": None, "watts": 70.0}
    assert found["chance"] == {"labels": 3, "loss": math.log(3), "accuracy": 1 / 3} and found["baselines"] == {}
    assert found["accuracy"] == 0.61 and found["evaluations"] == [[4, 0.9, 0.6]]
    assert [len(message) for (message,) in found["notices"]] == [500]
    later = watched.news(1.0, found["after"], found["born"])
    assert later["notices"] == [] and later["gpu"] == found["gpu"] and later["accuracy"] == 0.61


def test_texts_of_pinned_reviews_can_be_left_out(long_run: Job) -> None:
    answer = EventFeed(long_run.folder).news(1.0, 0, pinned=False)
    assert answer["pinned"] == answer["scorings"] == [] and HOSTILE not in json.dumps(answer)


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_events, "MOST_ROWS", 200)
    curve, chance = run_events.Curve(extremes=(2,), most=100), random.Random(0)
    for step in range(5000):
        curve.add((step + 1, step, 9.0 if step == 1234 else chance.random()))
        assert len(curve.rows) <= 200
    assert (1235, 1234, 9.0) in curve.rows and curve.rows[0][1] == 0 and curve.rows[-1][1] == 4999
    feed_of.cache_clear()
    for n in range(20):
        feed_of(tmp_path / str(n))
    assert feed_of.cache_info().currsize == run_events.RUNS_KEPT


# --- one poll of a page -----------------------------------------------------------------------------------------------


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return Services(Store(tmp_path))


@pytest.mark.parametrize(
    "query",
    [
        *(None, 7, "x", [], {}, {"run": "x"}, {"run": 7, "after": 0}, {"run": "x", "after": 0, "born": {"a": 1}}),
        *({"run": "x", "after": after} for after in (-1, True, 1.5, "0")),
    ],
)
def test_a_query_that_is_none_is_answered_in_a_sentence(services: Services, query: Any) -> None:
    assert news(services, query).keys() == {"error"}


@pytest.mark.parametrize("run", ["", "../../etc/passwd", "20260101-000000-abcdef", "x" * 10_000])
def test_an_unknown_run_is_answered_in_a_sentence(services: Services, run: str) -> None:
    answer = news(services, {"run": run, "after": 0})
    assert list(answer) == ["error"] and "There is no run" in answer["error"] and len(answer["error"]) < 400


def test_a_deleted_run_is_gone(services: Services, tmp_path: Path) -> None:
    job = make_run(tmp_path, "done", story(5, 5, 1), 5, 5)
    answer = news(services, {"run": job.id, "after": 0})
    assert (answer["state"], answer["final"], answer["steps_done"]) == ("done", True, 5) and len(answer["points"]) == 5
    assert answer["left"] is None and answer["reading"]
    queue.delete(services.store, job.id)
    gone = news(services, {"run": job.id, "after": answer["after"], "born": answer["born"]})
    assert "There is no run" in gone["error"]


def test_a_waiting_run_says_how_long_it_may_take(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path, "running", story(5, 50, 1), 5, 50)
    waiting = make_run(tmp_path, "queued", iter([]), 0, 50)
    monkeypatch.setattr(Store, "expected_wait", lambda store, job: 300.0)
    answer = news(services, {"run": waiting.id, "after": 0})
    assert (answer["position"], answer["wait"], answer["reading"]) == (1, "5 min", "")
    monkeypatch.setattr(Store, "expected_wait", lambda store, job: None)
    assert news(services, {"run": waiting.id, "after": 0})["wait"] is None
