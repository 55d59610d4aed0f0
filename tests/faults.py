"""Kills -9 at random moments of short real runs, of the worker, of the app and of both; what must hold afterwards is
checked.

`python -m tests.faults --kills N --seed S [--minutes M] [--report FILE]`. Each core works through a chain of its own:
an app, a home, one run after the other. A killed run is resumed and killed again, until it comes to its end; kills are
drawn in rounds that visit every phase of a run."""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import psutil

from qlora_demo.core.config import RunConfig
from qlora_demo.host.redaction import clean
from qlora_demo.jobs import queue
from qlora_demo.jobs.store import Job, Store
from tests.reviews import write_reviews
from tests.serving import NOBODY, App, ask, start_app, stop_app

STEPS, EVERY = 60, 5  # of a run; a checkpoint each EVERY
TEXTS = ["I love it.", "It broke after a day."]
PATIENCE = 300  # seconds that any wait may take, on a machine that is busy
# Where a run is hit, and over how many seconds from there on: a whole phase, or the little that a file takes to be
# written.
_BEGIN = {"queued": 0.02, "starting": 1.0, "loading": 0.8, "training": 0.01}
SPREAD = {**_BEGIN, "evaluating": 0.012, "saving": 0.035, "proving the reload": 4.0, "reporting": 0.006}
VICTIMS = {"worker": 5, "app": 2, "both": 3}  # and how often, of ten


@dataclass(frozen=True)
class Moment:
    """A kill that is planned. `share`: which of the many steps or evaluations; `delay_seconds`: how long after it."""

    where: str
    victim: str
    share: float
    delay_seconds: float


@dataclass(frozen=True)
class Kill:
    """A kill that was done. `where`: as the run's files tell; `dying`: seconds until the kernel had ended the worker,
    which waits for a slow disk; `seconds`: from then on until its state was true."""

    victim: str
    where: str
    outcome: str
    dying: float = 0.0
    seconds: float = 0.0


@dataclass
class Findings:
    """What a chain did and found."""

    kills: list[Kill] = field(default_factory=list)
    checks: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    done: int = 0

    def check(self, name: str, holds: bool, told: object = "") -> None:
        self.checks[name] += 1
        if not holds:
            self.violations.append(f"{name}: {told}")
            print(f"VIOLATION {name}: {told}", file=sys.stderr, flush=True)

    def add(self, other: Findings) -> None:
        self.kills += other.kills
        self.checks += other.checks
        self.violations += other.violations
        self.done += other.done


class LeftToTheAppError(BaseException):
    """Raised in place of starting a worker, past what the queue expects of a start that fails."""


def plan(seed: int, kills: int) -> list[Moment]:
    """Rounds over all places in random order; each round begins with a new run, whose start is asked for while the app
    is killed."""
    draw, places, moments = random.Random(seed), list(SPREAD)[1:], []
    while len(moments) < kills:
        draw.shuffle(places)
        for where in ["queued", *places]:
            victim = "app" if where == "queued" else draw.choices(list(VICTIMS), list(VICTIMS.values()))[0]
            moments.append(Moment(where, victim, draw.random(), draw.random() * SPREAD[where]))
    return moments[:kills]


def whereabouts(events: list[dict[str, Any]], folder: Path) -> str:
    """Where a run is by its events since it was last started, and by its drafts."""
    if not events:
        return "starting"
    last = events[-1]
    phase = next((event["name"] for event in reversed(events) if event["event"] == "phase"), "")
    if last["event"] == "finished":
        return "ended"
    if phase == "proving the reload":
        proved = (folder / "adapter.draft" / "report.json").exists() or not (folder / "adapter.draft").exists()
        return "reporting" if proved else phase
    if phase.startswith("evaluating"):
        return "saving" if any(event["event"] == "memory" for event in events) else "evaluating"
    if phase != "training":
        return "loading"
    step = next((event["step"] for event in reversed(events) if event["event"] == "step"), 0)
    if last["event"] in ("step", "phase"):
        return "evaluating" if step and step % EVERY == 0 else "training"
    return "training" if last["event"] == "resumed" else "saving"


