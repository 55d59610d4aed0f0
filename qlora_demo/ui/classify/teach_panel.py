"""Correcting an answer: keep the correction, or teach the review in a few more steps and see what that does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ...core.format import shorten
from ...services.app import Services
from ..handlers import AT_ONCE, PRIVATE, PROGRESS, handler
from ..server.downloads import link_to_feedback
from .classify_views import view_correction, view_lesson


class TeachPanel:
    """`adapter` gets the taught copy as one more choice."""

    def __init__(self, services: Services, review: gr.Textbox, adapter: gr.Dropdown):
        self._services, self._review, self._adapter = services, review, adapter
        self._layout()
        self._wire()

    def _layout(self) -> None:
        gr.HTML(
            '<p class="quiet">The stars are wrong? Choose the right ones. A correction is kept on this machine as'
            " training data; teaching runs 20 more steps on a copy of the adapter, and shows what they do to other"
            " reviews.</p>"
        )
        self.label = gr.Radio([], label="The true label of the review above", elem_id="classify-right")
        with gr.Row():
            self.keep = gr.Button("Keep this correction", elem_id="classify-keep")
            self.teach = gr.Button("Teach this review", variant="primary", elem_id="classify-teach")
        self.lesson = gr.HTML(elem_id="classify-lesson")

    def _wire(self) -> None:
        chosen = [self._adapter, self.label]
        asked = [self._review, *chosen]
        gr.on(None, self.on_adapter, chosen, self.label, show_progress="hidden", concurrency_limit=4, **PRIVATE)
        self.keep.click(self.on_keep, asked, self.lesson, concurrency_limit=8, **PRIVATE)
        at_once = AT_ONCE if self._services.host.public else 1
        outputs = [self._adapter, self.lesson]
        self.teach.click(
            self.on_teach, asked, outputs, show_progress_on=self.lesson, concurrency_limit=at_once, **PRIVATE
        )

    @handler
    def on_adapter(self, adapter: str, label: str | None) -> Any:
        labels = list(self._services.classify.classifier(adapter).labels)
        return gr.Radio(labels, value=label if label in labels else None)

    @handler
    def on_keep(self, review: str, adapter: str, label: str | None) -> str:
        count = self._services.classify.correct(review, adapter, label or "")
        return view_correction(count, "" if self._services.host.public else link_to_feedback())

    @handler
    def on_teach(self, review: str, adapter: str, label: str | None, progress: Callable[..., Any] = PROGRESS) -> Any:
        service = self._services.classify
        name, taught = service.teach(
            review, label or "", adapter, on_progress=lambda share: progress(share, desc="Teaching")
        )
        title = f"Taught: {taught.label} for “{shorten(review, 40)}”"
        choices = [*service.adapters(), (title, name)]
        return gr.Dropdown(choices, value=name), view_lesson(taught, taught.classifier.ordinal)
