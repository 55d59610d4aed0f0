"""Why a review got its stars: its words marked, the deletion test beside them, and the versions that were asked
about.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ...services.app import Services
from ..handlers import AT_ONCE, shown
from .explain_views import Version, view_explanation, view_history

MOST_VERSIONS = 10


def build_why_panel(services: Services, asked: dict[str, Any]) -> None:
    """`asked`: the components of the review, adapter, precision and scale, by these names."""
    versions = gr.State([])
    gr.HTML(
        '<p class="quiet">Which words speak for the answer, and which against it. Edit the review and ask again: the'
        " versions are kept below, with what each change did to the stars.</p>"
    )
    ask = gr.Button("Why these stars?", variant="primary", elem_id="classify-why")
    why = gr.HTML(elem_id="classify-explanation")
    history = gr.HTML(elem_id="classify-history")

    @shown
    def on_ask(versions: list[Version], review: str, adapter: str, **how: Any) -> Any:
        found = services.classify.explain(review, adapter, **how)
        prediction = services.classify.classify(review, adapter, **how)
        version: Version = (review, prediction.expected_stars, prediction.label)
        kept = versions if versions and versions[-1] == version else [*versions, version][-MOST_VERSIONS:]
        return kept, view_explanation(found), view_history(kept) if len(kept) > 1 else ""

    ask.click(
        on_ask,
        inputs_kwargs={"versions": versions, **asked},
        outputs=[versions, why, history],
        show_progress="minimal",
        show_progress_on=why,
        concurrency_limit=AT_ONCE if services.host.public else 2,
        api_visibility="private",
    )
