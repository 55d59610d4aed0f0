"""Speed on a machine without a GPU: `python -m benchmarks.cpu` (make bench). Writes benchmarks/cpu.md.

Start of the page, imports, a typed review in Chromium, and training against the tutorial's way of padding, all in one
run. Figures of one run can be compared with each other; those of two machines cannot."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch
from playwright.sync_api import Page, sync_playwright

from qlora_demo.core.config import RunConfig
from qlora_demo.engine.data import dataset as reviews_of
from qlora_demo.engine.models import modeling, sources
from qlora_demo.engine.models.device import choose_device
from qlora_demo.engine.train.batches import loss_over
from tests.serving import ROOT, App, start_app, stop_app

RESULT = Path(__file__).parent / "cpu.md"
REVIEW = "Great sound and a solid case, but the battery barely lasts an afternoon and support never answers."
BATCHES, BATCH = 4, 32
# Plain, and as the app does: without Gradio's stubs; without torch's compiler, and with the garbage collector at rest.
IMPORTS = {
    "the page": ("import gradio, qlora_demo.ui", "import qlora_demo.ui"),
    "the engine": (
        "import os; os.environ['TORCHDYNAMO_DISABLE'] = '0'; import qlora_demo.engine.training",
        "from qlora_demo.engine import importing\nwith importing(): import qlora_demo.engine.training",
    ),
}
Encode = Callable[[list[str]], dict[str, torch.Tensor]]
# In the page: the time from a key to other numbers beside the bars. Other changes (a class, a style) are no answer.
STOPWATCH = """() => {
  window.waits = [];
  const answer = document.querySelector('#classify-probabilities');
  let pressed = 0, before = '';
  const review = document.querySelector('#classify-review textarea');
  review.addEventListener('input', () => { pressed = performance.now(); before = answer.innerText; });
  new MutationObserver(() => {
    if (pressed && answer.innerText !== before) { window.waits.push(performance.now() - pressed); pressed = 0; }
  }).observe(answer, { subtree: true, childList: true, characterData: true });
}"""


def main() -> int:
    rows = [*start_and_type(), *imports(), *train()]
    device = choose_device("cpu")
    table = "\n".join(f"| {what} | {value} |" for what, value in rows)
    RESULT.write_text(
        f"# Speed without a GPU\n\n`make bench`, {datetime.now(UTC):%Y-%m-%d}, {device.name}, {torch.get_num_threads()}"
        f" threads, compute dtype {device.compute_dtype}.\n\n| what | measured |\n|---|---|\n{table}\n"
    )
    print(RESULT.read_text())
    return 0


def start_and_type() -> Iterator[tuple[str, str]]:
    """How soon the page is there, and how soon it answers a key."""
    ups = []
    for _ in range(3):
        with running() as app:
            ups.append(app.up_seconds)
            if len(ups) == 3:
                waits = sorted(type_a_review(app.url))
    yield "first page after `python app.py`, no network (median of 3)", f"{statistics.median(ups):.1f} s"
    yield (
        f"typed review, key to stars in Chromium, {len(waits)} keys: median",
        f"{1000 * statistics.median(waits):.0f} ms",
    )
    yield "the same, 95th percentile", f"{1000 * waits[int(0.95 * len(waits))]:.0f} ms"


def imports() -> Iterator[tuple[str, str]]:
    """Processor time of what a process imports, two ways in turn."""
    for what, ways in IMPORTS.items():
        found: list[list[float]] = [[], []]
        for _ in range(3):
            for seconds, way in zip(found, ways, strict=True):
                script = f"{way}\nimport time; print(time.process_time())"
                env = {**os.environ, "OMP_NUM_THREADS": "1"}
                done = subprocess.run(
                    [sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True
                )
                seconds.append(float(done.stdout))
        plain, ours = map(statistics.median, found)
        yield (
            f"importing {what}, plain and as the app does (processor, median of 3)",
            f"{plain:.1f} s, {ours:.1f} s ({ours / plain:.2f})",
        )


@contextmanager
def running() -> Iterator[App]:
    with tempfile.TemporaryDirectory() as place:
        app = start_app(Path(place) / "runs", Path(place) / "log")
        try:
            yield app
        finally:
            stop_app(app)


def type_a_review(url: str) -> list[float]:
    """Seconds from each key to its answer, one key at a time, once the model is warm."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(url)
        page.get_by_role("tab", name="Classify").click()
        review = page.locator("#classify-review textarea")
        review.fill("Works.")
        page.wait_for_function(
            r"/^\d\.\d$/.test(document.querySelector('#classify-stars').innerText.trim())", timeout=120_000
        )
        review.fill("")
        page.wait_for_timeout(1000)
        page.evaluate(STOPWATCH)
        for letter in REVIEW:
            answered = page.evaluate("window.waits.length")
            review.press_sequentially(letter)
            wait_for_answer(page, answered)
        waits: list[float] = page.evaluate("window.waits")
        browser.close()
    return [wait / 1000 for wait in waits]


