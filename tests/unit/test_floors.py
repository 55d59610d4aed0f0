"""The grid of floors and columns holds: who may import whom, read off the syntax trees, module by module.

The picture in CONTRIBUTING.md is the rule: its block `floors` is parsed here. One process tells what importing loads.
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "qlora_demo"
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (*PACKAGE.rglob("*.py"), ROOT / "app.py"))
TREES = {file: ast.parse((ROOT / file).read_text(encoding="utf-8")) for file in FILES}
TORCH = frozenset({"torch", "transformers", "peft", "bitsandbytes", "datasets", "accelerate"})
# Which libraries a floor may not import, not even inside a function.
FORBIDDEN = {
    "engine": frozenset({"gradio"}),
    "services": frozenset({"gradio"}),
    "cli": frozenset({"gradio"}),
    "ui": TORCH,
    **dict.fromkeys(("core", "storage", "jobs", "host", "hub"), TORCH | {"gradio"}),
}
# An import inside a function is for what takes long to load, or what a command or a service may never need.
LATE = TORCH | {
    *(
        [
            "gradio",
            "captum",
            "sklearn",
            "matplotlib",
            "pyarrow",
            "pandas",
            "numpy",
            "scipy",
            "safetensors",
            "plotly",
            "ftfy",
            "py3langid",
            "duckdb",
        ]
    ),
    *(
        [
            "huggingface_hub",
            "spaces",
            "httpx",
            "PIL",
            "pynvml",
            "ijson",
            "markdown_it",
            "resource",
            "charset_normalizer",
        ]
    ),
    *(f"qlora_demo.{floor}" for floor in ("engine", "hub", "ui", "services", "worker", "cli")),
}


def dotted(file: str) -> str:
    """`qlora_demo/jobs/store.py` -> qlora_demo.jobs.store; a package's face has the package's name."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {dotted(file) for file in FILES}


def room_of(module: str) -> str:
    """`qlora_demo.engine.memory.ledger` -> engine/memory; what lies at the root is `compose`, `qlora_demo.ui` is ui/page."""  # noqa: E501
    parts = module.split(".")[1:]
    if parts == ["ui"]:
        return "ui/page"  # build_app, which composes the columns
    if len(parts) >= 2 and parts[0] in ("engine", "ui"):
        inside = (PACKAGE / parts[0] / parts[1]).is_dir()
        return f"{parts[0]}/{parts[1]}" if inside else parts[0]
    if parts and (PACKAGE / parts[0]).is_dir():
        return parts[0]
    return "compose"


