"""Classifier: texts to predictions, with the tuned network or the base, LoRA dialled up or down; and two of them
compared.

One adapter, loaded once, used from any thread. Knows where adapters lie, not how they were trained.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedTokenizerBase

from ...core.cancellation import ShouldStop
from ...core.errors import AdapterError, DataError, SettingsError
from ...core.records import Columns, PrecisionComparison, PrecisionCost, Prediction
from ...core.run_report import Metrics
from ..data.dataset import align_labels, load_rows
from ..memory import ledger
from ..models import hubadapters, modeling
from ..models.adapters import find_adapter
from ..models.device import choose_device
from ..models.hubfiles import OnProgress
from .metrics import Floats, compute_metrics, softmax
from .restored import restore_weights

MAX_CHARACTERS = 50_000
LARGEST_SCALE = 2.0
# of one pass, padding included: more of them leave the processor's cache, and cost more each (benchmarks/typing.md)
TOKENS_AT_ONCE = 512
COMPARED_AT_ONCE = 16


@dataclass(frozen=True)
class Scores:
    """What a network says of one text: `logits` (k,), float32; `truncated`: the text was cut at the longest length."""

    logits: Floats
    truncated: bool


class Classifier:
    """The adapter `sample`, a run's id, a folder, or a Hub id.

    `labels` are the names in order; where `ordinal`, label i means i + 1 stars. `precision`: of the base, "" for that
    of the training; `restored`: for answering alone, see restored.py. `ledger`: its bytes at that precision, before
    anything is restored. `remark`: what one should know of an adapter that this app has not made, else ""."""

    def __init__(
        self,
        adapter: str,
        *,
        runs_home: Path | None = None,
        on_cpu: bool = False,
        precision: str = "",
        restored: bool = False,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
    ):
        self._device = choose_device("cpu") if on_cpu else choose_device()
        self.folder = find_adapter(adapter, runs_home, on_progress=on_progress, should_stop=should_stop)
        self.remark = hubadapters.read_remark(self.folder)
        try:
            self._loaded = modeling.load_adapter(self.folder, self._device, precision)
        except AdapterError as error:
            # The folder may be one of a cache, which tells the user nothing, and is nobody else's business.
            raise AdapterError(str(error).replace(str(self.folder), adapter)) from error
        self.note = self._loaded.note
        self.precision = precision or self.note.precision
        self.labels = tuple(self.note.labels)
        self.ordinal = self.note.ordinal
        self.temperature = read_temperature(self.folder)
        self.ledger = ledger.measure_loaded(self._loaded.model, "lora")
        self._restores = restored
        self.restored = bool(restored and restore_weights(self._loaded.model))
        # Switching LoRA off, or its scale, is a state of the model: two threads may not compute with it at once. Nor
        # may they share the tokenizer, which keeps its length limit in itself.
        self._lock = threading.Lock()

    @contextmanager
    def using(self, base: bool = False, scale: float = 1.0) -> Iterator[tuple[PeftModel, PreTrainedTokenizerBase, int]]:
        """(model, tokenizer, longest length in tokens), for nobody else meanwhile; `base` and `scale` as in `score`.

        Leave the model as it was: weights, gradients and mode are everybody's.
        """
        check_scale(scale)
        with self._lock, modeling.as_base(self._loaded.model, base), _dialled(self._loaded.model, scale):
            yield self._loaded.model, self._loaded.tokenizer, self.note.max_length

    def logits(self, texts: Sequence[str], base: bool = False) -> Floats:
        """Logits (n, k), float32. `base`: LoRA off and the head as before step 1. Raises DataError for empty or huge
        texts.
        """
        check_texts(texts)
        with self.using(base) as (model, tokenizer, max_length):
            return modeling.forward(model, tokenizer, texts, max_length).numpy()

    def score(self, texts: Sequence[str], base: bool = False, scale: float = 1.0) -> list[Scores]:
        """What the network says of each text, in order; in small batches of like length, the quickest way on a CPU.

        `base`: LoRA off and the head as before step 1. `scale`, 0 to 2: LoRA's contribution to each layer is multiplied
        by it. The head is not LoRA and stays the trained one: 0 is the pretrained network under the trained head, not
        the base, for which `scale` means nothing. Raises DataError for empty or huge texts, SettingsError for another
        scale."""
        if not texts:
            return []
        check_texts(texts)
        with self.using(base, scale) as (model, tokenizer, max_length):
            lengths = [
                len(ids) for ids in tokenizer(list(texts), padding=False, truncation=False, verbose=False)["input_ids"]
            ]
            logits: dict[int, Floats] = {}
            for rows in _batches([min(length, max_length) for length in lengths]):
                batch_logits = modeling.forward(
                    model, tokenizer, [texts[i] for i in rows], max_length, batch_size=len(rows)
                ).numpy()
                logits.update(zip(rows, batch_logits, strict=True))
        return [Scores(logits[i], lengths[i] > max_length) for i in range(len(texts))]

    def predict(self, text: str, scores: Scores, base: bool = False, calibrated: bool = False) -> Prediction:
        """What `scores` of `text` mean; `base` and `calibrated` as in `classify`."""
        logits = scores.logits
        if calibrated and not base and self.temperature is not None:
            logits = logits / self.temperature
        probabilities = softmax(logits)
        best = int(np.argmax(probabilities))
        stars = np.arange(1, len(self.labels) + 1)
        return Prediction(
            text,
            self.labels[best],
            best + 1 if self.ordinal else None,
            float(probabilities @ stars) if self.ordinal else None,
            {label: float(p) for label, p in zip(self.labels, probabilities, strict=True)},
            scores.truncated,
        )

    def classify(
        self, texts: Sequence[str], base: bool = False, calibrated: bool = False, scale: float = 1.0
    ) -> list[Prediction]:
        """One prediction per text, in order. `base`, `scale`: see `score`.

        `calibrated`: the tuned network's logits are divided by the temperature its run fitted, where it fitted one. The
        likeliest label stays. The untrained head's stay as they are: the temperature is not theirs."""
        all_scores = self.score(texts, base, scale)
        return [self.predict(text, scores, base, calibrated) for text, scores in zip(texts, all_scores, strict=True)]

    def base_check(self, text: str) -> float:
        """The largest difference in logits between the base as answered here and one loaded anew: no adapter, the saved
        untrained head.

        0 where the base column is the base. Loads a model: nobody else may build one meanwhile. Raises DemoErrors as
        loading does."""
        check_texts([text])
        fresh = modeling.load_untrained(self.folder, self._device, self.precision)
        if self._restores:
            restore_weights(fresh.model, [name for name, _ in modeling.head_wrappers(self._loaded.model)])
        anew = modeling.forward(fresh.model, fresh.tokenizer, [text], self.note.max_length).numpy()
        return float(np.abs(anew - self.score([text], base=True)[0].logits).max())


