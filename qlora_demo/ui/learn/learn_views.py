"""The Learn tab's figures as HTML and SVG: plain functions of numbers, escaped here, drawn in the style sheet's
colours.

Every number is worked out from what is handed over; nothing is remembered and nothing looked up. Knows no handler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ...core.format import size

FP32_BYTES, ADAMW_BYTES = 4, 8
KIND_NAMES = {"nf4": "NF4", "fp4": "FP4 (E2M1)", "int4": "Int4 (15 levels)"}
WEIGHT_NAMES = {"own": "The layer's own weights", "normal": "Normal random weights", "outlier": "Normal, one outlier"}
MAP_STEPS, MAP_FULL = 8, 0.32  # shades of the error map; the darkest begins at this many standard deviations
BOX, STRIP = 110.0, 60.0  # pixels for the longer side of W, and for the widest strip
HAIR = 2.0  # what is thinner is drawn this wide, so that it can be seen


def view_head(title: str, text: str) -> str:
    return f'<h2>{escape(title)}</h2><p class="learn-text">{escape(text)}</p>'


def view_foot(attempt: str, note: str) -> str:
    """One thing to try, and what the tutorial says otherwise."""
    return (
        f'<p class="learn-try"><b>Try</b> {escape(attempt)}</p><p class="learn-note"><b>The tutorial</b>'
        f" {escape(note)}</p>"
    )


def _facts(*facts: tuple[str, str, str]) -> str:
    """(what, number, where it comes from)"""
    rows = "".join(
        f"<div><dt>{what}</dt><dd>{value}<small>{source}</small></dd></div>" for what, value, source in facts
    )
    return f'<dl class="facts learn-facts">{rows}</dl>'


# --- LoRA -------------------------------------------------------------------------------------------------------------


def view_lora(rows: int, columns: int, rank: int, alpha: float) -> str:
    """What is trained of a matrix of `rows` x `columns`: all of it, or two strips of width `rank`; to scale, with the
    sums.
    """
    whole, strips = rows * columns, rank * (rows + columns)
    states = FP32_BYTES + ADAMW_BYTES
    facts = _facts(
        ("W", f"{whole:,}", f"{rows:,} × {columns:,} weights"),
        ("A and B", f"{strips:,}", f"{rank:,} × ({rows:,} + {columns:,}) weights"),
        ("Ratio", f"{whole / strips:,.4g} : 1", f"{100 * strips / whole:.3g} % of W are trained"),
        ("Scale alpha / r", f"{alpha / rank:.4g}", f"{alpha:g} / {rank}"),
        ("In FP32", size(FP32_BYTES * strips), f"A and B; W takes {size(FP32_BYTES * whole)}"),
        ("Gradients, AdamW", size(states * strips), f"{states} bytes a weight; for W {size(states * whole)}"),
    )
    if strips < whole:
        verdict = f"LoRA trains {strips:,} numbers instead of {whole:,}: {whole / strips:,.4g} times fewer."
    else:
        verdict = (
            f"No saving: A and B are as large as W or larger. Below rank {whole / (rows + columns):.4g} they are"
            " smaller."
        )
    panels = _panel("Full fine-tuning", _draw_full(rows, columns, rank)) + _panel(
        "LoRA", _draw_lora(rows, columns, rank, alpha)
    )
    legend = (
        '<p class="legend"><span><i class="learn-trained"></i>trained</span><span><i'
        ' class="learn-frozen"></i>frozen</span><span><i class="learn-product"></i>the product A·B, never'
        " stored</span><span>To scale; what would be thinner than a hair is drawn as a hair.</span></p>"
    )
    return f'<div class="learn-panels">{panels}</div>{legend}<p class="learn-verdict">{verdict}</p>{facts}'


def _panel(title: str, drawing: str) -> str:
    return f"<figure><figcaption>{title}</figcaption>{drawing}</figure>"


def _sides(rows: int, columns: int, rank: int) -> tuple[float, float, float]:
    """Height and width of W and the strips' thickness, in pixels of one scale."""
    scale = min(BOX / max(rows, columns), STRIP / rank)
    return max(HAIR, rows * scale), max(HAIR, columns * scale), max(HAIR, rank * scale)


