"""What stands before Gradio's server: an allow-list of the routes that the page, the documented HTTP interface, MCP,
downloads and the login need, and limits of what is sent. Everything else is not found.

Gradio hands out every file of its upload folder to who knows its path, and fetches addresses for others: neither is
needed here."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..compat import upload_folder

MOST_BYTES = 2 * 1024**2  # of one request that is no upload
FRAME_BYTES = 1024**2  # what stands around an upload's files
UPLOAD = re.compile(r"/gradio_api/upload/?")
ROUTES = {
    "the page": r"|config|theme\.css|gradio_api/theme\.css|favicon\.ico|robots\.txt|manifest\.json|pwa_icon(/\d+)?",
    "its scripts and fonts": r"(static|assets|svelte|plotly)/.+",
    "its events": r"gradio_api/(queue/(join|data|status)|component_server|cancel|reset)",
    "its session": r"gradio_api/(startup-events|heartbeat/[^/]+|app_id)",
    "uploads": r"gradio_api/upload(_progress)?",
    "downloads": r"files/[^/]+/[^/]+/[^/]+",
    "the HTTP interface": r"gradio_api/(info|openapi\.json|(run|api)/[^/]+|call/(v2/)?[^/]+(/[^/]+)?)",
    "MCP": r"gradio_api/mcp(/(http|schema|sse|messages))?",
    "the login": r"(login|logout|login/huggingface|login/callback)|gradio_api/(user|login_check)",
}
OPEN = re.compile("/(" + "|".join(f"({route})" for route in ROUTES.values()) + ")/?")


class AllowList:
    """ASGI middleware; what is not open is not found, and what is too large is refused before it is read.

    `upload_bytes`: of one upload with all its files. `all_uploads_bytes`: of all files that Gradio holds for those who
    have sent them, after which it takes no more; None: as many as the disk can."""

    def __init__(self, app: ASGIApp, upload_bytes: int, all_uploads_bytes: int | None = None):
        self._app, self._upload_bytes, self._all_uploads_bytes = app, upload_bytes, all_uploads_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        is_upload = UPLOAD.fullmatch(scope["path"]) is not None
        most = self._upload_bytes + FRAME_BYTES if is_upload else MOST_BYTES
        if not OPEN.fullmatch(scope["path"]):
            answer = PlainTextResponse("Not found.", 404)
        elif _stated_bytes(scope) > most:
            answer = PlainTextResponse(f"Too large: send at most {most // 1024**2} MiB.", 413)
        elif is_upload and await self._is_full():
            answer = PlainTextResponse("The space for uploads is full; uploaded files are deleted after a day.", 507)
        else:
            return await self._app(scope, _limited(receive, most), send)
        await answer(scope, receive, send)

    async def _is_full(self) -> bool:
        limit = self._all_uploads_bytes
        return limit is not None and await run_in_threadpool(_bytes_in, upload_folder()) > limit


def _bytes_in(folder: Path) -> int:
    """What the files in a folder take; one that is deleted meanwhile counts for nothing."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(OSError):
            total += file.stat().st_size
    return total


def _stated_bytes(scope: Scope) -> int:
    stated = dict(scope["headers"]).get(b"content-length", b"0")
    return int(stated) if stated.isdigit() else 0


def _limited(receive: Receive, most: int) -> Receive:
    """A body in pieces has no stated length: past the limit it counts as broken off."""
    taken = 0

    async def take() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return message if taken <= most else {"type": "http.disconnect"}

    return take
