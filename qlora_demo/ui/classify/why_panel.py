"""Why a review got its stars: its words marked, the deletion test beside them, and the versions asked about."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.blocks import Block

from ...services.app import Services
from ..handlers import AT_ONCE, PRIVATE, handler
from .explain_views import Version, view_explanation, view_history

MOST_VERSIONS = 10


class WhyPanel:
    """`question`: the components of the review, adapter, precision and scale, by these names."""

    def __init__(self, services: Services, question: dict[str, Block]):
        self._services, self._question = services, question
        self._layout()
        self._wire()

    def _layout(self) -> None:
        self.versions = gr.State([])
        gr.HTML(
            '<p class="quiet">Which words speak for the answer, and which against it. Edit the review and ask again:'
            " the versions are kept below, with what each change did to the stars.</p>"
        )
        self.ask = gr.Button("Why these stars?", variant="primary", elem_id="classify-why")
        self.explanation = gr.HTML(elem_id="classify-explanation")
        self.history = gr.HTML(elem_id="classify-history")

    def _wire(self) -> None:
        self.ask.click(
            self.on_ask,
            inputs_kwargs={"versions": self.versions, **self._question},
            outputs=[self.versions, self.explanation, self.history],
            show_progress="minimal",
            show_progress_on=self.explanation,
            concurrency_limit=AT_ONCE if self._services.host.public else 2,
            **PRIVATE,
        )

    @handler
    def on_ask(self, versions: list[Version], review: str, adapter: str, **how: Any) -> Any:
        service = self._services.classify
        explanation = service.explain(review, adapter, **how)
        prediction = service.classify(review, adapter, **how)
        version = Version(review, prediction.expected_stars, prediction.label)
        kept = versions if versions and versions[-1] == version else [*versions, version][-MOST_VERSIONS:]
        return kept, view_explanation(explanation), view_history(kept) if len(kept) > 1 else ""
