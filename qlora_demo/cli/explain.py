"""The command explain: which words of a review speak for its label, which against it, and whether that holds.

It imports the engine when it runs, not before. Knows nothing of jobs, except where runs (and so adapters) lie.
"""

from __future__ import annotations

import argparse
from typing import Any

from ..core.format import number, percent, shorten
from ..engine import importing
from ..host.environment import default_home
from .base import Output, add_command

_SHOWN = 12  # words, of the highest scores in size
_WIDTH = 24  # characters of the longest bar


def add_commands(commands: Any) -> None:
    explain = add_command(commands, "explain", run_explain, "Tell which words gave a review its label.")
    explain.add_argument(
        "--adapter", metavar="ADAPTER", required=True, help="`sample` (the shipped one), a run's id, or a local folder."
    )
    explain.add_argument("--base", action="store_true", help="By the same network as it was before training.")
    explain.add_argument("--label", metavar="LABEL", help="Explain this label [default: the likeliest].")
    explain.add_argument("text", metavar="TEXT", help="A review.")


def run_explain(options: argparse.Namespace, out: Output) -> int:
    with importing():
        from ..engine.classify import classifier as inference
        from ..engine.classify import explain
    inference.check_texts([options.text])  # before anything is loaded
    classifier = inference.Classifier(options.adapter, runs_home=default_home())
    found = explain.explain(classifier, options.text, label=options.label, base=options.base).to_dict()
    out.show(found, lambda: describe(found))
    return 0


def describe(found: dict[str, Any]) -> str:
    """An explanation (as to_dict gives it) as lines: the words of the highest scores in size, and the deletion test in
    a sentence.
    """
    strongest = sorted(found["words"], key=lambda word: -abs(word["score"]))[:_SHOWN]
    most = max((abs(word["score"]) for word in strongest), default=0) or 1
    left_out = len(found["words"]) - len(strongest)
    lines = [
        f"{found['label']}  {percent(found['probability'])} sure; words for it (+) and against it (-), in units of its"
        " logit:"
    ]
    lines += [f"{word['score']:+8.3f}  {_bar(word['score'] / most)}  {shorten(word['text'], 40)}" for word in strongest]
    lines += [f"          and {left_out:,} words of less weight"] if left_out else []
    lines += (
        [f"The end was cut off: {found['seen']:,} of {len(found['text']):,} characters were read."]
        if found["truncated"]
        else []
    )
    return "\n".join([*lines, _say_test(found["deletion_test"], found["label"])])


def _bar(share: float) -> str:
    return ("+" if share >= 0 else "-") * round(abs(share) * _WIDTH) + " " * (_WIDTH - round(abs(share) * _WIDTH))


def _say_test(test: dict[str, Any], label: str) -> str:
    if test["top"] is None:
        return f"Deletion test: {test['note']}"
    times = f", {number(test['ratio'], '.1f')} times as far" if test["ratio"] is not None else ""
    return (
        f"Deletion test: without the top {test['removed']} of {test['words']} words the probability of {label} moves by"
        f" {100 * test['top']:.1f} points, without random ones by {100 * test['random']:.1f}{times}. {test['note']}"
    ).rstrip()
