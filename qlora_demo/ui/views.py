"""What several tabs show, as HTML: the machine, downloads, limits, problems, a confusion matrix. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from ..core.format import plural
from ..core.records import Download, Machine
from .templating import render

MOST_LABELS = 30  # of a confusion matrix; more make none that one could read


def view_machine(machine: Machine) -> str:
    """One line: what works here."""
    return render("shared/machine.html.jinja", machine=machine)


def view_quiet(sentence: str) -> str:
    """A remark in small print; "" without one."""
    return render("shared/quiet.html.jinja", sentence=sentence) if sentence else ""


def view_downloads(downloads: Sequence[Download]) -> str:
    """What would be downloaded, asked before it happens."""
    return Markup("").join(render("shared/download.html.jinja", download=download) for download in downloads)


def view_limits(sentence: str, copy: str = "") -> str:
    """What a public host's visitors may ask for, and where they make a `copy` of the Space."""
    return render("shared/limits.html.jinja", sentence=sentence, copy=copy)


def view_problems(problems: Mapping[str, str] | Sequence[str], title: str = "") -> str:
    """All that is wrong with a form, at once; by field where it is known which one each is about."""
    if not problems:
        return ""
    named = list(problems.items()) if isinstance(problems, Mapping) else [("", text) for text in problems]
    return render("shared/problems.html.jinja", problems=named, title=title)


def view_confusion(
    labels: Sequence[str], confusion: Sequence[Sequence[int]], ordinal: bool, clickable: bool | None = None
) -> str:
    """The confusion matrix: right predictions in one hue, wrong ones in another, deeper the more stars they are off; ""
    where there are too many labels to read.

    clickable: cells are buttons with `data-label` and `data-guess`, enabled where True; None: they are none.
    """
    if len(labels) > MOST_LABELS:
        return ""
    most = len(labels) - 1
    rows = [
        {
            "label": label,
            "total": sum(counts),
            "cells": [_cell(labels, true, guess, count, sum(counts), ordinal) for guess, count in enumerate(counts)],
        }
        for true, (label, counts) in enumerate(zip(labels, confusion, strict=True))
    ]
    legend = [("judged-right", _depth(0, most, ordinal), "correct")]
    for off in range(1, most + 1, most - 1 if most > 5 else 1) if ordinal else (1,):
        words = f"{plural(off, 'star')} off" if ordinal else "wrong"
        legend.append(("judged-wrong", _depth(off, most, ordinal), words))
    return render("shared/confusion.html.jinja", labels=labels, rows=rows, legend=legend, clickable=clickable)


def _cell(labels: Sequence[str], true: int, guess: int, count: int, total: int, ordinal: bool) -> dict[str, object]:
    off = abs(true - guess)
    return {
        "label": true,
        "guess": guess,
        "count": count,
        "kind": ("judged-wrong" if off else "judged-right") if count else "",
        "depth": _depth(off, len(labels) - 1, ordinal),
        "words": f"Actual {labels[true]}, predicted {labels[guess]}: {count:,} of {plural(total, 'review')}",
    }


def _depth(off: int, most: int, ordinal: bool) -> str:
    """How deep the colour of a cell is, in percent, `off` labels beside the right one."""
    if not off:
        return "30"
    return f"{12 + 33 * (off - 1) / (most - 1):.0f}" if ordinal and most > 1 else "25"
