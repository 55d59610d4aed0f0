"""What the live page costs: `python -m benchmarks.live`. Writes benchmarks/live.md.

An answer to one poll at 5,000 steps; a real run's speed while ten pages watch it, in blocks that take turns with blocks
that nobody watches. A page is its requests: a browser's own work is done on another machine."""

from __future__ import annotations

import http.client
import json
import random
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from qlora_demo.jobs.store import EventWriter, Store, to_json
from qlora_demo.services.app import Services
from qlora_demo.ui.train.live_plot import news
from tests.drawn_runs import TEXTS, judged, make_run, one_step, story
from tests.serving import App, ask, start_app, stop_app

RESULT = Path(__file__).parent / "live.md"
STEPS, TICKS = 5_000, 300
PAGES, BLOCKS, BLOCK_SECONDS = 10, 24, 15
SETTLING_SECONDS = 30  # until the app has imported what it needs
OPENING_SECONDS = 3  # until a page that was just opened has all, and only what is new is asked for
LIMIT_SECONDS, LIMIT_BYTES = 0.030, 50_000


def main() -> int:
    rows = [*answer_polls(), *watch_a_run()]
    table = "\n".join(f"| {what} | {value} |" for what, value in rows)
    RESULT.write_text(
        f"# What the live page costs\n\n`python -m benchmarks.live`, {datetime.now(UTC):%Y-%m-%d}, {psutil.cpu_count()}"
        f" cores.\n\n| what | measured |\n|---|---|\n{table}\n"
    )
    print(RESULT.read_text())
    return 0


def answer_polls() -> Iterator[tuple[str, str]]:
    """The server's side of a poll, to the JSON that is sent."""
    with tempfile.TemporaryDirectory() as place:
        services = Services(Store(Path(place)))
        job = make_run(Path(place), "running", story(STEPS, 2 * STEPS, 80, TEXTS, gpu=True), STEPS, 2 * STEPS)
        took, size, told = poll(services, {"run": job.id, "after": 0, "born": ""})
        yield (
            f"the first page of a run of {STEPS:,} steps: its file is read once, {size_of(job.folder)}",
            f"{1000 * took:.0f} ms",
        )
        refill, answers = [], 0
        query = {"run": job.id, "after": 0, "born": ""}
        while not answers or told["more"]:
            took, size, told = poll(services, query)
            query = {"run": job.id, "after": told["after"], "born": told["born"]}
            refill.append((took, size))
            answers += 1
        yield f"a reload: answers until all is there ({sum(size for _, size in refill):,} bytes)", f"{answers}"
        yield "the slowest of them", f"{1000 * max(took for took, _ in refill):.1f} ms"
        yield "the largest of them", f"{max(size for _, size in refill):,} bytes"
        writer, chance, ticks = EventWriter(job.folder), random.Random(1), []
        for step in range(STEPS + 1, STEPS + 1 + TICKS):
            writer.write(one_step(step, 2 * STEPS, chance))
            if step % 50 == 0:
                for event in judged(step, 2 * STEPS, TEXTS):
                    writer.write(event)
            took, size, told = poll(services, query)
            query["after"] = told["after"]
            ticks.append((took, size))
        slowest, largest = np.percentile([took for took, _ in ticks], 95), max(size for _, size in ticks)
        yield f"a tick, median of {TICKS}", f"{1000 * statistics.median(took for took, _ in ticks):.1f} ms"
        yield f"a tick, 95th percentile (limit {1000 * LIMIT_SECONDS:.0f} ms)", f"{1000 * slowest:.1f} ms"
        yield f"a tick, largest (limit {LIMIT_BYTES:,} bytes)", f"{largest:,} bytes"
        if slowest > LIMIT_SECONDS or largest > LIMIT_BYTES:
            sys.exit("A tick is over its limit.")


def poll(services: Services, query: dict[str, Any]) -> tuple[float, int, dict[str, Any]]:
    """(seconds, bytes, answer) of one poll."""
    began = time.perf_counter()
    told = news(services, dict(query))
    sent = to_json(told)
    return time.perf_counter() - began, len(sent.encode()), told


def size_of(folder: Path) -> str:
    return f"{(folder / 'events.jsonl').stat().st_size / 1024**2:.1f} MiB"


