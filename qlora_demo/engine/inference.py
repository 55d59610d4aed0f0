"""Classifier: texts to predictions, with the tuned network or the base.

One adapter, loaded once, used from any thread. Knows where adapters lie, not how they were trained.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import AdapterError, DataError
from ..records import Prediction
from . import modeling
from .data import ASSETS
from .device import choose_device
from .evaluation import Floats, softmax

MAX_CHARACTERS = 50_000


class Classifier:
    """The adapter `sample`, a run's id, or a folder.

    `labels` are the names in order; where `ordinal`, label i means i + 1 stars.
    """

    def __init__(self, adapter: str, *, runs_home: Path | None = None, on_cpu: bool = False, precision: str = ""):
        device = choose_device("cpu") if on_cpu else choose_device()
        self.folder = find_adapter(adapter, runs_home)
        self._loaded = modeling.load_adapter(self.folder, device, precision)
        self.note = self._loaded.note
        self.labels = tuple(self.note.labels)
        self.ordinal = self.note.ordinal
        self.temperature = read_temperature(self.folder)
        # Switching LoRA off is a state of the model: two threads may not compute with it at once.
        self._lock = threading.Lock()

    def logits(self, texts: Sequence[str], base: bool = False) -> Floats:
        """Logits (n, k), float32. `base`: LoRA off and the head as before step 1. Raises DataError for empty or huge texts."""
        check_texts(texts)
        with self._lock, modeling.as_base(self._loaded.model, base):
            return modeling.forward(self._loaded.model, self._loaded.tokenizer, texts, self.note.max_length).numpy()

    def classify(self, texts: Sequence[str], base: bool = False, calibrated: bool = False) -> list[Prediction]:
        """One prediction per text, in order.

        `calibrated`: the tuned network's logits are divided by the temperature its run fitted, where it fitted one. The likeliest
        label stays. The untrained head's stay as they are: the temperature is not theirs.
        """
        if not texts:
            return []
        logits = self.logits(texts, base)
        if calibrated and not base and self.temperature is not None:
            logits = logits / self.temperature
        return [self._prediction(text, row, cut) for text, row, cut in zip(texts, softmax(logits), self._truncated(texts), strict=True)]

    def _truncated(self, texts: Sequence[str]) -> list[bool]:
        found = self._loaded.tokenizer(list(texts), padding=False, truncation=False, verbose=False)["input_ids"]
        return [len(ids) > self.note.max_length for ids in found]

    def _prediction(self, text: str, probabilities: Floats, truncated: bool) -> Prediction:
        best = int(np.argmax(probabilities))
        stars = np.arange(1, len(self.labels) + 1)
        return Prediction(
            text,
            self.labels[best],
            best + 1 if self.ordinal else None,
            float(probabilities @ stars) if self.ordinal else None,
            {label: float(p) for label, p in zip(self.labels, probabilities, strict=True)},
            truncated,
        )


def count_parameters(folder: Path) -> int | None:
    """Parameters of base and adapter as the adapter's report counted them; None where it has no report."""
    try:
        return int(json.loads((folder / "report.json").read_text())["parameters"]["all"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_temperature(folder: Path) -> float | None:
    """The temperature that the adapter's run fitted (see calibration.py); None where its report has none."""
    try:
        found = float(json.loads((folder / "report.json").read_text())["calibration"]["temperature"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if math.isfinite(found) and found > 0 else None


def check_texts(texts: Sequence[str]) -> None:
    """Raises DataError for an empty text or one of more than MAX_CHARACTERS characters."""
    for i, text in enumerate(texts):
        which = "The review" if len(texts) == 1 else f"Review {i + 1}"
        if not text.strip():
            raise DataError(f"{which} is empty; type a few words.")
        if len(text) > MAX_CHARACTERS:
            raise DataError(f"{which} has {len(text):,} characters; give at most {MAX_CHARACTERS:,}.")


def find_adapter(adapter: str, runs_home: Path | None = None) -> Path:
    """The folder of `sample`, a run's id (where it has an adapter) or a folder. Raises AdapterError."""
    if adapter == "sample":
        return ASSETS / "adapter"
    if runs_home is not None and adapter == Path(adapter).name and (runs_home / adapter / "config.json").is_file():
        folder = runs_home / adapter / "adapter"
        if not folder.is_dir():
            raise AdapterError(f"The run {adapter} has no adapter: one is saved only after success or a clean stop; choose another run.")
        return folder
    if Path(adapter).is_dir():
        return Path(adapter).resolve()
    raise AdapterError(f"There is no adapter {adapter!r}; give `sample`, a run's id, or a folder that holds an adapter.")
