"""What this app touches of Gradio's internals, each in one function with a guard: where Gradio has changed, it does
without, or refuses to start with a sentence. Imports Gradio, before any other module of the page does.
"""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..core.errors import DemoError

QUEUE_POLL_SECONDS = 0.01  # how long an event waits at most until the queue sees it
FETCH = "async_ssrf_protected_get"  # by which Gradio fetches whatever is to be fetched
_getfile = inspect.getfile


def _getfile_without_stubs(thing: Any) -> str:
    """`inspect.getfile`, which fails for the module in which Gradio writes stubs.

    As it is imported, Gradio parses the source of each of its 81 components twice and writes a stub for editors beside
    it: 2.5 of 6.1 s. It does not where it cannot tell a component's file. In a Gradio that asks elsewhere this changes
    nothing."""
    if sys._getframe(1).f_globals.get("__name__") == "gradio.component_meta":
        raise OSError("No stub is written.")
    return _getfile(thing)


try:
    inspect.getfile = _getfile_without_stubs  # type: ignore[assignment]  # it takes what the real one takes
    import gradio as gr
finally:
    inspect.getfile = _getfile


def calm_queue(page: gr.Blocks) -> None:
    """Gradio looks a thousand times a second whether anybody waits: a tenth of a processor, which a run on the CPU
    would have to wait for. Without the setting it goes on doing so.
    """
    queue: Any = getattr(page, "_queue", None)
    if hasattr(queue, "sleep_when_free"):
        queue.sleep_when_free = QUEUE_POLL_SECONDS


def refuse_addresses() -> None:
    """No file is fetched from elsewhere: Gradio would, for any value that says it is a file at an address, whoever sent
    it. Raises DemoError where that cannot be closed.
    """
    from gradio import processing_utils

    async def refuse(url: str, *_: Any, **__: Any) -> None:
        raise ValueError(f"A file at an address is never fetched: {url[:80]!r}")

    if not callable(getattr(processing_utils, FETCH, None)):
        raise DemoError(_changed("cannot be kept from fetching files at addresses that visitors send"))
    setattr(processing_utils, FETCH, refuse)


def hide_tools(page: gr.Blocks, names: Collection[str]) -> None:
    """Takes the endpoints `names` from the MCP tools of a page that was launched: Gradio offers every endpoint that its
    documentation names. Raises DemoError where they cannot be hidden.
    """
    server = page.mcp_server_obj
    if server is None:
        return
    tools = getattr(server, "tool_to_endpoint", None)
    if not isinstance(tools, dict):
        raise DemoError(_changed("cannot hide single endpoints from its MCP tools"))
    server.tool_to_endpoint = {tool: name for tool, name in tools.items() if name.strip("/") not in names}


def current_request() -> Any:
    """The starlette Request that the running handler answers; None outside one, or where Gradio keeps it elsewhere."""
    try:
        from gradio.context import LocalContext

        return LocalContext.request.get(None)
    except (ImportError, AttributeError):
        return None


def upload_folder() -> Path:
    """Where Gradio keeps what browsers send."""
    try:
        from gradio.utils import get_upload_folder

        return Path(get_upload_folder())
    except ImportError:
        return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")


def _changed(what: str) -> str:
    return f"Gradio {gr.__version__} {what}; install a version that requirements.txt names."
