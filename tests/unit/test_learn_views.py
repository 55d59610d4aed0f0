"""What the Learn tab shows: the recipe's own numbers, the sample model's layers, and the predictor's totals. No page is
opened.

Weights are the embedded sample model's; nothing is asked of the Hub.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import GPT2Config

from qlora_demo.core.errors import AdapterError, ModelError, SettingsError
from qlora_demo.core.memory_report import ShapeStudy
from qlora_demo.core.paths import ASSETS
from qlora_demo.core.requests import MemoryRequest
from qlora_demo.engine.memory import layer_explorer, nf4
from qlora_demo.engine.memory.optimizers import optimizer_bytes
from qlora_demo.engine.models import sources
from qlora_demo.services.learn import LearnService
from qlora_demo.services.memory import report_memory
from qlora_demo.ui.learn.learn_tab import BLOCK_SIZES, SHAPES, TRAINED, WEIGHTS, check_choice, read_sizes, shorten_names
from qlora_demo.ui.learn.learn_views import (
    KIND_NAMES,
    WEIGHT_NAMES,
    view_constants,
    view_lora,
    view_microscope,
    view_optimizer,
    view_shapes,
)
from tests.pages import words_of
from tests.reviews import shipped_report

pytestmark = pytest.mark.usefixtures("no_hub")


@pytest.fixture(scope="module")
def layers() -> dict[str, layer_explorer.Layer]:
    return layer_explorer.list_layers(sources.resolve("sample"))


@pytest.fixture(scope="module")
def query(layers: dict[str, layer_explorer.Layer]) -> nf4.Floats:
    return layer_explorer.read_weights(sources.resolve("sample"), layers["bert.encoder.layer.0.attention.self.query"])


def test_the_recipes_example() -> None:
    shown = words_of(view_lora(10_000, 10_000, 5, 10))
    for piece in ("100,000,000", "100,000", "1,000 times fewer", "10 / 5", "390.6 KiB", "381.47 MiB", "1.14 MiB"):
        assert piece in shown, piece


def test_a_small_matrix_saves_little_and_a_large_rank_nothing() -> None:
    assert "LoRA trains 150 numbers instead of 200" in words_of(view_lora(20, 10, 5, 10))
    large = words_of(view_lora(20, 10, 7, 10))
    assert "No saving" in large and "Below rank 6.667" in large


@pytest.mark.parametrize(
    "sizes", [(0, 1, 1, 1), (1, None, 1, 1), (1, 1, 257, 1), (1, 1, "5", 1), (1, 1, 1, float("nan")), (True, 1, 1, 1)]
)
def test_sizes_that_cannot_be(sizes: tuple[object, ...]) -> None:
    with pytest.raises(SettingsError, match="give a number from 1 to"):
        read_sizes(*sizes)
    assert read_sizes(10_000, 10_000.0, 5, 1.5) == (10_000, 10_000, 5, 1.5)


def test_the_list_is_what_the_model_quantizes(layers: dict[str, layer_explorer.Layer]) -> None:
    assert len(layers) == 36
    assert layers["bert.encoder.layer.5.intermediate.dense"].shape == (1536, 384)
    assert not any("pooler" in name or "classifier" in name for name in layers)
    assert shorten_names(list(layers))[0] == ("0.attention.self.query", "bert.encoder.layer.0.attention.self.query")
    assert shorten_names(["only.one"]) == [("one", "only.one")]


def test_gpt2_holds_its_matrices_turned(tmp_path: Path) -> None:
    """And in bfloat16 as well, which numpy does not know."""
    GPT2Config(vocab_size=50, n_positions=8, n_embd=32, n_head=2, n_layer=1).save_pretrained(tmp_path)
    matrices = {"attn.c_attn": (32, 96), "attn.c_proj": (32, 32), "mlp.c_fc": (32, 128), "mlp.c_proj": (128, 32)}
    shapes: dict[str, tuple[int, ...]] = {"ln_1": (32,), "ln_2": (32,), **matrices}
    tensors = {f"h.0.{name}.weight": torch.randn(shape).bfloat16() for name, shape in shapes.items()}
    tensors |= {f"h.0.{name}.bias": torch.zeros(shape[-1]).bfloat16() for name, shape in shapes.items()}
    tensors |= {"wte.weight": torch.randn(50, 32).bfloat16(), "wpe.weight": torch.randn(8, 32).bfloat16()}
    tensors |= {"ln_f.weight": torch.ones(32).bfloat16(), "ln_f.bias": torch.zeros(32).bfloat16()}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    source = sources.resolve(str(tmp_path))
    layer = layer_explorer.list_layers(source)["transformer.h.0.attn.c_attn"]
    assert layer.shape == (96, 32) and layer.turned
    stored = tensors["h.0.attn.c_attn.weight"].float().numpy()
    assert np.array_equal(layer_explorer.read_weights(source, layer), stored.T)


@pytest.mark.parametrize("which", WEIGHT_NAMES)
@pytest.mark.parametrize("kind", KIND_NAMES)
def test_every_choice_is_drawn(query: nf4.Floats, kind: nf4.Kind, which: str) -> None:
    weights = layer_explorer.choose_weights(query, which)
    for block_size in BLOCK_SIZES:
        for double in (False, True):
            found = layer_explorer.examine(weights, kind, block_size, double)
            assert sum(found.counts) == query.size
            assert sum(share for _, share in found.levels) == pytest.approx(1)
            assert found.errors[kind] == found.error
            assert len(found.map) == 32 and all(len(row) == 32 for row in found.map)
            html = view_microscope(found, "weights")
            assert "nan" not in html and "inf" not in html and len(html) < 40_000
            assert f"{found.bits:.4g}" in words_of(html)
    for few in (np.zeros((3, 5), np.float32), np.ones((40, 40), np.float32), np.float32([[-2.0]])):
        assert "nan" not in view_microscope(layer_explorer.examine(few, kind, 4096, True), "few")


def test_bits_bytes_and_the_best_type_on_real_weights(query: nf4.Floats) -> None:
    plain, double = (
        words_of(view_microscope(layer_explorer.examine(query, "nf4", 64, which), "query")) for which in (False, True)
    )
    assert "Bits per weight 4.5 " in plain and "83,008 73,728 + 9,216 constants + 64 tables" in plain
    assert "Bits per weight 4.127 " in double and "77,160 73,728 + 2,340 constants + 1,092 tables" in double
    assert "On these weights NF4 has the smallest error" in plain
    found = layer_explorer.examine(query, "int4", 64, False)
    assert found.error.mean_absolute == np.abs(query - nf4.quantize(query, "int4").restored).astype(np.float64).mean()


@pytest.mark.parametrize("choice", [("nf5", 64, "own"), ("nf4", 63, "own"), ("nf4", 64, "other"), (None, [], {})])
def test_choices_that_there_are_not(choice: tuple[object, object, object]) -> None:
    with pytest.raises(SettingsError, match="is not offered"):
        layer_explorer.check_choice(*choice)


def test_the_pages_choices_are_the_engines() -> None:
    assert tuple(KIND_NAMES) == nf4.KINDS and tuple(BLOCK_SIZES) == nf4.BLOCK_SIZES
    assert set(WEIGHT_NAMES) == {layer_explorer.OWN, layer_explorer.NORMAL, layer_explorer.OUTLIER}


def test_double_quantization_in_bits_and_bytes() -> None:
    shown = words_of(view_constants(WEIGHTS, 64, *LearnService.bits_of_constants(64)))
    assert "0.5 bits per weight become 0.127, which saves 0.373 bits per weight" in shown
    assert "8B 0.50 GB 4.00 billion bits 0.13 GB 1.02 billion bits 2.98 billion bits 0.37 GB 355.77 MiB" in shown
    assert "26.11 billion bits 3.26 GB 3.04 GiB" in shown


@pytest.fixture(scope="module")
def shapes() -> list[ShapeStudy]:
    return [layer_explorer.predict_shape(model) for model in SHAPES]


def test_shapes_are_the_memory_commands_own_numbers(shapes: list[ShapeStudy]) -> None:
    for shape in (shapes[0], shapes[4]):
        request = MemoryRequest(model=shape.model, stages=("fp16", "nf4-dq"))
        report = report_memory(request, lambda event: None, lambda: False, ways=("predicted",))
        assert report.parameters == shape.parameters
        assert [stage.total_bytes for stage in report.stages] == [shape.fp16_bytes, shape.nf4_bytes]


def test_the_parts_of_a_shape_add_up(shapes: list[ShapeStudy]) -> None:
    for shape in shapes:
        dense = shape.fp16_bytes - shape.matrices_fp16_bytes
        assert dense + shape.matrices_nf4_bytes == shape.nf4_bytes
        assert 0 < shape.embedding_bytes <= dense
        assert 0 < shape.constants_bytes < shape.matrices_nf4_bytes / 20
    assert shapes[0].embedding_bytes == 2 * 768 * (50_257 + 1_024)


def test_larger_models_shrink_more(shapes: list[ShapeStudy]) -> None:
    ratios = [shape.fp16_bytes / shape.nf4_bytes for shape in shapes]
    assert ratios[:4] == sorted(ratios[:4]) and ratios[4:] == sorted(ratios[4:])
    assert ratios[0] == pytest.approx(2.03, abs=0.01) and 3.7 < ratios[-1] < 4
    shown = words_of(view_shapes(shapes, "meta-llama/Llama-3.1-70B", SHAPES))
    assert "GPT-2 small 124M 31.6 % 2.03 ×" in shown and "Llama 3.1 70B 69.50B 1.5 % 3.72 ×" in shown
    assert "The whole model shrinks by a factor of 3.72" in shown


def test_a_shape_that_is_not_carried() -> None:
    with pytest.raises(ModelError, match="carries no shape of 'nobody/nothing'"):
        layer_explorer.predict_shape("nobody/nothing")
    for model in ("nobody/nothing", None, ["openai-community/gpt2"]):
        with pytest.raises(SettingsError, match="is not offered"):
            check_choice("model", model, SHAPES)
    assert set(TRAINED) - {"sample"} <= set(SHAPES)


def test_the_shipped_runs_optimizer() -> None:
    report = shipped_report()
    trained, peak = report["parameters"]["trainable"], report["memory"]["peak_bytes"]
    state = layer_explorer.optimizer_of_run(ASSETS / "adapter")
    assert (state.trained, state.state_bytes) == (trained, 8 * trained)
    assert state.state_8bit_bytes == optimizer_bytes([trained], "adamw_8bit") > 2 * trained, "as a step is predicted"
    shown = words_of(view_optimizer(state))
    assert all(f"{count:,} bytes" in shown for count in (8 * trained, state.state_8bit_bytes, peak))
    assert f"{100 * 8 * trained / peak:.2f} % of the run's peak" in shown.replace("&#x27;", "'")
    assert "peak" not in words_of(view_optimizer(layer_explorer.optimizer_state(7_000_000_000)))


def test_torchs_adamw_keeps_8_bytes_a_parameter() -> None:
    """The formula against the library: two moments in float32 (and a step count for each tensor)."""
    layer = torch.nn.Linear(100, 50)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 100)).sum().backward()
    optimizer.step()
    kept = sum(value.nbytes for state in optimizer.state.values() for name, value in state.items() if name != "step")
    assert kept == layer_explorer.optimizer_state(100 * 50 + 50).state_bytes


def test_a_run_without_a_report(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="cannot be read"):
        layer_explorer.optimizer_of_run(tmp_path / "adapter")


def test_texts_are_escaped(query: nf4.Floats, shapes: list[ShapeStudy]) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    state = replace(layer_explorer.optimizer_state(10), peak_bytes=100, peak_is=hostile)
    for html in (
        view_microscope(layer_explorer.examine(query, "nf4", 64, False), hostile),
        view_shapes(shapes[:1], "", {shapes[0].model: hostile}),
        view_optimizer(state),
    ):
        assert "<img" not in html and "&lt;img" in html
