"""Learn: five short sections, each with a figure driven by real numbers, one thing to try, and what the tutorial got
wrong.

Nothing is worked out before the tab is opened; weights and predictions come from the services. Knows no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from ...core.errors import SettingsError
from ...core.names import SAMPLE
from ...services.app import Services
from ..handlers import shown
from .learn_views import (
    KIND_NAMES,
    WEIGHT_NAMES,
    view_constants,
    view_foot,
    view_head,
    view_lora,
    view_microscope,
    view_optimizer,
    view_shapes,
)

SIDE, RANK, ALPHA = 32_768, 256, 512  # the sliders' ends
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
    "The sample run: LoRA and head": SAMPLE,
    "Every weight of GPT-2 small": "openai-community/gpt2",
    "Every weight of Qwen3 8B": "Qwen/Qwen3-8B",
}
WAITING = '<p class="quiet">{}</p>'
# An event of this tab is asked for by sliders: only the newest counts, and no other handler waits for it.
LIVE: dict[str, Any] = {
    "trigger_mode": "always_last",
    "show_progress": "hidden",
    "concurrency_limit": 4,
    "api_visibility": "private",
}


def build_learn_tab(services: Services, tab: gr.Tab) -> None:
    """Layout and events, section by section."""
    _build_microscope(services, tab, *_build_lora())
    _build_constants(services)
    _build_shapes(services, tab)
    _build_optimizer(services, tab)


def _build_lora() -> tuple[gr.Button, gr.Slider, gr.Slider]:
    """The section; returns the button that asks for a real layer's size, and the sliders that take it."""
    with gr.Column(elem_classes="learn-section"):
        gr.HTML(
            view_head(
                "LoRA: two thin matrices instead of one large",
                "Full fine-tuning moves every weight of a matrix W, and keeps a gradient and two AdamW moments for"
                " each. LoRA freezes W and trains the product of two thin matrices beside it: y = W x + (alpha / r) · A"
                " B x.",
            )
        )
        with gr.Row(elem_classes="learn-row"):
            with gr.Column(scale=1, min_width=260):
                rows = gr.Slider(1, SIDE, EXAMPLE[0], step=1, label="Rows of W", elem_id="learn-rows")
                columns = gr.Slider(1, SIDE, EXAMPLE[1], step=1, label="Columns of W", elem_id="learn-columns")
                rank = gr.Slider(1, RANK, EXAMPLE[2], step=1, label="Rank r", elem_id="learn-rank")
                alpha = gr.Slider(1, ALPHA, EXAMPLE[3], step=1, label="Alpha", elem_id="learn-alpha")
                take = gr.Button("Take the size of the layer below", size="sm", elem_id="learn-take")
            with gr.Column(scale=3, min_width=320):
                figure = gr.HTML(view_lora(*EXAMPLE), elem_id="learn-lora")
        gr.HTML(
            view_foot(
                "rows 20, columns 10, rank 5: 150 weights instead of 200. LoRA pays on large matrices, and only at a"
                " small rank.",
                "shows ΔW = A·B alone. LoRA also scales it by alpha / r, so that the rank can be changed without a new"
                " learning rate; at its r = 16 and alpha = 32 the update counts twice. (Paper and PEFT call the two"
                " matrices B and A.)",
            )
        )

    @shown
    def on_size(rows: float, columns: float, rank: float, alpha: float) -> str:
        return view_lora(*read_sizes(rows, columns, rank, alpha))

    gr.on(
        [control.change for control in (rows, columns, rank, alpha)],
        on_size,
        [rows, columns, rank, alpha],
        figure,
        **LIVE,
    )
    return take, rows, columns


def read_sizes(rows: Any, columns: Any, rank: Any, alpha: Any) -> tuple[int, int, int, float]:
    """The sliders' values within their bounds. Raises SettingsError."""
    bounds = {"rows": (rows, SIDE), "columns": (columns, SIDE), "rank": (rank, RANK), "alpha": (alpha, ALPHA)}
    wrong = {
        name: f"The {name} {str(value)[:40]} cannot be used; give a number from 1 to {most:,}."
        for name, (value, most) in bounds.items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= most
    }
    if wrong:
        raise SettingsError(wrong)
    return int(rows), int(columns), int(rank), float(alpha)


