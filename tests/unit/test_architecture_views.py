"""The architecture as tables and as a treemap: sums that add up to the byte, names that are escaped, figures small
enough to send.

Rows are the predictor's own, from shapes that the app carries, and one made-up row with a name that tries to be HTML.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qlora_demo.core.format import size
from qlora_demo.core.memory_report import ModuleMemory
from qlora_demo.engine.memory import ledger
from qlora_demo.engine.models.blueprint import read_blueprint
from qlora_demo.engine.models.shapes import SHAPES, shape_of
from qlora_demo.engine.models.sources import ModelSource
from qlora_demo.ui.memory.architecture_views import ROLES, view_modules, view_roles
from qlora_demo.ui.memory.memory_tab import FILTER_JS
from qlora_demo.ui.memory.treemap import treemap

ROOT = Path(__file__).parents[2]
EVIL = ModuleMemory(
    name="<img src=x onerror=alert(1)>",
    group='<img src=x onerror="alert(1)">',
    shape=[2, 3],
    kind_before="<b>",
    kind_after="<i>",
    dtype_before='"float',
    dtype_after="<nf4>",
    bytes_before=12,
    bytes_after=4,
    changed=True,
)  # no role and no layer: as a report from before there were any


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


def test_what_a_layer_weighs(gpt2: list[ModuleMemory]) -> None:
    one = [row for row in gpt2 if row.layer == 11]
    assert f"Each of the 12 layers: {size(total(one, 'before'))} → {size(total(one, 'after'))}." in view_roles(gpt2)
    assert "The one layer: " in view_roles(one) and "layer" not in view_roles(
        [row for row in gpt2 if row.layer is None]
    )
    heavier = replace(gpt2[2], name="transformer.h.0.more", bytes_before=10 * 1024**2, bytes_after=1024**2)
    assert "13.52 MiB to 23.52 MiB → 3.51 MiB to 4.51 MiB." in view_roles([*gpt2, heavier])


def test_nothing_to_show_is_shown() -> None:
    assert "Total" in view_roles([]) and "0 of 0" in view_modules([])
    assert len(treemap([], "after").data[0].ids) == 1


def test_equal_layers_are_one_line_that_can_be_found(gpt2: list[ModuleMemory]) -> None:
    html = view_modules(gpt2)
    found = re.findall(r'<tr class="(\w*)" data-find="([^"]*)">', html)
    assert len(found) == len({row.group for row in gpt2}) == 10 and "10 of 10" in html
    assert (
        next(words for changed, words in found if changed)
        == "transformer.h.*.attn.c_attn conv1d linear4bit float16 nf4 attention"
    )
    assert html.count("12 ×") == 6 and 'class="plain architecture-table"' in html
    for row in gpt2:
        assert any(row.group in words and ROLES[row.role].lower() in words for _, words in found)


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
    assert (
        data.hovertext[place]
        == "<b>model.layers.0–79.mlp.gate_proj</b><br>80 × Linear4bit [28672 × 8192]<br>NF4 and its constants:"
        f" {size(packed)}<br>{size(packed)} of {size(total(llama, 'after'))}"
        f" ({100 * packed / total(llama, 'after'):.1f} %)"
    )


def test_layers_that_differ_share_a_tile_and_add_up(llama: list[ModuleMemory]) -> None:
    every = [replace(row, bytes_before=row.bytes_before + (row.layer or 0)) for row in llama]
    figure = treemap(every, "before")
    check_sums(figure, total(every, "before"))
    assert "layers.0–79" in figure.data[0].labels and len(figure.to_json()) < 150_000


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


def test_the_filter_hides_what_lacks_a_word(gpt2: list[ModuleMemory]) -> None:
    """In node, on the few things of a page that the filter touches."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node; the browser tests use the filter, too")
    finds = re.findall(r'data-find="([^"]*)"', view_modules(gpt2))
    script = f"""
      const rows = {json.dumps(finds)}.map((find) => ({{ dataset: {{ find }}, hidden: false }}));
      const told = {{}};
      globalThis.document = {{ querySelectorAll: () => [{{ querySelectorAll: () => rows, querySelector: () => told }}] }};
      const filter = {FILTER_JS};
      const texts = ["", " NF4  Mlp", "no such thing", null];
      console.log(JSON.stringify(texts.map((text) => [filter(text), told.textContent, rows.filter((row) => !row.hidden).length])));
    """  # noqa: E501
    done = subprocess.run([node, "-e", script], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [
        [[], "10 of 10", 10],
        [[], "2 of 10", 2],
        [[], "0 of 10", 0],
        [[], "10 of 10", 10],
    ]


def test_importing_the_views_does_not_load_plotlys_graph_objects() -> None:
    script = "import sys, qlora_demo.ui.memory.treemap; sys.exit('plotly.graph_objects' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=120, check=False).returncode == 0
