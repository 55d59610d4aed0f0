"""Runs side by side, below the run that is shown."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ...services.app import Services
from ..handlers import shown
from ..queries import as_keys
from .compare_views import view_compared


def build_compare_panel(services: Services, live: gr.HTML, run: gr.Dropdown, keys: gr.BrowserState) -> None:
    """`live`: the run shown; `run`: where another is chosen. Read anew when the panel is opened and, while it is open,
    when another is chosen or the one shown ends."""
    is_open = gr.State(False)
    with gr.Accordion("Compare runs", open=False, elem_id="train-compare") as panel:
        table = gr.HTML(elem_id="train-compared")

    @shown
    def on_compare(chosen: str | None, live_run: str, known: Any, is_open: bool = True) -> Any:
        if not is_open:
            return gr.skip()
        reference = chosen or live_run
        return view_compared(services.train.compare(reference, as_keys(known)) if reference else [], reference)

    told: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 20}
    panel.expand(lambda: True, None, is_open, **told)
    panel.expand(on_compare, [run, live, keys], table, **told)
    panel.collapse(lambda: False, None, is_open, **told)
    for event in (run.change, live.settled):  # type: ignore[attr-defined]
        event(on_compare, [run, live, keys, is_open], table, **told)
