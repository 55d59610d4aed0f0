"""The parts of the Data tab below its source: how the reviews are read, the report, how many to train on, the list of
reviews.

Each is built with its own events and handed back as a Section, which the tab fills with every new report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from ...core.data_report import DataReport
from ...core.errors import DataError, DemoError
from ...core.names import SAMPLE
from ...core.records import NO_COLUMN
from ...core.requests import DataRequest
from ...services.app import Services
from ..fields import CHOICES
from ..handlers import shown
from ..queries import number_of, text_of
from ..views import view_problems
from .data_reviews import view_reviews, view_seen, view_subset
from .data_views import (
    view_balance,
    view_damage,
    view_doubles,
    view_languages,
    view_left_out,
    view_lengths,
    view_summary,
    view_warnings,
)

Changes = dict[Any, Any]
PAGE = 8  # reviews of the list
LENGTH = 128  # tokens kept, to begin with
ENCODINGS = (
    "utf-8",
    "cp1252",
    "utf-16",
    "iso8859-15",
    "cp850",
    "cp1250",
    "cp1251",
    "mac_roman",
    "shift_jis",
    "gb18030",
)
DELIMITERS = [("comma ,", ","), ("semicolon ;", ";"), ("tab", "\t"), ("bar |", "|")]
HEADERS = [("column names", "yes"), ("a review", "no")]
SUBSETS = [("All", "all"), ("A share", "share"), ("A number", "rows")]
LIVE: dict[str, Any] = {
    "trigger_mode": "always_last",
    "show_progress": "hidden",
    "concurrency_limit": 4,
    "api_visibility": "private",
}


@dataclass(frozen=True)
class Looked:
    """What the page shows: a request and its report."""

    request: DataRequest
    report: DataReport
    max_length: int = LENGTH
    asked_model: str = SAMPLE

    @property
    def most_tokens(self) -> int:
        """What the model takes."""
        return self.report.tokens.max_length if self.report.tokens else LENGTH


@dataclass(frozen=True)
class Section:
    """Components by name, those that `draw` changes among them."""

    parts: Mapping[str, Any]
    draw: Callable[[Looked], Changes]


def build_reading() -> Section:
    """How the rows were read, in fields by which it can be changed; named as the settings of a DataRequest."""
    with gr.Row(elem_classes="pairs data-reading"):
        text = gr.Dropdown([], label="Column of the texts", elem_id="data-text")
        label = gr.Dropdown([], label="Column of the labels", elem_id="data-label")
        title = gr.Dropdown([], label="Column of titles", elem_id="data-title")
        split = gr.Dropdown([], label="Split to look at", elem_id="data-split")
        encoding = gr.Dropdown([*ENCODINGS], label="Encoding", allow_custom_value=True, elem_id="data-encoding")
        delimiter = gr.Dropdown(DELIMITERS, label="Delimiter", allow_custom_value=True, elem_id="data-delimiter")
        header = gr.Dropdown(HEADERS, label="The first row is", elem_id="data-header")
    with gr.Row(elem_classes="narrow-stack"):
        labels = gr.Textbox(
            label="Labels that count",
            info="One a line, the worst first; others are left out.",
            lines=3,
            max_lines=5,
            min_width=160,
            elem_id="data-labels",
        )
        mend = gr.Checkbox(
            label="Mend damaged letters",
            info="HTML entities, and letters of a wrong encoding.",
            min_width=160,
            elem_id="data-mend",
        )

    def draw(looked: Looked) -> Changes:
        report, request = looked.report, looked.request
        columns, own = list(map(str, report.columns)), request.data != SAMPLE
        found = {name: read_value(report, name) for name in ("encoding", "delimiter", "header")}
        delimiters = DELIMITERS + [
            (it, it) for it in [found["delimiter"]] if it and it not in dict(DELIMITERS).values()
        ]
        return {
            text: gr.Dropdown(columns, value=report.text_column),
            label: gr.Dropdown(columns, value=report.label_column),
            title: gr.Dropdown(
                [("none", NO_COLUMN), *((name, name) for name in columns)], value=read_value(report, "title")
            ),
            split: gr.Dropdown(
                [("all", ""), *((name, name) for name in report.available_splits)],
                value=request.split,
                visible=len(report.available_splits) > 1,
            ),
            encoding: gr.Dropdown(
                list(dict.fromkeys([found["encoding"], *ENCODINGS])) if found["encoding"] else [],
                value=found["encoding"] or None,
                visible=own and bool(found["encoding"]),
            ),
            delimiter: gr.Dropdown(
                delimiters, value=found["delimiter"] or None, visible=own and report.header is not None
            ),
            header: gr.Dropdown(value=found["header"] or None, visible=own and report.header is not None),
            labels: gr.Textbox(read_value(report, "labels"), visible=own and bool(report.labels)),
            mend: gr.Checkbox(request.mend, visible=own),
        }

    parts = {
        "text": text,
        "label": label,
        "title": title,
        "split": split,
        "encoding": encoding,
        "delimiter": delimiter,
        "header": header,
        "labels": labels,
        "mend": mend,
    }
    return Section(parts, draw)


def read_value(report: DataReport, name: str) -> Any:
    """What a field of `build_reading` shows where nothing else is asked for than what was found."""
    if name in ("text", "label"):
        return getattr(report, f"{name}_column")
    if name == "title":
        return report.title_column or NO_COLUMN
    if name == "header":
        return {True: "yes", False: "no", None: ""}[report.header]
    return "\n".join(report.labels) if name == "labels" else getattr(report, name) or ""


def changed_request(looked: Looked, fields: Mapping[str, Any]) -> DataRequest:
    """The request with what was changed in the fields; what shows as it was found is left to be found again."""
    asked: dict[str, Any] = {"mend": bool(fields["mend"]), "split": fields["split"] or ""}
    for name in ("text", "label", "title", "encoding", "delimiter", "header", "labels"):
        value = (fields[name] or "").strip() if name != "delimiter" else fields[name] or ""
        if value != (read_value(looked.report, name) or ""):
            asked[name] = value
    if "header" in asked:
        asked["header"] = {"yes": True, "no": False}.get(asked["header"])
    if "labels" in asked:
        asked["labels"] = tuple(line.strip() for line in asked["labels"].splitlines() if line.strip())
    if {"header", "delimiter", "encoding"} & asked.keys():
        # The columns go by other names then: they are looked for anew.
        asked = {"text": "", "label": "", "title": "", "labels": (), **asked}
    elif "label" in asked:
        asked = {"labels": (), **asked}
    return replace(looked.request, **asked)


def build_report(state: gr.State) -> Section:
    """Figures, warnings, labels and lengths; the slider of the maximum length answers by itself."""
    summary = gr.HTML(elem_id="data-summary")
    warnings = gr.HTML(elem_id="data-warnings")
    with gr.Row(elem_classes="data-two"):
        with gr.Column(min_width=300):
            balance = gr.HTML(elem_id="data-balance")
        with gr.Column(min_width=300):
            gr.HTML("<h3>Length</h3>")
            lengths = gr.HTML(elem_id="data-lengths")
            with gr.Row(elem_classes="narrow-stack"):
                max_length = gr.Slider(
                    8, 512, LENGTH, step=1, label="Tokens kept of a review", elem_id="data-max-length"
                )
                model = gr.Dropdown(
                    CHOICES["model"], value=SAMPLE, label="Whose tokens", allow_custom_value=True, elem_id="data-model"
                )

    def draw(looked: Looked) -> Changes:
        report = looked.report
        return {
            summary: view_summary(report),
            warnings: view_warnings(report),
            balance: view_balance(report),
            lengths: view_lengths(report, looked.max_length),
            max_length: gr.Slider(maximum=max(16, looked.most_tokens), value=looked.max_length),
        }

    @shown
    def on_length(state: Looked | None, max_length: float) -> str:
        return view_lengths(state.report, int(max_length)) if state else ""

    max_length.change(on_length, [state, max_length], lengths, **LIVE)
    return Section(
        {
            "summary": summary,
            "warnings": warnings,
            "balance": balance,
            "lengths": lengths,
            "max_length": max_length,
            "model": model,
        },
        draw,
    )


def build_faults() -> Section:
    """What was left out and what is doubtful, with first lines and examples; "mend" is a button."""
    with gr.Row(elem_classes="data-two"):
        with gr.Column(min_width=300):
            left_out = gr.HTML(elem_id="data-left-out")
            languages = gr.HTML(elem_id="data-languages")
        with gr.Column(min_width=300):
            doubles = gr.HTML(elem_id="data-doubles")
            damage = gr.HTML(elem_id="data-damage")
            mend = gr.Button("Mend them", size="sm", visible=False, elem_id="data-mend-them")

    def draw(looked: Looked) -> Changes:
        report = looked.report
        return {
            left_out: view_left_out(report),
            languages: view_languages(report),
            doubles: view_doubles(report),
            damage: view_damage(report, looked.request.mend),
            mend: gr.Button(visible=bool(report.repairs)),
        }

    return Section(
        {"left_out": left_out, "languages": languages, "doubles": doubles, "damage": damage, "mend": mend}, draw
    )


def build_subset(services: Services, state: gr.State) -> Section:
    """How many reviews to train on, and how their labels are then spread."""
    gr.HTML("<h3>Train on them</h3>")
    with gr.Row(elem_classes="data-two"):
        with gr.Column(min_width=300):
            unit = gr.Radio(SUBSETS, value="all", label="How many of them", elem_id="data-unit")
            amount = gr.Number(20, label="Per cent", minimum=0, visible=False, elem_id="data-amount")
            with gr.Row():
                train = gr.Button(
                    "Train on these reviews", variant="primary", scale=0, min_width=240, elem_id="data-train"
                )
            refused = gr.HTML(elem_id="data-refused")
        with gr.Column(min_width=300):
            subset = gr.HTML(elem_id="data-subset")

    def draw(looked: Looked) -> Changes:
        return {unit: "all", amount: gr.Number(visible=False), subset: drawn(looked, "all", 0), refused: ""}

    def drawn(looked: Looked, unit: str, amount: Any) -> str:
        return view_subset(
            services.data.subset(looked.request, chosen_rows(services, looked, unit, amount))
            if looked.report.labels
            else None
        )

    @shown
    def on_unit(state: Looked | None, unit: str) -> Changes:
        start = {"share": (20, "Per cent"), "rows": (1000, "Reviews")}.get(unit, (0, ""))
        shown_number = (
            gr.Number(start[0], label=start[1], visible=unit != "all") if unit != "all" else gr.Number(visible=False)
        )
        return {amount: shown_number, subset: drawn(state, unit, start[0]) if state else "", refused: ""}

    @shown
    def on_amount(state: Looked | None, unit: str, amount: Any) -> Changes:
        try:
            return {subset: drawn(state, unit, amount) if state else "", refused: ""}
        except DemoError as error:
            return {refused: view_problems([str(error)])}

    slower = {**LIVE, "show_progress": "minimal", "show_progress_on": subset}
    unit.input(on_unit, [state, unit], [amount, subset, refused], **slower)
    amount.change(on_amount, [state, unit, amount], [subset, refused], **slower)
    return Section({"unit": unit, "amount": amount, "train": train, "refused": refused, "subset": subset}, draw)


def chosen_rows(services: Services, looked: Looked, unit: str, amount: Any) -> int:
    """How many training reviews, 0 = all. Raises DataError."""
    if unit == "all":
        return 0
    if (
        isinstance(amount, bool)
        or not isinstance(amount, int | float)
        or not amount > 0
        or (unit == "share" and amount > 100)
    ):
        wanted = "a share above 0, up to 100 per cent" if unit == "share" else "a number of reviews from 1 on"
        raise DataError(f"{str(amount)[:20]} cannot be used; give {wanted}.")
    of = int(services.data.subset(looked.request, 0).available)
    return max(1, round(of * amount / 100)) if unit == "share" else min(int(amount), of)


def build_reviews(services: Services, state: gr.State, max_length: gr.Slider, model: gr.Dropdown) -> Section:
    """The list that can be searched, and any of its reviews as the model gets it."""
    start, listed, chosen = gr.State(0), gr.State([]), gr.State(None)
    with gr.Row(elem_classes="data-two"):
        with gr.Column(min_width=300):
            gr.HTML("<h3>The reviews</h3>")
            query = gr.Textbox(
                label="Search", placeholder="words of a review, or a label", max_lines=1, elem_id="data-query"
            )
            reviews = gr.HTML(
                elem_id="data-reviews",
                apply_default_css=False,
                js_on_load=(Path(__file__).parent / "data_tab.js").read_text(encoding="utf-8"),
            )
            with gr.Row():
                earlier = gr.Button("Earlier", size="sm", min_width=80, elem_id="data-earlier")
                later = gr.Button("Later", size="sm", min_width=80, elem_id="data-later")
        with gr.Column(min_width=300):
            gr.HTML("<h3>As the model sees it</h3>")
            seen = gr.HTML(view_seen(None, LENGTH), elem_id="data-seen")

    def page(looked: Looked, query: str, first: int, pressed: tuple[str, int] | None) -> Changes:
        rows, total = services.data.preview(looked.request, query, first, PAGE)
        return {
            start: first,
            listed: [(row.split, row.row) for row in rows],
            reviews: view_reviews(rows, total, first, query, pressed),
            earlier: gr.Button(interactive=first > 0),
            later: gr.Button(interactive=first + PAGE < total),
        }

    def draw(looked: Looked) -> Changes:
        return {**page(looked, "", 0, None), query: "", chosen: None, seen: view_seen(None, LENGTH)}

    @shown
    def on_search(state: Looked | None, query: str, chosen: tuple[str, int] | None) -> Changes:
        return page(state, query.strip(), 0, chosen) if state else gr.skip()

    def turn(by: int) -> Callable[..., Changes]:
        @shown
        def on_turn(state: Looked | None, query: str, start: int, chosen: tuple[str, int] | None) -> Changes:
            return page(state, query.strip(), max(0, start + by), chosen) if state else gr.skip()

        return on_turn

    def view(
        looked: Looked, review: tuple[str, int], max_length: float, model: str, beside: list[tuple[str, int]]
    ) -> str:
        found = services.data.as_model_sees(looked.request, *review, int(max_length), model, beside)
        return view_seen(found, int(max_length))

    @shown
    def on_choose(
        state: Looked | None, max_length: float, model: str, listed: list[tuple[str, int]], event: gr.EventData
    ) -> Changes:
        """What was pressed comes from a browser: it is looked up, not believed."""
        data = getattr(event, "_data", None)
        split, row = text_of(data, "split"), number_of(data, "row")
        if state is None or row is None:
            return gr.skip()
        return {chosen: (split, row), seen: view(state, (split, row), max_length, model, listed)}

    @shown
    def on_length(
        state: Looked | None,
        max_length: float,
        model: str,
        listed: list[tuple[str, int]],
        chosen: tuple[str, int] | None,
    ) -> Any:
        return view(state, chosen, max_length, model, listed) if state and chosen else gr.skip()

    list_parts = [start, listed, reviews, earlier, later]
    # Of millions of reviews a search takes seconds.
    slower = {**LIVE, "show_progress": "minimal"}
    query.change(on_search, [state, query, chosen], list_parts, show_progress_on=reviews, **slower)
    for button, by in ((earlier, -PAGE), (later, PAGE)):
        button.click(turn(by), [state, query, start, chosen], list_parts, show_progress_on=reviews, **slower)
    reviews.select(on_choose, [state, max_length, model, listed], [chosen, seen], show_progress_on=seen, **slower)
    max_length.change(on_length, [state, max_length, model, listed, chosen], seen, **LIVE)
    parts = {
        "start": start,
        "listed": listed,
        "chosen": chosen,
        "query": query,
        "reviews": reviews,
        "earlier": earlier,
        "later": later,
        "seen": seen,
    }
    return Section(parts, draw)
