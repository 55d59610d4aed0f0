"""What the base's precision does to the answers and costs, and a check that the base column is the base."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ...core.errors import SettingsError
from ...services.app import Services
from ..handlers import AT_ONCE, shown
from .classify_views import view_base_check, view_comparison


def build_precision_panel(services: Services, asked: dict[str, Any]) -> None:
    """`asked`: the components of the review, adapter, precision and scale, by these names."""
    with gr.Row():
        with gr.Column(min_width=320):
            compare = gr.Button("Compare with the precision of training", elem_id="classify-compare")
            compared = gr.HTML(
                '<p class="quiet">Choose a precision of the base above: how often do the two agree on the sample\'s'
                " test reviews, and what does each cost?</p>",
                elem_id="classify-comparison",
            )
        with gr.Column(min_width=320):
            check = gr.Button("Check the base column", elem_id="classify-check")
            checked = gr.HTML(
                '<p class="quiet">Is the second column truly the base? It is answered by the tuned network with LoRA '
                "switched off; this loads the base anew and compares.</p>",
                elem_id="classify-checked",
            )

    @shown
    def on_compare(adapter: str, precision: str, progress: Callable[..., Any] = gr.Progress()) -> str:  # noqa: B008 - Gradio's way
        if not precision:
            raise SettingsError(
                {"precision": "The precision of the base is the one of training; choose another to compare with."}
            )
        found = services.classify.compare(
            precision, adapter, on_progress=lambda share: progress(share, desc="Classifying with both")
        )
        return view_comparison(found)

    @shown
    def on_check(review: str, adapter: str, precision: str) -> str:
        return view_base_check(services.classify.base_check(review, adapter, precision=precision))

    private: dict[str, Any] = {"concurrency_limit": AT_ONCE if services.host.public else 1, "api_visibility": "private"}
    compare.click(on_compare, [asked["adapter"], asked["precision"]], compared, **private)
    check.click(on_check, [asked["review"], asked["adapter"], asked["precision"]], checked, **private)
