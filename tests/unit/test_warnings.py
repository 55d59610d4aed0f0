"""What makes a result doubtful, and settings that a resumed run may not change."""

from __future__ import annotations

import random

import pytest
import torch

from qlora_demo.core.config import RunConfig, refuse_changes
from qlora_demo.core.errors import SettingsError
from qlora_demo.core.presets import PRESETS
from qlora_demo.engine.data.dataset import DataSet, Reviews
from qlora_demo.engine.train import warnings
from qlora_demo.engine.train.batches import loss_over


def test_a_loss_that_falls_is_told_from_one_that_does_not() -> None:
    noise = random.Random(1)
    flat = [1.6 + noise.gauss(0, 0.05) for _ in range(60)]
    falling = [1.6 - 0.01 * step + noise.gauss(0, 0.05) for step in range(60)]
    assert "has not fallen" in (said := warnings.check_losses(flat, 1e-7) or "") and "1e-07" in said
    assert warnings.check_losses(falling, 1e-3) is None
    assert warnings.check_losses(flat[:5], 1e-3) is None, "too early to say"


def test_a_split_without_a_label_is_told() -> None:
    whole = Reviews(["a", "b", "c"], [0, 1, 2])
    data = DataSet("mine", ("1", "2", "3"), True, {"train": whole, "validation": Reviews(["a"], [0]), "test": whole})
    assert warnings.check_data(data) == [
        "No validation review has the label 2, 3; the validation metrics say nothing about it."
    ]


def test_class_weights_scale_each_review() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    outputs = type("Outputs", (), {"logits": logits})
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    weighted = loss_over(2, 0.0, False, torch.tensor([3.0, 0.5]))(outputs, labels)
    assert weighted.item() == pytest.approx(float(3 * each[0] + 0.5 * each[1]) / 2)


def test_changed_settings_are_all_told() -> None:
    refuse_changes(RunConfig(), RunConfig())
    with pytest.raises(SettingsError) as refused:
        refuse_changes(RunConfig(rank=8, seed=1), RunConfig())
    assert set(refused.value.problems) == {"rank", "seed"} and "is 8, but the run has 16." in str(refused.value)


def test_pinned_reviews_are_lines() -> None:
    assert RunConfig.read({"pinned": " one \n\ntwo"}).pinned == ("one", "two")
    with pytest.raises(SettingsError, match="there are 6 of them; give at most 5"):
        RunConfig.read({"pinned": "\n".join("abcdef")})
    assert {"smoke-test", "sample", "gpt2-amazon"} <= PRESETS.keys()
