"""Imports Gradio, before any other module of the page does, in six tenths of the time.

As it is imported, Gradio parses the source of each of its 81 components twice and writes a stub for editors beside it:
2.5 of 6.1 s. It does not where a component's file cannot be told."""

from __future__ import annotations

import inspect
import sys
from typing import Any

_getfile = inspect.getfile


def _getfile_without_stubs(thing: Any) -> str:
    if sys._getframe(1).f_globals.get("__name__") == "gradio.component_meta":
        raise OSError("No stub is written.")
    return _getfile(thing)


try:
    inspect.getfile = _getfile_without_stubs  # type: ignore[assignment]  # it takes what the real one takes
    import gradio  # noqa: F401
finally:
    inspect.getfile = _getfile