def compare(
    first: Classifier,
    second: Classifier,
    texts: Sequence[str],
    on_progress: Callable[[float], None] = lambda done: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> PrecisionComparison:
    """How far two precisions of one adapter agree on `texts`, and what each costs.

    `on_progress(share done)`; stopped, it tells of the rows it came to. Raises DataError as `score` does."""
    sides, seconds = (first, second), [0.0, 0.0]
    shares: tuple[list[Floats], list[Floats]] = ([], [])
    for start in range(0, len(texts), COMPARED_AT_ONCE):
        if should_stop():
            break
        for i, side in enumerate(sides):
            began = time.monotonic()
            shares[i].extend(softmax(scores.logits) for scores in side.score(texts[start : start + COMPARED_AT_ONCE]))
            seconds[i] += time.monotonic() - began
        on_progress(len(shares[0]) / len(texts))
    rows = len(shares[0])
    one, other = (np.stack(rows_of) if rows else np.zeros((0, 1)) for rows_of in shares)
    costs = (
        PrecisionCost(
            side.precision,
            side.ledger.total_bytes - side.ledger.adapter_bytes,
            side.restored,
            total / rows if rows else None,
        )
        for side, total in zip(sides, seconds, strict=True)
    )
    return PrecisionComparison(
        rows=rows,
        same_label=float(np.mean(one.argmax(1) == other.argmax(1))) if rows else None,
        largest_difference=float(np.abs(one - other).max()) if rows else None,
        sides=(next(costs), next(costs)),
    )


def evaluate(
    adapter: str,
    data: str,
    *,
    base: bool = False,
    data_config: str = "",
    split: str = "",
    revision: str = "",
    columns: Columns | None = None,
    runs_home: Path | None = None,
) -> Metrics:
    """`adapter` (or, with `base`, the untrained head without LoRA) evaluated on `data`. Raises DataError, AdapterError,
    HubError.
    """
    source = load_rows(data, config=data_config, revision=revision, split=split, columns=columns or Columns())
    classifier = Classifier(adapter, runs_home=runs_home)
    rows = align_labels(source, classifier.labels)
    began = time.monotonic()
    logits = classifier.logits(rows.texts, base=base)
    return compute_metrics(rows.labels, logits, classifier.labels, classifier.ordinal, time.monotonic() - began)


def check_scale(scale: float) -> None:
    """Raises SettingsError for a dial that is not between 0 and 2."""
    if not (isinstance(scale, int | float) and 0 <= scale <= LARGEST_SCALE):
        raise SettingsError(
            {"scale": f"The adapter's scale is {str(scale)[:20]}; give a number from 0 to {LARGEST_SCALE:g}."}
        )


@contextmanager
def _dialled(model: PeftModel, scale: float) -> Iterator[None]:
    """LoRA's contribution multiplied by `scale`, in every layer."""
    if scale == 1:
        yield
        return
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    own = [dict(layer.scaling) for layer in layers]
    try:
        for layer, scaling in zip(layers, own, strict=True):
            layer.scaling.update({name: value * scale for name, value in scaling.items()})
        yield
    finally:
        for layer, scaling in zip(layers, own, strict=True):
            layer.scaling.update(scaling)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices by rising length, as many at once as stay within TOKENS_AT_ONCE when padded to their longest; at least
    one.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (len(batch) + 1) * lengths[i] > TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def read_temperature(folder: Path) -> float | None:
    """The temperature that the adapter's run fitted (see calibration.py); None where its report has none."""
    try:
        temperature = float(json.loads((folder / "report.json").read_text())["calibration"]["temperature"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return temperature if math.isfinite(temperature) and temperature > 0 else None


def check_texts(texts: Sequence[str]) -> None:
    """Raises DataError for an empty text, one of more than MAX_CHARACTERS characters, or one with half a character (a
    lone surrogate).
    """
    for i, text in enumerate(texts):
        which = "The review" if len(texts) == 1 else f"Review {i + 1}"
        if not text.strip():
            raise DataError(f"{which} is empty; type a few words.")
        if len(text) > MAX_CHARACTERS:
            raise DataError(f"{which} has {len(text):,} characters; give at most {MAX_CHARACTERS:,}.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{which} has half a character (U+{ord(text[error.start]):04X}) at {error.start + 1}; remove it."
            ) from None
