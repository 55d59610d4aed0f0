"""An adapter to take along: as a zip of what would be published, or merged with its base, which is a job of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ...core.errors import DemoError
from ...services.app import Services
from ..cancellations import Cancellations
from ..handlers import PRIVATE, PROGRESS, QUIET, Slow, handler, visitor
from ..queries import key_of
from ..server.downloads import link_to_pack
from ..views import view_problems, view_quiet
from .publish_views import view_pack

ZIP = "All files that would be published, card included."
MERGED = (
    "One FP16 model, without PEFT and bitsandbytes. It is built on the dense base, not on the 4-bit one that the"
    " adapter was trained on, so its answers differ: by how much is measured."
)


class PackPanel:
    """`adapter`, `licence`: the choices above; `slow`: how slow events are wired."""

    def __init__(
        self, services: Services, adapter: gr.Dropdown, licence: gr.Dropdown, keys: gr.BrowserState, slow: Slow
    ):
        self._services, self._cancellations = services, Cancellations()
        with gr.Accordion("Take it with you: as a zip, or merged with its base", open=False, elem_id="publish-take"):
            self._layout()
        self.pack.click(self.on_pack, [adapter, licence, keys], self.packed, **slow)
        self.merge.click(
            lambda: ("", gr.Button("Cancel", interactive=True, visible=True)),
            None,
            [self.merged, self.cancel],
            queue=False,
            **PRIVATE,
        )
        merging = [self.merged, self.cancel]
        self.merge.click(self.on_merge, [adapter, keys], merging, show_progress_on=self.merged, **slow)
        self.cancel.click(self.on_cancel, None, self.cancel, **QUIET)

    def _layout(self) -> None:
        with gr.Row():
            with gr.Column(min_width=300):
                gr.HTML(view_quiet(ZIP))
                self.pack = gr.Button("Make a zip", elem_id="publish-zip")
                self.packed = gr.HTML(elem_id="publish-packed")
            with gr.Column(min_width=300):
                gr.HTML(view_quiet(MERGED))
                self.merge = gr.Button("Merge with the base", elem_id="publish-merge")
                self.cancel = gr.Button("Cancel", visible=False, elem_id="publish-merge-cancel")
                self.merged = gr.HTML(elem_id="publish-merged")

    @handler
    def on_pack(self, adapter: str, licence: str, keys: Any) -> str:
        service = self._services.publish
        pack = service.pack(service.check_takeable(adapter or "", key_of(keys, adapter)), licence=licence or "")
        return view_pack(pack, link_to_pack(pack.place, pack.name))

    @handler
    def on_merge(
        self, adapter: str, keys: Any, request: gr.Request, progress: Callable[..., Any] = PROGRESS
    ) -> list[Any]:
        service = self._services.publish
        try:
            with self._cancellations.watch(request) as is_cancelled:
                pack = service.merge(
                    service.check_takeable(adapter or "", key_of(keys, adapter)),
                    visitor(),
                    on_progress=lambda text, share: progress(share or 0, desc=text),
                    should_stop=is_cancelled,
                )
        except DemoError as error:
            return [view_problems([str(error)]), gr.Button(visible=False)]
        return [view_pack(pack, link_to_pack(pack.place, pack.name)), gr.Button(visible=False)]

    @handler
    def on_cancel(self, request: gr.Request) -> Any:
        self._cancellations.cancel(request)
        return gr.Button("Stopping …", interactive=False)
