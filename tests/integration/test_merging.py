"""A merged model: what it is on disk, how far it is from its adapter, and that anybody can load it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from qlora_demo.core.errors import HubError, ModelError
from qlora_demo.engine.classify import merging
from qlora_demo.engine.classify.classifier import Classifier
from qlora_demo.engine.models import modeling
from qlora_demo.engine.models.adapters import find_adapter
from qlora_demo.engine.models.device import choose_device
from qlora_demo.host.host import Host
from qlora_demo.jobs.store import Store
from qlora_demo.services.publish import PublishService
from qlora_demo.storage.packs import Merging, find_pack, sweep
from tests.conftest import Cli

TEXTS = ["I love this product, it is perfect!", "Broke after two days. A waste of money.", "It is okay.", "Good sound."]


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Merging]:
    folder = tmp_path_factory.mktemp("merged") / "model"
    return folder, merging.merge(find_adapter("sample"), folder, TEXTS)


def test_it_stands_alone(merged: tuple[Path, Merging]) -> None:
    folder, report = merged
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float16)
    assert type(model).__name__ == "BertForSequenceClassification" and not hasattr(model, "peft_config")
    assert not hasattr(model.config, "quantization_config") and {p.dtype for p in model.parameters()} == {torch.float16}
    assert report.parameters == sum(p.numel() for p in model.parameters())
    assert report.bytes == sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert model.config.id2label == dict(enumerate(Classifier("sample").labels))


def test_the_difference_is_that_of_the_base(merged: tuple[Path, Merging]) -> None:
    """Against the adapter on the very base it was merged with, next to nothing; against its own 4-bit base what the
    report says."""
    folder, report = merged
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    found = modeling.forward(model, AutoTokenizer.from_pretrained(folder), TEXTS, 128).numpy()
    dense = modeling.load_adapter(find_adapter("sample"), choose_device("cpu"), "fp32")
    assert np.abs(found - modeling.forward(dense.model, dense.tokenizer, TEXTS, 128).numpy()).max() < 0.02, (
        "FP16's rounding alone"
    )
    own = Classifier("sample", on_cpu=True, restored=True).logits(TEXTS)
    assert report.max_logit_difference == pytest.approx(float(np.abs(found - own).max()), abs=0.02)
    assert report.trained_at == "nf4-dq" and report.max_logit_difference > 0.02, "the dense base is another one"
    assert report.rows == len(TEXTS) and 0 <= report.same_label <= 1


def test_nothing_is_written_over(merged: tuple[Path, Merging]) -> None:
    with pytest.raises(ModelError, match="exists already"):
        merging.merge(find_adapter("sample"), merged[0], TEXTS)


def test_by_command(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QLORA_DEMO_HOME", str(tmp_path / "runs"))
    monkeypatch.setenv("QLORA_DEMO_OFFLINE", "1")
    path = tmp_path / "merged.zip"
    export = ("export", "sample", "--json")
    status, out, err = cli(*export, "--merged", "--output", str(path), "--licence", "apache-2.0")
    assert status == 0 and "rests on the dense base" in err, err
    result = json.loads(out)
    with zipfile.ZipFile(path) as packed:
        names = set(packed.namelist())
        card = packed.read("README.md").decode()
    assert {file["name"] for file in result["files"]} == names >= {"model.safetensors", "config.json", "README.md"}
    assert "license: apache-2.0" in card and f"{result['merging']['max_logit_difference']:.3g}" in card
    assert str(tmp_path) not in card

    for options, sentence in (
        (("--output", str(path)), "exists already"),
        (("--output", str(tmp_path / "none" / "x.zip")), "There is no folder"),
        (("--output", str(tmp_path / "y"), "--licence", "mine"), "none that the Hub knows"),
    ):
        status, _, err = cli(*export, *options)
        assert status == 2 and sentence in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["merged.zip"], "something was left behind"
    assert cli(*export, "--output", str(tmp_path / "adapter"))[0] == 0
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_packs_are_kept_for_a_day(tmp_path: Path) -> None:
    publisher = PublishService(Host(Store(tmp_path)))
    pack = publisher.pack("sample")
    path = find_pack(tmp_path, pack.place, pack.name)
    assert path is not None and path.stat().st_size == pack.size_bytes
    with zipfile.ZipFile(path) as packed:
        assert {"README.md", "adapter_model.safetensors", "report.json"} <= set(packed.namelist())
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    wrong = [(pack.place, f"../{pack.name}"), (f"../packs/{pack.place}", pack.name), ("", pack.name)]
    for place, name in (*wrong, (pack.place, "x.zip")):
        assert find_pack(tmp_path, place, name) is None
    assert sweep(tmp_path) == 0 and sweep(tmp_path, now=path.stat().st_mtime + 25 * 3600) == 1
    assert find_pack(tmp_path, pack.place, pack.name) is None


@pytest.mark.slow
def test_merging_is_a_job_that_leaves_nothing_but_its_zip(tmp_path: Path) -> None:
    store, progress = Store(tmp_path), []
    pack = PublishService(Host(store)).merge("sample", on_progress=lambda text, share: progress.append(text))
    path = find_pack(tmp_path, pack.place, pack.name)
    assert path is not None and path.stat().st_size == pack.size_bytes and pack.merging.same_label > 0.9
    assert {"model.safetensors", "README.md"} <= set(zipfile.ZipFile(path).namelist())
    assert "adding the adapter to the dense base" in progress and store.jobs() == []
    with pytest.raises(HubError, match=r"Merging was stopped; nothing was kept\."):
        PublishService(Host(store)).merge("sample", should_stop=lambda: True)
    assert store.jobs() == [] and [place.name for place in (tmp_path / ".cache" / "packs").iterdir()] == [pack.place]
