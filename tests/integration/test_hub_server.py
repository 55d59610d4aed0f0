"""The local hub, read and written, against the real clients: huggingface_hub, transformers and datasets, each in a
process of its own.

HF_ENDPOINT is read when huggingface_hub is imported, so nothing here imports it. A script ends in `show(value)`;
several questions share a process where they do not disturb each other, for starting one is what takes the time."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import TOKEN, HubServer, environment, make_amazon_reviews, make_gpt2

GPT2, REVIEWS, PINNED = "openai-community/gpt2", "mteb/amazon_reviews_multi", "1399c76144fd37290681b995c656ef9b2e06e26d"
PRELUDE = """
import json
def show(value): print(json.dumps(value, default=str))
def error(function, *args, **options):
    try: function(*args, **options)
    except Exception as e: return [type(e).__name__, getattr(getattr(e, "response", None), "status_code", None)]
    return ["no error", None]
"""

Client = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repositories")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[HubServer]:
    with HubServer() as hub:
        gpt2 = make_gpt2(folder / "gpt2")
        hub.add_model(GPT2, gpt2, license="mit")
        hub.add_model("meta/gated", gpt2, gated="manual", readers=["friend"])
        hub.add_model("me/private", gpt2, private=True, readers=["friend"])
        hub.renamed["gpt2"] = GPT2
        hub.tokens |= {"hf_friend": "friend", "hf_reader": "tester", "hf_expired": "tester"}
        hub.roles |= {"hf_reader": "read", "hf_expired": "expired"}
        hub.add_dataset(REVIEWS, make_amazon_reviews(folder / "reviews", (50, 10, 10)), revision=PINNED)
        hub.add_dataset(REVIEWS, make_amazon_reviews(folder / "newer", (20, 5, 5)))
        yield hub


@pytest.fixture
def hub(served: HubServer) -> HubServer:
    served.reset()
    return served


@pytest.fixture
def client(hub: HubServer, tmp_path: Path) -> Client:
    """Run a script as a client of the hub; gives back what it shows last."""

    def run(script: str, **env: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + script],
            env=environment(hub, tmp_path / "home", **env),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_listings_and_login(hub: HubServer, client: Client, folder: Path) -> None:
    hub.page_size = 3
    try:
        seen = client(f"""
from huggingface_hub import HfApi
api = HfApi()
info = api.model_info("{GPT2}", files_metadata=True)
few = api.model_info("{GPT2}", expand=["gated", "safetensors", "cardData", "sha"])
tree = {{entry.path: getattr(entry, "size", None) for entry in api.list_repo_tree("{GPT2}", recursive=True)}}
show(dict(
    sizes={{s.rfilename: s.size for s in info.siblings}}, lfs=[s.rfilename for s in info.siblings if s.lfs], sha=info.sha,
    license=info.card_data.license, gated=info.gated, few=[few.gated, few.card_data.license, few.sha, few.siblings],
    parameters=few.safetensors.parameters, metadata=api.get_safetensors_metadata("{GPT2}").parameter_count, tree=tree,
    top=[entry.path for entry in api.list_repo_tree("{REVIEWS}", repo_type="dataset", revision="{PINNED}")],
    paths=[entry.path for entry in api.get_paths_info("{GPT2}", ["config.json", "onnx", "none"], expand=True)],
    old_name=api.model_info("gpt2").id, data=api.dataset_info("{REVIEWS}", revision="{PINNED}").sha,
    branches=[branch.target_commit for branch in api.list_repo_refs("{GPT2}").branches],
    open_to_see=api.model_info("meta/gated").gated, nobody=error(api.whoami), user=api.whoami(token="{TOKEN}")["name"],
    wrong=error(api.whoami, token="hf_wrong"), wrong_everywhere=error(api.model_info, "{GPT2}", token="hf_wrong")))
