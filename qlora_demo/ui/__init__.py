"""The page. gradio lives here and nowhere else; torch never does.

A header that says what this is and where it runs, then a tab for each thing one can do.
"""

from __future__ import annotations

from . import compat  # noqa: F401 - it imports Gradio the fast way, before anything else does

# isort: split
import gradio as gr

from ..services.app import Services
from .classify.classify_tab import ClassifyTab
from .data.data_tab import DataTab
from .handlers import PRIVATE, QUIET, handler
from .learn.learn_tab import LearnTab
from .memory.memory_tab import MemoryTab
from .publish.publish_tab import PublishTab
from .server.api import HttpInterface
from .train.train_tab import TrainTab
from .views import view_machine

TITLE = "QLoRA, measured and live"
INTRODUCTION = (
    "<h1>QLoRA, measured and live</h1><p>Quantize a language model to 4 bits, train a star-rating classifier on top of"
    " it, and watch every byte and every step.</p>"
)
# The figures ask with the key of the run that they show; their scripts hear of the keys here, as they come and change.
HAND_OUT = "(keys) => { window.qloraKeys = keys ?? {}; window.dispatchEvent(new Event('qlora-keys')); return []; }"


def build_app(services: Services) -> gr.Blocks:
    """The whole page and the HTTP interface. Nothing heavy happens here."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        with gr.Row(elem_id="header", equal_height=True):
            gr.HTML(INTRODUCTION, elem_id="header-introduction")
            machine = gr.HTML(
                '<p class="machine"><strong>Checking this machine …</strong></p>', elem_id="header-machine"
            )
        # A fixed key and secret: by default both change at each start, and the browser would forget its runs.
        keys = gr.BrowserState({}, storage_key="qlora-demo-keys", secret="runs that this browser started")
        with gr.Tabs(overflow_behavior="wrap") as tabs:  # on a phone every tab stays in sight
            with gr.Tab("Memory", id="memory"):
                MemoryTab(services, page)
            with gr.Tab("Data", id="data") as data:
                data_placed = gr.Column()
            with gr.Tab("Train", id="train"):
                placed = gr.Column()
            with gr.Tab("Classify", id="classify"):
                adapters = ClassifyTab(services, page, keys).adapter
            with gr.Tab("Publish", id="publish") as publish:
                PublishTab(services, publish, keys)
            with gr.Tab("Learn", id="learn") as learn:
                LearnTab(services, learn)
        with placed:
            train = TrainTab(services, page, keys, adapters)
        with data_placed:
            DataTab(services, data, tabs, train.fields, train.reason)
        keys.change(None, keys, None, js=HAND_OUT, **PRIVATE)
        HttpInterface(services)
        page.load(handler(lambda: view_machine(services.machine.get())), None, machine, **QUIET)
    return page
