"""What fits on which hardware, and what public calculators give, as HTML. Pure; every text is escaped here.

Hardware is sold in decimal gigabytes and calculators print them, so these two tables do too. Knows no handler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ...core.memory_report import Estimate
from ...core.names import STAGES
from ...core.records import Fit

NEAR = 0.05  # an error up to here is no fault of a rule of thumb


def view_fits(fits: Sequence[Fit], length: int) -> str:
    """Hardware by way of training: the largest batch, in words and colour, and what it needs."""
    if not fits:
        return ""
    ways = list(dict.fromkeys(fit.way for fit in fits))
    found = {(fit.gpu, fit.way): fit for fit in fits}
    rows = "".join(
        _hardware_row(name, [found[name, way] for way in ways if (name, way) in found])
        for name in dict.fromkeys(f.gpu for f in fits)
    )
    head = "".join(f'<th scope="col">{escape(way[:1].upper() + way[1:])}</th>' for way in ways)
    return (
        f'<p class="caption">The largest batch of reviews of {length:,} tokens in one training step, among powers of'
        ' two. Predicted, not measured here.</p><div class="scroll"><table class="plain fit-table"><thead><tr><th'
        f' scope="col">Hardware</th>{head}</tr></thead><tbody>{rows}</tbody></table></div><p class="quiet">1 GB is'
        " 1,000,000,000 bytes, as hardware is sold. On a GPU 1.41 GB for CUDA itself and a tenth for its allocator are"
        " kept free; on a CPU 0.70 GB for Python and its libraries, and a third of what a step adds for gaps in the"
        " heap. Prices an hour, as documented for Spaces in 2026; ZeroGPU is free within the visitor's daily"
        " quota.</p>"
    )


def _hardware_row(name: str, fits: Sequence[Fit]) -> str:
    first = fits[0]
    what = f"{_amount(first.memory_bytes)} {'of GPU memory' if first.device == 'cuda' else 'of main memory, no GPU'}"
    price = "" if first.hour_dollars is None else ", free" if not first.hour_dollars else f", ${first.hour_dollars:.2f}"
    return f'<tr><th scope="row">{escape(name)}<small>{what}{price}</small></th>{"".join(map(_fit_cell, fits))}</tr>'


def _fit_cell(fit: Fit) -> str:
    if fit.batch_size:
        return (
            f'<td class="fit-yes"><strong>batch {fit.batch_size:,}</strong><small>takes'
            f" {_amount(fit.needed_bytes)}</small></td>"
        )
    return f'<td class="fit-no"><strong>does not fit</strong><small>needs {_amount(fit.needed_bytes)}</small></td>'


def view_calculators(estimates: Sequence[Estimate | Mapping[str, Any]], stages: Sequence[Mapping[str, Any]]) -> str:
    """Each published formula: what it gives, what it is by the ledger, how far off, and why.

    estimates: records, or as a report holds them. stages: the report's; measured ones are preferred.
    """
    records = [one if isinstance(one, Estimate) else Estimate(**one) for one in estimates]
    actual = _ledger(stages)
    order = list(STAGES)
    shown = sorted((one for one in records if actual.get(one.quantity)), key=lambda one: order.index(one.quantity))
    if not shown:
        return ""
    rows = "".join(_calculator_row(one, actual[one.quantity]) for one in shown)
    off = sum(abs(_error(one, actual[one.quantity])) > NEAR for one in shown)
    return (
        f'<p class="caption"><strong>{off} of {len(shown)} published estimates are off by more than {100 * NEAR:.0f}'
        " %.</strong> Compared are the weights with their quantization constants; buffers and adapters are left out on"
        ' both sides.</p><div class="scroll"><table class="plain fit-calculators"><thead><tr><th'
        ' scope="col">Formula</th><th scope="col">of</th><th scope="col" class="number">gives</th><th scope="col"'
        ' class="number">really</th><th scope="col" class="number">error</th><th scope="col"'
        f' class="fit-why">Why</th></tr></thead><tbody>{rows}</tbody></table></div><p class="quiet">P parameters, Q'
        " bits, V vocabulary, H width, L layers, M width of the MLP, S positions. 1 MB is 1,000,000 bytes.</p>"
    )


def _ledger(stages: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Weights and constants of each stage, in bytes; measured where they were."""
    ranked = sorted(stages, key=lambda stage: stage["source"] == "measured")
    return {stage["name"]: stage["weights_bytes"] + stage["constants_bytes"] for stage in ranked}


def _calculator_row(estimate: Estimate, really: int) -> str:
    error = _error(estimate, really)
    size = "too little" if error < -0.005 else "too much" if error > 0.005 else "as it is"
    kind = "fit-yes" if abs(error) <= NEAR else "fit-no"
    extra = (
        f"<small>{_amount(estimate.bytes)} with its fifth</small>" if estimate.bytes != estimate.weights_bytes else ""
    )
    return (
        f'<tr><th scope="row">{escape(estimate.name)}<small>{escape(estimate.formula)}</small><small'
        f' class="fit-source">{escape(estimate.source)};'
        f" {escape(estimate.read)}</small></th><td>{escape(STAGES[estimate.quantity][0])}</td><td"
        f' class="number">{_amount(estimate.weights_bytes)}{extra}</td><td class="number">{_amount(really)}</td><td'
        f' class="number {kind}"><strong>{100 * round(error, 3) + 0.0:+.1f} %</strong><small>{size}</small></td><td'
        f' class="fit-why">{escape(estimate.why)}</td></tr>'
    )


def _error(estimate: Estimate, really: int) -> float:
    return estimate.weights_bytes / really - 1


def _amount(count: int) -> str:
    """Decimal megabytes below a gigabyte, gigabytes from there on."""
    return (
        f"{count / 1e6:.1f} MB"
        if count < 10**9
        else f"{count / 1e9:.0f} GB"
        if count % 10**9 == 0
        else f"{count / 1e9:,.1f} GB"
    )
