"""Runs side by side, below the run that is shown."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ...services.app import Services
from ..handlers import QUIET, handler
from ..queries import as_keys
from .compare_views import view_compared


class ComparePanel:
    """`live`: the run shown; `run`: where another is chosen. Read again when the panel is opened and, while it is open,
    when another is chosen or the one shown ends."""

    def __init__(self, services: Services, live: Any, run: gr.Dropdown, keys: gr.BrowserState):
        self._services = services
        is_open = gr.State(False)
        with gr.Accordion("Compare runs", open=False, elem_id="train-compare") as panel:
            table = gr.HTML(elem_id="train-compared")
        panel.expand(lambda: True, None, is_open, **QUIET)
        panel.expand(self.on_compare, [run, live, keys], table, **QUIET)
        panel.collapse(lambda: False, None, is_open, **QUIET)
        for event in (run.change, live.settled):
            event(self.on_compare, [run, live, keys, is_open], table, **QUIET)

    @handler
    def on_compare(self, chosen: str | None, live: str, keys: Any, is_open: bool = True) -> Any:
        if not is_open:
            return gr.skip()
        shown = chosen or live
        return view_compared(self._services.train.compare(shown, as_keys(keys)) if shown else [], shown)
