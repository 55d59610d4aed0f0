"""Data: which reviews, how they are read, what is in them, how the model sees them; and on to training.

What was asked for is kept by the app (gr.State), and an uploaded file goes by a name: no path of this machine is on the
page. Handlers hand back what changes, by component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from ...core.cancellation import ShouldStop
from ...core.config import RunConfig
from ...core.errors import DataError, DemoError
from ...core.names import SAMPLE
from ...core.records import NO_COLUMN
from ...core.requests import DataRequest
from ...host.limits import describe_uploads
from ...services.app import Services
from ...services.data import check_source
from ...storage import uploads
from ..cancellations import Cancellations
from ..fields import CHOICES
from ..handlers import AT_ONCE, shown
from ..views import view_downloads, view_limits, view_problems
from .data_sections import (
    LENGTH,
    Changes,
    Looked,
    build_faults,
    build_reading,
    build_report,
    build_reviews,
    build_subset,
    changed_request,
    chosen_rows,
)

SOURCES = [("The sample", "sample"), ("A file", "file"), ("The Hub", "hub")]
# The tutorial's set falls back on copies of it, where the Hub does not give it (engine/data/hub.py).
HUB_SETS = [
    ("Amazon reviews: the tutorial's set, or a copy of it", "amazon-reviews"),
    ("mteb/amazon_reviews_multi", "mteb/amazon_reviews_multi"),
    ("SetFit/amazon_reviews_multi_en", "SetFit/amazon_reviews_multi_en"),
    ("mteb/AmazonReviewsClassification", "mteb/AmazonReviewsClassification"),
]
HEAD = (
    '<p class="data-head">What is in your reviews, before anything is trained on them: which rows can be used, what is'
    " wrong with the others, and what of each review the model gets to see.</p>"
)
NOT_YET = '<p class="quiet">Choose a source, then look at it.</p>'


def build_data_tab(
    services: Services, tab: gr.Tab, tabs: gr.Tabs, fields: Mapping[str, Component], reason: gr.HTML
) -> None:
    """Layout, then events. `fields`: the Train tab's form by setting; `reason`: the line above it, which says where it
    comes from.
    """
    state, kept = gr.State(None), gr.State("")  # Looked; where the uploaded file is kept
    gr.HTML(HEAD)
    with gr.Row(elem_classes="data-two"):
        with gr.Column(min_width=300):
            source = gr.Radio(SOURCES, value="sample", label="Where the reviews are", elem_id="data-source")
            with gr.Group(visible=False) as in_file:
                file = gr.File(
                    label="CSV, TSV, JSON, JSON lines, Parquet; also .gz, .zip", height=116, elem_id="data-file"
                )
                if services.host.public:
                    gr.HTML(view_limits(describe_uploads()), elem_id="data-limits")
                path = gr.Textbox(
                    label="Or a path on this machine",
                    max_lines=1,
                    visible=not services.host.public,
                    elem_id="data-path",
                )
            with gr.Group(visible=False) as on_hub:
                hub_set = gr.Dropdown(
                    HUB_SETS,
                    value="amazon-reviews",
                    label="Data set",
                    allow_custom_value=True,
                    info="From the list, or a name such as user/reviews.",
                    elem_id="data-hub",
                )
                with gr.Row(elem_classes="pairs"):
                    config = gr.Textbox(
                        label="Configuration", placeholder="the default one", max_lines=1, elem_id="data-config"
                    )
                    revision = gr.Textbox(
                        label="Revision", placeholder="the newest", max_lines=1, elem_id="data-revision"
                    )
            with gr.Row():
                look = gr.Button("Look at it", variant="primary", scale=0, min_width=240, elem_id="data-look")
            status = gr.HTML(NOT_YET, elem_id="data-status")
            with gr.Group(visible=False) as asking:
                ask = gr.HTML(elem_id="data-ask")
                with gr.Row():
                    fetch = gr.Button("Download and look", variant="primary", elem_id="data-fetch")
                    refuse = gr.Button("Do not download", elem_id="data-refuse")
        with gr.Column(min_width=300, visible=False) as how:
            reading = build_reading()
    with gr.Column(visible=False) as found:
        report = build_report(state)
        max_length, model = report.parts["max_length"], report.parts["model"]
        subset = build_subset(services, state)
        faults = build_faults()
        reviews = build_reviews(services, state, max_length, model)  # type: ignore[arg-type]
    sections = (reading, report, subset, faults, reviews)

    def examine(
        request: DataRequest, form: Mapping[str, Any], progress: gr.Progress, should_stop: ShouldStop = lambda: False
    ) -> Changes:
        """A new report, on the whole page."""
        whose = form["model"] if not services.host.public or form["model"] in CHOICES["model"] else SAMPLE
        answer = services.data.examine(request, whose, lambda phase, share: progress(share, desc=phase), should_stop)
        looked = Looked(request, answer, asked_model=form["model"])
        looked = replace(looked, max_length=min(int(form["max_length"] or LENGTH), looked.most_tokens))
        drawn = {part: change for section in sections for part, change in section.draw(looked).items()}
        return {
            **drawn,
            state: looked,
            status: "",
            asking: gr.Group(visible=False),
            how: gr.Column(visible=True),
            found: gr.Column(visible=True),
        }

    def tell(error: DemoError) -> Changes:
        """One sentence; what was shown before stays."""
        return {status: view_problems([str(error)]), asking: gr.Group(visible=False)}

    def asked_for(form: Mapping[str, Any]) -> DataRequest:
        """What the source says. Raises DataError."""
        if form["source"] == "hub":
            name, config, revision = ((form[part] or "").strip() for part in ("hub_set", "config", "revision"))
            return DataRequest(name, hub=True, config=config, revision=revision)
        if form["source"] != "file":
            return DataRequest()
        typed = (form["path"] or "").strip()
        if typed and services.host.public:
            raise DataError("A path cannot be given on a public host; upload the file.")
        if not typed and not form["kept"]:
            raise DataError(
                "No file is chosen; upload one."
                if services.host.public
                else "No file is chosen; upload one, or type its path."
            )
        return DataRequest(str(Path(typed).expanduser()) if typed else form["kept"])

    def look_or_ask(
        form: Mapping[str, Any], progress: gr.Progress, confirmed: bool = False, should_stop: ShouldStop = lambda: False
    ) -> Changes:
        try:
            request = asked_for(form)
            check_source(request)
            if request.hub and not confirmed:
                wanted = {"data": request.data, "data_config": request.config, "data_revision": request.revision}
                if downloads := services.needed_downloads(RunConfig.read(wanted)):
                    return {status: "", asking: gr.Group(visible=True), ask: view_downloads(downloads)}
            return examine(request, form, progress, should_stop)
        except DemoError as error:
            return tell(error)

    progress, cancellations = gr.Progress(), Cancellations()

    @shown
    def on_look(progress: gr.Progress = progress, **form: Any) -> Changes:
        return look_or_ask(form, progress)

    @shown
    def on_fetch(request: gr.Request, progress: gr.Progress = progress, **form: Any) -> Changes:
        with cancellations.watch(request) as should_stop:
            return {
                **look_or_ask(form, progress, confirmed=True, should_stop=should_stop),
                refuse: gr.Button("Do not download"),
            }

    @shown
    def on_refuse(request: gr.Request) -> Any:
        """Before the download it is a no, during it an end."""
        cancellations.cancel(request)
        return gr.Group(visible=False)

    @shown
    def on_upload(progress: gr.Progress = progress, **form: Any) -> Changes:
        """The file is kept, and looked at."""
        try:
            place = services.host.keep(form["file"])
        except DemoError as error:
            return {**tell(error), file: None}
        # Left in the field, the browser would be shown where the app's library has put it.
        held = gr.File(None, label=f"{Path(place).name} is here; another replaces it")
        return {**look_or_ask({**form, "kept": place, "path": ""}, progress), kept: place, path: "", file: held}

    @shown
    def on_reading(progress: gr.Progress = progress, **form: Any) -> Changes:
        """The same source by what the fields say now, where that is something new."""
        state: Looked | None = form["state"]
        if state is None or (changed_request(state, form) == state.request and form["model"] == state.asked_model):
            return gr.skip()
        try:
            return examine(changed_request(state, form), form, progress)
        except DemoError as error:
            return tell(error)

    @shown
    def on_open(progress: gr.Progress = progress, **form: Any) -> Changes:
        """The sample, where nothing was looked at yet, by the model and length of the form."""
        if form["state"] is not None:
            return gr.skip()
        wanted = {"model": form["train_model"], "max_length": form["train_length"]}
        return {**look_or_ask({**form, **wanted}, progress), model: wanted["model"]}

    @shown
    def on_train(state: Looked | None, unit: str, amount: Any, max_length: float, model: str) -> Changes:
        try:
            if state is None or not state.report.labels:
                raise DataError("There is nothing to train on without labels; name the label column above.")
            rows = chosen_rows(services, state, unit, amount)
            if services.host.public and not rows:  # its limits count steps, so how many reviews "all" are is said
                rows = int(services.data.subset(state.request, 0).available)
            values = run_settings(state, rows, int(max_length), services.store.home)
        except DemoError as error:
            return {subset.parts["refused"]: view_problems([str(error)])}
        told = '<p class="quiet">The form has the reviews from the Data tab: change what you like, then start.</p>'
        return {
            **{fields[name]: value for name, value in {**values, "model": model}.items()},
            tabs: gr.Tabs(selected="train"),
            reason: told,
            subset.parts["refused"]: "",
        }

    form: dict[str, Any] = {
        "state": state,
        "kept": kept,
        "source": source,
        "path": path,
        "hub_set": hub_set,
        "config": config,
        "revision": revision,
        "max_length": max_length,
        "model": model,
    }
    shows = [state, status, asking, ask, how, found, *(part for section in sections for part in section.parts.values())]
    # Reading may take minutes: a limit of its own, so that nothing else of the page waits for it.
    slow: dict[str, Any] = {
        "concurrency_limit": AT_ONCE if services.host.public else 2,
        "concurrency_id": "data",
        "show_progress": "full",
        "show_progress_on": status,
        "api_visibility": "private",
    }
    source.input(
        lambda chosen: [gr.Group(visible=chosen == "file"), gr.Group(visible=chosen == "hub")],
        source,
        [in_file, on_hub],
        queue=False,
        api_visibility="private",
    )
    look.click(on_look, inputs_kwargs=form, outputs=shows, **slow)
    path.submit(on_look, inputs_kwargs=form, outputs=shows, **slow)
    fetch.click(lambda: gr.Button("Stop the download"), None, refuse, queue=False, api_visibility="private")
    fetch.click(on_fetch, inputs_kwargs=form, outputs=[*shows, refuse], **slow)
    refuse.click(on_refuse, None, asking, show_progress="hidden", concurrency_limit=8, api_visibility="private")
    file.upload(on_upload, inputs_kwargs={**form, "file": file}, outputs=[*shows, kept, path, file], **slow)
    # One event for all of them, so that an older answer never comes after a newer one. The button ticks the box.
    mend = reading.parts["mend"]
    changes = [
        part.blur if isinstance(part, gr.Textbox) else part.input for part in reading.parts.values() if part is not mend
    ]
    gr.on(
        [*changes, mend.change, model.input],
        on_reading,
        inputs_kwargs={**form, **reading.parts},
        outputs=shows,
        trigger_mode="always_last",
        **slow,
    )
    faults.parts["mend"].click(None, None, mend, js="() => true", api_visibility="private")
    tab.select(
        on_open,
        inputs_kwargs={**form, "train_model": fields["model"], "train_length": fields["max_length"]},
        outputs=shows,
        **slow,
    )
    subset.parts["train"].click(
        on_train,
        [state, subset.parts["unit"], subset.parts["amount"], max_length, model],
        [*fields.values(), tabs, reason, subset.parts["refused"]],
        concurrency_limit=4,
        api_visibility="private",
    )


def run_settings(looked: Looked, rows: int, max_length: int, home: Path) -> dict[str, Any]:
    """A run's settings for these reviews, as its form shows them."""
    request, report = looked.request, looked.report
    named = (
        not request.hub and request.data != SAMPLE
    )  # what a file's columns are is said, so that nothing has to be found again
    return {
        "data": uploads.name_of(request.data, home),
        "data_config": request.config,
        "data_revision": request.revision,
        "text_column": report.text_column if named else request.text,
        "title_column": report.title_column or NO_COLUMN if named else request.title,
        "label_column": report.label_column if named else request.label,
        "encoding": request.encoding,
        "delimiter": "tab" if request.delimiter == "\t" else request.delimiter,
        "header": {True: "yes", False: "no", None: "found"}[request.header],
        "labels": "\n".join(request.labels),
        "mend": request.mend,
        "rows": rows,
        "max_length": max_length,
    }
