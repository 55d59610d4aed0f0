"""Data: which reviews, how they are read, what is in them, how the model sees them; and on to training.

The analysis is kept by the app (gr.State), and an uploaded file goes by a name: no path of this machine is on the page.
Handlers return what changes, by component.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from ...core.cancellation import ShouldStop, never
from ...core.config import RunConfig
from ...core.errors import DataError, DemoError
from ...core.names import SAMPLE
from ...core.requests import DataRequest
from ...host.limits import describe_uploads
from ...services.app import Services
from ...services.data import check_source
from ..cancellations import Cancellations
from ..fields import CHOICES
from ..handlers import AT_ONCE, PRIVATE, PROGRESS, Changes, handler
from ..views import view_downloads, view_limits, view_problems
from .analysis import MAX_LENGTH, Analysis, changed_request, run_settings
from .report_panels import ProblemsPanel, ReadingPanel, ReportPanel
from .review_panels import ReviewsPanel, SubsetPanel

SOURCES = [("Sample", "sample"), ("File", "file"), ("Hub", "hub")]
# The tutorial's dataset falls back on copies of it, where the Hub does not give it (engine/data/hub.py).
HUB_SETS = [
    ("Amazon reviews: the tutorial's dataset, or a copy of it", "amazon-reviews"),
    ("mteb/amazon_reviews_multi", "mteb/amazon_reviews_multi"),
    ("SetFit/amazon_reviews_multi_en", "SetFit/amazon_reviews_multi_en"),
    ("mteb/AmazonReviewsClassification", "mteb/AmazonReviewsClassification"),
]
INTRODUCTION = (
    '<p class="data-head">What is in your reviews, before anything is trained on them: which rows can be used, what is'
    " wrong with the others, and how much of each review the model gets to see.</p>"
)
START = '<p class="quiet">Choose a data source, then analyse it.</p>'
LOADED = '<p class="quiet">Your reviews from the Data tab are loaded: change what you like, then start.</p>'


class DataTab:
    """The tab on the page that is being built. `fields`: the Train tab's form by setting; `reason`: the line above it,
    which says where its values come from.
    """

    def __init__(
        self, services: Services, tab: gr.Tab, tabs: gr.Tabs, fields: Mapping[str, Component], reason: gr.HTML
    ) -> None:
        self.services, self.public = services, services.host.public
        self.tab, self.tabs, self.fields, self.reason = tab, tabs, fields, reason
        self.cancellations = Cancellations()
        self.layout()
        self.wire()

    def layout(self) -> None:
        self.analysis, self.kept = gr.State(None), gr.State("")  # Analysis; where the uploaded file is kept
        gr.HTML(INTRODUCTION)
        with gr.Row(elem_classes="data-two"):
            with gr.Column(min_width=300):
                self.source = gr.Radio(SOURCES, value="sample", label="Data source", elem_id="data-source")
                self._layout_source()
                with gr.Row():
                    self.analyse = gr.Button("Analyse", variant="primary", scale=0, min_width=240, elem_id="data-look")
                self.status = gr.HTML(START, elem_id="data-status")
                with gr.Group(visible=False) as self.question:
                    self.downloads = gr.HTML(elem_id="data-ask")
                    with gr.Row():
                        self.fetch = gr.Button("Download and analyse", variant="primary", elem_id="data-fetch")
                        self.refuse = gr.Button("Don't download", elem_id="data-refuse")
            with gr.Column(min_width=300, visible=False) as self.reading_column:
                self.reading = ReadingPanel()
        with gr.Column(visible=False) as self.report_column:
            self.report, self.subset = ReportPanel(), SubsetPanel(self.services)
            self.problems, self.reviews = ProblemsPanel(), ReviewsPanel(self.services)
        self.panels = (self.reading, self.report, self.subset, self.problems, self.reviews)

    def _layout_source(self) -> None:
        with gr.Group(visible=False) as self.in_file:
            self.file = gr.File(
                label="CSV, TSV, JSON, JSON Lines or Parquet; also .gz and .zip", height=116, elem_id="data-file"
            )
            if self.public:
                gr.HTML(view_limits(describe_uploads()), elem_id="data-limits")
            self.path = gr.Textbox(
                label="Or a path on this machine", max_lines=1, visible=not self.public, elem_id="data-path"
            )
        with gr.Group(visible=False) as self.on_hub:
            self.hub_set = gr.Dropdown(
                HUB_SETS,
                value="amazon-reviews",
                label="Dataset",
                allow_custom_value=True,
                info="From the list, or a name such as user/reviews.",
                elem_id="data-hub",
            )
            with gr.Row(elem_classes="pairs"):
                self.config = gr.Textbox(
                    label="Configuration", placeholder="default", max_lines=1, elem_id="data-config"
                )
                self.revision = gr.Textbox(label="Revision", placeholder="latest", max_lines=1, elem_id="data-revision")

    def wire(self) -> None:
        report = self.report
        report.wire(self.analysis)
        self.subset.wire(self.analysis)
        self.reviews.wire(self.analysis, report.max_length, report.model)
        form: dict[str, Block] = {
            "analysis": self.analysis,
            "kept": self.kept,
            "source": self.source,
            "path": self.path,
            "hub_set": self.hub_set,
            "config": self.config,
            "revision": self.revision,
            "max_length": report.max_length,
            "model": report.model,
        }
        outputs = [self.analysis, self.status, self.question, self.downloads, self.reading_column, self.report_column]
        outputs += [part for panel in self.panels for part in panel.parts]
        self._wire_source(form, outputs)
        # One event for all of the fields, so that an older answer never comes after a newer one. The button ticks the
        # box.
        gr.on(
            [*self.reading.changes, report.model.input],
            self.on_reading,
            inputs_kwargs={**form, **self.reading.fields},
            outputs=outputs,
            trigger_mode="always_last",
            **self._slow,
        )
        self.problems.fix.click(None, None, self.reading.mend, js="() => true", **PRIVATE)
        self.subset.train.click(
            self.on_train,
            [self.analysis, self.subset.unit, self.subset.amount, report.max_length, report.model],
            [*self.fields.values(), self.tabs, self.reason, self.subset.problem],
            concurrency_limit=4,
            **PRIVATE,
        )

    @property
    def _slow(self) -> dict[str, Any]:
        """Reading may take minutes: a limit of its own, so that nothing else of the page waits for it."""
        limit = AT_ONCE if self.public else 2
        progress = {"show_progress": "full", "show_progress_on": self.status}
        return {"concurrency_limit": limit, "concurrency_id": "data", **progress, **PRIVATE}

    def _wire_source(self, form: dict[str, Block], outputs: list[Any]) -> None:
        slow = self._slow
        groups = {"file": self.in_file, "hub": self.on_hub}
        self.source.input(
            lambda source: [gr.Group(visible=source == name) for name in groups],
            self.source,
            list(groups.values()),
            queue=False,
            **PRIVATE,
        )
        self.analyse.click(self.on_analyse, inputs_kwargs=form, outputs=outputs, **slow)
        self.path.submit(self.on_analyse, inputs_kwargs=form, outputs=outputs, **slow)
        self.fetch.click(lambda: gr.Button("Cancel the download"), None, self.refuse, queue=False, **PRIVATE)
        self.fetch.click(self.on_fetch, inputs_kwargs=form, outputs=[*outputs, self.refuse], **slow)
        self.refuse.click(self.on_refuse, None, self.question, show_progress="hidden", concurrency_limit=8, **PRIVATE)
        uploaded = [*outputs, self.kept, self.path, self.file]
        self.file.upload(self.on_upload, inputs_kwargs={**form, "file": self.file}, outputs=uploaded, **slow)
        train = {"train_model": self.fields["model"], "train_length": self.fields["max_length"]}
        self.tab.select(self.on_open, inputs_kwargs={**form, **train}, outputs=outputs, **slow)

    # --- handlers ----------------------------------------------------------------------------------------------------

    @handler
    def on_analyse(self, progress: gr.Progress = PROGRESS, **form: Any) -> Changes:
        return self.analyse_or_ask(form, progress)

    @handler
    def on_fetch(self, request: gr.Request, progress: gr.Progress = PROGRESS, **form: Any) -> Changes:
        with self.cancellations.watch(request) as should_stop:
            changes = self.analyse_or_ask(form, progress, confirmed=True, should_stop=should_stop)
            return {**changes, self.refuse: gr.Button("Don't download")}

    @handler
    def on_refuse(self, request: gr.Request) -> Any:
        """Before the download it is a no, during it an end."""
        self.cancellations.cancel(request)
        return gr.Group(visible=False)

    @handler
    def on_upload(self, progress: gr.Progress = PROGRESS, **form: Any) -> Changes:
        """The file is kept, and analysed."""
        try:
            place = self.services.host.keep(form["file"])
        except DemoError as error:
            return {**self.refusal(error), self.file: None}
        # Left in the field, the browser would be shown where the app's library has put it.
        uploaded = gr.File(None, label=f"Uploaded: {Path(place).name}")
        changes = self.analyse_or_ask({**form, "kept": place, "path": ""}, progress)
        return {**changes, self.kept: place, self.path: "", self.file: uploaded}

    @handler
    def on_reading(self, progress: gr.Progress = PROGRESS, **form: Any) -> Changes:
        """The same source by what the fields say now, where that is something new."""
        analysis: Analysis | None = form["analysis"]
        if analysis is None:
            return gr.skip()
        request = changed_request(analysis, form)
        if request == analysis.request and form["model"] == analysis.asked_model:
            return gr.skip()
        try:
            return self.draw(request, form, progress)
        except DemoError as error:
            return self.refusal(error)

    @handler
    def on_open(self, progress: gr.Progress = PROGRESS, **form: Any) -> Changes:
        """The sample, where nothing was analysed yet, by the model and length of the Train tab's form."""
        if form["analysis"] is not None:
            return gr.skip()
        wanted = {"model": form["train_model"], "max_length": form["train_length"]}
        return {**self.analyse_or_ask({**form, **wanted}, progress), self.report.model: wanted["model"]}

    @handler
    def on_train(self, analysis: Analysis | None, unit: str, amount: Any, max_length: float, model: str) -> Changes:
        try:
            if analysis is None or not analysis.report.labels:
                raise DataError("There is nothing to train on without labels; choose the label column above.")
            rows = self.subset.count_rows(analysis, unit, amount)
            if self.public and not rows:  # its limits count steps, so "all" becomes a number
                rows = int(self.services.data.subset(analysis.request, 0).available)
            values = run_settings(analysis, rows, int(max_length), self.services.store.home)
        except DemoError as error:
            return {self.subset.problem: view_problems([str(error)])}
        return {
            **{self.fields[name]: value for name, value in {**values, "model": model}.items()},
            self.tabs: gr.Tabs(selected="train"),
            self.reason: LOADED,
            self.subset.problem: "",
        }

    # --- what they share ---------------------------------------------------------------------------------------------

    def analyse_or_ask(
        self, form: Mapping[str, Any], progress: gr.Progress, confirmed: bool = False, should_stop: ShouldStop = never
    ) -> Changes:
        """The report of what the form names, or the question whether it may be downloaded."""
        try:
            request = read_source(form, self.public)
            check_source(request)
            if request.hub and not confirmed:
                wanted = {"data": request.data, "data_config": request.config, "data_revision": request.revision}
                if downloads := self.services.needed_downloads(RunConfig.read(wanted)):
                    question = gr.Group(visible=True)
                    return {self.status: "", self.question: question, self.downloads: view_downloads(downloads)}
            return self.draw(request, form, progress, should_stop)
        except DemoError as error:
            return self.refusal(error)

    def draw(
        self, request: DataRequest, form: Mapping[str, Any], progress: gr.Progress, should_stop: ShouldStop = never
    ) -> Changes:
        """A new report, on the whole tab. Raises DemoErrors."""
        model = form["model"] if not self.public or form["model"] in CHOICES["model"] else SAMPLE
        report = self.services.data.examine(
            request, model, lambda phase, share: progress(share, desc=phase), should_stop
        )
        analysis = Analysis(request, report, asked_model=form["model"])
        length = min(int(form["max_length"] or MAX_LENGTH), analysis.longest)
        analysis = replace(analysis, max_length=length)
        return {
            **{part: change for panel in self.panels for part, change in panel.draw(analysis).items()},
            self.analysis: analysis,
            self.status: "",
            self.question: gr.Group(visible=False),
            self.reading_column: gr.Column(visible=True),
            self.report_column: gr.Column(visible=True),
        }

    def refusal(self, error: DemoError) -> Changes:
        """One sentence; the report before it stays."""
        return {self.status: view_problems([str(error)]), self.question: gr.Group(visible=False)}


def read_source(form: Mapping[str, Any], public: bool) -> DataRequest:
    """What the form names as the source. Raises DataError."""
    if form["source"] == "hub":
        name, config, revision = ((form[part] or "").strip() for part in ("hub_set", "config", "revision"))
        return DataRequest(name, hub=True, config=config, revision=revision)
    if form["source"] != "file":
        return DataRequest()
    typed = (form["path"] or "").strip()
    if typed and public:
        raise DataError("A path cannot be given on a public host; upload the file.")
    if not typed and not form["kept"]:
        raise DataError("No file is chosen; upload one" + ("." if public else ", or type its path."))
    return DataRequest(str(Path(typed).expanduser()) if typed else form["kept"])
