"""Paths in sentences become names; what only looks like a path stays."""

from __future__ import annotations

import pytest

from qlora_demo.host.redaction import clean, without_paths
from tests.serving import ROOT


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("The folder /home/me/models/x has no config.json.", "The folder x has no config.json."),
        ("It lies in /home/me/models/x.", "It lies in x."),
        ("'/a/b c' and \"/a/b.csv\"", "'b c' and \"b.csv\""),
        (
            f"{ROOT}/runs/20260101-000000-abcdef is gone; see {ROOT}.",
            "20260101-000000-abcdef is gone; see this machine.",
        ),
        ("~/reviews.csv", "reviews.csv"),
        ("upload:0123456789abcdef0123456789abcdef/mine.csv", "mine.csv"),
        (
            "accuracy and/or loss, 3/4 of 1/2; https://huggingface.co/a/b",
            "accuracy and/or loss, 3/4 of 1/2; https://huggingface.co/a/b",
        ),
        ("openai-community/gpt2 by /classify, <b>x</b>", "openai-community/gpt2 by /classify, <b>x</b>"),
        ("", ""),
    ],
)
def test_paths_become_names(text: str, told: str) -> None:
    assert without_paths(text) == told


def test_everything_in_a_value_is_cut_and_hidden_words_are_replaced() -> None:
    told = clean({"a": ["/x/y/turnover.csv", 3, None], "b": ("turnover.csv is small",)}, ["turnover.csv"])
    assert told == {"a": ["an uploaded file", 3, None], "b": ["an uploaded file is small"]}
