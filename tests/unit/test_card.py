"""The model card: what the Hub reads of it, that its numbers are the report's, and that no text in it is
interpreted."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from qlora_demo.core.errors import HubError
from qlora_demo.core.format import size
from qlora_demo.core.run_report import RunReport
from qlora_demo.hub import card as cards
from qlora_demo.hub.history import PinnedReview, pinned_reviews, read_history
from qlora_demo.hub.markdown import literal, one_line, plain, shell_word
from qlora_demo.hub.metadata import LICENCES, hub_base, hub_data
from qlora_demo.hub.script import write_command
from tests.reviews import shipped_report

BASE = "sentence-transformers/all-MiniLM-L6-v2"
HOSTILE = (
    *("<script>hacked()</script>", "<img src=x onerror=hacked()>", "<!-- hidden -->", "-->", "&lt;b&gt; &#60;i&#62;"),
    *(
        "a | b | c",
        "| --- |",
        "`rm -rf`",
        "``` code",
        "# Heading",
        "---",
        "---\nlicense: mit\n---",
        "two\n\nparagraphs",
    ),
    *("![x](http://evil.example/x.png)", "[click](javascript:hacked())", "www.evil.example", "https://evil.example"),
    *("costs $5 and $6, $$x^2$$", "\\(x\\)", "*bold* _it_ ~~gone~~", "{{ jinja }} {% raw %}", "@everyone :smile:"),
    *("\u202eevil\u202c \u200fright", "\x00\x1b[31m"),
)


def write_card(report: dict[str, Any], base_name: str, **options: Any) -> str:
    return cards.write_card(RunReport.model_validate(report), base_name, **options)


@pytest.fixture
def report() -> dict[str, Any]:
    return shipped_report()


def card_tables(card: str) -> list[str]:
    """The rows of all tables, their heads and lines left out."""
    heads = ("| ---", "|  |", "| reviews |", "| review |")
    return [line for line in card.splitlines() if line.startswith("| ") and not line.startswith(heads)]


def numbers(value: Any) -> set[str]:
    """Every number of a report, as a table may write it."""
    if isinstance(value, dict):
        return set().union(*map(numbers, value.values()), *(numbers(key) for key in value))
    if isinstance(value, list | tuple):
        return set().union(*map(numbers, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return set(re.findall(r"\d+", str(value)))
    return {f"{value:.3f}", f"{value:,}", str(value), size(value).split()[0]}


def test_the_hub_reads_the_reports_own_numbers(report: dict[str, Any]) -> None:
    data = ModelCard(write_card(report, BASE, licence="mit", repo="me/stars", revision="c0ffee")).data
    test = report["final"]["test"]
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    types = {"accuracy": "accuracy", "f1": "macro_f1", "mae": "mae_stars", "cohen_kappa": "quadratic_kappa"}
    assert found == {kind: test[name] for kind, name in {**types, "loss": "loss"}.items()}
    assert (data.base_model, data.library_name, data.license) == (BASE, "peft", "mit")
    assert (data.language, data.datasets) == ("en", None)
    assert data.pipeline_tag == "text-classification" and set(data.tags) == {"qlora", "lora", "text-classification"}
    assert (data.model_name, data.base_model_revision, data.base_model_relation) == ("stars", "c0ffee", "adapter")
    assert all(result.dataset_split == "test" and result.dataset_type == "reviews" for result in data.eval_results)


def test_a_data_set_of_the_hub_is_linked(report: dict[str, Any]) -> None:
    report["config"] |= {"data": "amazon-reviews"}
    report["data"] |= {"name": "mteb/amazon_reviews_multi", "revision": "1399c76"}
    data = ModelCard(write_card(report, "openai-community/gpt2")).data
    assert (data.datasets, data.language, data.license) == (["mteb/amazon_reviews_multi"], "en", None)
    assert data.eval_results[0].dataset_revision == "1399c76"
    report["config"]["data"] = "someone/reviews"
    report["data"]["name"] = "someone/reviews"
    assert ModelCard(write_card(report, "openai-community/gpt2")).data.language is None, "nobody knows it"


def test_a_licence_is_one_that_the_hub_knows(report: dict[str, Any]) -> None:
    for licence in LICENCES:
        assert ModelCard(write_card(report, BASE, licence=licence)).data.license == licence
    with pytest.raises(HubError, match="'do what you like' is none that the Hub knows"):
        write_card(report, BASE, licence="do what you like")


def test_every_number_in_a_table_is_the_reports(report: dict[str, Any]) -> None:
    pinned = (PinnedReview("fine", {"1 star": 0.25, "5 stars": 0.75}, {"1 star": 0.125, "5 stars": 0.875}, 87),)
    known = numbers(report) | numbers([0.25, 0.75, 0.125, 0.875, 87, 1])  # "before step 1"
    rows = card_tables(write_card(report, BASE, pinned=pinned))
    assert len(rows) >= 37
    for row in rows:
        for number in re.findall(r"-?\d[\d,]*(?:\.\d+)?", row):
            assert number in known, f"{number} of {row!r} is nowhere in the report"


def test_the_tables_say_what_the_report_says(report: dict[str, Any]) -> None:
    card, test = write_card(report, BASE), report["final"]["test"]
    low, high = test["intervals"]["accuracy"]
    assert f"| This adapter | {test['accuracy']:.3f} ({low:.3f} to {high:.3f}) |" in card
    for label, counts in zip(test["labels"], test["confusion"], strict=True):
        assert f"| **{label}** | {' | '.join(map(str, counts))} |" in card
    assert f"| {report['memory']['peak_bytes']:,} |" in card
    assert f"{report['memory']['budget']['total_bytes']:,}" in card
    assert "575 reviews" in card and f"{test['calibration']['ece']:.3f}" in card
    made = ("Training", "Further evaluation", "Confusion matrix", "Memory", "How to load it", "How to reproduce it")
    assert all(f"\n## {section}\n" in card for section in ("Evaluation", *made, "Data and its licence", "Limitations"))


@pytest.mark.parametrize("text", HOSTILE)
def test_users_texts_are_shown_and_not_interpreted(report: dict[str, Any], text: str) -> None:
    labels = [f"{text} {i}" for i in range(5)]
    report["data"] |= {"name": f"{text}.csv", "labels": labels, "skipped": {f"label {text!r} outside": 3}}
    report["final"]["test"]["labels"] = labels
    report["doubts"] = [f"No train review has the label {text}; it cannot be learnt."]
    report["config"] |= {"data": f"/home/someone/{text}.csv", "text_column": text, "labels": labels}
    report["environment"]["device_name"] = text
    shares = dict.fromkeys(labels, 0.2)
    card = write_card(report, f"/home/someone/{text}", pinned=(PinnedReview(text, shares, shares, 3),))
    assert "/home/someone" not in card, "a path of this machine"
    card.encode("utf-8")
    data = ModelCard(card).data
    assert (data.license, data.base_model) == (None, None), "the front matter was taken over"
    told = ("accuracy", "macro_f1", "mae_stars", "quadratic_kappa", "loss")
    assert [result.metric_value for result in data.eval_results] == [report["final"]["test"][name] for name in told]
    body = card.split("\n---\n", 1)[1]
    outside = re.sub(r"^```.*?^```$", "", body, flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069\u200e\u200f\x00\x1b]", card) and "$" not in outside
    assert "\\" not in outside
    assert "<script" not in card and "<img" not in card and "<!--" not in card
    html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(body)
    assert not re.search(r"<(script|img|i|b|s|del|em)[ >]", html) and "<a " not in html
    assert len(re.findall("<h1>", html)) == 1
    widths = [len(re.findall(r"<t[hd][ >]", row)) for row in re.findall(r"<tr>.*?</tr>", html, re.DOTALL)]
    assert set(widths) <= {2, 3, 4, 6, 7}, "a pipe has opened a cell"
    assert one_line(text) in unescape(MarkdownIt().render(f"x {plain(text)} x"))


@pytest.mark.parametrize("text", [*HOSTILE, "\ud800 half", "it's", 'say "no"', "back\\slash'", "ünïcode 🙂", "\\'"])
def test_texts_in_code_are_the_same_texts(text: str) -> None:
    assert eval(literal(text)) == text
    assert not set(literal(text)) & set("<>`$\n") and literal(text).isascii()
    assert "\n" not in shell_word(text) and "`" not in shell_word(text) and "<" not in shell_word(text)


def test_the_shell_gets_the_word_back() -> None:
    for text in ("plain", "two words", 'it\'s $HOME `id` "x" \\ <b>', "a\nb", "ünï 🙂", "-x", ""):
        done = subprocess.run(
            ["bash", "-c", f"printf '%s' {shell_word(text)}"], capture_output=True, text=True, check=True
        )
        assert done.stdout == text


def test_what_is_local_and_what_is_not(report: dict[str, Any]) -> None:
    assert [hub_base(name) for name in ("org/base", "gpt2")] == ["org/base", "gpt2"]
    assert not any(hub_base(name) for name in ("/srv/models/base", "./base", "../base", "C:\\base", "a/b/c", ""))
    for data in ("sample", "sample-mix", "/srv/reviews.csv", "reviews.csv", "/srv/folder", "./folder"):
        changed = {**report, "config": {"data": data}, "data": {"name": "reviews"}}
        assert hub_data(RunReport.model_validate(changed)) == ""


def test_the_command_names_what_is_not_usual(report: dict[str, Any]) -> None:
    from qlora_demo.__main__ import build_parser
    from qlora_demo.cli.train import read_config

    assert write_command(report["config"]) == "python -m qlora_demo train --data sample-mix --epochs 3"
    others = {"max_steps": 30, "mend": True, "labels": ["bad", "so so", "good"], "learning_rate": 2e-5, "header": "yes"}
    changed = {**report["config"], **others}
    words = shlex.split(write_command(changed).replace("$'", "'").replace("\\x0a", "\n"))
    asked = read_config(build_parser().parse_args(words[3:]))
    known = {name: value for name, value in changed.items() if name in type(asked).model_fields}
    assert asked.to_dict() | {"epochs": 3.0} == asked.to_dict() | known
    assert write_command({"rank": 99999}) == "python -m qlora_demo train"


def test_a_resumed_runs_log_is_told_once(tmp_path: Path) -> None:
    def probe(step: int, share: float) -> dict[str, Any]:
        return {"event": "probe", "step": step, "text": "ok", "probabilities": {"bad": 1 - share, "good": share}}

    def step(number: int, loss: float) -> dict[str, Any]:
        return {"event": "step", "step": number, "loss": loss}

    before = [probe(0, 0.5), step(5, 1.0), probe(5, 0.6), step(9, 9.0), probe(9, 0.1)]
    events = [*before, {"event": "resumed", "step": 5}, step(9, 0.9), probe(9, 0.7), probe(12, 0.8)]
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events) + '{"event": "probe", "st')
    told = read_history(path)
    assert [event["loss"] for event in told if event["event"] == "step"] == [1.0, 0.9]
    assert [(p.before["good"], p.after["good"], p.step) for p in pinned_reviews(told, 9)] == [(0.5, 0.7, 9)]
    assert [(p.after["good"], p.step) for p in pinned_reviews(told, 7)] == [(0.8, 12)], "none at that step: the last"
    assert pinned_reviews([]) == () and read_history(tmp_path / "none") == []
