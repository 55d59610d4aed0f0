"""A user's word against the network's: keep a correction, or teach the review in a few more steps and see what that
does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ...core.format import shorten
from ...services.app import Services
from ..handlers import AT_ONCE, shown
from ..server.downloads import link_to_feedback
from .classify_views import view_lesson


def build_teach_panel(services: Services, review: gr.Textbox, adapter: gr.Dropdown) -> None:
    """`adapter` gets the taught copy as one more choice."""
    gr.HTML(
        '<p class="quiet">The stars are wrong? Say which would be right. A correction is kept on this machine as'
        " training data; teaching takes 20 more steps on a copy of the adapter, and shows what they do to other"
        " reviews.</p>"
    )
    right = gr.Radio([], label="The right label of the review above", elem_id="classify-right")
    with gr.Row():
        keep = gr.Button("Keep this correction", elem_id="classify-keep")
        teach = gr.Button("Teach it this review", variant="primary", elem_id="classify-teach")
    told = gr.HTML(elem_id="classify-lesson")

    @shown
    def on_adapter(adapter: str, right: str | None) -> Any:
        labels = list(services.classify.classifier(adapter).labels)
        return gr.Radio(labels, value=right if right in labels else None)

    @shown
    def on_keep(review: str, adapter: str, right: str | None) -> str:
        count = services.classify.correct(review, adapter, right or "")
        words = "one correction is" if count == 1 else f"{count:,} corrections are"
        export = (
            ""
            if services.host.public
            else f' <a href="{link_to_feedback()}" download>Download them</a> as training data for the Data tab.'
        )
        return f'<p class="quiet">Kept; {words} on this machine.{export}</p>'

    @shown
    def on_teach(review: str, adapter: str, right: str | None, progress: Callable[..., Any] = gr.Progress()) -> Any:  # noqa: B008
        name, taught = services.classify.teach(
            review, right or "", adapter, on_progress=lambda share: progress(share, desc="Teaching")
        )
        title = f"Taught: {taught.label} for “{shorten(review, 40)}”"
        choices = [*services.classify.adapters(), (title, name)]
        return gr.Dropdown(choices, value=name), view_lesson(taught, taught.classifier.ordinal)

    private: dict[str, Any] = {"api_visibility": "private"}
    gr.on(None, on_adapter, [adapter, right], right, show_progress="hidden", concurrency_limit=4, **private)
    keep.click(on_keep, [review, adapter, right], told, concurrency_limit=8, **private)
    at_once = AT_ONCE if services.host.public else 1
    teach.click(
        on_teach, [review, adapter, right], [adapter, told], show_progress_on=told, concurrency_limit=at_once, **private
    )
