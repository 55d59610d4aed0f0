"""Memory: how much a model takes at each stage of QLoRA and in a training step; predicted at once, measured on request.

Measuring is a job in a process of its own; the tab only reads its folder, so that a reload finds it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from ...core.errors import DemoError, ReportError
from ...core.memory_report import MemoryReport
from ...core.names import OPTIMIZERS
from ...core.requests import MemoryRequest
from ...jobs.store import Job
from ...services.app import Services
from ..handlers import LIVE, PRIVATE, QUICK, QUIET, Changes, handler, visitor
from ..templating import render
from ..views import view_downloads
from .architecture_views import view_modules, view_roles
from .fit_views import view_calculators, view_fits
from .memory_views import view_process, view_stages, view_step, view_why
from .treemap import treemap

MODELS = [
    ("all-MiniLM-L6-v2 (bundled sample)", "sample"),
    ("GPT-2 small, the tutorial's model", "openai-community/gpt2"),
    ("GPT-2 XL", "openai-community/gpt2-xl"),
    ("DistilBERT", "distilbert/distilbert-base-uncased"),
    ("ModernBERT base", "answerdotai/ModernBERT-base"),
    ("Qwen3 0.6B", "Qwen/Qwen3-0.6B"),
    ("Qwen3 8B", "Qwen/Qwen3-8B"),
    ("Llama 3.1 70B", "meta-llama/Llama-3.1-70B"),
]
STEP = {"batch_size": 32, "length": 128}  # the form's first values, and what the shipped run trains on
INTRODUCTION = (
    "How much memory does a classifier use before and after quantization, and how much does training add? Each bar"
    " counts every byte: weights, quantization constants, buffers and adapters. *Predicted* needs no weights;"
    " *measured* loads the model and counts."
)
STEP_INTRODUCTION = (
    "### A training step\nWhat one step adds to the model at its peak. Only trainable weights have gradients and"
    " optimizer state."
)
FILTER_JS = (Path(__file__).parent / "filter.js").read_text(encoding="utf-8")


class MemoryTab:
    """The tab on the page that is being built. Handlers return what changes, by component."""

    def __init__(self, services: Services, page: gr.Blocks) -> None:
        self.services = services
        self.layout()
        self.wire(page)

    def layout(self) -> None:
        gr.Markdown(INTRODUCTION)
        self._layout_model()
        with gr.Row():
            self.measure = gr.Button(
                "Measure memory", variant="primary", scale=0, min_width=240, elem_id="memory-measure"
            )
            self.cancel = gr.Button("Cancel", visible=False, scale=0, min_width=120, elem_id="memory-cancel")
        with gr.Group(visible=False) as self.question:
            self.downloads = gr.HTML(elem_id="memory-ask")
            with gr.Row():
                self.fetch = gr.Button("Download and measure", variant="primary", elem_id="memory-fetch")
                self.refuse = gr.Button("Don't download", elem_id="memory-refuse")
        self.status = gr.HTML(say("Predicting; this takes a few seconds after a start."), elem_id="memory-status")
        self.figure = gr.HTML(elem_id="memory-figure", min_height=360)
        self.why = gr.HTML(elem_id="memory-why")
        gr.Markdown(STEP_INTRODUCTION)
        self._layout_step()
        self._layout_details()
        self.job = gr.State(("", ""))  # the job that this page follows, and the key that may cancel it
        self.timer = gr.Timer(1, active=False)

    def _layout_model(self) -> None:
        with gr.Row(equal_height=True, elem_classes="narrow-stack"):
            self.model = gr.Dropdown(
                MODELS,
                value="sample",
                label="Model",
                info="From the list, a Hub id, or a local folder.",
                scale=4,
                allow_custom_value=True,
                elem_id="memory-model",
            )
            self.labels = gr.Number(
                5,
                label="Number of classes",
                info="Outputs of the head.",
                scale=1,
                min_width=150,
                elem_id="memory-labels",
            )
            self.random_weights = gr.Checkbox(
                False,
                label="Random weights",
                info="Use random weights (no download).",
                scale=2,
                min_width=200,
                elem_id="memory-random-weights",
            )

    def _layout_step(self) -> None:
        optimizers = [(title, name) for name, title in OPTIMIZERS.items()]
        with gr.Row(equal_height=True, elem_classes="narrow-stack"):
            self.batch_size = gr.Slider(
                1, 128, STEP["batch_size"], step=1, label="Batch size", elem_id="memory-batch-size"
            )
            self.length = gr.Slider(8, 512, STEP["length"], step=8, label="Tokens per review", elem_id="memory-length")
            self.checkpointing = gr.Checkbox(
                False,
                label="Gradient checkpointing",
                info="Recompute activations instead of keeping them.",
                min_width=200,
                elem_id="memory-checkpointing",
            )
            self.optimizer = gr.Dropdown(
                optimizers, value=optimizers[0][1], label="Optimizer", min_width=160, elem_id="memory-optimizer"
            )
        self.step = gr.HTML(elem_id="memory-step", min_height=260)

    def _layout_details(self) -> None:
        with gr.Accordion("Where the bytes are", open=False):
            self.roles = gr.HTML(elem_id="memory-sums")
            self.map = gr.Plot(show_label=False, elem_id="memory-map")
        with gr.Accordion("Which GPU or Space it fits on", open=False):
            self.where = gr.Button("Estimate for these settings", elem_id="memory-where")
            self.hardware = gr.HTML(elem_id="memory-hardware")
        with gr.Accordion("Process memory beyond tensors", open=False):
            self.process = gr.HTML(elem_id="memory-process")
        with gr.Accordion("What public calculators say", open=False):
            self.calculators = gr.HTML(elem_id="memory-calculators")
        with gr.Accordion("Architecture before and after", open=False):
            self.find = gr.Textbox(
                label="Find a module", placeholder="attention, Linear4bit, float32 …", elem_id="memory-find"
            )
            self.modules = gr.HTML(elem_id="memory-architecture")

    def wire(self, page: gr.Blocks) -> None:
        form: dict[str, Block] = {
            "model": self.model,
            "labels": self.labels,
            "random_weights": self.random_weights,
            "batch_size": self.batch_size,
            "length": self.length,
            "gradient_checkpointing": self.checkpointing,
            "optimizer": self.optimizer,
        }
        reports = [self.figure, self.why, self.step, self.roles, self.map, self.process, self.calculators]
        reports += [self.modules, self.hardware, self.find]
        controls = [self.status, self.question, self.downloads, self.job, self.timer, self.cancel]
        outputs = [*controls, *reports]
        self.measure.click(self.on_measure, inputs_kwargs=form, outputs=outputs, concurrency_limit=4, **PRIVATE)
        self.fetch.click(self.on_fetch, inputs_kwargs=form, outputs=outputs, concurrency_limit=4, **PRIVATE)
        self.refuse.click(lambda: gr.Group(visible=False), None, self.question, queue=False, **PRIVATE)
        self.cancel.click(self.on_cancel, self.job, self.status, **QUICK)
        gr.on(
            [self.batch_size.input, self.length.input, self.checkpointing.input, self.optimizer.input],
            self.on_step,
            inputs_kwargs=form,
            outputs=self.step,
            **LIVE,
        )
        self.where.click(self.on_where, inputs_kwargs=form, outputs=self.hardware, concurrency_limit=2, **PRIVATE)
        self.find.input(None, self.find, None, js=FILTER_JS, **PRIVATE)
        self.timer.tick(self.on_tick, self.job, outputs, **QUIET)
        page.load(self.on_load, None, outputs, **QUIET)

    @handler
    def on_measure(self, **form: Any) -> Changes:
        """Predicts, then measures; asks first where something would have to be downloaded."""
        try:
            request = read_request(form)
            report = self.services.memory.predict(request)
            downloads = [] if request.random_weights else self.services.needed_downloads(request)
            if not downloads:
                return self.start(request, report)
        except DemoError as error:
            return {self.status: say(str(error), problem=True)}
        return {
            **self.draw(report),
            self.status: say("Predicted; measuring needs the weights."),
            self.question: gr.Group(visible=True),
            self.downloads: view_downloads(downloads),
        }

    @handler
    def on_fetch(self, **form: Any) -> Changes:
        request = read_request(form)
        return self.start(request, self.services.memory.predict(request))

    @handler
    def on_step(self, **form: Any) -> str:
        try:
            return view_step(self.services.memory.predict_step(read_request(form)))
        except DemoError as error:
            return say(str(error), problem=True)

    @handler
    def on_where(self, **form: Any) -> str:
        request = read_request(form)
        return view_fits(self.services.memory.find_fits(request), request.length)

    @handler
    def on_cancel(self, job: tuple[str, str]) -> str:
        self.services.train.stop(*job, at_home=True)
        return say("Cancelling; no partial download is kept.")

    @handler
    def on_tick(self, job: tuple[str, str]) -> Changes:
        return self.follow(self.services.train.job(job[0]))

    @handler
    def on_load(self) -> Changes:
        """What is being measured now, else what was measured last, else the sample's prediction."""
        job = self.services.store.latest("memory")
        if job is not None and not job.state().is_final:
            return {self.job: (job.id, ""), self.timer: gr.Timer(active=True)}
        with suppress(ReportError):  # a damaged one is as none
            if job is not None and (report := job.report(MemoryReport)):
                return {**self.draw(report), self.status: say(f"Last measurement: {report.model}.")}
        request = MemoryRequest.read(STEP)
        return {
            **self.draw(self.services.memory.predict(request)),
            self.step: view_step(self.services.memory.predict_step(request)),
            self.status: say("Predicted from the configuration. Press “Measure memory” to measure on this machine."),
        }

    def start(self, request: MemoryRequest, report: MemoryReport) -> Changes:
        """Draws the prediction and starts the measurement."""
        started = self.services.memory.start(request, report, visitor())
        return {
            **self.draw(report),
            self.status: say("Predicted; starting the measurement."),
            self.question: gr.Group(visible=False),
            self.job: (started.run, started.key),
            self.timer: gr.Timer(active=True),
            self.cancel: gr.Button(visible=True),
        }

    def follow(self, job: Job) -> Changes:
        """The job as it is now; once it has ended, its report, and the timer rests."""
        state = job.state()
        if not state.is_final:
            position = job.summary().position
            status = say(f"Number {position} in the queue." if position else phase_text(job))
            return {self.status: status, self.cancel: gr.Button(visible=True)}
        ended = {self.timer: gr.Timer(active=False), self.cancel: gr.Button(visible=False)}
        report = job.report(MemoryReport)
        if report is None:
            failed = state.state == "failed"
            sentence = state.error or ("The measurement failed." if failed else "Measurement cancelled.")
            return {**ended, self.status: say(sentence, problem=failed)}
        status = say(f"Measured on this machine: {report.model}, {report.parameters:,} parameters.")
        return {**ended, **self.draw(report), self.status: status}

    def draw(self, report: MemoryReport) -> Changes:
        """Every figure of a report. A step that is not in it stays as it was; hardware is estimated anew on request."""
        rows = report.architecture.rows
        step = {self.step: view_step(report.step)} if report.step else {}
        return step | {
            self.figure: view_stages(report.stages),
            self.why: view_why(report),
            self.roles: view_roles(rows),
            self.map: treemap(rows, "after"),
            self.process: view_process(report),
            self.calculators: view_calculators(report.estimates, report.stages),
            self.modules: view_modules(rows),
            self.hardware: "",
            self.find: "",
        }


def read_request(form: Mapping[str, Any]) -> MemoryRequest:
    """The form as a request. Raises SettingsError."""
    return MemoryRequest.read({**form, "model": (form["model"] or "").strip()})


def say(sentence: str, problem: bool = False) -> str:
    """One sentence below the buttons."""
    return render("memory/sentence.html.jinja", sentence=sentence, problem=problem)


def phase_text(job: Job) -> str:
    """What the measuring process does now; with its share of a download."""
    phases = [event for event in job.events() if event["event"] == "phase"]
    if not phases:
        return "Starting the measuring process (a few seconds: it imports torch)."
    phase = phases[-1]
    share = f" ({100 * phase['progress']:.0f} %)" if phase["name"] == "download" and phase["progress"] else ""
    return f"{phase['detail'][:1].upper()}{phase['detail'][1:]}{share}"
