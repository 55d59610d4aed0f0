"""The architecture before and after as HTML and as one figure: sums by role, each module, a treemap of bytes. Pure;
escapes every text.

`rows` are engine.memory.architecture's "rows"; those of an older report may lack role and layer. Knows no handler and
no model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from ...core.format import percent, size

if TYPE_CHECKING:
    import plotly.graph_objects as go

Row = dict[str, Any]
ROLES = {
    "embedding": "Embeddings",
    "attention": "Attention",
    "mlp": "MLP",
    "norm": "Norms",
    "head": "Head",
    "other": "Other",
}
LARGEST_TREE = 320  # nodes of a treemap: about 75 kB of JSON
MOST_TILES = 200  # drawn at once; more is a click away
# By what the bytes are stored as: the words, the colour of a module and of a frame that holds mostly such modules.
# style.css'
# --weights, --buffers, --constants and --adapter: blue, light grey and orange differ for every kind of colour blindness
# has 4.5 to 1 on its own tile, whatever the page's theme is.
STORED = {
    "nf4": ("NF4 and its constants", "#4f46e5", "#312e81"),
    "float16": ("FP16", "#94a3b8", "#475569"),
    "bfloat16": ("BF16", "#94a3b8", "#475569"),
    "float32": ("FP32", "#b45309", "#713f12"),
}
ELSE = ("#0f766e", "#134e4a")
DARK_TEXT, LIGHT_TEXT, PALE = "#0f172a", "#f8fafc", "#94a3b8"
# For gr.Textbox.input(None, box, None, js=FILTER_JS): hides the rows that lack one of the words.
FILTER_JS = """(text) => {
  const words = (text || "").toLowerCase().split(/\\s+/).filter(Boolean);
  for (const shown of document.querySelectorAll(".architecture")) {
    const rows = [...shown.querySelectorAll(".architecture-table tbody tr")];
    for (const row of rows) row.hidden = !words.every((word) => row.dataset.find.includes(word));
    shown.querySelector(".architecture-found").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  }
  return [];
}"""  # noqa: E501


def view_sums(rows: Sequence[Row]) -> str:
    """Bytes by role before and after, each role's share of the model after, and a sentence on what one layer weighs."""
    groups: dict[str, list[Row]] = {}
    for role in ROLES:
        if members := [row for row in rows if _role(row) == role]:
            groups[role] = members
    whole = _sum(rows, "after")
    body = "".join(f"<tr>{_sums_row(ROLES[role], members, whole)}</tr>" for role, members in groups.items())
    return (
        '<div class="scroll"><table class="plain architecture-sums"><caption>Bytes by what the modules are'
        " for</caption><thead><tr>"
        '<th scope="col">Part</th><th scope="col" class="number architecture-wide">Modules</th><th scope="col"'
        ' class="number">FP16</th>'
        '<th scope="col" class="number">NF4, double quantization</th><th scope="col" class="architecture-share">Share'
        " after</th>"
        f'<th scope="col" class="number">Smaller</th></tr></thead><tbody>{body}</tbody>'
        f"<tfoot><tr>{_sums_row('Total', rows, whole)}</tr></tfoot></table></div>{_layer_sentence(rows)}"
    )


