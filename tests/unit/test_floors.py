"""The grid of floors and columns holds, module by module: the block `floors` in CONTRIBUTING.md is the rule.

One process tells what importing loads."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys

import pytest

from tests.house import (
    FILES,
    MODULES,
    ROOT,
    SOURCES,
    TARGETS,
    TREES,
    dotted,
    function_lengths,
    graph,
    imports,
    module_of,
    opened,
    repetitions,
    room_of,
)

TORCH = frozenset({"torch", "transformers", "peft", "bitsandbytes", "datasets", "accelerate"})
# Which libraries a floor may not import, not even inside a function.
FORBIDDEN = {
    **dict.fromkeys(("engine", "services", "cli"), frozenset({"gradio"})),
    **dict.fromkeys(("core", "storage", "jobs", "host", "hub"), TORCH | {"gradio"}),
    "ui": TORCH,
    "compose": frozenset(),
}
# An import inside a function is for what takes long to load, or what a command or a service may never need.
LIBRARIES = """
gradio captum sklearn matplotlib pyarrow pandas numpy scipy safetensors plotly ftfy py3langid duckdb huggingface_hub
spaces httpx PIL pynvml ijson markdown_it psutil resource charset_normalizer"""
LATE = TORCH | {*LIBRARIES.split(), *(f"qlora_demo.{floor}" for floor in ("engine", "hub", "services", "worker"))}


def read_picture() -> dict[str, set[str]]:
    """Room -> the rooms that it may import; a floor's name stands for all of its columns."""
    block = re.search(r"```floors\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block, "CONTRIBUTING.md has no block ```floors"
    rules = (re.split(r"\s*->\s*|\s{3,}", line)[:2] for line in block[1].splitlines() if "->" in line)
    return {room: set(targets.split()) for room, targets in rules}


PICTURE = read_picture()


def may(room: str, target: str) -> bool:
    """Whether the picture lets a module of `room` import one of `target`."""
    floor, below = room.partition("/")[0], target.partition("/")[0]
    rules = PICTURE.get(room, set()) | PICTURE.get(floor, set())
    return target in (room, floor) or not {target, below}.isdisjoint(rules)


def violations(file: str, tree: ast.AST) -> list[str]:
    """What the file imports and its room may not, as `file:line imports name`."""
    room, wrong = room_of(dotted(file)), []
    for line, name, _ in imports(file, tree):
        top = name.partition(".")[0]
        if top == "qlora_demo":
            forbidden = module_of(name) != "qlora_demo" and not may(room, room_of(module_of(name)))
        else:
            forbidden = top == "app" or top in FORBIDDEN[room.partition("/")[0]]
        if forbidden:
            wrong.append(f"{file}:{line} imports {name}")
    return wrong


@pytest.mark.parametrize("file", FILES)
def test_imports_go_down_only(file: str) -> None:
    assert violations(file, TREES[file]) == []


def test_the_picture_names_every_room() -> None:
    rooms = {room_of(module) for module in MODULES - {"app"}}
    assert PICTURE.keys() <= rooms | {"ui", "engine"}
    assert {room.partition("/")[0] for room in rooms} <= PICTURE.keys()


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
    arrows = {module: found for module, found in graph().items() if f"{module.replace('.', '/')}.py" in FILES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for target in arrows[module] & arrows.keys() - {module}:
                visit(target, (*path, module))
            done.add(module)

    for module in arrows:
        visit(module, ())


def test_imports_inside_functions_are_of_what_is_heavy() -> None:
    heavy = tuple(f"{name}." for name in LATE)
    late = [
        f"{file}:{line} {name}"
        for file in FILES
        if room_of(dotted(file)) != "compose"
        for line, name, inside in imports(file, TREES[file])
        if inside and not f"{name}.".startswith(heavy)
    ]
    assert late == []


def test_rooms_files_and_functions_stay_small() -> None:
    for folder in {(ROOT / file).parent for file in FILES}:
        assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= 15, folder
    lengths = {file: source.count("\n") for file, source in SOURCES.items()}
    assert {file: length for file, length in lengths.items() if length > 350} == {}
    functions = function_lengths()
    assert [where for length, where in functions if length > 60] == []
    assert statistics.quantiles([length for length, _ in functions], n=10)[-1] <= 21


@pytest.mark.parametrize("target", TARGETS.values())
def test_few_modules_lie_between_the_app_and_what_it_is_for(target: str) -> None:
    assert len(opened(f"qlora_demo.engine.{target}")) <= 6


def test_no_two_places_share_six_lines_of_logic() -> None:
    assert repetitions() == []


def run_python(script: str, *arguments: str) -> str:
    """What a fresh process prints."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_light_modules_load_nothing_heavy() -> None:
    """One after the other, so that the module which is to blame is named."""
    script = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(f"qlora_demo.{name}")
    heavy = {"torch", "transformers", "peft", "bitsandbytes", "datasets", "gradio"} & set(sys.modules)
    if heavy: sys.exit(f"{name} loads {sorted(heavy)}")"""
    run_python(
        script, "core.config", "jobs.queue", "worker", "services.app", "hub.publication", "engine.models.adapters"
    )


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
