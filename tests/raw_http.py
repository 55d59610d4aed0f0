"""Requests to a running app as anyone may write them: bytes over http.client, without a client library that would mend
or refuse them."""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.serving import App

PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """`seconds`: until all of it was there; a status of 0: the server closed the connection."""

    status: int
    text: str
    seconds: float


def send(
    app: App,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] = {},
    most: int = 4_000_000,
    length: bool = True,
) -> Answer:
    """One request; of a stream that does not end what comes until a final message, or within the patience. `length`:
    whether the body's is told."""
    began = time.monotonic()
    connection = http.client.HTTPConnection(app.url.removeprefix("http://").rstrip("/"), timeout=PATIENCE_SECONDS)
    taken = b""
    try:
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body is not None and length and "Content-Length" not in headers:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        while len(taken) < most and (piece := response.read1(65536)):
            taken += piece
            if b"process_completed" in taken or b"event: complete" in taken or b"event: error" in taken:
                break
        return Answer(response.status, taken.decode(errors="replace"), time.monotonic() - began)
    except (ConnectionError, http.client.HTTPException):
        return Answer(0, taken.decode(errors="replace"), time.monotonic() - began)
    finally:
        connection.close()


def post(app: App, path: str, value: Any, headers: Mapping[str, str] = {}) -> Answer:
    """A value as JSON; bytes are sent as they are."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return send(app, "POST", path, body, {"Content-Type": "application/json", **headers})


def call(app: App, endpoint: str, *values: Any) -> Answer:
    """An endpoint of the HTTP interface: what it answers in the end, or why it does not begin."""
    begun = post(app, f"/gradio_api/call/{endpoint}", {"data": list(values), "session_hash": secrets.token_hex(8)})
    if begun.status != 200:
        return begun
    number = json.loads(begun.text)["event_id"]
    ended = send(app, "GET", f"/gradio_api/call/{endpoint}/{number}")
    return Answer(ended.status, ended.text, begun.seconds + ended.seconds)


def value_of(answer: Answer) -> Any:
    """What a call gave."""
    lines = answer.text.splitlines()
    assert "event: complete" in lines, answer
    return json.loads(lines[lines.index("event: complete") + 1].removeprefix("data: "))[0]


@cache
def config(app: App) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(send(app, "GET", "/config").text)
    return found


def events_of(app: App, elem_id: str) -> list[dict[str, Any]]:
    """The page's own events that a component triggers, in the order they are wired."""
    ids = [it["id"] for it in config(app)["components"] if it["props"].get("elem_id") == elem_id]
    return [
        it
        for it in config(app)["dependencies"]
        if it["backend_fn"] and any(target[0] in ids for target in it["targets"])
    ]


def join(app: App, fn_index: int, data: Any, session: str = "", **more: Any) -> Answer:
    """An event through the queue, as the page asks for it; the whole stream of its messages."""
    session = session or secrets.token_hex(8)
    begun = post(app, "/gradio_api/queue/join", {"data": data, "fn_index": fn_index, "session_hash": session, **more})
    if begun.status != 200:
        return begun
    ended = send(app, "GET", f"/gradio_api/queue/data?session_hash={session}")
    return Answer(ended.status, ended.text, begun.seconds + ended.seconds)


def serve(app: App, component: int, name: str, data: Any) -> Answer:
    """A server function of a gr.HTML."""
    asked = {"component_id": component, "fn_name": name, "session_hash": secrets.token_hex(8), "data": data}
    return post(app, "/gradio_api/component_server/", asked)
