"""Fifty who type at once: `python -m benchmarks.typing`. Writes benchmarks/typing.md.

First the classifier's waiting line against one pass a call, in one process with the same threads. Then the app itself,
asked over HTTP by fifty clients of another process while a run trains in a third: errors, crossed answers, how long an
answer takes."""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import torch
from gradio_client import Client

from qlora_demo.engine.classify import classifier as inference
from qlora_demo.engine.classify.classifier import Classifier, Scores
from qlora_demo.engine.data import dataset as reviews_of
from qlora_demo.engine.models.device import choose_device
from qlora_demo.services.batching import Batcher
from tests.serving import App, start_app, stop_app

RESULT = Path(__file__).parent / "typing.md"
CLIENTS, KEYS, ROUNDS = 50, 6, 3
TOLERANCE = 0.01  # of a probability in BF16, alone or in a batch
RUN = {"max_steps": 5_000, "epochs": 1}
Way = Callable[[str], Scores]


def main() -> int:
    texts = typed_texts()
    rates = {name: statistics.median(found) for name, found in throughput(texts).items()}
    passes = tokens_at_once(texts)
    expected = Classifier("sample", on_cpu=True)
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "texts.json").write_text(
            json.dumps(
                [
                    [text, found.probabilities]
                    for own in texts
                    for text, found in zip(own, expected.classify(own), strict=True)
                ]
            )
        )
        app = start_app(Path(place) / "runs", Path(place) / "log", HF_ENDPOINT="http://127.0.0.1:9")
        try:
            strangers = ask_from_outside(app, Path(place) / "texts.json", "strangers")
            alone = ask_from_outside(app, Path(place) / "texts.json")
            beside, steps = beside_a_run(app, Path(place) / "texts.json")
        finally:
            stop_app(app)
    RESULT.write_text(page(rates, passes, strangers, alone, beside, steps))
    print(RESULT.read_text())
    return int(beside["errors"] or beside["crossed"] or beside["p95"] > 1.5 or rates["line"] < 3 * rates["one"])


