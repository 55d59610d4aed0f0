"""A small Hugging Face Hub on 127.0.0.1 for tests, and tiny repositories to put on it.

Speaks what huggingface_hub 2.4, transformers 5.23 and datasets 5.2 ask when they read, and huggingface_hub when it
writes (hub_writes.py); a process is sent here by `environment()`, because HF_ENDPOINT is read when huggingface_hub is
imported. Files kept in LFS come through a redirect to another origin, as from the real Hub, and are sent to that.

    with HubServer() as hub:
        hub.add_model("openai-community/gpt2", make_gpt2(folder), license="mit")
        hub.fail_next("model.safetensors", "cut", after=10_000)
        subprocess.run([sys.executable, "-c", script], env=environment(hub, home))

A commit maps paths to files anywhere on disk; those that were uploaded lie in a folder of the hub's own."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import shutil
import socket
import socketserver
import struct
import sys
import tempfile
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from tests.hub_files import DATE, Commit, File, Refusal, Repo
from tests.hub_writes import Writes

TOKEN, USER = "hf_" + "t" * 34, "tester"
REVIEWS = Path(__file__).parents[1] / "assets" / "sample_reviews"

_WORDS = "revision|tree|paths-info|preupload|commit|branch"
_API = rf"/api/(?P<kind>models|datasets|spaces)/(?P<id>[^/]+(?:/(?!(?:{_WORDS})(?:/|$))[^/]+)?)"
_AT = r"(?P<revision>refs/(?:convert|pr)/[^/]+|[^/]+)"
_GIT = r"/(?:(?P<kind>datasets|spaces)/)?(?P<id>[^/]+/[^/]+)\.git/info/lfs"
ROUTES = [  # matched in this order against the path as sent: a revision is quoted with its slashes
    ("GET", r"/api/whoami-v2", "whoami"),
    ("GET", rf"{_API}(?:/revision/{_AT})?", "info"),
    ("GET", rf"{_API}/tree/{_AT}(?:/(?P<path>.+))?", "tree"),
    ("POST", rf"{_API}/paths-info/{_AT}", "paths_info"),
    ("GET", r"/cdn/(?P<kind>models|datasets|spaces)/(?P<id>.+)/(?P<revision>[0-9a-f]{40})/-/(?P<path>.+)", "cdn"),
    ("GET", rf"/(?:(?P<kind>datasets|spaces)/)?(?P<id>[^/]+(?:/[^/]+)?)/resolve/{_AT}/(?P<path>.+)", "resolve"),
    ("GET", r"/", "home"),
    ("POST", r"/api/repos/create", "create_repo"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("POST", rf"{_API}/branch/{_AT}", "create_branch"),
    ("POST", rf"{_API}/preupload/{_AT}", "preupload"),
    ("POST", rf"{_API}/commit/{_AT}", "write_commit"),
    ("POST", rf"{_GIT}/objects/batch", "lfs_batch"),
    ("POST", rf"{_GIT}/objects/verify", "lfs_verify"),
    ("PUT", r"/cdn/upload/(?P<oid>[0-9a-f]{64})", "lfs_store"),
]


class Request(NamedTuple):
    """A request as it came in; `path` carries the query, unquoted."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    told: list[bytes]  # the body of a POST, once it has come


@dataclass
class Failure:
    part: str
    what: int | str | Refusal
    times: int
    after: int | None


