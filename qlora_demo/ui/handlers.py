"""The one place that turns errors into what the browser shows.

A DemoError is shown as its sentence and changes nothing on the page; anything else is logged and called unexpected.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from html import escape
from typing import Any, TypeVar

import gradio as gr

from ..errors import DemoError

log = logging.getLogger("qlora_demo")
F = TypeVar("F", bound=Callable[..., Any])


def shown(handler: F) -> F:
    """The handler, its errors shown as one sentence. Raises gr.Error alone."""

    @functools.wraps(handler)
    def handle(*args: Any, **fields: Any) -> Any:
        try:
            return handler(*args, **fields)
        except DemoError as error:
            raise gr.Error(escape(str(error), quote=False), duration=15, title="Please look again", print_exception=False) from None
        except Exception as error:
            log.exception("Unexpected, in %s", handler.__name__)
            sentence = f"Unexpected: {type(error).__name__}. The app's log has the details; nothing you typed is lost."
            raise gr.Error(sentence, title="Unexpected", print_exception=False) from None

    return handle  # type: ignore[return-value]