def view_architecture(rows: Sequence[Row]) -> str:
    """Each module before and after, equal layers folded into one line; what changed is marked. FILTER_JS searches its
    rows.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["group"], row["kind_before"], row["kind_after"], tuple(row["shape"])), []).append(row)
    body = ""
    for (group, before, after, shape), members in groups.items():
        first = members[0]
        count = f'<span class="times">{len(members)} ×</span> ' if len(members) > 1 else ""
        changed, role = first["changed"], ROLES[_role(first)].lower()
        find = " ".join((group, before, after, first["dtype_before"], first["dtype_after"], role)).lower()
        body += (
            f'<tr class="{"changed" if changed else ""}" data-find="{escape(find)}">'
            f"<td>{count}<code>{escape(group)}</code><small>{role}</small></td><td>{' × '.join(map(str, shape))}</td>"
            f"<td>{escape(before)}<small>{escape(first['dtype_before'])}</small></td>"
            f"<td>{'→ ' if changed else ''}{escape(after)}<small>{escape(first['dtype_after'])}</small></td>"
            f'<td class="number">{size(_sum(members, "before"))}</td><td'
            f' class="number">{size(_sum(members, "after"))}</td></tr>'
        )
    return (
        '<div class="architecture"><p class="quiet">Lines shown: <span class="architecture-found"'
        f' role="status">{len(groups)} of {len(groups)}</span></p><div class="scroll" role="region" aria-label="Modules'
        ' before and after" tabindex="0"><table class="plain architecture-table"><thead><tr><th scope="col">Module (*'
        ' = each layer)</th><th scope="col">Shape</th><th scope="col">FP16</th><th scope="col">NF4, double'
        ' quantization</th><th scope="col" class="number">before</th><th scope="col"'
        f' class="number">after</th></tr></thead><tbody>{body}</tbody></table></div></div>'
    )


def treemap(rows: Sequence[Row], after: bool) -> go.Figure:
    """The module tree with areas in bytes: in FP16, or (after) as NF4 with double quantization; coloured by what is
    stored; a frame has the darker shade of what most of it is.

    A parent is the exact sum of its children; a module with tensors of its own beside children gets a child "(itself)";
    modules of no bytes (tied) are left out; a lone child shares its parent's tile. In a tree of more than LARGEST_TREE
    nodes, numbered siblings that are equal but for their names (layers, experts) become one tile such as "0–79"; if
    that is not enough, the deepest levels are summed up into their parents. Both figures of a model have the same
    nodes."""
    import plotly.graph_objects as go  # a tenth of a second, which the page's start need not wait for

    tiles = list(_walk(_tidy(_grow(rows))))
    which = "after" if after else "before"
    whole = _sum(rows, which)
    sizes = [_sum(tile.node.rows, which) for tile in tiles]
    fills = [_colour(next(iter(_dtypes(tile.node.rows, which)), ""), bool(tile.node.children)) for tile in tiles]
    legend = _legend(rows, which)
    figure = go.Figure(
        go.Treemap(
            ids=[tile.place for tile in tiles],
            parents=[tile.parent for tile in tiles],
            labels=[escape(tile.node.label, quote=False) for tile in tiles],
            values=sizes,
            text=[size(count) for count in sizes],
            hovertext=[_describe(tile, which, count, whole) for tile, count in zip(tiles, sizes, strict=True)],
            hoverinfo="text",
            textinfo="label+text",
            textfont={"color": [DARK_TEXT if fill == PALE else LIGHT_TEXT for fill in fills]},
            branchvalues="total",
            maxdepth=_depth_shown(tiles),
            sort=False,  # the order of the model, before and after
            tiling={"pad": 1},
            marker={"colors": fills, "line": {"width": 0}, "pad": {"t": 20, "l": 3, "r": 3, "b": 3}},
            pathbar={"thickness": 22, "textfont": {"color": LIGHT_TEXT}},
        )
    )
    corner = {"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": 1, "yanchor": "bottom"}
    figure.update_layout(
        template=go.layout.Template(),  # plotly's own is 7 kB of colours that nothing here uses
        annotations=[
            {"text": "<br>".join(legend), "font": {"size": 13}, "showarrow": False, "align": "left", **corner}
        ],
        # A grey that can be read on white and on black; style.css puts the page's own colour in its place.
        font={"family": "system-ui, sans-serif", "size": 12, "color": "#75808f"},
        hoverlabel={"bgcolor": "#1e293b", "font": {"color": LIGHT_TEXT}, "align": "left"},
        uniformtext={"minsize": 9, "mode": "hide"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 0, "r": 0, "b": 0, "t": 18 * len(legend) + 10},
        height=480,
    )
    return figure


@dataclass
class _Node:
    """A part of the module tree with all the rows within it."""

    label: str
    rows: list[Row] = field(default_factory=list)
    children: dict[str, _Node] = field(default_factory=dict)


@dataclass(frozen=True)
class _Tile:
    """A node where it stands: its number, its parent's ("" = none), levels below the root, full name."""

    place: str
    parent: str
    depth: int
    name: str
    node: _Node


