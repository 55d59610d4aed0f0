"""Publish: every file that would leave this machine is shown first; then it goes to the Hub, into a zip, or is merged.

In a Space the visitor signs in, and the visitor's own token publishes; at home it is that of `hf auth login`. A token
is used and forgotten: it is no component's value and no record's."""

from __future__ import annotations

import os
from typing import Any

import gradio as gr

from ...core.errors import AlreadyThere, DemoError, HubError
from ...core.names import SAMPLE
from ...host.environment import on_space
from ...services.app import Services
from ...storage.packs import LICENCES
from ..cancellations import Cancellations
from ..handlers import AT_ONCE, PRIVATE, PROGRESS, QUIET, Changes, Slow, handler
from ..queries import key_of
from ..views import view_problems, view_quiet
from .pack_panel import PackPanel
from .publish_views import view_account, view_file, view_files, view_published, view_taken

SIGN_IN = "You are not signed in, or your login has expired; sign in above, then publish again."
TAKE_IT = "Nobody can sign in on this page; make a zip below, and publish it from your own machine."
NOT_YET = "Nothing leaves this machine before you press Publish. Preview every file first."


class PublishTab:
    """`keys`: run to key, of the runs that this browser started."""

    def __init__(self, services: Services, tab: gr.Tab, keys: gr.BrowserState):
        self._services, self._keys, self._cancellations = services, keys, Cancellations()
        with gr.Row():
            with gr.Column(min_width=320):
                self._layout_form()
                self._layout_sending()
            with gr.Column(min_width=320):
                self.publication = gr.State(None)  # the one that is shown
                self.files = gr.HTML(view_quiet(NOT_YET), elem_id="publish-files")
                self.file = gr.Dropdown(
                    [], label="Show a file as it would be published", visible=False, elem_id="publish-file"
                )
                self.content = gr.HTML(elem_id="publish-content")
        at_once = AT_ONCE if services.host.public else 2
        self._slow: Slow = {"concurrency_limit": at_once, "concurrency_id": "publish", **PRIVATE}
        PackPanel(services, self.adapter, self.licence, keys, self._slow)
        self._wire(tab)

    def _layout_form(self) -> None:
        self.adapter = gr.Dropdown(
            [("Shipped with the app (MiniLM, sample reviews)", SAMPLE)],
            value=SAMPLE,
            label="Adapter",
            info="A run's best checkpoint, verified to load again.",
            elem_id="publish-adapter",
        )
        self.account = gr.HTML(elem_id="publish-account")
        if os.environ.get(
            "OAUTH_CLIENT_ID"
        ):  # elsewhere Gradio's button would end the app: it asks for a login at start
            gr.LoginButton(elem_id="publish-login", size="sm")
        self.repo = gr.Textbox(
            label="Name on the Hub",
            placeholder="user/name",
            max_lines=1,
            max_length=200,
            info="Creates a new repository; never overwrites someone else's.",
            elem_id="publish-repo",
        )
        self.licence = gr.Dropdown(
            [("none chosen", ""), *((name, name) for name in LICENCES)],
            value="",
            label="Licence",
            info="Yours to choose; base and reviews have their own.",
            elem_id="publish-licence",
        )
        self.private = gr.Checkbox(
            label="Private", info="Only you can see it, until you change that on its page.", elem_id="publish-private"
        )

    def _layout_sending(self) -> None:
        with gr.Row():
            self.preview = gr.Button("Preview", elem_id="publish-look")
            self.send = gr.Button("Publish", variant="primary", elem_id="publish-send")
        self.stop = gr.Button("Stop", visible=False, elem_id="publish-stop")
        self.status = gr.HTML(elem_id="publish-status")
        with gr.Group(visible=False) as self.asking:
            self.question = gr.HTML(elem_id="publish-ask")
            with gr.Row():
                self.replace = gr.Button("Replace it", variant="stop", elem_id="publish-replace")
                self.leave = gr.Button("Leave it", elem_id="publish-leave")

    def _wire(self, tab: gr.Tab) -> None:
        tab.select(self.on_open, self.adapter, [self.adapter, self.account, self.repo], **QUIET)
        shown = [self.publication, self.status, self.files, self.file, self.content]
        form = [self.adapter, self.repo, self.licence, self._keys]
        self.preview.click(self.on_preview, form, shown, show_progress_on=self.files, **self._slow)
        self.file.input(self.on_file, [self.publication, self.file], self.content, **QUIET)
        sending = [self.stop, self.asking, self.question, self.status]
        begun = [self.stop, self.asking, self.status]
        for button, replace in ((self.send, False), (self.replace, True)):
            button.click(self._begin, None, begun, queue=False, **PRIVATE)
            inputs = [*form, self.private, gr.State(replace)]
            button.click(self.on_send, inputs, sending, show_progress_on=self.status, **self._slow)
        self.stop.click(self.on_stop, None, self.stop, **QUIET)
        self.leave.click(lambda: gr.Group(visible=False), None, self.asking, queue=False, **PRIVATE)

    @handler
    def on_open(self, adapter: str | None, profile: gr.OAuthProfile | None = None) -> Changes:
        services = self._services
        choices = services.classify.adapters()
        chosen = adapter if adapter in {name for _, name in choices} else SAMPLE
        user = profile.username if profile else None if services.host.public else services.publish.hub_user()
        return {
            self.adapter: gr.Dropdown(choices, value=chosen),
            self.account: view_account(user, services.host.public),
            self.repo: gr.Textbox(placeholder=f"{user or 'user'}/star-ratings"),
        }

    @handler
    def on_preview(self, adapter: str, repo: str, licence: str, keys: Any) -> Changes:
        try:
            source = self._services.publish.check_takeable(adapter or "", key_of(keys, adapter))
            publication = self._services.publish.prepare(source, repo=(repo or "").strip(), licence=licence or "")
        except DemoError as error:
            return {self.status: view_problems([str(error)])}
        names = [file.name for file in publication.files]
        return {
            self.publication: publication,
            self.status: "",
            self.files: view_files(publication),
            self.file: gr.Dropdown(names, value=names[0], visible=True),
            self.content: view_file(publication, names[0]),
        }

    @handler
    def on_file(self, publication: Any, name: str) -> str:
        return view_file(publication, name) if publication else ""

    def _begin(self) -> tuple[Any, ...]:
        return gr.Button("Stop", interactive=True, visible=True), gr.Group(visible=False), ""

    @handler
    def on_send(
        self,
        adapter: str,
        repo: str,
        licence: str,
        keys: Any,
        private: bool,
        replace: bool,
        request: gr.Request,
        oauth: gr.OAuthToken | None = None,
        progress: gr.Progress = PROGRESS,
    ) -> Changes:
        """Gradio hands over the request and the login of who asks by their annotations; they are no inputs."""
        services, done = self._services, {self.stop: gr.Button(visible=False), self.asking: gr.Group(visible=False)}
        public, name = services.host.public, (repo or "").strip()
        token = oauth.token if oauth else None if public else services.publish.hub_token()
        try:
            if public and token is None:
                raise HubError(SIGN_IN if on_space() else TAKE_IT)
            with self._cancellations.watch(request) as is_cancelled:
                published = services.publish.publish(
                    services.publish.check_takeable(adapter or "", key_of(keys, adapter)),
                    name,
                    token=token,
                    licence=licence or "",
                    private=bool(private),
                    replace=replace,
                    on_progress=lambda text, share: progress(share or 0, desc=text),
                    should_stop=is_cancelled,
                )
        except AlreadyThere:
            return {**done, self.asking: gr.Group(visible=True), self.question: view_taken(name), self.status: ""}
        except DemoError as error:
            return {**done, self.status: view_problems([str(error)])}
        services.classify.forget(name)  # who loads it back gets the new one
        return {**done, self.status: view_published(published)}

    @handler
    def on_stop(self, request: gr.Request) -> Any:
        self._cancellations.cancel(request)
        return gr.Button("Stopping …", interactive=False)