""")  # noqa: E501
    finally:
        hub.page_size = 1000
    sizes = {
        path.relative_to(folder / "gpt2").as_posix(): path.stat().st_size
        for path in (folder / "gpt2").rglob("*")
        if path.is_file()
    }
    assert seen["sizes"] == sizes
    assert seen["tree"] == sizes | {"onnx": None}
    assert sum("/tree/main" in path and GPT2 in path for path in hub.paths()) == 4, "12 entries, 3 a page"
    assert "model.safetensors" in seen["lfs"] and "config.json" not in seen["lfs"]
    assert (seen["license"], seen["gated"], seen["open_to_see"]) == ("mit", False, "manual")
    assert seen["few"] == [False, "mit", seen["sha"], None]
    assert seen["parameters"] == seen["metadata"] == {"F32": 149_248 + 2 * 256 * 256}, (
        "parameters, and the masks of two layers"
    )
    assert seen["top"] == ["README.md", "amazon_reviews_multi.py", "en"]
    assert seen["paths"] == ["config.json", "onnx"]
    assert (seen["old_name"], seen["data"], seen["branches"]) == (GPT2, PINNED, [seen["sha"]])
    assert seen["nobody"][0] == "LocalTokenNotFoundError"
    assert (seen["user"], seen["wrong"], seen["wrong_everywhere"]) == (
        "tester",
        ["HfHubHTTPError", 401],
        ["HfHubHTTPError", 401],
    )


def test_snapshot_of_safetensors_and_configuration(hub: HubServer, client: Client) -> None:
    files = client(f"""
from pathlib import Path
from huggingface_hub import snapshot_download
path = Path(snapshot_download("{GPT2}", allow_patterns=["*.safetensors", "*.json", "merges.txt"], token="{TOKEN}"))
show({{file.name: file.stat().st_size for file in path.iterdir()}} | {{"": path.name}})
""")
    assert files.pop("") == hub.repos["models", GPT2].head
    assert set(files) == {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "merges.txt",
    }
    assert not any("pytorch_model" in path or "onnx" in path for path in hub.paths())
    [weights] = [request for request in hub.requests if request.path.startswith("/cdn/")]
    assert "authorization" not in weights.headers, "the token must not leave for another origin"
    assert all("authorization" in request.headers for request in hub.requests if "/resolve/" in request.path)


def test_transformers_by_id(client: Client) -> None:
    seen = client(f"""
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
tokenizer, config = AutoTokenizer.from_pretrained("{GPT2}"), AutoConfig.from_pretrained("{GPT2}")
model, info = AutoModelForSequenceClassification.from_pretrained("{GPT2}", num_labels=5, output_loading_info=True)
text = "Naïve, but I love it 😀 <|endoftext|>"
ids = tokenizer(text).input_ids
show(dict(kind=type(tokenizer).__name__, pad=tokenizer.pad_token, eos=[tokenizer.eos_token, tokenizer.eos_token_id, len(tokenizer)],
    same=tokenizer.decode(ids) == text, last=ids[-1], config=[config.model_type, config.vocab_size, config.eos_token_id],
    missing=sorted(info["missing_keys"]), unexpected=sorted(info["unexpected_keys"]), parameters=model.num_parameters()))
""")  # noqa: E501
    assert seen["kind"].startswith("GPT2Tokenizer") and seen["pad"] is None
    assert seen["eos"] == ["<|endoftext|>", 511, 512] and seen["last"] == 511 and seen["same"]
    assert seen["config"] == ["gpt2", 512, 511]
    assert (seen["missing"], seen["unexpected"], seen["parameters"]) == (["score.weight"], [], 149_248 + 5 * 64)


def test_datasets_with_pinned_revision(client: Client) -> None:
    seen = client(f"""
from datasets import load_dataset
def files(at): return {{split: f"hf://datasets/{REVIEWS}{{at}}/en/{{split}}.jsonl" for split in ("train", "validation", "test")}}
pinned, newest = load_dataset("json", data_files=files("@{PINNED}")), load_dataset("json", data_files=files(""))
script = error(load_dataset, "{REVIEWS}", "en")
absent = error(load_dataset, "json", data_files="hf://datasets/{REVIEWS}@{PINNED}/fr/train.jsonl")
show(dict(pinned={{k: len(v) for k, v in pinned.items()}}, newest={{k: len(v) for k, v in newest.items()}}, script=script, absent=absent,
    columns=pinned["train"].column_names, labels=pinned["train"]["label"][:], text=pinned["train"][0]["text"],
    name=pinned["train"][0]["label_text"], streamed=len(list(load_dataset("json", data_files=files(""), split="test", streaming=True)))))
