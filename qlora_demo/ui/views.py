"""Records as HTML: the machine, the memory bars, a run's report. Pure; every text is escaped here.

Numbers carry their unit and say whether they were measured or predicted. Knows no handler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..core.format import duration, number, percent, size
from ..core.names import BASELINES, METRICS, STAGES
from ..core.records import Download, Machine
from ..host.redaction import without_paths
from .templating import render

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


def view_downloads(found: Sequence[Download]) -> str:
    """What would be fetched, so that one can say no."""
    return "".join(_download(item) for item in found)


def _download(found: Download) -> str:
    gated = "yes: you must have been granted access" if found.gated else "no"
    what = "model" if found.kind == "model" else "data set"
    return (
        f'<div class="ask"><p>The {what} <strong>{escape(found.name)}</strong> is not on this machine yet.</p><dl'
        ' class="facts">'
        f"<div><dt>To download</dt><dd>{size(found.download_bytes)}</dd></div>"
        f"<div><dt>Free disk</dt><dd>{size(found.free_disk_bytes)}</dd></div>"
        f"<div><dt>Licence</dt><dd>{escape(found.license or 'not stated')}</dd></div><div><dt>Gated</dt><dd>{gated}</dd></div></dl></div>"  # noqa: E501
    )


def view_doomed(summary: Mapping[str, Any], size_bytes: int) -> str:
    """What deleting a run would remove, so that one can say no."""
    what = escape(summary["name"] or summary["run"])
    return (
        f'<p class="ask">Delete <strong>{what}</strong> with its adapter, checkpoints and curves, {size(size_bytes)} in'
        " all?</p>"
    )


def view_limits(sentence: str, copy: str = "") -> str:
    """What a public host's visitors may ask for, and where they make a `copy` of the Space."""
    link = (
        f' <a href="{escape(copy, quote=True)}" target="_blank" rel="noopener">Duplicate this Space</a>' if copy else ""
    )
    return f'<p class="quiet">{escape(sentence)}{link}</p>'


def view_problems(problems: Mapping[str, str] | Sequence[str], title: str = "") -> str:
    """All that is wrong with a form, at once; by field where it is known which one each is about."""
    if not problems:
        return ""
    named = problems.items() if isinstance(problems, Mapping) else (("", text) for text in problems)
    items = "".join(
        f"<li{f' data-field={name!r}' if name else ''}>{escape(without_paths(text))}</li>" for name, text in named
    )
    head = f'<p class="problem">{escape(title)}</p>' if title else ""
    return f'<div role="alert">{head}<ul class="problems">{items}</ul></div>'


def view_report(report: dict[str, Any] | None) -> str:
    """A run's result: the adapter against its untrained head and the baselines, and the reload proof."""
    if not report:
        return ""
    test, training = report["final"]["test"], report["training"]
    begun = [("The adapter it started from", report["start"])] if report.get("start") else []
    baselines = [(BASELINES.get(name, name), metrics) for name, metrics in report["baselines"].items()]
    judged = [("This run", test), *begun, ("Untrained head", report["base"]), *baselines]
    rows = "".join(
        f"<tr><th scope='row'>{escape(name)}</th>"
        + "".join(_judged(m, metric, form) for metric, (_, form) in METRICS.items())
        + "</tr>"
        for name, m in judged
    )
    sample = (
        " These reviews were written for this project and are easier than real ones."
        if report["data"]["name"].startswith("sample")
        else ""
    )
    meaning = (
        " Small below each number: where it would lie with other reviews of the same kind, 95 times of 100 (by"
        " bootstrap); another seed of the training is not in it."
        if test.get("intervals")
        else ""
    )
    return (
        f"<h3>Judged on {test['rows']:,} test reviews</h3>"
        '<div class="scroll"><table class="plain judged-table"><thead><tr><td></td>'
        + "".join(f"<th scope='col' class='number'>{title}</th>" for title, _ in METRICS.values())
        + f"</tr></thead><tbody>{rows}</tbody></table></div>"
        f'<p class="quiet">{training["steps"]:,} steps in {duration(training["seconds"])}; {escape(report["kept"])} was'
        " kept. "
        f"The adapter was loaded again in a fresh process under another seed: its logits differ by at most "
        f"{report['reload']['max_logit_difference']:.2g}. {_receipt(report['memory'])}{meaning}{sample}</p>"
    )


def _judged(metrics: Mapping[str, Any], metric: str, form: str) -> str:
    """A number of the table, and its interval beneath; reports of older runs have none."""

    def end(value: float) -> str:
        # Coarser than the number: its last digit is what the interval puts in doubt.
        return f"{100 * value:.0f}" if form == "%" else number(value, ".2f")

    ends = (metrics.get("intervals") or {}).get(metric)
    small = f"<small>{end(ends[0])}–{end(ends[1])}</small>" if ends else ""
    return f"<td class='number'>{metric_word(metrics[metric], form)}{small}</td>"


def metric_word(value: float | None, form: str) -> str:
    """A metric in the form that METRICS gives it."""
    return percent(value) if form == "%" else number(value, form)


def _receipt(memory: dict[str, Any]) -> str:
    """The measured peak, and what had been predicted of it before the first step."""
    told = f"Peak memory of the steps: {size(memory['peak_bytes'])}, {escape(memory['peak_is'])}"
    predicted = memory.get("predicted_peak_bytes")
    return (
        f"{told}; predicted {size(predicted)} ({predicted / memory['peak_bytes'] - 1:+.0%})."
        if predicted
        else f"{told}."
    )
