"""A folder is a floor: who may import whom, read off the syntax trees, so that an import inside a function counts too.

One process tells what importing really loads. Rules hold for the files that there are; a new folder needs a floor here.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "qlora_demo"
FILES = sorted(
    path.relative_to(ROOT).as_posix() for path in (*PACKAGE.rglob("*.py"), ROOT / "app.py") if path.is_file()
)
LINES = 400

TORCH = frozenset({"torch", "transformers", "peft", "bitsandbytes", "datasets"})
GRADIO = frozenset({"gradio"})
# The ground that every floor may stand on: records, config, errors, and what else lies at the top and composes nothing.
COMPOSE = frozenset(
    {
        "app",
        "services",
        "zerogpu",
        "__main__",
        "worker",
        "weighing",
        "classifying",
        "comparing",
        "examining",
        "studying",
        "strangers",
        "publishing",
        "__init__",
    }
)
GROUND = frozenset({"records", "config", "errors"} | {path.stem for path in PACKAGE.glob("*.py")}) - COMPOSE


@dataclass(frozen=True)
class Floor:
    """What a floor may import of the package (None: anything but `never`), and which libraries it may not."""

    inside: frozenset[str] | None
    libraries: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()

    def allows(self, name: str) -> bool:
        return name not in self.never and (self.inside is None or name in self.inside)


ABOVE_UI = frozenset({"ui"})
FLOORS = {
    "app": Floor(None),
    "services": Floor(None),
    "zerogpu": Floor(None),
    "__main__": Floor(None),
    "cli": Floor(None, GRADIO, ABOVE_UI),
    "worker": Floor(None, GRADIO, ABOVE_UI),
    **dict.fromkeys(("weighing", "classifying", "comparing", "examining", "studying"), Floor(None, GRADIO, ABOVE_UI)),
    **dict.fromkeys(("strangers", "publishing"), Floor(None, GRADIO, ABOVE_UI)),
    "ui": Floor(GROUND | {"ui", "services", "comparing", "examining", "jobs"}, TORCH),
    "jobs": Floor(GROUND | {"jobs"}, TORCH | GRADIO),
    "hub": Floor(GROUND | {"hub"}, TORCH | GRADIO),
    "engine": Floor(GROUND | {"engine"}, GRADIO),
    "__init__": Floor(frozenset(), TORCH | GRADIO),
    **dict.fromkeys(GROUND, Floor(frozenset({"errors", "records"}), TORCH | GRADIO)),
    "presets": Floor(frozenset({"config"}), TORCH | GRADIO),
    "limits": Floor(frozenset({"config", "errors", "paths", "text"}), TORCH | GRADIO),
}


def floor_of(file: str) -> str:
    """`qlora_demo/jobs/store.py` -> jobs; `app.py` -> app."""
    return file.removeprefix("qlora_demo/").partition("/")[0].removesuffix(".py")


def imports(file: str, source: str) -> Iterator[tuple[int, str]]:
    """(line, absolute name) of everything imported anywhere in the file; `from . import x` names x."""
    package = file.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                [*package[: len(package) - node.level + 1], *filter(None, [node.module])]
                if node.level
                else [node.module or ""]
            )
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            yield from ((node.lineno, str(item.value)) for item in node.args[:1] if isinstance(item, ast.Constant))


def violations(file: str, source: str) -> list[str]:
    """What the file imports and its floor may not, as `file:line imports name`."""
    floor = FLOORS[floor_of(file)]
    found = []
    for line, name in imports(file, source):
        top, _, rest = name.partition(".")
        inside = rest.partition(".")[0]
        # Of `from . import __version__` nothing is known but that it is no floor.
        wrong = (
            inside in FLOORS and not floor.allows(inside)
            if top == "qlora_demo"
            else top in floor.libraries or top == "app"
        )
        if wrong:
            found.append(f"{file}:{line} imports {name}")
    return found


@pytest.mark.parametrize("file", FILES)
def test_imports_go_down_only(file: str) -> None:
    assert floor_of(file) in FLOORS, f"{file} lies on no floor; give it one in FLOORS"
    assert violations(file, (ROOT / file).read_text(encoding="utf-8")) == []


def test_every_floor_but_the_page_is_there() -> None:
    """Else the test above would hold for want of files."""
    there = {floor_of(file) for file in FILES}
    assert FLOORS.keys() - there <= {"app", "services", "ui"}
    assert {
        "qlora_demo/engine/memory/ledger.py",
        "qlora_demo/jobs/queue.py",
        "qlora_demo/hub/card.py",
        "qlora_demo/cli/runs.py",
    } <= set(FILES)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("qlora_demo/ui/train/train_tab.py", "from ..engine import training"),
        ("qlora_demo/ui/train/train_tab.py", "def later():\n    import torch.nn"),
        ("qlora_demo/ui/parts/deep.py", "from ...engine.memory import predict"),
        ("qlora_demo/ui/views.py", "import qlora_demo.worker"),
        ("qlora_demo/ui/views.py", "from datasets import load_dataset"),
        ("qlora_demo/ui/views.py", "from app import demo"),
        ("qlora_demo/jobs/store.py", "from ..services import Services"),
        ("qlora_demo/jobs/store.py", "from .. import engine"),
        ("qlora_demo/jobs/launch.py", "import importlib\nimportlib.import_module('qlora_demo.worker')"),
        ("qlora_demo/jobs/launch.py", "__import__('torch')"),
        ("qlora_demo/hub/card.py", "from qlora_demo.engine import data"),
        ("qlora_demo/engine/data/dataset.py", "from ..jobs.store import Store"),
        ("qlora_demo/engine/data/dataset.py", "import gradio as gr"),
        ("qlora_demo/core/config.py", "from .jobs import store"),
        ("qlora_demo/core/records.py", "from . import config"),
        ("qlora_demo/core/errors.py", "from .config import RunConfig"),
        ("qlora_demo/__init__.py", "from .config import RunConfig"),
        ("qlora_demo/worker.py", "from .ui import build_app"),
        ("qlora_demo/cli/runs.py", "import gradio"),
    ],
)
def test_an_import_that_goes_up_is_found(file: str, source: str) -> None:
    assert len(violations(file, source)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("app.py", "import gradio\nfrom qlora_demo.ui import build_app\nfrom qlora_demo.engine import memory"),
        ("qlora_demo/__main__.py", "from . import __version__\nfrom .cli import runs\nfrom .worker import explain"),
        ("qlora_demo/worker.py", "from .engine import training\nfrom .hub.card import write_card"),
        (
            "qlora_demo/ui/views.py",
            "import gradio\nfrom . import form\nfrom ..services import Services\nfrom ..jobs.store import Job",
        ),
        (
            "qlora_demo/engine/models/sources.py",
            "import torch\nfrom .shapes import canonical\nfrom ..errors import ModelError",
        ),
        ("qlora_demo/core/records.py", "from .errors import DemoError"),
    ],
)
def test_an_import_that_goes_down_is_allowed(file: str, source: str) -> None:
    assert violations(file, source) == []


def test_the_light_modules_load_nothing_heavy() -> None:
    """In one fresh process, one after the other, so that the module which is to blame is named."""
    names = [
        f"qlora_demo.{name}"
        for name in ("config", "jobs.queue", "worker", "services", "hub.publication", "engine.adapters")
    ]
    names = [name for name in names if (ROOT / f"{name.replace('.', '/')}.py").is_file()]
    assert len(names) >= 3
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'transformers', 'peft', 'bitsandbytes', 'datasets', 'gradio'} & set(sys.modules)\n"
        "    if heavy: sys.exit(f'{name} loads {sorted(heavy)}')\n"
        "print(len(sys.argv) - 1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *names], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{len(names)}\n")


def test_gradio_is_imported_without_its_stubs() -> None:
    """The sources of its components are not read; where this fails, Gradio has moved what ui/server/fast_import.py
    leaves out.
    """
    script = (
        "import sys\nread = []\nsys.addaudithook(lambda event, values: read.append(str(values[0])) if event == 'open'"
        " else None)\nimport qlora_demo.ui, gradio, inspect\nprint(sum('/gradio/components/' in name and"
        " name.endswith(('.py', '.pyi')) for name in read), len(read) >"
        " 100)\nprint(inspect.getfile(gradio.Button).endswith('button.py'), callable(gradio.Button.click))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("0 True\nTrue True\n", 0), done.stderr


def test_the_engine_leaves_torchs_compiler_alone() -> None:
    script = (
        "import sys, qlora_demo.engine.layers; print('bitsandbytes' in sys.modules, 'torch._inductor.compile_fx' in"
        " sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.returncode) == ("True False\n", 0), done.stderr


def test_no_file_is_longer_than_can_be_read_in_one_go() -> None:
    lengths = {file: len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {file: length for file, length in lengths.items() if length > LINES} == {}