def typed_texts() -> list[list[str]]:
    """What each client sends: its own review of the sample's test split, word by word in KEYS steps."""
    reviews = reviews_of.load("sample").splits["test"].texts[:CLIENTS]
    return [[" ".join(words[: 1 + k * len(words) // KEYS]) for k in range(KEYS)] for words in map(str.split, reviews)]


def throughput(texts: list[list[str]]) -> dict[str, list[float]]:
    """Answers per second of CLIENTS threads, each asking its texts one after the other; ROUNDS of each way in turn."""
    packed = Classifier("sample", on_cpu=True)
    classifier = Classifier("sample", on_cpu=True, restored=True)
    line: Batcher[str, Scores] = Batcher(classifier.score, remembered=0)
    ways: dict[str, Way] = {
        "packed": lambda text: packed.score([text])[0],
        "one": lambda text: classifier.score([text])[0],
        "line": lambda text: line.ask([text], 600)[0],
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in range(ROUNDS):
            for name, way in ways.items():
                began = time.monotonic()
                list(pool.map(lambda own, way=way: [way(text) for text in own], texts))  # type: ignore[misc]
                found[name].append(CLIENTS * KEYS / (time.monotonic() - began))
    return found


def tokens_at_once(texts: list[list[str]]) -> dict[int, float]:
    """Milliseconds of processor time an answer, all texts at once, by what a pass takes of them; the best of ROUNDS."""
    classifier = Classifier("sample", on_cpu=True, restored=True)
    every, chosen, found = [text for own in texts for text in own], inference.TOKENS_AT_ONCE, {}
    for tokens in (128, 256, 512, 1024, 2048):
        inference.TOKENS_AT_ONCE, used = tokens, []
        for _ in range(ROUNDS):
            began = time.thread_time()
            classifier.score(every)
            used.append(time.thread_time() - began)
        found[tokens] = 1000 * min(used) / len(every)
    inference.TOKENS_AT_ONCE = chosen
    return found


def beside_a_run(app: App, texts: Path) -> tuple[dict[str, Any], int]:
    """The clients' figures while a run trains, and the steps that it took meanwhile."""
    client = Client(app.url, verbose=False, httpx_kwargs={"timeout": 120})
    started = client.predict(RUN, api_name="/start_run")

    def steps() -> int:
        return int(client.predict(started["run"], api_name="/run")["steps_done"] or 0)

    deadline = time.monotonic() + 180
    while steps() < 10 and time.monotonic() < deadline:
        time.sleep(1)
    before = steps()
    figures = ask_from_outside(app, texts)
    taken = steps() - before
    client.predict(started["run"], started["key"], api_name="/stop_run")
    while (
        client.predict(started["run"], api_name="/run")["state"] in ("running", "stopping")
        and time.monotonic() < deadline + 180
    ):
        time.sleep(1)
    return figures, taken


def ask_from_outside(app: App, texts: Path, *how: str) -> dict[str, Any]:
    """The clients in a process of their own; before them one answer is waited for, which loads the model. cpu: seconds
    an answer.
    """
    Client(app.url, verbose=False, httpx_kwargs={"timeout": 120}).predict("Works well.", api_name="/classify")
    command = [sys.executable, "-m", "benchmarks.typing", app.url, str(texts), *how]
    process = psutil.Process(app.process.pid)
    used = sum(process.cpu_times()[:2])
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**figures, "cpu": (sum(process.cpu_times()[:2]) - used) / max(1, figures["answers"])}


async def type_all(url: str, expected: list[tuple[str, dict[str, float]]], strangers: bool) -> dict[str, Any]:
    """Every client types its review: the next state of it follows as soon as the last is answered, as on the page.

    It opens its session by a first call that is not counted, as a page does when it loads; `strangers` have no session.
    """
    waits: list[float] = []
    wrong: list[str] = []
    opened: list[float] = []
    crossed = 0

    async def type_one(own: list[tuple[str, dict[str, float]]]) -> None:
        nonlocal crossed
        session = {} if strangers else {"session_hash": secrets.token_hex(8)}
        async with httpx.AsyncClient(base_url=url, timeout=120) as http:
            await ask(http, own[0][0], session)
            opened.append(time.monotonic())
            while len(opened) < len(expected) / KEYS:  # all are there before one begins to type
                await asyncio.sleep(0.05)
            for text, shares in own:
                began = time.monotonic()
                try:
                    found = await ask(http, text, session)
                except (httpx.HTTPError, ValueError, KeyError) as error:
                    wrong.append(f"{type(error).__name__}: {error}"[:200])
                    continue
                waits.append(time.monotonic() - began)
                crossed += any(
                    abs(found["probabilities"][label] - share) > TOLERANCE for label, share in shares.items()
                )

    await asyncio.gather(*(type_one(expected[first : first + KEYS]) for first in range(0, len(expected), KEYS)))
    seconds = time.monotonic() - max(opened)
    waits.sort()
    return {
        "answers": len(waits),
        "errors": len(wrong),
        "first_errors": wrong[:3],
        "crossed": crossed,
        "rate": len(waits) / seconds,
        "p50": waits[len(waits) // 2],
        "p95": waits[int(0.95 * len(waits))],
        "max": waits[-1],
    }


async def ask(http: httpx.AsyncClient, text: str, session: dict[str, str]) -> dict[str, Any]:
    """One answer by Gradio's HTTP interface: a call, then the stream that ends with its result."""
    call = await http.post("gradio_api/call/classify", json={"data": [text, "sample"], **session})
    call.raise_for_status()
    event = ""
    async with http.stream("GET", f"gradio_api/call/classify/{call.json()['event_id']}") as stream:
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: ") and event == "complete":
                result: dict[str, Any] = json.loads(line.removeprefix("data: "))[0]
                return result
            elif line.startswith("data: ") and event == "error":
                raise ValueError(line)
    raise ValueError("the stream ended without a result")


def page(
    rates: dict[str, float],
    passes: dict[int, float],
    strangers: dict[str, Any],
    alone: dict[str, Any],
    beside: dict[str, Any],
    steps: int,
) -> str:
    device = choose_device("cpu")
    figures = [
        (
            f"the sample classifier, {CLIENTS} threads: one pass a call, weights restored at each pass (NF4)",
            f"{rates['packed']:.1f} answers/s",
        ),
        ("the same, weights restored once", f"{rates['one']:.1f} answers/s"),
        ("the same through the waiting line", f"{rates['line']:.1f} answers/s"),
        (
            "ratio to one pass a call (to that of NF4 as it lies)",
            f"{rates['line'] / rates['one']:.1f} ({rates['line'] / rates['packed']:.1f})",
        ),
    ]
    figures += [
        (
            "processor time an answer, passes of at most " + ", ".join(map(str, passes)) + " tokens",
            ", ".join(f"{ms:.1f}" for ms in passes.values()) + " ms",
        )
    ]
    sides = (
        ("nothing else, each call a session of its own", strangers),
        ("nothing else", alone),
        (f"a run trains ({steps} steps meanwhile)", beside),
    )
    for name, found in sides:
        figures += [
            (
                f"{CLIENTS} HTTP clients, {name}: answers, errors, crossed answers",
                f"{found['answers']}, {found['errors']}, {found['crossed']}",
            ),
            (
                "answers a second; of the app's processor time an answer",
                f"{found['rate']:.1f}; {1000 * found['cpu']:.0f} ms",
            ),
            (
                "an answer: median, 95th percentile, longest",
                f"{found['p50']:.2f} s, {found['p95']:.2f} s, {found['max']:.2f} s",
            ),
        ]
    table = "\n".join(f"| {what} | {value} |" for what, value in figures)
    return (
        f"# Fifty who type at once\n\n`python -m benchmarks.typing`, {datetime.now(UTC):%Y-%m-%d}, {device.name},"
        f" {torch.get_num_threads()} threads, compute dtype {device.compute_dtype}. Each client sends its own review in"
        f" {KEYS} states, the next as soon as the last is answered. Answers are not remembered between calls; the"
        f" median of {ROUNDS} rounds. {load_words()}\n\n| what | measured |\n|---|---|\n{table}\n"
    )


def load_words() -> str:
    return (
        f"Load of the machine over the last five minutes: {psutil.getloadavg()[1]:.1f} on {psutil.cpu_count()} cores."
    )


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(
            json.dumps(
                asyncio.run(
                    type_all(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), "strangers" in sys.argv[3:])
                )
            )
        )
        sys.exit(0)
    sys.exit(main())