def _build_microscope(services: Services, tab: gr.Tab, take: gr.Button, rows: gr.Slider, columns: gr.Slider) -> None:
    with gr.Column(elem_classes="learn-section"):
        gr.HTML(
            view_head(
                "NF4 under the microscope",
                "A matrix is cut into blocks, each is divided by its largest absolute value (absmax), and of every"
                " weight only the nearest level is kept, in 4 bits. NF4's 16 levels are quantiles of a normal"
                " distribution: dense where most weights lie.",
            )
        )
        with gr.Row(elem_classes="learn-row"):
            with gr.Column(scale=1, min_width=260):
                layer = gr.Dropdown(
                    [],
                    label="Layer",
                    info="Of the model that Memory measured last, else of the sample.",
                    elem_id="learn-layer",
                )
                weights = gr.Radio(
                    [(name, key) for key, name in WEIGHT_NAMES.items()],
                    value="own",
                    label="Weights",
                    elem_id="learn-weights",
                )
                kind = gr.Radio(
                    [(name.partition(" ")[0], key) for key, name in KIND_NAMES.items()],
                    value="nf4",
                    label="Data type",
                    elem_id="learn-kind",
                )
                block_size = gr.Dropdown(BLOCK_SIZES, value=64, label="Block size", elem_id="learn-block-size")
                double = gr.Checkbox(False, label="Double quantization", elem_id="learn-double")
            with gr.Column(scale=3, min_width=320):
                figure = gr.HTML(
                    WAITING.format(
                        "The layer is read from the model's file; right after a start this takes a few seconds."
                    ),
                    elem_id="learn-microscope",
                )
        gr.HTML(
            view_foot(
                "“Normal, one outlier”: one row of the error map stands out, because its block is stretched to the"
                " outlier. A larger block size gives up more weights to it.",
                "says that weights are normalised “to a standard deviation between -1 and 1”. The standard deviation"
                " plays no part: each block of 64 is divided by its largest absolute value, which is why a single"
                " outlier can spoil it.",
            )
        )

    studied = gr.State("")  # the model whose layers are listed

    @shown
    def on_open(studied: str, layer: str | None) -> Any:
        model = services.learn.studied_model()
        if layer and model == studied:
            return gr.skip(), gr.skip()
        names = [name for name, _ in services.learn.list_layers(model)]
        return model, gr.Dropdown(shorten_names(names), value=names[0], label=f"Layer of {model}")

    @shown
    def on_examine(studied: str, layer: str | None, weights: str, kind: str, block_size: int, double: bool) -> Any:
        if not layer:
            return gr.skip()
        found = services.learn.examine_layer(studied, layer, kind, block_size, double, weights)
        return view_microscope(found, f"{layer}: {WEIGHT_NAMES[weights].lower()}")

    @shown
    def on_take(studied: str, layer: str | None) -> Any:
        shape = dict(services.learn.list_layers(studied or SAMPLE)).get(str(layer))
        return shape or (gr.skip(), gr.skip())

    controls = [studied, layer, weights, kind, block_size, double]
    opened = tab.select(
        on_open,
        [studied, layer],
        [studied, layer],
        show_progress="hidden",
        concurrency_limit=4,
        api_visibility="private",
    )
    # Two models may have layers of one name: then the list does not change, and the figure must.
    opened.then(on_examine, controls, figure, **LIVE)
    gr.on(
        [layer.change, weights.change, kind.change, block_size.change, double.change],
        on_examine,
        controls,
        figure,
        **LIVE,
    )
    take.click(on_take, [studied, layer], [rows, columns], concurrency_limit=4, api_visibility="private")


def shorten_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """(what to show, name): without the leading parts that all have in common."""
    parts = [name.split(".") for name in names]
    common = 0
    while all(len(part) > common + 1 and part[common] == parts[0][common] for part in parts):
        common += 1
    return [(".".join(part[common:]), name) for part, name in zip(parts, names, strict=True)]


def _build_constants(services: Services) -> None:
    with gr.Column(elem_classes="learn-section"):
        gr.HTML(
            view_head(
                "What double quantization saves",
                "Every block carries one FP32 constant, its absmax. Double quantization keeps these constants in 8 bits"
                " too, with one FP32 number for each 256 of them.",
            )
        )
        block_size = gr.Radio(
            BLOCK_SIZES, value=64, label="Weights that share a constant", elem_id="learn-constants-block-size"
        )
        figure = gr.HTML(view_constants(WEIGHTS, 64, *services.learn.bits_of_constants(64)), elem_id="learn-constants")
        gr.HTML(
            view_foot(
                "blocks of 32: the constants cost a whole bit a weight, and double quantization is what makes small"
                " blocks affordable.",
                "counts 3 GB saved at 8B and 26 GB at 70B: it read bits as bytes, eight times too much. The QLoRA paper"
                " says about 3 GB for 65B.",
            )
        )

    @shown
    def on_block_size(block_size: int) -> str:
        if block_size not in BLOCK_SIZES:
            raise SettingsError(
                {"block_size": f"The block size {str(block_size)[:40]} is not offered; choose one of the list."}
            )
        return view_constants(WEIGHTS, block_size, *services.learn.bits_of_constants(block_size))

    block_size.change(on_block_size, block_size, figure, **LIVE)


