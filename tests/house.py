"""The structure of the code in figures: `python -m tests.house` prints them; test_floors.py holds their limits.

`python -m tests.house modules` prints each module with the first sentence of its docstring.

What counts as an import, a room or a repetition is defined here. Reads syntax trees; runs nothing of the app."""

from __future__ import annotations

import ast
import io
import re
import statistics
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "qlora_demo"
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (*PACKAGE.rglob("*.py"), ROOT / "app.py"))
SOURCES = {file: (ROOT / file).read_text(encoding="utf-8") for file in FILES}
TREES = {file: ast.parse(source) for file, source in SOURCES.items()}
TARGETS = {"the training loop": "train.run", "the ledger": "memory.ledger", "a typed answer": "classify.classifier"}
REPEATED = 6  # lines of logic that no two places share


def dotted(file: str) -> str:
    """`qlora_demo/jobs/store.py` -> qlora_demo.jobs.store; a package's face has the package's name."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {dotted(file) for file in FILES}


def room_of(module: str) -> str:
    """`qlora_demo.engine.memory.ledger` -> engine/memory; the package's root is `compose`, `qlora_demo.ui` ui/page."""
    parts = module.split(".")[1:]
    if parts == ["ui"]:
        return "ui/page"  # build_app, which composes the columns
    if len(parts) >= 2 and parts[0] in ("engine", "ui"):
        return f"{parts[0]}/{parts[1]}" if (PACKAGE / parts[0] / parts[1]).is_dir() else parts[0]
    return parts[0] if parts and (PACKAGE / parts[0]).is_dir() else "compose"


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
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            yield from ((node.lineno, str(arg.value), late) for arg in node.args[:1] if isinstance(arg, ast.Constant))
        late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        stack += [(child, late) for child in ast.iter_child_nodes(node)]


def module_of(name: str) -> str:
    """The module in which an imported name lies: itself, or what stands before its last dot."""
    return name if name in MODULES else name.rpartition(".")[0]


def graph() -> dict[str, set[str]]:
    """Module -> the modules that it imports."""
    return {dotted(file): {module_of(name) for _, name, _ in imports(file, TREES[file])} & MODULES for file in FILES}


def opened(target: str) -> list[str]:
    """The modules that a reader opens from app.py to `target`, both included. Raises KeyError where no way leads."""
    arrows, came_from, queue = graph(), {"app": ""}, ["app"]
    for module in queue:  # it grows as it is read: breadth first
        for following in sorted(arrows[module] - came_from.keys()):
            came_from[following] = module
            queue.append(following)
    way = [target]
    while came_from[way[-1]]:
        way.append(came_from[way[-1]])
    return way[::-1]


def function_lengths() -> list[tuple[int, str]]:
    """(lines, `file:line name`) of every function."""
    return [
        (node.end_lineno - node.lineno + 1, f"{file}:{node.lineno} {node.name}")
        for file, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    ]


def logical_lines(source: str) -> list[tuple[int, str]]:
    """(line, text) of the lines that hold logic: no blank ones, comments, docstrings, imports or lone brackets."""
    skipped: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, ast.Import | ast.ImportFrom):
            skipped.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    kept = ((number, " ".join(line.split())) for number, line in enumerate(lines, 1) if number not in skipped)
    return [(number, line) for number, line in kept if re.search(r"\w{2,}", line)]


def repetitions() -> list[str]:
    """`file:line ~ file:line` of each two places that share six lines of logic to the letter."""
    places: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    for file, source in SOURCES.items():
        lines = logical_lines(source)
        for start in range(len(lines) - REPEATED + 1):
            window = lines[start : start + REPEATED]
            places[tuple(text for _, text in window)].append((file, window[0][0]))
    pairs = [" ~ ".join(f"{file}:{line}" for file, line in found) for found in places.values() if len(found) > 1]
    return sorted(pairs)


def print_modules() -> None:
    """Each module with what it says of itself first."""
    for file in FILES:
        docstring = ast.get_docstring(TREES[file]) or ""
        print(f"{file}: {' '.join(docstring.partition(chr(10) * 2)[0].split())}")


def print_figures() -> None:
    """The figures of all modules, and places that repeat each other."""
    sizes = {file: source.count("\n") for file, source in SOURCES.items()}
    tests = sum(path.read_text(encoding="utf-8").count("\n") for path in (ROOT / "tests").rglob("*.py"))
    print(f"code: {sum(sizes.values()):,} lines in {len(FILES)} modules; tests: {tests:,} lines")
    print("longest file: {} ({} lines)".format(*max(sizes.items(), key=lambda size: size[1])))
    functions = function_lengths()
    quantiles = statistics.quantiles([length for length, _ in functions], n=10)
    print(f"lines of a function: median {quantiles[4]:g}, 90th percentile {quantiles[-1]:g}, most {max(functions)}")
    for what, target in TARGETS.items():
        way = [module.removeprefix("qlora_demo.") for module in opened(f"qlora_demo.engine.{target}")]
        print(f"from app.py to {what}: {len(way)} modules ({' > '.join(way)})")
    pairs = repetitions()
    print(f"places that share {REPEATED} lines of logic: {len(pairs)}", *pairs, sep="\n")


if __name__ == "__main__":
    print_modules() if sys.argv[1:] == ["modules"] else print_figures()