def wait_for_answer(page: Page, answered: int) -> None:
    """A space changes nothing in the bars, so it has no answer to wait for: after a second the next key follows."""
    deadline = time.monotonic() + 1
    while page.evaluate("window.waits.length") == answered and time.monotonic() < deadline:
        page.wait_for_timeout(10)


def train() -> Iterator[tuple[str, str]]:
    """Reviews per second of whole training steps: ours, and with the tutorial's padding and checkpointing."""
    settings, device = RunConfig(), choose_device("cpu")
    reviews = reviews_of.load("sample", rows=BATCHES * BATCH).splits["train"]
    base = modeling.load_base(sources.resolve("sample"), reviews_of.SAMPLE_LABELS, settings.precision, device)
    model = modeling.attach_lora(base, rank=settings.rank, alpha=settings.alpha, dropout=0, targets=settings.targets)
    by_length = reviews.take(sorted(range(len(reviews)), key=lambda i: len(reviews.texts[i])))
    longest = modeling.usable_length(base.tokenizer, base.model.config, 768)

    def dynamic(texts: list[str]) -> dict[str, torch.Tensor]:
        return dict(
            base.tokenizer(texts, truncation=True, max_length=settings.max_length, padding=True, return_tensors="pt")
        )

    def padded(texts: list[str]) -> dict[str, torch.Tensor]:
        return dict(
            base.tokenizer(texts, truncation=True, max_length=longest, padding="max_length", return_tensors="pt")
        )

    ours = rate(model, by_length, dynamic, BATCHES)
    model.enable_input_require_grads()
    base.model.activation_checkpointing_enable({"use_reentrant": False})
    theirs = rate(model, reviews, padded, 1)
    yield f"training, batch {BATCH}, batches by length padded to their longest", f"{ours:.1f} reviews/s"
    yield (
        f"training, batch {BATCH}, padded to {longest} with gradient checkpointing (the tutorial's way)",
        f"{theirs:.1f} reviews/s",
    )
    yield "ratio", f"{ours / theirs:.1f}"


def rate(model: torch.nn.Module, reviews: reviews_of.Reviews, encode: Encode, batches: int) -> float:
    """Reviews per second over whole steps; the first one warms up and is not counted."""
    loss = loss_over(len(reviews_of.SAMPLE_LABELS), 0, True)
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-4, fused=True)
    model.train()
    began = 0.0
    for number in range(batches + 1):
        if number == 1:
            began = time.monotonic()
        rows = slice((number % batches) * BATCH, (number % batches + 1) * BATCH)
        batch = encode(reviews.texts[rows])
        loss(model(**batch), torch.tensor(reviews.labels[rows])).backward()
        optimizer.step()
        optimizer.zero_grad()
    return batches * BATCH / (time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
