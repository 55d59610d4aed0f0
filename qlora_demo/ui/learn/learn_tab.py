"""Learn: five short sections, each with a figure of real numbers, one thing to try, and what the tutorial got wrong.

Nothing is computed before the tab is opened; weights and predictions come from the services. Knows no engine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gradio as gr

from ...core.errors import SettingsError
from ...core.names import SAMPLE
from ...services.app import Services
from ..handlers import LIVE, QUIET, handler
from ..templating import render
from .learn_views import (
    KIND_NAMES,
    WEIGHT_NAMES,
    view_constants,
    view_lora,
    view_microscope,
    view_optimizer,
    view_shapes,
)

MAX_SIDE, MAX_RANK, MAX_ALPHA = 32_768, 256, 512
EXAMPLE = (10_000, 10_000, 5, 10)
BLOCK_SIZES = [32, 64, 128, 256, 512, 1024, 2048, 4096]
WEIGHTS = (1_000_000_000, 8_000_000_000, 70_000_000_000)
SHAPES = {
    "openai-community/gpt2": "GPT-2 small",
    "openai-community/gpt2-medium": "GPT-2 medium",
    "openai-community/gpt2-large": "GPT-2 large",
    "openai-community/gpt2-xl": "GPT-2 XL",
    "Qwen/Qwen3-0.6B": "Qwen3 0.6B",
    "Qwen/Qwen3-1.7B": "Qwen3 1.7B",
    "Qwen/Qwen3-4B": "Qwen3 4B",
    "Qwen/Qwen3-8B": "Qwen3 8B",
    "meta-llama/Llama-3.1-70B": "Llama 3.1 70B",
}
TRAINED = {
    SAMPLE: "Sample run: LoRA and head",
    "openai-community/gpt2": "All weights of GPT-2 small",
    "Qwen/Qwen3-8B": "All weights of Qwen3 8B",
}
WAITING = '<p class="quiet">{}</p>'


class LearnTab:
    """The tab on the page that is being built."""

    def __init__(self, services: Services, tab: gr.Tab) -> None:
        lora = LoraSection()
        MicroscopeSection(services, tab, lora)
        ConstantsSection(services)
        ShapesSection(services, tab)
        OptimizerSection(services, tab)


class LoraSection:
    """A matrix and its two strips, to scale."""

    def __init__(self) -> None:
        self.layout()
        self.wire()

    def layout(self) -> None:
        with section("lora"), gr.Row(elem_classes="learn-row"):
            with gr.Column(scale=1, min_width=260):
                self.rows = gr.Slider(1, MAX_SIDE, EXAMPLE[0], step=1, label="Rows of W", elem_id="learn-rows")
                self.columns = gr.Slider(1, MAX_SIDE, EXAMPLE[1], step=1, label="Columns of W", elem_id="learn-columns")
                self.rank = gr.Slider(1, MAX_RANK, EXAMPLE[2], step=1, label="Rank r", elem_id="learn-rank")
                self.alpha = gr.Slider(1, MAX_ALPHA, EXAMPLE[3], step=1, label="Alpha", elem_id="learn-alpha")
                self.take = gr.Button("Use the size of the layer below", size="sm", elem_id="learn-take")
            with gr.Column(scale=3, min_width=320):
                self.figure = gr.HTML(view_lora(*EXAMPLE), elem_id="learn-lora")

    def wire(self) -> None:
        sliders = [self.rows, self.columns, self.rank, self.alpha]
        changes = [slider.change for slider in sliders]  # type: ignore[attr-defined]
        gr.on(changes, self.on_size, sliders, self.figure, **LIVE)

    @handler
    def on_size(self, rows: float, columns: float, rank: float, alpha: float) -> str:
        return view_lora(*read_sizes(rows, columns, rank, alpha))


class MicroscopeSection:
    """One layer of a model, quantized; its size can be taken over into the section on LoRA."""

    def __init__(self, services: Services, tab: gr.Tab, lora: LoraSection) -> None:
        self.learn = services.learn
        self.layout()
        self.wire(tab, lora)

    def layout(self) -> None:
        weights = [(name, key) for key, name in WEIGHT_NAMES.items()]
        kinds = [(name.partition(" ")[0], key) for key, name in KIND_NAMES.items()]
        info = "Of the model last measured on the Memory tab, else of the sample."
        waiting = WAITING.format(
            "Reading the layer from the model's file; right after a start this takes a few seconds."
        )
        with section("microscope"), gr.Row(elem_classes="learn-row"):
            with gr.Column(scale=1, min_width=260):
                self.layer = gr.Dropdown([], label="Layer", info=info, elem_id="learn-layer")
                self.weights = gr.Radio(weights, value="own", label="Weights", elem_id="learn-weights")
                self.kind = gr.Radio(kinds, value="nf4", label="Data type", elem_id="learn-kind")
                self.block_size = gr.Dropdown(BLOCK_SIZES, value=64, label="Block size", elem_id="learn-block-size")
                self.double = gr.Checkbox(False, label="Double quantization", elem_id="learn-double")
            with gr.Column(scale=3, min_width=320):
                self.figure = gr.HTML(waiting, elem_id="learn-microscope")
        self.model = gr.State("")  # whose layers are listed

    def wire(self, tab: gr.Tab, lora: LoraSection) -> None:
        choices = [self.layer, self.weights, self.kind, self.block_size, self.double]
        opened = tab.select(self.on_open, [self.model, self.layer], [self.model, self.layer], **QUIET)
        # Two models may have layers of one name: then the list does not change, and the figure must.
        opened.then(self.on_examine, [self.model, *choices], self.figure, **LIVE)
        changes = [choice.change for choice in choices]  # type: ignore[attr-defined]
        gr.on(changes, self.on_examine, [self.model, *choices], self.figure, **LIVE)
        lora.take.click(self.on_take, [self.model, self.layer], [lora.rows, lora.columns], **QUIET)

    @handler
    def on_open(self, listed: str, layer: str | None) -> Any:
        model = self.learn.studied_model()
        if layer and model == listed:
            return gr.skip(), gr.skip()
        names = [name for name, _ in self.learn.list_layers(model)]
        return model, gr.Dropdown(shorten_names(names), value=names[0], label=f"Layer of {model}")

    @handler
    def on_examine(self, model: str, layer: str | None, weights: str, kind: str, block_size: int, double: bool) -> Any:
        if not layer:
            return gr.skip()
        study = self.learn.examine_layer(model, layer, kind, block_size, double, weights)
        return view_microscope(study, f"{layer}: {WEIGHT_NAMES[weights].lower()}")

    @handler
    def on_take(self, model: str, layer: str | None) -> Any:
        shape = dict(self.learn.list_layers(model or SAMPLE)).get(str(layer))
        return shape or (gr.skip(), gr.skip())


class ConstantsSection:
    """What the quantization constants cost, by block size."""

    def __init__(self, services: Services) -> None:
        self.learn = services.learn
        with section("constants"):
            self.block_size = gr.Radio(
                BLOCK_SIZES, value=64, label="Block size (weights per constant)", elem_id="learn-constants-block-size"
            )
            self.figure = gr.HTML(self.draw(64), elem_id="learn-constants")
        self.block_size.change(self.on_block_size, self.block_size, self.figure, **LIVE)

    @handler
    def on_block_size(self, block_size: int) -> str:
        return self.draw(check_choice("block size", block_size, BLOCK_SIZES))

    def draw(self, block_size: int) -> str:
        return view_constants(WEIGHTS, block_size, *self.learn.bits_of_constants(block_size))


class ShapesSection:
    """Well-known models before and after quantization."""

    def __init__(self, services: Services, tab: gr.Tab) -> None:
        self.learn = services.learn
        self.layout()
        self.wire(tab)

    def layout(self) -> None:
        models = [(name, model) for model, name in SHAPES.items()]
        with section("shapes"):
            self.model = gr.Radio(models, value=models[0][1], label="Model", elem_id="learn-shape")
            waiting = WAITING.format("Predicted when the tab is opened; no weights are needed.")
            self.figure = gr.HTML(waiting, elem_id="learn-shapes")
        self.complete = gr.State(False)  # whether the figure has all shapes already

    def wire(self, tab: gr.Tab) -> None:
        both = [self.figure, self.complete]
        opened = tab.select(self.on_open, [self.model, self.complete], self.figure, **QUIET)
        opened.then(self.on_model, self.model, both, **QUIET)
        self.model.change(self.on_model, self.model, both, **LIVE)

    @handler
    def on_open(self, model: str, complete: bool) -> Any:
        """The chosen one at once; the others take a few seconds."""
        return gr.skip() if complete else self.draw(model, [check_choice("model", model, SHAPES)])

    @handler
    def on_model(self, model: str) -> tuple[str, bool]:
        return self.draw(check_choice("model", model, SHAPES), SHAPES), True

    def draw(self, chosen: str, models: Collection[str]) -> str:
        return view_shapes([self.learn.predict_shape(model) for model in models], chosen, SHAPES)


class OptimizerSection:
    """What AdamW keeps for each trained parameter."""

    def __init__(self, services: Services, tab: gr.Tab) -> None:
        self.learn = services.learn
        with section("optimizer"):
            choices = [(name, key) for key, name in TRAINED.items()]
            self.trained = gr.Radio(choices, value=SAMPLE, label="Trained parameters", elem_id="learn-trained")
            waiting = WAITING.format("Read from the shipped run's report when the tab is opened.")
            self.figure = gr.HTML(waiting, elem_id="learn-optimizer")
        gr.on([tab.select, self.trained.change], self.on_trained, self.trained, self.figure, **LIVE)

    @handler
    def on_trained(self, trained: str) -> str:
        return view_optimizer(self.learn.optimizer_state(check_choice("choice", trained, TRAINED)))


@contextmanager
def section(name: str) -> Iterator[None]:
    """A section of the tab, with what it is about above and what to try below."""
    with gr.Column(elem_classes="learn-section"):
        gr.HTML(render("learn/intro.html.jinja", section=name))
        yield
        gr.HTML(render("learn/notes.html.jinja", section=name))


def read_sizes(rows: Any, columns: Any, rank: Any, alpha: Any) -> tuple[int, int, int, float]:
    """The sliders' values within their bounds. Raises SettingsError."""
    bounds = {
        "rows": (rows, MAX_SIDE),
        "columns": (columns, MAX_SIDE),
        "rank": (rank, MAX_RANK),
        "alpha": (alpha, MAX_ALPHA),
    }
    problems = {
        name: f"The {name} {str(value)[:40]} cannot be used; give a number from 1 to {most:,}."
        for name, (value, most) in bounds.items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= most
    }
    if problems:
        raise SettingsError(problems)
    return int(rows), int(columns), int(rank), float(alpha)


def check_choice(name: str, value: Any, offered: Collection[Any]) -> Any:
    """The value, where it is one that is offered; it comes from a browser. Raises SettingsError."""
    if value not in list(offered):  # a list: what cannot be hashed is refused, too
        raise SettingsError({name: f"The {name} {str(value)[:60]!r} is not offered; choose one of the list."})
    return value


def shorten_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """(what to show, name): without the leading parts that all have in common."""
    parts = [name.split(".") for name in names]
    common = 0
    while all(len(part) > common + 1 and part[common] == parts[0][common] for part in parts):
        common += 1
    return [(".".join(part[common:]), name) for part, name in zip(parts, names, strict=True)]
