"""The tutorial's run from end to end, by command, against a local Hub: GPT-2 by name, reviews sorted by star, and back
in a new process.

One training run is shared by the tests that look at what it left. Everything runs in processes that take the local Hub
for the real one."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Done, answer, command, python
from tests.hub_server import HubServer, Request, environment, make_amazon_reviews, make_gpt2

GPT2, REVIEWS, PINNED = "openai-community/gpt2", "mteb/amazon_reviews_multi", "1399c76144fd37290681b995c656ef9b2e06e26d"
FIRST_COPY, SECOND_COPY = "SetFit/amazon_reviews_multi_en", "mteb/AmazonReviewsClassification"
SPLITS = ("train", "validation", "test")
END = 511  # <|endoftext|>, the last of the small tokenizer's 512 tokens
pytestmark = pytest.mark.timeout(200)


@dataclass(frozen=True)
class Run:
    """What the training command left behind."""

    done: Done
    folder: Path
    requests: list[Request]
    base_revision: str
    env: dict[str, str]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.done.stdout.splitlines()]

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.folder / "report.json").read_text())

    def asked(self, repository: str) -> list[str]:
        return [request.path for request in self.requests if repository in request.path]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tutorial")


@pytest.fixture(scope="module")
def hub(place: Path) -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def run(hub: HubServer, place: Path) -> Run:
    revision = hub.add_model(GPT2, make_gpt2(place / "gpt2"), license="mit")
    hub.add_dataset(REVIEWS, make_amazon_reviews(place / "reviews", (300, 25, 25)), revision=PINNED)
    hub.add_dataset(REVIEWS, make_amazon_reviews(place / "newer-reviews", (20, 5, 5)))
    env = environment(hub, place / "cache", QLORA_DEMO_HOME=str(place / "runs"))
    # One evaluation, so that what is kept is the last step's: the first, at learning rate 0, is the untrained network.
    settings = "--preset gpt2-amazon --rows 60 --max-steps 4 --batch-size 8 --evaluations 1 --json"
    done = command("train", *settings.split(), env=env)
    assert done.returncode == 0, done.stderr
    [folder] = [path for path in (place / "runs").iterdir() if path.name != ".cache"]
    requests = list(hub.requests)
    # From here on `main` is another model: only the recorded revision leads back.
    hub.add_model(GPT2, make_gpt2(place / "newer-gpt2", layers=1, width=32), license="mit")
    hub.reset()
    return Run(done, folder, requests, revision, env)


def test_the_run_is_done(run: Run) -> None:
    last = run.events[-1]
    assert (last["event"], last["state"], last["error"]) == ("finished", "done", None)
    assert last["report"] == str(run.folder / "report.json") and "Traceback" not in run.done.stderr
    assert run.done.stderr.count("\n") == 1, "where the run lies, and nothing else"
    assert run.report["training"]["steps"] == run.report["training"]["best_step"] == 4
    assert max(event["step"] for event in run.events if event["event"] == "step") <= 4
    assert {event["split"] for event in run.events if event["event"] == "evaluation"} == {"validation", "test"}
    # The tutorial's own settings hold where the command says nothing else.
    own = {"model": GPT2, "learning_rate": 2e-5, "dropout": 0.1, "precision": "nf4-dq"}
    assert own.items() <= run.report["config"].items()
    assert run.report["reload"]["texts"] == 16 and run.report["reload"]["max_logit_difference"] <= 0.05


def test_a_subset_of_the_sorted_file_is_balanced(run: Run, place: Path) -> None:
    """The first 60 rows of the file are all one-star reviews: the trap is really there."""
    lines = (place / "reviews" / "en" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["label"] for line in lines[:60]} == {0}
    data = run.report["data"]
    assert data["rows"] == {"train": 60, "validation": 25, "test": 25}
    assert data["balance"]["train"] == [12] * 5 and data["balance"]["test"] == [5] * 5
    assert data["labels"] == ["0", "1", "2", "3", "4"] and data["ordinal"]
    assert run.report["baselines"]["majority"]["accuracy"] == pytest.approx(0.2)


def test_the_pinned_revision_is_what_the_hub_was_asked_for(run: Run) -> None:
    asked = run.asked(REVIEWS)
    assert asked and all(PINNED in path for path in asked)
    fetched = {path.rpartition("/")[2] for path in asked if path.startswith("/cdn/")}
    assert fetched == {f"{split}.jsonl" for split in SPLITS}
    assert not any(path.endswith(".py") for path in asked), "the loading script is not even fetched"
    data = run.report["data"]
    assert (data["name"], data["revision"], data["notes"]) == (REVIEWS, PINNED, [])
    assert not run.asked(FIRST_COPY) and not run.asked(SECOND_COPY)


def test_the_bases_revision_is_recorded(run: Run) -> None:
    fetched = [path for path in run.asked(GPT2) if "/resolve/" in path or path.startswith("/cdn/")]
    assert fetched and all(run.base_revision in path for path in fetched)
    assert not any(junk in path for path in fetched for junk in (".bin", ".h5", "onnx"))
    note = json.loads((run.folder / "adapter" / "qlora_demo.json").read_text())
    assert (note["base_name"], note["revision"]) == (GPT2, run.base_revision)
    adapter = json.loads((run.folder / "adapter" / "adapter_config.json").read_text())
    assert (adapter["base_model_name_or_path"], adapter["revision"]) == (GPT2, run.base_revision)


def test_the_head_and_the_pad_token_are_saved(run: Run) -> None:
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer

    weights = load_file(run.folder / "adapter" / "adapter_model.safetensors")
    [head] = [name for name in weights if "score" in name]
    assert weights[head].shape == (5, 64) and "lora" not in head, "trained whole, not by LoRA"
    adapted = {name.partition(".lora_")[0].rpartition(".")[2] for name in weights if ".lora_" in name}
    assert adapted == {"c_attn", "c_fc", "c_proj"} and len(weights) == 1 + 2 * 2 * 4
    untrained = load_file(run.folder / "adapter" / "untrained_head.safetensors")
    assert abs(weights[head] - next(iter(untrained.values()))).max() > 0, "four steps left the head as it was"

    tokenizer = AutoTokenizer.from_pretrained(run.folder / "adapter")
    assert (tokenizer.pad_token, tokenizer.pad_token_id, tokenizer.padding_side) == ("<|endoftext|>", END, "right")
    assert json.loads((run.folder / "adapter" / "qlora_demo.json").read_text())["pad_token_id"] == END


def test_the_adapter_comes_back_in_a_new_process_with_an_empty_cache(run: Run, hub: HubServer, place: Path) -> None:
    """Tuned and untrained network give the metrics that the report states, from a base fetched again at its recorded
    revision."""
    shutil.rmtree(place / "cache")
    hub.reset()
    script = """
