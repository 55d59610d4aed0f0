"""One way in: the same request through `services`, HTTP, MCP and the command line has the same answer, or is refused
with the same sentence, and then nothing has begun.

The page's own events call the same methods of `services`; tests/browser shows them at work."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qlora_demo.core.config import RunConfig
from qlora_demo.core.errors import DemoError
from qlora_demo.core.requests import MemoryRequest
from qlora_demo.jobs.store import Store
from qlora_demo.services.app import Services
from tests.conftest import Cli
from tests.raw_http import call, post, value_of
from tests.serving import App

ROUNDING = 0.01  # the computation is in BF16: alone and in a batch, packed and restored it differs by a little
NO_RUN = "20260101-000000-none"
Door = Callable[[str, dict[str, Any]], Any]


class RefusedError(Exception):
    """The sentence of a refusal. The command line shows a number as it was typed, and programs are told no path."""

    def __str__(self) -> str:
        return re.sub(r"'(-?[\d.]+)'", r"\1", super().__str__()).replace("/nowhere/", "")


@pytest.fixture
def services(app: App) -> Door:
    own = Services(Store(app.home))
    ways: dict[str, Callable[..., Any]] = {
        "classify": lambda text, adapter: own.classify.classify(text, adapter).to_dict(),
        "memory": lambda **asked: [stage.to_dict() for stage in own.memory.predict(MemoryRequest.read(asked)).stages],
        "start_run": lambda config: own.train.start(RunConfig.read(config)),
        "run": own.train.report,
        "stop_run": lambda run, key: own.train.stop(run, key, at_home=True),
        "runs": lambda: [run.to_dict() for run in own.train.runs()],
    }

    def ask(name: str, values: dict[str, Any]) -> Any:
        try:
            return ways[name](**values)
        except DemoError as error:
            raise RefusedError(str(error)) from error

    return ask


@pytest.fixture
def http(app: App) -> Door:
    def ask(name: str, values: dict[str, Any]) -> Any:
        found = call(app, name, *values.values())
        if "event: error" in found.text:
            raise RefusedError(json.loads(found.text.partition("data: ")[2].splitlines()[0])["error"])
        return value_of(found)

    return ask


@pytest.fixture
def mcp(app: App) -> Door:
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}

    def ask(name: str, values: dict[str, Any]) -> Any:
        asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": values}}
        text = post(app, "/gradio_api/mcp/", asked, headers).text
        found = json.loads(text.partition("data: ")[2] or text)["result"]
        if found["isError"]:
            raise RefusedError(found["content"][0]["text"])
        return found

    return ask


@pytest.fixture
def command(app: App, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Door:
    monkeypatch.setenv("QLORA_DEMO_HOME", str(app.home))

    def words(name: str, values: dict[str, Any]) -> list[str]:
        if name == "start_run":
            (tmp_path / "settings.json").write_text(json.dumps(values["config"]))
            return ["train", "--config", str(tmp_path / "settings.json")]
        return {
            "classify": lambda: ["classify", "--adapter", values["adapter"], values["text"]],
            "memory": lambda: ["memory", values["model"], "--labels", str(values["labels"]), "--predict"],
            "run": lambda: ["show", values["run"]],
            "stop_run": lambda: ["stop", values["run"]],
            "runs": lambda: ["runs"],
        }[name]()

    def ask(name: str, values: dict[str, Any]) -> Any:
        status, out, err = cli(*words(name, values), "--json")
        if status:
            assert (status, out) == (2, ""), (status, out, err)
            raise RefusedError(err.splitlines()[-1])
        return json.loads(out)

    return ask


def test_answers(app: App, services: Door, http: Door, mcp: Door, command: Door) -> None:
    review = {"text": "I love this product, it is perfect!", "adapter": "sample"}
    [typed], other = command("classify", review), services("classify", review)
    for found in (http("classify", review), typed):
        assert found["label"] == other["label"] == "5 stars" and found["stars"] == other["stars"] == 5
        assert found["probabilities"] == pytest.approx(other["probabilities"], abs=ROUNDING)
    assert "5 stars" in json.dumps(mcp("classify", review))
    model = {"model": "sample", "labels": 5}
    stages = services("memory", model)
    assert http("memory", model) == command("memory", model)["stages"] == stages
    assert all(str(stage["total_bytes"]) in json.dumps(mcp("memory", model)) for stage in stages)
    listed = [[run["run"] for run in door("runs", {})] for door in (services, http, command)]
    assert listed[0] == listed[1] == [job.id for job in Store(app.home).jobs("train")]
    assert listed[2] == [job.id for job in Store(app.home).jobs()], "the command line lists measurements and files, too"


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "an empty review": ("classify", {"text": "  ", "adapter": "sample"}, "is empty"),
    "a review too long": ("classify", {"text": "x" * 50_001, "adapter": "sample"}, "50,001 characters"),
    "no such adapter": ("classify", {"text": "Good.", "adapter": "nowhere"}, "There is no adapter 'nowhere'"),
    "no labels": ("memory", {"model": "sample", "labels": 0}, "give a number from 1"),
    "a folder that is no model": ("memory", {"model": "/tmp", "labels": 5}, "has no config.json"),
    "no such run": ("run", {"run": NO_RUN}, f"There is no run '{NO_RUN}'"),
    "no such run to stop": ("stop_run", {"run": NO_RUN, "key": ""}, f"There is no run '{NO_RUN}'"),
    "a setting out of bounds": ("start_run", {"config": {"rank": 0}}, "LoRA rank r is 0"),
    "two of them": ("start_run", {"config": {"rank": 0, "learning_rate": -1}}, "Learning rate is -1"),
    "no such setting": ("start_run", {"config": {"nonsense": 1}}, "'nonsense'"),
    "an adapter to start from": ("start_run", {"config": {"start_from": "nowhere"}}, "There is no adapter 'nowhere'"),
    "a folder to train": ("start_run", {"config": {"model": "/tmp"}}, "has no config.json"),
    "no such reviews": ("start_run", {"config": {"data": "/nowhere/reviews.csv"}}, "reviews.csv are not there"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str, app: App, services: Door, http: Door, mcp: Door, command: Door) -> None:
    action, values, words = REFUSED[name]
    before = set(app.home.glob("2*"))
    sentences = []
    for door in (services, http, command, mcp):
        with pytest.raises(RefusedError) as refused:
            door(action, values)
        sentences.append(str(refused.value))
    one, *others, by_mcp = sentences
    assert words in one and others == [one] * 2 and one in by_mcp
    assert set(app.home.glob("2*")) == before, "nothing was started"
