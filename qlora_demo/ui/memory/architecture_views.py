"""The architecture before and after quantization as tables: bytes by role, and each module. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.format import size
from ...core.memory_report import ModuleMemory
from ..templating import render

ROLES = {
    "embedding": "Embeddings",
    "attention": "Attention",
    "mlp": "MLP",
    "norm": "Norms",
    "head": "Head",
    "other": "Other",
}


def sum_bytes(rows: Sequence[ModuleMemory]) -> tuple[int, int]:
    """Bytes of modules before and after."""
    return sum(row.bytes_before for row in rows), sum(row.bytes_after for row in rows)


def view_roles(rows: Sequence[ModuleMemory]) -> str:
    """Bytes by role before and after, each role's share of the model, and a sentence on the size of one layer."""
    groups = []
    for role, title in [*ROLES.items(), (None, "Total")]:
        members = [row for row in rows if role is None or row.role == role]
        if members or role is None:
            groups.append((title, len(members), *sum_bytes(members)))
    layers: dict[str, list[ModuleMemory]] = {}
    for row in rows:
        if row.layer is not None:
            layers.setdefault(row.name.partition(f".{row.layer}.")[0] + f".{row.layer}", []).append(row)
    spans = [
        " to ".join(dict.fromkeys([size(min(counts)), size(max(counts))]))
        for counts in zip(*map(sum_bytes, layers.values()), strict=True)
    ]
    return render("memory/roles.html.jinja", groups=groups, layers=len(layers), layer_sizes=spans)


def view_modules(rows: Sequence[ModuleMemory]) -> str:
    """Each module before and after, equal layers folded into one line; filter.js searches the lines."""
    groups: dict[object, list[ModuleMemory]] = {}
    for row in rows:
        groups.setdefault((row.group, row.kind_before, row.kind_after, tuple(row.shape)), []).append(row)
    lines = [(len(members), members[0], *sum_bytes(members)) for members in groups.values()]
    return render("memory/modules.html.jinja", lines=lines, roles=ROLES)
