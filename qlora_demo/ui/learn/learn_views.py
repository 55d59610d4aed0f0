"""The Learn tab's figures as HTML and SVG: pure functions of numbers and records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...core.memory_report import LayerStudy, OptimizerState, ShapeStudy
from ..templating import render

FP32_BYTES, ADAMW_BYTES = 4, 8
KIND_NAMES = {"nf4": "NF4", "fp4": "FP4 (E2M1)", "int4": "Int4 (15 levels)"}
WEIGHT_NAMES = {"own": "The layer's own weights", "normal": "Normal random weights", "outlier": "Normal, one outlier"}
MAP_SHADES, MAP_FULL = 8, 0.32  # shades of the error map; the darkest begins at this many standard deviations
LONGEST_SIDE, WIDEST_STRIP = 110.0, 60.0  # pixels of W, and of A's width
HAIRLINE = 2.0  # pixels: nothing is drawn thinner, so that it can be seen
BASE_LINE = 184  # of the histogram: bars above, shares of the levels below
TINY = 1e-30  # in place of a zero that is divided by


def view_lora(rows: int, columns: int, rank: int, alpha: float) -> str:
    """What is trained of a matrix of `rows` x `columns`: all of it, or two strips of width `rank`; to scale, with the
    numbers.
    """
    scale = min(LONGEST_SIDE / max(rows, columns), WIDEST_STRIP / rank)
    high, wide, thick = (max(HAIRLINE, side * scale) for side in (rows, columns, rank))
    return render(
        "learn/lora.html.jinja",
        rows=rows,
        columns=columns,
        rank=rank,
        alpha=alpha,
        high=high,
        wide=wide,
        thick=thick,
        fp32_bytes=FP32_BYTES,
        training_bytes=FP32_BYTES + ADAMW_BYTES,
    )


def view_microscope(study: LayerStudy, title: str) -> str:
    """One quantized matrix: histogram with levels, error map, the numbers, the three data types compared. `title`:
    whose weights.
    """
    errors = {kind: error.mean_absolute for kind, error in study.errors.items()}
    best, *others = sorted(errors, key=lambda kind: errors[kind])
    return render(
        "learn/microscope.html.jinja",
        study=study,
        title=title,
        kinds=KIND_NAMES,
        best=best,
        lower=[(kind, 100 * (1 - errors[best] / max(errors[kind], TINY))) for kind in others],
        worst=max(*errors.values(), TINY),
        tiny=TINY,
        cells=_map_paths(study.map),
        shades=MAP_SHADES,
        full=MAP_FULL,
        **_histogram_paths(study),
    )


def _histogram_paths(study: LayerStudy) -> dict[str, str]:
    """Up: how many weights; down: the share of the weights at each level. absmax: a bar for each block of the map."""
    tallest, most = max(study.counts), max(share for _, share in study.levels)
    step, largest = 960 / len(study.counts), max(*study.absmax, TINY)
    bars = "".join(f"V{BASE_LINE - 176 * count / tallest:.1f}h{step:g}" for count in study.counts)
    return {
        "bars": f"M0 {BASE_LINE}{bars}V{BASE_LINE}Z",
        "ticks": "".join(f"M{480 + 480 * level:.1f} 0V{BASE_LINE}" for level, _ in study.levels),
        "stems": "".join(
            f"M{480 + 480 * level:.1f} {BASE_LINE + 4}v{68 * share / most:.1f}" for level, share in study.levels
        ),
        "absmax": "".join(f"M0 {y}.1h{100 * value / largest:.1f}v.8H0z" for y, value in enumerate(study.absmax)),
    }


def _map_paths(cells: Sequence[Sequence[float]]) -> list[str]:
    """The cells of the error map, as one path for each shade."""
    paths = [""] * (MAP_SHADES + 1)
    for y, row in enumerate(cells):
        for x, value in enumerate(row):
            paths[min(MAP_SHADES, int(MAP_SHADES * value / MAP_FULL))] += f"M{x} {y}h1v1h-1z"
    return paths


def view_constants(weights: Sequence[int], block_size: int, plain_bits: float, double_bits: float) -> str:
    """The constants' bits and bytes for models of so many quantized weights."""
    return render(
        "learn/constants.html.jinja",
        weights=weights,
        block_size=block_size,
        plain_bits=plain_bits,
        double_bits=double_bits,
    )


def view_shapes(shapes: Sequence[ShapeStudy], chosen: str, names: Mapping[str, str]) -> str:
    """The chosen shape before and after, and all that are known so far in a table."""
    return render("learn/shapes.html.jinja", shapes=shapes, chosen=chosen, names=names)


def view_optimizer(state: OptimizerState) -> str:
    """AdamW's state in 32-bit, 8-bit and paged; beside the measured peak where there was a run."""
    return render("learn/optimizer.html.jinja", state=state, widest=max(state.peak_bytes or 0, state.state_bytes))
