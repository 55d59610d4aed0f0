"""The engine: everything that needs torch. Importing this package loads nothing heavy; its modules do.

The libraries are hushed before any of them is imported (models/compat.py)."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from .models.compat import quiet

__all__ = ["importing", "load", "quiet"]

HEAVIEST = "classify.classifier"  # the module that brings torch, transformers and PEFT
_import_lock, _loaded = threading.RLock(), threading.Event()


@contextmanager
def importing() -> Iterator[None]:
    """Around the import of engine modules: one thread imports, everybody else waits, and the garbage collector rests.

    transformers and PEFT import themselves in circles: two threads that begin at different ends break each other's
    import. What a library defines stays, and the collector would scan all of it repeatedly: a fifth of the time.
    """
    with _import_lock:
        collected = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if collected:
                gc.enable()


def load() -> None:
    """Imports the engine, and with it torch, transformers and PEFT, once; from any thread."""
    if not _loaded.is_set():
        with importing():
            import_module(f"{__name__}.{HEAVIEST}")
        _loaded.set()


quiet()
