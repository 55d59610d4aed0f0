"""What stands before Gradio's server: which of its routes are open, and when an upload is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.routes import App
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from qlora_demo.ui.server.allow_list import OPEN, AllowList

# Of all routes that Gradio serves, with and without a login; its own names for what is in braces.
OPEN_ROUTES = {
    *("/", "/config", "/theme.css", "/gradio_api/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json"),
    *("/pwa_icon", "/pwa_icon/{size}", "/static/{path:path}", "/assets/{path:path}", "/svelte/{path:path}"),
    *("/login", "/logout", "/gradio_api/user", "/gradio_api/login_check", "/gradio_api/app_id"),
    *("/gradio_api/info", "/gradio_api/openapi.json", "/gradio_api/run/{api_name}", "/gradio_api/api/{api_name}"),
    *("/gradio_api/call/{api_name}", "/gradio_api/call/{api_name}/{event_id}"),
    *("/gradio_api/call/v2/{api_name}", "/gradio_api/call/v2/{api_name}/{event_id}"),
    *("/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/queue/status", "/gradio_api/component_server"),
    *("/gradio_api/upload", "/gradio_api/upload_progress", "/gradio_api/startup-events"),
    *("/gradio_api/heartbeat/{session_hash}", "/gradio_api/cancel", "/gradio_api/reset"),
}


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


def client(**limits: int | None) -> TestClient:
    app = Starlette(routes=[Route("/{path:path}", echo, methods=["GET", "POST"])])
    return TestClient(AllowList(app, **{"upload_bytes": 1024**2, **limits}))  # type: ignore[arg-type]


def paths(router: Any) -> Iterator[str]:
    for route in router.routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from paths(included)
        elif hasattr(route, "path"):
            yield route.path


@pytest.fixture(scope="module")
def gradio_app() -> App:
    with gr.Blocks() as page:
        gr.Textbox()
    return App.create_app(page)


def filled(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "512", path)


def test_of_all_routes_of_gradio_those_listed_here_are_open(gradio_app: App) -> None:
    every = {path.rstrip("/") or "/" for path in paths(gradio_app)}
    assert len(every) > 60  # else Gradio keeps its routes elsewhere, and this test holds nothing
    assert {path for path in every if OPEN.fullmatch(filled(path))} == OPEN_ROUTES


def test_a_closed_route_is_not_found(gradio_app: App) -> None:
    asked = TestClient(AllowList(gradio_app, upload_bytes=1024))
    assert asked.get("/config").status_code == 200
    for path in {*paths(gradio_app)}:
        if not OPEN.fullmatch(filled(path)):
            for method in ("GET", "POST"):
                answer = asked.request(method, filled(path))
                assert (answer.status_code, answer.text) == (404, "Not found."), path


@pytest.mark.parametrize(
    "path",
    [
        *("/gradio_api/file=/etc/passwd", "/gradio_api/proxy=http://a/b", "/gradio_api/%66ile=x", "/file=/etc/x"),
        *("/gradio_api//file=x", "/config/../file=x", "/openapi.json", "/gradio_api/mcp/other", "/docs"),
    ],
)
def test_closed(path: str) -> None:
    assert client().get(path).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        *("/files/a/b/csv", "/plotly/plotly.min.js", "/gradio_api/mcp", "/gradio_api/mcp/", "/gradio_api/mcp/schema"),
        *("/login/huggingface", "/login/callback", "/?tab=train"),
    ],
)
def test_open(path: str) -> None:
    assert client().get(path).status_code == 200


def test_bodies_have_a_limit_and_uploads_one_of_their_own() -> None:
    asked = client()
    assert asked.post("/gradio_api/queue/join", content=b"x" * 2 * 1024**2).text == str(2 * 1024**2)
    assert asked.post("/gradio_api/queue/join", content=b"x" * (2 * 1024**2 + 1)).status_code == 413
    assert client(upload_bytes=5 * 1024**2).post("/gradio_api/upload", content=b"x" * 6 * 1024**2).status_code == 200
    assert client(upload_bytes=5 * 1024**2).post("/gradio_api/upload", content=b"x" * 7 * 1024**2).status_code == 413


def test_uploads_are_refused_where_others_have_filled_the_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    assert client(all_uploads_bytes=1000).post("/gradio_api/upload", content=b"x").status_code == 200
    (tmp_path / "somebody").mkdir()
    (tmp_path / "somebody" / "large.csv").write_bytes(b"x" * 2000)
    assert client(all_uploads_bytes=1000).post("/gradio_api/upload", content=b"x").status_code == 507
    assert client(all_uploads_bytes=None).post("/gradio_api/upload", content=b"x").status_code == 200
    assert client(all_uploads_bytes=1000).post("/gradio_api/queue/join", content=b"x").status_code == 200
