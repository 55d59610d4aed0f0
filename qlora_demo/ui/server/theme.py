"""How the page looks, and how it is served: theme, style sheet, launch options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gradio as gr
import plotly
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from ...host.environment import Address, is_public
from ...host.limits import ALL_UPLOADS_BYTES, UPLOAD_BYTES
from ...storage.uploads import MAX_UPLOAD_BYTES
from ..compat import calm_queue, hide_tools, refuse_addresses
from .allow_list import AllowList
from .api import NO_TOOLS

HERE = Path(__file__).parent
PLOTLY = Path(plotly.__file__).parent / "package_data"
FONTS = ("system-ui", "sans-serif")


def launch(page: gr.Blocks, address: Address, routes: Sequence[BaseRoute] = ()) -> None:
    """Serves the page and returns once it is up. `routes`: what it links to beside itself; they ask for no login.
    Raises DemoError where this Gradio cannot be made safe.
    """
    upload_bytes = UPLOAD_BYTES if is_public() else MAX_UPLOAD_BYTES
    gate = Middleware(
        AllowList, upload_bytes=upload_bytes, all_uploads_bytes=ALL_UPLOADS_BYTES if is_public() else None
    )
    refuse_addresses()
    page.queue(max_size=200)
    calm_queue(page)
    page.launch(
        server_name=address.host,
        server_port=address.port,
        auth=address.login,
        prevent_thread_lock=True,
        theme=gr.themes.Base(
            primary_hue="indigo", neutral_hue="slate", font=FONTS, font_mono=("ui-monospace", "monospace")
        ),
        css=(HERE / "style.css").read_text(encoding="utf-8"),
        # Our own route, because Gradio's would put the path of this machine into the page.
        app_kwargs={"routes": [Mount("/plotly", StaticFiles(directory=PLOTLY)), *routes], "middleware": [gate]},
        footer_links=["api", "settings"],
        run_history=False,
        enable_monitoring=False,
        state_session_capacity=500,  # a program that sends no session is a new one with each request, and each is kept
        ssr_mode=False,
        mcp_server=address.login is None,  # its tools ask the app without a login, and would only fail
        show_error=False,
        max_file_size=upload_bytes,
        quiet=True,
    )
    if is_public():
        hide_tools(page, NO_TOOLS)
    host = "127.0.0.1" if address.host == "0.0.0.0" else address.host
    print(f"The page is at http://{host}:{address.port}/ (Ctrl-C ends it; runs go on).", flush=True)