def _draw_full(rows: int, columns: int, rank: int) -> str:
    high, wide, thick = _sides(rows, columns, rank)
    body = (
        _rect("trained", 118 - wide, 88, wide, high)
        + _label(118 - wide / 2, 82, "W")
        + _label(169, 92 + high / 2, "+", "big")
        + _rect("trained", 220, 88, wide, high)
        + _label(220 + wide / 2, 82, "ΔW")
        + _label(118 - wide / 2, 104 + high, f"{rows:,} × {columns:,}")
        + _label(220 + wide / 2, 104 + high, f"{rows:,} × {columns:,}")
    )
    return _svg(
        f"Full fine-tuning: W, {rows:,} by {columns:,}, is trained; its update is as large as W.", body, high, thick
    )


def _draw_lora(rows: int, columns: int, rank: int, alpha: float) -> str:
    high, wide, thick = _sides(rows, columns, rank)
    body = (
        _rect("frozen", 118 - wide, 88, wide, high)
        + _label(118 - wide / 2, 82, "W")
        + _label(118 - wide / 2, 104 + high, f"{rows:,} × {columns:,}")
        + _label(166 - thick / 2, 92 + high / 2, f"+ {alpha / rank:.3g} ·", "big")
        + _rect("trained", 214 - thick, 88, thick, high)
        + _label(214 - thick / 2, 104 + high, f"A: {rows:,} × {rank:,}", "end")
        + _rect("product", 220, 88, wide, high)
        + _rect("trained", 220, 82 - thick, wide, thick)
        + _label(220 + wide / 2, 76 - thick, f"B: {rank:,} × {columns:,}")
        + _label(220 + wide / 2, 92 + high / 2, "A·B")
    )
    meaning = (
        f"LoRA: W, {rows:,} by {columns:,}, is frozen; A, {rows:,} by {rank}, and B, {rank} by {columns:,}, are"
        " trained."
    )
    return _svg(meaning, body, high, thick)


def _svg(meaning: str, body: str, high: float, thick: float) -> str:
    """Cropped to what is drawn: B and its label above W, dimensions below."""
    box = f"0 {62 - thick:.1f} 340 {50 + thick + high:.1f}"
    return f'<svg class="learn-drawing" viewBox="{box}" role="img" aria-label="{escape(meaning)}">{body}</svg>'


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="learn-{kind}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"/>'


def _label(x: float, y: float, text: str, kind: str = "") -> str:
    # Long dimensions would otherwise run out of the picture.
    x = min(max(x, 3.4 * len(text) + 2), 338 - 3.4 * len(text)) if kind != "end" else x
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


# --- NF4 --------------------------------------------------------------------------------------------------------------


def view_microscope(found: Mapping[str, Any], title: str) -> str:
    """One quantized matrix: histogram with levels, error map, the sums, the three data types compared. `title`: whose
    weights.
    """
    rows, columns = found["shape"]
    error, stored, spread = found["error"], found["bytes"], found["spread"]
    double = "double quantization" if found["double"] else "FP32 constants"
    facts = _facts(
        ("Bits a weight", f"{found['bits']:.4g}", f"4 + {found['bits'] - 4:.3g} of constants"),
        (
            "Mean absolute error",
            f"{error['mean_absolute']:.3g}",
            f"{error['mean_absolute'] / max(spread, 1e-30):.3f} standard deviations",
        ),
        ("Root mean square", f"{error['root_mean_square']:.3g}", f"largest error {error['largest']:.3g}"),
        (
            "Bytes",
            f"{stored['total']:,}",
            f"{stored['packed']:,} + {stored['constants']:,} constants + {stored['tables']:,} tables",
        ),
        ("In FP16", f"{stored['fp16']:,}", f"{stored['fp16'] / stored['total']:.2f} times as many bytes"),
        ("Bits put to use", f"{found['used_bits']:.2f} of 4", "entropy of the codes"),
    )
    start = found["worst_block"] * found["block_size"]
    worst = (
        f"The worst of {found['blocks']:,} blocks (weights {start:,} to"
        f" {min(start + found['block_size'], rows * columns) - 1:,}) errs"
        f" {found['worst_block_error'] / max(found['median_block_error'], 1e-30):.3g} times as much as the middle one."
    )
    return (
        f'<p class="learn-verdict">{escape(title)}, {rows:,} × {columns:,}, in blocks of {found["block_size"]:,} with'
        f" {double}</p>"
        f'<div class="learn-scope"><figure>{_histogram(found)}</figure><figure>{_error_map(found)}</figure></div>'
        f"{facts}{_compare(found)}<p class='quiet'>{worst}</p>"
    )


