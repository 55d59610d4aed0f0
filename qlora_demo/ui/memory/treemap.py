"""The module tree as a treemap of bytes. Knows no handler and no model; every text is escaped."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from markupsafe import escape

from ...core.format import percent, size
from ...core.memory_report import ModuleMemory

if TYPE_CHECKING:
    import plotly.graph_objects as go

Side = Literal["before", "after"]
Rows = Sequence[ModuleMemory]
TITLES = {"before": "FP16", "after": "NF4 with double quantization"}
MAX_ROWS = 250  # drawn one by one: a treemap of about 75 kB
MAX_TILES = 200  # drawn at once; more is a click away
# By storage type: its name, the colour of a module and of a frame that holds mostly such modules. These are the style
# sheet's --weights, --buffers, --constants and --adapter: blue, light grey and orange differ for every kind of colour
# blindness, and each text has a contrast of 4.5 to 1 on its own tile, whatever the page's theme is.
STORAGE = {
    "nf4": ("NF4 and its constants", "#4f46e5", "#312e81"),
    "float16": ("FP16", "#94a3b8", "#475569"),
    "bfloat16": ("BF16", "#94a3b8", "#475569"),
    "float32": ("FP32", "#b45309", "#713f12"),
}
OTHER_STORAGE = ("#0f766e", "#134e4a")
DARK_TEXT, LIGHT_TEXT, PALE = "#0f172a", "#f8fafc", "#94a3b8"


def treemap(rows: Rows, side: Side) -> go.Figure:
    """Areas in bytes, in FP16 (`before`) or as NF4 with double quantization (`after`), coloured by storage type.

    A parent is the exact sum of its children. A module with tensors of its own beside children gets a child "(itself)";
    modules of no bytes (tied) are left out; a lone child shares its parent's tile. In a model of more than MAX_ROWS
    modules, numbered siblings (layers, experts) share a tile such as "0–79". Both sides of a model have the same nodes.
    """
    import plotly.graph_objects as go  # a tenth of a second, which the page's start need not wait for

    tiles = list(_walk(_join(_build_tree(rows))))
    whole = _bytes(rows, side)
    values = [_bytes(tile.node.rows, side) for tile in tiles]
    fills = [_colour(next(iter(_by_storage(tile.node.rows, side)), ""), bool(tile.node.children)) for tile in tiles]
    legend = _legend(rows, side)
    areas = go.Treemap(
        ids=[tile.id for tile in tiles],
        parents=[tile.parent for tile in tiles],
        labels=[str(escape(tile.node.label)) for tile in tiles],
        values=values,
        text=[size(count) for count in values],
        hovertext=[_hover_text(tile, side, count, whole) for tile, count in zip(tiles, values, strict=True)],
        hoverinfo="text",
        textinfo="label+text",
        textfont={"color": [DARK_TEXT if fill == PALE else LIGHT_TEXT for fill in fills]},
        branchvalues="total",
        maxdepth=_visible_levels(tiles),
        sort=False,  # the order of the model, on both sides
        tiling={"pad": 1},
        marker={"colors": fills, "line": {"width": 0}, "pad": {"t": 20, "l": 3, "r": 3, "b": 3}},
        pathbar={"thickness": 22, "textfont": {"color": LIGHT_TEXT}},
    )
    return go.Figure(areas, _layout(legend, template=go.layout.Template()))  # plotly's own template is 7 kB


def _layout(legend: list[str], template: object) -> dict[str, object]:
    corner = {"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": 1, "yanchor": "bottom"}
    text = {"text": "<br>".join(legend), "font": {"size": 13}, "showarrow": False, "align": "left"}
    return {
        "template": template,
        "annotations": [text | corner],
        # A grey that can be read on white and on black; style.css puts the page's own colour in its place.
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#75808f"},
        "hoverlabel": {"bgcolor": "#1e293b", "font": {"color": LIGHT_TEXT}, "align": "left"},
        "uniformtext": {"minsize": 9, "mode": "hide"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 0, "r": 0, "b": 0, "t": 18 * len(legend) + 10},
        "height": 480,
    }


# --- the tree ---------------------------------------------------------------------------------------------------------


@dataclass
class _Node:
    """A part of the module tree with all the rows within it. numbers: of the siblings that share it."""

    label: str
    rows: list[ModuleMemory] = field(default_factory=list)
    children: dict[str, _Node] = field(default_factory=dict)
    numbers: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Tile:
    """A node in its place: its id, its parent's ("" = none), levels below the root, full name."""

    id: str
    parent: str
    depth: int
    name: str
    node: _Node


