"""Adapters of strangers, by name from a local Hub: what is good comes back, what is not is refused in one sentence
before it is used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qlora_demo.core.cancellation import DownloadStopped
from qlora_demo.core.errors import AdapterError, DemoError, HubError, ModelError
from qlora_demo.engine.classify.classifier import Classifier
from qlora_demo.engine.models import hubadapters, modeling
from qlora_demo.engine.models.adapters import find_adapter
from qlora_demo.engine.models.device import choose_device
from qlora_demo.engine.models.hubadapters import fetch_adapter, is_hub_name
from qlora_demo.engine.models.sources import resolve
from tests.families import FAMILIES, make_family
from tests.hub_access import point_to
from tests.hub_server import HubServer

SHIPPED = Path(__file__).parents[2] / "assets" / "adapter"
NAME = "stranger/stars"
TEXTS = ["I love this product", "Broke after two days, a waste of money."]
BERT = "base_model.model.bert"
PICKLE = b"\x80\x04cos\nsystem\n."


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as server:
        point_to(server.url, tmp_path, monkeypatch)
        monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path / "assets"))
        yield server


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(SHIPPED, tmp_path / "repository")


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def reweigh(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(path)
    change(weights)
    save_file({name: value.contiguous() for name, value in weights.items()}, path, metadata={"format": "pt"})


def sentence(error: pytest.ExceptionInfo[DemoError], tmp_path: Path) -> str:
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text and text.count(". ") == 0 and len(text) < 400
    assert str(tmp_path) not in text and "/root" not in text
    return text


def fetched(hub: HubServer) -> set[str]:
    return {path.rpartition("/")[2] for path in hub.paths("GET") if "/resolve/" in path or "/cdn/" in path}


class TestNames:
    @pytest.mark.parametrize("name", ["user/name", "user/name@main", "a.b/c_d-e@refs/pr/1", "user/name@" + "0" * 40])
    def test_those_of_the_hub(self, name: str) -> None:
        assert is_hub_name(name)

    @pytest.mark.parametrize(
        "name", ["name", "a/b/c", "../b", "./b", "/a/b", "a/..", "a/b@../c", "a/b@", "a--b/c", "~/b", "a/b c", "a/b\n"]
    )
    def test_those_that_are_none(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)  # where no folder is called so
        assert not is_hub_name(name)
        with pytest.raises(AdapterError):
            find_adapter(name)

    def test_a_folder_at_hand_is_meant_before_the_hub(
        self, hub: HubServer, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "stranger").mkdir()
        copy.rename(tmp_path / NAME)
        monkeypatch.chdir(tmp_path)
        assert find_adapter(NAME) == tmp_path / NAME and hub.requests == []


class TestWhatComesBack:
    def test_only_what_is_needed_is_fetched_by_commit(self, hub: HubServer, copy: Path) -> None:
        for junk in ("adapter_model.bin", "optimizer.pt", "../../evil.json", "scripts/run.py"):
            place = copy / Path(junk).name
            place.write_bytes(PICKLE)
        sha = hub.add_model(NAME, copy)
        files = hub.repos["models", NAME].commit("main").files
        files["../../evil.json"] = files.pop("evil.json")
        folder = find_adapter(NAME)
        assert folder.name == sha
        jsons = {"adapter_config.json", "qlora_demo.json", "report.json"}
        own = {*jsons, "adapter_model.safetensors", "untrained_head.safetensors"}
        assert fetched(hub) == {path.name for path in folder.iterdir()} == own
        assert all(f"/{sha}/" in path for path in hub.paths("GET") if "/resolve/" in path)

    def test_the_same_logits(self, hub: HubServer, copy: Path) -> None:
        hub.add_model(NAME, copy)
        found, shipped = Classifier(NAME, on_cpu=True), Classifier("sample", on_cpu=True)
        for base in (False, True):
            np.testing.assert_array_equal(found.logits(TEXTS, base), shipped.logits(TEXTS, base))
        assert (found.labels, found.temperature, found.remark) == (shipped.labels, shipped.temperature, "")

    @pytest.mark.parametrize("family", FAMILIES)
    def test_every_family_passes_the_checks(self, hub: HubServer, tmp_path: Path, family: str) -> None:
        revision = hub.add_model("maker/base", make_family(family, tmp_path / "base"))
        base = modeling.load_base(resolve("maker/base"), ["bad", "good"], "fp32", choose_device("cpu"))
        model = modeling.attach_lora(base, rank=4, alpha=8, dropout=0.0, targets="all-linear")
        note = modeling.AdapterNote(
            "maker/base", "maker/base", revision, ["bad", "good"], True, "fp32", "float32", 32, 0
        )
        modeling.save_adapter(model, base.tokenizer, note, tmp_path / "adapter")
        hub.add_model(NAME, tmp_path / "adapter")
        np.testing.assert_array_equal(
            Classifier(NAME, on_cpu=True).logits(TEXTS),
            Classifier(str(tmp_path / "adapter"), on_cpu=True).logits(TEXTS),
        )

    def test_revisions(self, hub: HubServer, copy: Path, tmp_path: Path) -> None:
        first = hub.add_model(NAME, copy)
        newer = shutil.copytree(copy, tmp_path / "newer")
        rewrite(newer / "qlora_demo.json", max_length=64)
        second = hub.add_model(NAME, newer)
        hub.repos["models", NAME].branches["old"] = first
        found = [find_adapter(f"{NAME}{at}").name for at in ("", "@main", "@old", f"@{first}")]
        assert found == [second, second, first, first]
        with pytest.raises(ModelError, match="no revision"):
            find_adapter(f"{NAME}@none")

    def test_a_cached_one_does_without_the_hub(
        self, hub: HubServer, copy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.add_model(NAME, copy)
        folder = find_adapter(NAME)
        hub.close()
        assert find_adapter(NAME) == find_adapter(f"{NAME}@{folder.name}") == folder
        monkeypatch.setenv("QLORA_DEMO_OFFLINE", "1")
        assert find_adapter(NAME) == folder
        with pytest.raises(HubError, match="offline mode"):
            find_adapter("stranger/other")

    def test_progress_and_stop(self, hub: HubServer, copy: Path) -> None:
        hub.add_model(NAME, copy)
        hub.throttle(1_000_000)
        told: list[float | None] = []
        with pytest.raises(DownloadStopped):
            fetch_adapter(NAME, on_progress=lambda text, share: told.append(share), should_stop=lambda: len(told) > 2)
        assert len(told) >= 3
        hub.throttle(None)
        assert find_adapter(NAME).is_dir()

    def test_unknown_and_unreachable(self, hub: HubServer, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="'stranger/stars' on the Hub"):
            find_adapter(NAME)
        hub.close()
        with pytest.raises(HubError, match="cannot be reached"):
            find_adapter(NAME)


Refuse = Callable[[str], None]
ODD_NOTES: list[dict[str, Any]] = [
    *({"labels": ["a", "a", "b", "c", "d"]}, {"labels": "12345"}, {"precision": "__import__"}, {"extra": 1}),
    *({"compute_dtype": "load"}, {"max_length": -1}, {"max_length": "128"}),
]


class TestRefusals:
    """Each of these repositories wants something that must not happen."""

    @pytest.fixture
    def refuse(self, hub: HubServer, copy: Path, tmp_path: Path) -> Callable[[str], None]:
        """That the repository which `copy` has become is refused in one sentence with these words."""

        def refuse(words: str) -> None:
            hub.add_model(NAME, copy)
            with pytest.raises(AdapterError) as error:
                fetch_adapter(NAME)
            assert words in sentence(error, tmp_path), error.value
            hub.close()
            with pytest.raises(DemoError):  # nor is it taken from the cache
                fetch_adapter(NAME)

        return refuse

    @pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt", "weights.pkl"])
    def test_pickles_alone(self, refuse: Refuse, hub: HubServer, copy: Path, name: str) -> None:
        (copy / "adapter_model.safetensors").unlink()
        (copy / name).write_bytes(PICKLE)
        refuse(f"only as {name}, a format that can run code")
        assert fetched(hub) == set()

    @pytest.mark.parametrize("words", ["is no adapter", "2.55 MiB, more than 976.6 KiB", "qlora_demo.json of 1.91 MiB"])
    def test_none_at_all_or_a_huge_one(
        self, refuse: Refuse, hub: HubServer, copy: Path, monkeypatch: pytest.MonkeyPatch, words: str
    ) -> None:
        if words == "is no adapter":
            (copy / "adapter_config.json").unlink()
        elif words.startswith("qlora_demo.json"):
            (copy / "qlora_demo.json").write_text('{"model": "' + "x" * 2_000_000 + '"}')
        else:
            monkeypatch.setitem(hubadapters.LIMITS_BYTES, "adapter_model.safetensors", 1_000_000)
        refuse(words)
        assert fetched(hub) == set()

    @pytest.mark.parametrize("content", ["[]", "{", "[" * 100_000, '"adapter"'], ids=["list", "cut", "deep", "text"])
    @pytest.mark.parametrize("name", ["adapter_config.json", "qlora_demo.json"])
    def test_json_that_is_none(self, refuse: Refuse, hub: HubServer, copy: Path, name: str, content: str) -> None:
        (copy / name).write_text(content)
        refuse("holds no JSON object")
        assert "adapter_model.safetensors" not in fetched(hub)

    @pytest.mark.parametrize(
        "changes",
        [
            *({"peft_type": "LOHA"}, {"task_type": "CAUSAL_LM"}, {"use_dora": True}, {"bias": "all"}),
            *({"r": rank} for rank in (0, 10**9, "16", True)),
            *({"target_modules": names} for names in ("(a+)+$", [], ["../x"], ["x" * 300])),
            *({"modules_to_save": "classifier"}, {"rank_pattern": {"(a+)+$": 3}}, {"layers_pattern": "(a+)+$"}),
            *({"megatron_config": {"x": 1}}, {"init_lora_weights": "loftq"}, {"lora_alpha": float("nan")}),
            *({"layer_replication": [[0, 100000]]}, {"no_such_setting_yet": "on"}),
        ],
        ids=str,
    )
    def test_settings(self, refuse: Refuse, hub: HubServer, copy: Path, changes: dict[str, Any]) -> None:
        rewrite(copy / "adapter_config.json", **changes)
        refuse("is not an adapter that this app loads")
        assert "adapter_model.safetensors" not in fetched(hub), "refused before the weights are fetched"

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"labels": ["a"]}, "has 1 labels"),
            ({"labels": [str(i) for i in range(1001)]}, "has 1,001 labels"),
            ({"labels": ["1", "2", "3"]}, "names 3 labels, and its head has 5"),
            ({"base_name": "evil/model"}, "names two bases"),
            ({"format": 2}, "has format 2"),
            *((odd, "has not written so") for odd in ODD_NOTES),
        ],
        ids=str,
    )
    def test_notes(self, refuse: Refuse, copy: Path, changes: dict[str, Any], words: str) -> None:
        rewrite(copy / "qlora_demo.json", **changes)
        refuse(words)

    @pytest.mark.parametrize(
        ("model", "base", "words"),
        [
            ("sample", "evil/model", "which it is not"),
            ("evil/model", "evil/model", "no model 'evil/model' on the Hub"),
            ("/etc", "/etc", "a base that is not on the Hub"),
            ("../../x", "../../x", "a base that is not on the Hub"),
        ],
    )
    def test_another_base(self, refuse: Refuse, copy: Path, model: str, base: str, words: str) -> None:
        rewrite(copy / "qlora_demo.json", model=model, base_name=base)
        rewrite(copy / "adapter_config.json", base_model_name_or_path=base)
        refuse(words)

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ({"model_type": "bert", "auto_map": {"AutoModel": "evil.Model"}}, "own Python code"),
            ({"model_type": "bert", "filler": "x" * 6_000_000}, "config.json of 6 MiB"),
            ({"model_type": "no-such"}, "not known to transformers"),
            ({"model_type": "vit"}, "cannot be a text classifier"),
        ],
        ids=["code", "huge", "unknown", "images"],
    )
    def test_a_base_that_is_not_loaded(
        self, refuse: Refuse, hub: HubServer, copy: Path, tmp_path: Path, config: dict[str, Any], words: str
    ) -> None:
        (tmp_path / "base").mkdir()
        (tmp_path / "base" / "config.json").write_text(json.dumps(config))
        revision = hub.add_model("evil/model", tmp_path / "base")
        for name, field in (("qlora_demo.json", "base_name"), ("adapter_config.json", "base_model_name_or_path")):
            rewrite(copy / name, **{field: "evil/model", "revision": revision})
        rewrite(copy / "qlora_demo.json", model="evil/model")
        refuse(words)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    @pytest.mark.parametrize("name", ["adapter_model.safetensors", "untrained_head.safetensors"])
    def test_numbers_that_are_none(self, refuse: Refuse, copy: Path, name: str, value: float) -> None:
        reweigh(copy / name, lambda weights: next(iter(weights.values())).view(-1)[:1].fill_(value))
        refuse("NaN or infinite")

    @pytest.mark.parametrize(
        "content", [b"", b"\xff" * 100, b"\x10\0\0\0\0\0\0\0{}", PICKLE], ids=["empty", "huge", "short", "pickle"]
    )
    @pytest.mark.parametrize("name", ["adapter_model.safetensors", "untrained_head.safetensors"])
    def test_weights_that_are_no_safetensors(self, refuse: Refuse, copy: Path, name: str, content: bytes) -> None:
        (copy / name).write_bytes(content)
        refuse("damaged or no safetensors file")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda it: it.pop(min(it)), "needs LoRA weights of (16, 384), and it has none"),
            (lambda it: it.update({min(it): torch.zeros(16, 100)}), "and it has (16, 100)"),
            (lambda it: it.update({f"{BERT}.embeddings.word_embeddings.weight": torch.zeros(2)}), "has no place there"),
            (lambda it: it.update({"evil": torch.zeros(1)}), "has no place there"),
            (lambda it: it.update({"base_model.model.classifier.bias": torch.zeros(4)}), "classifier.bias is (4,)"),
            (lambda it: it.pop("base_model.model.classifier.bias"), "its head lacks classifier.bias"),
            (lambda it: it.pop("base_model.model.classifier.weight"), "no trained classification head"),
            (lambda it: it.update({"base_model.model.classifier.weight": torch.zeros(5, 384).int()}), "as torch.int32"),
            (lambda it: [it.pop(name) for name in list(it) if "lora" in name], "and it has none"),
        ],
    )
    def test_weights_of_another_network(self, refuse: Refuse, copy: Path, change: Any, words: str) -> None:
        reweigh(copy / "adapter_model.safetensors", change)
        refuse(words)

    def test_targets_that_the_base_has_not(self, refuse: Refuse, copy: Path) -> None:
        rewrite(copy / "adapter_config.json", target_modules=["c_attn"])
        refuse("has no place there")

    def test_another_untrained_head(self, refuse: Refuse, copy: Path) -> None:
        more = {"bert.pooler.dense.weight": torch.zeros(384, 384)}
        reweigh(copy / "untrained_head.safetensors", lambda weights: weights.update(more))
        refuse("not like the trained one")

    @pytest.mark.parametrize("report", ['{"parameters": {"all": 1e999}}', '{"calibration": 3}', "[]"])
    def test_a_report_that_lies(self, refuse: Refuse, copy: Path, report: str) -> None:
        (copy / "report.json").write_text(report)
        refuse("report.json")

    def test_a_gated_one(self, hub: HubServer, copy: Path) -> None:
        hub.add_model(NAME, copy, gated=True)
        with pytest.raises(HubError, match="gated"):
            fetch_adapter(NAME)


class TestAdoption:
    """Adapters that other programs made: no note, no untrained head."""

    def adopt(self, hub: HubServer, copy: Path, **changes: Any) -> Path:
        for name in ("qlora_demo.json", "untrained_head.safetensors", "report.json"):
            (copy / name).unlink()
        if changes:
            rewrite(copy / "adapter_config.json", **changes)
        hub.add_model(NAME, copy)
        return fetch_adapter(NAME)

    def test_labels_come_from_the_head(self, hub: HubServer, copy: Path) -> None:
        folder = self.adopt(hub, copy)
        found, shipped = Classifier(NAME, on_cpu=True), Classifier("sample", on_cpu=True, precision="fp32")
        assert found.folder == folder and found.labels == tuple(f"LABEL_{i}" for i in range(5)) and not found.ordinal
        assert found.remark.startswith(f"{NAME} was not made by this app") and "LABEL_0 to LABEL_4" in found.remark
        # The shipped adapter's own longest length and number type are others; the weights are the same.
        np.testing.assert_allclose(found.logits(TEXTS), shipped.logits(TEXTS), atol=0.05)
        hub.close()
        assert fetch_adapter(NAME) == folder, "from the cache"

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"base_model_name_or_path": None}, "does not say what its base is"),
            ({"revision": "../../x"}, "revision of its base that is none"),
        ],
    )
    def test_a_base_that_is_none(self, hub: HubServer, copy: Path, changes: dict[str, Any], words: str) -> None:
        with pytest.raises(AdapterError, match=words):
            self.adopt(hub, copy, **changes)
