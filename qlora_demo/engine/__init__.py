"""The engine: everything that needs torch. Importing this package loads nothing heavy; its modules do.

It hushes the libraries before any of them is imported (`quiet`); it knows their loggers, not what they do. Nothing is
compiled by torch."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

# Held while a model is built, or a meta model: PEFT and transformers patch torch's modules for the whole process
# meanwhile, and a build in another thread would fail.
building = threading.RLock()
HEAVIEST = "classify.classifier"  # the module that brings torch, transformers and PEFT
_import_lock, _loaded = threading.RLock(), threading.Event()


class _Unhelpful(logging.Filter):
    """Drops lines that read like a fault and are none."""

    LINES = (
        "Failed to load CPU gemm_4bit_forward",  # bitsandbytes on AVX512-BF16 without `kernels`, which is on purpose
        "Xet Storage is enabled for this repo",
    )  # we download over plain HTTP, which can be stopped

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self.LINES)


def quiet() -> None:
    """Keeps the libraries' bars and chatter off standard error. Works best before they are imported; later calls help
    too.
    """
    for name, value in (
        ("TOKENIZERS_PARALLELISM", "false"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("BITSANDBYTES_NOWELCOME", "1"),
    ):
        os.environ.setdefault(name, value)
    for logger in ("bitsandbytes.backends.cpu.ops", "huggingface_hub.file_download"):
        if not any(isinstance(item, _Unhelpful) for item in logging.getLogger(logger).filters):
            logging.getLogger(logger).addFilter(_Unhelpful())
    # PEFT mends this setting itself for GPT-2; transformers calls its own old name.
    warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
    if "transformers" in sys.modules:  # it reads the variables once, at import
        from transformers.utils import logging as chatter

        chatter.set_verbosity_error()
        chatter.disable_progress_bar()


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
# bitsandbytes would load torch's compiler for kernels that are seldom called here: a fifth of the time that all imports
# take.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