def _histogram(found: Mapping[str, Any]) -> str:
    """Up: how many weights; down: the share of the weights that take each level."""
    counts, levels, height, base = found["counts"], found["levels"], 260, 184
    step, tallest = 960 / len(counts), max(counts)
    bars = "M0 184" + "".join(f"V{base - 176 * count / tallest:.1f}h{step:g}" for count in counts) + "V184Z"
    most = max(share for _, share in levels)
    ticks = "".join(f"M{480 + 480 * level:.1f} 0V{base}" for level, _ in levels)
    stems = "".join(f"M{480 + 480 * level:.1f} {base + 4}v{68 * share / most:.1f}" for level, share in levels)
    meaning = (
        f"Histogram of the weights divided by their block's largest absolute value, with the {len(levels)} levels of "
        f"{_short(found['kind'])}: " + ", ".join(f"{level:.3g} ({100 * share:.1f} %)" for level, share in levels)
    )
    axis = "".join(f"<span>{text}</span>" for text in ("−1", "−0.5", "0", "0.5", "1"))
    return (
        f"<figcaption>Weights divided by their block's absmax</figcaption>"
        f'<svg class="learn-histogram" viewBox="-6 0 972 {height}" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(meaning)}">'
        f'<path class="bars" d="{bars}"/><path class="ticks" d="{ticks}"/><path class="stems" d="{stems}"/></svg>'
        f'<p class="learn-axis" aria-hidden="true">{axis}</p><p class="legend">'
        '<span><i class="learn-bars-swatch"></i>weights; the largest of each block lands on −1 or 1</span>'
        f'<span><i class="learn-level-swatch"></i>the {len(levels)} levels of {_short(found["kind"])}; '
        "below the line, the share of weights that take each</span></p>"
    )