def _build_shapes(services: Services, tab: gr.Tab) -> None:
    with gr.Column(elem_classes="learn-section"):
        gr.HTML(
            view_head(
                "Why small models shrink less",
                "Only the matrices inside the layers become 4-bit; embeddings, norms and head stay FP16. The larger the"
                " model, the smaller the embeddings' share, and the closer the whole comes to four times.",
            )
        )
        shape = gr.Radio(
            [(name, model) for model, name in SHAPES.items()],
            value=next(iter(SHAPES)),
            label="Shape",
            elem_id="learn-shape",
        )
        figure = gr.HTML(
            WAITING.format("Predicted when the tab is opened; no weights are needed."), elem_id="learn-shapes"
        )
        gr.HTML(
            view_foot(
                "GPT-2 large, then Qwen3 0.6B: about as many parameters, but a vocabulary three times as large, and so"
                " a smaller gain.",
                "prints the same 0.12 GB with and without double quantization: get_memory_footprint() counts parameters"
                " and cannot see the quantization constants. Here both are counted.",
            )
        )

    complete = gr.State(False)  # whether the figure has all shapes already

    @shown
    def on_open(chosen: str, complete: bool) -> Any:
        """The chosen one at once; the others take a few seconds."""
        return (
            gr.skip() if complete else view_shapes([services.learn.predict_shape(read_shape(chosen))], chosen, SHAPES)
        )

    @shown
    def on_shape(chosen: str) -> tuple[str, bool]:
        read_shape(chosen)
        return view_shapes([services.learn.predict_shape(model) for model in SHAPES], chosen, SHAPES), True

    opened = tab.select(
        on_open, [shape, complete], figure, show_progress="hidden", concurrency_limit=4, api_visibility="private"
    )
    opened.then(
        on_shape, shape, [figure, complete], show_progress="hidden", concurrency_limit=4, api_visibility="private"
    )
    shape.change(on_shape, shape, [figure, complete], **LIVE)


def read_shape(model: Any) -> str:
    """Raises SettingsError for a shape that is not offered."""
    if model not in list(SHAPES):
        raise SettingsError({"shape": f"The shape {str(model)[:60]!r} is not offered; choose one of the list."})
    return str(model)


def _build_optimizer(services: Services, tab: gr.Tab) -> None:
    with gr.Column(elem_classes="learn-section"):
        gr.HTML(
            view_head(
                "Paged optimizers, and what they are worth here",
                "AdamW keeps two moments for each trained parameter: 8 bytes in 32 bits, 2 bytes in 8 bits. A paged"
                " optimizer lets the GPU's driver move them to CPU memory when memory runs short: it rides out a peak"
                " and makes nothing smaller.",
            )
        )
        trained = gr.Radio(
            [(name, model) for name, model in TRAINED.items()],
            value=SAMPLE,
            label="What is trained",
            elem_id="learn-trained",
        )
        figure = gr.HTML(
            WAITING.format("Read from the shipped run's report when the tab is opened."), elem_id="learn-optimizer"
        )
        gr.HTML(
            view_foot(
                "“Every weight of Qwen3 8B”: the state alone is larger than most GPUs' memory. LoRA has already taken"
                " that problem away.",
                "describes paged optimizers as a part of QLoRA but never switches them on, and loses nothing by it:"
                " with LoRA the state is small. (8-bit optimizers also keep a constant for each 256 values, and small"
                " tensors in 32 bits.)",
            )
        )

    @shown
    def on_trained(trained: str) -> str:
        if trained not in list(TRAINED.values()):
            raise SettingsError({"trained": f"{str(trained)[:60]!r} is not offered; choose one of the list."})
        return view_optimizer(services.learn.optimizer_state(trained))

    gr.on([tab.select, trained.change], on_trained, trained, figure, **LIVE)
