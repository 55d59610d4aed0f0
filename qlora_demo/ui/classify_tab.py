"""Classify: type a review and watch its stars move, tuned beside untrained.

Each key asks for an answer; while one is on its way only the newest text waits, so an older answer never comes last.
"""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from ..errors import DemoError
from ..services import SAMPLE, Services
from .classify_views import view_certainty, view_probabilities, view_stars, view_temperature
from .handlers import shown
from .views import view_problems

EXAMPLES = [
    "I love this product, it works exactly as described and arrived a day early!",
    "Broke after two days, and nobody answers my messages. A waste of money.",
    "It does what it should, nothing more. The instructions are hard to read.",
    "Great sound, but the battery barely lasts an afternoon.",
    "Oh wonderful, another charger that works for exactly one week.",
]


def build_classify_tab(services: Services) -> gr.Dropdown:
    """Layout, then events; returns the choice of adapters, which other tabs keep up to date."""
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            review = gr.Textbox(label="Review", lines=6, placeholder="Type a review; the stars move as you type.",
                                elem_id="classify-review", autofocus=True)  # fmt: skip
            gr.Examples([[text] for text in EXAMPLES], [review], label="Or click one", elem_id="classify-examples")
            adapter = gr.Dropdown(services.adapters(), value=SAMPLE, label="Adapter", allow_custom_value=True, elem_id="classify-adapter",
                                  info="The shipped one, a run of yours, or the folder of an adapter.")  # fmt: skip
            calibrated = gr.Checkbox(label="Calibrated probabilities", visible=False, elem_id="classify-calibrated")
        with gr.Column(scale=2, min_width=320, elem_classes="answer"):
            gr.HTML('<p class="caption">Expected stars, of 5</p>')
            stars = gr.HTML(view_stars(None), elem_id="classify-stars")
            shares = gr.HTML(view_probabilities(None, None), elem_id="classify-probabilities")
            certainty = gr.HTML('<p class="quiet">The first answer waits for the model to load.</p>', elem_id="classify-certainty")

    @shown
    def on_review(review: str, adapter: str, calibrated: bool) -> list[Any]:
        if not review.strip():
            return [view_stars(None), view_probabilities(None, None), '<p class="quiet">Type a few words.</p>']
        began = time.monotonic()
        try:
            tuned = services.classify(review, adapter, calibrated)
            seconds = time.monotonic() - began
            untrained = services.untrained(review, adapter)
        except DemoError as error:
            return [view_stars(None), view_probabilities(None, None), view_problems([str(error)])]
        return [view_stars(tuned), view_probabilities(tuned, untrained), view_certainty(tuned, seconds)]

    @shown
    def on_adapter(adapter: str) -> Any:
        """The choice is there where the adapter's run fitted a temperature."""
        temperature = services.temperature(adapter)
        return gr.Checkbox(visible=temperature is not None, info=view_temperature(temperature) if temperature else None)

    # A limit of its own, so that no other handler holds up a key; another adapter takes seconds to load, and shows that it does.
    answer: dict[str, Any] = {"inputs": [review, adapter, calibrated], "outputs": [stars, shares, certainty], "trigger_mode": "always_last",
                              "concurrency_limit": 4, "api_visibility": "private"}  # fmt: skip
    review.change(on_review, show_progress="hidden", **answer)
    calibrated.input(on_review, show_progress="hidden", **answer)
    adapter.change(on_review, show_progress="minimal", show_progress_on=certainty, **answer)
    # Without triggers it runs as the page loads, too: the shipped adapter may have a temperature.
    gr.on(None, on_adapter, adapter, calibrated, show_progress="hidden", concurrency_limit=4, api_visibility="private")
    return adapter
