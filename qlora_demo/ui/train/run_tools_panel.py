"""What else can be done with a run that has ended: rename it, or delete it after a question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from ...core.records import RunSummary
from ...jobs.queue import LONGEST_NAME
from ...services.app import Services
from ..handlers import PRIVATE, QUICK, Changes, handler
from ..queries import key_of
from .run_views import view_delete_run


class RunToolsPanel:
    """`live`: the run shown; `run`, `adapters`: choices in which its name stands."""

    def __init__(
        self, services: Services, live: gr.HTML, run: gr.Dropdown, adapters: gr.Dropdown, keys: gr.BrowserState
    ):
        self._services, self._live, self._run, self._adapters, self._keys = services, live, run, adapters, keys
        with gr.Accordion("Rename or delete this run", open=False):
            self.name = gr.Textbox(label="Name", max_length=LONGEST_NAME, elem_id="train-name")
            with gr.Row():
                self.rename = gr.Button("Rename", size="sm", elem_id="train-rename")
                self.delete = gr.Button("Delete …", size="sm", elem_id="train-delete")
            with gr.Group(visible=False) as self.confirmation:
                self.question = gr.HTML(elem_id="train-doomed")
                with gr.Row():
                    self.confirm = gr.Button("Delete", variant="stop", elem_id="train-really-delete")
                    self.keep = gr.Button("Keep", elem_id="train-keep")

    def wire(self, outputs: list[Any], newest: Callable[[], Changes]) -> None:
        """After a deletion the page shows `newest()`, in `outputs`."""

        @handler
        def on_confirm(live: str, keys: Any) -> Changes:
            self._services.train.delete(live, key_of(keys, live), at_home=True)
            return {self.confirmation: gr.Group(visible=False), **newest()}

        renamed = [self.name, self._run, self._adapters]
        self.rename.click(self.on_rename, [self._live, self.name, self._keys], renamed, **QUICK)
        self.delete.click(self.on_delete, self._live, [self.confirmation, self.question], **QUICK)
        self.keep.click(lambda: gr.Group(visible=False), None, self.confirmation, queue=False, **PRIVATE)
        self.confirm.click(on_confirm, [self._live, self._keys], [self.confirmation, *outputs], **QUICK)

    @handler
    def on_rename(self, live: str, name: str, keys: Any) -> Changes:
        self._services.train.rename(live, name, key_of(keys, live), at_home=True)
        return {
            self.name: "",
            self._run: gr.Dropdown(run_choices(self._services), value=live),
            self._adapters: gr.Dropdown(self._services.classify.adapters()),
        }

    @handler
    def on_delete(self, live: str) -> Changes:
        """Asks first, and says what would go."""
        job = self._services.train.job(live)
        question = view_delete_run(job.summary().name or live, job.size_bytes())
        return {self.confirmation: gr.Group(visible=True), self.question: question}


def run_choices(services: Services) -> list[tuple[str, str]]:
    """(title, id) of the training runs, newest first."""

    def title(run: RunSummary) -> str:
        model, data = (Path(str(name)).name for name in (run.model, run.data))
        return f"{run.name or run.run} · {model} on {data} · {run.state}"

    return [(title(run), run.run) for run in services.train.runs()]