""")  # noqa: E501
    assert [list(seen[name].values()) for name in ("pinned", "newest")] == [[50, 10, 10], [20, 5, 5]]
    assert seen["columns"] == ["id", "text", "label", "label_text"]
    assert seen["labels"] == sorted(seen["labels"]) == [label for label in range(5) for _ in range(10)]
    title, _, body = seen["text"].partition("\n\n")
    assert body.startswith(title) and seen["name"] == "0"
    assert (seen["script"][0], seen["absent"][0], seen["streamed"]) == ("RuntimeError", "FileNotFoundError", 5)


def test_refusals_are_the_clients_own_exceptions(hub: HubServer, client: Client) -> None:
    hub.fail_next(f"/{GPT2}/resolve/main/merges.txt", 500)
    hub.fail_next("/api/models/busy", 429, times=2)
    hub.fail_next(f"/{GPT2}/resolve/main/vocab.json", "drop")
    seen = client(f"""
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
api = HfApi()
show([error(*call[:-1], **call[-1]) for call in [
    (api.model_info, "no/such", {{}}), (hf_hub_download, "no/such", "config.json", {{}}), (snapshot_download, "no/such", {{}}),
    (api.model_info, "no/such", {{"token": "{TOKEN}"}}),
    (hf_hub_download, "{GPT2}", "no.json", {{}}), (snapshot_download, "{GPT2}", {{"revision": "no-branch"}}),
    (hf_hub_download, "meta/gated", "config.json", {{}}), (hf_hub_download, "meta/gated", "config.json", {{"token": "{TOKEN}"}}),
    (hf_hub_download, "meta/gated", "config.json", {{"token": "hf_friend"}}),
    (api.model_info, "me/private", {{}}), (api.model_info, "me/private", {{"token": "hf_friend"}}),
    (api.model_info, "busy/model", {{}}), (snapshot_download, "busy/model", {{}}),
    (hf_hub_download, "{GPT2}", "merges.txt", {{}}), (hf_hub_download, "{GPT2}", "vocab.json", {{}})]])
""")  # noqa: E501
    nothing = ["no error", None]
    assert seen == [
        ["RepositoryNotFoundError", 401],
        ["RepositoryNotFoundError", 401],
        ["RepositoryNotFoundError", 401],
        ["RepositoryNotFoundError", 404],
        ["RemoteEntryNotFoundError", 404],
        ["RevisionNotFoundError", 404],
        ["GatedRepoError", 401],
        ["GatedRepoError", 403],
        nothing,
        ["RepositoryNotFoundError", 401],
        nothing,
        ["HfHubHTTPError", 429],
        ["LocalEntryNotFoundError", None],
        nothing,
        ["RemoteProtocolError", None],
    ]
    assert hub.paths("HEAD").count(f"/{GPT2}/resolve/main/merges.txt") == 2, "the client asks again after a 500"


def test_cut_download_resumes(hub: HubServer, client: Client, folder: Path) -> None:
    """The client notes only whole chunks as received (10 MB), so a small model resumes only with smaller ones."""
    hub.fail_next("model.safetensors", "cut", after=300_000)
    seen = client(f"""
import hashlib
from pathlib import Path
from huggingface_hub import constants, hf_hub_download
constants.DOWNLOAD_CHUNK_SIZE = 100_000
show(hashlib.sha256(Path(hf_hub_download("{GPT2}", "model.safetensors")).read_bytes()).hexdigest())
""")
    assert seen == hashlib.sha256((folder / "gpt2" / "model.safetensors").read_bytes()).hexdigest()
    ranges = [
        request.headers.get("range")
        for request in hub.requests
        if request.method == "GET" and "model.safetensors" in request.path
    ]
    assert ranges == [None, "bytes=300000-"]


def test_throttle_hang_and_ranges(hub: HubServer, folder: Path) -> None:
    def get(timeout: float = 10, **headers: str) -> tuple[int, bytes]:
        request = urllib.request.Request(f"{hub.url}/{GPT2}/resolve/main/model.safetensors", headers=headers)
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read()

    whole = (folder / "gpt2" / "model.safetensors").read_bytes()
    assert get(Range="bytes=100-199") == (206, whole[100:200])
    assert get(Range="bytes=-5") == (206, whole[-5:])
    with pytest.raises(urllib.error.HTTPError, match="416"):
        get(Range=f"bytes={len(whole)}-")

    hub.throttle(100_000)
    start = time.monotonic()
    assert len(get(Range="bytes=0-49999")[1]) == 50_000
    assert 0.4 < time.monotonic() - start < 5

    hub.throttle(None)
    for after in (None, 1000):
        hub.fail_next("model.safetensors", "hang", after=after)
        with pytest.raises(TimeoutError):
            get(timeout=0.3)
    assert get() == (200, whole), "an injected failure is used up"


def test_what_is_written_is_served(hub: HubServer, client: Client, tmp_path: Path) -> None:
    (tmp_path / "new" / "deep").mkdir(parents=True)
    for name, blob in {
        "README.md": b"---\nlicense: mit\n---\n",
        "w.safetensors": b"w" * 3000,
        "deep/a.json": b"{}",
    }.items():
        (tmp_path / "new" / name).write_bytes(blob)
    seen = client(
        """