def _grow(rows: Sequence[Row]) -> _Node:
    """The tree of names, split at dots."""
    root = _Node("whole model")
    held = [row for row in rows if row["bytes_before"]]
    holders = {row["name"][:place] for row in held for place, letter in enumerate(row["name"]) if letter == "."} | {""}
    for row in held:
        node, parts = root, [part for part in row["name"].split(".") if part]
        root.rows.append(row)
        for part in [*parts, *(["(itself)"] if row["name"] in holders else [])]:
            node = node.children.setdefault(part, _Node(part))
            node.rows.append(row)
    return root


def _tidy(tree: _Node) -> _Node:
    """Small enough to send and to read: folded, joined and cut as `treemap` says."""
    if sum(1 for _ in _walk(tree)) > LARGEST_TREE:
        _fold(tree)
    _join(tree)
    depths = [tile.depth for tile in _walk(tree)]
    if len(depths) > LARGEST_TREE:
        _cut(
            tree,
            max(
                (level for level in range(max(depths)) if sum(depth <= level for depth in depths) <= LARGEST_TREE),
                default=0,
            ),
        )
    return tree


def _fold(node: _Node) -> None:
    alike: dict[Any, list[_Node]] = {}
    for label, child in node.children.items():
        alike.setdefault((_made_of(child), None if label.isdigit() else label), []).append(child)
    folded = [_unite(same, _ranges([child.label for child in same])) for same in alike.values()]
    node.children = {child.label: child for child in folded}
    for child in folded:
        _fold(child)


def _made_of(node: _Node) -> Any:
    """What two nodes that differ in name alone have in common."""
    if node.children:
        return tuple((label, _made_of(child)) for label, child in node.children.items())
    return tuple(
        (*row["shape"], *(row[f"{what}_{which}"] for what in ("dtype", "bytes") for which in ("before", "after")))
        for row in node.rows
    )


def _unite(same: Sequence[_Node], label: str) -> _Node:
    """One node for several that are made of the same."""
    children = {name: _unite([node.children[name] for node in same], name) for name in same[0].children}
    return _Node(label, [row for node in same for row in node.rows], children)


def _ranges(labels: Sequence[str]) -> str:
    """The labels of folded siblings as one: 0–11; 0, 2–4; many pieces by first, last and count."""
    if len(labels) == 1:
        return labels[0]
    pieces: list[list[int]] = []
    for number in sorted(map(int, labels)):
        if pieces and number == pieces[-1][1] + 1:
            pieces[-1][1] = number
        else:
            pieces.append([number, number])
    if len(pieces) > 4:
        return f"{pieces[0][0]} … {pieces[-1][1]} ({len(labels)})"
    return ", ".join(f"{first}–{last}" if last > first else f"{first}" for first, last in pieces)


def _join(node: _Node, is_root: bool = True) -> None:
    while len(node.children) == 1 and not is_root:
        [child] = node.children.values()
        node.label, node.children = f"{node.label}.{child.label}", child.children
    for child in node.children.values():
        _join(child, is_root=False)


def _cut(node: _Node, levels: int) -> None:
    if not levels:
        node.children = {}
    for child in node.children.values():
        _cut(child, levels - 1)


def _walk(
    node: _Node, name: str = "", parent: str = "", depth: int = 0, places: Iterator[int] | None = None
) -> Iterator[_Tile]:
    places = itertools.count() if places is None else places
    place = str(next(places))
    yield _Tile(place, parent, depth, name or node.label, node)
    for child in node.children.values():
        yield from _walk(child, f"{name}.{child.label}" if name else child.label, place, depth + 1, places)


def _depth_shown(tiles: Sequence[_Tile]) -> int:
    """As many levels as MOST_TILES allows, three at least; the root is the first."""
    fits = [
        level
        for level in range(max(tile.depth for tile in tiles) + 1)
        if sum(tile.depth <= level for tile in tiles) <= MOST_TILES
    ]
    return max(3, len(fits))


