"""What stands before the server, without a server: which ways are closed, and when there is no more room for
uploads.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from gradio import processing_utils
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from qlora_demo.ui.server.allow_list import CLOSED, FETCH, Gate


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


def client(**limits: int | None) -> TestClient:
    app = Starlette(routes=[Route("/{path:path}", echo, methods=["GET", "POST"])])
    return TestClient(Gate(app, **{"upload_bytes": 1024**2, **limits}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/proxy=http://a/b",
        "/gradio_api/run-history/records",
        "/gradio_api/%66ile=x",
        "/monitoring/summary",
        "/file=/etc/x",
        "/gradio_api/vibe-code/",
    ],
)
def test_closed(path: str) -> None:
    assert client().get(path).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/config",
        "/gradio_api/call/runs",
        "/gradio_api/queue/data",
        "/gradio_api/upload_progress",
        "/gradio_api/heartbeat/x",
        "/files/a/b/csv",
        "/plotly/plotly.min.js",
        "/theme.css",
    ],
)
def test_open(path: str) -> None:
    assert client().get(path).status_code == 200 and not CLOSED.fullmatch(path)


def test_bodies_have_a_limit_and_uploads_one_of_their_own() -> None:
    asked = client()
    assert asked.post("/gradio_api/queue/join", content=b"x" * 2 * 1024**2).text == str(2 * 1024**2)
    assert asked.post("/gradio_api/queue/join", content=b"x" * (2 * 1024**2 + 1)).status_code == 413
    assert client(upload_bytes=5 * 1024**2).post("/gradio_api/upload", content=b"x" * 6 * 1024**2).status_code == 200
    assert client(upload_bytes=5 * 1024**2).post("/gradio_api/upload", content=b"x" * 7 * 1024**2).status_code == 413


def test_uploads_are_refused_where_others_have_filled_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    assert client(room_bytes=1000).post("/gradio_api/upload", content=b"x").status_code == 200
    (tmp_path / "somebody").mkdir()
    (tmp_path / "somebody" / "large.csv").write_bytes(b"x" * 2000)
    assert client(room_bytes=1000).post("/gradio_api/upload", content=b"x").status_code == 507
    assert client(room_bytes=None).post("/gradio_api/upload", content=b"x").status_code == 200
    assert client(room_bytes=1000).post("/gradio_api/queue/join", content=b"x").status_code == 200


def test_gradio_still_fetches_by_the_name_that_is_closed() -> None:
    """`refuse_addresses` replaces this function; by another name, files at an address would be fetched again."""
    assert callable(getattr(processing_utils, FETCH))