from pathlib import Path
from huggingface_hub import CommitOperationDelete, HfApi, snapshot_download
api = HfApi()
url = str(api.create_repo("tester/new", private=True))
taken = error(api.create_repo, "tester/new")
first = api.upload_folder(repo_id="tester/new", folder_path="new", commit_message="one")
again = api.upload_folder(repo_id="tester/new", folder_path="new", commit_message="two")
api.create_branch("tester/new", branch="b/1")
second = api.create_commit("tester/new", [CommitOperationDelete("deep/"), CommitOperationDelete("README.md")], commit_message="three")
stale = error(api.create_commit, "tester/new", [CommitOperationDelete("w.safetensors")], commit_message="x", parent_commit=first.oid)
missing = error(api.create_commit, "tester/new", [CommitOperationDelete("none")], commit_message="x")
def content(revision):
    folder = Path(snapshot_download("tester/new", revision=revision))
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
show(dict(url=url, taken=taken, same=again.oid == first.oid, main=content("main"), branch=content("b/1"), stale=stale, missing=missing,
    branches=sorted(branch.name for branch in api.list_repo_refs("tester/new").branches), private=api.model_info("tester/new").private,
    title=api.list_repo_commits("tester/new")[0].title, elsewhere=error(api.create_repo, "friend/new"),
    reader=error(api.create_repo, "tester/other", token="hf_reader"), expired=error(api.whoami, token="hf_expired"),
    nobody=error(HfApi(token=False).create_repo, "tester/other"),
    card=error(api.upload_file, path_or_fileobj=b"---\\nlicense: no-such\\n---\\n", path_in_repo="README.md", repo_id="tester/new")))
""",  # noqa: E501
        HF_TOKEN=TOKEN,
    )
    kept = {
        ".gitattributes": len(
            hub.repos["models", "tester/new"].commit("main").files[".gitattributes"].source.read_bytes()
        )
    }
    assert seen["url"] == f"{hub.url}/tester/new" and seen["same"] and seen["private"] and seen["title"] == "three"
    assert seen["main"] == {**kept, "w.safetensors": 3000}
    assert seen["branch"] == {**kept, "README.md": 21, "w.safetensors": 3000, "deep/a.json": 2}
    assert seen["branches"] == ["b/1", "main"]
    assert [seen[name] for name in ("taken", "stale", "missing")] == [
        ["HfHubHTTPError", 409],
        ["HfHubHTTPError", 412],
        ["RemoteEntryNotFoundError", 404],
    ]
    assert [seen[name][1] for name in ("elsewhere", "reader", "expired", "nobody")] == [403, 403, 401, 401]
    assert seen["card"][0] == "ValueError"
    assert len(hub.paths("PUT")) == 1, "what lies there is not sent again"


def test_environment_and_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN", "TRANSFORMERS_OFFLINE", "QLORA_DEMO_OFFLINE"):
        monkeypatch.setenv(name, "1")
    env = environment("http://127.0.0.1:9", tmp_path, QLORA_DEMO_HOME="runs")
    assert not {name for name in env if name.endswith("TOKEN") or "OFFLINE" in name}
    assert (env["HF_ENDPOINT"], env["HF_HOME"], env["QLORA_DEMO_HOME"]) == ("http://127.0.0.1:9", str(tmp_path), "runs")

    hub = HubServer()
    assert urllib.request.urlopen(hub.url, timeout=5).status == 200
    hub.close()
    hub.close()  # twice does no harm
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(hub.url, timeout=5)


def test_made_repositories_are_always_the_same(tmp_path: Path) -> None:
    with HubServer() as hub:
        assert hub.add_model("a/a", make_gpt2(tmp_path / "a")) == hub.add_model("b/b", make_gpt2(tmp_path / "b"))
        assert hub.add_model("a/a", make_gpt2(tmp_path / "c", layers=1)) != hub.repos["models", "b/b"].head
        assert len(hub.repos["models", "a/a"].commits) == 2
    with pytest.raises(ValueError, match="five equal classes"):
        make_amazon_reviews(tmp_path / "d", (100_000, 5, 5))
