"""What the base's precision does to the answers and costs, and a check that the base column is the base."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.blocks import Block

from ...core.errors import SettingsError
from ...services.app import Services
from ..handlers import AT_ONCE, PRIVATE, PROGRESS, handler
from .classify_views import view_base_check, view_comparison


class PrecisionPanel:
    """`question`: the components of the review, adapter, precision and scale, by these names."""

    def __init__(self, services: Services, question: dict[str, Block]):
        self._services, self._question = services, question
        self._layout()
        self._wire()

    def _layout(self) -> None:
        with gr.Row():
            with gr.Column(min_width=320):
                self.compare = gr.Button("Compare with the precision of training", elem_id="classify-compare")
                self.comparison = gr.HTML(
                    '<p class="quiet">Choose a precision of the base above: how often do the two agree on the'
                    " sample's test reviews, and what does each cost?</p>",
                    elem_id="classify-comparison",
                )
            with gr.Column(min_width=320):
                self.check = gr.Button("Verify baseline", elem_id="classify-check")
                self.checked = gr.HTML(
                    '<p class="quiet">Is the second column really the base? It is computed by the tuned network with'
                    " LoRA off; this loads the base again and compares.</p>",
                    elem_id="classify-checked",
                )

    def _wire(self) -> None:
        limit = AT_ONCE if self._services.host.public else 1
        review, adapter, precision = (self._question[name] for name in ("review", "adapter", "precision"))
        self.compare.click(self.on_compare, [adapter, precision], self.comparison, concurrency_limit=limit, **PRIVATE)
        self.check.click(self.on_check, [review, adapter, precision], self.checked, concurrency_limit=limit, **PRIVATE)

    @handler
    def on_compare(self, adapter: str, precision: str, progress: Callable[..., Any] = PROGRESS) -> str:
        if not precision:
            raise SettingsError({"precision": "The base has the precision of training; choose another to compare."})
        compared = self._services.classify.compare(
            precision, adapter, on_progress=lambda share: progress(share, desc="Classifying with both")
        )
        return view_comparison(compared)

    @handler
    def on_check(self, review: str, adapter: str, precision: str) -> str:
        return view_base_check(self._services.classify.base_check(review, adapter, precision=precision))
