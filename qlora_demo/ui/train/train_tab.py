"""Train: settings, Start and Stop, and the live figure of one run.

A run is a job that goes on without this page; the page only attaches to it by its id. Handlers hand back what changes
on the page, by component."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from ...core.config import RunConfig
from ...core.errors import DemoError, SettingsError
from ...core.format import describe_changes
from ...core.presets import PRESETS
from ...core.records import Download
from ...core.run_report import RunReport
from ...host.environment import duplicate_address
from ...host.limits import describe
from ...jobs.store import Job
from ...services.app import Services
from ..handlers import shown, visitor
from ..queries import as_keys, key_of
from ..views import view_downloads, view_limits, view_problems
from .compare_panel import build_compare_panel
from .evaluation_report import judgement
from .form import TYPED, build_form, form_values, keep_in_browser, problems_list
from .live_plot import live_plot
from .run_tools import Changes, build_run_tools, run_choices
from .run_views import view_report

# What a fresh adapter must have in common with the one it starts from, and what goes with it.
INHERITED = ("model", "revision", "precision", "rank", "alpha", "targets", "max_length")
_SUMMARIES = json.dumps({name: preset.summary for name, preset in PRESETS.items()})
EXPLAIN_PRESET = (
    f'(name) => ({{ __type__: "update", info: ({_SUMMARIES})[name] ?? "" }})'  # also of one that a reload brings back
)


def build_train_tab(
    services: Services, page: gr.Blocks, keys: gr.BrowserState, adapters: gr.Dropdown
) -> tuple[dict[str, Component], gr.HTML]:
    """Layout, then events; returns the form's fields by setting, and the line that says where their values come from.

    `keys`: run to key, of the runs that this browser started; `adapters` hears of new ones.
    """
    # Three blocks in a grid: on a phone the figure comes right after the buttons, the settings last.
    with gr.Row(elem_classes="train-grid"):
        with gr.Column(elem_classes="train-begin", min_width=0):
            preset = gr.Dropdown(
                [(item.title, name) for name, item in PRESETS.items()],
                value="sample",
                label="Preset",
                info=PRESETS["sample"].summary,
                elem_id="train-preset",
            )
            reason = gr.HTML('<p class="quiet">Looking at this machine …</p>', elem_id="train-reason")
            with gr.Row():
                start = gr.Button("Start training", variant="primary", elem_id="train-start")
                stop = gr.Button("Stop and keep", interactive=False, elem_id="train-stop")
            with gr.Row():
                resume = gr.Button("Resume", visible=False, elem_id="train-resume")
                onward = gr.Button("Start from this adapter", visible=False, elem_id="train-start-from")
                apply = gr.Button("Start with what fits", variant="primary", visible=False, elem_id="train-apply")
            if services.host.public:
                gr.HTML(view_limits(describe(), duplicate_address()), elem_id="train-limits")
            problems = problems_list()
            own = gr.Button("Resume with the run's own settings", visible=False, elem_id="train-resume-own")
            with gr.Group(visible=False) as asking:
                ask = gr.HTML(elem_id="train-ask")
                with gr.Row():
                    fetch = gr.Button("Download and start", variant="primary", elem_id="train-fetch")
                    refuse = gr.Button("Do not download", elem_id="train-refuse")
        with gr.Column(elem_classes="train-watch", min_width=0):
            live = live_plot(services)
            report = gr.HTML(elem_id="train-report")
            judged = judgement(services)
            run = gr.Dropdown(
                [],
                label="Show another run",
                info="Newest first; a run goes on when this page is closed.",
                elem_id="train-run",
            )
            shows = [live, run, stop, resume, onward, apply, own, report, judged, adapters]
            build_compare_panel(services, live, run, keys)
            build_run_tools(services, live, run, adapters, keys, shows, lambda: newest())
        with gr.Column(elem_classes="train-settings", min_width=0):
            fields = build_form()
    keep_in_browser(page, {"preset": preset, **fields})
    typed = gr.Checkbox(visible=False)  # whether the browser keeps a form; its value comes from there
    figure = live  # handlers have its value under that name

    def show(job: Job, known: Any = None) -> Changes:
        """All that the page shows of a run; `known`: the keys that this browser has."""
        state, found = job.state(), job.report(RunReport)
        ended = state.is_final
        suggested = services.train.suggestion(job.id, key_of(known, job.id)) if ended else None
        return {
            live: job.id,
            run: gr.Dropdown(run_choices(services), value=job.id),
            stop: gr.Button(interactive=not ended),
            resume: gr.Button(visible=ended and state.state != "done"),
            onward: gr.Button(visible=ended and (job.folder / "adapter").is_dir()),
            apply: gr.Button(fitting_words(services.train.settings(job.id), suggested), visible=True)
            if suggested
            else gr.Button(visible=False),
            own: gr.Button(visible=False),
            report: view_report(found),
            judged: job.id if found and ended else "",
            adapters: gr.Dropdown(services.classify.adapters()),
        }

    def newest(known: Any = None) -> Changes:
        """The active run, else the newest."""
        job = services.store.latest("train")
        if job is not None:
            return show(job, known)
        return {
            live: "",
            run: gr.Dropdown([], value=None),
            stop: gr.Button(interactive=False),
            report: "",
            judged: "",
            **{button: gr.Button(visible=False) for button in (resume, onward, apply, own)},
            adapters: gr.Dropdown(services.classify.adapters()),
        }

    def begin(config: RunConfig, known: dict[str, str]) -> Changes:
        """The run is submitted, and shown."""
        started = services.train.start(config, visitor())
        return {
            **show(services.train.job(started.run)),
            keys: {**as_keys(known), started.run: started.key},
            problems: "",
            asking: gr.Group(visible=False),
        }

    def refused(error: DemoError, title: str = "") -> Changes:
        """All problems of the form, and the fields that they are about; everything else stays as it is."""
        found = error.problems if isinstance(error, SettingsError) else [str(error)]
        return {problems: view_problems(found, title), asking: gr.Group(visible=False)}

    def submit(known: dict[str, str], settings: dict[str, Any], confirmed: bool) -> Changes:
        try:
            config = RunConfig.read(settings)
            services.train.check(config)  # before one is asked about downloads
            downloads: Sequence[Download] = [] if confirmed else services.needed_downloads(config)
            if downloads:
                return {problems: "", asking: gr.Group(visible=True), ask: view_downloads(downloads)}
            return begin(config, known)
        except DemoError as error:
            return refused(error)

    @shown
    def on_start(keys: dict[str, str], **settings: Any) -> Changes:
        return submit(keys, settings, confirmed=False)

    @shown
    def on_fetch(keys: dict[str, str], **settings: Any) -> Changes:
        return submit(keys, settings, confirmed=True)

    @shown
    def on_apply(live: str, keys: dict[str, str]) -> Changes:
        """The run whose memory ran out, once more, with the change that is predicted to fit; the form shows it."""
        config = services.train.suggestion(live, key_of(keys, live))
        return {**begin(config, keys), **form_values(config, fields)} if config else gr.skip()

    @shown
    def on_stop(live: str, keys: dict[str, str]) -> Any:
        services.train.stop(live, key_of(keys, live), at_home=True)
        return gr.Button(interactive=False)

    @shown
    def on_resume(live: str, keys: dict[str, str], **settings: Any) -> Changes:
        """Goes on where the form says what the run was started with; else says what differs, and loses nothing."""
        try:
            services.train.resume(live, key_of(keys, live), RunConfig.read(settings), visitor(), at_home=True)
        except SettingsError as error:
            return {
                **refused(error, "A run is resumed with its own settings, and the form differs:"),
                own: gr.Button(visible=True),
            }
        return again(live)

    @shown
    def on_own(live: str, keys: dict[str, str]) -> Changes:
        services.train.resume(live, key_of(keys, live), visitor=visitor(), at_home=True)
        return {**again(live), **form_values(services.train.settings(live), fields)}

    def again(run_id: str) -> Changes:
        """The figure is emptied, and filled anew by `on_show`: it watches its value, and the run stays the same."""
        return {
            live: "",
            run: gr.Dropdown(run_choices(services), value=run_id),
            problems: "",
            own: gr.Button(visible=False),
        }

    @shown
    def on_onward(live: str) -> Changes:
        """The form is made to fit the shown run's adapter; the rest of it stays."""
        values = form_values(services.train.settings(live).model_copy(update={"start_from": live}), fields)
        told = (
            f'<p class="quiet">The next run starts from the adapter of {live}: change what you like, then start it.</p>'
        )
        return {reason: told, **{fields[name]: values[fields[name]] for name in (*INHERITED, "start_from")}}

    @shown
    def on_show(run: str | None, keys: Any) -> Changes:
        """Another run into the figure."""
        return show(services.train.job(run), keys) if run else gr.skip()

    @shown
    def on_again(live: str, run: str | None, keys: Any) -> Changes:
        """After a resumption, which has emptied the figure; one that was refused has not."""
        return show(services.train.job(run), keys) if run and not live else gr.skip()

    @shown
    def on_settled(live: str, keys: Any) -> Changes:
        """The run in the figure has ended: its report, and its adapter among those to classify with."""
        return {name: value for name, value in show(services.train.job(live), keys).items() if name is not figure}

    @shown
    def on_load(keys: Any) -> Changes:
        return newest(keys)

    @shown
    def on_machine(typed: Any) -> Changes:
        """The preset that fits this machine, and why; a form that was typed into is left alone."""
        if typed:
            return {reason: '<p class="quiet">The settings are as you left them in this browser.</p>'}
        machine = services.machine.get()
        why = {reason: f'<p class="quiet">Chosen because {machine.preset_reason}.</p>'}
        if machine.preset == "sample" or services.host.public:  # larger ones are beyond a public host's limits
            return why
        return {**why, preset: gr.Dropdown(value=machine.preset), **form_values(PRESETS[machine.preset].config, fields)}

    private: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 20}
    form: dict[str, Any] = {"keys": keys, **fields}
    begins = [*shows, keys, problems, asking, ask]
    start.click(on_start, inputs_kwargs=form, outputs=begins, **private)
    fetch.click(on_fetch, inputs_kwargs=form, outputs=begins, **private)
    refuse.click(lambda: gr.Group(visible=False), None, asking, queue=False, api_visibility="private")
    apply.click(on_apply, [live, keys], [*begins, *fields.values()], **private)
    stop.click(on_stop, [live, keys], stop, **private)
    onward.click(on_onward, live, [reason, *fields.values()], **private)
    resumed = resume.click(
        on_resume, inputs_kwargs={"live": live, **form}, outputs=[live, run, own, problems, asking], **private
    )
    owned = own.click(on_own, [live, keys], [live, run, own, problems, *fields.values()], **private)
    run.input(on_show, [run, keys], shows, show_progress="hidden", **private)
    for again_shown in (resumed, owned):
        again_shown.success(on_again, [live, run, keys], shows, show_progress="hidden", **private)
    live.settled(on_settled, [live, keys], shows, show_progress="hidden", **private)
    preset.input(None, preset, [reason, problems, *fields.values()], js=fill_in(fields), api_visibility="private")
    preset.change(None, preset, preset, js=EXPLAIN_PRESET, api_visibility="private")
    page.load(on_load, keys, shows, show_progress="hidden", **private)
    page.load(on_machine, typed, [reason, preset, *fields.values()], js=TYPED, show_progress="hidden", **private)
    return fields, reason


def fill_in(fields: dict[str, Component]) -> str:
    """A preset's values into the form, by the browser itself: the form need not wait for the server."""
    known = {name: ["", "", *form_values(item.config, fields).values()] for name, item in PRESETS.items()}
    return f"(name) => ({json.dumps(known)})[name]"


def fitting_words(config: RunConfig, suggested: RunConfig) -> str:
    """What the button says that starts a run with what is predicted to fit."""
    had, new = config.to_dict(), suggested.to_dict()
    return f"Start with {describe_changes({name: new[name] for name in new if new[name] != had[name]})}"
