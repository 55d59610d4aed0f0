"""What users get wrong, by the real command: the exit status, one sentence with the value and what to do, nothing left
behind.

All share this process and are judged by its standard output and error. Mistakes in the command itself are in
tests/unit/test_cli.py."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from tests.conftest import NOBODY, Cli
from tests.families import make_family
from tests.hub_server import TOKEN, HubServer, environment

PROGRESS = ("resolve: finding ", "predict: from the configuration")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs would be kept, not made yet; and no Hub unless a test brings one."""
    monkeypatch.setenv("QLORA_DEMO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "QLORA_DEMO_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    return tmp_path / "home"


def sentence(error: str) -> str:
    """The one sentence on standard error; a command's progress may stand before it."""
    lines = [line for line in error.splitlines() if not line.startswith(PROGRESS)]
    assert len(lines) == 1, error
    assert "Traceback" not in error and "usage:" not in error and len(lines[0]) < 400
    assert lines[0].endswith(".") and not re.search(r"[.!?]\s+[A-Z]", lines[0]), "one sentence"
    assert "; " in lines[0], "what is wrong; what to do"
    return lines[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family("gpt2", tmp_path_factory.mktemp("model") / "whole")


class Trap:
    """What a hostile checkpoint does to those who unpickle it."""

    def __init__(self, sprung: Path):
        self.sprung = sprung

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.sprung),)


def pickled_only(folder: Path, sprung: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(sprung)))


def wants_remote_code(folder: Path, sprung: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(sprung)!r})\n")


def spoil(model: Path, tmp_path: Path, how: Callable[[Path, Path], None]) -> Path:
    folder = tmp_path / how.__name__
    shutil.copytree(model, folder)
    how(folder, tmp_path / "sprung")
    return folder


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (pickled_only, "only as pytorch_model.bin, a format that can run code; give a model with safetensors"),
        (wants_remote_code, "Python code (auto_map in config.json), which is never run here; choose another model"),
    ],
)
def test_a_folder_that_is_no_usable_model(
    cli: Cli, home: Path, model: Path, tmp_path: Path, how: Callable[[Path, Path], None], words: str
) -> None:
    folder = spoil(model, tmp_path, how)
    status, out, err = cli("memory", str(folder), "--measure", "--json")
    assert (status, out) == (2, "")
    assert folder.name in sentence(err) and words in err
    assert not (tmp_path / "sprung").exists() and not home.exists()


def test_a_folder_is_a_usable_model_before_it_is_spoilt(cli: Cli, model: Path) -> None:
    """Else the cases above could fail for any reason."""
    status, out, _ = cli("memory", str(model), "--measure", "--stages", "nf4-dq", "--json")
    assert status == 0 and json.loads(out)["stages"][0]["quantized_layers"] == 8


@pytest.mark.parametrize("arguments", [["train", "--max-steps", "1"], ["runs"]])
def test_runs_below_what_is_no_folder(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """Nobody can make a folder there, not even root, to whom a read-only folder is none."""
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file" / "runs", Path("/dev/null")):
        monkeypatch.setenv("QLORA_DEMO_HOME", str(place))
        status, out, err = cli(*arguments, "--json")
        assert (status, out) == (2, "")
        assert f"{place}" in sentence(err) and "Not a directory; set QLORA_DEMO_HOME (or --runs-dir) to a folder" in err
    assert (tmp_path / "file").read_text() == "in the way"


def test_runs_where_the_system_lets_nobody_write(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QLORA_DEMO_HOME", "/proc/qlora-demo-runs")
    status, out, err = cli("train", "--max-steps", "1", "--json")
    assert (status, out) == (2, "") and "/proc/qlora-demo-runs" in sentence(err)
    assert "to a folder that can be written" in err


class TestHub:
    @pytest.fixture
    def hub(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
        with HubServer() as server:
            monkeypatch.setattr(constants, "ENDPOINT", server.url)
            yield server

    @pytest.mark.parametrize("token", ["", TOKEN], ids=["stranger-401", "user-404"])
    @pytest.mark.parametrize("way", ["--predict", "--measure"])
    def test_an_unknown_model(
        self, cli: Cli, hub: HubServer, home: Path, monkeypatch: pytest.MonkeyPatch, token: str, way: str
    ) -> None:
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        status, out, err = cli("memory", "no/such-model", way, "--json")
        assert (status, out) == (2, "") and hub.paths().count("/api/models/no/such-model?blobs=true") == 1
        advice = "check the id, or set HF_TOKEN if it is private."
        wanted = f"There is no model 'no/such-model' on the Hub that you may see; {advice}"
        assert sentence(err) == wanted and not home.exists()

    def test_no_network(self, cli: Cli, home: Path) -> None:
        began = time.monotonic()
        status, out, err = cli("memory", "some/model", "--json")
        advice = "check the network, or use `sample` or a local folder."
        wanted = f"The Hub ({NOBODY}) cannot be reached for some/model; {advice}"
        assert (status, out, sentence(err)) == (2, "", wanted)
        assert time.monotonic() - began < 10 and not home.exists()

    def test_offline_mode(self, cli: Cli, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("QLORA_DEMO_OFFLINE", "1")
        status, out, err = cli("memory", "some/model", "--json")
        assert (status, out) == (2, "") and "some/model" in sentence(err) and "QLORA_DEMO_OFFLINE" in err
        assert hub.requests == []


def test_reviews_from_the_hub_without_network(cli: Cli, home: Path) -> None:
    """The tutorial's reviews have two copies on the Hub; where it is away they are not waited for one after the
    other."""
    began = time.monotonic()
    status, out, err = cli("evaluate", "--adapter", "sample", "--data", "amazon-reviews", "--json")
    assert (status, out) == (2, "")
    assert f"The Hub ({NOBODY}) cannot be reached for mteb/amazon_reviews_multi" in sentence(err)
    assert "check the network, or use `sample` or a file." in err
    assert time.monotonic() - began < 20 and not home.exists()


def test_a_training_run_that_cannot_have_its_model_fails_with_one_sentence(
    cli: Cli, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only the Hub knows is found by the worker, hence a failed run and exit status 1."""
    with HubServer() as hub:
        for name, value in environment(hub, tmp_path / "cache", HF_TOKEN=TOKEN).items():
            monkeypatch.setenv(name, value)
        status, out, err = cli("train", "--model", "no/such-model", "--max-steps", "1", "--json")
    last = json.loads(out.splitlines()[-1])
    assert (status, last["event"], last["state"], last["report"]) == (1, "finished", "failed", None)
    where, *rest = err.splitlines()
    assert where.startswith(f"Run {last['run']} in {home / last['run']}; ")
    assert sentence("\n".join(rest)) == last["error"]
    assert "There is no model 'no/such-model' on the Hub" in last["error"]
    kept = sorted(path.name for path in (home / last["run"]).iterdir())
    assert kept == ["config.json", "events.jsonl", "state.json", "worker.log"]
    assert "Traceback" not in (home / last["run"] / "worker.log").read_text()


def test_a_folder_that_cannot_be_loaded_starts_no_run(cli: Cli, home: Path, model: Path, tmp_path: Path) -> None:
    folder = spoil(model, tmp_path, pickled_only)
    status, out, err = cli("train", "--model", str(folder), "--max-steps", "1", "--json")
    assert (status, out) == (2, "")
    assert "has its weights only as pytorch_model.bin" in sentence(err)
    assert not home.exists() and not (tmp_path / "sprung").exists()
