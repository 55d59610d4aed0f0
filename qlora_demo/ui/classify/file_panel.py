"""Files: a file of reviews is uploaded, classified in a job of its own, looked at, downloaded and deleted.

The job goes on without the page, which finds it again by its folder. A file's path stays on the server: the page knows
its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from ...core.errors import DemoError
from ...core.records import NO_COLUMN
from ...core.requests import ClassifyRequest
from ...host.limits import describe_uploads
from ...host.redaction import without_paths
from ...jobs.store import Job
from ...services.app import Services
from ...storage.uploads import is_upload
from ..handlers import shown, visitor
from ..queries import as_keys
from ..server.downloads import link_to, there_are
from ..views import view_limits, view_problems
from .file_rows import EVERY, NONE, find_rows
from .file_views import (
    view_deleted,
    view_doomed_file,
    view_ended,
    view_found,
    view_judged,
    view_links,
    view_progress,
    view_rows,
    view_summary,
)

FILE_TYPES = [".csv", ".tsv", ".json", ".jsonl", ".parquet", ".gz", ".zip"]
NOTHING = ("none", NO_COLUMN)
Changes = dict[Any, Any]


def build_file_panel(services: Services, page: gr.Blocks, keys: gr.BrowserState, adapter: gr.Dropdown) -> None:
    """Layout, then events. `keys`: run to key, of the jobs that this browser started; `adapter`: the choice beside the
    typed review.
    """
    gr.Markdown(
        "### A whole file\nA table with a column of reviews: CSV, TSV, JSON, JSON Lines or Parquet, also packed as .gz"
        " or .zip. The adapter chosen above gives each row its stars; all columns stay as they are."
    )
    if services.host.public:
        gr.HTML(view_limits(describe_uploads()), elem_id="classify-file-limits")
    with gr.Row(elem_classes="file-begin"):
        with gr.Column(min_width=280):
            sent = gr.File(label="File of reviews", file_types=FILE_TYPES, height=150, elem_id="classify-file")
        with gr.Column(min_width=280):
            with gr.Row(visible=False, elem_id="classify-file-columns") as choices:
                text = gr.Dropdown([], label="Text", min_width=120, elem_id="classify-file-text")
                title = gr.Dropdown([], label="Title, joined before it", min_width=120, elem_id="classify-file-title")
                label = gr.Dropdown([], label="Right label, to judge by", min_width=120, elem_id="classify-file-label")
            with gr.Row():
                base = gr.Checkbox(
                    label="With the untrained head",
                    info="As the network was before step 1.",
                    min_width=160,
                    elem_id="classify-file-base",
                )
                calibrated = gr.Checkbox(
                    label="Calibrated",
                    info="Where the adapter's run fitted a temperature.",
                    min_width=160,
                    elem_id="classify-file-calibrated",
                )
            with gr.Row():
                start = gr.Button(
                    "Classify the file", variant="primary", interactive=False, elem_id="classify-file-start"
                )
                stop = gr.Button("Stop and keep", interactive=False, elem_id="classify-file-stop")
    found = gr.HTML(elem_id="classify-file-found")
    status = gr.HTML(elem_id="classify-file-status")
    links = gr.HTML(elem_id="classify-file-links")
    summary = gr.HTML(elem_id="classify-file-summary")
    judged = gr.HTML(elem_id="classify-file-judged")
    with gr.Column(visible=False, elem_id="classify-file-result") as result:
        with gr.Row(elem_classes="narrow-stack"):
            which = gr.Dropdown([EVERY], value=EVERY, label="Show", min_width=160, elem_id="classify-file-which")
            words = gr.Textbox(
                label="With the words (then Enter)", placeholder="battery", min_width=160, elem_id="classify-file-words"
            )
        rows = gr.HTML(elem_id="classify-file-rows")
        with gr.Row():
            back = gr.Button("Earlier rows", interactive=False, elem_id="classify-file-back")
            onward = gr.Button("Later rows", interactive=False, elem_id="classify-file-onward")
    delete = gr.Button("Delete this file and its results …", size="sm", visible=False, elem_id="classify-file-delete")
    with gr.Group(visible=False) as sure:
        doomed = gr.HTML(elem_id="classify-file-doomed")
        with gr.Row():
            really = gr.Button("Delete it", variant="stop", elem_id="classify-file-really-delete")
            keep = gr.Button("Keep it", elem_id="classify-file-keep")
    upload = gr.State("")  # the kept file; states stay on the server
    mine = gr.State(("", ""))  # the job this page follows, and its key
    place = gr.State(0)  # the page of rows
    drawn = gr.State("")  # the job whose first rows are shown
    timer = gr.Timer(1, active=False)

    def read(path: str, *chosen: str | None) -> Changes:
        """The file as it would be read, and its columns to choose from."""
        seen = services.files.preview(path, *(name or "" for name in chosen))
        columns = seen["columns"]
        return {
            upload: path,
            found: view_found(Path(path).name, seen),
            choices: gr.Row(visible=True),
            text: gr.Dropdown(columns, value=seen["text_column"]),
            title: gr.Dropdown([NOTHING, *columns], value=seen["title_column"] or NO_COLUMN),
            label: gr.Dropdown([NOTHING, *columns], value=seen["label_column"] or NO_COLUMN),
            start: gr.Button(interactive=True),
        }

    @shown
    def on_file(sent: str | None) -> Changes:
        """Kept under a name of its own, and taken out of Gradio's hands."""
        if not sent:
            return gr.skip()
        try:
            changes = read(services.host.keep(sent))
        except DemoError as error:
            changes = {
                found: view_problems([str(error)]),
                choices: gr.Row(visible=False),
                upload: "",
                start: gr.Button(interactive=False),
            }
        return {**changes, component_of_file: None}

    @shown
    def on_columns(upload: str, text: str, title: str, label: str) -> Changes:
        try:
            return read(upload, text, title, label)
        except DemoError as error:
            return {found: view_problems([str(error)]), start: gr.Button(interactive=False)}

    @shown
    def on_start(
        upload: str, text: str, title: str, label: str, base: bool, calibrated: bool, adapter: str, keys: Any
    ) -> Changes:
        try:
            asked = ClassifyRequest.read(
                {
                    "file": upload,
                    "adapter": (adapter or "").strip(),
                    "text_column": text,
                    "title_column": title,
                    "label_column": label,
                    "base": base,
                    "calibrated": calibrated,
                }
            )
            started = services.files.start(asked, visitor())
        except DemoError as error:
            return {status: view_problems([str(error)])}
        known = {**as_keys(keys), started.run: started.key}
        return {
            **follow(services.train.job(started.run)),
            mine: (started.run, started.key),
            component_of_keys: known,
            found: "",
            drawn: "",
        }

    @shown
    def on_stop(mine: tuple[str, str]) -> Any:
        services.train.stop(*mine, at_home=True)
        return gr.Button(interactive=False)

    @shown
    def on_tick(mine: tuple[str, str], drawn: str) -> Changes:
        job = services.train.job(mine[0])
        return follow(job, first=drawn != job.id)

    def follow(job: Job, first: bool = False) -> Changes:
        """The job as it is now; `first`: its first rows are not on the page yet. At its end everything is drawn, and
        the timer rests.
        """
        state, name = job.state(), Path(job.settings()["file"]).name
        if not state.is_final:
            last = job.last_event()
            told = last if last and last["event"] == "phase" else None
            running = {
                status: view_progress(name, state.state, told, services.store.position(job)),
                timer: gr.Timer(active=True),
                stop: gr.Button(interactive=state.state != "stopping"),
                start: gr.Button(interactive=False),
                links: "",
                summary: "",
                judged: "",
                delete: gr.Button(visible=False),
                sure: gr.Group(visible=False),
            }
            early = list_rows(job) if first else {}
            return {
                **running,
                **early,
                **({drawn: job.id} if early else {result: gr.Column(visible=False)} if first else {}),
            }
        report = job.report()
        return {
            status: view_ended(name, state.state, without_paths(state.error or ""), report),
            links: view_links({kind: link_to(job.id, kind) for kind in there_are(job)}),
            summary: view_summary(report) if report and report["classified"] else "",
            judged: view_judged(report) if report and report["classified"] else "",
            timer: gr.Timer(active=False),
            stop: gr.Button(interactive=False),
            start: gr.Button(interactive=True),
            delete: gr.Button(visible=True),
            drawn: job.id,
            result: gr.Column(visible=False),
            **list_rows(job),
        }

    def list_rows(job: Job, label: str = EVERY, words: str = "", at: int = 0) -> Changes:
        """A page of the rows; {} before there are any."""
        seen = find_rows(job.folder, label, words, at)
        if seen is None or (not seen.rows and label == EVERY and not words and not at):
            return {}
        return {
            result: gr.Column(visible=True),
            rows: view_rows(seen.layout, seen.rows, not at, label),
            place: at,
            which: gr.Dropdown([EVERY, *seen.layout.labels, NONE], value=label),
            back: gr.Button(interactive=at > 0),
            onward: gr.Button(interactive=seen.more),
        }

    @shown
    def on_search(mine: tuple[str, str], which: str, words: str) -> Changes:
        return list_rows(services.train.job(mine[0]), which, words) or gr.skip()

    @shown
    def on_back(mine: tuple[str, str], which: str, words: str, place: int) -> Changes:
        return list_rows(services.train.job(mine[0]), which, words, max(0, place - 1)) or gr.skip()

    @shown
    def on_onward(mine: tuple[str, str], which: str, words: str, place: int) -> Changes:
        return list_rows(services.train.job(mine[0]), which, words, place + 1) or gr.skip()

    @shown
    def on_delete(followed: tuple[str, str]) -> Changes:
        """Asks first, and says what would go."""
        job = services.train.job(followed[0])
        sent = Path(job.settings()["file"])
        kept = sent.stat().st_size if is_upload(sent, services.store.home) else 0
        return {sure: gr.Group(visible=True), doomed: view_doomed_file(sent.name, job.size_bytes() + kept)}

    @shown
    def on_really(followed: tuple[str, str], kept: str) -> Changes:
        """The page is as before; a file that was sent since stays."""
        sent = Path(services.train.job(followed[0]).settings()["file"]).name
        services.train.delete(*followed, at_home=True)
        gone = (
            {}
            if Path(kept).is_file()
            else {upload: "", choices: gr.Row(visible=False), start: gr.Button(interactive=False)}
        )
        return {
            **gone,
            status: view_deleted(sent),
            links: "",
            summary: "",
            judged: "",
            result: gr.Column(visible=False),
            drawn: "",
            mine: ("", ""),
            delete: gr.Button(visible=False),
            sure: gr.Group(visible=False),
        }

    @shown
    def on_load(keys: Any) -> Changes:
        """The newest file that this browser had classified; at home the newest of all."""
        known = as_keys(keys)
        own = [job for job in services.store.jobs("classify") if services.host.has_key(job.id, known.get(job.id, ""))]
        job = own[0] if own else None if services.host.public else services.store.latest("classify")
        return {**follow(job, first=True), mine: (job.id, known.get(job.id, ""))} if job else gr.skip()

    component_of_file, component_of_keys = sent, keys  # handlers have their values under these names
    private: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 20}
    quiet: dict[str, Any] = {"show_progress": "hidden", **private}
    asked = [upload, text, title, label]
    shows = [
        status,
        links,
        summary,
        judged,
        result,
        rows,
        place,
        drawn,
        which,
        back,
        onward,
        timer,
        stop,
        start,
        delete,
        sure,
        mine,
    ]
    search = [rows, place, which, back, onward, result]
    sent.upload(on_file, sent, [sent, upload, found, choices, text, title, label, start], **private)
    gr.on(
        [text.input, title.input, label.input],
        on_columns,
        asked,
        [upload, found, choices, text, title, label, start],
        **quiet,
    )
    start.click(on_start, [*asked, base, calibrated, adapter, keys], [*shows, found, keys], **private)
    stop.click(on_stop, mine, stop, **private)
    gr.on([which.input, words.submit], on_search, [mine, which, words], search, **quiet)
    back.click(on_back, [mine, which, words, place], search, **quiet)
    onward.click(on_onward, [mine, which, words, place], search, **quiet)
    delete.click(on_delete, mine, [sure, doomed], **private)
    keep.click(lambda: gr.Group(visible=False), None, sure, queue=False, api_visibility="private")
    really.click(on_really, [mine, upload], [*shows, upload, choices], **private)
    timer.tick(on_tick, [mine, drawn], shows, **quiet)
    page.load(on_load, keys, shows, **quiet)