def watch_a_run() -> Iterator[tuple[str, str]]:
    """A real run on the sample, watched and not watched in turn."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        app = start_app(
            Path(place) / "runs", Path(place) / "log", QLORA_DEMO_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9"
        )
        try:
            figure, run = figure_of(app), start_run(app)
            store = Store(app.home)
            wait_for_steps(store, run, 10)
            time.sleep(SETTLING_SECONDS)
            blocks: dict[bool, list[Block]] = {True: [], False: []}
            waits: list[float] = []
            for number in range(BLOCKS):
                is_watched = number % 2 == 1
                enough = threading.Event()
                pages = [
                    threading.Thread(target=watch, args=(app, figure, run, enough, waits))
                    for _ in range(PAGES if is_watched else 0)
                ]
                for page in pages:
                    page.start()
                time.sleep(OPENING_SECONDS)
                blocks[is_watched].append(measure_block(app, store, run))
                enough.set()
                for page in pages:
                    page.join()
        finally:
            end_workers(Store(app.home))
            stop_app(app)
    watched, alone = ([block.speed for block in blocks[which]] for which in (True, False))
    ratios = [
        one / (before + after) * 2 for one, before, after in zip(watched, alone, [*alone[1:], alone[-1]], strict=True)
    ]
    error = statistics.stdev(ratios) / len(ratios) ** 0.5
    yield (
        f"training, {len(alone)} blocks of {BLOCK_SECONDS} s, nobody watches: median",
        f"{statistics.median(alone):.1f} reviews/s",
    )
    yield (
        f"training, {len(watched)} blocks between them, {PAGES} pages watch: median",
        f"{statistics.median(watched):.1f} reviews/s",
    )
    yield "watched / not watched, mean of neighbouring blocks", f"{statistics.mean(ratios):.3f} ± {error:.3f}"
    for which, words in ((False, "nobody watches"), (True, f"{PAGES} pages watch")):
        yield (
            f"of one processor the app takes while {words}",
            f"{100 * statistics.mean(block.app for block in blocks[which]):.1f} %",
        )
    yield (
        "and the watching pages' requests, made on the same processors",
        f"{100 * statistics.mean(it.pages for it in blocks[True]):.1f} %",
    )
    yield (
        f"a watching page's wait for its answer meanwhile, over HTTP, {len(waits):,} polls: median",
        f"{1000 * statistics.median(waits):.0f} ms",
    )
    yield "the same, 95th percentile", f"{1000 * float(np.percentile(waits, 95)):.0f} ms"


def start_run(app: App) -> str:
    settings = {"max_steps": 5_000, "epochs": 100, "evaluations": 1, "log_every": 1, "batch_size": 16, "max_length": 64}
    return str(ask(app, "start_run", settings)["run"])


def wait_for_steps(store: Store, run: str, steps: int) -> None:
    deadline = time.monotonic() + 300
    while (store.job(run).state().steps_done or 0) < steps:
        if time.monotonic() > deadline or store.job(run).state().is_final:
            sys.exit(f"The run did not come to step {steps}: {store.job(run).state()}")
        time.sleep(0.5)


@dataclass(frozen=True)
class Block:
    """`speed` in reviews per second; `app`, `pages`: the processor time of the app and of this program per second."""

    speed: float
    app: float
    pages: float


def measure_block(app: App, store: Store, run: str) -> Block:
    """The run's speed over a block, from the steps' own times."""
    job = store.job(run)
    served, asking = psutil.Process(app.process.pid), psutil.Process()
    began, seen = len(job.events()), [processor_seconds(served), processor_seconds(asking)]
    time.sleep(BLOCK_SECONDS)
    app_share, pages_share = (
        (processor_seconds(it) - before) / BLOCK_SECONDS for it, before in zip((served, asking), seen, strict=True)
    )
    rates = [event["reviews_per_second"] for event in job.events()[began:] if event["event"] == "step"]
    return Block(len(rates) / sum(1 / rate for rate in rates), app_share, pages_share)


def processor_seconds(process: psutil.Process) -> float:
    taken = process.cpu_times()
    return float(taken.user + taken.system)


def figure_of(app: App) -> int:
    """The number that Gradio gave the live figure."""
    with urllib.request.urlopen(f"{app.url}config", timeout=60) as answer:
        return int(
            next(it["id"] for it in json.load(answer)["components"] if it["props"].get("elem_id") == "train-live")
        )


def watch(app: App, figure: int, run: str, enough: threading.Event, waits: list[float]) -> None:
    """What a page asks, over one connection as a browser does: what is new, when it was told to ask again."""
    query: dict[str, Any] = {"run": run, "after": 0, "born": ""}
    connection = http.client.HTTPConnection(app.url.split("/")[2], timeout=30)
    while not enough.is_set():
        body = {
            "data": query,
            "component_id": figure,
            "fn_name": "since",
            "session_hash": f"page{threading.get_ident()}",
        }
        began = time.monotonic()
        connection.request(
            "POST", "/gradio_api/component_server/", json.dumps(body), {"Content-Type": "application/json"}
        )
        told = json.loads(connection.getresponse().read())
        waits.append(time.monotonic() - began)
        query |= {"after": told["after"], "born": told["born"]}
        enough.wait(told["again"])
    connection.close()


def end_workers(store: Store) -> None:
    """The run is not wanted any longer."""
    for _, state in store.states():
        if state.is_active and state.pid:
            with suppress(psutil.NoSuchProcess):
                worker = psutil.Process(state.pid)
                worker.kill()
                worker.wait(10)


if __name__ == "__main__":
    sys.exit(main())
