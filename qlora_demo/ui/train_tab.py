"""Train: settings, Start and Stop, and the live figure of one run.

A run is a job that goes on without this page; the page only attaches to it by its id.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from ..config import PRESETS, RunConfig
from ..errors import DemoError, SettingsError
from ..jobs.queue import LONGEST_NAME
from ..jobs.store import Job
from ..records import Download
from ..services import Services
from .form import FIRST, build_fields, other_fields
from .handlers import shown
from .live_plot import live_plot
from .views import view_doomed, view_downloads, view_problems, view_report


def build_train_tab(services: Services, page: gr.Blocks, keys: gr.BrowserState, adapters: gr.Dropdown) -> None:
    """Layout, then events. `keys`: run to key, of the runs that this browser started; `adapters` hears of new ones."""
    # Three blocks in a grid: on a phone the figure comes right after the buttons, the settings last.
    with gr.Row(elem_classes="train-grid"):
        with gr.Column(elem_classes="train-begin", min_width=0):
            preset = gr.Dropdown([(item.title, name) for name, item in PRESETS.items()], value="sample", label="Preset",
                                 info=PRESETS["sample"].summary, elem_id="train-preset")  # fmt: skip
            reason = gr.HTML('<p class="quiet">Looking at this machine …</p>', elem_id="train-reason")
            with gr.Row():
                start = gr.Button("Start training", variant="primary", elem_id="train-start")
                stop = gr.Button("Stop and keep", interactive=False, elem_id="train-stop")
                resume = gr.Button("Resume", visible=False, elem_id="train-resume")
            problems = gr.HTML(elem_id="train-problems")
            with gr.Group(visible=False) as asking:
                ask = gr.HTML(elem_id="train-ask")
                with gr.Row():
                    fetch = gr.Button("Download and start", variant="primary", elem_id="train-fetch")
                    refuse = gr.Button("Do not download", elem_id="train-refuse")
        with gr.Column(elem_classes="train-watch", min_width=0):
            live = live_plot(services)
            report = gr.HTML(elem_id="train-report")
            run = gr.Dropdown([], label="Show another run", info="Newest first; a run goes on when this page is closed.",
                              elem_id="train-run")  # fmt: skip
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
        with gr.Column(elem_classes="train-settings", min_width=0):
            fields = build_fields(["model", "data"])
            with gr.Row(elem_classes="pairs"):
                fields |= build_fields(FIRST)
            with gr.Accordion("All other settings", open=False):
                fields |= build_fields(other_fields())

    outputs = [live, run, keys, stop, resume, problems, asking, ask, report]

    def attach(found: str, known: dict[str, str]) -> list[Any]:
        """The page shows the run `found`."""
        choices = gr.Dropdown(run_choices(services), value=found)
        return [found, choices, known, gr.Button(interactive=True), gr.Button(visible=False), "", gr.Group(visible=False), "", ""]

    def submit(known: dict[str, str], settings: dict[str, Any], confirmed: bool) -> list[Any]:
        try:
            config = RunConfig.read(settings)
            downloads = [] if confirmed else services.needed_downloads(config)
            if downloads:
                return asked(downloads)
            started = services.start_run(config)
        except SettingsError as error:
            return refused(list(error.problems.values()))
        except DemoError as error:
            return refused([str(error)])
        return attach(started.run, {**(known or {}), started.run: started.key})

    @shown
    def on_start(keys: dict[str, str], **settings: Any) -> list[Any]:
        return submit(keys, settings, confirmed=False)

    @shown
    def on_fetch(keys: dict[str, str], **settings: Any) -> list[Any]:
        return submit(keys, settings, confirmed=True)

    @shown
    def on_stop(live: str, keys: dict[str, str]) -> Any:
        services.stop_run(live, (keys or {}).get(live, ""), at_home=True)
        return gr.Button(interactive=False)

    @shown
    def on_resume(live: str, keys: dict[str, str]) -> list[Any]:
        """The figure is emptied, and filled anew by `on_show`: it watches its value, and the run stays the same."""
        services.resume_run(live, (keys or {}).get(live, ""), at_home=True)
        return ["", gr.Dropdown(run_choices(services), value=live)]

    @shown
    def on_rename(live: str, name: str, keys: dict[str, str]) -> list[Any]:
        services.rename_run(live, name, (keys or {}).get(live, ""), at_home=True)
        return ["", gr.Dropdown(run_choices(services), value=live), gr.Dropdown(services.adapters())]

    @shown
    def on_delete(live: str) -> list[Any]:
        """Asks first, and says what would go."""
        job = services.job(live)
        return [gr.Group(visible=True), view_doomed(job.summary(), job.size_bytes())]

    @shown
    def on_really(live: str, keys: dict[str, str]) -> list[Any]:
        services.delete_run(live, (keys or {}).get(live, ""), at_home=True)
        return [gr.Group(visible=False), *on_load()]

    @shown
    def on_show(run: str | None) -> list[Any]:
        """Another run into the figure."""
        if not run:
            return [gr.skip()] * 4
        job = services.job(run)
        return [run, *buttons(job), view_report(job.report())]

    @shown
    def on_settled(live: str) -> list[Any]:
        """The run in the figure has ended: its report, and its adapter among those to classify with."""
        job = services.job(live)
        return [*buttons(job), view_report(job.report()), gr.Dropdown(run_choices(services), value=live),
                gr.Dropdown(services.adapters())]  # fmt: skip

    @shown
    def on_load() -> list[Any]:
        """Re-attach: to the active run, else to the newest."""
        job = services.latest("train")
        if job is None:
            return ["", gr.Dropdown(run_choices(services)), *[gr.skip()] * 3, gr.Dropdown(services.adapters())]
        return [job.id, gr.Dropdown(run_choices(services), value=job.id), *buttons(job),
                view_report(job.report()), gr.Dropdown(services.adapters())]  # fmt: skip

    @shown
    def on_machine() -> list[Any]:
        """The preset that fits this machine, and why; the form is left alone where that is what it shows already."""
        machine = services.machine()
        why = f'<p class="quiet">Chosen because {machine.preset_reason}.</p>'
        if machine.preset == "sample":
            return [why, gr.skip(), *[gr.skip()] * len(fields)]
        return [why, gr.Dropdown(value=machine.preset), *preset_values(machine.preset)]

    @shown
    def on_preset(preset: str) -> list[Any]:
        return [gr.Dropdown(info=PRESETS[preset].summary), "", *preset_values(preset)]

    private: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 20}
    start.click(on_start, inputs_kwargs={"keys": keys, **fields}, outputs=outputs, **private)
    fetch.click(on_fetch, inputs_kwargs={"keys": keys, **fields}, outputs=outputs, **private)
    refuse.click(lambda: gr.Group(visible=False), None, asking, queue=False, api_visibility="private")
    stop.click(on_stop, [live, keys], stop, **private)
    resumed = resume.click(on_resume, [live, keys], [live, run], **private)
    shows = [live, run, stop, resume, report, adapters]
    rename.click(on_rename, [live, name, keys], [name, run, adapters], **private)
    delete.click(on_delete, live, [sure, doomed], **private)
    keep.click(lambda: gr.Group(visible=False), None, sure, queue=False, api_visibility="private")
    really.click(on_really, [live, keys], [sure, *shows], **private)
    for chosen in (run.input, resumed.success):
        chosen(on_show, run, [live, stop, resume, report], show_progress="hidden", **private)
    live.settled(on_settled, live, [stop, resume, report, run, adapters], show_progress="hidden", **private)
    preset.input(on_preset, preset, [preset, reason, *fields.values()], show_progress="hidden", **private)
    page.load(on_load, None, shows, show_progress="hidden", **private)
    page.load(on_machine, None, [reason, preset, *fields.values()], show_progress="hidden", **private)


def buttons(job: Job) -> tuple[gr.Button, gr.Button]:
    """Stop for a run that goes on, Resume for one that ended before it was done."""
    state = job.state()
    return gr.Button(interactive=not state.is_final), gr.Button(visible=state.is_final and state.state != "done")


def preset_values(name: str) -> list[Any]:
    """The preset's settings, in the order of the form."""
    settings = PRESETS[name].config.to_dict()
    return [settings[field] for field in ("model", "data", *FIRST, *other_fields())]


def run_choices(services: Services) -> list[tuple[str, str]]:
    """(what to show, id) of the training runs, newest first."""
    def words(run: dict[str, Any]) -> str:
        return f"{run['name'] or run['run']} · {Path(str(run['model'])).name} on {Path(str(run['data'])).name} · {run['state']}"

    return [(words(run), run["run"]) for run in services.runs()]


def refused(sentences: list[str]) -> list[Any]:
    """All problems of the form; everything else stays as it is."""
    return [*[gr.skip()] * 5, view_problems(sentences), gr.Group(visible=False), gr.skip(), gr.skip()]


def asked(downloads: list[Download]) -> list[Any]:
    """The question before anything is fetched."""
    return [*[gr.skip()] * 5, "", gr.Group(visible=True), view_downloads(downloads), gr.skip()]
