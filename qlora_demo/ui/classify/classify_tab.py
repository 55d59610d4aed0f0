"""Classify: type a review and watch its stars move, tuned beside untrained; then ask why, teach it, compare precisions,
or give a file.

Each key asks for an answer; while one is on its way only the newest text waits, so an older answer never comes last.
"""

from __future__ import annotations

import time
from typing import Any

import gradio as gr
from gradio.blocks import Block

from ...core.errors import DemoError
from ...core.names import PRECISIONS, SAMPLE
from ...services.app import Services
from ..handlers import PRIVATE, handler
from ..views import view_problems, view_quiet
from .classify_views import view_certainty, view_probabilities, view_stars, view_temperature
from .file_panel import FilePanel
from .precision_panel import PrecisionPanel
from .teach_panel import TeachPanel
from .why_panel import WhyPanel

EXAMPLES = [
    "I love this product, it works exactly as described and arrived a day early!",
    "Broke after two days, and nobody answers my messages. A waste of money.",
    "It does what it should, nothing more. The instructions are hard to read.",
    "Great sound, but the battery barely lasts an afternoon.",
    "Oh wonderful, another charger that works for exactly one week.",
]
ADAPTERS = "The shipped one, one of your runs, a folder, or a name on the Hub."
ADAPTERS_HERE = "The shipped one, a run, or a name on the Hub, such as user/stars."


class ClassifyTab:
    """`adapter`: the choice of adapters, which other tabs keep up to date. `keys`: run to key, of the runs that this
    browser started.
    """

    def __init__(self, services: Services, page: gr.Blocks, keys: gr.BrowserState):
        self._services = services
        # Three blocks in a grid: on a phone the answer comes right after the review.
        with gr.Row(elem_classes="classify-grid"):
            self._layout_question()
            self._layout_answer()
            self._layout_settings()
        question: dict[str, Block] = {name: getattr(self, name) for name in ("review", "adapter", "precision", "scale")}
        with gr.Tabs(overflow_behavior="wrap", elem_id="classify-more"):
            with gr.Tab("Why these stars", id="why"):
                WhyPanel(services, question)
            with gr.Tab("Teach or correct it", id="teach"):
                TeachPanel(services, self.review, self.adapter)
            with gr.Tab("Precision and base", id="precision"):
                PrecisionPanel(services, question)
            with gr.Tab("A file of reviews", id="file"):
                FilePanel(services, page, keys, self.adapter)
        self._wire()

    def _layout_question(self) -> None:
        with gr.Column(elem_classes="classify-ask", min_width=0):
            self.review = gr.Textbox(
                label="Review",
                lines=6,
                placeholder="Type a review; the stars move as you type.",
                elem_id="classify-review",
                autofocus=True,
            )
            examples = [[text] for text in EXAMPLES]
            gr.Examples(examples, [self.review], label="Or click one", elem_id="classify-examples")

    def _layout_answer(self) -> None:
        with gr.Column(elem_classes="classify-answer answer", min_width=0):
            gr.HTML('<p class="caption">Expected stars, of 5</p>')
            self.stars = gr.HTML(view_stars(None), elem_id="classify-stars")
            self.shares = gr.HTML(view_probabilities(), elem_id="classify-probabilities")
            loading = view_quiet("The first answer waits for the model to load.")
            self.certainty = gr.HTML(loading, elem_id="classify-certainty")

    def _layout_settings(self) -> None:
        with gr.Column(elem_classes="classify-how", min_width=0):
            self.adapter = gr.Dropdown(
                self._services.classify.adapters(),
                value=SAMPLE,
                label="Adapter",
                allow_custom_value=True,
                elem_id="classify-adapter",
                info=ADAPTERS_HERE if self._services.host.public else ADAPTERS,
            )
            self.remark = gr.HTML(visible=False, elem_id="classify-remark")
            with gr.Row():
                self.precision = gr.Dropdown(
                    [(title, name) for name, title in PRECISIONS.items()],
                    value="",
                    label="Precision of the base",
                    min_width=140,
                    elem_id="classify-precision",
                    info="As trained, or another.",
                )
                self.scale = gr.Slider(
                    0,
                    2,
                    value=1,
                    step=0.05,
                    label="Adapter strength",
                    min_width=200,
                    elem_id="classify-scale",
                    info="LoRA's part in each layer: 0 leaves the trained head alone, 1 is as trained.",
                )
            self.calibrated = gr.Checkbox(
                label="Calibrated probabilities", visible=False, elem_id="classify-calibrated"
            )

    def _wire(self) -> None:
        # A limit of its own, so that no other handler holds up a key; another adapter takes seconds to load, and shows
        # that it does.
        answer: dict[str, Any] = {
            "inputs": [self.review, self.adapter, self.calibrated, self.precision, self.scale],
            "outputs": [self.stars, self.shares, self.certainty],
            "trigger_mode": "always_last",
            "concurrency_limit": 8,
            **PRIVATE,
        }
        self.review.change(self.on_review, show_progress="hidden", **answer)
        gr.on([self.calibrated.input, self.scale.input], self.on_review, show_progress="hidden", **answer)
        slow = {"show_progress": "minimal", "show_progress_on": self.certainty}
        gr.on([self.adapter.change, self.precision.input], self.on_review, **slow, **answer)
        # Without triggers it runs as the page loads, too: the shipped adapter may have a temperature.
        outputs = [self.calibrated, self.remark]
        gr.on(None, self.on_adapter, self.adapter, outputs, show_progress="hidden", concurrency_limit=4, **PRIVATE)

    @handler
    def on_review(self, review: str, adapter: str, calibrated: bool, precision: str, scale: float) -> list[Any]:
        if not review.strip():
            return [view_stars(None), view_probabilities(), view_quiet("Type a few words.")]
        began = time.monotonic()
        try:
            tuned, untrained = self._services.classify.classify_both(
                review, adapter, calibrated, scale=scale, precision=precision
            )
        except DemoError as error:
            return [view_stars(None), view_probabilities(), view_problems([str(error)])]
        seconds = time.monotonic() - began
        return [view_stars(tuned), view_probabilities(tuned, untrained), view_certainty(tuned, seconds)]

    @handler
    def on_adapter(self, adapter: str) -> Any:
        """Whether the adapter's run fitted a temperature, and what is unusual about the adapter."""
        temperature = self._services.classify.temperature(adapter)
        info = None if temperature is None else view_temperature(temperature)
        remark = self._services.classify.remark(adapter)
        return gr.Checkbox(visible=info is not None, info=info), gr.HTML(view_quiet(remark), visible=bool(remark))
