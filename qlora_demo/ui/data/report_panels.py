"""How the reviews were read, and their report. Each panel draws an analysis as changes of its components."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.components import Component

from ...core.names import SAMPLE
from ...core.records import NO_COLUMN
from ..fields import CHOICES
from ..handlers import LIVE, Changes, handler
from .analysis import MAX_LENGTH, Analysis, field_values
from .data_views import view_encoding, view_languages, view_lengths, view_part

ENCODINGS = [
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
]
DELIMITERS = [("comma ,", ","), ("semicolon ;", ";"), ("tab", "\t"), ("pipe |", "|")]
HEADERS = [("column names", "yes"), ("a review", "no")]
DROPDOWNS = {
    "text": "Text column",
    "label": "Label column",
    "title": "Title column",
    "split": "Split",
    "encoding": "Encoding",
    "delimiter": "Delimiter",
    "header": "First row",
}


class ReadingPanel:
    """How the rows were read, in fields by which it can be changed: the settings of a DataRequest, by name."""

    def __init__(self) -> None:
        self.fields: dict[str, Component] = {}
        with gr.Row(elem_classes="pairs data-reading"):
            for name, label in DROPDOWNS.items():
                self.fields[name] = gr.Dropdown(
                    HEADERS if name == "header" else [],
                    label=label,
                    allow_custom_value=name in ("encoding", "delimiter"),
                    elem_id=f"data-{name}",
                )
        with gr.Row(elem_classes="narrow-stack"):
            self.fields["labels"] = gr.Textbox(
                label="Labels to use",
                info="One per line, worst first; rows with others are left out.",
                lines=3,
                max_lines=5,
                min_width=160,
                elem_id="data-labels",
            )
            self.mend = gr.Checkbox(
                label="Fix encoding errors",
                info="HTML entities and wrongly decoded characters.",
                min_width=160,
                elem_id="data-mend",
            )
        self.fields["mend"] = self.mend
        self.parts = list(self.fields.values())

    @property
    def changes(self) -> list[Any]:
        """The events after which the source is read anew."""
        fields = self.fields.values()
        typed = [field.blur for field in fields if isinstance(field, gr.Textbox)]  # type: ignore[attr-defined]
        chosen = [field.input for field in fields if isinstance(field, gr.Dropdown)]  # type: ignore[attr-defined]
        return [*typed, *chosen, self.mend.change]  # type: ignore[attr-defined]

    def draw(self, analysis: Analysis) -> Changes:
        report, is_own = analysis.report, analysis.request.data != SAMPLE
        values, columns = field_values(report), list(report.columns)
        encoding, delimiter = values["encoding"], values["delimiter"]
        others = [(delimiter, delimiter)] if delimiter and delimiter not in dict(DELIMITERS).values() else []
        is_text = is_own and report.header is not None
        updates = {
            "text": gr.Dropdown(columns, value=report.text_column),
            "label": gr.Dropdown(columns, value=report.label_column),
            "title": gr.Dropdown([("none", NO_COLUMN), *((name, name) for name in columns)], value=values["title"]),
            "split": gr.Dropdown(
                [("all", ""), *((name, name) for name in report.available_splits)],
                value=analysis.request.split,
                visible=len(report.available_splits) > 1,
            ),
            "encoding": gr.Dropdown(
                list(dict.fromkeys([encoding, *ENCODINGS])) if encoding else [],
                value=encoding or None,
                visible=is_own and bool(encoding),
            ),
            "delimiter": gr.Dropdown([*DELIMITERS, *others], value=delimiter or None, visible=is_text),
            "header": gr.Dropdown(value=values["header"] or None, visible=is_text),
            "labels": gr.Textbox(values["labels"], visible=is_own and bool(report.labels)),
            "mend": gr.Checkbox(analysis.request.mend, visible=is_own),
        }
        return {self.fields[name]: update for name, update in updates.items()}


class ReportPanel:
    """Numbers, warnings, labels and lengths; the slider of the maximum length answers by itself."""

    def __init__(self) -> None:
        self.views = {part: gr.HTML(elem_id=f"data-{part}") for part in ("summary", "warnings")}
        with gr.Row(elem_classes="data-two"):
            with gr.Column(min_width=300):
                self.views["balance"] = gr.HTML(elem_id="data-balance")
            with gr.Column(min_width=300):
                gr.HTML("<h3>Length</h3>")
                self.lengths = gr.HTML(elem_id="data-lengths")
                with gr.Row(elem_classes="narrow-stack"):
                    self.max_length = gr.Slider(
                        8, 512, MAX_LENGTH, step=1, label="Maximum length (tokens)", elem_id="data-max-length"
                    )
                    self.model = gr.Dropdown(
                        CHOICES["model"], value=SAMPLE, label="Tokenizer", allow_custom_value=True, elem_id="data-model"
                    )
        self.parts = [*self.views.values(), self.lengths, self.max_length, self.model]

    def wire(self, analysis: gr.State) -> None:
        self.max_length.change(self.on_length, [analysis, self.max_length], self.lengths, **LIVE)

    def draw(self, analysis: Analysis) -> Changes:
        return {
            **{view: view_part(part, analysis.report) for part, view in self.views.items()},
            self.lengths: view_lengths(analysis.report, analysis.max_length),
            self.max_length: gr.Slider(maximum=max(16, analysis.longest), value=analysis.max_length),
        }

    @handler
    def on_length(self, analysis: Analysis | None, max_length: float) -> str:
        return view_lengths(analysis.report, int(max_length)) if analysis else ""


class ProblemsPanel:
    """What was left out and what is doubtful, with first lines and examples."""

    def __init__(self) -> None:
        with gr.Row(elem_classes="data-two"):
            with gr.Column(min_width=300):
                self.left_out = gr.HTML(elem_id="data-left-out")
                self.languages = gr.HTML(elem_id="data-languages")
            with gr.Column(min_width=300):
                self.conflicts = gr.HTML(elem_id="data-doubles")
                self.encoding = gr.HTML(elem_id="data-damage")
                self.fix = gr.Button("Fix them", size="sm", visible=False, elem_id="data-mend-them")
        self.parts = [self.left_out, self.languages, self.conflicts, self.encoding, self.fix]

    def draw(self, analysis: Analysis) -> Changes:
        report = analysis.report
        return {
            self.left_out: view_part("left_out", report),
            self.languages: view_languages(report),
            self.conflicts: view_part("conflicts", report),
            self.encoding: view_encoding(report, analysis.request.mend),
            self.fix: gr.Button(visible=bool(report.repairs)),
        }
