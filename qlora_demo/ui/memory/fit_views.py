"""What fits on which hardware, and what public calculators estimate, as HTML. Pure.

Hardware is sold in decimal gigabytes and calculators print them, so these two tables do too.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...core import safety
from ...core.memory_report import Estimate, MemoryStage
from ...core.names import STAGES
from ...core.records import Fit
from ..templating import render

NEAR = 0.05  # an error up to here is no fault of a rule of thumb


def view_fits(fits: Sequence[Fit], length: int) -> str:
    """Hardware by way of training: the largest batch and the memory it needs."""
    if not fits:
        return ""
    hardware: dict[str, list[Fit]] = {}
    for fit in fits:
        hardware.setdefault(fit.gpu, []).append(fit)
    ways = list(dict.fromkeys(fit.way for fit in fits))
    return render("memory/fits.html.jinja", hardware=hardware, ways=ways, length=length, safety=safety)


def view_calculators(estimates: Sequence[Estimate], stages: Sequence[MemoryStage]) -> str:
    """Each published formula: its estimate, the actual bytes (measured ones where there are), the error, and why."""
    ranked = sorted(stages, key=lambda stage: stage.source == "measured")
    actual = {stage.name: stage.weights_bytes + stage.constants_bytes for stage in ranked}
    order = list(STAGES)
    rows = [
        (estimate, actual[estimate.quantity], estimate.weights_bytes / actual[estimate.quantity] - 1)
        for estimate in sorted(estimates, key=lambda estimate: order.index(estimate.quantity))
        if actual.get(estimate.quantity)
    ]
    if not rows:
        return ""
    off = sum(abs(error) > NEAR for *_, error in rows)
    return render("memory/calculators.html.jinja", rows=rows, off=off, near=NEAR, names=STAGES)
