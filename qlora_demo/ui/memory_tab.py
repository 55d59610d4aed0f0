"""Memory: one button weighs a model at each step of QLoRA; the prediction is drawn at once, the measurement as it comes.

Measuring is a job in a process of its own; the tab only reads its folder, so a reload finds it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from ..config import MemoryRequest
from ..errors import DemoError
from ..jobs.store import Job
from ..services import Services
from .architecture_views import view_architecture
from .handlers import shown
from .views import view_downloads, view_memory, view_why

MODELS = [
    ("all-MiniLM-L6-v2 (embedded sample)", "sample"),
    ("GPT-2 small, the tutorial's model", "openai-community/gpt2"),
    ("GPT-2 XL", "openai-community/gpt2-xl"),
    ("DistilBERT", "distilbert/distilbert-base-uncased"),
    ("ModernBERT base", "answerdotai/ModernBERT-base"),
    ("Qwen3 0.6B", "Qwen/Qwen3-0.6B"),
    ("Qwen3 8B", "Qwen/Qwen3-8B"),
    ("Llama 3.1 70B", "meta-llama/Llama-3.1-70B"),
]
WAITING = "Looking at this machine and predicting; this takes a few seconds after a start."


@dataclass(frozen=True)
class Shown:
    """The outputs of every handler of this tab, in the order they are wired."""

    status: Any = None
    figure: Any = None
    why: Any = None
    architecture: Any = None
    asking: Any = None
    ask: Any = None
    mine: Any = None
    timer: Any = None
    cancel: Any = None

    def update(self) -> list[Any]:
        return [gr.skip() if value is None else value for value in vars(self).values()]


def build_memory_tab(services: Services, page: gr.Blocks) -> None:
    """Layout, then events."""
    gr.Markdown(
        "What does a classifier weigh before and after quantization? Each bar counts every byte the model holds: weights, the "
        "constants that quantization adds, buffers, adapters. *Predicted* needs no weights; *measured* loads the model and counts."
    )
    with gr.Row(equal_height=True, elem_classes="narrow-stack"):
        model = gr.Dropdown(MODELS, value="sample", label="Model", info="From the list, a Hub id, or a local folder.", scale=4,
                            allow_custom_value=True, elem_id="memory-model")  # fmt: skip
        labels = gr.Number(5, label="Labels", info="Classes of the head.", scale=1, min_width=120, elem_id="memory-labels")
        random_weights = gr.Checkbox(False, label="Random weights", info="Weigh the shape; nothing is downloaded.", scale=2,
                                     min_width=200, elem_id="memory-random-weights")  # fmt: skip
    with gr.Row():
        measure = gr.Button("Measure memory", variant="primary", scale=0, min_width=240, elem_id="memory-measure")
        cancel = gr.Button("Cancel", visible=False, scale=0, min_width=120, elem_id="memory-cancel")
    with gr.Group(visible=False) as asking:
        ask = gr.HTML(elem_id="memory-ask")
        with gr.Row():
            fetch = gr.Button("Download and measure", variant="primary", elem_id="memory-fetch")
            refuse = gr.Button("Do not download", elem_id="memory-refuse")
    status = gr.HTML(f'<p class="quiet">{WAITING}</p>', elem_id="memory-status")
    figure = gr.HTML(elem_id="memory-figure", min_height=360)
    why = gr.HTML(elem_id="memory-why")
    with gr.Accordion("Architecture before and after", open=False):
        architecture = gr.HTML(elem_id="memory-architecture")
    mine = gr.State(("", ""))  # the job this page follows, and the key that may cancel it
    timer = gr.Timer(1, active=False)
    outputs = [status, figure, why, architecture, asking, ask, mine, timer, cancel]

    def measure_or_ask(model: str, labels: float, random_weights: bool, confirmed: bool) -> Shown:
        request = read_request(model, labels, random_weights)
        report = services.predict_memory(request)
        downloads = [] if confirmed or request.random_weights else services.needed_downloads(request)
        if not downloads:
            return start(services, request, report)
        question = {"asking": gr.Group(visible=True), "ask": view_downloads(downloads)}
        return Shown(say("Predicted; measuring needs the weights."), *draw(report), **question)

    @shown
    def on_measure(model: str, labels: float, random_weights: bool) -> list[Any]:
        try:
            return measure_or_ask(model, labels, random_weights, confirmed=False).update()
        except DemoError as error:
            return Shown(say(str(error), problem=True)).update()

    @shown
    def on_fetch(model: str, labels: float, random_weights: bool) -> list[Any]:
        return measure_or_ask(model, labels, random_weights, confirmed=True).update()

    @shown
    def on_cancel(mine: tuple[str, str]) -> list[Any]:
        services.stop_run(*mine, at_home=True)
        return Shown(say("Stopping; nothing half-fetched is left.")).update()

    @shown
    def on_tick(mine: tuple[str, str]) -> list[Any]:
        return follow(services.job(mine[0]))

    @shown
    def on_load() -> list[Any]:
        """What is being measured now, else what was measured last, else the sample's prediction."""
        job = services.latest("memory")
        if job is not None and not job.state().is_final:
            return Shown(mine=(job.id, ""), timer=gr.Timer(active=True)).update()
        if job is not None and (report := job.report()):
            return Shown(say(f"Measured before: {report['model']}."), *draw(report)).update()
        report = services.predict_memory(MemoryRequest())
        return Shown(say("Predicted from the configuration. Press the button to measure it on this machine."), *draw(report)).update()

    inputs = [model, labels, random_weights]
    private: dict[str, Any] = {"api_visibility": "private"}
    measure.click(on_measure, inputs, outputs, concurrency_limit=4, **private)
    fetch.click(on_fetch, inputs, outputs, concurrency_limit=4, **private)
    refuse.click(lambda: gr.Group(visible=False), None, asking, queue=False, **private)
    cancel.click(on_cancel, mine, outputs, concurrency_limit=20, **private)
    timer.tick(on_tick, mine, outputs, show_progress="hidden", concurrency_limit=20, **private)
    page.load(on_load, None, outputs, show_progress="hidden", concurrency_limit=20, **private)