import sys
from qlora_demo.__main__ import main
evaluate = ["evaluate", "--adapter", sys.argv[1], "--data", "amazon-reviews", "--json"]
classify = ["classify", "--adapter", sys.argv[1], "--json", *sys.argv[2:]]
sys.exit(main(evaluate) or main([*evaluate, "--base"]) or main(classify))
"""
    texts = ["I love this product", "It broke after two days, a complete waste of money."]
    done = python("-c", script, run.folder.name, *texts, env=run.env)
    assert done.returncode == 0, done.stderr
    tuned, untrained, alone = (json.loads(line) for line in done.stdout.splitlines())
    for found, stated in ((tuned, run.report["final"]["test"]), (untrained, run.report["base"])):
        assert found["confusion"] == stated["confusion"]
        assert found["loss"] == pytest.approx(stated["loss"], abs=1e-6)
    assert abs(tuned["loss"] - untrained["loss"]) > 1e-5, "else a lost adapter would pass too"
    assert [item["text"] for item in alone] == texts and all(1 <= item["expected_stars"] <= 5 for item in alone)

    fetched = [request.path for request in hub.requests if GPT2 in request.path and "/resolve/" in request.path]
    assert fetched and all(run.base_revision in path for path in fetched), "main is another model by now"
    assert any(path.startswith(f"/cdn/models/{GPT2}/{run.base_revision}/") for path in hub.paths())


LOAD = """
import json
from qlora_demo.core.errors import DemoError
from qlora_demo.engine.data import dataset, hub
try: print(json.dumps({**dataset.load("amazon-reviews", rows=10).describe().to_dict(), "asked": hub.inspect_reviews("amazon-reviews").id}))
except DemoError as error: print(json.dumps(str(error)))
"""  # noqa: E501


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[HubServer]:
    """A Hub with the tutorial's reviews and both copies, each of another size; the copies have their files where they
    lie on the Hub."""
    with HubServer() as server:
        server.add_dataset(REVIEWS, make_amazon_reviews(tmp_path / "first", (50, 10, 10)), revision=PINNED)
        for name, rows, folder in ((FIRST_COPY, 45, ""), (SECOND_COPY, 40, "en")):
            made = make_amazon_reviews(tmp_path / f"made-{rows}", (rows, 10, 10))
            kept = tmp_path / f"copy-{rows}"
            (kept / folder).mkdir(parents=True)
            for split in SPLITS:
                shutil.copy(made / "en" / f"{split}.jsonl", kept / folder)
            files = "".join(f"  - split: {split}\n    path: en/{split}.jsonl\n" for split in SPLITS)
            card = f"configs:\n- config_name: en\n  data_files:\n{files}" if folder else "language: en\n"
            (kept / "README.md").write_text(f"---\n{card}---\n")
            server.add_dataset(name, kept)
        yield server


def load(server: HubServer, tmp_path: Path) -> Any:
    return answer(python("-c", LOAD, env=environment(server, tmp_path / "cache")))


@pytest.mark.parametrize(
    ("failing", "status", "used"),
    [
        ([], 0, REVIEWS),
        ([f"/api/datasets/{REVIEWS}"], 500, FIRST_COPY),
        ([f"{PINNED}/en/train.jsonl"], 404, FIRST_COPY),
        ([f"/api/datasets/{REVIEWS}", FIRST_COPY], 404, SECOND_COPY),
    ],
)
def test_a_copy_of_the_reviews_stands_in(
    copies: HubServer, tmp_path: Path, failing: list[str], status: int, used: str
) -> None:
    for part in failing:
        copies.fail_next(part, status, times=100)
    found = load(copies, tmp_path)
    assert (found["name"], found["rows"]["train"], found["balance"]["train"]) == (used, 10, [2] * 5)
    lists_files = not any("/api/" in part for part in failing)
    assert found["asked"] == (REVIEWS if lists_files else used), "the page asks about what will be fetched"
    assert any(path.startswith(f"/cdn/datasets/{used}/") and path.endswith("train.jsonl") for path in copies.paths())
    if used == REVIEWS:
        assert found["notes"] == [] and not any(FIRST_COPY in path for path in copies.paths())
    else:
        assert found["notes"] == [f"The Hub did not give {REVIEWS}; the reviews come from {used}."]


def test_without_any_copy_one_sentence_names_the_reviews(copies: HubServer, tmp_path: Path) -> None:
    copies.repos.clear()
    sentence = load(copies, tmp_path)
    assert f"There is no data set {REVIEWS!r} on the Hub" in sentence and "check the id" in sentence
    assert "\n" not in sentence


@pytest.mark.slow
def test_a_hub_that_vanishes_amid_the_weights_leaves_no_half_file(tmp_path: Path) -> None:
    """The reviews come from the sample here: the base's download is what is cut."""
    with HubServer() as server:
        server.add_model(GPT2, make_gpt2(tmp_path / "gpt2"))
        server.throttle(100_000)  # eleven seconds for the weights, were the Hub to stay
        seen: list[str] = []

        def vanish() -> None:
            deadline = time.monotonic() + 60
            while not any(path.startswith("/cdn/") for path in server.paths()) and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(0.5)
            seen.extend(path.name for path in (tmp_path / "cache").rglob("*incomplete"))
            server.close()

        thread = threading.Thread(target=vanish)
        thread.start()
        env = environment(server, tmp_path / "cache", QLORA_DEMO_HOME=str(tmp_path / "runs"))
        done = command("train", "--preset", "gpt2-amazon", "--data", "sample", "--max-steps", "1", "--json", env=env)
        thread.join()
        address = server.url
    assert len(seen) == 1, "the Hub should go when the weights have begun"
    last = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, last["event"], last["state"]) == (1, "finished", "failed")
    advice = "check the network, or use `sample` or a local folder."
    assert last["error"] == f"The Hub ({address}) cannot be reached for {GPT2}; {advice}"
    assert done.stderr.splitlines()[1:] == [last["error"]], "after the line that says where the run lies"
    kept = [Path(where) / name for where, _, names in os.walk(tmp_path / "cache") for name in names]
    assert any(path.name == "config.json" for path in kept), "what came whole stays"
    assert not [path for path in kept if "incomplete" in path.name or path.name == "model.safetensors"]
    assert not [path for path in kept if path.parent.name == "blobs" and path.stat().st_size > 50_000]
    assert not (tmp_path / "runs" / last["run"] / "adapter").exists() and last["report"] is None
