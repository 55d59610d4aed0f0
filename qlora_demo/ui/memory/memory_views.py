"""What a training step and the measuring process take, as HTML. Pure; every text is escaped here. Knows no handler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ...core.format import duration, percent, size
from ...core.names import STAGES

GAPS = "what the C library holds in gaps between blocks"
ON_GPU, ON_CPU = "allocated on the GPU", "resident in memory"


def view_step(step: Mapping[str, Any] | None) -> str:
    """A step as a waterfall, part by part up to its peak, and beside it what was measured. `step` as `weigh` reports
    it.
    """
    if not step:
        return ""
    if not step["predicted"]:
        return f'<p class="problem">{escape(step["problem"])}</p>'
    budget = step["predicted"]
    parts = [part for part in _parts(budget) if part[3]]
    widest = max(sum(max(0, part[3]) for part in parts), 1)
    rows, reached = "", 0
    for name, what, color, count in parts:
        start, reached = reached, reached + count
        sign = "+ " if start and count > 0 else "− " if count < 0 else ""
        rows += _bar(name, what, color, min(start, reached) / widest, abs(count) / widest, sign + size(abs(count)))
    rows += _bar(
        "Peak of a step", "model, step and gaps at their highest", "weights", 0, reached / widest, size(reached)
    )
    problem = f'<p class="quiet">{escape(step["problem"])}</p>' if step["problem"] else ""
    return (
        f'<div class="stages" role="table" aria-label="A training step, part by part">{rows}</div>{problem}'
        f"{_verdict(budget, step['measured'], step['error'])}"
    )


def _parts(budget: Mapping[str, Any]) -> list[tuple[str, str, str, int]]:
    """(name, what it is, colour, bytes): they sum to the budget's total."""
    checkpointed = ", recomputed layer by layer" if budget["gradient_checkpointing"] else ""
    batch = f"kept for the backward pass: {budget['batch_size']} × {budget['length']} tokens{checkpointed}"
    beside = budget["workspace_bytes"] - budget["overlap_bytes"]
    return [
        ("The model", "quantized, prepared, with LoRA", "weights", budget["model_bytes"]),
        ("Gradients", "of the trained weights alone", "gradients", budget["gradients_bytes"]),
        ("Optimizer", f"AdamW's two moments, {escape(budget['optimizer'])}", "optimizer", budget["optimizer_bytes"]),
        ("Activations", batch, "activations", budget["activations_bytes"] + budget["logits_bytes"]),
        ("Workspace", "a restored matrix and the like, less what has gone by then", "buffers", beside),
        ("Heap", GAPS, "buffers", budget["allocator_bytes"]),
    ]


def _bar(name: str, what: str, color: str, start: float, share: float, total: str) -> str:
    return (
        f'<div class="stage" role="row"><div role="cell"><strong>{name}</strong><small>{what}</small></div>'
        f'<div role="cell" class="bar"><i class="before" style="width:{100 * start:.3f}%"></i>'
        f'<i class="part-{color}" style="width:{100 * share:.3f}%"></i></div>'
        f'<div role="cell" class="total"><strong>{total}</strong></div></div>'
    )


def _verdict(budget: Mapping[str, Any], reading: Mapping[str, Any] | None, error: float | None) -> str:
    place = ON_GPU if budget["device"] == "cuda" else ON_CPU
    if not reading or error is None:
        return (
            f'<p class="quiet">Predicted: {size(budget["step_bytes"])} come on top of the model. Python and its'
            " libraries come on top of both; the measurement says how much.</p>"
        )
    standing, peak = reading["standing_bytes"], reading["peak_bytes"]
    seconds = reading["step_seconds"]
    took = duration(seconds) if seconds >= 10 else f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
    return (
        '<dl class="facts">'
        f"<div><dt>Before the step, measured</dt><dd>{size(standing)}</dd></div>"
        f"<div><dt>The step adds, predicted</dt><dd>{size(budget['step_bytes'])}</dd></div>"
        f"<div><dt>Peak, predicted</dt><dd>{size(standing + budget['step_bytes'])}</dd></div>"
        f"<div><dt>Peak, measured</dt><dd>{size(peak)}</dd></div>"
        f"<div><dt>Error</dt><dd>{100 * error:+.1f} %</dd></div>"
        f"<div><dt>A step takes</dt><dd>{took}</dd></div></dl>"
        f'<p class="quiet">Measured in a fresh process, over two steps: {place}. Of what stood before, '
        f"{size(reading['libraries_bytes'])} are Python and its libraries.</p>"
    )