def _build_tree(rows: Rows) -> _Node:
    """The tree of names, split at dots; in a large model of the names of groups, where "*" stands for a number."""
    root = _Node("whole model")
    held = [row for row in rows if row.bytes_before]
    grouped = len(held) > MAX_ROWS
    # Names that other modules' names continue: these modules have children.
    holders = {""} | {row.name[:place] for row in held for place, letter in enumerate(row.name) if letter == "."}
    for row in held:
        node, own = root, ["(itself)"] if row.name in holders else []
        root.rows.append(row)
        for part, key in zip(_parts(row.name, own), _parts(row.group if grouped else row.name, own), strict=True):
            node = node.children.setdefault(key, _Node(part))
            node.rows.append(row)
            if key == "*":
                node.numbers.add(int(part))
                node.label = f"{min(node.numbers)}–{max(node.numbers)}"
    return root


def _parts(name: str, own: list[str]) -> list[str]:
    return [part for part in name.split(".") if part] + own


def _join(node: _Node, is_root: bool = True) -> _Node:
    while len(node.children) == 1 and not is_root:
        [child] = node.children.values()
        node.label, node.children = f"{node.label}.{child.label}", child.children
    for child in node.children.values():
        _join(child, is_root=False)
    return node


def _walk(
    node: _Node, name: str = "", parent: str = "", depth: int = 0, ids: Iterator[int] | None = None
) -> Iterator[_Tile]:
    ids = itertools.count() if ids is None else ids
    tile = _Tile(str(next(ids)), parent, depth, name or node.label, node)
    yield tile
    for child in node.children.values():
        yield from _walk(child, f"{name}.{child.label}" if name else child.label, tile.id, depth + 1, ids)


def _visible_levels(tiles: Sequence[_Tile]) -> int:
    """As many levels as MAX_TILES allows, three at least; the root is the first."""
    depths = Counter(tile.depth for tile in tiles)
    totals = itertools.accumulate(depths[depth] for depth in sorted(depths))
    return max(3, sum(total <= MAX_TILES for total in totals))


# --- words and colours ------------------------------------------------------------------------------------------------


def _hover_text(tile: _Tile, side: Side, count: int, whole: int) -> str:
    """Name, class and shape, storage types, bytes and their share of the model."""
    rows = tile.node.rows
    lines = [f"<b>{escape(tile.name)}</b>"]
    if tile.node.children or len({tuple(row.shape) for row in rows}) != 1:
        lines.append(f"{len(rows):,} modules")
    else:
        times = f"{len(rows):,} × " if len(rows) > 1 else ""
        shape = " × ".join(map(str, rows[0].shape))
        lines.append(f"{times}{escape(getattr(rows[0], f'kind_{side}'))} [{shape}]")
    lines += [f"{_storage_name(dtype)}: {size(part)}" for dtype, part in _by_storage(rows, side).items()]
    return "<br>".join([*lines, f"{size(count)} of {size(whole)} ({percent(count / whole if whole else None)})"])


def _legend(rows: Rows, side: Side) -> list[str]:
    """Lines: the total, then each colour with its storage type and bytes."""
    lines = [f"<b>{TITLES[side]}: {size(_bytes(rows, side))}</b>"]
    for dtype, part in _by_storage(rows, side).items():
        lines.append(f'<span style="color:{_colour(dtype)}">■</span> {_storage_name(dtype)}: {size(part)}')
    return lines


def _by_storage(rows: Rows, side: Side) -> dict[str, int]:
    """Bytes by dtype, the most first."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts[getattr(row, f"dtype_{side}")] += getattr(row, f"bytes_{side}")
    return dict(counts.most_common())


def _bytes(rows: Rows, side: Side) -> int:
    return sum(getattr(row, f"bytes_{side}") for row in rows)


def _colour(dtype: str, is_frame: bool = False) -> str:
    return (STORAGE[dtype][1:] if dtype in STORAGE else OTHER_STORAGE)[is_frame]


def _storage_name(dtype: str) -> str:
    return str(escape(STORAGE[dtype][0] if dtype in STORAGE else dtype))
