"""What the page touches of Gradio's internals is there; where it is not, the app does without, or refuses to start."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio import context, processing_utils, utils

from qlora_demo.core.errors import DemoError
from qlora_demo.ui import compat


def test_the_queue_polls_less_often_and_one_without_the_setting_stays_as_it_is() -> None:
    with gr.Blocks() as page:
        page.queue()
    assert "asyncio.sleep(self.sleep_when_free)" in inspect.getsource(type(page._queue).start_processing)
    assert page._queue.sleep_when_free < compat.QUEUE_POLL_SECONDS
    compat.calm_queue(page)
    assert page._queue.sleep_when_free == compat.QUEUE_POLL_SECONDS
    changed = SimpleNamespace(_queue=SimpleNamespace())
    compat.calm_queue(changed)  # type: ignore[arg-type]
    compat.calm_queue(SimpleNamespace())  # type: ignore[arg-type]
    assert not vars(changed._queue)


def test_files_at_addresses_are_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processing_utils, compat.FETCH, getattr(processing_utils, compat.FETCH))
    compat.refuse_addresses()
    with pytest.raises(ValueError, match="never fetched"):
        # Not asyncio.run: a browser test before this one leaves its event loop in this thread.
        getattr(processing_utils, compat.FETCH)("http://127.0.0.1:9/").send(None)


def test_a_gradio_that_fetches_in_another_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(processing_utils, compat.FETCH)
    with pytest.raises(DemoError, match=r"requirements\.txt"):
        compat.refuse_addresses()


def test_tools_are_hidden_or_the_page_is_refused() -> None:
    server = SimpleNamespace(tool_to_endpoint={"one": "/start_run", "two": "/runs"})
    compat.hide_tools(SimpleNamespace(mcp_server_obj=server), ["start_run"])  # type: ignore[arg-type]
    assert server.tool_to_endpoint == {"two": "/runs"}
    compat.hide_tools(SimpleNamespace(mcp_server_obj=None), ["start_run"])  # type: ignore[arg-type]
    with pytest.raises(DemoError, match="MCP"):
        compat.hide_tools(SimpleNamespace(mcp_server_obj=object()), ["start_run"])  # type: ignore[arg-type]


def test_the_request_of_a_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compat.current_request() is None
    token = context.LocalContext.request.set("asked")  # type: ignore[arg-type]
    assert compat.current_request() == "asked"
    context.LocalContext.request.reset(token)
    monkeypatch.delattr(context, "LocalContext")
    assert compat.current_request() is None


def test_the_folder_of_uploads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    assert compat.upload_folder() == tmp_path == Path(utils.get_upload_folder())
    monkeypatch.delattr(utils, "get_upload_folder")
    assert compat.upload_folder() == tmp_path


def test_importing_writes_no_stubs_and_puts_inspect_back() -> None:
    """In a fresh process: the page's import is the first one of Gradio."""
    code = (
        "import builtins, inspect, qlora_demo.ui.compat as compat;"
        "assert inspect.getfile is compat._getfile and compat.gr.Textbox"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert "getfile" in inspect.getsource(sys.modules["gradio.component_meta"])  # else the trick has lost its hold
