"""Train: settings, Start and Stop, and the live figure of one run.

A run is a job that goes on without this page; the page only attaches to it by its id."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.blocks import Block

from ...core.config import RunConfig
from ...core.errors import DemoError, SettingsError
from ...core.format import describe_changes
from ...core.presets import PRESETS
from ...host.environment import duplicate_address
from ...host.limits import describe
from ...jobs.store import Job
from ...services.app import Services
from ..handlers import PRIVATE, QUICK, QUIET, Changes, handler, visitor
from ..queries import as_keys, key_of
from ..views import view_downloads, view_limits, view_problems, view_quiet
from .compare_panel import ComparePanel
from .evaluation_report import evaluation_report, report_of
from .form import TYPED, build_form, form_values, keep_in_browser, preset_values, problems_list
from .live_plot import live_plot
from .run_tools_panel import RunToolsPanel, run_choices
from .run_views import view_report

# What a fresh adapter must have in common with the one it starts from, and what goes with it.
INHERITED = ("model", "revision", "precision", "rank", "alpha", "targets", "max_length")
_SUMMARIES = json.dumps({name: preset.summary for name, preset in PRESETS.items()})
EXPLAIN_PRESET = (
    f'(name) => ({{ __type__: "update", info: ({_SUMMARIES})[name] ?? "" }})'  # also of one that a reload brings back
)
DIFFERS = "A run is resumed with its own settings, and the form differs:"


class TrainTab:
    """`fields`: the form, by setting; `reason`: the line that says where its values come from. `keys`: run to key, of
    the runs that this browser started; `adapters`: the choice of adapters, to which runs add theirs.
    """

    def __init__(self, services: Services, page: gr.Blocks, keys: gr.BrowserState, adapters: gr.Dropdown):
        self._services, self._keys, self._adapters = services, keys, adapters
        # Three blocks in a grid: on a phone the figure comes right after the buttons, the settings last.
        with gr.Row(elem_classes="train-grid"):
            with gr.Column(elem_classes="train-begin", min_width=0):
                self._layout_start()
                self._layout_question()
            with gr.Column(elem_classes="train-watch", min_width=0):
                self._layout_run()
            with gr.Column(elem_classes="train-settings", min_width=0):
                self.fields = build_form()
        self._typed = gr.Checkbox(visible=False)  # whether the browser keeps a form; its value comes from there
        # All that shows a run.
        self._shows = [self.live, self.run, self.stop, self.resume, self.start_from, self.apply, self.own]
        self._shows += [self.report, self.evaluation, adapters]
        keep_in_browser(page, {"preset": self.preset, **self.fields})
        self._wire_start()
        self._wire_run()
        self._wire_page(page)

    def _layout_start(self) -> None:
        self.preset = gr.Dropdown(
            [(item.title, name) for name, item in PRESETS.items()],
            value="sample",
            label="Preset",
            info=PRESETS["sample"].summary,
            elem_id="train-preset",
        )
        self.reason = gr.HTML(view_quiet("Checking this machine …"), elem_id="train-reason")
        with gr.Row():
            self.start = gr.Button("Start training", variant="primary", elem_id="train-start")
            self.stop = gr.Button("Stop and keep", interactive=False, elem_id="train-stop")
        with gr.Row():
            self.resume = gr.Button("Resume", visible=False, elem_id="train-resume")
            self.start_from = gr.Button("Start from this adapter", visible=False, elem_id="train-start-from")
            self.apply = gr.Button("Start with what fits", variant="primary", visible=False, elem_id="train-apply")
        if self._services.host.public:
            gr.HTML(view_limits(describe(), duplicate_address()), elem_id="train-limits")

    def _layout_question(self) -> None:
        self.problems = problems_list()
        self.own = gr.Button("Resume with the run's own settings", visible=False, elem_id="train-resume-own")
        with gr.Group(visible=False) as self.asking:
            self.question = gr.HTML(elem_id="train-ask")
            with gr.Row():
                self.fetch = gr.Button("Download and start", variant="primary", elem_id="train-fetch")
                self.refuse = gr.Button("Do not download", elem_id="train-refuse")

    def _layout_run(self) -> None:
        self.live: Any = live_plot(self._services)
        self.report = gr.HTML(elem_id="train-report")
        self.evaluation = evaluation_report(self._services)
        self.run = gr.Dropdown(
            [],
            label="Show another run",
            info="Newest first; a run goes on when this page is closed.",
            elem_id="train-run",
        )
        ComparePanel(self._services, self.live, self.run, self._keys)
        self.tools = RunToolsPanel(self._services, self.live, self.run, self._adapters, self._keys)

    def _wire_start(self) -> None:
        form: dict[str, Block] = {"keys": self._keys, **self.fields}
        started = [*self._shows, self._keys, self.problems, self.asking, self.question]
        self.start.click(self.on_start, inputs_kwargs=form, outputs=started, **QUICK)
        self.fetch.click(self.on_fetch, inputs_kwargs=form, outputs=started, **QUICK)
        self.refuse.click(lambda: gr.Group(visible=False), None, self.asking, queue=False, **PRIVATE)
        self.apply.click(self.on_apply, [self.live, self._keys], [*started, *self.fields.values()], **QUICK)

    def _wire_run(self) -> None:
        live_key, form = [self.live, self._keys], {"live": self.live, "keys": self._keys, **self.fields}
        resumed = [self.live, self.run, self.own, self.problems]
        self.stop.click(self.on_stop, live_key, self.stop, **QUICK)
        self.start_from.click(self.on_start_from, self.live, [self.reason, *self.fields.values()], **QUICK)
        for event in (
            self.resume.click(self.on_resume, inputs_kwargs=form, outputs=[*resumed, self.asking], **QUICK),
            self.own.click(self.on_own, live_key, [*resumed, *self.fields.values()], **QUICK),
        ):
            event.success(self.on_resumed, [self.live, self.run, self._keys], self._shows, **QUIET)
        self.run.input(self.on_run, [self.run, self._keys], self._shows, **QUIET)
        self.live.settled(self.on_settled, live_key, self._shows, **QUIET)
        self.tools.wire(self._shows, self.newest)

    def _wire_page(self, page: gr.Blocks) -> None:
        filled = [self.reason, self.problems, *self.fields.values()]
        self.preset.input(None, self.preset, filled, js=preset_values(self.fields), **PRIVATE)
        self.preset.change(None, self.preset, self.preset, js=EXPLAIN_PRESET, **PRIVATE)
        page.load(self.on_load, self._keys, self._shows, **QUIET)
        machine = [self.reason, self.preset, *self.fields.values()]
        page.load(self.on_machine, self._typed, machine, js=TYPED, **QUIET)

    # --- what the page shows of a run --------------------------------------------------------------------------------

    def show(self, job: Job, keys: Any = None) -> Changes:
        """All that the page shows of a run; `keys`: those that this browser has."""
        service, ended = self._services.train, job.state().is_final
        report = report_of(job)
        suggested = service.suggestion(job.id, key_of(keys, job.id)) if ended else None
        fitting = fitting_words(service.settings(job.id), suggested) if suggested else None
        return {
            self.live: job.id,
            self.run: gr.Dropdown(run_choices(self._services), value=job.id),
            self.stop: gr.Button(interactive=not ended),
            self.resume: gr.Button(visible=ended and job.state().state != "done"),
            self.start_from: gr.Button(visible=ended and (job.folder / "adapter").is_dir()),
            self.apply: gr.Button(fitting, visible=True) if fitting else gr.Button(visible=False),
            self.own: gr.Button(visible=False),
            self.report: view_report(report) if ended else "",
            self.evaluation: job.id if report and ended else "",
            self._adapters: gr.Dropdown(self._services.classify.adapters()),
        }

    def newest(self, keys: Any = None) -> Changes:
        """The active run, else the newest."""
        job = self._services.store.latest("train")
        if job is not None:
            return self.show(job, keys)
        buttons = (self.resume, self.start_from, self.apply, self.own)
        return {
            **dict.fromkeys((self.live, self.report, self.evaluation), ""),
            self.run: gr.Dropdown([], value=None),
            self.stop: gr.Button(interactive=False),
            **{button: gr.Button(visible=False) for button in buttons},
            self._adapters: gr.Dropdown(self._services.classify.adapters()),
        }

    @handler
    def on_run(self, run: str | None, keys: Any) -> Changes:
        """Another run into the figure."""
        return self.show(self._services.train.job(run), keys) if run else gr.skip()

    @handler
    def on_settled(self, live: str, keys: Any) -> Changes:
        """The run in the figure has ended: its report, and its adapter among those to classify with."""
        changes = self.show(self._services.train.job(live), keys)
        return {component: change for component, change in changes.items() if component is not self.live}

    @handler
    def on_load(self, keys: Any) -> Changes:
        return self.newest(keys)

    @handler
    def on_machine(self, typed: Any) -> Changes:
        """The preset that fits this machine, and why; a form that was typed into is left alone."""
        if typed:
            return {self.reason: view_quiet("The settings are as you left them in this browser.")}
        machine = self._services.machine.get()
        reason = {self.reason: view_quiet(f"Chosen because {machine.preset_reason}.")}
        if machine.preset == "sample" or self._services.host.public:  # larger ones are beyond a public host's limits
            return reason
        values = form_values(PRESETS[machine.preset].config, self.fields)
        return {**reason, self.preset: gr.Dropdown(value=machine.preset), **values}

    # --- starting ----------------------------------------------------------------------------------------------------

    @handler
    def on_start(self, keys: Any, **settings: Any) -> Changes:
        return self._submit(keys, settings, confirmed=False)

    @handler
    def on_fetch(self, keys: Any, **settings: Any) -> Changes:
        return self._submit(keys, settings, confirmed=True)

    @handler
    def on_apply(self, live: str, keys: Any) -> Changes:
        """The run whose memory ran out, once more, with the change that is predicted to fit; the form shows it."""
        config = self._services.train.suggestion(live, key_of(keys, live))
        return {**self._begin(config, keys), **form_values(config, self.fields)} if config else gr.skip()

    def _submit(self, keys: Any, settings: Mapping[str, Any], confirmed: bool) -> Changes:
        try:
            config = RunConfig.read(settings)
            self._services.train.check(config)  # before one is asked about downloads
            downloads = [] if confirmed else self._services.needed_downloads(config)
            if downloads:
                question = view_downloads(downloads)
                return {self.problems: "", self.asking: gr.Group(visible=True), self.question: question}
            return self._begin(config, keys)
        except DemoError as error:
            return self._refused(error)

    def _begin(self, config: RunConfig, keys: Any) -> Changes:
        """The run is submitted, and shown."""
        started = self._services.train.start(config, visitor())
        return {
            **self.show(self._services.train.job(started.run)),
            self._keys: {**as_keys(keys), started.run: started.key},
            self.problems: "",
            self.asking: gr.Group(visible=False),
        }

    def _refused(self, error: DemoError, title: str = "") -> Changes:
        """All problems of the form, and the fields that they are about; everything else stays as it is."""
        problems = error.problems if isinstance(error, SettingsError) else [str(error)]
        return {self.problems: view_problems(problems, title), self.asking: gr.Group(visible=False)}

    # --- a run that there is -----------------------------------------------------------------------------------------

    @handler
    def on_stop(self, live: str, keys: Any) -> Any:
        self._services.train.stop(live, key_of(keys, live), at_home=True)
        return gr.Button(interactive=False)

    @handler
    def on_resume(self, live: str, keys: Any, **settings: Any) -> Changes:
        """Goes on where the form has the run's own settings; else says what differs, and loses nothing."""
        try:
            config = RunConfig.read(settings)
            self._services.train.resume(live, key_of(keys, live), config, visitor(), at_home=True)
        except SettingsError as error:
            return {**self._refused(error, DIFFERS), self.own: gr.Button(visible=True)}
        return self._resumed(live)

    @handler
    def on_own(self, live: str, keys: Any) -> Changes:
        self._services.train.resume(live, key_of(keys, live), visitor=visitor(), at_home=True)
        return {**self._resumed(live), **form_values(self._services.train.settings(live), self.fields)}

    def _resumed(self, run: str) -> Changes:
        """The figure is emptied, and filled again by `on_resumed`: it watches its value, and the run stays the same."""
        choice = gr.Dropdown(run_choices(self._services), value=run)
        return {self.live: "", self.run: choice, self.problems: "", self.own: gr.Button(visible=False)}

    @handler
    def on_resumed(self, live: str, run: str | None, keys: Any) -> Changes:
        """After a resumption, which has emptied the figure; one that was refused has not."""
        return self.show(self._services.train.job(run), keys) if run and not live else gr.skip()

    @handler
    def on_start_from(self, live: str) -> Changes:
        """The form is made to fit the shown run's adapter; the rest of it stays."""
        config = self._services.train.settings(live).model_copy(update={"start_from": live})
        values = form_values(config, self.fields)
        reason = f"The next run starts from the adapter of {live}: change what you like, then start it."
        inherited = {self.fields[name]: values[self.fields[name]] for name in (*INHERITED, "start_from")}
        return {self.reason: view_quiet(reason), **inherited}


def fitting_words(config: RunConfig, suggested: RunConfig) -> str:
    """What the button says that starts a run with what is predicted to fit."""
    old, new = config.to_dict(), suggested.to_dict()
    return f"Start with {describe_changes({name: new[name] for name in new if new[name] != old[name]})}"
