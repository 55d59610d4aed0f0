"""The README's examples for programs, run as they stand, against a real app: the Python client, curl, an MCP client;
one answer."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.serving import ROOT, App

README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README[README.index("## From programs") : README.index("## Where it runs")]


def example(language: str, number: int, app: App) -> str:
    """A code block of the README, with this app's address."""
    return re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)[number].replace(
        "http://127.0.0.1:7860", app.url.rstrip("/")
    )


def run_python(code: str) -> Any:
    names: dict[str, Any] = {"print": lambda *_: None}
    with ThreadPoolExecutor(1) as pool:  # a browser test before this one leaves its event loop in the main thread
        pool.submit(exec, compile(code, "README.md", "exec"), names).result()
    return names["answer"]


@pytest.fixture(scope="module")
def by_client(app: App) -> dict[str, Any]:
    found: dict[str, Any] = run_python(example("python", 0, app))
    assert found["label"] == "5 stars" and found["stars"] == 5 and found["expected_stars"] > 4
    return found


def same(found: dict[str, Any], as_client: dict[str, Any]) -> bool:
    """The computation is in BF16: alone and in a batch it differs by a little."""
    assert found["label"] == as_client["label"] and found["probabilities"].keys() == as_client["probabilities"].keys()
    return all(abs(found["probabilities"][name] - share) < 0.01 for name, share in as_client["probabilities"].items())


def test_curl(app: App, by_client: dict[str, Any]) -> None:
    if not shutil.which("curl"):
        pytest.skip("there is no curl")
    done = subprocess.run(
        ["bash", "-c", example("bash", 0, app)], capture_output=True, text=True, timeout=60, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "event: complete", done.stdout
    assert same(json.loads(lines[1].removeprefix("data: "))[0], by_client)


def test_an_mcp_client(app: App, by_client: dict[str, Any]) -> None:
    found = run_python(example("python", 1, app))
    assert not found.isError
    assert same(
        json.loads(found.content[0].text.replace("'", '"').replace("False", "false").replace("True", "true")), by_client
    )


def test_what_mcp_offers(app: App) -> None:
    """The six, each with a description; the page's own events are none."""
    code = example("python", 1, app).replace(
        'call_tool("classify", {"text": text, "adapter": "sample"})', "list_tools()"
    )
    tools = run_python(code.rpartition("print(")[0]).tools
    assert {tool.name for tool in tools} == {"classify", "memory", "start_run", "run", "stop_run", "runs"}
    assert all(tool.description for tool in tools)
