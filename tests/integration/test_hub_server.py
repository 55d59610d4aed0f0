"""The local Hub of the tests against the real client: what it refuses, cuts, keeps to itself and is given.

HF_ENDPOINT is read when huggingface_hub is imported, so each script runs in a process of its own and ends in `show`."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import TOKEN, HubServer, environment, make_gpt2

GPT2 = "openai-community/gpt2"
PRELUDE = """
import json
from huggingface_hub import CommitOperationDelete, HfApi, constants, hf_hub_download, snapshot_download
api = HfApi()
def show(value): print(json.dumps(value, default=str))
def error(function, *args, **options):
    try: function(*args, **options)
    except Exception as e: return [type(e).__name__, getattr(getattr(e, "response", None), "status_code", None)]
    return ["no error", None]
"""
Client = Callable[..., Any]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gpt2(tmp_path_factory.mktemp("repositories") / "gpt2")


@pytest.fixture
def hub(gpt2: Path) -> Iterator[HubServer]:
    with HubServer() as server:
        server.add_model(GPT2, gpt2, license="mit")
        server.add_model("meta/gated", gpt2, gated="manual", readers=["friend"])
        server.add_model("me/private", gpt2, private=True, readers=["friend"])
        server.tokens |= {"hf_friend": "friend", "hf_reader": "tester", "hf_expired": "tester"}
        server.roles |= {"hf_reader": "read", "hf_expired": "expired"}
        yield server


@pytest.fixture
def client(hub: HubServer, tmp_path: Path) -> Client:
    """Runs a script as a client of the hub; gives back what it shows last."""

    def run(script: str, **env: str) -> Any:
        command, env = [sys.executable, "-c", PRELUDE + script], environment(hub, tmp_path / "home", **env)
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_a_cut_download_resumes_and_the_token_stays_with_the_hub(hub: HubServer, client: Client, gpt2: Path) -> None:
    """The client notes only whole chunks as received (10 MB), so a small model resumes only with smaller ones."""
    hub.fail_next("model.safetensors", "cut", after=300_000)
    seen = client(f"""
import hashlib
from pathlib import Path
constants.DOWNLOAD_CHUNK_SIZE = 100_000
info = api.model_info("{GPT2}", files_metadata=True)
path = Path(hf_hub_download("{GPT2}", "model.safetensors", token="{TOKEN}"))
show([hashlib.sha256(path.read_bytes()).hexdigest(), {{s.rfilename: s.size for s in info.siblings}}, info.sha])
""")
    sizes = {path.relative_to(gpt2).as_posix(): path.stat().st_size for path in gpt2.rglob("*") if path.is_file()}
    digest = hashlib.sha256((gpt2 / "model.safetensors").read_bytes()).hexdigest()
    assert seen == [digest, sizes, hub.repos["models", GPT2].head]
    sent = [request for request in hub.requests if request.method == "GET" and "model.safetensors" in request.path]
    assert [request.headers.get("range") for request in sent] == [None, "bytes=300000-"]
    assert [("authorization" in request.headers, request.path[:5] == "/cdn/") for request in sent] == [
        (False, True)
    ] * 2
    assert all("authorization" in request.headers for request in hub.requests if "/resolve/" in request.path)


def test_refusals_are_the_clients_own_exceptions(hub: HubServer, client: Client) -> None:
    hub.fail_next(f"/{GPT2}/resolve/main/merges.txt", 500)
    hub.fail_next("/api/models/busy", 429)
    hub.fail_next(f"/{GPT2}/resolve/main/vocab.json", "drop")
    seen = client(f"""
show([error(*call[:-1], **call[-1]) for call in [
    (api.model_info, "no/such", {{}}), (api.model_info, "no/such", {{"token": "{TOKEN}"}}),
    (hf_hub_download, "{GPT2}", "no.json", {{}}), (snapshot_download, "{GPT2}", {{"revision": "no-branch"}}),
    (hf_hub_download, "meta/gated", "config.json", {{}}),
    (hf_hub_download, "meta/gated", "config.json", {{"token": "{TOKEN}"}}),
    (hf_hub_download, "meta/gated", "config.json", {{"token": "hf_friend"}}),
    (api.model_info, "me/private", {{}}), (api.model_info, "me/private", {{"token": "hf_friend"}}),
    (api.model_info, "busy/model", {{}}), (hf_hub_download, "{GPT2}", "merges.txt", {{}}),
    (hf_hub_download, "{GPT2}", "vocab.json", {{}}), (api.whoami, {{"token": "hf_wrong"}})]])
""")
    nothing = ["no error", None]
    missing, gated = "RepositoryNotFoundError", "GatedRepoError"
    assert seen[:4] == [
        [missing, 401],
        [missing, 404],
        ["RemoteEntryNotFoundError", 404],
        ["RevisionNotFoundError", 404],
    ]
    assert seen[4:9] == [[gated, 401], [gated, 403], nothing, [missing, 401], nothing]
    assert seen[9:] == [["HfHubHTTPError", 429], nothing, ["RemoteProtocolError", None], ["HfHubHTTPError", 401]]


def test_what_is_written_is_served(hub: HubServer, client: Client, tmp_path: Path) -> None:
    (tmp_path / "new" / "deep").mkdir(parents=True)
    card = b"---\nlicense: mit\n---\n"
    for name, blob in {"README.md": card, "w.safetensors": b"w" * 3000, "deep/a.json": b"{}"}.items():
        (tmp_path / "new" / name).write_bytes(blob)
    seen = client(
        """
from pathlib import Path
url = str(api.create_repo("tester/new", private=True))
first = api.upload_folder(repo_id="tester/new", folder_path="new", commit_message="one")
api.create_branch("tester/new", branch="b/1")
api.create_commit("tester/new", [CommitOperationDelete("deep/")], commit_message="three")
def content(revision):
    folder = Path(snapshot_download("tester/new", revision=revision))
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
drop, bad = [CommitOperationDelete("w.safetensors")], b"---\\nlicense: no-such\\n---\\n"
show([url, content("main"), content("b/1"), [error(*call, **options)[1] for call, options in [
    ((api.create_repo, "tester/new"), {}), ((api.create_repo, "friend/new"), {}),
    ((api.create_commit, "tester/new", drop), {"commit_message": "x", "parent_commit": first.oid}),
    ((api.create_repo, "tester/other"), {"token": "hf_reader"}), ((api.whoami,), {"token": "hf_expired"})]],
    error(api.upload_file, path_or_fileobj=bad, path_in_repo="README.md", repo_id="tester/new")[0]])
""",
        HF_TOKEN=TOKEN,
    )
    main = [".gitattributes", "README.md", "w.safetensors"]
    refused = [409, 403, 412, 403, 401]
    assert seen == [f"{hub.url}/tester/new", main, sorted([*main, "deep/a.json"]), refused, "ValueError"]
    assert len(hub.paths("PUT")) == 1


def test_a_hub_hangs_and_goes(hub: HubServer) -> None:
    hub.fail_next("model.safetensors", "hang", after=1000)
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(f"{hub.url}/{GPT2}/resolve/main/model.safetensors", timeout=0.3).read()
    hub.close()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(hub.url, timeout=5)
