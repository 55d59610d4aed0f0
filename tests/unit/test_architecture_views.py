"""The architecture as tables and as a treemap: sums that add up to the byte, names that are escaped, figures small
enough to send.

Rows are the predictor's own, from shapes that the app carries, and one made-up row with a name that tries to be HTML.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qlora_demo.core.format import size
from qlora_demo.core.memory_report import ModuleMemory
from qlora_demo.engine.memory import ledger
from qlora_demo.engine.models.blueprint import read_blueprint
from qlora_demo.engine.models.shapes import SHAPES, shape_of
from qlora_demo.engine.models.sources import ModelSource
from qlora_demo.ui.memory.architecture_views import view_modules, view_roles
from qlora_demo.ui.memory.treemap import treemap
from tests.serving import ROOT

IMG = '<img src=x onerror="alert(1)">'
# No role and no layer: as a report from before there were any.
EVIL = ModuleMemory(IMG, IMG, [2, 3], '"float', "<nf4>", "<b>", "<i>", 12, 4, True)


def rows_of(model: str) -> list[ModuleMemory]:
    return ledger.architecture(read_blueprint(ModelSource(model, Path(), "", model, False, shape_of(model)), 5))


@pytest.fixture(scope="module")
def gpt2() -> list[ModuleMemory]:
    return rows_of("openai-community/gpt2")


@pytest.fixture(scope="module")
def llama() -> list[ModuleMemory]:
    return rows_of("meta-llama/Llama-3.1-70B")


def total(rows: list[ModuleMemory], which: str) -> int:
    return sum(getattr(row, f"bytes_{which}") for row in rows)


def cells(html: str) -> dict[str, list[str]]:
    """A table's rows by their first cell."""
    found = [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", html, re.DOTALL)
    ]
    return {first: [re.sub("<[^>]+>", "", cell) for cell in rest] for first, *rest in found}


def test_the_sums_of_gpt2(gpt2: list[ModuleMemory]) -> None:
    found = cells(view_roles(gpt2))
    # 12 layers of 4 matrices; embeddings 50257 + 1024 rows of 768; 84.9 million quantized weights take 2 bytes, then
    # half of one.
    assert list(found) == ["Role", "Embeddings", "Attention", "MLP", "Norms", "Head", "Total"]
    assert found["Embeddings"][:3] == ["2", size(2 * 768 * (50257 + 1024)), size(2 * 768 * (50257 + 1024))]
    assert (found["Attention"][0], found["MLP"][0], found["Norms"][0]) == ("24", "24", "25")
    assert found["Total"][:3] == ["76", size(248_887_296), size(total(gpt2, "after"))] and found["Total"][4] == "2.03 ×"
    shares = [float(row[3].split()[0]) for name, row in found.items() if name not in ("Role", "Total")]
    assert sum(shares) == pytest.approx(100, abs=0.3) and found["Total"][3] == "100.0 %"


def test_the_sums_of_roles_are_the_sums_of_rows(gpt2: list[ModuleMemory], llama: list[ModuleMemory]) -> None:
    for rows in (gpt2, llama, [*gpt2, EVIL]):
        for which in ("before", "after"):
            assert cells(view_roles(rows))["Total"][1 + (which == "after")] == size(total(rows, which))
    assert "Other" in cells(view_roles([*gpt2, EVIL]))


def test_names_are_escaped(gpt2: list[ModuleMemory]) -> None:
    figure = treemap([*gpt2, EVIL], "after")
    texts = [*figure.data[0].labels, *figure.data[0].hovertext, figure.layout.annotations[0].text]
    for html in (view_modules([EVIL]), view_roles([EVIL]), *texts):
        assert "<img" not in html and "<nf4" not in html and 'find="<' not in html
    assert "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;" in view_modules([EVIL])


def check_sums(figure: Any, expected: int) -> None:
    """Each parent is the sum of its children, the root is the whole model, and there is one root."""
    data = figure.data[0]
    values = dict(zip(data.ids, data.values, strict=True))
    children: dict[str, int] = {}
    for parent, value in zip(data.parents, data.values, strict=True):
        children[parent] = children.get(parent, 0) + value
    assert children.pop("") == values["0"] == expected and data.branchvalues == "total"
    assert len(values) == len(data.ids) and children == {parent: values[parent] for parent in children}


@pytest.mark.parametrize("model", SHAPES)
def test_a_treemap_adds_up_and_is_small(model: str) -> None:
    rows = rows_of(model)
    before, after = (treemap(rows, side) for side in ("before", "after"))
    check_sums(before, total(rows, "before"))
    check_sums(after, total(rows, "after"))
    assert before.data[0].labels == after.data[0].labels and before.data[0].parents == after.data[0].parents
    assert len(before.data[0].ids) <= 400 and before.data[0].maxdepth >= 3
    for figure in (before, after):
        assert len(figure.to_json()) < 150_000


def test_equal_layers_are_folded_in_a_large_model(llama: list[ModuleMemory]) -> None:
    data = treemap(llama, "after").data[0]
    assert "layers.0–79" in data.labels and len(data.ids) < 30
    place = list(data.labels).index("gate_proj")
    packed = total([row for row in llama if row.name.endswith(".gate_proj")], "after")
    assert data.values[place] == packed
    assert "80 × Linear4bit [28672 × 8192]" in data.hovertext[place]
    assert f"{size(packed)} of {size(total(llama, 'after'))}" in data.hovertext[place]


def test_a_module_with_tensors_beside_children_adds_up() -> None:
    rows = rows_of("google-bert/bert-base-uncased")
    figure = treemap(rows, "before")
    data = figure.data[0]
    place = list(data.labels).index("(itself)")
    assert data.values[place] == next(row.bytes_before for row in rows if row.name == "bert.embeddings")
    assert "int64" in data.hovertext[place] and "int64" in figure.layout.annotations[0].text


def test_colours_are_the_style_sheets_and_texts_can_be_read(gpt2: list[ModuleMemory]) -> None:
    css = (ROOT / "qlora_demo" / "ui" / "server" / "style.css").read_text()
    light = dict(re.findall(r"--(\w+): (#\w{6});", css.partition(".dark")[0]))
    data = treemap(gpt2, "after").data[0]
    colours = dict(zip(data.labels, data.marker.colors, strict=True))
    assert (colours["c_attn"], colours["wte"]) == (light["weights"], light["buffers"])
    for fill, text in zip(data.marker.colors, data.textfont.color, strict=True):
        assert contrast(fill, text) >= 4.5
    layout = json.loads(treemap(gpt2, "after").to_json())["layout"]
    assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "rgba(0,0,0,0)"


def contrast(one: str, other: str) -> float:
    """WCAG 2.1's contrast ratio of two #rrggbb."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_importing_the_views_does_not_load_plotlys_graph_objects() -> None:
    script = "import sys, qlora_demo.ui.memory.treemap; sys.exit('plotly.graph_objects' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=120, check=False).returncode == 0
