"""A real adapter goes to a local Hub by command and comes back by name in processes that have nothing of it: the same
logits.

What is published is the adapter that the app ships, whose base is embedded, and a tiny one whose base is on the Hub."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import answer, command, python
from tests.families import make_family
from tests.hub_server import TOKEN, USER, HubServer, environment
from tests.reviews import write_reviews
from tests.serving import ROOT

SHIPPED = ROOT / "assets" / "adapter"
REPO = f"{USER}/stars"
TEXTS = ["I love this product", "Broke after two days, a waste of money.", "It is fine, I suppose 😀"]
LOGITS = """
import json, sys
from qlora_demo.engine.classify.classifier import Classifier
classifier = Classifier(sys.argv[1], on_cpu=True)
print(json.dumps([classifier.remark, [classifier.logits(sys.argv[2:], base).tolist() for base in (False, True)]]))
"""
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


def logits(adapter: str, env: dict[str, str]) -> Any:
    return answer(python("-c", LOGITS, adapter, *TEXTS, env=env))


def content(hub: HubServer) -> dict[str, bytes]:
    files = hub.repos["models", REPO].commit("main").files
    return {name: file.source.read_bytes() for name, file in files.items() if name != ".gitattributes"}


def check_content(hub: HubServer, files: list[dict[str, Any]]) -> None:
    """What the command said it sent is there, and the weights are the shipped ones."""
    there = content(hub)
    assert {name: len(blob) for name, blob in there.items()} == {file["name"]: file["size_bytes"] for file in files}
    assert there["adapter_model.safetensors"] == (SHIPPED / "adapter_model.safetensors").read_bytes()


@pytest.mark.slow
def test_publish_and_load_back_in_a_fresh_process(hub: HubServer, tmp_path: Path) -> None:
    home = environment(hub, tmp_path / "home", HF_TOKEN=TOKEN, QLORA_DEMO_HOME=str(tmp_path / "runs"))
    publish = ("publish", "sample", "--repo", REPO, "--licence", "mit", "--json")
    dry = answer(command(*publish, "--dry-run", env=home))
    assert dry["url"] is None and hub.requests == [], "a dry run asks nothing"
    done = command(*publish, "--private", env=home)
    sent = answer(done)
    assert sent == {**dry, "url": f"{hub.url}/{REPO}"} and hub.repos["models", REPO].private
    check_content(hub, sent["files"])
    assert content(hub)["README.md"].decode() == sent["card"]
    assert TOKEN not in done.stdout + done.stderr and str(ROOT) not in sent["card"]

    # Another machine, that of somebody who may read it: nothing in its cache.
    away = environment(hub, tmp_path / "away", HF_TOKEN=TOKEN, QLORA_DEMO_HOME=str(tmp_path / "other"))
    assert logits(REPO, away) == logits("sample", away)
    classified = command("classify", "--adapter", f"{REPO}@main", "--json", TEXTS[0], env=away)
    assert answer(classified)[0]["label"] == "5 stars"
    offline = command("classify", "--adapter", REPO, "--json", TEXTS[0], env={**away, "QLORA_DEMO_OFFLINE": "1"})
    assert offline.stdout == classified.stdout, offline.stderr
    other = command("classify", "--adapter", REPO, TEXTS[0], env=environment(hub, tmp_path / "another"))
    assert other.returncode == 2 and other.stderr.count("\n") == 1 and REPO in other.stderr


def test_a_publisher_killed_in_the_middle_leaves_nothing_half(hub: HubServer, tmp_path: Path) -> None:
    env = environment(hub, tmp_path / "home", HF_TOKEN=TOKEN, OMP_NUM_THREADS="1")
    hub.throttle(300_000)
    publish = ("publish", "sample", "--repo", REPO, "--json")
    arguments = [sys.executable, "-m", "qlora_demo", *publish]
    first = subprocess.Popen(arguments, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert TOKEN not in Path(f"/proc/{first.pid}/cmdline").read_text()
        deadline = time.monotonic() + 120
        while not hub.paths("PUT") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert hub.paths("PUT")
        time.sleep(0.5)  # in the middle of a file
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    assert content(hub) == {}
    hub.reset()
    check_content(hub, answer(command(*publish, env=env))["files"])


def test_refusals_by_command(hub: HubServer, tmp_path: Path) -> None:
    home = {"QLORA_DEMO_HOME": str(tmp_path / "runs")}
    logged_in = environment(hub, tmp_path / "home", HF_TOKEN=TOKEN, **home)
    hub.add_model(f"{USER}/theirs", SHIPPED.parent / "sample_reviews", readers=[USER])
    for arguments, env, words in (
        (["sample", "--repo", REPO], environment(hub, tmp_path / "home", **home), "hf auth login"),
        (["sample", "--repo", f"{USER}/theirs", "--replace"], logged_in, "leaves alone"),
    ):
        done = command("publish", *arguments, env=env)
        assert done.returncode == 2 and done.stdout == "" and words in done.stderr.splitlines()[-1], done
        assert "Traceback" not in done.stderr and "hf_" not in done.stderr


@pytest.mark.slow
def test_a_run_comes_back_with_its_base_from_the_hub_and_is_trained_on(hub: HubServer, tmp_path: Path) -> None:
    base = hub.add_model("maker/base", make_family("distilbert", tmp_path / "base"))
    sizes = "--max-steps 2 --batch-size 8 --max-length 32 --precision fp32 --evaluations 1 --json"
    train = ["train", "--model", "maker/base", "--data", str(write_reviews(tmp_path / "reviews.jsonl", 12))]
    train += sizes.split()
    env = environment(hub, tmp_path / "home", HF_TOKEN=TOKEN, QLORA_DEMO_HOME=str(tmp_path / "runs"))
    run = answer(command(*train, env=env))["run"]
    answer(command("publish", run, "--repo", REPO, "--json", env=env))
    expected = logits(str(tmp_path / "runs" / run / "adapter"), env)
    shutil.rmtree(tmp_path / "runs")
    away = environment(hub, tmp_path / "away", QLORA_DEMO_HOME=str(tmp_path / "runs"))
    assert logits(REPO, away) == expected
    note = json.loads(content(hub)["qlora_demo.json"])
    assert (note["base_name"], note["revision"]) == ("maker/base", base)
    answer(command(*train, "--start-from", REPO, env=away))
