"""Rows of a classified file, a page at a time: read from the job's folder, all of them or those of a label or with some
words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import gradio as gr

from ...services.app import Services
from ...storage.result_files import Layout, Row, read_layout, read_rows
from ..handlers import QUIET, Changes, handler
from .file_views import view_rows

PAGE_ROWS = 20
EVERY, NONE = "All rows", "Rows without a prediction"


@dataclass(frozen=True)
class RowsPage:
    """Rows with their numbers (from 1); `more`: whether there is another page."""

    layout: Layout
    rows: list[tuple[int, Row]]
    more: bool


def find_rows(folder: Path, label: str = EVERY, words: str = "", page: int = 0) -> RowsPage | None:
    """Page `page` (from 0) of the rows with that label whose review holds `words`, whatever their case; None before
    there is a result.
    """
    try:
        layout = read_layout(folder)
        matches = _matcher(layout, label, words)
        rows = ((at, row) for at, row in enumerate(read_rows(folder), 1) if matches(row))
        first = list(islice(rows, page * PAGE_ROWS, (page + 1) * PAGE_ROWS + 1))
    except (OSError, ValueError):
        return None
    return RowsPage(layout, first[:PAGE_ROWS], len(first) > PAGE_ROWS)


def _matcher(layout: Layout, label: str, words: str) -> Callable[[Row], bool]:
    column, sought = layout.added["label"], words.strip().casefold()
    texts = [name for name in (layout.places["title"], layout.places["text"]) if name]

    def matches(row: Row) -> bool:
        has_label = label == EVERY or row[column] == (None if label == NONE else label)
        return has_label and (not sought or any(sought in str(row[name] or "").casefold() for name in texts))

    return matches


class RowsPanel:
    """The rows of the job that the page follows; `followed`: the state with its id and key."""

    def __init__(self, services: Services, followed: gr.State):
        self._services, self._followed = services, followed
        self._layout()
        self._wire()

    def _layout(self) -> None:
        with gr.Column(visible=False, elem_id="classify-file-result") as self.panel:
            with gr.Row(elem_classes="narrow-stack"):
                self.label = gr.Dropdown(
                    [EVERY], value=EVERY, label="Show", min_width=160, elem_id="classify-file-which"
                )
                self.words = gr.Textbox(
                    label="Containing (press Enter)",
                    placeholder="battery",
                    min_width=160,
                    elem_id="classify-file-words",
                )
            self.rows = gr.HTML(elem_id="classify-file-rows")
            with gr.Row():
                self.previous = gr.Button("Previous rows", interactive=False, elem_id="classify-file-back")
                self.next = gr.Button("Next rows", interactive=False, elem_id="classify-file-onward")
            self.page = gr.State(0)

    @property
    def outputs(self) -> list[Any]:
        """All components that `changes` may change."""
        return [self.panel, self.label, self.rows, self.previous, self.next, self.page]

    def _wire(self) -> None:
        asked = [self._followed, self.label, self.words]
        gr.on([self.label.input, self.words.submit], self.on_search, asked, self.outputs, **QUIET)
        self.previous.click(self.on_previous, [*asked, self.page], self.outputs, **QUIET)
        self.next.click(self.on_next, [*asked, self.page], self.outputs, **QUIET)

    def changes(self, folder: Path, label: str = EVERY, words: str = "", page: int = 0) -> Changes:
        """A page of the rows; {} before there are any."""
        rows_page = find_rows(folder, label, words, page)
        if rows_page is None or (not rows_page.rows and label == EVERY and not words and not page):
            return {}
        return {
            self.panel: gr.Column(visible=True),
            self.label: gr.Dropdown([EVERY, *rows_page.layout.labels, NONE], value=label),
            self.rows: view_rows(rows_page.layout, rows_page.rows, not page, label),
            self.previous: gr.Button(interactive=page > 0),
            self.next: gr.Button(interactive=rows_page.more),
            self.page: page,
        }

    @handler
    def on_search(self, followed: tuple[str, str], label: str, words: str, page: int = 0) -> Changes:
        return self.changes(self._services.train.job(followed[0]).folder, label, words, page) or gr.skip()

    @handler
    def on_previous(self, followed: tuple[str, str], label: str, words: str, page: int) -> Changes:
        return self.on_search(followed, label, words, max(0, page - 1))

    @handler
    def on_next(self, followed: tuple[str, str], label: str, words: str, page: int) -> Changes:
        return self.on_search(followed, label, words, page + 1)
