"""Jobs in real processes: the real launcher and the real worker, with an engine that only pretends to train."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from qlora_demo.jobs import queue
from qlora_demo.jobs.store import Job, Store
from tests.commands import command, python
from tests.conftest import Cli
from tests.serving import ROOT

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A home whose workers find the fake engine; what still runs at the end of a test is killed."""
    site = tmp_path / "site"
    site.mkdir()
    shutil.copy(Path(__file__).with_name("fake_engine.py"), site / "sitecustomize.py")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("QLORA_DEMO_HOME", str(tmp_path / "home"))
    store = Store(tmp_path / "home")
    yield store
    with store.lock():
        for _, state in store.states():
            if state.is_active and state.pid and state.pid != os.getpid():
                os.kill(state.pid, signal.SIGKILL)


def settings(model: str, steps: int = 300) -> dict[str, Any]:
    return {"model": model, "max_steps": steps}


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


def running(job: Job) -> int:
    """Wait until the job has made a step; its worker's pid."""
    wait_for(lambda: job.state().state == "running" and any(event["event"] == "step" for event in job.events()))
    pid = job.state().pid
    assert pid
    return pid


def test_a_job_runs_to_its_end_and_the_line_goes_on_without_any_reader(store: Store) -> None:
    first = queue.submit(store, "train", settings("quick", 20))
    second = queue.submit(store, "train", settings("quick", 20))
    # Only state.json is read here: nobody but the first worker can have started the second.
    wait_for(lambda: json.loads((second.folder / "state.json").read_text())["state"] == "done")
    for job in (first, second):
        state, events = job.state(), job.events()
        assert (state.state, state.error, state.steps_done, state.steps_total) == ("done", None, 20, 20)
        assert state.created <= state.started <= state.ended  # type: ignore[operator]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        ending = {"event": "finished", "state": "done", "error": None, "report": str(job.folder / "report.json")}
        assert ending.items() <= events[-1].items()
        assert next(event for event in events if event.get("step") == 2)["loss"] is None, "NaN is no JSON"
        assert job.summary().metrics["accuracy"] == 0.9
        assert "noise on stdout" in (job.folder / "worker.log").read_text()
    assert first.state().ended <= second.state().started  # type: ignore[operator]


def test_a_killed_worker_is_interrupted_within_five_seconds_and_the_line_moves_on(store: Store) -> None:
    first = queue.submit(store, "train", settings("slow"))
    second = queue.submit(store, "train", settings("quick", 5))
    os.kill(running(first), signal.SIGKILL)
    begin = time.monotonic()
    wait_for(lambda: first.state().state == "interrupted", 5)
    assert time.monotonic() - begin < 5
    queue.advance(store)
    assert second.state().is_active
    finished = first.events()[-1]
    assert (finished["event"], finished["state"]) == ("finished", "interrupted") and "without a word" in finished[
        "error"
    ]
    wait_for(lambda: second.state().state == "done")


def test_a_run_that_lost_all_but_its_events_begins_anew_and_says_so(store: Store) -> None:
    job = queue.submit(store, "train", settings("slow", 20))
    os.kill(running(job), signal.SIGKILL)
    wait_for(lambda: job.state().state == "interrupted")
    lost = [event["step"] for event in job.events() if event["event"] == "step"]
    with (job.folder / "events.jsonl").open("ab") as file:  # killed while it writes: readers pass a torn line over
        file.write(b'{"seq": 99, "event": "st')
    queue.resume(store, job.id)
    wait_for(lambda: job.state().state == "done")
    told = [(event["event"], event["step"]) for event in job.events() if event["event"] in ("step", "resumed")]
    assert told == [*(("step", step) for step in lost), ("resumed", 0), *(("step", step) for step in range(1, 21))]
    assert [event["seq"] for event in job.events()] == list(range(1, len(job.events()) + 1))


@pytest.mark.parametrize("how", ["request", "sigterm"])
def test_a_running_job_stops_when_asked(store: Store, how: str) -> None:
    job = queue.submit(store, "train", settings("slow"))
    pid = running(job)
    if how == "request":
        queue.stop(store, job.id)
    else:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: job.state().is_final)
    assert (job.state().state, job.events()[-1]["state"]) == ("stopped", "stopped")
    wait_for(lambda: not psutil.pid_exists(pid), 10)


