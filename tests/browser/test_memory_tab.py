"""The Memory tab: all stages predicted and measured, a step that follows the sliders, the map, hardware, calculators,
the search."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qlora_demo.core.format import size
from tests.browser.waiting import Open, fill, wait_for_text
from tests.conftest import Cli
from tests.serving import App

pytestmark = pytest.mark.browser
EQUAL = "as predicted, to the byte"


def predicted(cli: Cli, *options: str) -> dict[str, Any]:
    status, out, err = cli("memory", "sample", "--predict", "--json", *options)
    assert status == 0, err
    return json.loads(out)


def activations(step: dict[str, Any]) -> str:
    return f"+ {size(step['predicted']['activations_bytes'] + step['predicted']['logits_bytes'])}"


def test_a_step_follows_the_sliders_and_all_is_measured(app: App, open_page: Open, cli: Cli) -> None:
    page = open_page(app.url)
    wait_for_text(page, "#memory-figure", "predicted")
    wait_for_text(page, "#memory-step", activations(predicted(cli, "--batch-size", "32")["step"]))
    assert "only a measurement shows how much" in page.inner_text("#memory-step")
    fill(page, "memory-batch-size", 8)
    fill(page, "memory-length", 32)
    report = predicted(cli, "--batch-size", "8", "--length", "32")
    wait_for_text(page, "#memory-step", activations(report["step"]))
    page.get_by_label("Gradient checkpointing").check()
    wait_for_text(page, "#memory-step", "recomputed layer by layer")
    page.click("#memory-measure")
    wait_for_text(page, "#memory-step", "Measured in a fresh process")
    assert "recomputed layer by layer" in page.inner_text("#memory-step"), "the step asked for is the one measured"
    text = page.inner_text("#memory-figure")
    assert text.count(EQUAL) == 6, text
    for stage in ("FP32", "FP16", "NF4", "NF4 + double quantization", "Prepared for training", "With LoRA"):
        assert stage in text
    for stage in report["stages"]:
        assert f"{stage['total_bytes']:,} B" in text, f"the command says otherwise of {stage['name']}"
    page.get_by_role("button", name="Process memory beyond tensors").click()
    wait_for_text(page, "#memory-process", "Loading in NF4 took")
    page.get_by_text("Architecture before and after").click()
    assert "Linear4bit" in page.inner_text("#memory-architecture .changed >> nth=0")
    # A reload finds the measurement again.
    page.reload()
    wait_for_text(page, "#memory-figure", EQUAL)


def test_where_the_bytes_are_and_what_fits(app: App, open_page: Open) -> None:
    page = open_page(app.url)
    wait_for_text(page, "#memory-figure", "NF4")
    page.get_by_role("button", name="Where the bytes are").click()
    wait_for_text(page, "#memory-sums", "Embeddings")
    page.wait_for_selector("#memory-map .treemaplayer .slice")
    page.get_by_role("button", name="What public calculators say").click()
    wait_for_text(page, "#memory-calculators", "accelerate estimate-memory")
    page.get_by_role("button", name="Which GPU or Space it fits on").click()
    page.click("#memory-where")
    wait_for_text(page, "#memory-hardware", "T4 small")
    assert "batch" in page.inner_text("#memory-hardware")
    page.get_by_role("button", name="Architecture before and after").click()
    wait_for_text(page, "#memory-architecture", "15 of 15")
    page.locator("#memory-find textarea, #memory-find input").press_sequentially("attention linear4bit")
    wait_for_text(page, "#memory-architecture", "4 of 15")
    assert page.locator("#memory-architecture tbody tr:visible").count() == 4
