"""Memory: one button weighs a model at each step of QLoRA, and a training step; the prediction is drawn at once, the
measurement as it comes.

Measuring is a job in a process of its own; the tab only reads its folder, so a reload finds it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from ...core.errors import DemoError
from ...core.memory_report import MemoryReport
from ...core.requests import MemoryRequest
from ...host.redaction import without_paths
from ...jobs.store import Job
from ...services.app import Services
from ..handlers import shown, visitor
from ..views import view_downloads, view_memory, view_why
from .architecture_views import FILTER_JS, treemap, view_architecture, view_sums
from .fit_views import view_calculators, view_fits
from .memory_views import view_process, view_step

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
OPTIMIZERS = [
    ("AdamW, 32 bits", "adamw_torch_fused"),
    ("AdamW, 8 bits", "adamw_8bit"),
    ("AdamW, paged", "paged_adamw_32bit"),
]
WAITING = "Looking at this machine and predicting; this takes a few seconds after a start."
STEP = {"batch_size": 32, "length": 128}  # what the form begins with, and what the shipped run trains on


@dataclass(frozen=True)
class Shown:
    """The outputs of every handler of this tab, in the order they are wired. None: left as it is."""

    status: Any = None
    figure: Any = None
    why: Any = None
    step: Any = None
    sums: Any = None
    map: Any = None
    process: Any = None
    calculators: Any = None
    architecture: Any = None
    hardware: Any = None
    find: Any = None
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
        "What does a classifier weigh before and after quantization, and what does training it take? Each bar counts"
        " every byte: weights, the constants that quantization adds, buffers, adapters. *Predicted* needs no weights;"
        " *measured* loads the model and counts."
    )
    with gr.Row(equal_height=True, elem_classes="narrow-stack"):
        model = gr.Dropdown(
            MODELS,
            value="sample",
            label="Model",
            info="From the list, a Hub id, or a local folder.",
            scale=4,
            allow_custom_value=True,
            elem_id="memory-model",
        )
        labels = gr.Number(
            5, label="Labels", info="Classes of the head.", scale=1, min_width=120, elem_id="memory-labels"
        )
        random_weights = gr.Checkbox(
            False,
            label="Random weights",
            info="Weigh the shape; nothing is downloaded.",
            scale=2,
            min_width=200,
            elem_id="memory-random-weights",
        )
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
    gr.Markdown(
        "### A training step\nWhat one step adds to the model, at its peak. Only the trained weights have gradients and"
        " moments."
    )
    with gr.Row(equal_height=True, elem_classes="narrow-stack"):
        batch_size = gr.Slider(1, 128, STEP["batch_size"], step=1, label="Reviews a step", elem_id="memory-batch-size")
        length = gr.Slider(8, 512, STEP["length"], step=8, label="Tokens a review", elem_id="memory-length")
        checkpointing = gr.Checkbox(
            False,
            label="Gradient checkpointing",
            info="Recompute activations instead of keeping them.",
            min_width=200,
            elem_id="memory-checkpointing",
        )
        optimizer = gr.Dropdown(
            OPTIMIZERS, value="adamw_torch_fused", label="Optimizer", min_width=160, elem_id="memory-optimizer"
        )
    step = gr.HTML(elem_id="memory-step", min_height=260)
    with gr.Accordion("Where the bytes are", open=False):
        sums = gr.HTML(elem_id="memory-sums")
        tree = gr.Plot(show_label=False, elem_id="memory-map")
    with gr.Accordion("On which GPU or Space it fits", open=False):
        where = gr.Button("Work it out for this model and length", elem_id="memory-where")
        hardware = gr.HTML(elem_id="memory-hardware")
    with gr.Accordion("What the process took beside its tensors", open=False):
        process = gr.HTML(elem_id="memory-process")
    with gr.Accordion("What public calculators say", open=False):
        calculators = gr.HTML(elem_id="memory-calculators")
    with gr.Accordion("Architecture before and after", open=False):
        find = gr.Textbox(label="Find a module", placeholder="attention, Linear4bit, float32 …", elem_id="memory-find")
        architecture = gr.HTML(elem_id="memory-architecture")
    mine = gr.State(("", ""))  # the job this page follows, and the key that may cancel it
    timer = gr.Timer(1, active=False)
    outputs = [
        status,
        figure,
        why,
        step,
        sums,
        tree,
        process,
        calculators,
        architecture,
        hardware,
        find,
        asking,
        ask,
        mine,
        timer,
        cancel,
    ]

    def measure_or_ask(request: MemoryRequest, confirmed: bool) -> Shown:
        report = services.memory.predict(request)
        downloads = [] if confirmed or request.random_weights else services.needed_downloads(request)
        if not downloads:
            return start(services, request, report)
        question = {"asking": gr.Group(visible=True), "ask": view_downloads(downloads)}
        return Shown(say("Predicted; measuring needs the weights."), **draw(report.to_dict()), **question)

    @shown
    def on_measure(*form: Any) -> list[Any]:
        try:
            return measure_or_ask(read_request(*form), confirmed=False).update()
        except DemoError as error:
            return Shown(say(str(error), problem=True)).update()

    @shown
    def on_fetch(*form: Any) -> list[Any]:
        return measure_or_ask(read_request(*form), confirmed=True).update()

    @shown
    def on_step(*form: Any) -> str:
        try:
            return view_step(services.memory.predict_step(read_request(*form)).model_dump())
        except DemoError as error:
            return say(str(error), problem=True)

    @shown
    def on_where(*form: Any) -> str:
        request = read_request(*form)
        return view_fits(services.memory.find_fits(request), request.length)

    @shown
    def on_cancel(mine: tuple[str, str]) -> list[Any]:
        services.train.stop(*mine, at_home=True)
        return Shown(say("Stopping; nothing half-fetched is left.")).update()

    @shown
    def on_tick(mine: tuple[str, str]) -> list[Any]:
        return follow(services.train.job(mine[0]))

    @shown
    def on_load() -> list[Any]:
        """What is being measured now, else what was measured last, else the sample's prediction."""
        job = services.store.latest("memory")
        if job is not None and not job.state().is_final:
            return Shown(mine=(job.id, ""), timer=gr.Timer(active=True)).update()
        if job is not None and (report := job.report()):
            return Shown(say(f"Measured before: {report['model']}."), **draw(report)).update()
        request = MemoryRequest.read(STEP)
        step = view_step(services.memory.predict_step(request).model_dump())
        drawn = draw(services.memory.predict(request).to_dict()) | {"step": step}
        return Shown(
            say("Predicted from the configuration. Press the button to measure it on this machine."), **drawn
        ).update()

    form = [model, labels, random_weights, batch_size, length, checkpointing, optimizer]
    private: dict[str, Any] = {"api_visibility": "private"}
    live: dict[str, Any] = {"trigger_mode": "always_last", "show_progress": "hidden", **private}
    measure.click(on_measure, form, outputs, concurrency_limit=4, **private)
    fetch.click(on_fetch, form, outputs, concurrency_limit=4, **private)
    refuse.click(lambda: gr.Group(visible=False), None, asking, queue=False, **private)
    cancel.click(on_cancel, mine, outputs, concurrency_limit=20, **private)
    gr.on(
        [batch_size.input, length.input, checkpointing.input, optimizer.input],
        on_step,
        form,
        step,
        concurrency_limit=4,
        **live,
    )
    where.click(on_where, form, hardware, concurrency_limit=2, **private)
    find.input(None, find, None, js=FILTER_JS, **private)
    timer.tick(on_tick, mine, outputs, show_progress="hidden", concurrency_limit=20, **private)
    page.load(on_load, None, outputs, show_progress="hidden", concurrency_limit=20, **private)


