"""The reviews themselves: how many to train on, the list that can be searched, and one as the model gets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from ...core.errors import DataError, DemoError
from ...services.app import Services
from ..handlers import LIVE, Changes, Live, handler
from ..queries import number_of, text_of
from ..views import view_problems
from .analysis import MAX_LENGTH, Analysis
from .review_views import view_reviews, view_subset, view_tokens

PAGE = 8  # reviews of the list
UNITS = [("All", "all"), ("Percentage", "share"), ("Number", "rows")]
AMOUNTS = {"share": (20, "Percent"), "rows": (1000, "Reviews")}  # what the field begins with, and its label
Place = tuple[str, int]  # a review's split and row
# Of millions of reviews a search takes seconds.
SLOWER: Live = {**LIVE, "show_progress": "minimal"}


class SubsetPanel:
    """How many reviews to train on, and how their labels are then distributed."""

    def __init__(self, services: Services) -> None:
        self.data = services.data
        gr.HTML("<h3>Training set</h3>")
        with gr.Row(elem_classes="data-two"):
            with gr.Column(min_width=300):
                self.unit = gr.Radio(UNITS, value="all", label="How many reviews", elem_id="data-unit")
                self.amount = gr.Number(20, label="Percent", minimum=0, visible=False, elem_id="data-amount")
                with gr.Row():
                    self.train = gr.Button(
                        "Train on these reviews", variant="primary", scale=0, min_width=240, elem_id="data-train"
                    )
                self.problem = gr.HTML(elem_id="data-refused")
            with gr.Column(min_width=300):
                self.figure = gr.HTML(elem_id="data-subset")
        self.parts = [self.unit, self.amount, self.train, self.problem, self.figure]

    def wire(self, analysis: gr.State) -> None:
        outputs = [self.amount, self.figure, self.problem]
        self.unit.input(self.on_unit, [analysis, self.unit], outputs, show_progress_on=self.figure, **SLOWER)
        asked = [analysis, self.unit, self.amount]
        self.amount.change(self.on_amount, asked, outputs[1:], show_progress_on=self.figure, **SLOWER)

    def draw(self, analysis: Analysis) -> Changes:
        return {
            self.unit: "all",
            self.amount: gr.Number(visible=False),
            self.figure: self._view(analysis, "all", 0),
            self.problem: "",
        }

    @handler
    def on_unit(self, analysis: Analysis | None, unit: str) -> Changes:
        start, label = AMOUNTS.get(unit, (0, ""))
        amount = gr.Number(start, label=label, visible=True) if start else gr.Number(visible=False)
        return {self.amount: amount, self.figure: self._view(analysis, unit, start), self.problem: ""}

    @handler
    def on_amount(self, analysis: Analysis | None, unit: str, amount: Any) -> Changes:
        try:
            return {self.figure: self._view(analysis, unit, amount), self.problem: ""}
        except DemoError as error:
            return {self.problem: view_problems([str(error)])}

    def _view(self, analysis: Analysis | None, unit: str, amount: Any) -> str:
        if analysis is None or not analysis.report.labels:
            return ""
        return view_subset(self.data.subset(analysis.request, self.count_rows(analysis, unit, amount)))

    def count_rows(self, analysis: Analysis, unit: str, amount: Any) -> int:
        """How many training reviews, 0 = all. Raises DataError."""
        if unit == "all":
            return 0
        is_number = isinstance(amount, int | float) and not isinstance(amount, bool)
        if not is_number or not amount > 0 or (unit == "share" and amount > 100):
            wanted = "a percentage above 0, up to 100" if unit == "share" else "a number of reviews from 1 on"
            raise DataError(f"{str(amount)[:20]} cannot be used; give {wanted}.")
        available = int(self.data.subset(analysis.request, 0).available)
        return max(1, round(available * amount / 100)) if unit == "share" else min(int(amount), available)


class ReviewsPanel:
    """A page of reviews, by a search; the selected one as the model gets it."""

    def __init__(self, services: Services) -> None:
        self.data = services.data
        self.start, self.listed, self.selected = gr.State(0), gr.State([]), gr.State(None)
        script = (Path(__file__).parent / "reviews_panel.js").read_text(encoding="utf-8")
        with gr.Row(elem_classes="data-two"):
            with gr.Column(min_width=300):
                gr.HTML("<h3>Reviews</h3>")
                self.query = gr.Textbox(
                    label="Search", placeholder="words of a review, or a label", max_lines=1, elem_id="data-query"
                )
                self.list = gr.HTML(elem_id="data-reviews", apply_default_css=False, js_on_load=script)
                with gr.Row():
                    self.previous = gr.Button("Previous", size="sm", min_width=80, elem_id="data-earlier")
                    self.next = gr.Button("Next", size="sm", min_width=80, elem_id="data-later")
            with gr.Column(min_width=300):
                gr.HTML("<h3>As the model sees it</h3>")
                self.tokens = gr.HTML(view_tokens(None, MAX_LENGTH), elem_id="data-seen")
        self.page = [self.start, self.listed, self.list, self.previous, self.next]
        self.parts = [*self.page, self.selected, self.query, self.tokens]

    def wire(self, analysis: gr.State, max_length: gr.Slider, model: gr.Dropdown) -> None:
        asked = [analysis, self.query, self.selected]
        self.query.change(self.on_search, asked, self.page, show_progress_on=self.list, **SLOWER)
        for button, by in ((self.previous, -PAGE), (self.next, PAGE)):
            place = [analysis, self.query, self.start, self.selected]
            button.click(self._turn(by), place, self.page, show_progress_on=self.list, **SLOWER)
        choice = [analysis, max_length, model, self.listed]
        self.list.select(self.on_select, choice, [self.selected, self.tokens], show_progress_on=self.tokens, **SLOWER)
        max_length.change(self.on_length, [*choice, self.selected], self.tokens, **LIVE)

    def draw(self, analysis: Analysis) -> Changes:
        page = self._page(analysis, "", 0, None)
        return {**page, self.query: "", self.selected: None, self.tokens: view_tokens(None, MAX_LENGTH)}

    @handler
    def on_search(self, analysis: Analysis | None, query: str, selected: Place | None) -> Changes:
        return self._page(analysis, query.strip(), 0, selected) if analysis else gr.skip()

    def _turn(self, by: int) -> Callable[..., Changes]:
        @handler
        def on_turn(analysis: Analysis | None, query: str, start: int, selected: Place | None) -> Changes:
            return self._page(analysis, query.strip(), max(0, start + by), selected) if analysis else gr.skip()

        return on_turn

    @handler
    def on_select(
        self, analysis: Analysis | None, max_length: float, model: str, listed: list[Place], event: gr.EventData
    ) -> Changes:
        """What was pressed comes from a browser: it is looked up, not believed."""
        data = getattr(event, "_data", None)
        split, row = text_of(data, "split"), number_of(data, "row")
        if analysis is None or row is None:
            return gr.skip()
        return {self.selected: (split, row), self.tokens: self._view(analysis, (split, row), max_length, model, listed)}

    @handler
    def on_length(
        self, analysis: Analysis | None, max_length: float, model: str, listed: list[Place], selected: Place | None
    ) -> Any:
        return self._view(analysis, selected, max_length, model, listed) if analysis and selected else gr.skip()

    def _page(self, analysis: Analysis, query: str, start: int, selected: Place | None) -> Changes:
        rows, total = self.data.preview(analysis.request, query, start, PAGE)
        return {
            self.start: start,
            self.listed: [(row.split, row.row) for row in rows],
            self.list: view_reviews(rows, total, start, query, selected),
            self.previous: gr.Button(interactive=start > 0),
            self.next: gr.Button(interactive=start + PAGE < total),
        }

    def _view(self, analysis: Analysis, review: Place, max_length: float, model: str, listed: list[Place]) -> str:
        tokens = self.data.as_model_sees(analysis.request, *review, int(max_length), model, listed)
        return view_tokens(tokens, int(max_length))