def imports(file: str, tree: ast.AST) -> Iterator[tuple[int, str, bool]]:
    """(line, absolute name, whether inside a function) of what is imported; imports for types alone are left out."""
    package = file.removesuffix(".py").split("/")[:-1]
    stack: list[tuple[ast.AST, bool]] = [(tree, False)]
    while stack:
        node, late = stack.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *filter(None, [node.module])]
            yield from ((node.lineno, ".".join([*base, alias.name]), late) for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            yield from (
                (node.lineno, str(item.value), late) for item in node.args[:1] if isinstance(item, ast.Constant)
            )
        late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        stack += [(child, late) for child in ast.iter_child_nodes(node)]


def targets(file: str) -> set[str]:
    """The modules that a file imports."""
    return {name if name in MODULES else name.rpartition(".")[0] for _, name, _ in imports(file, TREES[file])}


def read_picture() -> dict[str, set[str]]:
    """Room -> the rooms that it may import, from CONTRIBUTING.md; a floor's name stands for all of its columns."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = re.search(r"```floors\n(.*?)```", text, re.DOTALL)
    assert block, "CONTRIBUTING.md has no block ```floors"
    allowed: dict[str, set[str]] = {}
    for line in block[1].splitlines():
        if "->" in line:
            rooms, _, targets = line.partition("->")
            for room in rooms.replace(",", " ").split():
                allowed.setdefault(room, set()).update(targets.replace(",", " ").split())
    return allowed


def may(allowed: dict[str, set[str]], room: str, target: str) -> bool:
    if room == target or room == "compose" or target == room.partition("/")[0]:
        return True
    rules = allowed.get(room, set()) | allowed.get(room.partition("/")[0], set())
    return target in rules or target.partition("/")[0] in rules


def violations(file: str, tree: ast.AST) -> list[str]:
    """What the file imports and its room may not, as `file:line imports name`."""
    allowed, room = read_picture(), room_of(dotted(file))
    wrong = []
    for line, name, _ in imports(file, tree):
        top = name.partition(".")[0]
        if top == "qlora_demo":
            module = name if name in MODULES else name.rpartition(".")[0]
            forbidden = module != "qlora_demo" and not may(allowed, room, room_of(module))
        else:
            forbidden = room != "compose" and (top == "app" or top in FORBIDDEN[room.partition("/")[0]])
        if forbidden:
            wrong.append(f"{file}:{line} imports {name}")
    return wrong


@pytest.mark.parametrize("file", [file for file in FILES if file != "app.py"])
def test_imports_go_down_only(file: str) -> None:
    assert violations(file, TREES[file]) == []


def test_the_picture_names_every_room_and_only_those() -> None:
    rooms = {room_of(dotted(file)) for file in FILES if file != "app.py"} - {"compose"}
    assert set(read_picture()) == rooms - {room for room in rooms if "/" in room} | {"compose"} | {
        room for room in read_picture() if "/" in room and room in rooms
    }


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("qlora_demo/ui/train/train_tab.py", "from ...engine.train import run"),
        ("qlora_demo/ui/train/train_tab.py", "def later():\n    import torch.nn"),
        ("qlora_demo/ui/views.py", "import qlora_demo.worker"),
        ("qlora_demo/ui/views.py", "from app import demo"),
        ("qlora_demo/ui/data/data_tab.py", "from ..train.train_tab import build"),
        ("qlora_demo/jobs/store.py", "from ..services.app import Services"),
        ("qlora_demo/jobs/launch.py", "import importlib\nimportlib.import_module('qlora_demo.worker')"),
        ("qlora_demo/jobs/launch.py", "__import__('torch')"),
        ("qlora_demo/hub/card.py", "from qlora_demo.engine.data import dataset"),
        ("qlora_demo/engine/data/dataset.py", "from ...jobs.store import Store"),
        ("qlora_demo/engine/data/dataset.py", "import gradio as gr"),
        ("qlora_demo/engine/models/layers.py", "from ..train import trainer"),
        ("qlora_demo/core/config.py", "from ..jobs import store"),
        ("qlora_demo/cli/runs.py", "import gradio"),
    ],
)
def test_an_import_that_goes_up_or_sideways_is_found(file: str, source: str) -> None:
    assert len(violations(file, ast.parse(source))) == 1


def test_no_circles() -> None:
    graph = {
        dotted(file): {
            name if name in MODULES else name.rpartition(".")[0] for _, name, _ in imports(file, TREES[file])
        }
        for file in FILES
        if not file.endswith("__init__.py")
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for target in graph[module] & graph.keys() - {module}:
                visit(target, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("file", FILES)
def test_imports_inside_functions_are_of_what_is_heavy(file: str) -> None:
    if file in ("app.py", "qlora_demo/__main__.py"):
        return
    late = [
        f"{file}:{line} {name}"
        for line, name, inside in imports(file, TREES[file])
        if inside and not any(name == heavy or name.startswith(f"{heavy}.") for heavy in LATE)
    ]
    assert late == []


def test_rooms_files_and_functions_stay_small() -> None:
    for folder in {(ROOT / file).parent for file in FILES}:
        assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= 15, folder
    spans = [
        (node.end_lineno - node.lineno + 1, f"{file}:{node.lineno} {node.name}")
        for file, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    ]
    assert max(spans)[0] <= 60, max(spans)
    assert statistics.quantiles([length for length, _ in spans], n=10)[-1] <= 21
    lengths = {file: (ROOT / file).read_text(encoding="utf-8").count("\n") for file in FILES}
    assert max(lengths.values()) <= 350, max(lengths, key=lambda file: lengths[file])


@pytest.mark.parametrize("target", ["train.run", "memory.ledger", "classify.classifier"])
def test_few_modules_lie_between_the_app_and_what_it_is_for(target: str) -> None:
    """Modules that a reader opens from app.py on, both ends counted."""
    graph, target = {dotted(file): targets(file) for file in FILES}, f"qlora_demo.engine.{target}"
    opened, seen = 1, {"app"}
    while target not in seen:
        opened += 1
        seen |= {found for module in seen for found in graph.get(module, ())}
        assert opened <= 6, f"{target} is not reached from app.py within six modules"


def test_the_light_modules_load_nothing_heavy() -> None:
    """In one fresh process, one after the other, so that the module which is to blame is named."""
    names = ("core.config", "jobs.queue", "worker", "services.app", "hub.publication", "engine.models.adapters")
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'transformers', 'peft', 'bitsandbytes', 'datasets', 'gradio'} & set(sys.modules)\n"
        "    if heavy: sys.exit(f'{name} loads {sorted(heavy)}')\n"
        "print(len(sys.argv) - 1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *(f"qlora_demo.{name}" for name in names)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str(len(names)), "")


def run_python(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_gradio_is_imported_without_its_stubs() -> None:
    """The sources of its components are not read; where this fails, Gradio has moved what is left out."""
    script = """
import sys
read = []
sys.addaudithook(lambda event, values: read.append(str(values[0])) if event == "open" else None)
import qlora_demo.ui, gradio, inspect
print(sum("/gradio/components/" in name and name.endswith((".py", ".pyi")) for name in read), len(read) > 100)
print(inspect.getfile(gradio.Button).endswith("button.py"), callable(gradio.Button.click))"""
    assert run_python(script) == "0 True\nTrue True\n"


def test_the_engine_leaves_torchs_compiler_alone() -> None:
    script = """
import sys, qlora_demo.engine.models.layers
print("bitsandbytes" in sys.modules, "torch._inductor.compile_fx" in sys.modules)"""
    assert run_python(script) == "True False\n"
