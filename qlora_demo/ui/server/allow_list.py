"""What stands before Gradio's server: ways that this app does not use are closed, and what is sent must not be larger
than the page's own.

Gradio hands out every file of its upload folder to who knows its path, and fetches addresses for others; here neither
is needed."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from gradio import processing_utils
from gradio.utils import get_upload_folder
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 2 * 1024**2  # of one request that is no upload
FRAME_BYTES = 1024**2  # what stands around an upload's files
UPLOAD = re.compile(r"/gradio_api/upload/?")
CLOSED = re.compile(
    r"/gradio_api/+(file[=/]|proxy=|stream/|custom_component/|deep_link|runs|run-history|vibe|undo-vibe|process_recording|profiling|"
    r"dev/).*|/+(monitoring|custom_component|file[=/]).*"
)

FETCH = "async_ssrf_protected_get"  # by which Gradio fetches whatever is to be fetched


class Gate:
    """ASGI middleware; what is closed is not found, and what is too large is refused before it is read.

    `upload_bytes`: of one upload with all its files. `room_bytes`: of all files that Gradio holds for those who have
    sent them, after which it takes no more; None: as many as the disk can."""

    def __init__(self, app: ASGIApp, upload_bytes: int, room_bytes: int | None = None):
        self._app, self._upload_bytes, self._room_bytes = app, upload_bytes, room_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        uploads = UPLOAD.fullmatch(scope["path"]) is not None
        most = self._upload_bytes + FRAME_BYTES if uploads else MOST_BYTES
        if CLOSED.fullmatch(scope["path"]):
            answer = PlainTextResponse("Not found.", 404)
        elif _stated_bytes(scope) > most:
            answer = PlainTextResponse(f"Too large: send at most {most // 1024**2} MiB.", 413)
        elif uploads and await self._is_full():
            answer = PlainTextResponse(
                "Others' files fill the room that there is for uploads; they go after a day.", 507
            )
        else:
            return await self._app(scope, _counted(receive, most), send)
        await answer(scope, receive, send)

    async def _is_full(self) -> bool:
        return (
            self._room_bytes is not None
            and await run_in_threadpool(_bytes_in, Path(get_upload_folder())) > self._room_bytes
        )


def _bytes_in(folder: Path) -> int:
    """What the files in a folder take; one that goes meanwhile counts for nothing."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(OSError):
            total += file.stat().st_size
    return total


def _stated_bytes(scope: Scope) -> int:
    stated = dict(scope["headers"]).get(b"content-length", b"0")
    return int(stated) if stated.isdigit() else 0


def _counted(receive: Receive, most: int) -> Receive:
    """A body in pieces has no stated length: past the limit it counts as broken off."""
    taken = 0

    async def take() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return message if taken <= most else {"type": "http.disconnect"}

    return take


def refuse_addresses() -> None:
    """No file is fetched from elsewhere: Gradio would, for any value that says it is a file at an address, whoever sent
    it.
    """

    async def refuse(url: str) -> None:
        raise ValueError(f"A file at an address is never fetched: {url[:80]!r}")

    setattr(processing_utils, FETCH, refuse)
