"""Publish: what leaves this machine is looked at first, file by file; then it goes to the Hub, or into a zip, or is
merged with its base.

In a Space the visitor signs in, and it is the visitor's own token that publishes; at home it is that of `hf auth
login`. A token is used and forgotten: it is no component's value and no record's."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import gradio as gr

from ...core.errors import AlreadyThere, DemoError, HubError
from ...core.names import SAMPLE
from ...host.environment import on_space
from ...services.app import Services
from ...storage.packs import LICENCES
from ..cancellations import Cancellations
from ..handlers import AT_ONCE, shown
from ..server.downloads import link_to_pack
from ..views import view_problems
from .publish_views import (
    NOT_YET,
    view_account,
    view_file,
    view_files,
    view_merging,
    view_pack,
    view_published,
    view_taken,
)

SIGN_IN = "You are not signed in, or your login has expired; sign in above, then publish again."
TAKE_IT = "Nobody can sign in on this page; make a zip below, and publish it from your own machine."
Changes = dict[Any, Any]
Progress = Callable[..., Any]


def build_publish_tab(services: Services, tab: gr.Tab, keys: gr.BrowserState) -> None:
    """Layout, then events. `keys`: run to key, of the runs that this browser started."""
    cancellations = Cancellations()
    with gr.Row():
        with gr.Column(min_width=320):
            adapter = gr.Dropdown(
                [("Shipped with the app (MiniLM, sample reviews)", SAMPLE)],
                value=SAMPLE,
                label="Adapter",
                info="A run's best checkpoint, proved to load again.",
                elem_id="publish-adapter",
            )
            account = gr.HTML(elem_id="publish-account")
            if os.environ.get(
                "OAUTH_CLIENT_ID"
            ):  # elsewhere Gradio's button would end the app (it asks for a login at its start)
                gr.LoginButton(elem_id="publish-login", size="sm")
            repo = gr.Textbox(
                label="Name on the Hub",
                placeholder="user/name",
                max_lines=1,
                max_length=200,
                info="A model of this name is created; another's is never written over.",
                elem_id="publish-repo",
            )
            licence = gr.Dropdown(
                [("none chosen", ""), *((name, name) for name in LICENCES)],
                value="",
                label="Licence",
                info="Yours to choose; base and reviews have their own.",
                elem_id="publish-licence",
            )
            private = gr.Checkbox(
                label="Private",
                info="Only you may see it, until you change that on its page.",
                elem_id="publish-private",
            )
            with gr.Row():
                look = gr.Button("Preview", elem_id="publish-look")
                send = gr.Button("Publish", variant="primary", elem_id="publish-send")
            stop = gr.Button("Stop", visible=False, elem_id="publish-stop")
            status = gr.HTML(elem_id="publish-status")
            with gr.Group(visible=False) as asking:
                ask = gr.HTML(elem_id="publish-ask")
                with gr.Row():
                    replace = gr.Button("Put this one in its place", variant="stop", elem_id="publish-replace")
                    leave = gr.Button("Leave it", elem_id="publish-leave")
        with gr.Column(min_width=320):
            made = gr.State(None)  # the Publication that is looked at
            listed = gr.HTML(NOT_YET, elem_id="publish-files")
            file = gr.Dropdown([], label="Show a file as it would be published", visible=False, elem_id="publish-file")
            content = gr.HTML(elem_id="publish-content")
    with (
        gr.Accordion("Take it with you: as a zip, or merged with its base", open=False, elem_id="publish-take"),
        gr.Row(),
    ):
        with gr.Column(min_width=300):
            gr.HTML('<p class="quiet">All files that would be published, card included.</p>')
            pack = gr.Button("Make a zip", elem_id="publish-zip")
            packed = gr.HTML(elem_id="publish-packed")
        with gr.Column(min_width=300):
            gr.HTML(
                '<p class="quiet">One FP16 model, without PEFT and bitsandbytes. It rests on the dense base, not on the'
                " 4-bit one that the adapter was trained on, so its answers differ: by how much is measured.</p>"
            )
            merge = gr.Button("Merge with the base", elem_id="publish-merge")
            merged = gr.HTML(elem_id="publish-merged")

    def owned(adapter: str | None, keys: dict[str, str] | None) -> str:
        """The adapter, where this visitor may take it away. Raises DemoErrors."""
        return services.publish.check_takeable(adapter or "", (keys or {}).get(adapter or "", ""))

    @shown
    def on_open(adapter: str | None, profile: gr.OAuthProfile | None = None) -> Changes:
        choices = services.classify.adapters()
        chosen = adapter if adapter in {name for _, name in choices} else SAMPLE
        user = profile.username if profile else None if services.host.public else services.publish.hub_user()
        return {
            adapter_box: gr.Dropdown(choices, value=chosen),
            account: view_account(user, services.host.public),
            repo: gr.Textbox(placeholder=f"{user or 'user'}/star-ratings"),
        }

    @shown
    def on_look(adapter: str, repo: str, licence: str, keys: dict[str, str]) -> Changes:
        try:
            found = services.publish.prepare(owned(adapter, keys), repo=(repo or "").strip(), licence=licence or "")
        except DemoError as error:
            return {status: view_problems([str(error)])}
        names = [item.name for item in found.files]
        return {
            made: found,
            status: "",
            listed: view_files(found),
            file: gr.Dropdown(names, value=names[0], visible=True),
            content: view_file(found, names[0]),
        }

    @shown
    def on_file(made: Any, file: str) -> str:
        return view_file(made, file) if made else ""

    def publish(
        adapter: str,
        repo: str,
        licence: str,
        private: bool,
        keys: Any,
        request: gr.Request,
        token: str | None,
        progress: Progress,
        replace: bool,
    ) -> Changes:
        done: Changes = {stop: gr.Button(visible=False), asking: gr.Group(visible=False)}
        try:
            if services.host.public and token is None:
                raise HubError(SIGN_IN if on_space() else TAKE_IT)
            with cancellations.watch(request) as should_stop:
                found = services.publish.publish(
                    owned(adapter, keys),
                    (repo or "").strip(),
                    token=token,
                    licence=licence or "",
                    private=bool(private),
                    replace=replace,
                    on_progress=lambda text, share: progress(share or 0, desc=text),
                    should_stop=should_stop,
                )
        except AlreadyThere:
            return {**done, asking: gr.Group(visible=True), ask: view_taken((repo or "").strip()), status: ""}
        except DemoError as error:
            return {**done, status: view_problems([str(error)])}
        services.classify.forget((repo or "").strip())  # who loads it back gets the new one
        return {**done, status: view_published(found)}

    def token_of(oauth: gr.OAuthToken | None) -> str | None:
        return oauth.token if oauth else None if services.host.public else services.publish.hub_token()

    progress = gr.Progress()

    @shown
    def on_send(
        adapter: str,
        repo: str,
        licence: str,
        private: bool,
        keys: dict[str, str],
        request: gr.Request,
        oauth: gr.OAuthToken | None = None,
        progress: gr.Progress = progress,
    ) -> Changes:
        return publish(adapter, repo, licence, private, keys, request, token_of(oauth), progress, False)

    @shown
    def on_replace(
        adapter: str,
        repo: str,
        licence: str,
        private: bool,
        keys: dict[str, str],
        request: gr.Request,
        oauth: gr.OAuthToken | None = None,
        progress: gr.Progress = progress,
    ) -> Changes:
        return publish(adapter, repo, licence, private, keys, request, token_of(oauth), progress, True)

    @shown
    def on_stop(request: gr.Request) -> Any:
        cancellations.cancel(request)
        return gr.Button("Stopping …", interactive=False)

    @shown
    def on_pack(adapter: str, licence: str, keys: dict[str, str]) -> str:
        found = services.publish.pack(owned(adapter, keys), licence=licence or "")
        return view_pack(found, link_to_pack(found.place, found.name))

    @shown
    def on_merge(adapter: str, keys: dict[str, str], progress: gr.Progress = progress) -> str:
        found = services.publish.merge(
            owned(adapter, keys), on_progress=lambda text, share: progress(share or 0, desc=text)
        )
        return view_merging(found, link_to_pack(found.place, found.name))

    adapter_box = adapter  # handlers have its value under that name
    hidden: dict[str, Any] = {"api_visibility": "private"}
    slow: dict[str, Any] = {
        "concurrency_limit": AT_ONCE if services.host.public else 2,
        "concurrency_id": "publish",
        **hidden,
    }
    tab.select(on_open, adapter, [adapter, account, repo], show_progress="hidden", concurrency_limit=8, **hidden)
    look.click(
        on_look, [adapter, repo, licence, keys], [made, status, listed, file, content], show_progress_on=listed, **slow
    )
    file.input(on_file, [made, file], content, show_progress="hidden", concurrency_limit=8, **hidden)
    sending = [stop, asking, ask, status]
    for button, handler in ((send, on_send), (replace, on_replace)):
        button.click(
            lambda: (gr.Button("Stop", interactive=True, visible=True), gr.Group(visible=False), ""),
            None,
            [stop, asking, status],
            queue=False,
            **hidden,
        )
        button.click(handler, [adapter, repo, licence, private, keys], sending, show_progress_on=status, **slow)
    stop.click(on_stop, None, stop, show_progress="hidden", concurrency_limit=8, **hidden)
    leave.click(lambda: gr.Group(visible=False), None, asking, queue=False, **hidden)
    pack.click(on_pack, [adapter, licence, keys], packed, **slow)
    merge.click(on_merge, [adapter, keys], merged, **slow)
