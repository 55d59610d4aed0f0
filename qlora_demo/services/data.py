"""Reviews for the Data tab and `data`: read, analysed, searched, and shown as the model gets them.

Those read last are cached for a while. Imports the engine when it is needed; knows no page.
"""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cachetools import TTLCache

from .. import engine
from ..core.cancellation import ShouldStop, never, silent
from ..core.data_report import DataReport, PreviewRow, Subset, TokenizedReview
from ..core.errors import DataError, DemoError
from ..core.names import SAMPLE
from ..core.paths import is_data_file
from ..core.requests import DataRequest
from ..host.host import Host
from ..host.limits import MODELS

if TYPE_CHECKING:
    from ..engine.data.dataset import DataSet

CACHE_BYTES = 256 << 20  # of texts; a larger data set is cached alone
CACHE_SECONDS = 600.0  # since its last use
LARGE_FILE_BYTES = 20 << 20  # such files are read one at a time: each may take seconds, and up to 2 GB meanwhile
MOST_CHARACTERS = 100_000  # of a review that are tokenized for one who looks at it
MOST_TOKENS = 8192
OnPhase = Callable[[str, float], None]  # what is done now, and the share of the whole that lies behind


class ReviewCache:
    """The data sets used last, up to CACHE_BYTES, for `seconds` since their last use; from any thread."""

    def __init__(self, seconds: float = CACHE_SECONDS) -> None:
        self._sets: TTLCache[Any, DataSet] = TTLCache(CACHE_BYTES, seconds, getsizeof=_held_bytes)
        self._lock = threading.Lock()
        self._expiry: threading.Timer | None = None  # at most one: frees the memory where nobody asks any more

    def get(self, key: Any) -> DataSet | None:
        with self._lock:
            data = self._sets.get(key)
        if data is not None:
            self.put(key, data)  # its time begins anew
        return data

    def put(self, key: Any, data: DataSet) -> None:
        with self._lock:
            self._sets.pop(key, None)
            self._sets[key] = data
            if self._expiry:
                self._expiry.cancel()
            self._expiry = threading.Timer(self._sets.ttl + 0.1, self._expire)
            self._expiry.daemon = True
            self._expiry.start()

    def _expire(self) -> None:
        with self._lock:
            self._sets.expire()

    def __len__(self) -> int:
        return len(self._sets)


def _held_bytes(data: DataSet) -> int:
    return min(CACHE_BYTES, sum(reviews.nbytes for reviews in data.splits.values()))


