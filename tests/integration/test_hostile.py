"""A public host under hostile input over raw HTTP: nothing that is not theirs, no path, no token, no stack trace, and
it goes on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pytest

from qlora_demo.host.access import hash_key
from qlora_demo.jobs.state import write_state
from qlora_demo.jobs.store import Store
from qlora_demo.storage import result_files, uploads
from tests.raw_http import Answer, call, config, events_of, join, post, send, serve, value_of
from tests.reviews import first_reviews
from tests.serving import ROOT, App, start_app, stop_app

TOKEN = "hf_MarkerTokenThatMustNotBeSeenAnywhere"
FILE_KEY = "the key of a classified file"
FILE, REVIEW, PINNED = "secret-turnover.csv", "Zanzibar review of somebody else", "Timbuktu pinned by somebody else"
FORM = "multipart/form-data; boundary=edge"
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Victim:
    """A stranger's run, and what nobody else is to see."""

    app: App
    run: str
    key: str
    file_run: str
    place: Path
    log: Path

    def secrets(self) -> tuple[str, ...]:
        places = (str(self.app.home.parent), str(ROOT), f"{Path.home()}/", self.place.parent.name)
        own = (TOKEN, self.key, FILE, REVIEW, PINNED)
        return (*places, *own, "Traceback (most", "root:x:0", "site-packages")

    def check(self, answer: Answer, quick: float = 20.0) -> None:
        """Nothing that is not theirs, and quickly."""
        found = [secret for secret in self.secrets() if secret in answer.text]
        assert not found, (found, answer.status, answer.text[:1500])
        assert answer.seconds < quick, answer


def write_reviews(path: Path) -> Path:
    rows = [f'"{row["text"].replace(chr(34), "")} {REVIEW}",{row["label"] + 1}' for row in first_reviews(8)]
    path.write_text("text,stars\n" + "\n".join(rows) + "\n")
    return path


