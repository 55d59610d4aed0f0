"""The one place that turns errors into what the browser shows, and that knows who asks.

A DemoError is shown as its sentence, in which a path of this machine is a name, and changes nothing on the page;
anything else is logged and called unexpected."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from html import escape
from typing import Any, Literal, TypedDict, TypeVar

import gradio as gr

from ..core.errors import DemoError
from ..host.environment import on_space
from ..host.redaction import without_paths
from .compat import current_request

# Requests for slow work that a public host takes at once: those beyond its limits get a sentence, which must not wait
# in the queue.
AT_ONCE = 8


class Private(TypedDict):
    """How an event is wired that is no endpoint of the HTTP interface."""

    api_visibility: Literal["private"]


class Quick(Private):
    """With a limit of its own, so that slow ones do not hold it up."""

    concurrency_limit: int


class Quiet(Quick):
    """Which shows no progress, or little."""

    show_progress: Literal["hidden", "minimal"]


class Live(Quiet):
    """Asked by sliders and while one types: only the newest question counts."""

    trigger_mode: Literal["always_last"]


class Slow(Quick):
    """Which shares its limit with others of the same id."""

    concurrency_id: str


PRIVATE: Private = {"api_visibility": "private"}
QUICK: Quick = {**PRIVATE, "concurrency_limit": 20}
QUIET: Quiet = {**QUICK, "show_progress": "hidden"}
LIVE: Live = {**QUIET, "trigger_mode": "always_last", "concurrency_limit": 4}
PROGRESS = gr.Progress()  # as a handler's default: Gradio then shows what it is called with
Changes = dict[Any, Any]  # what a handler changes on the page, by component
log = logging.getLogger("qlora_demo")
F = TypeVar("F", bound=Callable[..., Any])


def handler(function: F) -> F:
    """A function or method that answers an event of the page: its errors are shown as one sentence. Raises gr.Error
    alone.
    """

    @functools.wraps(function)
    def handle(*args: Any, **fields: Any) -> Any:
        try:
            return function(*args, **fields)
        except DemoError as error:
            sentence = escape(without_paths(str(error)), quote=False)
            raise gr.Error(sentence, duration=15, title="Please check", print_exception=False) from None
        except Exception as error:
            log.exception("Unexpected, in %s", function.__name__)
            sentence = f"Unexpected: {type(error).__name__}. The app's log has the details; nothing you typed is lost."
            raise gr.Error(sentence, title="Unexpected", print_exception=False) from None

    return handle  # type: ignore[return-value]


def visitor() -> str:
    """The address of who asks, in a handler; "" where it is not known. A session's name proves nothing: anyone can make
    up another.

    On a Space every request comes from the platform's proxy, which adds the address that it was asked from at the end
    of X-Forwarded-For; what stands before it the visitor may have written. Elsewhere nobody vouches for that header,
    and it is not read."""
    request = current_request()
    if request is None:
        return ""
    forwarded = str(request.headers.get("x-forwarded-for", "")) if on_space() else ""
    return forwarded.rpartition(",")[2].strip() or (request.client.host if request.client else "")
