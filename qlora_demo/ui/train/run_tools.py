"""What can be done with a run that has ended, beside looking at it: another name, or away with it, asked first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from ...jobs.queue import LONGEST_NAME
from ...services.app import Services
from ..handlers import shown
from ..queries import key_of
from .run_views import view_delete_run

Changes = dict[Any, Any]


def build_run_tools(
    services: Services,
    live: gr.HTML,
    run: gr.Dropdown,
    adapters: gr.Dropdown,
    keys: gr.BrowserState,
    shows: list[Component],
    newest: Callable[[], Changes],
) -> None:
    """`live`: the run; `run`, `adapters`: choices in which its name stands. After a deletion the page shows `newest()`,
    in `shows`.
    """
    with gr.Accordion("Rename or delete this run", open=False):
        name = gr.Textbox(label="Name", max_length=LONGEST_NAME, elem_id="train-name")
        with gr.Row():
            rename = gr.Button("Rename", size="sm", elem_id="train-rename")
            delete = gr.Button("Delete …", size="sm", elem_id="train-delete")
        with gr.Group(visible=False) as sure:
            doomed = gr.HTML(elem_id="train-doomed")
            with gr.Row():
                really = gr.Button("Delete it", variant="stop", elem_id="train-really-delete")
                keep = gr.Button("Keep it", elem_id="train-keep")

    @shown
    def on_rename(shown_run: str, new_name: str, keys: dict[str, str]) -> Changes:
        services.train.rename(shown_run, new_name, key_of(keys, shown_run), at_home=True)
        return {
            name: "",
            run: gr.Dropdown(run_choices(services), value=shown_run),
            adapters: gr.Dropdown(services.classify.adapters()),
        }

    @shown
    def on_delete(live: str) -> list[Any]:
        """Asks first, and says what would go."""
        job = services.train.job(live)
        return [gr.Group(visible=True), view_delete_run(job.summary()["name"] or live, job.size_bytes())]

    @shown
    def on_really(live: str, keys: dict[str, str]) -> Changes:
        services.train.delete(live, key_of(keys, live), at_home=True)
        return {sure: gr.Group(visible=False), **newest()}

    private: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 20}
    rename.click(on_rename, [live, name, keys], [name, run, adapters], **private)
    delete.click(on_delete, live, [sure, doomed], **private)
    keep.click(lambda: gr.Group(visible=False), None, sure, queue=False, api_visibility="private")
    really.click(on_really, [live, keys], [sure, *shows], **private)


def run_choices(services: Services) -> list[tuple[str, str]]:
    """(what to show, id) of the training runs, newest first."""

    def words(run: dict[str, Any]) -> str:
        return (
            f"{run['name'] or run['run']} · {Path(str(run['model'])).name} on {Path(str(run['data'])).name} ·"
            f" {run['state']}"
        )

    return [(words(run), run["run"]) for run in services.train.runs()]