def read_request(model: str, labels: float, random_weights: bool) -> MemoryRequest:
    """The form as a request. Raises SettingsError."""
    return MemoryRequest.read({"model": (model or "").strip(), "labels": labels, "random_weights": random_weights})


def start(services: Services, request: MemoryRequest, report: dict[str, Any]) -> Shown:
    """Draws what is predicted and starts the measurement."""
    started = services.start_measuring(request, report)
    return Shown(say("Predicted; the measurement starts."), *draw(report), asking=gr.Group(visible=False),
                 mine=(started.run, started.key), timer=gr.Timer(active=True), cancel=gr.Button(visible=True))  # fmt: skip


def follow(job: Job) -> list[Any]:
    """The job as it is now; its report once it is there, and then the timer rests."""
    state = job.state()
    if not state.is_final:
        place = job.summary()["position"]
        return Shown(say(f"Number {place} in the waiting line." if place else _phase(job)), cancel=gr.Button(visible=True)).update()
    report = job.report()
    rest = {"timer": gr.Timer(active=False), "cancel": gr.Button(visible=False)}
    if report is None:
        return Shown(say(state.error or f"The measurement ended as {state.state}.", problem=state.state == "failed"), **rest).update()
    return Shown(say(f"Measured on this machine: {report['model']}, {report['parameters']:,} parameters."), *draw(report), **rest).update()


def draw(report: dict[str, Any]) -> tuple[str, str, str]:
    return view_memory(report["stages"]), view_why(report), view_architecture(report["architecture"]["rows"])


def say(sentence: str, problem: bool = False) -> str:
    return f'<p class="{"problem" if problem else "quiet"}">{escape(sentence)}</p>'


def _phase(job: Job) -> str:
    """The last phase in words, with its share."""
    phases = [event for event in job.events() if event["event"] == "phase"]
    if not phases:
        return "The measuring process starts (a few seconds: it imports torch)."
    share = f" ({100 * phases[-1]['progress']:.0f} %)" if phases[-1]["progress"] is not None else ""
    return f"{phases[-1]['name'].capitalize()}: {phases[-1]['detail']}{share}"