def read_request(
    model: str,
    labels: float,
    random_weights: bool,
    batch_size: float,
    length: float,
    checkpointing: bool,
    optimizer: str,
) -> MemoryRequest:
    """The form as a request. Raises SettingsError."""
    return MemoryRequest.read(
        {
            "model": (model or "").strip(),
            "labels": labels,
            "random_weights": random_weights,
            "batch_size": batch_size,
            "length": length,
            "gradient_checkpointing": checkpointing,
            "optimizer": optimizer,
        }
    )


def start(services: Services, request: MemoryRequest, report: MemoryReport) -> Shown:
    """Draws what is predicted and starts the measurement."""
    started = services.memory.start(request, report, visitor())
    return Shown(
        say("Predicted; the measurement starts."),
        **draw(report.to_dict()),
        asking=gr.Group(visible=False),
        mine=(started.run, started.key),
        timer=gr.Timer(active=True),
        cancel=gr.Button(visible=True),
    )


def follow(job: Job) -> list[Any]:
    """The job as it is now; its report once it is there, and then the timer rests."""
    state = job.state()
    if not state.is_final:
        place = job.summary()["position"]
        return Shown(
            say(f"Number {place} in the waiting line." if place else _phase(job)), cancel=gr.Button(visible=True)
        ).update()
    report = job.report()
    rest = {"timer": gr.Timer(active=False), "cancel": gr.Button(visible=False)}
    if report is None:
        return Shown(
            say(state.error or f"The measurement ended as {state.state}.", problem=state.state == "failed"), **rest
        ).update()
    return Shown(
        say(f"Measured on this machine: {report['model']}, {report['parameters']:,} parameters."),
        **draw(report),
        **rest,
    ).update()


def draw(report: dict[str, Any]) -> dict[str, Any]:
    """Every figure of a report. What is not in it (a step that is not predicted yet) stays as it was; hardware is asked
    for anew.
    """
    rows = report["architecture"]["rows"]
    return {
        "figure": view_memory(report["stages"]),
        "why": view_why(report),
        "step": view_step(report.get("step")) or None,
        "sums": view_sums(rows),
        "map": treemap(rows, after=True),
        "process": view_process(report),
        "calculators": view_calculators(report.get("estimates", []), report["stages"]),
        "architecture": view_architecture(rows),
        "hardware": "",
        "find": "",
    }


def say(sentence: str, problem: bool = False) -> str:
    return f'<p class="{"problem" if problem else "quiet"}">{escape(without_paths(sentence))}</p>'


def _phase(job: Job) -> str:
    """The last phase in words, with its share."""
    phases = [event for event in job.events() if event["event"] == "phase"]
    if not phases:
        return "The measuring process starts (a few seconds: it imports torch)."
    share = f" ({100 * phases[-1]['progress']:.0f} %)" if phases[-1]["progress"] is not None else ""
    return f"{phases[-1]['name'].capitalize()}: {phases[-1]['detail']}{share}"
