"""What public calculators' formulas give, on GPT-2, whose published numbers are known; accelerate's against its own
installed code."""

from __future__ import annotations

import pytest
import torch
from accelerate.commands.estimate import estimate_training_usage
from accelerate.utils import calculate_maximum_sizes
from accelerate.utils.modeling import compute_module_sizes
from transformers import AutoConfig

from qlora_demo.engine.memory import ledger
from qlora_demo.engine.memory.calculators import (
    accelerate_bytes,
    cookbook_bytes,
    estimates,
    fits_unsloth,
    gpu_poor_bytes,
    serving_bytes,
    unsloth_bytes,
)
from qlora_demo.engine.models.blueprint import read_blueprint
from qlora_demo.engine.models.shapes import SHAPES, shape_of

GPT2 = shape_of("gpt2") or {}
PARAMETERS = 124_439_808


@pytest.mark.parametrize(
    ("found", "megabytes"),
    [
        (accelerate_bytes(PARAMETERS, 4), 62.2),
        (accelerate_bytes(PARAMETERS, 16), 248.9),
        (serving_bytes(PARAMETERS, 4), 74.7),
        (serving_bytes(PARAMETERS, 16), 298.7),
        (gpu_poor_bytes(GPT2, "fp16"), 380.9),
        (gpu_poor_bytes(GPT2, "nf4"), 118.1),
        (gpu_poor_bytes(GPT2, "nf4-dq"), 112.1),
        (unsloth_bytes(GPT2, "nf4"), 148.0),
        (unsloth_bytes(GPT2, "nf4-dq"), 140.1),
        (cookbook_bytes(GPT2), 327.6),
    ],
)
def test_gpt2_by_each_formula(found: int | None, megabytes: float) -> None:
    assert found is not None and found / 1e6 == pytest.approx(megabytes, abs=0.05)


def test_accelerate_counts_so_too() -> None:
    base = read_blueprint(AutoConfig.for_model(**GPT2), 5).copy_model(torch.float32).base_model
    whole, _ = calculate_maximum_sizes(base)
    assert whole == compute_module_sizes(base)[""] == 4 * PARAMETERS
    assert accelerate_bytes(PARAMETERS, 4) == whole / 8 and accelerate_bytes(PARAMETERS, 16) == whole / 2
    assert estimate_training_usage(whole, "int4")["step"] == -1, "it says nothing of training in 4 bits"


def test_what_is_compared_is_the_ledgers_quantity() -> None:
    blueprint = read_blueprint(AutoConfig.for_model(**GPT2), 5)
    stages = {stage.name: stage for stage in ledger.predict(blueprint, ("fp16", "nf4", "nf4-dq"))}
    found = estimates(PARAMETERS, GPT2)
    assert {one.quantity for one in found} == set(stages)
    assert stages["nf4-dq"].weights_bytes == 121_485_312
    assert all(one.bytes >= one.weights_bytes > 0 and one.source and one.read and one.why for one in found)
    assert [one for one in found if one.quantity == "fp16" and one.weights_bytes == 2 * PARAMETERS]


def test_without_a_shape_only_the_count_is_used() -> None:
    assert {one.name for one in estimates(PARAMETERS)} == {"accelerate estimate-memory", "M = P · 4 B / (32 / Q) · 1.2"}


@pytest.mark.parametrize("model", SHAPES)
def test_every_known_shape_is_estimated(model: str) -> None:
    shape = AutoConfig.for_model(**SHAPES[model]).to_dict()
    names = {one.name for one in estimates(10**8, shape)}
    assert "gpu_poor" in names and ("Unsloth Studio" in names) == fits_unsloth(shape)
