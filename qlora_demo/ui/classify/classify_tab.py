"""Classify: type a review and watch its stars move, tuned beside untrained; then ask why, teach it, compare precisions,
or give a file.

Each key asks for an answer; while one is on its way only the newest text waits, so an older answer never comes last.
"""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from ...core.errors import DemoError
from ...core.names import PRECISIONS, SAMPLE
from ...services.app import Services
from ..handlers import shown
from ..views import view_problems
from .classify_views import view_certainty, view_probabilities, view_remark, view_stars, view_temperature
from .file_panel import build_file_panel
from .precision_panel import build_precision_panel
from .teach_panel import build_teach_panel
from .why_panel import build_why_panel

EXAMPLES = [
    "I love this product, it works exactly as described and arrived a day early!",
    "Broke after two days, and nobody answers my messages. A waste of money.",
    "It does what it should, nothing more. The instructions are hard to read.",
    "Great sound, but the battery barely lasts an afternoon.",
    "Oh wonderful, another charger that works for exactly one week.",
]


ADAPTERS = "The shipped one, a run of yours, an adapter's folder, or its name on the Hub."
ADAPTERS_HERE = "The shipped one, a run, or a name on the Hub, such as user/stars."


def build_classify_tab(services: Services, page: gr.Blocks, keys: gr.BrowserState) -> gr.Dropdown:
    """Layout, then events; returns the choice of adapters, which other tabs keep up to date. `keys`: as in the Train
    tab.
    """
    # Three blocks in a grid: on a phone the answer comes right after the review.
    with gr.Row(elem_classes="classify-grid"):
        with gr.Column(elem_classes="classify-ask", min_width=0):
            review = gr.Textbox(
                label="Review",
                lines=6,
                placeholder="Type a review; the stars move as you type.",
                elem_id="classify-review",
                autofocus=True,
            )
            gr.Examples([[text] for text in EXAMPLES], [review], label="Or click one", elem_id="classify-examples")
        with gr.Column(elem_classes="classify-answer answer", min_width=0):
            gr.HTML('<p class="caption">Expected stars, of 5</p>')
            stars = gr.HTML(view_stars(None), elem_id="classify-stars")
            shares = gr.HTML(view_probabilities(None, None), elem_id="classify-probabilities")
            certainty = gr.HTML(
                '<p class="quiet">The first answer waits for the model to load.</p>', elem_id="classify-certainty"
            )
        with gr.Column(elem_classes="classify-how", min_width=0):
            adapter = gr.Dropdown(
                services.classify.adapters(),
                value=SAMPLE,
                label="Adapter",
                allow_custom_value=True,
                elem_id="classify-adapter",
                info=ADAPTERS_HERE if services.host.public else ADAPTERS,
            )
            remark = gr.HTML(visible=False, elem_id="classify-remark")
            with gr.Row():
                precision = gr.Dropdown(
                    [(words, name) for name, words in PRECISIONS.items()],
                    value="",
                    label="Precision of the base",
                    min_width=140,
                    elem_id="classify-precision",
                    info="As trained, or another.",
                )
                scale = gr.Slider(
                    0,
                    2,
                    value=1,
                    step=0.05,
                    label="Adapter dial",
                    min_width=200,
                    elem_id="classify-scale",
                    info="LoRA's part in each layer: 0 leaves the trained head alone, 1 is as trained.",
                )
            calibrated = gr.Checkbox(label="Calibrated probabilities", visible=False, elem_id="classify-calibrated")
    asked = {"review": review, "adapter": adapter, "precision": precision, "scale": scale}
    with gr.Tabs(overflow_behavior="wrap", elem_id="classify-more"):
        with gr.Tab("Why these stars", id="why"):
            build_why_panel(services, asked)
        with gr.Tab("Teach or correct it", id="teach"):
            build_teach_panel(services, review, adapter)
        with gr.Tab("Precision and base", id="precision"):
            build_precision_panel(services, asked)
        with gr.Tab("A file of reviews", id="file"):
            build_file_panel(services, page, keys, adapter)

    @shown
    def on_review(review: str, adapter: str, calibrated: bool, precision: str, scale: float) -> list[Any]:
        if not review.strip():
            return [view_stars(None), view_probabilities(None, None), '<p class="quiet">Type a few words.</p>']
        began = time.monotonic()
        try:
            tuned, untrained = services.classify.classify_both(
                review, adapter, calibrated, scale=scale, precision=precision
            )
        except DemoError as error:
            return [view_stars(None), view_probabilities(None, None), view_problems([str(error)])]
        return [
            view_stars(tuned),
            view_probabilities(tuned, untrained),
            view_certainty(tuned, time.monotonic() - began),
        ]

    @shown
    def on_adapter(adapter: str) -> Any:
        """The choice is there where the adapter's run fitted a temperature; what is odd about an adapter is said."""
        temperature = services.classify.temperature(adapter)
        box = gr.Checkbox(visible=temperature is not None, info=view_temperature(temperature) if temperature else None)
        said = services.classify.remark(adapter)
        return box, gr.HTML(view_remark(said), visible=bool(said))

    # A limit of its own, so that no other handler holds up a key; another adapter takes seconds to load, and shows that
    # it does.
    answer: dict[str, Any] = {
        "inputs": [review, adapter, calibrated, precision, scale],
        "outputs": [stars, shares, certainty],
        "trigger_mode": "always_last",
        "concurrency_limit": 8,
        "api_visibility": "private",
    }
    review.change(on_review, show_progress="hidden", **answer)
    gr.on([calibrated.input, scale.input], on_review, show_progress="hidden", **answer)
    gr.on([adapter.change, precision.input], on_review, show_progress="minimal", show_progress_on=certainty, **answer)
    # Without triggers it runs as the page loads, too: the shipped adapter may have a temperature.
    gr.on(
        None,
        on_adapter,
        adapter,
        [calibrated, remark],
        show_progress="hidden",
        concurrency_limit=4,
        api_visibility="private",
    )
    return adapter
