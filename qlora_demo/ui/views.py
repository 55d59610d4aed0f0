"""What several tabs show, as HTML: the machine, downloads, limits, problems, a confusion matrix. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from markupsafe import Markup

from ..core.format import plural, size
from ..core.names import STAGES
from ..core.records import Download, Machine
from .templating import render

MOST_LABELS = 30  # of a confusion matrix; more make none that one could read
PARTS = (
    ("weights", "weights"),
    ("constants", "quantization constants"),
    ("buffers", "buffers"),
    ("adapter", "LoRA and head"),
)


def view_machine(machine: Machine) -> str:
    """One line: what works here."""
    return render("shared/machine.html.jinja", machine=machine)


def view_memory(stages: Sequence[dict[str, Any]], note: str = "") -> str:
    """Bars of all stages, predicted and (where they are there) measured; total, parts and agreement as text.

    `stages` as the `memory` command prints them.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for stage in stages:
        found.setdefault(stage["name"], {})[stage["source"]] = stage
    if not found:
        return f'<p class="quiet">{escape(note)}</p>'
    widest = max(stage["total_bytes"] for stage in stages)
    rows = "".join(_stage_row(name, sources, widest) for name, sources in found.items())
    legend = "".join(f'<span><i class="part-{part}"></i>{words}</span>' for part, words in PARTS)
    return (
        f'<div class="stages" role="table" aria-label="Memory at each stage">{rows}</div>'
        f'<p class="legend">{legend}<span><i class="outlined"></i>predicted only</span></p>'
        + (f'<p class="quiet">{escape(note)}</p>' if note else "")
    )


def _stage_row(name: str, sources: dict[str, dict[str, Any]], widest: int) -> str:
    title, what = STAGES[name]
    shown = sources.get("measured") or sources["predicted"]
    counts = [(part, words, shown[f"{part}_bytes"]) for part, words in PARTS if shown[f"{part}_bytes"]]
    parts = "".join(
        f'<i class="part-{part}" style="width:{100 * count / widest:.3f}%" title="{words}: {size(count)}"></i>'
        for part, words, count in counts
    )
    return (
        f'<div class="stage" role="row"><div role="cell"><strong>{title}</strong><small>{what}</small></div><div'
        f' role="cell" class="bar {"" if "measured" in sources else "outlined"}">{parts}</div><div role="cell"'
        f' class="total"><strong>{size(shown["total_bytes"])}</strong><small>{_agreement(sources)}</small></div></div>'
    )


def _agreement(sources: dict[str, dict[str, Any]]) -> str:
    if "measured" not in sources:
        return "predicted"
    measured = sources["measured"]["total_bytes"]
    difference = measured - sources["predicted"]["total_bytes"]
    return f"measured, {measured:,} B: " + (
        "as predicted, to the byte" if not difference else f"{difference:+,} B from the prediction"
    )


def view_why(report: dict[str, Any]) -> str:
    """Sentences on the three things that surprise: how little a small model shrinks, what double quantization saves,
    why it grows back.
    """
    stages = {stage["name"]: stage for stage in report["stages"]}
    rows = report["architecture"]["rows"]
    quantized = [row for row in rows if row["changed"]]
    dense_bytes = sum(row["bytes_before"] for row in rows if not row["changed"])
    before, after = sum(row["bytes_before"] for row in quantized), sum(row["bytes_after"] for row in quantized)
    lines = []
    if {"fp16", "nf4-dq"} <= stages.keys():
        whole = stages["fp16"]["total_bytes"] / stages["nf4-dq"]["total_bytes"]
        lines.append(
            f"<strong>The model shrinks {whole:.2f} times, its quantized matrices {before / after:.2f} times.</strong>"
            f" {size(dense_bytes)} of its {size(stages['fp16']['total_bytes'])} are not quantized, mostly token"
            " embeddings, and stay FP16. In larger models the embeddings' share falls, and the whole comes close to 4"
            " times."
        )
    if {"nf4", "nf4-dq"} <= stages.keys():
        saved = stages["nf4"]["constants_bytes"] - stages["nf4-dq"]["constants_bytes"]
        lines.append(
            f"<strong>Double quantization saves {size(saved)}.</strong> Every 64 weights share one constant: 0.5 bits a"
            " weight as FP32, 0.127 once the constants are quantized themselves. Tools that count parameters alone"
            " show no difference."
        )
    if {"nf4-dq", "prepared"} <= stages.keys():
        grown = stages["prepared"]["total_bytes"] - stages["nf4-dq"]["total_bytes"]
        lines.append(
            f"<strong>Preparing for training adds {size(grown)} again.</strong> It is no extra configuration:"
            " embeddings, norms and head are cast from FP16 to FP32, so that small updates are not rounded away."
        )
    if "lora" in stages:
        lines.append(
            f"<strong>LoRA adds {size(stages['lora']['adapter_bytes'])}</strong> of trainable weights in FP32, head"
            " included; only these get gradients and optimizer states."
        )
    return "<ul class='why'>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"


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
