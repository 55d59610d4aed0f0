"""What the tables of hardware and of calculators say: words and numbers, escaped; on GPT-2's ledger."""

from __future__ import annotations

from qlora_demo.core.memory_report import MemoryStage
from qlora_demo.core.records import Fit
from qlora_demo.engine.memory.calculators import estimates
from qlora_demo.engine.models.shapes import shape_of
from qlora_demo.ui.memory.fit_views import view_calculators, view_fits
from tests.pages import words_of

GB = 10**9
FITS = [
    Fit("CPU basic", 16 * GB, "QLoRA", 64, 12_590_000_000, "cpu", 0.0),
    Fit("CPU basic", 16 * GB, "full fine-tuning", 0, 23_100_000_000, "cpu", 0.0),
    Fit("<T4> small", 16 * GB, "QLoRA", 1024, 9_800_000_000, "cuda", 0.4),
    Fit("<T4> small", 16 * GB, "full fine-tuning", 1, 15_990_000_000, "cuda", 0.4),
    Fit("H200", 141 * GB, "QLoRA", 2048, 131_000_000_000),
]
STAGES = [
    MemoryStage(name, source, weights, constants, 0, 0, 48, 4)  # type: ignore[arg-type]
    for name, source, weights, constants in (
        ("fp16", "predicted", 248_887_296, 0),
        ("nf4", "predicted", 1, 0),
        ("nf4", "measured", 121_485_312, 5_311_488),
        ("nf4-dq", "predicted", 121_485_312, 1_400_256),
    )
]


def test_a_batch_or_what_it_would_need_is_said_in_words() -> None:
    html = view_fits(FITS, 128)
    shown = words_of(html)
    assert "batch 64 needs 12.6 GB" in shown and "does not fit needs 23.1 GB" in shown and "batch 1,024" in shown
    assert "CPU basic 16 GB of main memory, no GPU, free" in shown and "16 GB of GPU memory, $0.40" in shown
    assert "H200 141 GB of GPU memory batch 2,048" in shown, "no price, no word of one"
    assert "reviews of 128 tokens" in shown and "Predicted, not measured" in shown
    assert "<T4>" not in html and "&lt;T4&gt; small" in html


def test_nothing_is_shown_of_nothing() -> None:
    assert view_fits([], 128) == view_calculators([], STAGES) == view_calculators(estimates(1000), []) == ""


def test_each_formula_stands_beside_what_is_measured() -> None:
    found = estimates(124_439_808, shape_of("gpt2"))
    html = view_calculators(found, STAGES)
    shown = words_of(html)
    for error in ("-49.4 %", "+53.0 %", "+16.7 %", "-6.9 %", "+22.0 %", "+0.0 %"):
        assert error in shown, error
    assert "62.2 MB 74.7 MB with its 20 % overhead 122.9 MB" in shown, "what is added for serving is not compared"
    assert "380.9 MB 248.9 MB" in shown and "148.0 MB 126.8 MB" in shown and "version 1.15.0" in shown
    assert "too low" in shown and "too high" in shown and "correct" in shown
    held = {"fp16": 248_887_296, "nf4": 126_796_800, "nf4-dq": 122_885_568}
    off = sum(abs(one.weights_bytes / held[one.quantity] - 1) > 0.05 for one in found)
    assert f"{off} of {len(found)} published estimates are off" in shown