class DataService:
    """The reviews that are read on one host. All functions may be called from any thread, and raise DemoErrors."""

    def __init__(self, host: Host):
        self._host = host
        self._cache = ReviewCache()
        self._large_file = threading.Lock()

    def examine(
        self, request: DataRequest, model: str = SAMPLE, on_phase: OnPhase = silent, should_stop: ShouldStop = never
    ) -> DataReport:
        """The report of the reviews, by the tokens of `model`, with what is for the page alone.

        `should_stop`: ends a download, with DownloadStopped."""
        data = self._read(request, on_phase, should_stop)
        from ..engine.data import audit

        tokenizer, name, problem = self._tokenizer(model)
        on_phase("Counting tokens, duplicates, conflicting labels and languages", 0.6)
        # At the model's own limit: what a chosen length would cut, the page works out from the counts by length.
        report = audit.examine(data.only(request.split), tokenizer, min(int(tokenizer.model_max_length), MOST_TOKENS))
        splits = tuple(split for split, reviews in data.splits.items() if len(reviews))
        page_only = {"tokenizer": name, "tokenizer_problem": problem}
        return report.model_copy(update={**page_only, "available_splits": splits if len(splits) > 1 else ()})

    def report(self, request: DataRequest, model: str, max_length: int) -> DataReport:
        """As `data --json` prints it: `request.data` may also be a preset or a folder, and the reviews are cut at
        `max_length` tokens of `model`, whose tokenizer is fetched where need be."""
        self._host.check_data(request)
        engine.load()
        from ..engine.data import audit
        from ..engine.models import modeling, sources

        tokenizer = modeling.load_tokenizer(sources.resolve(model))
        data = _load(request, silent, never).only(request.split)
        return audit.examine(data, tokenizer, min(max_length, tokenizer.model_max_length))

    def subset(self, request: DataRequest, rows: int, seed: int = 42) -> Subset:
        """What a run would train on that asks for `rows` reviews (0 = all)."""
        data = self._read(request)
        from ..engine.data.dataset import training_labels
        from ..engine.data.splitting import stratified

        if not data.labels:
            raise DataError("The reviews have no labels; name the label column.")
        labels = training_labels(data, seed)
        available = Counter(labels)
        chosen = Counter(labels[i] for i in stratified(labels, rows, seed)) if rows else available
        balance = {name: (available[i], chosen[i]) for i, name in enumerate(data.labels)}
        return Subset(available=len(labels), rows=sum(chosen.values()), balance=balance)

    def preview(
        self, request: DataRequest, query: str = "", start: int = 0, count: int = 10
    ) -> tuple[list[PreviewRow], int]:
        """(`count` of the reviews that contain `query`, from number `start` on; how many there are)."""
        data = self._read(request).only(request.split)
        from ..engine.data import preview

        return preview.search(data, query, start, count)

    def as_model_sees(
        self,
        request: DataRequest,
        split: str,
        row: int,
        max_length: int,
        model: str = SAMPLE,
        beside: Sequence[tuple[str, int]] = (),
    ) -> TokenizedReview:
        """A review as the model gets it, padded to the longest of the reviews `beside` it (split and row, from 1)."""
        data = self._read(request)
        from ..engine.data import preview

        text = _text(data, split, row)
        tokenizer, _, _ = self._tokenizer(model)
        others = [_text(data, *other)[:MOST_CHARACTERS] for other in beside]
        longest = max(map(len, tokenizer(others, truncation=True, max_length=max_length)["input_ids"])) if others else 0
        review = preview.as_model_sees(text[:MOST_CHARACTERS], tokenizer, max_length, longest)
        rest = text[MOST_CHARACTERS:]
        whole = {"text": text, "cut_text": review.cut_text + rest, "unread_characters": len(rest)}
        return review.model_copy(update=whole)

    def _read(self, request: DataRequest, on_phase: OnPhase = silent, should_stop: ShouldStop = never) -> DataSet:
        """The reviews, from the cache where they are in it."""
        self._host.check_data(request)
        check_source(request)
        on_phase("Loading the libraries", 0.05)
        engine.load()
        changed, size_bytes = _stamp(request)
        key = (replace(request, split=""), changed, size_bytes)
        if (data := self._cache.get(key)) is not None:
            return data
        large = size_bytes >= LARGE_FILE_BYTES
        if large and self._large_file.locked():
            on_phase("Waiting: another large file is being read", 0.1)
        with self._large_file if large else nullcontext():
            if (data := self._cache.get(key)) is None:  # another may have read it meanwhile
                on_phase("Fetching the reviews" if request.hub else "Reading the rows", 0.2)
                with self._host.turn("read"):
                    data = _load(request, on_phase, should_stop)
                self._cache.put(key, data)
        return data

    def _tokenizer(self, model: str) -> tuple[Any, str, str]:
        """(tokenizer, whose it is, why it is not that of `model`): only what is on this machine; nothing is fetched for
        it.
        """
        if self._host.public and model not in MODELS:  # a path, else, whose folder would be looked into
            model = SAMPLE
        engine.load()
        from ..engine.models import modeling, sources

        try:
            return modeling.load_tokenizer(sources.resolve(model, download=False)), model, ""
        except DemoError:
            if model == SAMPLE:
                raise
            problem = f"The model {model[:80]} is not on this machine yet, so its tokens are counted by the sample's."
            return modeling.load_tokenizer(sources.resolve(SAMPLE)), SAMPLE, problem


def check_source(request: DataRequest) -> None:
    """Raises DataError where a name meant for the Hub could be taken for a path of this machine, or a file is not there
    any more.
    """
    name = request.data
    if request.hub:
        if is_data_file(name) or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) or os.path.exists(name):
            raise DataError(f"{name[:80]!r} is no data set's name on the Hub; give one such as user/reviews.")
    elif name != SAMPLE and not os.path.isfile(name):
        raise DataError(f"The file {os.path.basename(name)[:80]} is not there (any more); choose it again.")


def _load(request: DataRequest, on_phase: OnPhase, should_stop: ShouldStop) -> DataSet:
    from ..engine.data import dataset

    return dataset.read_all(
        request.data,
        config=request.config,
        revision=request.revision,
        columns=request,
        should_stop=should_stop,
        on_progress=lambda text, share: on_phase(text, 0.2 + 0.3 * (share or 0)),
    )


def _stamp(request: DataRequest) -> tuple[int, int]:
    """When a file was changed and its bytes; a changed file is read anew."""
    if request.hub or request.data == SAMPLE:
        return 0, 0
    status = os.stat(request.data)
    return status.st_mtime_ns, status.st_size


def _text(data: DataSet, split: str, row: int) -> str:
    texts = data.splits[split].texts if split in data.splits else []
    if not 1 <= row <= len(texts):
        raise DataError(f"There is no review {row} in {split[:40]!r}; choose one of the list.")
    return texts[row - 1]