def test_stopping_is_shown_until_the_worker_has_stopped(store: Store) -> None:
    job = queue.submit(store, "train", settings("deaf", 50))
    running(job)
    queue.stop(store, job.id)
    wait_for(lambda: job.state().state == "stopping", 5)
    wait_for(lambda: job.state().is_final)


@pytest.mark.parametrize(
    ("model", "state", "sentence"),
    [
        ("user", "failed", "one class only"),
        ("bug", "failed", "Unexpected: KeyError: 'logits'"),
        ("memory", "failed", "Memory ran out; halve"),
        ("cpu-memory", "failed", "Memory ran out; halve"),
        ("cuda-memory", "failed", "Memory ran out; halve"),
        ("disk", "failed", "The disk is full"),
        ("exit", "failed", "Unexpected: SystemExit: 3"),
        ("download", "stopped", None),
    ],
)
def test_every_failure_ends_in_a_sentence(store: Store, model: str, state: str, sentence: str | None) -> None:
    job = queue.submit(store, "train", settings(model))
    wait_for(lambda: job.state().is_final)
    finished = job.events()[-1]
    assert (job.state().state, finished["event"], finished["state"]) == (state, "finished", state)
    assert finished["error"] == job.state().error
    log = (job.folder / "worker.log").read_text()
    if sentence is None:
        assert finished["error"] is None
    else:
        assert sentence in finished["error"] and "Traceback" not in finished["error"] and "\n" not in finished["error"]
    assert ("Traceback" in log) == (model not in ("user", "download"))


def test_settings_that_do_not_hold_fail_the_run(store: Store) -> None:
    job = queue.submit(store, "train", {"rank": 0})
    wait_for(lambda: job.state().is_final)
    assert job.state().state == "failed" and "LoRA rank r is 0" in (job.state().error or "")


@pytest.mark.parametrize("model", ["slow", "silent"])
def test_a_worker_whose_run_is_deleted_ends_and_the_line_moves_on(store: Store, model: str) -> None:
    from qlora_demo.services.app import Services
    from qlora_demo.ui.train.live_plot import news

    job = queue.submit(store, "train", settings(model))
    waiting = queue.submit(store, "train", settings("quick", 5))
    pid = running(job)
    shutil.rmtree(job.folder, ignore_errors=True)  # its worker may be writing into it
    answer = news(Services(store), {"run": job.id, "after": 1})
    assert list(answer) == ["error"] and answer["error"].startswith(f"There is no run '{job.id}'")
    assert "\n" not in answer["error"]
    wait_for(lambda: not psutil.pid_exists(pid), 5)
    assert not job.folder.exists()
    wait_for(lambda: waiting.state().state == "done")
    assert [found.id for found in store.jobs()] == [waiting.id]


SUBMIT = """
import sys
from pathlib import Path
from qlora_demo.jobs import queue
from qlora_demo.jobs.store import Store
settings = {"model": "slow", "max_steps": int(sys.argv[3])}
for _ in range(int(sys.argv[2])): print(queue.submit(Store(Path(sys.argv[1])), "train", settings).id)
"""


def test_two_processes_submitting_at_once_start_one_job(store: Store) -> None:
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: python("-c", SUBMIT, str(store.home), "5", "300"), range(2)))
    ids = [line for one in done for line in one.stdout.split()]
    states = [job.state().state for job in map(store.job, ids)]
    assert len(set(ids)) == 10 and states.count("queued") == 9
    line = sorted((store.position(store.job(run_id)) or 0) for run_id in ids)
    assert line == list(range(10))
    for run_id in sorted(ids, key=lambda run_id: -(store.position(store.job(run_id)) or 0)):
        queue.stop(store, run_id)
    wait_for(lambda: all(store.job(run_id).state().state == "stopped" for run_id in ids))


def test_a_worker_survives_the_process_that_submitted_it(store: Store) -> None:
    done = python("-c", SUBMIT, str(store.home), "1", "20")
    job = store.job(done.stdout.strip())
    wait_for(lambda: job.state().state == "done")