def _error_map(found: Mapping[str, Any]) -> str:
    """The first blocks, a row each: their absmax as a bar, their error as cells."""
    cells, absmax = found["map"], found["absmax"]
    wide, high = len(cells[0]), len(cells)
    paths = [""] * (MAP_STEPS + 1)
    for y, row in enumerate(cells):
        for x, value in enumerate(row):
            paths[min(MAP_STEPS, int(MAP_STEPS * value / MAP_FULL))] += f"M{x} {y}h1v1h-1z"
    drawn = "".join(
        f'<path style="opacity:{step / MAP_STEPS:.3f}" d="{path}"/>' for step, path in enumerate(paths) if path and step
    )
    most = max(*absmax, 1e-30)
    bars = "".join(f"M0 {y}.1h{100 * value / most:.1f}v.8H0z" for y, value in enumerate(absmax))
    largest = max(max(row) for row in cells)
    meanings = (
        f"absmax of the first {high} blocks: from {min(absmax):.3g} to {most:.3g}",
        (
            f"Error of the first {high} blocks, a row each; the stronger the colour the larger, up to {largest:.2f}"
            " standard deviations."
        ),
    )
    shades = "".join(f'<i style="opacity:{step / MAP_STEPS:.3f}"></i>' for step in range(1, MAP_STEPS + 1))
    each = max(1, found["block_size"] // wide)
    return (
        f"<figcaption>absmax and error of the first {high} blocks</figcaption><div class='learn-blocks'>"
        f'<svg class="learn-absmax" viewBox="0 0 100 {high}" preserveAspectRatio="none" role="img"'
        f' aria-label="{meanings[0]}">'
        f'<path d="{bars}"/></svg>'
        f'<svg class="learn-map" viewBox="0 0 {wide} {high}" preserveAspectRatio="none" role="img"'
        f' aria-label="{meanings[1]}">{drawn}</svg>'
        f'</div><p class="legend learn-shades"><span><i class="learn-bars-swatch"></i>absmax, {min(absmax):.3g} to'
        f" {most:.3g}</span>"
        f"<span>error 0 <span class='shades'>{shades}</span> {MAP_FULL} σ or more</span>"
        f"<span>a row is a block, a cell {each} weight{'s' * (each > 1)}</span></p>"
    )


def _short(kind: str) -> str:
    return KIND_NAMES[kind].partition(" ")[0]


def _compare(found: Mapping[str, Any]) -> str:
    """The three data types on these very weights: a sentence, and the numbers behind it."""
    errors = found["errors"]
    ranked = sorted(errors, key=lambda kind: errors[kind]["mean_absolute"])
    best, *others = ranked
    least, most = errors[best]["mean_absolute"], max(errors[ranked[-1]]["mean_absolute"], 1e-30)
    below = [
        f"{100 * (1 - least / max(errors[kind]['mean_absolute'], 1e-30)):.0f} % below {_short(kind)}" for kind in others
    ]
    rows = "".join(
        f'<tr class="{"changed" if kind == found["kind"] else ""}"><td>{KIND_NAMES[kind]}</td><td'
        f' class="number">{errors[kind]["mean_absolute"]:.3g}</td><td'
        f' class="number">{errors[kind]["root_mean_square"]:.3g}</td><td class="learn-meter"><i'
        f' style="width:{100 * errors[kind]["mean_absolute"] / most:.1f}%"></i></td></tr>'
        for kind in KIND_NAMES
    )
    return (
        f'<p class="learn-verdict">On these weights {_short(best)} errs least: its mean absolute error is'
        f' {" and ".join(below)}.</p><div class="scroll"><table class="plain learn-compare"><thead><tr><th>Data'
        ' type</th><th class="number">mean absolute</th><th class="number">root mean square</th><th'
        f' class="learn-wide">mean absolute error</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


# --- double quantization, shapes, optimizers --------------------------------------------------------------------------


def view_constants(weights: Sequence[int], block_size: int, plain_bits: float, double_bits: float) -> str:
    """The constants' bits and bytes for models of so many quantized weights."""
    saved = plain_bits - double_bits
    rows = ""
    for count in weights:
        cells = "".join(
            f'<td class="number">{count * bits / 8e9:.2f} GB<small>{count * bits / 1e9:,.2f} billion bits</small></td>'
            for bits in (plain_bits, double_bits)
        )
        rows += (
            f"<tr><td><strong>{count / 1e9:g}B</strong></td>{cells}<td class='number'>{count * saved / 1e9:,.2f}"
            f" billion bits</td><td class='number'><strong>{count * saved / 8e9:.2f}"
            f" GB</strong><small>{size(count * saved / 8)}</small></td></tr>"
        )
    each = 8 / block_size
    return (
        f'<p class="learn-verdict">{plain_bits:g} bits a weight become {double_bits:.3f}: {saved:.3f} bits a weight are'
        f' saved.</p><p class="quiet">32 / {block_size} = {plain_bits:g}; 8 / {block_size} + 32 / ({block_size} · 256)'
        f" = {each:g} + {double_bits - each:.3g} = {double_bits:.3f}. Eight bits are a byte; 1 GB is 1,000,000,000"
        ' bytes.</p><div class="scroll"><table class="plain learn-constants"><thead><tr><th>Constants of</th><th'
        ' class="number">in FP32</th><th class="number">in 8 bits</th><th class="number">Saved bits</th><th'
        f' class="number">÷ 8: saved bytes</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def view_shapes(found: Sequence[Mapping[str, Any]], chosen: str, names: Mapping[str, str]) -> str:
    """The chosen shape before and after, and all that are known so far in a table."""
    rows = "".join(_shape_row(shape, names, shape["model"] == chosen) for shape in found)
    drawn = "".join(_shape_bars(shape) for shape in found if shape["model"] == chosen)
    return (
        f'{drawn}<div class="scroll"><table class="plain learn-shapes"><thead><tr><th>Model</th>'
        '<th class="number">Parameters</th><th class="number">Embeddings</th><th class="learn-wide"></th>'
        f'<th class="number">Shrinks</th><th class="learn-wide"></th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _ratio(shape: Mapping[str, Any]) -> float:
    return float(shape["fp16_bytes"] / shape["nf4_bytes"])


def _share(shape: Mapping[str, Any]) -> float:
    return float(100 * shape["embedding_bytes"] / shape["fp16_bytes"])


def _shape_row(shape: Mapping[str, Any], names: Mapping[str, str], chosen: bool) -> str:
    return (
        f'<tr class="{"changed" if chosen else ""}"><td>{escape(names.get(shape["model"], shape["model"]))}</td>'
        f'<td class="number">{_count(shape["parameters"])}</td><td class="number">{_share(shape):.1f} %</td>'
        f'<td class="learn-meter embedding"><i style="width:{_share(shape):.1f}%"></i></td>'
        f'<td class="number"><strong>{_ratio(shape):.2f} ×</strong></td>'
        f'<td class="learn-meter"><i style="width:{25 * _ratio(shape):.1f}%"></i></td></tr>'
    )


def _shape_bars(shape: Mapping[str, Any]) -> str:
    """FP16 above NF4, to one scale: embeddings, other dense parts, matrices, constants."""
    whole, embeddings, constants = shape["fp16_bytes"], shape["embedding_bytes"], shape["constants_bytes"]
    other = whole - embeddings - shape["matrices_fp16_bytes"]
    bars = ""
    for name, total, matrices, extra in (
        ("FP16", whole, shape["matrices_fp16_bytes"], 0),
        ("NF4, double quantization", shape["nf4_bytes"], shape["matrices_nf4_bytes"] - constants, constants),
    ):
        parts = (("embedding", embeddings), ("other", other), ("matrices", matrices), ("constants", extra))
        drawn = "".join(
            f'<i class="learn-{part}" style="width:{100 * count / whole:.3f}%"></i>' for part, count in parts if count
        )
        share = f"{100 * embeddings / total:.1f} % embeddings"
        bars += (
            f"<div><span>{name}</span><div"
            f' class="bar">{drawn}</div><strong>{size(total)}<small>{share}</small></strong></div>'
        )
    own = shape["matrices_fp16_bytes"] / shape["matrices_nf4_bytes"]
    return (
        f'<p class="learn-verdict">The whole shrinks {_ratio(shape):.2f} times, its quantized matrices {own:.2f}'
        " times. "
        f"{shape['vocabulary']:,} tokens' embeddings and positions are {_share(shape):.1f} % of the FP16 model.</p>"
        f'<div class="learn-bars">{bars}</div><p class="legend"><span><i class="learn-embedding"></i>embeddings</span>'
        '<span><i class="learn-other"></i>norms, biases, head</span><span><i class="learn-matrices"></i>quantized'
        " matrices</span>"
        '<span><i class="learn-constants"></i>constants</span><span>predicted from the shape</span></p>'
    )


def view_optimizer(state: Mapping[str, Any]) -> str:
    """AdamW's state in 32 bits, 8 bits and paged; beside the measured peak where there was a run."""
    wide = max(state.get("peak_bytes", 0), state["state_bytes"])
    lines = [
        ("AdamW, 32 bits", state["state_bytes"], "8 bytes a parameter", "matrices"),
        ("AdamW, 8 bits", state["state_8bit_bytes"], "2 bytes a parameter", "matrices"),
        ("Paged AdamW, 32 bits", state["state_bytes"], "the same bytes, movable to CPU memory", "matrices"),
    ]
    verdict = f"{state['trained']:,} trained parameters need {size(state['state_bytes'])} of AdamW state."
    if "peak_bytes" in state:
        lines.append(
            ("The run's peak, measured", state["peak_bytes"], f"{state['peak_is']} memory of the process", "other")
        )
        saved = 100 * state["state_bytes"] / state["peak_bytes"]
        verdict += f" That is {saved:.2f} % of the run's peak: moving it elsewhere saves nothing worth having."
    else:
        verdict += " Paging can move all of it to CPU memory, if there is enough of it; 8 bits save three quarters."
    bars = "".join(
        f"<div><span>{name}<small>{what}</small></span>"
        f'<div class="bar"><i class="learn-{part}" style="width:{100 * count / wide:.3f}%"></i></div>'
        f"<strong>{size(count)}<small>{count:,} bytes</small></strong></div>"
        for name, count, what, part in lines
    )
    return f'<p class="learn-verdict">{escape(verdict)}</p><div class="learn-bars">{bars}</div>'


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.2f}B" if parameters >= 1e9 else f"{parameters / 1e6:.0f}M"