def _describe(tile: _Tile, which: str, count: int, whole: int) -> str:
    """A tile's words when it is pointed at: name, class and shape, what is stored, bytes and their share of the
    model.
    """
    rows = tile.node.rows
    lines = [f"<b>{escape(tile.name, quote=False)}</b>"]
    shapes = {tuple(row["shape"]) for row in rows}
    if tile.node.children or len(shapes) != 1:
        lines.append(f"{len(rows):,} modules")
    else:
        times = f"{len(rows):,} × " if len(rows) > 1 else ""
        lines.append(
            f"{times}{escape(rows[0][f'kind_{which}'], quote=False)} [{' × '.join(map(str, rows[0]['shape']))}]"
        )
    for dtype in _dtypes(rows, which):
        part = _sum([row for row in rows if row[f"dtype_{which}"] == dtype], which)
        lines.append(f"{escape(_words(dtype), quote=False)}: {size(part)}")
    return "<br>".join([*lines, f"{size(count)} of {size(whole)} ({percent(count / whole if whole else None)})"])


def _legend(rows: Sequence[Row], which: str) -> list[str]:
    """Lines: the total, then each colour with what is stored so and its bytes."""
    lines = [f"<b>{'NF4 with double quantization' if which == 'after' else 'FP16'}: {size(_sum(rows, which))}</b>"]
    for dtype in _dtypes(rows, which):
        part = _sum([row for row in rows if row[f"dtype_{which}"] == dtype], which)
        lines.append(
            f'<span style="color:{_colour(dtype)}">■</span> {escape(_words(dtype), quote=False)}: {size(part)}'
        )
    return lines


def _dtypes(rows: Sequence[Row], which: str) -> list[str]:
    """From the one with the most bytes to the one with the fewest."""
    found: dict[str, int] = {}
    for row in rows:
        found[row[f"dtype_{which}"]] = found.get(row[f"dtype_{which}"], 0) + row[f"bytes_{which}"]
    return sorted(found, key=lambda dtype: -found[dtype])


def _colour(dtype: str, is_frame: bool = False) -> str:
    return (STORED[dtype][1:] if dtype in STORED else ELSE)[is_frame]


def _words(dtype: str) -> str:
    return STORED[dtype][0] if dtype in STORED else dtype


def _role(row: Row) -> str:
    role = row.get("role", "other")
    return role if role in ROLES else "other"


def _sum(rows: Sequence[Row], which: str) -> int:
    return sum(row[f"bytes_{which}"] for row in rows)


def _sums_row(name: str, rows: Sequence[Row], whole: int) -> str:
    before, after = _sum(rows, "before"), _sum(rows, "after")
    share = 100 * after / whole if whole else 0
    return (
        f'<th scope="row">{name}</th><td class="number architecture-wide">{len(rows):,}</td><td'
        f' class="number">{size(before)}</td><td class="number">{size(after)}</td><td class="architecture-share"><i'
        f' style="width:{share:.2f}%"></i>{share:.1f} %</td><td'
        f' class="number">{f"{before / after:.2f} ×" if after else "–"}</td>'
    )


def _layer_sentence(rows: Sequence[Row]) -> str:
    """What one layer weighs before and after; from the lightest to the heaviest where they differ."""
    layers: dict[str, list[Row]] = {}
    for row in rows:
        if (number := row.get("layer")) is not None:
            layers.setdefault(row["name"].partition(f".{number}.")[0] + f".{number}", []).append(row)
    if not layers:
        return ""
    low_to_high = [
        " to ".join(dict.fromkeys(size(pick(_sum(layer, which) for layer in layers.values())) for pick in (min, max)))
        for which in ("before", "after")
    ]
    told = f"Each of the {len(layers)} layers" if len(layers) > 1 else "The one layer"
    return f'<p class="quiet">{told}: {" → ".join(low_to_high)}.</p>'
