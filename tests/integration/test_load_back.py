"""A real adapter goes to a local Hub by command and comes back by name in processes that have nothing of it: the same
logits.

What is published is the adapter that the app ships, whose base is embedded, and tiny ones of other families, whose
bases come from the Hub."""

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

from tests.families import make_family
from tests.hub_server import TOKEN, USER, HubServer, environment
from tests.reviews import write_reviews

ROOT = Path(__file__).parents[2]
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


def python(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    env = {**env, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=200, check=False
    )


def command(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return python("-m", "qlora_demo", *arguments, env=env)


def logits(adapter: str, env: dict[str, str]) -> Any:
    done = python("-c", LOGITS, adapter, *TEXTS, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def content(hub: HubServer) -> dict[str, bytes]:
    files = hub.repos["models", REPO].commit("main").files
    return {name: file.source.read_bytes() for name, file in files.items() if name != ".gitattributes"}


@pytest.mark.slow
def test_publish_and_load_back_in_a_fresh_process(hub: HubServer, tmp_path: Path) -> None:
    home = environment(hub, tmp_path / "home", HF_TOKEN=TOKEN, QLORA_DEMO_HOME=str(tmp_path / "runs"))
    dry = command("publish", "sample", "--repo", REPO, "--dry-run", "--licence", "mit", "--json", env=home)
    assert dry.returncode == 0, dry.stderr
    shown = json.loads(dry.stdout)
    assert shown["url"] is None and hub.requests == [], "a dry run asks nothing"

    done = command("publish", "sample", "--repo", REPO, "--private", "--licence", "mit", "--json", env=home)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == {**shown, "url": f"{hub.url}/{REPO}"}
    there = content(hub)
    assert {name: len(blob) for name, blob in there.items()} == {
        file["name"]: file["size_bytes"] for file in told["files"]
    }
    assert there["README.md"].decode() == told["card"] and hub.repos["models", REPO].private
    assert there["adapter_model.safetensors"] == (SHIPPED / "adapter_model.safetensors").read_bytes()
    assert TOKEN not in done.stdout + done.stderr and str(ROOT) not in told["card"]

    # Another machine, that of somebody who may read it: nothing in its cache.
    away = environment(hub, tmp_path / "away", HF_TOKEN=TOKEN, QLORA_DEMO_HOME=str(tmp_path / "other"))
    assert logits(REPO, away) == logits("sample", away)
    classified = command("classify", "--adapter", f"{REPO}@main", "--json", TEXTS[0], env=away)
    assert json.loads(classified.stdout)[0]["label"] == "5 stars", classified.stderr
    offline = command("classify", "--adapter", REPO, "--json", TEXTS[0], env={**away, "QLORA_DEMO_OFFLINE": "1"})
    assert offline.stdout == classified.stdout, offline.stderr
    stranger = command("classify", "--adapter", REPO, TEXTS[0], env=environment(hub, tmp_path / "stranger"))
    assert stranger.returncode == 2 and stranger.stderr.count("\n") == 1 and REPO in stranger.stderr


def test_a_publisher_killed_in_the_middle_leaves_nothing_half(hub: HubServer, tmp_path: Path) -> None:
    env = environment(hub, tmp_path / "home", HF_TOKEN=TOKEN, OMP_NUM_THREADS="1")
    hub.throttle(300_000)
    arguments = [sys.executable, "-m", "qlora_demo", "publish", "sample", "--repo", REPO, "--json"]
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
    again = command("publish", "sample", "--repo", REPO, "--json", env=env)
    assert again.returncode == 0, again.stderr
    there = content(hub)
    assert {name: len(blob) for name, blob in there.items()} == {
        it["name"]: it["size_bytes"] for it in json.loads(again.stdout)["files"]
    }
    assert there["adapter_model.safetensors"] == (SHIPPED / "adapter_model.safetensors").read_bytes()


def test_refusals_by_command(hub: HubServer, tmp_path: Path) -> None:
    home = {"QLORA_DEMO_HOME": str(tmp_path / "runs")}
    logged_in = environment(hub, tmp_path / "home", HF_TOKEN=TOKEN, **home)
    hub.add_model(f"{USER}/theirs", SHIPPED.parent / "sample_reviews", readers=[USER])
    for arguments, env, words in (
        (["sample", "--repo", REPO], environment(hub, tmp_path / "home", **home), "hf auth login"),
        (["sample", "--repo", f"{USER}/theirs", "--replace"], logged_in, "leaves alone"),
    ):
        done = command("publish", *arguments, env=env)
        assert done.returncode == 2 and done.stdout == "", done
        last = done.stderr.splitlines()[-1]
        assert words in last and "Traceback" not in done.stderr and "hf_" not in done.stderr


@pytest.mark.slow
def test_a_run_comes_back_with_its_base_from_the_hub_and_is_trained_on(hub: HubServer, tmp_path: Path) -> None:
    base = hub.add_model("maker/base", make_family("distilbert", tmp_path / "base"))
    reviews = write_reviews(tmp_path / "reviews.jsonl", 12)
    env = environment(hub, tmp_path / "home", HF_TOKEN=TOKEN, QLORA_DEMO_HOME=str(tmp_path / "runs"))
    done = command(
        "train",
        "--model",
        "maker/base",
        "--data",
        str(reviews),
        "--max-steps",
        "2",
        "--batch-size",
        "8",
        "--max-length",
        "32",
        "--precision",
        "fp32",
        "--evaluations",
        "1",
        "--json",
        env=env,
    )
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout.splitlines()[-1])["run"]
    told = command("publish", run, "--repo", REPO, "--json", env=env)
    assert told.returncode == 0, told.stderr
    expected = logits(str(tmp_path / "runs" / run / "adapter"), env)
    shutil.rmtree(tmp_path / "runs")
    away = environment(hub, tmp_path / "away", QLORA_DEMO_HOME=str(tmp_path / "runs"))
    assert logits(REPO, away) == expected
    note = json.loads(content(hub)["qlora_demo.json"])
    assert (note["base_name"], note["revision"]) == ("maker/base", base)
    more = command(
        "train",
        "--model",
        "maker/base",
        "--data",
        str(reviews),
        "--max-steps",
        "2",
        "--batch-size",
        "8",
        "--max-length",
        "32",
        "--precision",
        "fp32",
        "--evaluations",
        "1",
        "--start-from",
        REPO,
        "--json",
        env=away,
    )
    assert more.returncode == 0, more.stderr