def view_process(report: Mapping[str, Any]) -> str:
    """What the process took for each stage beside what the ledger counts, and whether it ever held the whole FP32
    model.
    """
    process: Sequence[Mapping[str, Any]] = report.get("process") or []
    if not process:
        return (
            '<p class="quiet">Not measured yet: press “Measure memory”. What a process takes cannot be predicted from a'
            " configuration.</p>"
        )
    ledger = {stage["name"]: stage["total_bytes"] for stage in report["stages"]}
    on_gpu = process[0]["reserved_bytes"] is not None
    rows = "".join(
        f"<tr><td>{STAGES[item['stage']][0]}</td><td class='number'>{size(ledger[item['stage']])}</td>"
        f"<td class='number'>{size(max(0, item['held_bytes'] - item['before_bytes']))}</td>"
        f"<td class='number'>{size(max(0, item['peak_bytes'] - item['before_bytes']))}</td>"
        f"<td class='number'>{size(_own_peak(item))}</td></tr>"
        for item in process
    )
    last = "reserved by torch's allocator" if on_gpu else "of it no mapped file"
    return (
        '<div class="scroll"><table class="plain"><thead><tr><th>Stage</th><th class="number">tensors (ledger)</th>'
        '<th class="number">the process grew by</th><th class="number">at most while loading</th>'
        f'<th class="number">{last}</th></tr></thead><tbody>{rows}</tbody></table></div>'
        f"{_loading(process, ledger)}{_difference(process[0], on_gpu)}"
    )


def _own_peak(item: Mapping[str, Any]) -> int | None:
    """The most while loading that is the process's own, beside what was there: on a GPU what the allocator reserved."""
    if item["reserved_bytes"] is not None:
        return int(item["reserved_bytes"])
    if item["peak_anonymous_bytes"] is None or item["before_anonymous_bytes"] is None:
        return None
    return max(0, int(item["peak_anonymous_bytes"]) - int(item["before_anonymous_bytes"]))


def _loading(process: Sequence[Mapping[str, Any]], ledger: Mapping[str, int]) -> str:
    nf4 = next((item for item in process if item["stage"] in ("nf4-dq", "nf4")), None)
    if nf4 is None or "fp32" not in ledger:
        return ""
    own = _own_peak(nf4) if nf4["reserved_bytes"] is None else nf4["peak_bytes"] - nf4["before_bytes"]
    if own is None:
        return ""
    whole = ledger["fp32"]
    if own < whole:
        return (
            f'<p class="caption"><strong>Loading in NF4 took at most {size(own)}, {percent(own / whole)} of the FP32'
            " model:</strong> each matrix is read, quantized and let go before the next.</p>"
        )
    return (
        f'<p class="caption"><strong>Loading in NF4 took {size(own)} for a moment, more than the FP32 model'
        f" ({size(whole)}).</strong> In a model this small the embedding's conversion and the libraries' own buffers"
        " outweigh the rest; larger models stay below.</p>"
    )


def _difference(first: Mapping[str, Any], on_gpu: bool) -> str:
    why = (
        "Allocated is what tensors hold; reserved is what torch's allocator took from the GPU in large pieces. CUDA's"
        " context and kernels come on top, and no tool inside the process counts them."
        if on_gpu
        else (
            f"{size(first['before_bytes'])} were resident before any model: Python, torch and the other libraries. A"
            " file of weights is mapped, not read: its pages count as resident once they are touched, and the system"
            " takes them back when it needs room. So an FP32 model that nobody has used yet weighs next to nothing,"
            " and a quantized one seems to weigh its file as well."
        )
    )
    return f'<p class="quiet">{why}</p>'