class AwayHub(BaseHTTPRequestHandler):
    """A Hub that has nothing, and keeps what it was sent."""

    heads: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.heads.append(f"{self.path} {self.headers}")
        self.send_error(404)

    do_HEAD = do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), AwayHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def victim(hub: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    place = tmp_path_factory.mktemp("host")
    home = place / "runs"
    kept = uploads.keep(write_reviews(place / FILE), home)
    classified = Store(home).create("classify", {"file": str(kept), "adapter": "sample"}, key_hash=hash_key(FILE_KEY))
    added = result_files.name_added(("text",), ("1 star", "2 stars"))
    layout = result_files.Layout(("text",), added, ("1 star", "2 stars"), {"text": "text", "title": "", "label": ""})
    layout.write(classified.folder)
    row = {"text": REVIEW, **dict.fromkeys(added.values()), added["problem"]: "empty"}
    (classified.folder / result_files.ROWS).write_text(result_files.to_line(row))
    write_state(classified.folder, replace(classified.state(), state="stopped", ended=time.time()))
    more = {"QLORA_DEMO_PUBLIC": "1", "HF_TOKEN": TOKEN, "HF_ENDPOINT": hub, "GRADIO_TEMP_DIR": str(place / "sent")}
    app = start_app(home, place / "app.log", **more)
    try:
        name = uploads.name_of(str(kept), home)
        sizes = {"max_steps": 3, "batch_size": 4, "max_length": 16, "rank": 2, "evaluations": 1}
        settings = {"data": name, "pinned": PINNED, **sizes}
        started = value_of(call(app, "start_run", settings))
        deadline = time.monotonic() + 180
        while value_of(call(app, "run", started["run"]))["state"] not in ("done", "failed"):
            assert time.monotonic() < deadline
            time.sleep(1)
        assert value_of(call(app, "run", started["run"]))["state"] == "done"
        yield Victim(app, started["run"], started["key"], classified.id, kept, place / "app.log")
    finally:
        stop_app(app)


# --- addresses --------------------------------------------------------------------------------------------------------

ADDRESSES = {
    "a file of the system": "/gradio_api/file=/etc/passwd",
    "the same, encoded": "/gradio_api/file=%2Fetc%2Fpasswd",
    "the same, its verb encoded": "/gradio_api/%66ile=/etc/passwd",
    "the same, upwards": "/gradio_api/file=../../../../../../etc/passwd",
    "the same, by the old way": "/gradio_api/file//etc/passwd",
    "the same, without a prefix": "/file=/etc/passwd",
    "the app's source": "/gradio_api/file={root}/app.py",
    "somebody's upload": "/gradio_api/file={place}",
    "somebody's report": "/gradio_api/file={home}/{run}/report.json",
    "another address through this one": "/gradio_api/file=http://127.0.0.1:9/",
    "a proxy": "/gradio_api/proxy=http://127.0.0.1:{port}/config",
    "static files, upwards": "/static/../../../../../../etc/passwd",
    "static files, encoded": "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "assets, upwards": "/assets/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "svelte, upwards": "/svelte/..%2f..%2f..%2fetc/passwd",
    "plotly, upwards": "/plotly/..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
    "plotly, absolute": "/plotly//etc/passwd",
    "a component's files": "/gradio_api/custom_component/1/server/component/..%2f..%2f..%2fetc%2fpasswd",
    "a result without its token": "/files/{run}/{zeros}/csv",
    "a result of a path": "/files/..%2f..%2f{run}/{zeros}/csv",
    "a run's settings as a result": "/files/{run}/{zeros}/..%2fconfig.json",
    "corrections without their token": "/files/feedback/{zeros}/jsonl",
    "a NUL": "/gradio_api/file=/etc/passwd%00.csv",
    "a NUL in a static name": "/static/%00",
    "the monitor": "/monitoring/summary",
    "everybody's runs in gradio's own history": "/gradio_api/run-history/records",
    "gradio's editor": "/gradio_api/vibe-code",
    "a stream of somebody": "/gradio_api/stream/mine/{run}/1/playlist.m3u8",
    "an answer to a forged number": "/gradio_api/call/classify/{zeros}",
    "the messages of a forged session": "/gradio_api/queue/data?session_hash={zeros}",
    "a page that is not": "/../../etc/passwd",
    "an endless address": "/" + "a" * 60_000,
    "the configuration": "/config",
    "the interface's description": "/gradio_api/info",
    "the page": "/",
    "its OpenAPI": "/gradio_api/openapi.json",
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_addresses(victim: Victim, name: str) -> None:
    port = victim.app.url.rstrip("/").rpartition(":")[2]
    path = ADDRESSES[name].format(
        root=ROOT, place=victim.place, home=victim.app.home, run=victim.run, zeros="0" * 32, port=port
    )
    answer = send(victim.app, "GET", path.replace(" ", "%20"))
    # A page of its own may be served for an unknown name; who asked for somebody's file has put its path into the
    # request himself.
    victim.check(Answer(answer.status, answer.text.replace(path.partition("=")[2] or "\0", ""), answer.seconds))
    if ("{" in ADDRESSES[name] or "passwd" in ADDRESSES[name]) and "forged" not in name:
        assert answer.status in (0, 400, 403, 404, 405, 422), answer
    if "forged" in name:
        assert "complete" not in answer.text


HEADERS = {
    "a foreign host": {"Host": "evil.example"},
    "a foreign origin": {"Origin": "https://evil.example"},
    "no origin": {"Origin": "null"},
    "a host of two lines": {"Host": "evil.example/path?x"},
    "a forged proxy": {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "javascript"},
    "a forged address": {"X-Forwarded-For": "1.2.3.4"},
    "an endless line": {"X-Forwarded-For": "1.1.1.1, " * 3_000},
    "a forged user": {"X-Gradio-User": "admin", "Authorization": "Bearer hf_x", "X-IP-Token": "abc"},
    "a forged range": {"Range": "bytes=0-99999999999"},
    "a forged cookie": {"Cookie": "access-token=admin; session=eyJvYXV0aF9pbmZvIjp7fX0="},
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers(victim: Victim, name: str) -> None:
    victim.check(send(victim.app, "GET", "/config", headers=HEADERS[name]))
    asked = {"data": ["Good.", "sample"], "session_hash": "0" * 12}
    answer = post(victim.app, "/gradio_api/call/classify", asked, HEADERS[name])
    victim.check(answer)
    asking = {**HEADERS[name], "Access-Control-Request-Method": "POST"}
    opened = send(victim.app, "OPTIONS", "/gradio_api/call/classify", headers=asking)
    assert "admin" not in opened.text


# --- the interface ----------------------------------------------------------------------------------------------------

FILE_DATA = {"_type": "gradio.FileData"}
CALLS: dict[str, tuple[str, list[Any]]] = {
    "an adapter that is a path": ("classify", ["Good.", "/etc"]),
    "an adapter upwards": ("classify", ["Good.", "../../../etc"]),
    "an adapter of the source": ("classify", ["Good.", "assets/adapter"]),
    "an adapter that is an address": ("classify", ["Good.", "http://127.0.0.1:9/x"]),
    "an adapter that is a list": ("classify", ["Good.", ["sample"]]),
    "a review that is an object": ("classify", [{"path": "/etc/passwd", "meta": FILE_DATA}, "sample"]),
    "a review of HTML": ("classify", ["<script>alert(1)</script><img src=x onerror=alert(1)>", "sample"]),
    "a review of half letters": ("classify", ["\ud800 \x00 \u202e", "sample"]),
    "a review too long": ("classify", ["word " * 20_000, "sample"]),
    "somebody's pinned reviews": ("run", ["{run}"]),
    "a run that is a path": ("run", ["../../etc/passwd"]),
    "a run that is a list": ("run", [["{run}"]]),
    "stopping somebody's run": ("stop_run", ["{run}", ""]),
    "stopping it by a guess": ("stop_run", ["{run}", "0" * 24]),
    "all runs": ("runs", []),
    "a model that is a path": ("memory", ["/etc", 5]),
    "a model upwards": ("memory", ["../../etc", 5]),
    "a model at home": ("memory", ["~/x", 5]),
    "a model that is an address": ("memory", ["file:///etc/passwd", 5]),
    "a model of the source": ("memory", ["assets/adapter", 5]),
    "too many labels": ("memory", ["sample", 10**30]),
    "labels of no number": ("memory", ["sample", "NaN"]),
    "too many arguments": ("runs", ["{run}", 1, 2, 3]),
    "too few arguments": ("stop_run", []),
}
SETTINGS: dict[str, Any] = {
    "reviews that are a path": {"data": "/etc/passwd"},
    "reviews of somebody by their place": {"data": "{place}"},
    "reviews upwards from an upload": {"data": "upload:{token}/../../../x.csv"},
    "reviews of a folder of uploads": {"data": "upload:{token}/."},
    "reviews by an address": {"data": "file:///etc/passwd"},
    "reviews of a data set with any content": {"data": "somebody/bomb"},
    "reviews at home": {"data": "~/reviews.csv"},
    "a model that is a path to train": {"model": "/etc"},
    "a pull request's model": {"model": "openai-community/gpt2", "revision": "refs/pr/1"},
    "a model that nobody knows": {"model": "evil/pickle"},
    "an adapter to start from a path": {"start_from": "/etc"},
    "an adapter to start from upwards": {"start_from": "../../etc"},
    "many limits at once": {"max_steps": 10**6, "rank": 256, "batch_size": 1024, "max_length": 8192, "rows": 10**7},
    "evaluations without end": {"evaluations": 1000},
    "epochs without end": {"epochs": 100},
    "labels without end": {"labels": ["x"] * 5_000},
    "HTML for settings": {"<img src=x onerror=alert(1)>": "<script>", "model": "<script>alert(1)</script>"},
    "settings that are none": {"__class__": "x", "__proto__": {}, "to_dict": 1},
    "a list for settings": ["max_steps", 1],
    "text for settings": "max_steps",
    "nothing for settings": None,
}


def filled(value: Any, victim: Victim) -> Any:
    text = json.dumps(value)
    known = {"run": victim.run, "place": str(victim.place), "token": victim.place.parent.name}
    for name, word in known.items():
        text = text.replace(f"{{{name}}}", word)
    return json.loads(text)


def without_own_words(answer: Answer, value: Any) -> Answer:
    """What was asked may come back: who asks knew it."""
    text = answer.text
    for word in sorted(filter(lambda it: len(it) > 3, _texts(value)), key=len, reverse=True):
        text = text.replace(word, "")
    return Answer(answer.status, text, answer.seconds)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


@pytest.mark.parametrize("name", CALLS)
def test_calls(victim: Victim, name: str) -> None:
    endpoint, values = CALLS[name]
    given = filled(values, victim)
    answer = call(victim.app, endpoint, *given)
    victim.check(answer if "{run}" in json.dumps(values) else without_own_words(answer, given))
    if endpoint == "stop_run":
        assert "event: complete" not in answer.text
    if "path" in name or "upwards" in name or "address" in name or "source" in name:
        said = ("choose one of the list", "On this public page", "On a public host", "There is no run", "answered 404")
        assert "event: error" in answer.text and any(words in answer.text for words in said), answer


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(victim: Victim, name: str) -> None:
    before = len(value_of(call(victim.app, "runs")))
    given = filled(SETTINGS[name], victim)
    answer = call(victim.app, "start_run", given)
    victim.check(without_own_words(answer, given))
    assert "event: error" in answer.text and "Unexpected" not in answer.text, answer
    assert "<script>alert" not in answer.text
    assert len(value_of(call(victim.app, "runs"))) == before, "nothing was started"


BODIES = {
    "no JSON": b"{",
    "a number that is none": b'{"data": ["Good.", "sample"], "session_hash": NaN}',
    "infinity": b'{"data": [{"max_steps": 1e999, "learning_rate": -Infinity, "seed": NaN}], "session_hash": "x"}',
    "nested a hundred thousand times": b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "ten megabytes": b'{"data": ["' + b"x" * 10_000_000 + b'", "sample"]}',
    "an endless number": b'{"data": [' + b"9" * 500_000 + b"]}",
    "bytes": bytes(range(256)),
    "keys twice": b'{"data": ["a"], "data": {"x": 1}, "fn_index": "0", "fn_index": null}',
    "a stated length that is wrong": b'{"data": []}',
    "nothing": b"",
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies(victim: Victim, name: str) -> None:
    """To every way that takes JSON."""
    more = {"Content-Length": "999999999999"} if "length" in name else {}
    calls = ["call/classify", "call/start_run", "call/v2/classify", "run/predict", "run/start_run", "api/predict"]
    paths = [*calls, "queue/join", "component_server/", "cancel", "reset", "mcp/"]
    for path in paths if not more else paths[:1]:
        answer = post(victim.app, f"/gradio_api/{path}", BODIES[name], more)
        victim.check(answer)
        assert answer.status != 200 or path in ("call/start_run", "call/classify", "cancel", "reset"), (path, answer)


def test_a_body_in_pieces_without_end(victim: Victim) -> None:
    pieces = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    headers = {"Transfer-Encoding": "chunked", **JSON}
    answer = send(victim.app, "POST", "/gradio_api/queue/join", pieces * 5 + b"0\r\n\r\n", headers, length=False)
    victim.check(answer)
    assert answer.status != 200


# --- what belongs to the page alone -----------------------------------------------------------------------------------

PAGE: dict[str, tuple[str, Callable[[Victim], dict[str, Any]]]] = {
    "stop somebody's run": ("train-stop", lambda it: {"keys": {}}),
    "stop it by a guess": ("train-stop", lambda it: {"keys": {it.run: "guess"}}),
    "stop it by a forged key": ("train-stop", lambda it: {"keys": {it.run: None}}),
    "delete it": ("train-really-delete", lambda it: {"keys": {it.run: ["x"]}}),
    "delete it by a guess": ("train-really-delete", lambda it: {"keys": {it.run: "guess"}}),
    "rename it": ("train-rename", lambda it: {"name": "<script>alert(1)</script>", "keys": {}}),
    "resume it": ("train-resume-own", lambda it: {"keys": {}}),
    "run it again with what fits": ("train-apply", lambda it: {"keys": {}}),
    "start from it": ("train-start-from", lambda it: {}),
    "what deleting it would take": ("train-delete", lambda it: {}),
}


def values_for(app: App, event: dict[str, Any], victim: Victim, given: dict[str, Any]) -> list[Any]:
    """The event's inputs: the run in the figure, what is given, else what stood in the page's own configuration."""
    parts = {it["id"]: it for it in config(app)["components"]}
    values = []
    for number in event["inputs"]:
        part = parts[number]
        elem_id = part["props"].get("elem_id") or ""
        if elem_id in ("train-live", "train-run"):
            values.append(victim.run)
        elif part["type"] == "browserstate":
            values.append(given.get("keys", {}))
        elif elem_id == "train-name":
            values.append(given.get("name", ""))
        else:
            values.append(part["props"].get("value"))
    return values


@pytest.mark.parametrize("name", PAGE)
def test_the_pages_events(victim: Victim, name: str) -> None:
    elem_id, given = PAGE[name]
    events = events_of(victim.app, elem_id)
    assert events, elem_id
    for event in events:
        answer = join(victim.app, event["id"], values_for(victim.app, event, victim, given(victim)))
        victim.check(answer)
        asked = {"fn_index": event["id"], "data": values_for(victim.app, event, victim, given(victim))}
        victim.check(post(victim.app, "/gradio_api/run/predict", asked))
    assert value_of(call(victim.app, "run", victim.run))["state"] == "done"
    assert value_of(call(victim.app, "run", victim.run))["name"] == ""


WORDS = ("x", "../../etc/passwd", "\x00", "<script>")
RUBBISH: tuple[Any, ...] = (None, 7, -1, *WORDS, [], {}, [[[]]], {"path": "/etc/passwd"}, 1e308, True)


def test_every_event_of_the_page_with_rubbish(victim: Victim) -> None:
    """Wrong data in the right number, and in the wrong one; the answers come quickly, and all of them are errors or the
    page's own."""
    for event in config(victim.app)["dependencies"]:
        if not event["backend_fn"]:
            continue
        for n in range(2):
            rubbish = [RUBBISH[(event["id"] + 5 * n + i) % len(RUBBISH)] for i in range(len(event["inputs"]) - n)]
            victim.check(join(victim.app, event["id"], rubbish, event_data={"split": [], "row": "x"}))


def test_somebodys_classified_file_is_not_given_to_a_forged_key(victim: Victim) -> None:
    parts = config(victim.app)["components"]
    shown = next(it["id"] for it in parts if it["props"].get("elem_id") == "classify-file-rows")
    drawing = [it for it in config(victim.app)["dependencies"] if shown in it["outputs"]]
    loads = [it for it in drawing if [target[1] for target in it["targets"]] == ["load"]]
    assert len(loads) == 1
    run = victim.file_run
    for keys in ({run: "guess"}, {run: ""}, {run: None}, [run], run):
        victim.check(join(victim.app, loads[0]["id"], [keys]))
    assert REVIEW in join(victim.app, loads[0]["id"], [{run: FILE_KEY}]).text, "else there was nothing to hide"


def test_the_figures_server_functions(victim: Victim) -> None:
    """Every server function of every gr.HTML, with wrong types, forged keys and other components' names."""
    own = [(it["id"], name) for it in config(victim.app)["components"] for name in it["props"].get("server_fns") or []]
    assert {name for _, name in own} >= {"since", "overview", "reviews"}
    queries: list[Any] = [*RUBBISH, {"run": victim.run}, {"run": [victim.run]}, {"run": "../" + victim.run, "after": 0}]
    keys: tuple[Any, ...] = ("", "guess", None, [], {"$gt": ""})
    for key in keys:
        for split in ("test", "validation", "train", "../test"):
            query = {"run": victim.run, "after": 0, "key": key, "split": split}
            queries += [{**query, "born": ""}, {**query, "born": "own ", "label": 0, "guess": 0}]
    for component, name in own:
        for query in queries:
            answer = serve(victim.app, component, name, query)
            victim.check(answer)
    for component in (own[0][0], 0, -1, 10**9, "x", None):
        for name in ("preprocess", "postprocess", "__init__", "get_config", "value", "../x", None, 3):
            answer = serve(victim.app, component, name, {"run": victim.run})  # type: ignore[arg-type]
            assert answer.status != 200, answer
            victim.check(answer)


def test_the_owner_is_shown_what_others_are_not(victim: Victim) -> None:
    """Else the checks above would hold for want of anything to see."""
    found = {name: it["id"] for it in config(victim.app)["components"] for name in it["props"].get("server_fns") or []}
    query = {"run": victim.run, "after": 0, "born": "", "key": victim.key, "split": "validation"}
    assert PINNED in serve(victim.app, found["since"], "since", query).text
    cells = [{**query, "label": i, "guess": j} for i in range(5) for j in range(5)]
    listed = [serve(victim.app, found["reviews"], "reviews", cell).text for cell in cells]
    assert any(REVIEW in text for text in listed)
    other = json.loads(serve(victim.app, found["overview"], "overview", {**query, "key": ""}).text)
    assert other["splits"] and not other["listed"]


# --- MCP and uploads --------------------------------------------------------------------------------------------------


def ask_mcp(app: App, method: str, parameters: dict[str, Any]) -> Answer:
    headers = {**JSON, "Accept": "application/json, text/event-stream"}
    return post(app, "/gradio_api/mcp/", {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}, headers)


def test_mcp_starts_and_stops_nothing(victim: Victim) -> None:
    listed = ask_mcp(victim.app, "tools/list", {})
    victim.check(listed)
    assert '"classify"' in listed.text and "start_run" not in listed.text and "stop_run" not in listed.text
    before = len(value_of(call(victim.app, "runs")))
    for tool, values in (
        ("start_run", {"config": {"max_steps": 1}}),
        ("stop_run", {"run": victim.run, "key": "x"}),
        ("on_stop", {}),
        ("../start_run", {}),
        ("run", {"run": victim.run}),
        ("classify", {"text": "x", "adapter": "/etc"}),
    ):
        answer = ask_mcp(victim.app, "tools/call", {"name": tool, "arguments": values})
        victim.check(answer)
        assert '"isError":true' in answer.text.replace(" ", "") or tool == "run", answer
    for method in ("resources/list", "resources/read", "prompts/get", "x", "__init__"):
        victim.check(ask_mcp(victim.app, method, {"uri": "file:///etc/passwd", "name": "x"}))
    assert len(value_of(call(victim.app, "runs"))) == before


NAMES = {
    "upwards": "../../../evil.csv",
    "absolute": "/etc/cron.d/evil.csv",
    "of Windows": "..\\..\\C:\\evil.csv",
    "with a NUL": "evil\x00.csv",
    "overlong": "x" * 5_000 + ".csv",
    "of dots": "...",
    "of HTML": "<img src=x onerror=alert(1)>.csv",
    "of a shell": "$(touch evil).csv;`id`",
    "of a program": "evil.py",
    "empty": "",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_uploads(victim: Victim, name: str) -> None:
    sent = victim.app.home.parent / "sent"
    head = f'--edge\r\nContent-Disposition: form-data; name="files"; filename="{NAMES[name]}"\r\n\r\n'.encode()
    body = head + b"text,stars\nGood,5\n\r\n--edge--\r\n"
    answer = send(victim.app, "POST", "/gradio_api/upload", body, {"Content-Type": FORM})
    # Gradio's protocol: who uploads is told where in its own folder for uploads the file lies, and nobody can fetch it
    # from there.
    victim.check(Answer(answer.status, answer.text.replace(json.dumps(str(sent))[1:-1], ""), answer.seconds))
    if answer.status == 200:
        [path] = json.loads(answer.text)
        assert sent.resolve() in Path(path).resolve().parents, path
        assert send(victim.app, "GET", f"/gradio_api/file={quote(path)}").status == 404
    outside = [it for place in (ROOT, victim.app.home.parent, Path("/etc/cron.d")) for it in place.glob("*evil*")]
    assert not outside


@pytest.mark.parametrize(("files", "each"), [(1, 21), (2, 15), (40, 1)])
def test_an_upload_too_large_is_refused(victim: Victim, files: int, each: int) -> None:
    """Also in many files, each of which would do."""
    head = b'--edge\r\nContent-Disposition: form-data; name="files"; filename="large.csv"\r\n\r\n'
    part = head + b"x" * (each * 1024**2) + b"\r\n"
    answer = send(victim.app, "POST", "/gradio_api/upload", part * files + b"--edge--\r\n", {"Content-Type": FORM})
    victim.check(answer)
    assert answer.status in (0, 413), answer
    kept = (victim.app.home.parent / "sent").rglob("*")
    sent = [path for path in kept if path.is_file() and path.stat().st_size > 1000]
    assert sent == []


def test_a_file_of_another_cannot_be_taken_for_an_upload(victim: Victim) -> None:
    """The panels' upload events with paths that the browser never sent."""
    settings = victim.app.home / victim.run / "config.json"
    parts = {it["id"]: it["props"] for it in config(victim.app)["components"]}
    for elem_id in ("classify-file", "data-file"):
        for event in events_of(victim.app, elem_id):
            for path in ("/etc/passwd", str(victim.place), str(settings), "http://127.0.0.1:9/x.csv"):
                sent = {"path": path, "meta": FILE_DATA, "orig_name": "x.csv"}
                inputs = [parts[number] for number in event["inputs"]]
                values = [sent if it.get("elem_id") == elem_id else it.get("value") for it in inputs]
                answer = join(victim.app, event["id"], values)
                victim.check(without_own_words(answer, path))
                refused = '"success":false' in answer.text.replace(" ", "")
                assert refused or "process_completed" not in answer.text, answer
    assert "A file at an address is never fetched" in victim.log.read_text(errors="replace")


# --- afterwards -------------------------------------------------------------------------------------------------------


def test_afterwards_it_answers_and_nothing_holds_the_token(victim: Victim) -> None:
    found = value_of(call(victim.app, "classify", "I love this product", "sample"))
    assert found["stars"] == 5
    assert [run["run"] for run in value_of(call(victim.app, "runs"))][-1] == victim.run
    searched = [path for path in (victim.log, *victim.app.home.rglob("*")) if path.is_file()]
    assert victim.app.home / victim.run / "events.jsonl" in searched and len(searched) > 10
    assert [path for path in searched if TOKEN.encode() in path.read_bytes()] == []
    assert any("evil/pickle" in head for head in AwayHub.heads)
    assert not [head for head in AwayHub.heads if TOKEN in head]
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append((path, path.read_bytes()))
        except OSError:  # ended meanwhile
            continue
    assert any(b"app.py" in line for _, line in lines)
    assert [path for path, line in lines if TOKEN.encode() in line or victim.key.encode() in line] == []