def test_a_worker_is_for_one_run_whose_turn_has_come(store: Store, tmp_path: Path) -> None:
    job = store.create("train", settings("quick", 5))
    assert python("-m", "qlora_demo.worker", str(job.folder)).returncode == 0
    assert job.state().state == "done"
    for folder, words in (([str(job.folder)], "is done"), ([str(tmp_path)], "no run"), ([], "Give the folder")):
        again = python("-m", "qlora_demo.worker", *folder)
        assert again.returncode == 2 and words in again.stderr and "Traceback" not in again.stderr
    assert len([event for event in job.events() if event["event"] == "finished"]) == 1


def test_train_prints_events_alone_and_ends_with_finished(store: Store) -> None:
    done = command("train", "--model", "quick", "--max-steps", "5", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = ["phase", *["step"] * 5, "evaluation", "finished"]
    assert done.returncode == 0 and [event["event"] for event in events] == kinds
    assert {"seq", "time", "run", "event", "state", "error", "report", "suggestion"} == set(events[-1])
    assert events[-1]["state"] == "done" and events == store.job(events[0]["run"]).events()


def test_train_for_people_a_failed_run_and_another_home(store: Store, tmp_path: Path, cli: Cli) -> None:
    status, out, _ = cli("train", "--model", "quick", "--max-steps", "5")
    assert status == 0 and "5 steps" not in out and "test after step 5: accuracy 90.0 %" in out
    status, out, err = cli("train", "--model", "user", "--json")
    assert status == 1 and "one class only" in err and "Traceback" not in err
    assert json.loads(out.splitlines()[-1])["state"] == "failed"
    other = ["--json", "--runs-dir", str(tmp_path / "other")]
    assert cli("train", "--model", "quick", "--max-steps", "2", *other)[0] == 0
    assert len(store.jobs()) == 2 and len(Store(tmp_path / "other").jobs()) == 1
    assert json.loads(cli("runs", *other)[1])[0]["state"] == "done"


def test_a_waiting_run_finds_a_relative_path(
    store: Store, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.csv").write_text("text,stars\n")
    monkeypatch.chdir(tmp_path)
    assert cli("train", "--model", "quick", "--max-steps", "1", "--data", "mine.csv", "--json")[0] == 0
    assert store.jobs()[0].settings()["data"] == str(tmp_path / "mine.csv")


def start_train(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "qlora_demo", "train", "--json", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_asks_the_run_to_stop(store: Store) -> None:
    process = start_train("--model", "slow", "--max-steps", "300")
    job = wait_for(store.jobs)[0]
    running(job)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0 and f"Asked run {job.id} to stop" in stderr and "Traceback" not in stderr
    assert json.loads(stdout.splitlines()[-1])["state"] == "stopped"


def test_a_second_ctrl_c_leaves_the_worker_running(store: Store) -> None:
    process = start_train("--model", "deaf", "--max-steps", "100")
    job = wait_for(store.jobs)[0]
    pid = running(job)
    process.send_signal(signal.SIGINT)
    wait_for(job.stop_requested)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1 and f"Run {job.id} continues in the background" in stderr
    assert "Traceback" not in stderr
    assert psutil.pid_exists(pid) and not job.state().is_final
    wait_for(lambda: job.state().is_final)


def test_stop_show_and_runs_on_the_command_line(store: Store, cli: Cli) -> None:
    active, waiting = (queue.submit(store, "train", settings("slow")) for _ in range(2))
    running(active)
    listed = [(run["run"], run["state"], run["position"]) for run in json.loads(cli("runs", "--json")[1])]
    assert listed == [(waiting.id, "queued", 1), (active.id, "running", None)]
    status, out, _ = cli("stop", waiting.id, "--json")
    assert status == 0 and json.loads(out)["state"] == "stopped"
    status, out, err = cli("stop", waiting.id)
    assert status == 2 and out == "" and "already ended" in err
    assert cli("stop", active.id)[0] == 0
    wait_for(lambda: json.loads(cli("show", active.id, "--json")[1])["state"] == "stopped")
    assert "stopped" in cli("runs")[1] and active.id in cli("show", active.id)[1]


def test_a_reader_that_leaves_early_does_no_harm(store: Store) -> None:
    line = f"{sys.executable} -m qlora_demo train --model slow --max-steps 10 --json | head -1"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["event"] == "phase" and "Traceback" not in done.stderr
    assert "Broken" not in done.stderr
    wait_for(lambda: store.jobs()[0].state().state == "done")