class _Listener(ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 64

    def __init__(self, hub: HubServer):
        self.hub = hub
        self.open: set[Any] = set()
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def server_bind(self) -> None:
        # HTTPServer looks up the host's full name here, which takes seconds where there is no DNS.
        socketserver.TCPServer.server_bind(self)

    def get_request(self):
        connection, address = super().get_request()
        self.open.add(connection)
        return connection, address

    def shutdown_request(self, request) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address) -> None:
        """A client that goes away (a cancelled download) is no error of the server's; the rest is printed."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self.open):  # kept-alive connections would go on being served
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class HubServer:
    """Repositories from local folders, behind the Hub's endpoints; a context manager."""

    def __init__(self, page_size: int = 1000):
        self.page_size = page_size  # entries a page of the tree listing
        self.tokens = {TOKEN: USER}
        self.roles: dict[str, str] = {}  # of a token: "read", "fineGrained" or "expired"; "write" where none is named
        self.orgs: dict[str, dict[str, str]] = {}  # {user: {organisation: "read", "write" or "admin"}}
        self.quota_bytes: int | None = None  # of files in LFS, all repositories together
        self.store = Path(tempfile.mkdtemp(prefix="hub-"))
        self.repos: dict[tuple[str, str], Repo] = {}
        self.renamed: dict[str, str] = {}  # {"gpt2": "openai-community/gpt2"}: the old id is redirected
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.rate: int | None = None
        self._failures: list[Failure] = []
        self._lock = threading.Lock()
        self._hub, self._cdn = _Listener(self), _Listener(self)
        self.url, self.cdn_url = self._hub.url, self._cdn.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and cut what is still being served. A second call does nothing."""
        if not self.closing.is_set():
            self.closing.set()
            self._hub.stop()
            self._cdn.stop()
            shutil.rmtree(self.store, ignore_errors=True)

    def add_model(self, repo_id: str, folder: Path | str, **options: Any) -> str:
        """Serve the folder as it is now; again for the same id: a new commit on main. Returns the commit's sha.

        Options: revision (the sha, else made from the content), license, gated (False, True, "auto", "manual"),
        private, readers."""
        return self._add("models", repo_id, Path(folder), **options)

    def add_dataset(self, repo_id: str, folder: Path | str, **options: Any) -> str:
        """The same for a data set."""
        return self._add("datasets", repo_id, Path(folder), **options)

    def _add(self, kind: str, repo_id: str, folder: Path, *, revision: str | None = None, **options: Any) -> str:
        repo = self.repos.setdefault((kind, repo_id), Repo(kind, repo_id))
        repo.license, repo.private = options.get("license"), options.get("private", False)
        repo.readers = set(options.get("readers", ()))
        repo.gated = "auto" if options.get("gated") is True else options.get("gated", False)
        return repo.add(Commit.of(folder, revision))

    def fail_next(
        self, path_part: str, failure: int | str | Refusal, times: int = 1, *, after: int | None = None
    ) -> None:
        """Let the next requests whose path contains `path_part` fail.

        An HTTP status: 401 and 403 say gated, 404 not found, 429 the rate limit (retry after a second); a Refusal says
        what it says. "drop" closes without an answer, "hang" never answers, "lost" does what was asked and then closes
        without an answer. "cut" sends or takes a file's first `after` bytes (default half) and closes; "hang" with
        `after` sends or takes them and goes silent: these two wait for a request that carries a file's bytes and let
        HEAD and redirects pass."""
        with self._lock:
            self._failures.append(Failure(path_part, failure, times, after))

    def take_failure(self, path: str, body: bool) -> Failure | None:
        with self._lock:
            for failure in self._failures:
                needs_body = failure.what == "cut" or failure.after is not None
                if failure.times > 0 and failure.part in path and needs_body == body:
                    failure.times -= 1
                    return failure
        return None

    def throttle(self, bytes_per_second: int | None) -> None:
        """Send files at most this fast (each connection); None: as fast as can be. Holds for downloads under way
        too."""
        self.rate = bytes_per_second

    def reset(self) -> None:
        """Forget requests, failures and throttle; the repositories stay."""
        with self._lock:
            self._failures.clear()
        self.requests.clear()
        self.rate = None

    def paths(self, method: str = "GET") -> list[str]:
        return [request.path for request in self.requests if request.method == method]


class _Handler(Writes, BaseHTTPRequestHandler):
    server: _Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go out in two writes; with Nagle each answer takes 40 ms

    def log_message(self, *_: object) -> None:
        """The log is hub.requests."""

    def do_GET(self) -> None:
        self.hub, parts = self.server.hub, urlsplit(self.path)
        self.where, self.query = unquote(self.path), parse_qs(parts.query)
        asked = Request(self.command, self.where, {k.lower(): v for k, v in self.headers.items()}, [])
        self.hub.requests.append(asked)
        self.body = self.receive(int(self.headers.get("Content-Length") or 0))  # always: the next request follows it
        if self.command == "POST":
            asked.told.append(self.body)
        try:
            if failure := self.hub.take_failure(self.where, body=False):
                self.fail(failure)
            for method, pattern, name in ROUTES:
                if (match := re.fullmatch(pattern, parts.path)) and method == self.command.replace("HEAD", "GET"):
                    return getattr(self, name)(**{k: unquote(v) for k, v in match.groupdict().items() if v is not None})
            raise Refusal(404, "", "Sorry, we can't find the page you are looking for.")
        except Refusal as refusal:
            self.send_json({"error": refusal.message}, refusal.status, refusal.headers)

    do_HEAD = do_POST = do_PUT = do_GET

    def receive(self, size: int) -> bytes:
        """The request's body; of a file, at the hub's pace, up to where an injected failure ends it."""
        if self.command != "PUT":
            return self.rfile.read(size)
        failure = self.hub.take_failure(self.where, body=True)
        left = size if failure is None else min(size, size // 2 if failure.after is None else failure.after)
        blocks = []
        while left:
            rate = self.hub.rate
            blocks.append(block := self.rfile.read(min(left, max(1, rate // 20) if rate else 1 << 16)))
            left -= len(block)
            if not block or (self.hub.closing.wait(len(block) / rate) if rate else self.hub.closing.is_set()):
                raise ConnectionAbortedError("the client went away, or the hub was closed")
        if failure:
            self.fail(failure)
        return b"".join(blocks)

    def fail(self, failure: Failure) -> None:
        if isinstance(failure.what, Refusal):
            raise failure.what
        if failure.what == "lost":
            self.wfile, self.close_connection = io.BytesIO(), True
            return
        if failure.what == "hang":
            self.hub.closing.wait(600)
        if isinstance(failure.what, str):
            raise ConnectionAbortedError("injected")
        limit = {"RateLimit": '"api";r=0;t=1', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}
        missing = "EntryNotFound" if "/resolve/" in self.where else "RepoNotFound"
        code = {401: "GatedRepo", 403: "GatedRepo", 404: missing}.get(failure.what, "")
        raise Refusal(failure.what, code, f"Injected {failure.what}", **(limit if failure.what == 429 else {}))

    # -- answers -------------------------------------------------------------------------------------------------------
    def start(self, status: int, headers: dict[str, Any]) -> bool:
        """Send the head; True where a body has to follow."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        return self.command != "HEAD"

    def send_json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        if self.start(status, {"Content-Type": "application/json", "Content-Length": len(body), **(headers or {})}):
            self.wfile.write(body)

    def send_file(self, file: File, headers: dict[str, Any]) -> None:
        """A file or the range asked for, at the hub's pace, up to where an injected failure ends it."""
        first, last, status = 0, file.size - 1, 200
        if match := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            low, high = match.groups()
            first = int(low) if low else max(0, file.size - int(high))
            last, status = min(int(high) if low and high else last, last), 206
            if first > last:
                raise Refusal(416, "", "Range not satisfiable", **{"Content-Range": f"bytes */{file.size}"})
            headers = {**headers, "Content-Range": f"bytes {first}-{last}/{file.size}"}
        left = last - first + 1
        failure = self.hub.take_failure(self.where, body=True) if self.command == "GET" else None
        if not self.start(status, {"Accept-Ranges": "bytes", "Content-Length": left, **headers}):
            return
        if failure:
            left = min(left, left // 2 if failure.after is None else failure.after)
        with file.source.open("rb") as stream:
            stream.seek(first)
            while left:
                rate = self.hub.rate
                block = stream.read(min(left, max(1, rate // 20) if rate else 1 << 16))
                self.wfile.write(block)
                left -= len(block)
                if self.hub.closing.wait(len(block) / rate) if rate else self.hub.closing.is_set():
                    raise ConnectionAbortedError("the hub was closed")
        if failure:
            self.fail(failure)

    # -- who may see what ----------------------------------------------------------------------------------------------
    def user(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        if self.hub.roles.get(token) == "expired":
            raise Refusal(401, "", 'User Access Token "test" is expired')
        return self.hub.tokens.get(token)

    def repo(self, kind: str, repo_id: str, content: bool = False) -> Repo:
        """The repository, or the real Hub's refusal: it says 401, not 404, to a stranger who asks for what does not
        exist.

        A gated repository shows its description and listing to everyone, its content to its readers."""
        user, repo = self.user(), self.hub.repos.get((kind, repo_id))
        if repo is None and (new := self.hub.renamed.get(repo_id)):
            raise Refusal(307, "", "Moved", Location=self.path.replace(f"/{repo_id}", f"/{new}", 1))
        if repo is None or (repo.private and user not in repo.readers):
            words = "Repository not found" if user else "Invalid username or password."
            raise Refusal(404 if user else 401, "RepoNotFound", words)
        if content and repo.gated and user not in repo.readers:
            words = "is restricted. You must have access to it and be authenticated to access it."
            raise Refusal(403 if user else 401, "GatedRepo", f"Access to {kind[:-1]} {repo_id} {words}")
        return repo

    # -- endpoints -----------------------------------------------------------------------------------------------------
    def home(self) -> None:
        self.send_json({})

    def whoami(self) -> None:
        if (user := self.user()) is None:
            raise Refusal(401, "", "Invalid username or password.")
        role = self.hub.roles.get(self.headers["Authorization"].removeprefix("Bearer "), "write")
        ranks = self.hub.orgs.get(user, {}).items()
        orgs = [{"type": "org", "name": name, "roleInOrg": rank} for name, rank in ranks]
        auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": role, "createdAt": DATE}}
        person = {"type": "user", "id": "0" * 24, "name": user, "fullname": user, "isPro": False}
        self.send_json({**person, "orgs": orgs, "auth": auth})

    def info(self, kind: str, id: str, revision: str = "main") -> None:
        repo = self.repo(kind, id)
        commit = repo.commit(revision)
        siblings: list[dict[str, Any]] = [{"rfilename": path} for path in commit.files]
        if "blobs" in self.query:
            for sibling, file in zip(siblings, commit.files.values(), strict=True):
                sibling |= {"size": file.size, "blobId": file.oid}
                if file.lfs:  # here the hash is called sha256, in the tree oid
                    pointer = file.lfs["pointerSize"]
                    sibling["lfs"] = {"sha256": file.lfs["oid"], "size": file.size, "pointerSize": pointer}
        answer = {"_id": "0" * 24, "id": id, "author": id.rpartition("/")[0] or None, "sha": commit.sha}
        answer |= {"lastModified": DATE, "createdAt": DATE, "private": repo.private, "gated": repo.gated}
        answer |= {"disabled": False, "downloads": 0, "likes": 0}
        answer |= {
            "tags": [f"license:{repo.license}"] if repo.license else [],
            "cardData": {"license": repo.license} if repo.license else {},
            "usedStorage": sum(file.size for file in commit.files.values()),
            "siblings": siblings,
        }
        if kind == "models":
            answer |= {"modelId": id, "library_name": "transformers", **_model_facts(commit)}
        if wanted := self.query.get("expand"):
            answer = {key: value for key, value in answer.items() if key in {"_id", "id", *wanted}}
        self.send_json(answer)

    def tree(self, kind: str, id: str, revision: str, path: str = "") -> None:
        options = {name: values[0] for name, values in self.query.items()}
        entries = self.repo(kind, id).commit(revision).entries(path, options.get("recursive") == "true")
        if path and not entries:
            raise Refusal(404, "EntryNotFound", f'{path} does not exist on "{revision}"')
        start, size = int(options.get("cursor", 0)), int(options.get("limit", self.hub.page_size))
        headers = {}
        if start + size < len(entries):
            following = urlencode({**options, "limit": size, "cursor": start + size})
            headers["Link"] = f'<{self.hub.url}{urlsplit(self.path).path}?{following}>; rel="next"'
        self.send_json(self.dated(entries[start : start + size], options.get("expand") == "true"), headers=headers)

    def paths_info(self, kind: str, id: str, revision: str) -> None:
        form = parse_qs(self.body.decode())
        entries = {entry["path"]: entry for entry in self.repo(kind, id).commit(revision).entries()}
        asked = [entries[path] for path in form.get("paths", []) if path in entries]
        self.send_json(self.dated(asked, form.get("expand") == ["true"]))

    def dated(self, entries: list[dict[str, Any]], expand: bool) -> list[dict[str, Any]]:
        last = {"lastCommit": {"id": "0" * 40, "title": "Upload", "date": DATE}} if expand else {}
        return [{**entry, **last} for entry in entries]

    def resolve(self, id: str, revision: str, path: str, kind: str = "models") -> None:
        commit = self.repo(kind, id, content=True).commit(revision)
        headers: dict[str, Any] = {"X-Repo-Commit": commit.sha}
        file = commit.files.get(path)
        if file is None:  # with the commit, so that clients remember that the file does not exist
            raise Refusal(404, "EntryNotFound", "Entry not found", **headers)
        if file.lfs is None:
            headers |= {"ETag": f'"{file.oid}"', "Content-Type": "text/plain; charset=utf-8"}
            return self.send_file(file, headers)
        headers |= {"X-Linked-Etag": f'"{file.lfs["oid"]}"', "X-Linked-Size": file.size, "Content-Length": 0}
        place = f"{self.hub.cdn_url}/cdn/{kind}/{id}/{commit.sha}/-/{quote(path)}"
        self.start(302, {**headers, "Location": place})

    def cdn(self, kind: str, id: str, revision: str, path: str) -> None:
        """The other origin; its addresses count as signed, so it asks for no token (and should be sent none)."""
        file = self.hub.repos[kind, id].commits[revision].files[path]
        self.send_file(file, {"ETag": f'"{file.oid}"', "Content-Type": "application/octet-stream"})


def _model_facts(commit: Commit) -> dict[str, Any]:
    """What the Hub reads from a model's files: the architecture, and how many numbers of each type its safetensors
    hold."""
    facts: dict[str, Any] = {}
    if config := commit.files.get("config.json"):
        content = json.loads(config.source.read_text())
        facts["config"] = {key: content[key] for key in ("architectures", "model_type") if key in content}
    counts: dict[str, int] = {}
    for path, file in commit.files.items():
        if path.endswith(".safetensors"):
            damaged = (ValueError, MemoryError, OverflowError, AttributeError, struct.error)
            with file.source.open("rb") as stream, contextlib.suppress(*damaged):
                header = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
                for name, tensor in header.items():
                    if name != "__metadata__":
                        counts[tensor["dtype"]] = counts.get(tensor["dtype"], 0) + math.prod(tensor["shape"])
    if counts:
        facts["safetensors"] = {"parameters": counts, "total": sum(counts.values())}
    return facts


def environment(hub: HubServer | str, home: Path | str, **more: str) -> dict[str, str]:
    """The environment of a process that takes `hub` for the Hub, with its own empty cache in `home` and nobody logged
    in."""
    theirs = ("HF_", "HUGGING", "TRANSFORMERS_", "QLORA_DEMO_OFFLINE")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    ours |= {"HF_ENDPOINT": hub if isinstance(hub, str) else hub.url, "HF_HOME": str(home)}
    # The last: load_dataset tells Amazon's S3 of each load, also of local files.
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
    return ours | quiet | {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"} | more


def sample_rows(split: str) -> list[dict[str, Any]]:
    """The reviews that the app ships: `text` and `label` 0-4, in no order."""
    return [json.loads(line) for line in (REVIEWS / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def make_gpt2(
    folder: Path | str, *, layers: int = 2, width: int = 64, heads: int = 4, positions: int = 256, vocabulary: int = 512
) -> Path:
    """A tiny random GPT-2 as openai-community/gpt2 lies on the Hub; always the same bytes.

    Like there: keys without `transformer.`, the causal masks stored as weights (so the safetensors hold more numbers
    than the model has parameters), no head of its own, no pad token, and beside it the same weights in formats the app
    must not fetch (here: junk)."""
    import numpy as np
    from safetensors.numpy import save_file
    from transformers import GPT2Config

    folder = Path(folder)
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(0, 0.02, shape).astype(np.float32)

    weights = {"wte.weight": normal(vocabulary, width), "wpe.weight": normal(positions, width)}
    shapes = {
        "attn.c_attn": (width, 3 * width),
        "attn.c_proj": (width, width),  # Conv1D: (in, out)
        "mlp.c_fc": (width, 4 * width),
        "mlp.c_proj": (4 * width, width),
    }
    for layer in range(layers):
        for name, shape in shapes.items():
            weights[f"h.{layer}.{name}.weight"] = normal(*shape)
            weights[f"h.{layer}.{name}.bias"] = np.zeros(shape[1], np.float32)
        weights[f"h.{layer}.attn.bias"] = np.tril(np.ones((1, 1, positions, positions), np.float32))
    for norm in ["ln_f", *(f"h.{layer}.ln_{i}" for layer in range(layers) for i in (1, 2))]:
        weights[f"{norm}.weight"], weights[f"{norm}.bias"] = np.ones(width, np.float32), np.zeros(width, np.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    end = vocabulary - 1
    sizes = {"vocab_size": vocabulary, "n_positions": positions, "n_embd": width, "n_layer": layers, "n_head": heads}
    GPT2Config(**sizes, bos_token_id=end, eos_token_id=end, architectures=["GPT2LMHeadModel"]).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": positions}))
    _make_gpt2_tokenizer(folder, vocabulary)
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n\n# GPT-2\n\nTiny, random, for tests.\n")
    for junk in ("pytorch_model.bin", "tf_model.h5", "onnx/decoder_model.onnx"):
        (folder / junk).write_bytes(b"not weights" * 1000)
    return folder


def _make_gpt2_tokenizer(folder: Path, vocabulary: int) -> None:
    """Byte-level BPE trained on sample reviews; <|endoftext|> is the last id and the only special token, as in GPT-2's
    files."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    def byte_level(bpe: models.BPE) -> Tokenizer:
        tokenizer = Tokenizer(bpe)
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder, tokenizer.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=False)
        return tokenizer

    draft = byte_level(models.BPE())
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocabulary - 1, initial_alphabet=alphabet, show_progress=False)
    draft.train_from_iterator((row["text"] for row in sample_rows("validation")), trainer)
    model = json.loads(draft.to_str())["model"]
    vocab = {**model["vocab"], "<|endoftext|>": vocabulary - 1}
    if len(vocab) != vocabulary:
        raise ValueError(f"{vocabulary} tokens were asked for, the sample reviews give {len(vocab)}.")
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = byte_level(models.BPE(vocab=vocab, merges=merges))
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")


def make_amazon_reviews(folder: Path | str, rows: tuple[int, int, int] = (600, 100, 100)) -> Path:
    """English reviews in the files, columns and order of mteb/amazon_reviews_multi: five balanced classes, sorted by
    label.

    The title is the review's first words, so it tells nothing that the body does not. The loading script, which
    datasets >= 4 refuses, is there too."""
    folder = Path(folder)
    (folder / "en").mkdir(parents=True, exist_ok=True)
    number = 0
    for split, count in zip(("train", "validation", "test"), rows, strict=True):
        samples = sample_rows(split)
        with (folder / "en" / f"{split}.jsonl").open("w", encoding="utf-8") as out:
            for label in range(5):
                texts = [row["text"] for row in samples if row["label"] == label][: count // 5]
                if count % 5 or len(texts) < count // 5:
                    raise ValueError(f"{split}: no {count} rows in five equal classes of {len(samples)} samples")
                for text in texts:
                    title = " ".join(text.split()[:4]).rstrip(",.;:!?")
                    row = {"id": f"en_{number:07d}", "text": f"{title}\n\n{text}", "label": label}
                    row["label_text"] = str(label)
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")
                    number += 1
    (folder / "README.md").write_text("---\nlanguage:\n- en\n---\n\n# Reviews\n\nFor tests.\n")
    (folder / "amazon_reviews_multi.py").write_text('raise RuntimeError("a loading script must never be run")\n')
    return folder