class Chain:
    """One home with one app, and the runs that are started, killed and resumed there."""

    def __init__(self, home: Path, seed: int):
        self.store, self.found = Store(home), Findings()
        self.settings = write_inputs(home.parent, seed)
        self.app = self._start_app()
        self.rounds = 0

    def work(self, moments: list[Moment], end: float) -> None:
        """All the kills, or those that there is time for until `end` by the monotonic clock, then the last run to its
        end."""
        job: Job | None = None
        for number, moment in enumerate(moments, 1):
            began = time.monotonic()
            if began > end:
                break
            if moment.where == "queued":
                if job:
                    self.finish(job)
                job = self.begin(moment)
            else:
                while job is None or not self.reach(job, moment):
                    if job:  # this start of it was past the place, and nothing ended it
                        self.finish(job)
                    job = self.start()
                self.kill(job, moment)
            kill, took = self.found.kills[-1], time.monotonic() - began
            place = f"{kill.victim:<6} while {kill.where:<18} {kill.outcome:<12} {took:5.1f} s  {job.id}"
            print(f"{number:>3}/{len(moments)} {place}", file=sys.stderr, flush=True)
        if job:
            self.finish(job)

    def close(self) -> None:
        stop_app(self.app)
        for pid in self.workers():
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()

    # --- a run's way --------------------------------------------------------------------------------------------------

    def start(self) -> Job:
        """A run of which nothing is killed at its start. Each third is stopped first: from then on it has an adapter to
        lose."""
        answer = ask(self.app, "start_run", self.settings)
        job = self.store.job(answer["run"])
        self.rounds += 1
        if self.rounds % 3 == 0:
            self.wait(lambda: any(event["event"] == "step" for event in job.events()), job)
            ask(self.app, "stop_run", job.id, answer["key"])
            self.wait(lambda: job.state().is_final, job)
            self.found.check("a run that is stopped keeps its adapter", loads(job), job.state())
            if job.state().state != "done":  # it may have come to its end before the stop did
                self.resume(job)
        return job

    def begin(self, moment: Moment) -> Job:
        """A run whose start is asked for while the app is killed: it must be there and start later, or not be there at
        all."""
        before = {job.id for job in self.store.jobs()}
        self.store.home.mkdir(exist_ok=True)
        folders = len(os.listdir(self.store.home))
        ask(self.app, "start_run", self.settings, wait=False)
        # From the first trace of the run on: what comes before it, the app's imports, takes seconds.
        self.wait(lambda: len(os.listdir(self.store.home)) > folders, pause=0.0005)
        time.sleep(moment.delay_seconds)
        self._kill_app()
        begun = [job for job in self.store.jobs() if job.id not in before]
        where = begun[0].state().state if begun else "not begun"
        self.app = self._start_app()
        self.found.kills.append(Kill("app", "queued" if where in ("queued", "not begun") else "starting", f"{where}"))
        self.agree()
        self.found.check("one request starts at most one run", len(begun) <= 1, begun)
        if not begun:
            return self.start()
        state = begun[0].state()
        self.found.check("a queued run starts once there is an app again", state.state != "queued", state)
        return begun[0]

    def reach(self, job: Job, moment: Moment) -> bool:
        """Wait until the run is where it is to be hit; False where this start of it did not come by there."""
        began = job.state().started or time.time()
        # After a step that is judged the run is evaluating already.
        left = [step for step in range(STEPS + 1) if (step % EVERY == 0) != (moment.where == "training")]

        def is_there() -> bool:
            events = [event for event in job.events() if event["time"] >= began]
            steps = [event["step"] for event in events if event["event"] == "step"]
            base = next((event["step"] for event in events if event["event"] == "resumed"), 0)
            ahead = [step for step in left if step > base] or [STEPS]
            step = ahead[int(moment.share * len(ahead))]
            if moment.where == "starting":
                return job.state().is_active
            if moment.where == "loading":
                return bool(events)
            if moment.where in ("training", "evaluating"):
                return bool(steps) and steps[-1] >= step
            if moment.where == "saving":
                judged = [e["step"] for e in events if e["event"] == "evaluation" and e["split"] == "validation"]
                if moment.share > 0.7:  # the adapter, not a checkpoint
                    return any(event["event"] == "memory" for event in events)
                return bool(judged) and judged[-1] >= step > 0
            if moment.where == "reporting":
                return (job.folder / "adapter.draft" / "report.json").exists()
            return any(event.get("name") == moment.where for event in events)

        seen: Any = None

        def is_there_or_over() -> bool:
            # Its files are read when they have changed: reading them all the time would take the core from the run that
            # is waited for.
            nonlocal seen
            before, seen = seen, (marks(job), time.monotonic() // 0.5)
            return seen != before and (is_there() or job.state().is_final)

        self.wait(is_there_or_over, job, pause=0.0005)
        events = [event for event in job.events() if event["time"] >= began]
        reached = list(SPREAD).index(moment.where)
        return not job.state().is_final and list(SPREAD).index(whereabouts(events, job.folder)) <= reached

    def kill(self, job: Job, moment: Moment) -> None:
        """The kill, what must hold after it, and the run on its way again."""
        time.sleep(moment.delay_seconds)
        before, state = read_bytes(job), job.state()
        lived = False
        if moment.victim != "app" and state.pid and is_worker(state.pid, job):
            os.kill(state.pid, 9)
            lived = True
        if moment.victim != "worker":
            self._kill_app()
        struck = time.monotonic()
        if lived:
            self.wait(lambda: is_over(state.pid), job, what="a killed process ends")
        died = time.monotonic()
        events = [event for event in job.events() if event["time"] >= (state.started or 0)]
        where = whereabouts(events, job.folder)
        if lived:
            self.wait(lambda: job.state().is_final, job)
        seconds = time.monotonic() - died
        self.found.check("the state is true within 5 s", seconds < 5, f"{seconds:.1f} s {job.state()}")
        if moment.victim != "worker":
            self.app = self._start_app()
        after = job.state()
        outcome = "went on" if not lived and not after.is_final else after.state
        self.found.kills.append(Kill(moment.victim, where, outcome, died - struck, seconds))
        self.inspect(job, before)
        self.agree()
        if moment.victim == "app":
            same = after.pid == state.pid and after.pid_started == state.pid_started  # it may just have claimed the run
            active = after.state in ("starting", "running", "done")
            self.found.check("a worker outlives the app", same and active, (state, after))
        elif lived:
            self.found.check("a killed run is interrupted, or had ended", after.state in ("interrupted", "done"), after)
        if after.is_final and after.state != "done":
            self.resume(job)

    def resume(self, job: Job) -> None:
        """Back into the line, and started by the app, as a child of its own."""

        def leave(_: Path) -> int:
            raise LeftToTheAppError

        with suppress(LeftToTheAppError):
            queue.resume(self.store, job.id, launch=leave)
        ask(self.app, "runs")
        self.found.check("a resumed run starts", job.state().is_active, job.state())

    def finish(self, job: Job) -> None:
        """Wait for the run's end, which must be a good one."""
        self.wait(lambda: job.state().is_final, job)
        self.inspect(job, b"")
        self.agree()
        state, events, check = job.state(), job.events(), self.found.check
        check("a run comes to its end", state.state == "done" and state.error is None, state)
        last = (events[-1]["event"], events[-1].get("state"))
        check("its last event says so", last == ("finished", "done"), events[-1])
        check("its report and its adapter are there", (job.folder / "report.json").is_file() and loads(job), job.folder)
        steps = told_steps(events)
        check("its curve has every step once", steps == list(range(1, STEPS + 1)), steps)
        names = [path.name for path in job.folder.iterdir()]
        left = [name for name in names if name.startswith(".") or name.endswith((".draft", ".old"))]
        check("no draft is left", not left, left)
        self.found.done += 1

    # --- what must hold -----------------------------------------------------------------------------------------------

    def inspect(self, job: Job, before: bytes) -> None:
        """The run's files as a reader finds them at any moment."""
        check, content = self.found.check, read_bytes(job)
        whole = before[: before.rfind(b"\n") + 1]
        lost = f"{job.folder}: {len(whole)} bytes before"
        check("no event that was written is lost", content.startswith(whole), lost)
        numbers = [event["seq"] for event in job.events()]
        gap = f"{job.folder}: {numbers[-20:]}"
        check("events are numbered without a gap", numbers == list(range(1, len(numbers) + 1)), gap)
        if (job.folder / "adapter").exists():
            check("an adapter that is there loads and classifies", loads(job), job.folder)
        workers = self.workers()
        for other, state in self.store.states():
            if state.is_active:
                check("a run is active only while its worker lives", state.pid in workers, (other.id, state, workers))
        if job.state().is_final:  # a worker that has written its end needs a moment to go
            self.wait(lambda: not self.workers(job), job, what="a run that has ended has no worker")

    def agree(self) -> None:
        """The app, over HTTP, tells of the runs what their folders tell."""
        listed = {run["run"]: run for run in ask(self.app, "runs")}
        ids = {job.id for job in self.store.jobs()}
        self.found.check("the app lists every run", set(listed) == ids, sorted(listed))
        for job in self.store.jobs()[:1]:
            for _ in range(50):  # until nothing happened in between
                before, shown, after = job.state(), ask(self.app, "run", job.id), job.state()
                if before.state == after.state:
                    break
            self.found.check("the app tells the state", shown["state"] == after.state, (shown["state"], after))
            told = {event["seq"]: clean(event) for event in job.events()}  # the app tells names for paths
            agree = all(told[event["seq"]] == clean(event) for event in shown["events"])
            self.found.check("the app tells the events", agree, job.folder)

    def wait(
        self, condition: Callable[[], bool], job: Job | None = None, pause: float = 0.01, what: str = "all waits end"
    ) -> None:
        deadline = time.monotonic() + PATIENCE
        while not (met := condition()) and time.monotonic() < deadline:
            time.sleep(pause)
        self.found.check(what, met, job and (job.id, job.state()))

    def workers(self, job: Job | None = None) -> list[int]:
        """The pids of the workers of a run, or of all of this home."""
        place = str(job.folder if job else self.store.home)
        processes = psutil.process_iter(["pid", "cmdline"])
        lines = ((process.info["pid"], process.info["cmdline"] or []) for process in processes)
        return [pid for pid, line in lines if "qlora_demo.worker" in line and line[-1].startswith(place)]

    def _start_app(self) -> App:
        alone = {"QLORA_DEMO_OFFLINE": "1", "HF_ENDPOINT": NOBODY, "OMP_NUM_THREADS": "1"}
        return start_app(self.store.home, self.store.home.parent / "app.log", **alone)

    def _kill_app(self) -> None:
        self.app.process.kill()
        self.app.process.wait()


def write_inputs(place: Path, seed: int) -> dict[str, Any]:
    """A tiny random model and a few reviews; the settings of the runs on them."""
    from qlora_demo.engine import quiet
    from tests.families import make_family

    quiet()
    reviews = write_reviews(place / "mine.jsonl", 14)
    model = make_family("bert", place / "model")
    sizes = {"batch_size": 4, "rank": 2, "max_length": 16, "max_steps": STEPS, "evaluations": STEPS // EVERY}
    return RunConfig.read({"model": str(model), "data": str(reviews), "seed": seed, "log_every": 1, **sizes}).to_dict()


def read_bytes(job: Job) -> bytes:
    path = job.folder / "events.jsonl"
    return path.read_bytes() if path.exists() else b""


def marks(job: Job) -> list[tuple[int, int]]:
    """What changes when anything is written that tells where a run is."""
    found = []
    for name in ("events.jsonl", "state.json", "adapter.draft/report.json"):
        try:
            status = (job.folder / name).stat()
            found.append((status.st_size, status.st_mtime_ns))
        except FileNotFoundError:
            found.append((-1, 0))
    return found


def is_worker(pid: int, job: Job) -> bool:
    """Whether the process is the run's worker: no other is ever killed."""
    try:
        return str(job.folder) in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


def is_over(pid: int) -> bool:
    """Whether the kernel has ended a process that was killed: not before a write of its to a slow disk is done."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


def loads(job: Job) -> bool:
    """Whether the run's adapter loads and classifies."""
    from qlora_demo.engine.classify.classifier import Classifier

    try:
        return Classifier(str(job.folder / "adapter"), on_cpu=True).logits(TEXTS).shape == (len(TEXTS), 5)
    except Exception as error:
        print(f"{job.folder}: {type(error).__name__}: {error}", file=sys.stderr)
        return False


def told_steps(events: list[dict[str, Any]]) -> list[int]:
    """The steps of the loss curve; what a resumed run tells again is void."""
    steps: list[int] = []
    for event in events:
        if event["event"] == "resumed":
            steps = [step for step in steps if step <= event["step"]]
        elif event["event"] == "step":
            steps.append(event["step"])
    return steps


def work_chain(moments: list[Moment], seed: int, core: int | None = None, minutes: float | None = None) -> Findings:
    """A chain, which begins no kill after so many `minutes`. With `core` it is in a process of its own that keeps to
    that core, as do the processes it starts."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    total, end = Findings(), time.monotonic() + 60 * (minutes or math.inf)
    while len(total.kills) < len(moments) and time.monotonic() < end:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            chain = Chain(Path(place) / "runs", seed)
            try:
                chain.work(moments[len(total.kills) :], end)
            except Exception:  # a finding like others, and what is left of the plan goes on in a new home
                chain.found.check("nothing breaks off", False, traceback.format_exc())
                moments = moments[1:]
            finally:
                chain.close()
            total.add(chain.found)
    return total


def work(kills: int, seed: int, minutes: float | None = None) -> Findings:
    """As many chains as cores, at most two."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of the chains' own processes, before they import torch
    cores = sorted(os.sched_getaffinity(0))[:2] if hasattr(os, "sched_getaffinity") else [0, 1]
    shares = [kills // len(cores) + (number < kills % len(cores)) for number in range(len(cores))]
    total = Findings()
    with ProcessPoolExecutor(len(cores), multiprocessing.get_context("spawn")) as pool:
        seeds = [seed * 100 + number for number in range(len(cores))]
        plans = [plan(s, share) for s, share in zip(seeds, shares, strict=True)]
        for found in pool.map(work_chain, plans, seeds, cores, [minutes] * len(cores)):
            total.add(found)
    return total


def describe(found: Findings, kills: int, seed: int, seconds: float) -> str:
    """The findings as a page."""
    places = [place for place in [*SPREAD, "ended"] if any(kill.where == place for kill in found.kills)]
    count = Counter((kill.where, kill.victim) for kill in found.kills)
    cells = {place: " | ".join(str(count[place, victim]) for victim in VICTIMS) for place in places}
    rows = "\n".join(f"| {place} | {numbers} |" for place, numbers in cells.items())
    sums = " | ".join(str(sum(kill.victim == victim for kill in found.kills)) for victim in VICTIMS)
    outcomes = Counter(f"{kill.victim}: {kill.outcome}" for kill in found.kills)
    dying = max((kill.dying for kill in found.kills), default=0.0)
    slowest = max((kill.seconds for kill in found.kills), default=0.0)
    outcome_lines = "\n".join(f"- {name}: {number}" for name, number in sorted(outcomes.items()))
    check_lines = "\n".join(f"| {name} | {number:,} |" for name, number in sorted(found.checks.items()))
    violations = "".join(f"- VIOLATION {violation}\n" for violation in found.violations)
    return f"""# Kills -9 at random moments of real runs

`python -m tests.faults --kills {kills} --seed {seed}`, {date.today()}: {len(found.kills)} kills in
{seconds / 60:.0f} min, {found.done} runs of {STEPS} steps brought to their end, {sum(found.checks.values()):,} checks,
{len(found.violations)} violations.

| where the run was | {" | ".join(VICTIMS)} |
|---|---|---|---|
{rows}
| in all | {sums} |

The kernel took up to {dying:.2f} s to end a killed worker; from then on its run's state was true within
{slowest:.2f} s. What became of the run:

{outcome_lines}

| check | times |
|---|---|
{check_lines}
{violations}"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="after which no kill is begun any more")
    parser.add_argument("--report", type=Path, help="where to write the findings")
    options = parser.parse_args()
    began = time.monotonic()
    found = work(options.kills, options.seed, options.minutes)
    page = describe(found, options.kills, options.seed, time.monotonic() - began)
    print(page)
    if options.report:
        options.report.write_text(page)
    return 1 if found.violations else 0


if __name__ == "__main__":
    sys.exit(main())
