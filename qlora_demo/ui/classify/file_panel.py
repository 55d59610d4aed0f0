"""Files: a file of reviews is uploaded, classified in a job of its own, shown, downloaded and deleted.

The job goes on without the page, which finds it again by its folder. A file's path stays on the server: the page knows
its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from ...core.errors import DemoError
from ...core.file_report import FileReport
from ...core.records import NO_COLUMN
from ...core.requests import ClassifyRequest
from ...host.limits import describe_uploads
from ...host.redaction import without_paths
from ...jobs.store import Job
from ...services.app import Services
from ...storage.uploads import is_upload
from ..handlers import PRIVATE, QUICK, QUIET, Changes, handler, visitor
from ..queries import as_keys
from ..server.downloads import available_kinds, link_to
from ..views import view_limits, view_problems, view_quiet
from .file_rows import RowsPanel
from .file_views import (
    view_delete_file,
    view_ended,
    view_links,
    view_metrics,
    view_preview,
    view_progress,
    view_summary,
)

FILE_TYPES = [".csv", ".tsv", ".json", ".jsonl", ".parquet", ".gz", ".zip"]
NOTHING = ("none", NO_COLUMN)
COLUMNS = {"text": "Text", "title": "Title, put before it", "label": "True label (optional)"}
INTRODUCTION = (
    "### A whole file\nA table with a column of reviews: CSV, TSV, JSON, JSON Lines or Parquet, also packed as .gz"
    " or .zip. The adapter chosen above rates each row; all columns stay as they are."
)


class FilePanel:
    """`keys`: run to key, of the jobs that this browser started; `adapter`: the choice beside the typed review."""

    def __init__(self, services: Services, page: gr.Blocks, keys: gr.BrowserState, adapter: gr.Dropdown):
        self._services, self._keys, self._adapter = services, keys, adapter
        self.upload = gr.State("")  # the kept file; states stay on the server
        self.followed = gr.State(("", ""))  # the job that this page follows, and its key
        self.drawn = gr.State("")  # the job whose first rows are shown
        self.timer = gr.Timer(1, active=False)
        self._layout_form()
        self.preview = gr.HTML(elem_id="classify-file-found")
        self.status = gr.HTML(elem_id="classify-file-status")
        self.links = gr.HTML(elem_id="classify-file-links")
        self.summary = gr.HTML(elem_id="classify-file-summary")
        self.metrics = gr.HTML(elem_id="classify-file-judged")
        self.rows = RowsPanel(services, self.followed)
        self._layout_deletion()
        self._wire(page)

    def _layout_form(self) -> None:
        gr.Markdown(INTRODUCTION)
        if self._services.host.public:
            gr.HTML(view_limits(describe_uploads()), elem_id="classify-file-limits")
        with gr.Row(elem_classes="file-begin"):
            with gr.Column(min_width=280):
                self.file = gr.File(label="File of reviews", file_types=FILE_TYPES, height=150, elem_id="classify-file")
            with gr.Column(min_width=280):
                with gr.Row(visible=False, elem_id="classify-file-columns") as self.choices:
                    self.text, self.title, self.label = (
                        gr.Dropdown([], label=label, min_width=120, elem_id=f"classify-file-{name}")
                        for name, label in COLUMNS.items()
                    )
                with gr.Row():
                    self.base = gr.Checkbox(
                        label="With the untrained head",
                        info="The network as it was before step 1.",
                        min_width=160,
                        elem_id="classify-file-base",
                    )
                    self.calibrated = gr.Checkbox(
                        label="Calibrated",
                        info="Where the adapter's run fitted a temperature.",
                        min_width=160,
                        elem_id="classify-file-calibrated",
                    )
                with gr.Row():
                    self.start = gr.Button(
                        "Classify the file", variant="primary", interactive=False, elem_id="classify-file-start"
                    )
                    self.stop = gr.Button("Stop and keep", interactive=False, elem_id="classify-file-stop")

    def _layout_deletion(self) -> None:
        self.delete = gr.Button(
            "Delete this file and its results …", size="sm", visible=False, elem_id="classify-file-delete"
        )
        with gr.Group(visible=False) as self.confirmation:
            self.question = gr.HTML(elem_id="classify-file-doomed")
            with gr.Row():
                self.confirm = gr.Button("Delete", variant="stop", elem_id="classify-file-really-delete")
                self.keep = gr.Button("Keep", elem_id="classify-file-keep")

    def _wire(self, page: gr.Blocks) -> None:
        columns = [self.text, self.title, self.label]
        form = [self.upload, self.preview, self.choices, *columns, self.start]
        results = [self.status, self.links, self.summary, self.metrics, *self.rows.outputs, self.drawn, self.timer]
        results += [self.stop, self.start, self.delete, self.confirmation, self.followed]
        asked = [self.upload, *columns, self.base, self.calibrated, self._adapter, self._keys]
        self.file.upload(self.on_file, self.file, [self.file, *form], **QUICK)
        gr.on([column.input for column in columns], self.on_columns, [self.upload, *columns], form, **QUIET)
        self.start.click(self.on_start, asked, [*results, self.preview, self._keys], **QUICK)
        self.stop.click(self.on_stop, self.followed, self.stop, **QUICK)
        self.timer.tick(self.on_tick, [self.followed, self.drawn], results, **QUIET)
        self.delete.click(self.on_delete, self.followed, [self.confirmation, self.question], **QUICK)
        self.keep.click(lambda: gr.Group(visible=False), None, self.confirmation, queue=False, **PRIVATE)
        cleared = [*results, self.upload, self.choices]
        self.confirm.click(self.on_confirm, [self.followed, self.upload], cleared, **QUICK)
        page.load(self.on_load, self._keys, results, **QUIET)

    # --- the file ----------------------------------------------------------------------------------------------------

    def _read(self, path: str, *columns: str | None) -> Changes:
        """The file as it would be read, and its columns to choose from."""
        preview = self._services.files.preview(path, *(name or "" for name in columns))
        names = list(preview.columns)
        return {
            self.upload: path,
            self.preview: view_preview(Path(path).name, preview),
            self.choices: gr.Row(visible=True),
            self.text: gr.Dropdown(names, value=preview.text_column),
            self.title: gr.Dropdown([NOTHING, *names], value=preview.title_column or NO_COLUMN),
            self.label: gr.Dropdown([NOTHING, *names], value=preview.label_column or NO_COLUMN),
            self.start: gr.Button(interactive=True),
        }

    def _without_file(self) -> Changes:
        return {self.upload: "", self.choices: gr.Row(visible=False), self.start: gr.Button(interactive=False)}

    @handler
    def on_file(self, sent: str | None) -> Changes:
        """Kept under a name of its own, and taken out of Gradio's hands."""
        if not sent:
            return gr.skip()
        try:
            changes = self._read(self._services.host.keep(sent))
        except DemoError as error:
            changes = {**self._without_file(), self.preview: view_problems([str(error)])}
        return {**changes, self.file: None}

    @handler
    def on_columns(self, upload: str, *columns: str) -> Changes:
        try:
            return self._read(upload, *columns)
        except DemoError as error:
            return {self.preview: view_problems([str(error)]), self.start: gr.Button(interactive=False)}

    # --- the job -----------------------------------------------------------------------------------------------------

    @handler
    def on_start(
        self, upload: str, text: str, title: str, label: str, base: bool, calibrated: bool, adapter: str, keys: Any
    ) -> Changes:
        columns = {"text_column": text, "title_column": title, "label_column": label}
        settings = {"file": upload, "adapter": (adapter or "").strip(), "base": base, "calibrated": calibrated}
        try:
            started = self._services.files.start(ClassifyRequest.read(settings | columns), visitor())
        except DemoError as error:
            return {self.status: view_problems([str(error)])}
        return {
            **self.follow(self._services.train.job(started.run)),
            self.followed: (started.run, started.key),
            self._keys: {**as_keys(keys), started.run: started.key},
            self.preview: "",
            self.drawn: "",
        }

    @handler
    def on_stop(self, followed: tuple[str, str]) -> Any:
        self._services.train.stop(*followed, at_home=True)
        return gr.Button(interactive=False)

    @handler
    def on_tick(self, followed: tuple[str, str], drawn: str) -> Changes:
        job = self._services.train.job(followed[0])
        return self.follow(job, first=drawn != job.id)

    @handler
    def on_load(self, keys: Any) -> Changes:
        """The newest file that this browser had classified; at home the newest of all."""
        services, known = self._services, as_keys(keys)
        jobs = services.store.jobs("classify")
        own = next((job for job in jobs if services.host.has_key(job.id, known.get(job.id, ""))), None)
        job = own if own or services.host.public else services.store.latest("classify")
        return {**self.follow(job, first=True), self.followed: (job.id, known.get(job.id, ""))} if job else gr.skip()

    def follow(self, job: Job, first: bool = False) -> Changes:
        """The job as it is now; `first`: its first rows are not on the page yet. Once it has ended everything is drawn,
        and the timer rests.
        """
        return self._ended(job) if job.state().is_final else self._running(job, first)

    def _running(self, job: Job, first: bool) -> Changes:
        state, last = job.state().state, job.last_event()
        phase = last if last and last["event"] == "phase" else None
        early = self.rows.changes(job.folder) if first else {}
        hidden = {self.rows.panel: gr.Column(visible=False)} if first else {}
        name = Path(job.settings()["file"]).name
        return {
            self.status: view_progress(name, state, phase, self._services.store.position(job)),
            self.timer: gr.Timer(active=True),
            self.stop: gr.Button(interactive=state != "stopping"),
            self.start: gr.Button(interactive=False),
            **dict.fromkeys((self.links, self.summary, self.metrics), ""),
            self.delete: gr.Button(visible=False),
            self.confirmation: gr.Group(visible=False),
            **({**early, self.drawn: job.id} if early else hidden),
        }

    def _ended(self, job: Job) -> Changes:
        state, report = job.state(), job.report(FileReport)
        name = Path(job.settings()["file"]).name
        has_rows = report is not None and report.classified > 0
        return {
            self.status: view_ended(name, state.state, without_paths(state.error or ""), report),
            self.links: view_links({kind: link_to(job.id, kind) for kind in available_kinds(job)}),
            self.summary: view_summary(report) if report and has_rows else "",
            self.metrics: view_metrics(report) if report and has_rows else "",
            self.timer: gr.Timer(active=False),
            self.stop: gr.Button(interactive=False),
            self.start: gr.Button(interactive=True),
            self.delete: gr.Button(visible=True),
            self.drawn: job.id,
            self.rows.panel: gr.Column(visible=False),
            **self.rows.changes(job.folder),
        }

    # --- deletion ----------------------------------------------------------------------------------------------------

    @handler
    def on_delete(self, followed: tuple[str, str]) -> Changes:
        """Asks first, and says what would go."""
        job = self._services.train.job(followed[0])
        file = Path(job.settings()["file"])
        file_bytes = file.stat().st_size if is_upload(file, self._services.store.home) else 0
        question = view_delete_file(file.name, job.size_bytes() + file_bytes)
        return {self.confirmation: gr.Group(visible=True), self.question: question}

    @handler
    def on_confirm(self, followed: tuple[str, str], upload: str) -> Changes:
        """The page is as before; a file that was sent since stays."""
        name = Path(self._services.train.job(followed[0]).settings()["file"]).name
        self._services.train.delete(*followed, at_home=True)
        return {
            **({} if Path(upload).is_file() else self._without_file()),
            self.status: view_quiet(f"{name} and its results are deleted."),
            **dict.fromkeys((self.links, self.summary, self.metrics, self.drawn), ""),
            self.rows.panel: gr.Column(visible=False),
            self.followed: ("", ""),
            self.delete: gr.Button(visible=False),
            self.confirmation: gr.Group(visible=False),
        }
